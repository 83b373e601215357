//! Profiles: which kernel and which drivers a boot image carries.

use std::fmt;
use std::str::FromStr;

/// What kind of machine a boot image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Virtual machines: Debian's cloud kernel, virtio and NVMe, the common filesystems.
    #[default]
    Lab,
}

impl Profile {
    /// The Debian package whose first dependency is the kernel of this profile.
    pub fn kernel_package(self) -> &'static str {
        match self {
            Profile::Lab => "linux-image-cloud-amd64",
        }
    }

    /// Modules without which the image is of no use: a kernel that has them neither as module nor built in is refused.
    pub(crate) fn required_modules(self) -> &'static [&'static str] {
        match self {
            Profile::Lab => &["virtio_pci", "virtio_net", "virtio_blk", "ext4"],
        }
    }

    /// Modules that are taken along where the kernel has them.
    pub(crate) fn optional_modules(self) -> &'static [&'static str] {
        match self {
            Profile::Lab => LAB_OPTIONAL,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Profile::Lab => "lab",
        })
    }
}

/// The name is not that of a profile.
#[derive(Debug, thiserror::Error)]
#[error("there is no image profile {0:?}: the profiles are: lab")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        match name {
            "lab" => Ok(Profile::Lab),
            other => Err(UnknownProfile(other.to_string())),
        }
    }
}

const LAB_OPTIONAL: &[&str] = &[
    "virtio_mmio",
    "virtio_scsi",
    "virtio_rng",
    "virtio_console",
    "nvme",
    "sd_mod",
    "ahci",
    "e1000",
    "e1000e",
    "loop",
    "overlay",
    "xfs",
    "vfat",
    // What vfat asks for by default, and its usual alternatives; without a modprobe the kernel cannot ask for them.
    "nls_ascii",
    "nls_cp437",
    "nls_iso8859-1",
    "nls_utf8",
    "efivarfs",
    "af_packet",
    "8021q",
];
