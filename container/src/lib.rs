//! Runs one action of an image in namespaces of its own: the runtime `namespaces`.
//!
//! Three parts, in the order in which an action meets them:
//! - [`mod@plan`] says from an image's configuration and an action what is to be mounted, where, and what is run as whom. Pure.
//! - [`group`] is the cgroup that the action's processes are in: its limits, whether one was killed for memory, and its end.
//! - [`init`] carries a plan out. Whoever runs an action starts its own binary again, single-threaded, with the plan on
//!   standard input; that process calls [`init::serve`].
//!
//! Knows no registry, no agent and no server, and pulls nothing: an image is folders with layers in overlayfs's form.
//! Nothing that it mounts is in the mount namespace of whoever started it.

pub mod accounts;
pub mod confinement;
pub mod group;
pub mod init;
pub mod plan;
mod status;
pub mod user;
mod volume;

pub use group::Group;
pub use plan::{Image, Network, Place, Plan, PlanError, Request, Shown, plan};
pub use status::{Ended, read as read_status};
