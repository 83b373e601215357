//! Which formats the rows of a store are in, as the store says it in a row of its own. What a format means is their owner's
//! to know.
//!
//! ```text
//! meta/rows   {"oldest":1,"newest":2,"by":"0.3.0","migrating":{"to":2,"after":"machine/node7"}}
//! ```
//!
//! Servers of every version read this row, so fields are added to it, and none is ever taken away or given another meaning.
//! A store without it is of format 1.

use serde::{Deserialize, Serialize};

use crate::{KeyValue, StoreError};

/// Where it stands.
pub const KEY: &str = "meta/rows";

/// What rows may be found in a store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RowFormats {
    /// No row is of an older one.
    pub oldest: u32,
    /// No row is of a newer one: who cannot read this one cannot read the store.
    pub newest: u32,
    /// The version of Farrier that was the first to write in the newest; empty: it did not say so yet.
    #[serde(default)]
    pub by: String,
    /// Rows are being brought up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrating: Option<Migrating>,
}

/// How far that is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Migrating {
    pub to: u32,
    /// The last key, in their order, that is done with.
    pub after: String,
}

/// A version of Farrier, and the newest format of rows that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    pub version: &'static str,
    pub reads: u32,
}

impl RowFormats {
    /// All rows of one format.
    pub fn only(format: u32, by: &str) -> RowFormats {
        RowFormats {
            oldest: format,
            newest: format,
            by: by.to_owned(),
            migrating: None,
        }
    }

    /// What the row says; `None`: there is none, so all rows are of format 1.
    ///
    /// # Errors
    /// [`StoreError::Backend`] when it makes no sense.
    pub fn read(row: Option<&KeyValue>) -> Result<RowFormats, StoreError> {
        let Some(row) = row else {
            return Ok(RowFormats::only(1, ""));
        };
        let bad = |why: String| StoreError::Backend {
            message: format!("row {KEY} does not say which formats the others are in: {why}"),
            source: None,
        };
        let formats: RowFormats =
            serde_json::from_slice(&row.value).map_err(|error| bad(error.to_string()))?;
        if formats.oldest == 0 || formats.oldest > formats.newest {
            return Err(bad(format!("from {} to {}", formats.oldest, formats.newest)));
        }
        Ok(formats)
    }

    /// # Errors
    /// [`StoreError::NewerRows`] when this reader does not know the newest.
    pub fn check(&self, reader: Reader) -> Result<(), StoreError> {
        if self.newest <= reader.reads {
            return Ok(());
        }
        Err(StoreError::NewerRows {
            format: self.newest,
            by: self.by.clone(),
            reader,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<RowFormats, StoreError> {
        let row = KeyValue {
            key: KEY.into(),
            value: text.into(),
            modified: 1,
        };
        RowFormats::read(Some(&row))
    }

    #[test]
    fn a_store_that_says_nothing_is_of_format_1() {
        assert_eq!(RowFormats::read(None).unwrap(), RowFormats::only(1, ""));
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let formats = read(r#"{"oldest":2,"newest":3,"by":"0.9.0","signed":"yes"}"#).unwrap();
        assert_eq!((formats.oldest, formats.newest, &*formats.by), (2, 3, "0.9.0"));
    }

    #[test]
    fn a_row_that_makes_no_sense_is_named() {
        for text in [
            "",
            "7",
            r#"{"oldest":0,"newest":1}"#,
            r#"{"oldest":3,"newest":2}"#,
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("row meta/rows does not say"), "{error}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_with_both_versions_and_the_cure() {
        let reader = Reader {
            version: "0.3.0",
            reads: 4,
        };
        assert!(RowFormats::only(4, "0.4.0").check(reader).is_ok());
        let error = RowFormats::only(5, "0.5.0").check(reader).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the rows of the store are of format 5, which Farrier 0.5.0 wrote first, and this is Farrier 0.3.0, which reads \
             formats up to 4: use Farrier 0.5.0, or a later one, or import an export that was made before"
        );
    }
}
