//! What lies where in an archive that is a file: nothing of it is unpacked.

use std::io::{BufRead, Read};

use super::archive::{Archive, Kind};
use super::error::LayerError;
use super::packing::Packing;

/// An entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As it stands in the archive.
    pub path: Vec<u8>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Directory,
    /// Its content is in one piece, from a byte of the archive on.
    File {
        at: u64,
        size_bytes: u64,
    },
    /// A symbolic link, whose target is seen from its folder, or a hard link, whose target is seen from the archive's root.
    Link {
        target: Vec<u8>,
        is_hard: bool,
    },
    /// In words: a device, a fifo, a file with holes.
    Other(&'static str),
}

/// The entries of an archive that is not packed, in their order.
///
/// # Errors
/// A damaged archive, one that is longer than `limit_bytes` or has more than `entries` entries; what the stream says.
pub fn list(archive: impl Read, limit_bytes: u64, entries: usize) -> Result<Vec<Listed>, LayerError> {
    let mut archive = Archive::new(archive, limit_bytes);
    let mut all = Vec::new();
    while let Some(entry) = archive.next()? {
        if all.len() >= entries {
            return Err(LayerError::TooMuch {
                of: "files",
                limit: entries as u64,
                cure: "it is no archive of images",
            });
        }
        let what = match entry.kind {
            Kind::Directory => What::Directory,
            Kind::File { size, pieces } => match pieces.as_slice() {
                [] if size == 0 => What::File {
                    at: archive.at(),
                    size_bytes: 0,
                },
                [piece] if piece.offset == 0 && piece.length == size => What::File {
                    at: archive.at(),
                    size_bytes: size,
                },
                _ => What::Other("a file with holes"),
            },
            Kind::HardLink { target } => What::Link {
                target,
                is_hard: true,
            },
            Kind::SymbolicLink { target } => What::Link {
                target,
                is_hard: false,
            },
            Kind::BlockDevice { .. } | Kind::CharacterDevice { .. } => What::Other("a device"),
            Kind::Fifo => What::Other("a fifo"),
        };
        all.push(Listed {
            path: entry.path,
            what,
        });
    }
    Ok(all)
}

/// What is packed with gzip or zstd, or is not, as it is without.
///
/// # Errors
/// What the stream says.
pub fn unpacked<'a>(input: impl BufRead + Send + 'a) -> std::io::Result<Box<dyn Read + Send + 'a>> {
    Ok(Box::new(Packing::new(input)?))
}

/// How bytes that begin so are packed: `gzip`, `zstd`, or `tar` where they are not.
pub fn packing_of(first: &[u8]) -> &'static str {
    Packing::new(first).map_or("tar", |packing| packing.name())
}
