//! Tests of the whole crate through its public interface.

// Clippy knows only functions marked `#[test]` as tests, not what they call.
#![allow(clippy::unwrap_used)]

mod client_timers;
mod dnsmasq;
mod giving_back;
mod hostile_packets;
mod no_entropy;
mod packets;
mod replies;
mod room;
mod simulated_network;
