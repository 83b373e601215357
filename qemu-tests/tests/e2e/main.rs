//! End-to-end tests: the real server, the real agent, machines in QEMU, on a network of their own.
//!
//! `cargo xtask test` builds what they need and runs them. By hand: `FARRIER_BIN`, `FARRIER_AGENT` and
//! `FARRIER_LAB_DIR` (of `farrier lab prepare`), then `cargo test -p qemu-tests --test e2e`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod arrays_and_volumes;
mod bad_images;
mod bench;
mod bmc;
mod boot_entries;
mod cards;
mod containerd;
mod containers;
mod controllers;
mod deaths;
mod disk_names;
mod disks;
mod encrypted_mirror;
mod erased_disks;
mod examples;
mod faults;
mod first_machine;
mod hostile;
mod hotplug;
mod image;
mod install;
mod inventory;
mod kernels;
mod lab_command;
mod links;
mod long;
mod nics;
mod partition;
mod reproducible;
mod scene;
mod secure_images;
mod terminal;
mod tools;
mod two_machines;
mod without_root;
mod write_log;
