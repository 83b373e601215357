//! Durations and times as they are written: `90s`, `10m`, `1h30m`, `2d`, plain seconds; RFC 3339.

/// How long anything may be: a hundred years.
const MAX_MS: u64 = 36_500 * 86_400_000;
/// From long to short, which is the order that they are written in.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The milliseconds of a duration of version 1: whole numbers with `d`, `h`, `m`, `s` and `ms`, each at most once and in
/// this order, or a plain number of seconds. `None` when it is not like that, or longer than 100 years.
pub fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if is_digits(text) {
        return text
            .parse::<u64>()
            .ok()?
            .checked_mul(1000)
            .filter(|ms| *ms <= MAX_MS);
    }
    let (mut rest, mut total, mut units) = (text, 0_u64, UNITS.as_slice());
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, next) = behind.split_at(
            behind
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(behind.len()),
        );
        let place = units.iter().position(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(units[place].1)?)?;
        (rest, units) = (next, &units[place + 1..]);
    }
    (!text.is_empty() && total <= MAX_MS).then_some(total)
}

/// The milliseconds since 1970 of a time in RFC 3339, with its zone: `2026-12-24T18:00:00+01:00`. Earlier ones are 0.
pub fn time_ms(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.trim().parse().ok()?;
    Some(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

/// The milliseconds since 1970 that `until` names: a time as [`time_ms`] reads it, or `next 22:00Z`, the first moment from `now_ms` on at
/// which a clock shows that. Behind the clock's time stands its zone: `Z`, an offset as `+01:00`, or after a space a name of the tz
/// database, whose summer time counts: `next 22:00 Europe/Berlin`.
pub fn until_ms(text: &str, now_ms: u64) -> Option<u64> {
    match text.trim().strip_prefix("next ") {
        Some(clock) => next_ms(clock.trim(), now_ms),
        None => time_ms(text),
    }
}

fn next_ms(text: &str, now_ms: u64) -> Option<u64> {
    let zone_at = text.find(|c: char| !c.is_ascii_digit() && c != ':')?;
    let (clock, zone) = text.split_at(zone_at);
    // The library also takes `22` and `2200`, which people may mean otherwise.
    let clock: jiff::civil::Time = clock.contains(':').then(|| clock.parse().ok())??;
    let zone = zone_of(zone)?;
    let now = jiff::Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?;
    let today = now.to_zoned(zone.clone()).date();
    // A clock that is set forward passes over some times: it is the moment at which it would have shown them.
    [Some(today), today.tomorrow().ok()]
        .into_iter()
        .flatten()
        .filter_map(|day| day.to_datetime(clock).to_zoned(zone.clone()).ok())
        .map(|moment| moment.timestamp())
        .find(|moment| *moment >= now)
        .and_then(|moment| u64::try_from(moment.as_millisecond()).ok())
}

fn zone_of(text: &str) -> Option<jiff::tz::TimeZone> {
    if let Some(name) = text.strip_prefix(' ') {
        return jiff::tz::TimeZone::get(name.trim()).ok();
    }
    if text == "Z" {
        return Some(jiff::tz::TimeZone::UTC);
    }
    // Only the offset of a time with a date is looked at.
    let time = format!("2000-01-01T00:00{text}");
    let time = jiff::fmt::temporal::Pieces::parse(&time).ok()?;
    time.to_numeric_offset().map(jiff::tz::TimeZone::fixed)
}

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("0", Some(0)),
            ("90", Some(90_000)),
            ("90s", Some(90_000)),
            (" 10m ", Some(600_000)),
            ("1h30m", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("1d2h3m4s5ms", Some(93_784_005)),
            ("250ms", Some(250)),
            ("36500d", Some(MAX_MS)),
            ("36501d", None),
            ("", None),
            ("m", None),
            ("5 m", None),
            ("5M", None),
            ("1.5h", None),
            ("-5s", None),
            ("30m1h", None),
            ("1m1m", None),
            ("1h30", None),
            ("5 minutes", None),
            ("99999999999999999999", None),
            ("99999999999999999d", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text:?}");
        }
    }

    #[test]
    fn the_next_time_of_the_day_is_found() {
        let at = |text: &str| time_ms(text).unwrap();
        for (text, now, want) in [
            ("next 22:00Z", "2026-01-31T08:00:00Z", "2026-01-31T22:00:00Z"),
            ("next 22:00Z", "2026-01-31T22:00:00Z", "2026-01-31T22:00:00Z"),
            ("next 22:00Z", "2026-01-31T22:00:01Z", "2026-02-01T22:00:00Z"),
            (
                " next  07:30:15Z ",
                "2026-12-31T08:00:00Z",
                "2027-01-01T07:30:15Z",
            ),
            ("next 00:30+02:00", "2026-01-31T22:00:00Z", "2026-01-31T22:30:00Z"),
            ("next 23:00-05:30", "2026-01-31T04:00:00Z", "2026-01-31T04:30:00Z"),
            // The day on which Berlin's clocks go from two to three, and the day before.
            (
                "next 22:00 Europe/Berlin",
                "2026-03-28T12:00:00Z",
                "2026-03-28T21:00:00Z",
            ),
            (
                "next 22:00 Europe/Berlin",
                "2026-03-29T12:00:00Z",
                "2026-03-29T20:00:00Z",
            ),
            (
                "next 02:30 Europe/Berlin",
                "2026-03-28T12:00:00Z",
                "2026-03-29T01:30:00Z",
            ),
            (
                "2026-12-24T18:00:00Z",
                "2026-01-31T08:00:00Z",
                "2026-12-24T18:00:00Z",
            ),
        ] {
            assert_eq!(until_ms(text, at(now)), Some(at(want)), "{text:?} at {now}");
        }
        for text in [
            "next 22:00",
            "next",
            "next Z",
            "next 25:00Z",
            "next 22Z",
            "next 22:00 Mars/Olympus",
            "next 22:00z+1",
            "next 22:00+99:00",
            "22:00Z",
            "next 2026-12-24T18:00:00Z",
        ] {
            assert_eq!(until_ms(text, 0), None, "{text:?}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, ms) in [
            ("1970-01-01T00:00:01Z", Some(1000)),
            ("1970-01-01T01:00:00.5+01:00", Some(500)),
            ("1969-01-01T00:00:00Z", Some(0)),
            ("2026-12-24T18:00:00", None),
            ("2026-12-24", None),
            ("2026-13-24T18:00:00Z", None),
            ("tomorrow", None),
        ] {
            assert_eq!(time_ms(text), ms, "{text:?}");
        }
    }
}
