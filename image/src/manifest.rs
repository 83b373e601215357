//! `manifest.json`: what is in a boot image directory, from what it was made, and under which licences.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub version: u32,
    /// Profile of the image, such as `lab`.
    pub profile: String,
    /// The suite that was asked for its packages; empty in what Farrier 0.1 wrote.
    #[serde(default)]
    pub suite: String,
    /// Release of the kernel, the name of its directory below `lib/modules`.
    pub kernel: String,
    /// Names of the kernel modules in the initramfs.
    pub modules: Vec<String>,
    /// Names of the firmware files in the initramfs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
    /// By module, firmware that it may ask for and that the image does not have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub firmware_left_out: BTreeMap<String, Vec<String>>,
    /// The files beside the manifest, sorted by name.
    pub files: Vec<ManifestFile>,
    /// What the files were made from.
    pub components: Vec<Component>,
}

/// One file of the boot image directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Name within the directory.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: String,
}

/// One piece of software that is in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Name: the Debian package's, or `farrier-agent`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SPDX licence expression.
    pub license: String,
    /// SHA-256 of the package or binary.
    pub sha256: String,
    /// The suite of Debian that has it, such as `trixie-security`; empty for what is no package.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suite: String,
    /// Path of the package below the mirror's URL.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The files beside the manifest that have something of it.
    #[serde(default)]
    pub files: Vec<String>,
    /// Names of the firmware files that are from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
}

impl Manifest {
    /// Returns the size of the file called `name`, or 0 if there is none.
    pub fn bytes_of(&self, name: &str) -> u64 {
        self.files
            .iter()
            .find(|file| file.name == name)
            .map_or(0, |file| file.bytes)
    }
}

/// Version of the manifest's format.
pub(crate) const FORMAT: u32 = 1;

/// Returns the licence of a package that images are made from.
///
/// Source: `debian/copyright` of each package.
pub(crate) fn license_of(package: &str) -> &'static str {
    match package {
        "farrier-agent" => "Apache-2.0",
        "ipxe" => "GPL-2.0-or-later",
        name if name.starts_with("grub-") => "GPL-3.0-or-later",
        name if name.starts_with("linux-") => "GPL-2.0-only WITH Linux-syscall-note",
        _ => "NOASSERTION",
    }
}
