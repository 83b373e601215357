//! GUID partition tables: read with bounds, fitted to a disk, a partition grown.
//!
//! Source: UEFI specification 2.10, section 5 (GPT disk layout).

mod fit;
mod parse;

pub use fit::{Backup, Fitted, GptError, Grow, Grown, fit};
pub use parse::{BadTable, Entry, Table, damage, find, has_signature, parse};
