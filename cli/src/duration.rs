//! Spans of time as they are given: `90s`, `30m`, `2h 30m`, `90d`, or a number of seconds.

use std::fmt;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer};

/// A day has 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text
            .parse::<Span>()
            .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok()),
    };
    parsed.ok_or_else(|| format!("{text:?} is no time: write one such as 90s, 30m, 2h or 90d"))
}

/// As it stands in a settings file: text, or a number of seconds.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Given {
    Seconds(u64),
    Text(String),
}

impl fmt::Display for Given {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Given::Seconds(seconds) => write!(out, "{seconds}"),
            Given::Text(text) => out.write_str(text),
        }
    }
}

/// A setting that may be left out.
pub(crate) fn setting<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let given = Given::deserialize(from)?.to_string();
    duration(&given).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs());
        for (text, want) in [
            ("90", 90),
            ("90s", 90),
            ("30m", 1800),
            ("2h 30m", 9000),
            ("90d", 90 * 86_400),
            ("0s", 0),
        ] {
            assert_eq!(seconds(text), Ok(want), "{text}");
        }
        for text in ["", "soon", "-1s", "5 parsecs"] {
            let error = seconds(text).unwrap_err();
            assert!(error.contains("is no time") && error.contains("90d"), "{error}");
        }
    }
}
