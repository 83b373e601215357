//! A place in the order, as a text that people and programs keep.

use std::fmt;
use std::str::FromStr;

use store::Revision;

/// Digits of the longest one, with its dots.
const MAX_BYTES: usize = 20 + 1 + 10 + 1 + 8;

/// What somebody has taken of the order. `REVISION` alone: all rows up to this revision. `REVISION.TAKEN.MARK`: all before that row,
/// and so many events of it; the mark tells that row from one of another store that has the same revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResumeToken {
    revision: Revision,
    within: Option<Within>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Within {
    taken: u32,
    mark: u32,
}

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no token: give one that came with an event, `now` or `oldest`")]
pub struct BadToken(String);

impl ResumeToken {
    pub(super) fn at(revision: Revision) -> Self {
        Self {
            revision,
            within: None,
        }
    }

    pub(super) fn within(revision: Revision, taken: u32, mark: u32) -> Self {
        Self {
            revision,
            within: Some(Within { taken, mark }),
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn taken(&self) -> u32 {
        self.within.map_or(0, |within| within.taken)
    }

    pub(super) fn mark(&self) -> Option<u32> {
        self.within.map(|within| within.mark)
    }
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.revision)?;
        match self.within {
            Some(Within { taken, mark }) => write!(formatter, ".{taken}.{mark:08x}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ResumeToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let read = || {
            if text.len() > MAX_BYTES {
                return None;
            }
            let mut parts = text.split('.');
            let revision = number(parts.next()?)?;
            let Some(taken) = parts.next() else {
                return Some(Self::at(revision));
            };
            let taken = u32::try_from(number(taken)?).ok()?;
            let mark = parts.next().filter(|mark| mark.len() == 8 && is_hex(mark))?;
            let mark = u32::from_str_radix(mark, 16).ok()?;
            // One form for each: what is read is what would be written.
            (parts.next().is_none()).then(|| Self::within(revision, taken, mark))
        };
        // A message has no more of it than a token would be long.
        let bad = || BadToken(text.chars().take(MAX_BYTES).collect());
        read().ok_or_else(bad)
    }
}

/// In digits, without zeros before it.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl serde::Serialize for ResumeToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ResumeToken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let most = ResumeToken::within(u64::MAX, u32::MAX, u32::MAX);
        for token in [
            ResumeToken::at(0),
            ResumeToken::at(u64::MAX),
            ResumeToken::within(7, 0, 0),
            ResumeToken::within(7, 12, 0x00c0_ffee),
            most,
        ] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        assert_eq!(most.to_string().len(), MAX_BYTES);
        assert_eq!(ResumeToken::within(7, 12, 0xc0_ffee).to_string(), "7.12.00c0ffee");
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_said_at_length() {
        for bad in [
            "",
            ".",
            "-1",
            "+1",
            "01",
            "1.",
            "1.2",
            "1.2.3",
            "1.2.0000000g",
            "1.2.0000000F",
            "1.2.00000000.",
            "18446744073709551616",
            "1.4294967296.00000000",
            " 1",
            "1 ",
            "\u{661}",
        ] {
            assert!(bad.parse::<ResumeToken>().is_err(), "{bad:?}");
        }
        let long = "1".repeat(1 << 20).parse::<ResumeToken>().unwrap_err();
        assert!(long.to_string().len() < 150, "{long}");
    }
}
