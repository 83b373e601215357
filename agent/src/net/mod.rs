//! The machine's network: the NIC that booted, and only that one.

pub mod nic;
