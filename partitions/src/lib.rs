//! Partition tables, filesystems, arrays, volume groups, encryption, erasure, seeds and boot entries as templates declare them: read with every problem named;
//! tables are planned for a disk of a given size.
//!
//! The server reads a [`Layout`] to refuse what no disk can have, before anything runs. The agent reads it again and
//! makes a [`Plan`] of it. Pure: opens no file, and no text makes it panic.
#![forbid(unsafe_code)]

mod array;
mod boot_entry;
mod erasure;
mod filesystem;
mod growth;
mod guid;
mod kind;
mod layout;
mod luks;
mod options;
mod plan;
mod seed;
mod size;
mod volumes;

pub use array::{Array, ArrayFields, Level, MAX_DEVICES, Metadata};
pub use boot_entry::{BootEntry, BootEntryFields, BootOrder};
pub use erasure::{Erasure, MAX_SAMPLES, Method, SAMPLES, Standard};
pub use filesystem::{FieldProblem, Filesystem, FsId, FsType};
pub use growth::{MAX_PARTITION_NUMBER, partition_number};
pub use guid::{BadGuid, Guid};
pub use kind::{Kind, Named, TYPES};
pub use layout::{
    Attribute, Declared, Layout, MAX_NAME_UNITS, MAX_PARTITIONS_GPT, MAX_PARTITIONS_MBR, MAX_TEXT_BYTES,
    Problem, Scheme,
};
pub use luks::Luks;
pub use options::MAX_OPTIONS_BYTES;
pub use plan::{ALIGN_BYTES, GPT_ENTRIES_BYTES, MBR_END_BYTES, Plan, PlanError, Planned};
pub use seed::{Datasource, Form, MAX_SEED_TEXT_BYTES, Seed, SeedFields};
pub use size::{BadSize, Size, shown};
pub use volumes::{MAX_VOLUMES, Volume, VolumeGroup, VolumeGroupFields};
