//! Contents by their digests, and what of an image is there.

use std::collections::BTreeSet;

use bytes::Bytes;
use store::blobs::{BlobError, Blobs, Digest};

use crate::document::{Document, Kind, MANIFEST_LIMIT_BYTES, Part};
use crate::written;

/// An index may name indexes; nobody nests them deeper.
const NESTED_LIMIT: usize = 3;
/// Manifests and indexes of one image.
const DOCUMENTS_LIMIT: usize = 1_000;

/// Contents of images. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shelf {
    blobs: Blobs,
}

/// Why contents did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The image names more manifests than any has, or deeper ones.
    #[error("{0} names too many manifests: {DOCUMENTS_LIMIT} at most, {NESTED_LIMIT} deep")]
    TooMany(String),
}

/// What an image consists of, as far as it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// All that it names, there or not, itself included.
    pub named: BTreeSet<Digest>,
    /// What its manifests name and is not there.
    pub missing: Vec<Part>,
    /// Manifests of platforms that are not there: that leaves the others as they are.
    pub absent: Vec<Part>,
    /// How many manifests of a platform are there.
    pub manifests: usize,
    /// Of all that is there.
    pub size_bytes: u64,
    /// For which it is there, where an index says it.
    pub platforms: Vec<String>,
}

impl Tree {
    /// Whether it can be pulled for some platform.
    pub fn is_whole(&self) -> bool {
        self.manifests > 0 && self.missing.is_empty()
    }
}

impl Shelf {
    pub fn new(blobs: Blobs) -> Shelf {
        Shelf { blobs }
    }

    /// What they lie in.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// A manifest or an index, and its bytes; `None`: it is not there, or something else.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub async fn document(&self, digest: &Digest) -> Result<Option<(Document, Bytes)>, ShelfError> {
        let found = self.blobs.head(digest).await?;
        if found.is_none_or(|info| info.len_bytes > MANIFEST_LIMIT_BYTES as u64) {
            return Ok(None);
        }
        let bytes = match self.blobs.get(digest).await {
            Err(BlobError::NotFound { .. }) => return Ok(None),
            read => read?,
        };
        Ok(Document::read(&bytes).ok().map(|document| (document, bytes)))
    }

    /// What the image of this manifest or index consists of.
    ///
    /// # Errors
    /// When contents cannot be looked at; [`ShelfError::TooMany`].
    pub async fn tree(&self, root: &Digest) -> Result<Tree, ShelfError> {
        let mut tree = Tree::default();
        let mut ahead = vec![(
            Part {
                digest: *root,
                size_bytes: 0,
                platform: None,
            },
            0,
        )];
        let mut documents = 0;
        while let Some((part, depth)) = ahead.pop() {
            if !tree.named.insert(part.digest) {
                continue;
            }
            documents += 1;
            if documents > DOCUMENTS_LIMIT || depth > NESTED_LIMIT {
                return Err(ShelfError::TooMany(written(root)));
            }
            let Some((document, bytes)) = self.document(&part.digest).await? else {
                tree.absent.push(part);
                continue;
            };
            tree.size_bytes += bytes.len() as u64;
            match document.kind {
                Kind::Index(parts) => ahead.extend(parts.into_iter().map(|part| (part, depth + 1))),
                Kind::Manifest(parts) => {
                    tree.manifests += 1;
                    tree.platforms.extend(part.platform);
                    for part in parts {
                        if !tree.named.insert(part.digest) {
                            continue;
                        }
                        match self.blobs.head(&part.digest).await? {
                            Some(info) if info.len_bytes == part.size_bytes => {
                                tree.size_bytes += info.len_bytes
                            }
                            _ => tree.missing.push(part),
                        }
                    }
                }
            }
        }
        tree.platforms.sort();
        Ok(tree)
    }
}
