//! The virtual lab: machines in QEMU, a network and a real `farrier serve`, all in namespaces that die
//! with the process that asked for them.
//!
//! `farrier lab` ([`command`]) is built on it, and so are the end-to-end tests in `tests/e2e`. It knows the
//! control plane only by its API and by its binary, as any other user does: evidence that a machine did
//! something comes from the machine (its serial line, its network, SSH), not from what was served to it.

pub mod accelerator;
pub mod api;
pub mod artifacts;
pub mod command;
pub mod devices;
pub mod display;
pub mod documents;
pub mod firmware;
pub mod host_packages;
pub mod journey;
pub mod machine;
pub mod namespace;
pub mod network;
pub mod process;
pub mod qmp;
pub mod run_dir;
pub mod scratch_disk;
pub mod serial;
pub mod server;
pub mod ssh;
pub mod table;
pub mod wait;
pub mod world;

pub use command::{LabArgs, run};
