//! A file's name below `/workflow`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MAX_PATH_BYTES;

/// Names joined by `/`, none of them empty, `.` or `..`: joined to a folder it stays inside, as long as no symbolic
/// link stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataPath(String);

/// A text that is no path of a file in the ephemeral data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("path {path:?} has a control character in it; rename the file")]
    Control { path: String },
    #[error("path {path:?} is not relative, or has a name in it that is empty, `.` or `..`")]
    Names { path: String },
    #[error("path {path:?}... has {bytes} B, at most {MAX_PATH_BYTES} are kept; give it a shorter name")]
    TooLong { path: String, bytes: usize },
}

impl DataPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The paths that are folders when this is a file, outermost first.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }
}

impl FromStr for DataPath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<DataPath, BadPath> {
        let path = || text.chars().take(80).collect();
        if text.len() > MAX_PATH_BYTES {
            let bytes = text.len();
            return Err(BadPath::TooLong { path: path(), bytes });
        }
        if text.chars().any(char::is_control) {
            return Err(BadPath::Control { path: path() });
        }
        if text.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(BadPath::Names { path: path() });
        }
        Ok(DataPath(text.to_owned()))
    }
}

impl Borrow<str> for DataPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for DataPath {
    type Error = BadPath;

    fn try_from(text: String) -> Result<DataPath, BadPath> {
        text.parse()
    }
}

impl From<DataPath> for String {
    fn from(path: DataPath) -> String {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_knows_its_folders() {
        let path: DataPath = "a/b c/ä".parse().unwrap();
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a", "a/b c"]);
        assert_eq!("a".parse::<DataPath>().unwrap().parents().count(), 0);
    }

    #[test]
    fn what_leads_out_or_cannot_be_shown_is_refused() {
        let long = "x".repeat(MAX_PATH_BYTES + 1);
        for text in ["", "/a", "a/", "a//b", ".", "a/../b", "./a", "a\nb", "a\0", &long] {
            assert!(text.parse::<DataPath>().is_err(), "{text:?}");
        }
        assert!("x".repeat(MAX_PATH_BYTES).parse::<DataPath>().is_ok());
    }
}
