//! How fast Farrier is, beside something that anybody can run: all of the benches.
//!
//! | Bench | File | Built as |
//! |---|---|---|
//! | `cargo xtask bench boot`, `farrier bench boot` | `boot.rs`, `plain.rs` | here |
//! | `cargo xtask bench image`, `farrier bench image` | `image.rs`, `image/`, `plain.rs` | here |
//! | `cargo xtask bench lists`, `farrier bench lists` | `lists.rs`, `server.rs` | here |
//! | `cargo xtask bench workflows`, `farrier bench workflows` | `workflows.rs`, `server.rs`, `agents.rs`, `engine.rs` | here |
//! | `cargo xtask bench disk` | `disk.rs` | part of xtask: it needs neither a server nor a lab, and compiles in seconds |
//! | what that runs | `disk/` | examples of the crate `disk` |
//! | `cargo xtask bench containers` | `containers.rs` | part of xtask, as well |
//! | what that runs | `containers/` | examples of the crates `oci` and `container` |
//! | what both share | `measure.rs` | part of xtask |
//! | `cargo run --release -p store --example speed` | `store.rs` | an example of the crate `store` |

mod agents;
mod boot;
mod engine;
mod image;
mod lists;
mod plain;
mod server;
mod workflows;

use std::process::ExitCode;

/// `farrier bench`, for those who work on Farrier.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Bench {
    /// Boot machines from power on to the first action, and a kernel directly beside them
    Boot(boot::BootBench),
    /// What boot images cost: bytes on the wire, time to pack a changed agent, memory, kernel start to the first action
    Image(image::ImageBench),
    /// How long a person waits for a list of many machines or workflows
    Lists(lists::ListBench),
    /// How many reports of agents a server takes, and how fast it answers
    Workflows(workflows::WorkflowBench),
}

/// Runs a bench and prints its tables.
///
/// Must be called from `farrier bench …` itself: the same command line is run again inside the namespaces.
///
/// # Errors
/// When something that is to be measured fails.
pub fn run(bench: Bench) -> anyhow::Result<ExitCode> {
    match bench {
        Bench::Boot(bench) => boot::run(bench),
        Bench::Image(bench) => image::run(bench),
        Bench::Lists(bench) => lists::run(&bench),
        Bench::Workflows(bench) => workflows::run(&bench),
    }
}
