//! Actions by a containerd that runs on the machine: the same plan, the same contract, its stores and its shims.
//!
//! Three parts, in the order in which an action meets them:
//! - [`Containerd`] is the connection: containerd's gRPC API over its socket, in a namespace of ours ([`NAMESPACE`]).
//! - [`Image`] is what a pull leaves there: blobs that [`oci`] brings, layers that containerd unpacks, all of it labelled
//!   so that containerd's garbage collection keeps it ([`store`]).
//! - [`Task`] is an action that runs: a [`container::Plan`] as an OCI runtime specification ([`spec`]), in a snapshot of its
//!   own, by runc's shim.
//!
//! Everything that it makes has the label [`OWNER`], by which an agent finds what the one before it left. Knows no agent
//! and no server. What is called of containerd's API is there since 1.6 with the same numbers.
#![forbid(unsafe_code)]

mod accounts;
mod api;
mod connection;
mod error;
mod left;
mod snapshot;
pub mod spec;
mod store;
mod task;

pub use connection::{Containerd, NAMESPACE, OWNER};
pub use error::Error;
pub use store::Image;
pub use task::{Output, StartError, Task};
