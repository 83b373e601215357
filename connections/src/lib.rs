//! TCP connections within bounds: so many of one peer, so many in all, and none that nobody speaks or listens on.
//!
//! Every TCP listener of the server is an [`Incoming`]. It never fails and never spins: when the process or the kernel can take no
//! more (EMFILE, ENFILE, ENOBUFS, ENOMEM) it says so and pauses. What is too much is closed at once, and said at most once in a
//! while. A connection holds its place until it is dropped, also by a task that panics.

#![forbid(unsafe_code)]

mod connection;
mod incoming;
mod places;
mod said;

pub use connection::Connection;
pub use incoming::{Bounds, Incoming};
pub use places::{Full, Place, Places, peer_of};
pub use said::Said;
