//! Container images: what a registry has is pulled, checked and unpacked into layers that overlayfs mounts.
//!
//! Knows nothing of agents, actions or how a container is run. Whoever runs one gets an [`Image`]: folders, lowest
//! first, and what the image says of its process.

#![forbid(unsafe_code)]

pub mod artefact;
pub mod cache;
mod digest;
mod image;
pub mod layer;
pub mod manifest;
mod pull;
mod reference;
pub mod registry;
mod unpacking;

pub use digest::{Algorithm, Digest, Hasher, NotADigest};
pub use image::{BadConfig, CONFIG_LIMIT_BYTES, Image, ImageConfig, Platform};
pub use pull::{Found, Keep, Origin, Pull};
pub use reference::{DEFAULT_REGISTRY, NotAReference, Reference};
