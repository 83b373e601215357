//! Partition tables, filesystems and erasure as templates declare them: read with every problem named; tables are planned for a disk of a given
//! size.
//!
//! The server reads a [`Layout`] to refuse what no disk can have, before anything runs. The agent reads it again and
//! makes a [`Plan`] of it. Pure: opens no file, and no text makes it panic.
#![forbid(unsafe_code)]

mod erasure;
mod filesystem;
mod guid;
mod kind;
mod layout;
mod plan;
mod size;

pub use erasure::{Erasure, MAX_SAMPLES, Method, SAMPLES, Standard};
pub use filesystem::{FieldProblem, Filesystem, FsId, FsType, MAX_OPTIONS_BYTES};
pub use guid::{BadGuid, Guid};
pub use kind::{Kind, Named, TYPES};
pub use layout::{
    Attribute, Declared, Layout, MAX_NAME_UNITS, MAX_PARTITIONS_GPT, MAX_PARTITIONS_MBR, MAX_TEXT_BYTES,
    Problem, Scheme,
};
pub use plan::{ALIGN_BYTES, GPT_ENTRIES_BYTES, MBR_END_BYTES, Plan, PlanError, Planned};
pub use size::{BadSize, Size, shown};
