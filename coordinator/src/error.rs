//! Why the control plane did not do what it was asked.

use store::StoreError;

/// A refusal or a failure. Its text is for the person who asked: it names the thing, the value and the cure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What a step is about has been archived: it is to be brought back first, then the step can be done.
    #[error("workflow {0} is archived")]
    Archived(String),
    /// It is not as who asks has seen it: somebody else changed it meanwhile.
    #[error("{0}")]
    Changed(String),
    /// Who asks is not who it says it is, or may not do this.
    #[error("{0}")]
    Denied(String),
    /// There is such a thing already.
    #[error("{0}")]
    Exists(String),
    /// What was given is wrong; all problems, one a line.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// What was asked for from there on is not kept, or never was.
    #[error("{0}")]
    OutOfRange(String),
    /// It is more than one may have at a time.
    #[error("{0}")]
    TooMuch(String),
    /// It is not known who asks.
    #[error("{0}")]
    Unknown(String),
    /// The thing is not in a state for this.
    #[error("{0}")]
    Refused(String),
    /// A stored value is not what this version writes.
    #[error("stored value of {key} cannot be read")]
    Damaged {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    /// The blobs failed or refused.
    #[error(transparent)]
    Blob(#[from] store::blobs::BlobError),
    /// The store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread or task of ours panicked.
    #[error("the server broke down while it did this, which is a defect of Farrier; its log says where")]
    BrokeDown,
    /// The server ends before it answers.
    #[error("the server is stopping")]
    Stopping,
}

impl From<crate::data::Trouble> for Error {
    fn from(trouble: crate::data::Trouble) -> Self {
        use crate::data::Trouble;
        match trouble {
            Trouble::Blob(error) => Self::Blob(error),
            Trouble::Damaged { key, source } => Self::Damaged { key, source },
            Trouble::Refused(refused) => Self::Refused(refused.message),
            Trouble::Store(error) => Self::Store(error),
        }
    }
}

impl Error {
    pub fn is_conflict(&self) -> bool {
        self.store().is_some_and(StoreError::is_conflict)
    }

    pub fn store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
