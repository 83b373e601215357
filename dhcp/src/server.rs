//! The server's pure core: who is asking, what it is told, and where that is sent.
//!
//! [`classify()`] reads a packet; the caller looks the machine up and decides what it boots; [`reply()`] makes the answer.
//! No state: addresses come from reservations, so there is nothing to remember between packets.
//! Source: RFC 2131 section 4.3, RFC 4578, UEFI specification 2.10 section 24.

mod answer;
mod classify;
mod reply;

pub use answer::{Action, Answer, Destination, Holder, Lease, ServerFacts};
pub use classify::{AGENT_VENDOR_CLASS, Firmware, Request, Stage, classify};
pub use reply::reply;
