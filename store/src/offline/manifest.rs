//! What an export says of itself: enough to know whether it is whole.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::OfflineError;
use crate::blobs::Digest;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const ROWS: &str = "rows.jsonl";
/// Where blobs are, with the layout of the blobs' own directory.
pub(super) const BLOBS: &str = "blobs";
const FORMAT: &str = "farrier store export 1";
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
            format: FORMAT.into(),
            contents: self.clone(),
            sha256: self.digest(),
        };
        let mut text = serde_json::to_vec_pretty(&manifest).expect("text and numbers become JSON");
        text.push(b'\n');
        text
    }

    pub(super) fn from_manifest(text: &[u8]) -> Result<Summary, OfflineError> {
        let bad = |why: String| OfflineError::damaged(format!("its {MANIFEST} cannot be read: {why}"));
        let manifest: Manifest = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(bad(format!(
                "its format is {:?}, not {FORMAT:?}",
                manifest.format
            )));
        }
        if manifest.contents.digest() != manifest.sha256 {
            return Err(bad("its digest does not match".into()));
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
