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
