//! Why a layer could not be unpacked.

use std::io;

use super::access_list::BadAccessList;
use crate::digest::Digest;

/// Why a layer could not be unpacked. What was made of it until then is of no use.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The archive is damaged, or has what no archive of a layer has.
    #[error("the archive is bad at byte {at} of it: {what}")]
    BadArchive { at: u64, what: String },
    /// What packs the archive is damaged.
    #[error("its {packing} data is bad")]
    BadPacking {
        packing: &'static str,
        #[source]
        source: io::Error,
    },
    /// The archive reaches for what is not its own, or says what cannot be done.
    #[error("the archive's entry {path} is refused: {why}")]
    Hostile { path: String, why: Refusal },
    /// The kernel did not do it.
    #[error("{what} {path} of the archive failed")]
    Kernel {
        what: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    /// It takes more than there is room for.
    #[error("there is no room for the layer: it takes {bytes} B and more")]
    NoRoom { bytes: u64 },
    /// The bytes did not come to their end.
    #[error("the layer's bytes ended too early")]
    Transfer(#[source] io::Error),
    /// It takes more than it may.
    #[error("the layer takes more than {limit} {of}: {cure}")]
    TooMuch {
        of: &'static str,
        limit: u64,
        cure: &'static str,
    },
    /// The bytes came to their end and are others than was said.
    #[error("the {what} has the digest {actual}, expected {expected}")]
    WrongDigest {
        what: &'static str,
        expected: Digest,
        actual: Digest,
    },
}

/// Why an entry of an archive is not unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    AccessList(BadAccessList),
    #[error("its path is absolute; paths in an archive begin at its root, without a slash")]
    AbsolutePath,
    #[error("it is a device, and something else has this name in the same archive")]
    DeviceOverFile,
    #[error("its path goes through {0}, which is no folder")]
    NoFolder(String),
    #[error(
        "its path goes through the symbolic link {link} to {target}, which leads out of the archive's root"
    )]
    LeavesImage { link: String, target: String },
    #[error("it is a hard link to {0}, which cannot be linked to")]
    LinkToFolder(String),
    #[error("it is a hard link to {0}, which is not in this archive")]
    LinkToNothing(String),
    #[error("the target of the hard link, {target}, is refused: {why}")]
    LinkTarget { target: String, why: Box<Refusal> },
    #[error("its path has too many symbolic links, more than {0}")]
    Loop(usize),
    #[error("its path is longer than {0} B")]
    LongPath(usize),
    #[error("a name in its path is longer than {0} B")]
    LongName(usize),
    #[error("the archive's root is a folder")]
    NoFolderAtRoot,
    #[error("its path has a part \"..\"")]
    ParentInPath,
    #[error("names that begin with .wh. are those of whiteouts, and this one removes nothing")]
    ReservedName,
    #[error("its path has a zero byte")]
    ZeroByte,
    #[error("it is of kind {0:?}, which is not made")]
    UnknownKind(char),
}

impl LayerError {
    pub(super) fn kernel(what: &'static str, path: &[u8], source: impl Into<io::Error>) -> LayerError {
        LayerError::Kernel {
            what,
            path: shown(path),
            source: source.into(),
        }
    }

    pub(super) fn hostile(path: &[u8], why: Refusal) -> LayerError {
        LayerError::Hostile {
            path: shown(path),
            why,
        }
    }
}

/// A path as it is told: in quotes, what is no text made visible, and not too long.
pub(super) fn shown(path: &[u8]) -> String {
    const LIMIT: usize = 200;
    let text = String::from_utf8_lossy(path);
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
