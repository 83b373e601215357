//! Power cuts and I/O errors at every single write of a busy run of the redb engine.
//!
//! What was acknowledged is there after reopening, in whole commits and in order; nothing else is.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod disk;
mod io_errors;
mod power_cuts;
mod workload;
