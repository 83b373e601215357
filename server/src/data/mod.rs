//! The ephemeral data of workflows: versions in the store, contents as blobs, the way from and to agents.
//!
//! Data belong to a root workflow; its sub-workflows share them. A version is a manifest, which names contents by their
//! digests. What a report carries becomes a part of the newest version in the commit that the report is recorded with:
//!
//! 1. [`report::read`] judges what an agent says that it changed,
//! 2. [`contents::keep`] makes its contents durable, and looks for those that came before the report,
//! 3. [`versions::merge`] gives the rows of the next version, or why there is none, for the commit of the step.
//!
//! Contents that no version names are garbage; [`versions::all_contents`] names those that are not.
//!
//! Keys:
//!
//! ```text
//! data-version/<root>             number of the newest version; none: 0, which is empty
//! data/<root>/<version:010>       its manifest
//! ```

pub(crate) mod contents;
mod files;
pub(crate) mod report;
pub(crate) mod versions;

/// Why data did not come to be a new version: the action that brought them has failed with this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    /// A word: `DataTooLarge`, `DataRefused`.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Why data could not be read or written; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Blob(#[from] store::blobs::BlobError),
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
