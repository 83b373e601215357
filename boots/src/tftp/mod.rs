//! TFTP: boot loaders and per-machine scripts, for reading only.
//!
//! [`transfer`] is the engine, pure; [`service`] owns sockets and clock. What a name means is decided by [`name`], from a
//! fixed list: no name ever becomes a path.
//!
//! Source: RFC 1350, 2347, 2348, 2349, 7440; RFC 1123 section 4.2.3.

pub mod name;
pub mod packet;
pub(crate) mod sender;
pub(crate) mod service;
pub mod terms;
pub mod transfer;
