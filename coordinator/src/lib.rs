//! The control plane's rules over a [`store::Store`]: what each thing that happens leads to, what a store has of machines,
//! templates, workflows and their data, and what a machine boots next.
//!
//! Nothing here opens a socket, starts a task or reads a clock: whoever drives a [`Coordinator`] owns those. `server` does, and
//! so does `simulation`. Everything is synchronous, and what reads the store blocks.
//!
//! [`steps`] is the loop: load, let the engine decide, say what to commit. [`making`] is what a workflow is made from,
//! [`machines`] and [`templates`] the records, [`data`] the versions of ephemeral data, [`archive`] the form of what left the
//! store, [`answers`] what systems say that are asked whether they answer, [`disk_writes`] what a workflow would do to disks, [`images`] what the server's own registry has, [`order`] the order of all events, [`netboot`] what a machine boots, [`people`] who may do what, [`once`] what takes effect
//! once, [`secrets`] what is sealed, [`webhooks`] who is told of events. [`database`] is the store as
//! all of them use it, with its keys.

#![forbid(unsafe_code)]

pub mod answers;
pub mod archive;
pub mod data;
pub mod database;
pub mod disk_writes;
mod error;
pub mod images;
pub mod last;
pub mod machines;
pub mod making;
pub mod namespaces;
pub mod netboot;
pub mod once;
pub mod order;
pub mod people;
pub mod secrets;
pub mod steps;
pub mod templates;
pub mod webhooks;

pub use data::Changed;
pub use error::Error;
pub use steps::{Answer, Assignment, Coordinator, Input, Limits, NewWorkflow, Next, Orders, Plan, Report};
