//! The coordinator over a store in memory: no sockets, no tasks, no clock.

mod crashes;
mod deadlock;
mod formats;
mod given;
mod harness;
mod large;
mod machines;
mod moving;
mod once;
mod races;
mod rollouts;
mod secrets;
mod small_commits;
mod stamps;
mod subworkflows;
mod written;
