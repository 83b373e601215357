//! Boot entries of UEFI firmware: read, planned, and written as variables.
//!
//! [`device_path`] and [`load_option`] are the formats, [`entries`] says what is to be written, all three pure; [`variables`] is the folder
//! that the kernel shows them in, [`loader`] the place on a disk that an entry names.
//! Source: UEFI specification 2.10, sections 3.1, 3.3 and 10.3; Documentation/filesystems/efivarfs.rst.

pub mod device_path;
pub mod entries;
pub mod load_option;
pub mod loader;
pub mod variables;

pub use partitions::{BootEntry, BootEntryFields, BootOrder};
