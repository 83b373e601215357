//! Netboot services: DHCP, TFTP, HTTP, iPXE and GRUB scripts, router advertisements.
//!
//! Asks an [`inventory::Inventory`] who a machine is and what it boots; tells a [`timeline::Timeline`] what happened.
//! Never knows the control plane.

pub mod inventory;
pub mod timeline;
