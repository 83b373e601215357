//! What an export says of itself: enough to know whether it is whole.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::OfflineError;
use crate::blobs::Digest;
use crate::formats::{Reader, RowFormats};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const ROWS: &str = "rows.jsonl";
/// Where blobs are, with the layout of the blobs' own directory.
pub(super) const BLOBS: &str = "blobs";
/// The version is the number behind this.
const FORMAT: &str = "farrier store export ";
/// 2: `rows` is there. 1 has rows of format 1, and does not say so.
const VERSION: u32 = 2;
pub(super) const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

/// What an export holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The store's revision.
    pub revision: u64,
    pub keys: u64,
    /// Of the file of rows.
    pub rows_bytes: u64,
    pub rows_sha256: Digest,
    pub blobs: u64,
    pub blobs_bytes: u64,
    /// Of the blobs' digests, in order, each with a line's end.
    pub blobs_sha256: Digest,
    /// `None`: an export of version 1, whose rows are of format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Rows>,
}

/// What the rows of an export are in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// The newest that some row may be in.
    pub format: u32,
    /// The version of Farrier that was the first to write in it; empty: it did not say so.
    pub by: String,
}

impl From<RowFormats> for Rows {
    fn from(formats: RowFormats) -> Rows {
        Rows {
            format: formats.newest,
            by: formats.by,
        }
    }
}

/// All that is known of a manifest of any version.
#[derive(Deserialize)]
struct Begin {
    format: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    contents: Summary,
    /// Of the contents as compact JSON.
    sha256: Digest,
}

impl Summary {
    pub(super) fn to_manifest(&self) -> Vec<u8> {
        let manifest = Manifest {
            format: format!("{FORMAT}{VERSION}"),
            contents: self.clone(),
            sha256: self.digest(),
        };
        let mut text = serde_json::to_vec_pretty(&manifest).expect("text and numbers become JSON");
        text.push(b'\n');
        text
    }

    /// # Errors
    /// [`OfflineError::Newer`] when a later version made it, or its rows are of a format that `reader` does not know;
    /// [`OfflineError::Damaged`].
    pub(super) fn from_manifest(text: &[u8], reader: Reader) -> Result<Summary, OfflineError> {
        let bad = |why: String| OfflineError::damaged(format!("its {MANIFEST} cannot be read: {why}"));
        let begin: Begin = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        let version = begin.format.strip_prefix(FORMAT).and_then(|n| n.parse().ok());
        match version {
            Some(1..=VERSION) => {}
            Some(version) if version > VERSION => {
                return Err(OfflineError::Newer {
                    what: format!("the export is of version {version}"),
                    reader,
                    knows: format!("versions up to {VERSION}"),
                    cure: "the version that made it, or with a later one".into(),
                });
            }
            _ => {
                return Err(bad(format!(
                    "its format is {:?}, not \"{FORMAT}{VERSION}\"",
                    begin.format
                )));
            }
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        if manifest.contents.digest() != manifest.sha256 {
            return Err(bad("its digest does not match".into()));
        }
        if let Some(rows) = manifest
            .contents
            .rows
            .as_ref()
            .filter(|rows| rows.format > reader.reads)
        {
            let Rows { format, by } = rows;
            return Err(OfflineError::Newer {
                what: format!(
                    "the rows of the export are of format {format}, which Farrier {by} wrote first"
                ),
                reader,
                knows: format!("formats up to {}", reader.reads),
                cure: format!("Farrier {by}, or with a later one"),
            });
        }
        Ok(manifest.contents)
    }

    fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("text and numbers become JSON"))
    }
}

/// The digest of a list of blobs.
pub(super) fn digest_of_blobs<'a>(sorted: impl Iterator<Item = &'a Digest>) -> Digest {
    let mut hasher = Sha256::new();
    sorted.for_each(|digest| hasher.update(format!("{digest}\n")));
    hasher.into()
}
