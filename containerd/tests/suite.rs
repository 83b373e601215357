//! The suite by a containerd of its own, Debian's, with images that come from Debian's registry. As root.

mod runtime;
#[path = "../../container/tests/suite/mod.rs"]
mod suite;
