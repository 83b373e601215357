//! The ephemeral data of workflows: which version has which files.
//!
//! Data belong to a root workflow; its sub-workflows share them. A version is a manifest, which names contents by their
//! digests. What a report changes becomes a part of the newest version in the commit that the report is recorded with:
//! [`versions::merge`] gives the rows of the next version, or why there is none, for the commit of the step. Its contents
//! are durable before that.
//!
//! Contents that no version names are garbage; [`versions::all_contents`] names those that are not.
//!
//! Keys:
//!
//! ```text
//! data-version/<root>             number of the newest version; none: 0, which is empty
//! data/<root>/<version:010>       its manifest
//! ```

pub mod versions;

use ephemeral::Changes;
use store::blobs::BlobError;
use workflow::engine::Outcome;

/// Changes whose contents are all durable: ready for [`versions::merge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What the attempt was given.
    pub base_version: u64,
    /// The files put and deleted.
    pub changes: Changes,
}

/// The name of the blob that holds a content.
///
/// # Errors
/// Never for a digest of ours; the blobs' own check of names.
pub fn blob_of(digest: &ephemeral::Digest) -> Result<store::blobs::Digest, BlobError> {
    // Both are the same 64 digits.
    Ok(digest.to_string().parse()?)
}

/// Why data did not come to be a new version: the action that brought them has failed with this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// A word: `DataTooLarge`, `DataRefused`.
    pub reason: &'static str,
    pub message: String,
}

impl Refused {
    /// What becomes of the action.
    pub fn into_outcome(self) -> Outcome {
        Outcome::Failed {
            reason: self.reason.to_owned(),
            message: self.message,
            exit_code: 0,
        }
    }
}

/// Why data could not be read or written; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A stored value is not what this version writes.
    #[error("stored value of {key} cannot be read")]
    Damaged {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    /// The action has to hear of it; trying again does not help.
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Store(#[from] store::StoreError),
}
