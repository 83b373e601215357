//! Erasure as templates declare it: by which method, and how much is read back.

use std::fmt;

use crate::FieldProblem;

/// A way to erase a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    SanitizeBlock,
    SanitizeCrypto,
    Format,
    FormatCrypto,
    AtaEnhancedErase,
    AtaErase,
    Overwrite,
    ZeroOut,
    Discard,
}

/// What can be relied on after a method, in the words of NIST SP 800-88 revision 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// Nothing comes back by any command that a machine can give, not by a laboratory either.
    Purge,
    /// Nothing comes back by reading the disk.
    Clear,
    /// The disk was only told that it may forget.
    None,
}

impl Standard {
    pub fn name(self) -> &'static str {
        match self {
            Standard::Purge => "purge",
            Standard::Clear => "clear",
            Standard::None => "none",
        }
    }
}

impl Method {
    /// The strongest first: so `auto` takes the first that the disk has, and never the last two.
    pub const ALL: [Method; 9] = [
        Method::SanitizeBlock,
        Method::SanitizeCrypto,
        Method::Format,
        Method::FormatCrypto,
        Method::AtaEnhancedErase,
        Method::AtaErase,
        Method::Overwrite,
        Method::ZeroOut,
        Method::Discard,
    ];

    /// As templates name it.
    pub fn name(self) -> &'static str {
        match self {
            Method::SanitizeBlock => "sanitize-block",
            Method::SanitizeCrypto => "sanitize-crypto",
            Method::Format => "format",
            Method::FormatCrypto => "format-crypto",
            Method::AtaEnhancedErase => "ata-enhanced-erase",
            Method::AtaErase => "ata-erase",
            Method::Overwrite => "overwrite",
            Method::ZeroOut => "zero-out",
            Method::Discard => "discard",
        }
    }

    /// Source: NIST SP 800-88 revision 1, tables.
    pub fn standard(self) -> Standard {
        match self {
            Method::SanitizeBlock | Method::SanitizeCrypto | Method::Format | Method::FormatCrypto => {
                Standard::Purge
            }
            Method::AtaEnhancedErase => Standard::Purge,
            Method::AtaErase | Method::Overwrite => Standard::Clear,
            Method::ZeroOut | Method::Discard => Standard::None,
        }
    }

    /// Whether all reads as zeros afterwards; else it only differs from what was there.
    pub fn leaves_zeros(self) -> bool {
        matches!(self, Method::Overwrite | Method::ZeroOut | Method::Discard)
    }

    /// Whether the disk does it by a command of its own, which nobody can stop.
    pub fn is_of_disk(self) -> bool {
        !self.leaves_zeros()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Blocks that are read back where nobody says how many.
pub const SAMPLES: u32 = 64;
/// Of 1 MiB each.
pub const MAX_SAMPLES: u32 = 65_536;

/// An erasure as it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// `None`: the strongest that the disk has.
    pub method: Option<Method>,
    pub samples: u32,
}

impl Erasure {
    /// From the words of a template.
    ///
    /// # Errors
    /// Every problem, with the variable that it is about.
    pub fn parse(method: Option<&str>, samples: Option<&str>) -> Result<Erasure, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |variable, message| problems.push(FieldProblem { variable, message });
        let short = |text: &str| text.chars().take(64).collect::<String>();
        let method = match method {
            None | Some("auto") => None,
            Some(text) => {
                let known = Method::ALL.into_iter().find(|known| known.name() == text);
                if known.is_none() {
                    let names = Method::ALL.map(Method::name).join(", ");
                    say(
                        "METHOD",
                        format!(
                            "method {:?} is not known: it is auto, or one of {names}",
                            short(text)
                        ),
                    );
                }
                known
            }
        };
        let plain = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let samples = match samples {
            None => SAMPLES,
            Some(text) => {
                let number = Some(text).filter(plain).and_then(|text| text.parse().ok());
                number.filter(|number| *number <= MAX_SAMPLES).unwrap_or_else(|| {
                    let message = format!(
                        "samples {:?} is none: write a number of blocks of 1 MiB, {MAX_SAMPLES} at most",
                        short(text)
                    );
                    say("SAMPLES", message);
                    SAMPLES
                })
            }
        };
        match problems.is_empty() {
            true => Ok(Erasure { method, samples }),
            false => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_disk_is_erased_by_is_refused_with_every_problem() {
        let all = Erasure::parse(Some("shred"), Some("65537")).unwrap_err();
        let words: Vec<String> = all.iter().map(FieldProblem::to_string).collect();
        assert!(
            words[0].starts_with("method \"shred\" is not known: it is auto, or one of sanitize-block,"),
            "{words:?}"
        );
        assert!(
            words[1].contains("samples \"65537\" is none") && words[1].contains("65536 at most"),
            "{words:?}"
        );
        assert!(Erasure::parse(None, Some("+1")).is_err());
        let most = Erasure::parse(Some("ata-erase"), Some("65536")).unwrap();
        assert_eq!((most.method, most.samples), (Some(Method::AtaErase), MAX_SAMPLES));
        let least = Erasure::parse(Some("auto"), None).unwrap();
        assert_eq!((least.method, least.samples), (None, SAMPLES));
    }
}
