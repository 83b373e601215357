//! Files with images, as people carry them: OCI layouts, and what `docker save` writes; folders and archives, packed or not.
//!
//! Source: OCI image specification 1.1, image-layout.md; moby, `image/spec/v1.2.md` ("Combined Image JSON + Filesystem Changeset Format").

mod docker;
mod files;
mod layout;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use oci::Reference;
use store::blobs::Digest;

use crate::document::BadDocument;
use files::Files;

/// A file with images.
pub struct Archive {
    files: Files,
}

/// An image in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Those that the archive gives it; none: whoever brings it says one.
    pub names: Vec<Reference>,
    /// Its manifest or index.
    pub root: Digest,
    /// All that it consists of: what is named comes before what names it.
    pub contents: Vec<Content>,
}

/// A content of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub digest: Digest,
    pub size_bytes: u64,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Made of what the archive says.
    Here(Bytes),
    /// A file of the archive.
    Named(String),
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadArchive {
    #[error("{path} cannot be read")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{path} is no archive: {what}")]
    NoArchive { path: String, what: String },
    /// With the entry's name.
    #[error("{entry} of {path} is refused: {why}")]
    Entry {
        path: String,
        entry: String,
        why: String,
    },
    #[error(
        "{path} has no {entry}, which {by} names: the archive is cut short, or was made of a part of the image"
    )]
    Missing { path: String, entry: String, by: String },
    #[error(
        "{path} has no images: it is neither an OCI layout (with oci-layout and index.json) nor what `docker save` writes (with manifest.json)"
    )]
    NoImages { path: String },
    #[error(
        "{path} was written by a Docker before 1.10, in a form that says no digests: save the image again with a later one"
    )]
    TooOld { path: String },
}

/// Of an archive without its packing; what is larger is a bomb.
const UNPACKED_LIMIT_BYTES: u64 = 256 << 30;
/// Of JSON that tells what is in an archive.
const JSON_LIMIT_BYTES: u64 = 4 << 20;
/// Images in one archive.
const IMAGES_LIMIT: usize = 1_000;

impl Archive {
    /// Opens an archive or a folder, and learns what lies where. One that is packed is unpacked into a file without a name.
    ///
    /// # Errors
    /// [`BadArchive`].
    pub fn open(path: &Path) -> Result<Archive, BadArchive> {
        Archive::open_within(path, UNPACKED_LIMIT_BYTES)
    }

    /// As [`Archive::open`]; without its packing it may have so many bytes.
    ///
    /// # Errors
    /// [`BadArchive`].
    pub fn open_within(path: &Path, unpacked_bytes: u64) -> Result<Archive, BadArchive> {
        Ok(Archive {
            files: Files::open(path, unpacked_bytes)?,
        })
    }

    /// The images. Contents that a manifest gives a digest for are not read here: whoever takes them compares.
    ///
    /// # Errors
    /// [`BadArchive`], with the entry that is wrong.
    pub fn images(&self) -> Result<Vec<Packed>, BadArchive> {
        let is_layout = self.files.has("oci-layout") && self.files.has("index.json");
        match (
            is_layout,
            self.files.has("manifest.json"),
            self.files.has("repositories"),
        ) {
            (true, ..) => layout::images(&self.files),
            (false, true, _) => docker::images(&self.files),
            (false, false, true) => Err(BadArchive::TooOld {
                path: self.files.path(),
            }),
            (false, false, false) => Err(BadArchive::NoImages {
                path: self.files.path(),
            }),
        }
    }

    /// The bytes of a content.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub fn read(&self, content: &Content) -> Result<Box<dyn Read + Send>, BadArchive> {
        match &content.place {
            Place::Here(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            Place::Named(name) => self.files.open_entry(name),
        }
    }
}

fn refused(files: &Files, entry: &str, why: impl ToString) -> BadArchive {
    BadArchive::Entry {
        path: files.path(),
        entry: entry.to_owned(),
        why: why.to_string(),
    }
}

fn json<T: serde::de::DeserializeOwned>(files: &Files, entry: &str) -> Result<T, BadArchive> {
    let bytes = files.small(entry, JSON_LIMIT_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| refused(files, entry, BadDocument::from(error)))
}

/// Where archives of today keep contents.
fn blob_entry(digest: &Digest) -> String {
    format!("blobs/sha256/{digest}")
}

/// For messages.
fn shown(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
