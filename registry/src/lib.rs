//! The server's own registry: images of containers, brought by people and asked for by machines.
//!
//! [`route`] says what a request asks, [`document`] what a manifest names, [`archive`] what a file of people has; all three are pure but
//! for the reading of that file. [`Shelf`] is the contents by their digests, and [`serve`] answers requests out of one. What images are
//! called is a [`Catalogue`]'s, which somebody else keeps. What is not there may be fetched from [`outside`], and is kept then.

#![forbid(unsafe_code)]

pub mod archive;
mod catalogue;
pub mod document;
mod flight;
pub mod outside;
mod problem;
pub mod route;
mod serve;
mod shelf;

pub use catalogue::{Catalogue, CatalogueError, Named};
pub use outside::Outside;
pub use problem::{Code, Problem};
pub use serve::router;
pub use shelf::{Shelf, ShelfError, Tree};

use store::blobs;

/// The name of a content in the store, which has SHA-256 alone; `None` for another algorithm.
pub fn blob_of(digest: &oci::Digest) -> Option<blobs::Digest> {
    match digest.algorithm() {
        oci::Algorithm::Sha256 => digest.hex().parse().ok(),
        oci::Algorithm::Sha512 => None,
    }
}

/// A digest as registries write it.
pub fn written(digest: &blobs::Digest) -> String {
    format!("sha256:{digest}")
}
