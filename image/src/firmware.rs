//! Firmware that modules ask for, out of Debian's packages. Where it is is a list, `profiles/firmware.list`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::apt::{AptError, Archive, Package};
use crate::boot_image::INITRAMFS;
use crate::deb::{self, DebError};
use crate::files::{self, About, FileError};
use crate::modules::Selection;
use crate::progress::{Progress, Report};
use crate::scratch::Scratch;
use crate::sources::{Sources, copyright_path};

/// Which firmware goes into an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// What Debian's `main` has.
    Free,
    /// No firmware.
    None,
    /// What `main` and `non-free-firmware` have.
    NonFree,
}

/// The name is not one of the choices.
#[derive(Debug, thiserror::Error)]
#[error("there is no firmware {0:?}: say none, free or non-free")]
pub struct UnknownFirmware(String);

impl FromStr for Firmware {
    type Err = UnknownFirmware;

    fn from_str(name: &str) -> Result<Self, UnknownFirmware> {
        match name {
            "free" => Ok(Self::Free),
            "none" => Ok(Self::None),
            "non-free" => Ok(Self::NonFree),
            other => Err(UnknownFirmware(other.to_string())),
        }
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Free => "free",
            Self::None => "none",
            Self::NonFree => "non-free",
        })
    }
}

/// Why firmware could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// A package could not be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A package could not be unpacked.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Firmware that was found for a set of modules.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Content by name below `/lib/firmware`.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// By module, what it may ask for and is not there.
    pub(crate) left_out: BTreeMap<String, Vec<String>>,
    /// By name, the package that a file is from.
    pub(crate) from: BTreeMap<String, String>,
}

impl Firmware {
    /// The packages that are looked into.
    pub(crate) fn packages(self) -> impl Iterator<Item = &'static str> {
        let lines = LIST.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(move |line| {
            let (kind, name) = line.split_once(':')?.0.split_once(' ')?;
            let taken = kind == "free" && self != Self::None || self == Self::NonFree;
            taken.then_some(name)
        })
    }

    /// Fetches the packages and finds what the modules name.
    ///
    /// # Errors
    /// [`FirmwareError`]; a package that the suite does not have is said and passed over.
    pub(crate) fn fetch(
        self,
        modules: &Selection<'_>,
        archive: &mut Archive,
        sources: &mut Sources,
        report: &mut Report<'_>,
    ) -> Result<Found, FirmwareError> {
        let mut unpacked = Vec::new();
        for name in self.packages() {
            let package = match archive.package(name, report) {
                Err(AptError::NoPackage { .. }) => {
                    let text = format!("{} has no package {name}", archive.suite());
                    report(Progress::Noted { text: &text });
                    continue;
                }
                package => package?,
            };
            let temporary = std::env::temp_dir();
            let into =
                Scratch::make("farrier-firmware-", &temporary).about("create directory", &temporary)?;
            let licence = copyright_path(&package.name);
            deb::unpack(&package.file, into.path(), |path| {
                path == licence || DIRECTORIES.iter().any(|directory| path.starts_with(directory))
            })?;
            unpacked.push((package, into));
        }
        let mut found = Found::default();
        let mut taken = BTreeMap::<usize, BTreeSet<String>>::new();
        for (module, asked) in asked_for(modules) {
            for name in asked {
                let places = unpacked.iter().enumerate();
                let place = places.filter_map(|(at, (_, root))| Some((at, file_of(root.path(), &name)?)));
                match place.take(1).next() {
                    Some((at, file)) => {
                        found.files.insert(name.clone(), files::read(&file)?);
                        taken.entry(at).or_default().insert(name);
                    }
                    None => found.left_out.entry(module.clone()).or_default().push(name),
                }
            }
        }
        for (at, names) in taken {
            if let Some((package, root)) = unpacked.get(at) {
                take(package, root.path(), names, &mut found, sources);
            }
        }
        Ok(found)
    }
}

/// Notes that these files are from this package.
fn take(package: &Package, root: &Path, names: BTreeSet<String>, found: &mut Found, sources: &mut Sources) {
    let from = names.iter().map(|name| (name.clone(), package.name.clone()));
    found.from.extend(from);
    sources.package(package, root, &[INITRAMFS], names.into_iter().collect());
}

fn asked_for(modules: &Selection<'_>) -> Vec<(String, Vec<String>)> {
    let asked = modules
        .iter()
        .filter(|(_, module)| !module.info.firmware.is_empty());
    asked
        .map(|(name, module)| (name.to_string(), module.info.firmware.clone()))
        .collect()
}

/// The file that the package has under a name of firmware: links are followed as long as they stay in the package.
fn file_of(root: &Path, name: &str) -> Option<PathBuf> {
    let root = root.canonicalize().ok()?;
    DIRECTORIES.iter().find_map(|directory| {
        let file = root.join(directory).join(name).canonicalize().ok()?;
        (file.starts_with(&root) && file.is_file()).then_some(file)
    })
}

pub(crate) const LIST: &str = include_str!("../profiles/firmware.list");
/// Debian 12 has the first, Debian 13 the second.
const DIRECTORIES: [&str; 2] = ["lib/firmware/", "usr/lib/firmware/"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_free_firmware_comes_only_when_asked_for() {
        assert_eq!(Firmware::None.packages().count(), 0);
        assert_eq!(
            Firmware::Free.packages().collect::<Vec<_>>(),
            ["firmware-linux-free"]
        );
        let all: Vec<&str> = Firmware::NonFree.packages().collect();
        assert!(
            all.contains(&"firmware-linux-free") && all.contains(&"firmware-bnx2x"),
            "{all:?}"
        );
        for line in LIST.lines().filter(|line| !line.starts_with('#')) {
            assert!(
                line.starts_with("free firmware-") || line.starts_with("non-free firmware-"),
                "{line}"
            );
            assert!(
                line.split_once(": ").is_some_and(|(_, reason)| reason.len() > 5),
                "{line}"
            );
        }
    }

    #[test]
    fn links_are_followed_within_the_package() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let directory = root.path().join("usr/lib/firmware/intel/ice/ddp");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("ice-1.3.pkg"), "package").unwrap();
        std::os::unix::fs::symlink("ice-1.3.pkg", directory.join("ice.pkg")).unwrap();
        std::os::unix::fs::symlink(outside.path(), directory.join("out.pkg")).unwrap();
        let file = file_of(root.path(), "intel/ice/ddp/ice.pkg").unwrap();
        assert_eq!(std::fs::read(file).unwrap(), b"package");
        for name in [
            "intel/ice/ddp/out.pkg",
            "intel/ice/none.pkg",
            "intel",
            "../../../../etc/passwd",
        ] {
            assert_eq!(file_of(root.path(), name), None, "{name}");
        }
    }
}
