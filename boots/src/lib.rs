//! Netboot services: DHCP, TFTP, HTTP, iPXE scripts, router advertisements.
//!
//! Asks an [`inventory::Inventory`] who a machine is and what it boots; tells a [`timeline::Timeline`] what happened.
//! Never knows the control plane. [`Boots::start`] binds every socket and runs until its token is cancelled.

pub mod config;
pub mod inventory;
pub mod start;
pub mod timeline;

pub use config::{BootsConfig, StartError};
pub use start::{Boots, Running};
