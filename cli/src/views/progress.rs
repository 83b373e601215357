//! How far an action is, as its machine tells.

use proto::v1;
use serde::Serialize;

use super::given;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Progress {
    pub(crate) task: String,
    pub(crate) action: String,
    pub(crate) attempt: String,
    pub(crate) stage: Option<String>,
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
    pub(crate) percent: Option<u64>,
    pub(crate) rate_bytes_per_s: Option<u64>,
    /// Seconds, if it goes on as it does.
    pub(crate) left_s: Option<u64>,
}

impl From<v1::ActionProgress> for Progress {
    fn from(told: v1::ActionProgress) -> Self {
        let some = |number: u64| Some(number).filter(|number| *number > 0);
        let (total, rate) = (some(told.total_bytes), some(told.rate_bytes_per_s));
        let done = told.done_bytes;
        let percent = total.map(|total| u128::from(done) * 100 / u128::from(total));
        let left = total
            .zip(rate)
            .map(|(total, rate)| total.saturating_sub(done).div_ceil(rate));
        Self {
            task: told.task,
            action: told.action,
            attempt: told.attempt_id,
            stage: given(told.stage),
            done_bytes: done,
            total_bytes: total,
            percent: percent.map(|percent| u64::try_from(percent.min(100)).unwrap_or(100)),
            rate_bytes_per_s: rate,
            left_s: left,
        }
    }
}

impl Progress {
    /// `45 %, 11 s left, 5.0 MiB/s, 45.0 of 100.0 MiB (download)`: what is cut off at the end says least.
    pub(crate) fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some(percent) = self.percent {
            parts.push(format!("{percent} %"));
        }
        if let Some(left) = self.left_s {
            parts.push(format!("{} left", span(left)));
        }
        if let Some(rate) = self.rate_bytes_per_s {
            parts.push(format!("{}/s", bytes(rate)));
        }
        parts.push(match self.total_bytes {
            Some(total) => {
                let (unit, by) = unit(total);
                format!("{} of {} {unit}", tenths(self.done_bytes, by), tenths(total, by))
            }
            None => bytes(self.done_bytes),
        });
        let stage = self.stage.as_ref().map(|stage| format!(" ({stage})"));
        format!("{}{}", parts.join(", "), stage.unwrap_or_default())
    }
}

/// `5.0 MiB`
pub(crate) fn bytes(count: u64) -> String {
    let (unit, by) = unit(count);
    format!("{} {unit}", tenths(count, by))
}

fn unit(count: u64) -> (&'static str, u64) {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    UNITS.into_iter().find(|(_, by)| count >= *by).unwrap_or(("B", 1))
}

fn tenths(count: u64, by: u64) -> String {
    match by {
        1 => count.to_string(),
        by => {
            let tenths = u128::from(count) * 10 / u128::from(by);
            format!("{}.{}", tenths / 10, tenths % 10)
        }
    }
}

/// A time in its two largest units: `26 d 2 h`.
pub(crate) fn span(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let at = UNITS.iter().position(|(_, by)| seconds >= *by).unwrap_or(3);
    let mut left = seconds;
    let parts = UNITS.iter().skip(at).take(2).map(|(unit, by)| {
        let count = left / by;
        left %= by;
        (count, unit)
    });
    let parts = parts
        .enumerate()
        .filter(|(nth, (count, _))| *nth == 0 || *count > 0);
    let parts: Vec<String> = parts
        .map(|(_, (count, unit))| format!("{count} {unit}"))
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, want) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (3_661, "1 h 1 min"),
            (26 * 86_400 + 2 * 3_600 + 59, "26 d 2 h"),
        ] {
            assert_eq!(span(seconds), want);
        }
    }

    #[test]
    fn progress_says_what_is_known_of_it() {
        let told = |done_bytes, total_bytes, rate_bytes_per_s| {
            let told = v1::ActionProgress {
                done_bytes,
                total_bytes,
                rate_bytes_per_s,
                stage: "download".into(),
                ..v1::ActionProgress::default()
            };
            Progress::from(told).line()
        };
        assert_eq!(
            told(45 << 20, 100 << 20, 5 << 20),
            "45 %, 11 s left, 5.0 MiB/s, 45.0 of 100.0 MiB (download)"
        );
        assert_eq!(told(1536, 0, 0), "1.5 KiB (download)");
        assert_eq!(told(7, 5, 1), "100 %, 0 s left, 1 B/s, 7 of 5 B (download)");
        assert_eq!(
            told(u64::MAX, u64::MAX, 0),
            "100 %, 16777215.9 of 16777215.9 TiB (download)"
        );
    }
}
