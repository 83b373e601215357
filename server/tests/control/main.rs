//! The control plane as agents and the command line see it: over gRPC on loopback, with a store on disk.

mod agents;
mod archive;
mod broken;
mod data;
mod deadlock;
mod disks;
mod examples;
mod formats;
mod harness;
mod labels;
mod later;
mod limits;
mod machines;
mod names;
mod namespace_uses;
mod namespaces;
mod outputs;
mod people;
mod races;
mod record;
mod restarts;
mod rollouts;
mod secrets;
mod silence;
mod tokens;
mod workflows;
