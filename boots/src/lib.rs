//! Netboot services: DHCP, TFTP, HTTP, iPXE scripts, router advertisements.
//!
//! Asks an [`inventory::Inventory`] who a machine is and what it boots; tells a [`timeline::Timeline`] what happened.
//! Never knows the control plane. [`Boots::start`] binds every socket and runs until its token is cancelled.

pub mod bootfile;
pub mod config;
mod context;
mod dhcp_service;
mod directories;
mod files;
pub mod http;
mod interface;
pub mod inventory;
pub mod leases;
pub mod overlays;
pub mod ra;
pub mod scripts;
pub mod sessions;
pub mod start;
pub mod tftp;
pub mod timeline;
mod udp;

pub use config::{BootsConfig, DhcpMode, StartError};
pub use start::{Boots, Running};
