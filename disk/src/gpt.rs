//! GUID partition tables: read with bounds, moved to a disk's real end, a partition grown.
//!
//! Source: UEFI specification 2.10, section 5 (GPT disk layout).

mod fit;
mod parse;

pub use fit::{Fitted, GptError, Grow, Grown, fit, read_table};
pub use parse::{Entry, Table, find, parse};
