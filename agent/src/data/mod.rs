//! The workflow's ephemeral data on this side: as files in a folder, and on its way from and to the server.

mod pull_settings;
mod second_name;
pub(crate) mod transfer;
pub(crate) mod tree;

pub(crate) use second_name::SecondName;
pub use transfer::DataServer;

/// A reason and words: why data could not be had, taken or kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct DataError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl DataError {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> DataError {
        DataError {
            reason,
            message: message.into(),
        }
    }
}
