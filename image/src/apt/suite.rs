//! Which suite of Debian packages come from.

use std::fmt;
use std::str::FromStr;

use crate::apt::RELEASE;

/// A Debian release, or the backports to one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suite {
    release: String,
    backports: bool,
}

/// The name is not that of a suite.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no suite of Debian: name a release by its code name, such as trixie or bookworm, or its backports, trixie-backports"
)]
pub struct UnknownSuite(String);

impl Suite {
    /// The code name of the release: for backports the one that they are made for.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What people call the release: its number, such as `13`, or the code name of one whose number is not known here.
    pub fn number(&self) -> &str {
        let known = NUMBERS.iter().find(|(release, _)| *release == self.release);
        known.map_or(&self.release, |(_, number)| number)
    }

    /// The suites to be read below the main archive, in the order of apt's sources.
    pub(super) fn of_archive(&self) -> String {
        let release = &self.release;
        let backports = if self.backports {
            format!(" {self}")
        } else {
            String::new()
        };
        format!("{release} {release}-updates{backports}")
    }

    /// What makes apt prefer backports, which it otherwise takes only when told for each package.
    pub(super) fn preferences(&self) -> Option<String> {
        self.backports
            .then(|| format!("Package: *\nPin: release n={self}\nPin-Priority: 990\n"))
    }
}

impl Default for Suite {
    fn default() -> Self {
        Self {
            release: RELEASE.to_string(),
            backports: false,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backports = if self.backports { "-backports" } else { "" };
        write!(formatter, "{}{backports}", self.release)
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    /// Code names alone: a name such as `stable` would mean another release one day. Whether there is such a one, the mirror says.
    fn from_str(name: &str) -> Result<Self, UnknownSuite> {
        let (release, backports) = match name.strip_suffix("-backports") {
            Some(release) => (release, true),
            None => (name, false),
        };
        let is_code_name = !release.is_empty() && release.bytes().all(|byte| byte.is_ascii_lowercase());
        if !is_code_name || MOVING.contains(&release) {
            return Err(UnknownSuite(name.to_string()));
        }
        Ok(Self {
            release: release.to_string(),
            backports,
        })
    }
}

const NUMBERS: [(&str, &str); 4] = [
    ("bullseye", "11"),
    ("bookworm", "12"),
    ("trixie", "13"),
    ("forky", "14"),
];
/// Names that mean another release from time to time, and the two that have no security archive.
const MOVING: [&str; 6] = [
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "sid",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_code_names() {
        for name in ["bookworm", "trixie", "trixie-backports"] {
            assert_eq!(name.parse::<Suite>().unwrap().to_string(), name);
        }
        for name in [
            "",
            "stable",
            "Trixie",
            "trixie-updates",
            "-backports",
            "trixie main",
            "trixie/x",
            "sid",
        ] {
            let error = name.parse::<Suite>().unwrap_err().to_string();
            assert!(error.contains("such as trixie or bookworm"), "{error}");
        }
        assert_eq!(Suite::default().to_string(), "trixie");
        for (name, number) in [("bookworm", "12"), ("trixie-backports", "13"), ("duke", "duke")] {
            assert_eq!(name.parse::<Suite>().unwrap().number(), number);
        }
    }

    #[test]
    fn backports_are_read_and_preferred() {
        let suite: Suite = "trixie-backports".parse().unwrap();
        assert_eq!(suite.of_archive(), "trixie trixie-updates trixie-backports");
        assert!(
            suite
                .preferences()
                .unwrap()
                .contains("Pin: release n=trixie-backports\nPin-Priority: 990")
        );
        assert_eq!("trixie".parse::<Suite>().unwrap().preferences(), None);
    }
}
