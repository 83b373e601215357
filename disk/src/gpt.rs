//! GUID partition tables: read with bounds, fitted to a disk, a partition grown, made anew.
//!
//! Source: UEFI specification 2.10, section 5 (GPT disk layout).

mod encode;
mod fit;
mod parse;
mod restore;

pub use encode::{Encoded, Ids, encode};
pub use fit::{Backup, Fitted, GptError, Grow, Grown, fit};
pub(crate) use parse::crc32;
pub use parse::{BadTable, Entry, Table, damage, find, has_signature, parse};
pub use restore::restore;
