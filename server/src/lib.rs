//! The control plane as a server: agents' sessions, background tasks, the boot timeline, and gRPC over a [`coordinator`].
//!
//! [`ControlPlane`] is the one entry: a cheap clone over a store. What happens is told to the coordinator, what it decides is
//! committed, and only then answered. It speaks gRPC ([`ControlPlane::serve`]) to agents and to the command line. It never
//! knows `boots`: whoever wires both asks [`ControlPlane::netboot`] and [`ControlPlane::boot_token`], and tells
//! [`ControlPlane::record`].

#![forbid(unsafe_code)]

mod agents;
mod archive;
mod boot_tokens;
mod bounds;
mod clock;
mod control;
mod data;
mod database;
mod grpc;
mod images;
mod itself;
pub mod limits;
mod listeners;
mod machines;
mod namespaces;
mod netboot;
mod once;
mod people;
mod random;
mod secrets;
mod tasks;
mod templates;
pub mod timeline;
mod turns;
mod webhooks;
mod within;
mod workflows;

pub use agents::pull::RegistrySettings;
pub use control::{Config, ControlPlane};
pub use grpc::{Listeners, ServeError};
pub use itself::Folder;
pub use limits::Limits;
