//! DHCPv4 (RFC 2131, RFC 2132): a codec that survives hostile packets, and the pure cores of a server and a client.
//!
//! Nothing here opens a socket, reads a clock or waits: cores take `(now, event)` and return actions. Sockets belong to
//! `boots` (server) and the agent (client). The codec stands on dhcproto and checks what dhcproto trusts.
//!
//! * [`codec`]: bytes ↔ [`Packet`]
//! * [`server`]: who is asking ([`server::classify`]), what it is told and where that is sent ([`server::reply`])
//! * [`client`]: the agent's DHCP client
//! * [`frame`]: IPv4 and UDP headers for packet sockets, where one end has no address yet

#![forbid(unsafe_code)]

pub mod client;
pub mod codec;
pub mod frame;
pub mod options;
mod packet;
pub mod server;

pub use codec::{DecodeError, EncodeError, decode, encode};
pub use packet::{MessageType, Op, Packet};

/// The port that servers and relays listen on (RFC 2131 section 4.1).
pub const SERVER_PORT: u16 = 67;

/// The port that clients listen on (RFC 2131 section 4.1).
pub const CLIENT_PORT: u16 = 68;
