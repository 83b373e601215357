//! Builds what is netbooted: the boot image directory (kernel, initramfs, boot loaders, manifest), and the
//! Debian disk image that the lab installs.
//!
//! Nothing here needs root, a mount or a loop device, except that [`debian_disk`] runs `mmdebstrap`, which wants
//! root or user namespaces. Two builds of the same inputs give the same bytes. Everything blocks; callers that
//! are asynchronous run it on a thread of its own.
//!
//! Packages come from a suite of Debian's through a private apt root ([`apt`]), so that the release of the host does
//! not matter, and are unpacked here ([`deb`]), never installed.

pub mod apt;
mod archives;
mod boot_dir;
mod boot_image;
mod cards;
mod checksum;
mod command;
pub mod cpio;
pub mod deb;
pub mod debian_disk;
mod diff;
mod division;
pub mod elf;
mod files;
mod firmware;
pub mod grub;
mod initramfs;
mod inputs;
mod inspect;
mod kernel;
mod manifest;
pub mod modules;
mod newc;
pub mod packages;
mod plan;
mod profile;
mod progress;
mod scratch;
mod sources;
mod spdx;
mod tools;
mod verify;

pub use boot_dir::{BootDirError, Others};
pub use boot_image::{BuildError, Options, build};
pub use cards::CardError;
pub use checksum::{sha256_of_bytes, sha256_of_file};
pub use command::CommandError;
pub use diff::{DiffError, Difference, diff};
pub use drivers::{NoPciId, PciId};
pub use files::FileError;
pub use firmware::{Firmware, FirmwareError, UnknownFirmware};
pub use inspect::{Carried, Driver, InspectError};
pub use kernel::OwnKernel;
pub use manifest::{Component, ContentFile, FamilyBytes, Inputs, Manifest, ManifestError, ManifestFile};
pub use profile::{Profile, Profiles, ProfilesError};
pub use progress::{Progress, Report};
pub use scratch::remove_scratch;
pub use tools::ToolError;
pub use verify::{Fault, Verified, VerifyError, contents, verify};
