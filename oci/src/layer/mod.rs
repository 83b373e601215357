//! A layer: an archive that comes down a stream, checked and unpacked into a folder, in overlayfs's form.

mod access_list;
mod archive;
mod beside;
mod calls;
mod error;
mod list;
mod names;
mod packing;
mod pax;
mod sparse;
mod tree;
mod walk;

use std::io::{self, BufRead, Read};
use std::path::Path;

pub use access_list::{BadAccessList, encode as access_list};
pub use beside::{Beside, Files, PlaceError};
pub(crate) use calls::OPAQUE;
pub use error::{LayerError, Refusal};
pub use list::{Listed, What, list, packing_of, unpacked};

use crate::digest::{Digest, Hasher};
use archive::Archive;
use packing::Packing;
use tree::{Form, Tree};

/// How much a layer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of the archive as it is without packing.
    pub archive_bytes: u64,
    pub entries: u64,
}

/// Whoever gives the room that a layer takes.
pub trait Room {
    /// Takes so many bytes more; whether they are there.
    fn take(&mut self, bytes: u64) -> bool;
}

/// What the bytes have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// As they come: what the manifest says.
    pub blob: Digest,
    /// As they are without packing: what the configuration says.
    pub archive: Digest,
}

/// A layer that lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// How long the archive is without packing.
    pub archive_bytes: u64,
    pub entries: u64,
    /// What it takes in a tmpfs, as far as can be said: its content in pages, and 1 KiB for each name.
    pub held_bytes: u64,
    /// Paths of folders that have no entry of their own: who owns them, a lower layer says.
    pub implied: Vec<Vec<u8>>,
    /// Attributes that this filesystem does not know, or that no image may bring (`trusted.*`).
    pub attributes_left_out: u64,
}

/// Unpacks a layer into a folder that is there and empty.
///
/// Blocks. What is in the folder after an error is to be thrown away. Needs root: owners and devices are the archive's.
///
/// # Errors
/// A damaged or hostile archive, one that takes too much, one that is another than was said; what the kernel and the stream say.
/// An error of the stream itself comes back as [`LayerError::Transfer`] if it is of [`io::ErrorKind::BrokenPipe`].
///
/// Source: OCI image specification 1.1, layer.md, "Applying Changesets".
pub fn unpack(
    blob: impl BufRead,
    into: &Path,
    expected: &Expected,
    bounds: Bounds,
    room: &mut dyn Room,
) -> Result<Unpacked, LayerError> {
    let mut tree = Tree::new(into, Form::Layer, room)?;
    let blob = Hashed::new(blob, &expected.blob);
    let archive = Packing::new(blob).map_err(LayerError::Transfer)?;
    let packing = archive.name();
    let archive = Hashed::new(archive, &expected.archive);
    let mut entries = Archive::new(archive, bounds.archive_bytes);
    let (archive_bytes, archive) = take(&mut tree, &mut entries, bounds.entries)
        .and_then(|()| entries.finish())
        .map_err(|error| told_apart(error, packing))?;
    let (actual, packed) = archive.finish();
    same("layer's archive", &expected.archive, actual)?;
    let mut blob = packed.into_inner();
    // What stands behind the end of the packed data is of the blob, too.
    io::copy(&mut blob, &mut io::sink()).map_err(LayerError::Transfer)?;
    let (actual, _) = blob.finish();
    same("layer", &expected.blob, actual)?;
    let made = tree.finish()?;
    Ok(Unpacked {
        archive_bytes,
        entries: made.entries,
        held_bytes: made.held_bytes,
        implied: made.implied.into_iter().collect(),
        attributes_left_out: made.attributes_left_out,
    })
}

fn take(tree: &mut Tree<'_>, entries: &mut Archive<impl Read>, limit: u64) -> Result<(), LayerError> {
    let mut count = 0;
    while let Some(entry) = entries.next()? {
        count += 1;
        if count > limit {
            return Err(LayerError::TooMuch {
                of: "files",
                limit,
                cure: "put fewer files into the image",
            });
        }
        tree.make(&entry, entries)?;
    }
    Ok(())
}

/// The stream fails in one way, all others are the packing's.
fn told_apart(error: LayerError, packing: &'static str) -> LayerError {
    match error {
        LayerError::Transfer(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            LayerError::BadPacking { packing, source }
        }
        other => other,
    }
}

fn same(what: &'static str, expected: &Digest, actual: Digest) -> Result<(), LayerError> {
    match *expected == actual {
        true => Ok(()),
        false => Err(LayerError::WrongDigest {
            what,
            expected: expected.clone(),
            actual,
        }),
    }
}

/// Makes the digest of what is read through it.
struct Hashed<R> {
    input: R,
    hasher: Hasher,
}

impl<R> Hashed<R> {
    /// With the algorithm of the digest that it is to be.
    fn new(input: R, like: &Digest) -> Hashed<R> {
        Hashed {
            input,
            hasher: Hasher::new(like.algorithm()),
        }
    }

    fn finish(self) -> (Digest, R) {
        (self.hasher.finish(), self.input)
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let taken = self.input.read(into)?;
        self.hasher.update(into.get(..taken).unwrap_or_default());
        Ok(taken)
    }
}

impl<R: BufRead> BufRead for Hashed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is consumed is still there: a reader gives it again until then.
        if amount > 0
            && let Ok(bytes) = self.input.fill_buf()
        {
            self.hasher.update(bytes.get(..amount).unwrap_or(bytes));
        }
        self.input.consume(amount);
    }
}

#[cfg(test)]
mod tests;
