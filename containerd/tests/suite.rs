//! The suite by a containerd of its own, Debian's, with images that come from Debian's registry. As root.
#![allow(dead_code, reason = "other runtimes, and other tests, use the rest")]

mod runtime;
#[path = "../../container/tests/suite/mod.rs"]
mod suite;
