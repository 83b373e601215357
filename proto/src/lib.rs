//! Wire contracts of Farrier, and nothing else.
//!
//! Generated at build time from `proto/farrier/v1/*.proto`; agent and server meet only here.

pub mod codec;
mod words;

/// Version 1 of Farrier's own API: [`agent_service`](v1::agent_service_server) for agents,
/// [`control_service`](v1::control_service_server) for the command line.
pub mod v1 {
    #![allow(missing_docs, clippy::all, unreachable_pub)]
    tonic::include_proto!("farrier.v1");
}

impl v1::report::Outcome {
    /// Whether the agent says that an attempt, which did not end well, changed no disk.
    pub fn left_disks_untouched(&self) -> bool {
        match self {
            Self::Failed(failed) => failed.disks_untouched,
            Self::TimedOut(late) => late.disks_untouched,
            Self::Stopped(stopped) => stopped.disks_untouched,
            _ => false,
        }
    }
}
