//! The control plane: machines, templates, workflows, the agents that run them, and the boot timeline.
//!
//! [`ControlPlane`] is the one entry: a cheap clone over a store. It loads state, lets the pure engine of the
//! `workflow` crate decide, commits events and state together, and only then answers. It speaks gRPC
//! ([`ControlPlane::serve`]) to agents and to the command line. It never knows `boots`: whoever wires both asks
//! [`ControlPlane::netboot`] and [`ControlPlane::boot_token`], and tells [`ControlPlane::record`].

mod agents;
pub mod archive;
mod bounds;
mod clock;
mod control;
pub mod coordinator;
mod data;
mod database;
mod error;
mod grpc;
pub mod machines;
mod templates;
pub mod timeline;
mod tokens;
mod turns;
mod workflows;
mod yaml;

pub use agents::untouched;
pub use archive::named;
pub use control::{Config, ControlPlane};
pub use database::detached::whole as whole_row;
pub use error::{Error, Problem};
pub use templates::check as check_template;
pub use workflows::next::{Netboot, Next, netboot_of as netboot};
