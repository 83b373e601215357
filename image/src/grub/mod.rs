//! GRUB images: the UEFI loader that boots a machine from its own disk, and what makes a disk image bootable.
//!
//! `grub-mkimage` and the modules come from the same Debian release as everything else and are run from where
//! they were unpacked, with their own C library: the host's GRUB, whatever its version, is never used.

mod bios;
mod local_boot;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use bios::{BiosBoot, BiosError, install as install_bios};
pub use local_boot::local_boot;

use crate::apt::{AptError, Archive, Package};
use crate::command::{self, CommandError};
use crate::deb::{self, DebError};
use crate::files::{self, About, FileError};
use crate::progress::Report;

/// Why a GRUB image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GrubError {
    /// GRUB's packages could not be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// The core image and the disk do not go together.
    #[error(transparent)]
    Bios(#[from] BiosError),
    /// A package could not be unpacked.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// grub-mkimage refused.
    #[error("grub-mkimage could not make {what}")]
    Mkimage {
        what: String,
        #[source]
        source: CommandError,
    },
}

/// GRUB's tools and modules, unpacked into a temporary directory.
#[derive(Debug)]
pub struct Grub {
    directory: tempfile::TempDir,
    /// The packages whose code ends up in images.
    pub packages: Vec<Package>,
}

/// The platforms that images are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// PC BIOS; makes a `core.img`.
    Bios,
    /// 64-bit UEFI; makes an EFI application.
    Uefi,
}

/// What goes into one GRUB image.
#[derive(Debug)]
pub struct Image<'a> {
    pub platform: Platform,
    /// Where GRUB looks for its `grub.cfg`: a device and directory, such as `(memdisk)/boot/grub`.
    pub prefix: &'a str,
    /// A tar archive that is in the image, as the device `(memdisk)`.
    pub memdisk: Option<&'a [u8]>,
    pub modules: &'a [&'a str],
}

impl Grub {
    /// The packages that [`Grub::fetch`] fetches.
    pub(crate) fn package_names() -> impl Iterator<Item = &'static str> {
        MODULE_PACKAGES.into_iter().chain(TOOL_PACKAGES)
    }

    /// Where the packages are unpacked.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Fetches and unpacks what [`Grub::make`] needs.
    ///
    /// # Errors
    /// [`GrubError`] if a package is not to be had or damaged.
    pub fn fetch(archive: &mut Archive, report: &mut Report<'_>) -> Result<Self, GrubError> {
        let parent = std::env::temp_dir();
        let directory = tempfile::Builder::new()
            .prefix("farrier-grub-")
            .tempdir_in(&parent)
            .about("create directory", &parent)?;
        let mut grub = Self {
            directory,
            packages: Vec::new(),
        };
        for name in Self::package_names() {
            let package = archive.package(name, report)?;
            let wanted = |path: &str| {
                path == MKIMAGE
                    || path.starts_with("usr/lib/grub/")
                    || LIBRARIES.iter().any(|part| path.starts_with(part))
            };
            deb::unpack(&package.file, grub.directory.path(), wanted)?;
            if MODULE_PACKAGES.contains(&name) {
                grub.packages.push(package);
            }
        }
        Ok(grub)
    }

    /// Returns the bytes of an image.
    ///
    /// # Errors
    /// [`GrubError::Mkimage`], such as for a module that does not exist.
    pub fn make(&self, image: &Image<'_>) -> Result<Vec<u8>, GrubError> {
        let output = self.directory.path().join("image");
        let mut command = self.mkimage();
        command
            .arg("--format")
            .arg(image.platform.format())
            .arg("--directory")
            .arg(self.modules(image.platform));
        command
            .arg("--prefix")
            .arg(image.prefix)
            .arg("--output")
            .arg(&output);
        if let Some(content) = image.memdisk {
            let memdisk = self.directory.path().join("memdisk.tar");
            files::write(&memdisk, content)?;
            command.arg("--memdisk").arg(memdisk);
        }
        command.args(image.modules);
        let what = || {
            format!(
                "an image for {} with the modules {}",
                image.platform.format(),
                image.modules.join(" ")
            )
        };
        command::run(&mut command, "grub-common")
            .map_err(|source| GrubError::Mkimage { what: what(), source })?;
        Ok(files::read(&output)?)
    }

    /// Returns the first-stage boot sector for BIOS, before it is told where the rest is.
    ///
    /// # Errors
    /// [`GrubError::File`] if the package does not have it.
    pub fn boot_sector(&self) -> Result<Vec<u8>, GrubError> {
        Ok(files::read(&self.modules(Platform::Bios).join("boot.img"))?)
    }

    fn modules(&self, platform: Platform) -> PathBuf {
        self.directory.path().join("usr/lib/grub").join(platform.format())
    }

    /// The unpacked grub-mkimage, started by the unpacked dynamic loader with the unpacked libraries.
    fn mkimage(&self) -> Command {
        let root = self.directory.path();
        let libraries: Vec<String> = LIBRARIES
            .iter()
            .map(|part| root.join(part).display().to_string())
            .collect();
        let places = LIBRARIES
            .iter()
            .map(|directory| root.join(directory).join(LOADER));
        let loader = places.clone().find(|place| place.exists());
        let mut command = Command::new(loader.or_else(|| places.clone().next()).unwrap_or_default());
        command
            .arg("--library-path")
            .arg(libraries.join(":"))
            .arg(root.join(Path::new(MKIMAGE)));
        command
    }
}

impl Platform {
    fn format(self) -> &'static str {
        match self {
            Platform::Bios => "i386-pc",
            Platform::Uefi => "x86_64-efi",
        }
    }
}

const MODULE_PACKAGES: [&str; 2] = ["grub-efi-amd64-bin", "grub-pc-bin"];
/// grub-mkimage and the libraries that it is linked with.
const TOOL_PACKAGES: [&str; 7] = [
    "grub-common",
    "libc6",
    "libdevmapper1.02.1",
    "liblzma5",
    "libpcre2-8-0",
    "libselinux1",
    "libudev1",
];
const MKIMAGE: &str = "usr/bin/grub-mkimage";
const LOADER: &str = "ld-linux-x86-64.so.2";
/// Debian 12 has the loader in the first, Debian 13 everything in the second.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
