//! The kernel of an image and its modules: out of Debian's packages, or one's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{Archive, Package};
use crate::boot_image::{BuildError, INITRAMFS, KERNEL, Options};
use crate::checksum::sha256_of_bytes;
use crate::deb;
use crate::files::{self, About};
use crate::modules::{ModuleTree, without_compression};
use crate::progress::Report;
use crate::scratch::Scratch;
use crate::sources::Sources;

/// A kernel that does not come from a package.
#[derive(Debug, Clone)]
pub struct OwnKernel {
    /// The `vmlinuz`.
    pub image: PathBuf,
    /// Its `lib/modules/<version>`; the last part of the path is taken as the version.
    pub modules: PathBuf,
}

impl OwnKernel {
    fn version(&self) -> String {
        let name = self.modules.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Looks whether the modules are those of the kernel, before anything is fetched.
    ///
    /// # Errors
    /// [`BuildError::OtherModules`], and what cannot be read.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        match release_of(&files::read(&self.image)?) {
            Some(kernel) if kernel != self.version() => Err(BuildError::OtherModules {
                image: self.image.clone(),
                directory: self.modules.clone(),
                kernel,
                modules: self.version(),
            }),
            _ => Ok(()),
        }
    }
}

pub(crate) struct Kernel {
    pub(crate) version: String,
    pub(crate) image: Vec<u8>,
    pub(crate) modules: ModuleTree,
    /// By path below `lib/modules/<version>`, without compression: the component that a module is from. Empty: all are from `linux`.
    pub(crate) modules_from: BTreeMap<String, String>,
    /// Where the modules were unpacked to, until the image is built.
    _unpacked: Option<Scratch>,
}

impl Kernel {
    /// Fetches the kernel and its modules, or reads one's own.
    ///
    /// # Errors
    /// [`BuildError`] for what is not to be had, and for modules of another kernel.
    pub(crate) fn fetch(
        options: &Options,
        archive: &mut Archive,
        sources: &mut Sources,
        report: &mut Report<'_>,
    ) -> Result<Self, BuildError> {
        if let Some(own) = &options.kernel {
            return Self::own(own, sources);
        }
        let asked = options.kernel_package();
        let temporary = std::env::temp_dir();
        let unpacked = Scratch::make("farrier-kernel-", &temporary).about("create directory", &temporary)?;
        let mut from = BTreeMap::new();
        let package = archive.package(asked, report)?;
        let exactly = is_exact(asked);
        let mut seen = Vec::new();
        let mut open = vec![package];
        while let Some(package) = open.pop() {
            from.extend(unpack(&package, &unpacked, sources)?);
            for name in parts_of(&package, exactly) {
                if !seen.contains(&name) {
                    seen.push(name.clone());
                    open.push(archive.package(&name, report)?);
                }
            }
        }
        let missing = |what| BuildError::NoKernel {
            package: asked.to_string(),
            what,
        };
        let root = unpacked.path();
        let modules = MODULE_DIRECTORIES
            .iter()
            .find_map(|directory| only_entry(&root.join(directory)))
            .ok_or_else(|| missing("lib/modules"))?;
        let beside = Some(modules.join(KERNEL)).filter(|image| image.is_file());
        let image = only_entry(&root.join("boot"))
            .or(beside)
            .ok_or_else(|| missing("vmlinuz"))?;
        Ok(Kernel {
            version: modules
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            image: files::read(&image)?,
            modules: ModuleTree::read(&modules)?,
            modules_from: from,
            _unpacked: Some(unpacked),
        })
    }

    fn own(own: &OwnKernel, sources: &mut Sources) -> Result<Self, BuildError> {
        let version = own.version();
        let image = files::read(&own.image)?;
        let modules = ModuleTree::read(&own.modules)?;
        sources.other("linux", &version, sha256_of_bytes(&image), &[KERNEL, INITRAMFS]);
        Ok(Kernel {
            version,
            image,
            modules,
            modules_from: BTreeMap::new(),
            _unpacked: None,
        })
    }
}

/// Whether a package was asked for in one version: then its parts are of the versions that it names, otherwise the newest.
pub(crate) fn is_exact(asked: &str) -> bool {
    asked.contains('=')
}

/// The packages that a package of a kernel leads to, and that have the kernel or a part of it. Newer kernels come in parts.
pub(crate) fn parts_of(package: &Package, exactly: bool) -> Vec<String> {
    // What an older version put into the cache has the first alone.
    let first = package
        .first_dependency
        .iter()
        .filter(|_| package.dependencies.is_empty());
    let names = first
        .chain(&package.dependencies)
        .map(|dependency| match dependency.split_once('=') {
            Some((name, _)) if !exactly => name,
            _ => dependency,
        });
    let is_part = |name: &&str| {
        KERNEL_PARTS.iter().any(|part| {
            let rest = name.strip_prefix(part);
            rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        })
    };
    names.filter(is_part).map(str::to_owned).collect()
}

/// Unpacks the kernel and its modules. Returns which modules there are, each with the package's name.
fn unpack(
    package: &Package,
    into: &Scratch,
    sources: &mut Sources,
) -> Result<Vec<(String, String)>, BuildError> {
    let wanted = |path: &str| is_kernel(path) || below_modules(path).is_some();
    let unpacked = deb::unpack(&package.file, into.path(), wanted)?;
    let has_kernel = unpacked.iter().any(|path| is_kernel(path));
    let has_modules = unpacked.iter().any(|path| !is_kernel(path));
    let files = [(KERNEL, has_kernel), (INITRAMFS, has_modules)];
    let files: Vec<&str> = files
        .into_iter()
        .filter_map(|(file, has)| has.then_some(file))
        .collect();
    if !files.is_empty() {
        sources.package(package, into.path(), &files, Vec::new());
    }
    let modules = unpacked.iter().filter_map(|path| {
        let module = without_compression(below_modules(path)?);
        Some((module.to_owned(), package.name.clone()))
    });
    Ok(modules.collect())
}

/// Whether a path of a package is the kernel: Debian has it beside its modules since 7.3, and in `/boot` before.
fn is_kernel(path: &str) -> bool {
    path.starts_with("boot/vmlinuz-") || below_modules(path) == Some(KERNEL)
}

/// The path below `lib/modules/<version>`.
fn below_modules(path: &str) -> Option<&str> {
    let rest = MODULE_DIRECTORIES
        .iter()
        .find_map(|directory| path.strip_prefix(directory)?.strip_prefix('/'))?;
    Some(rest.split_once('/')?.1)
}

/// The release that a bzImage says it is.
///
/// Source: Linux `Documentation/arch/x86/boot.rst`, `kernel_version`.
fn release_of(image: &[u8]) -> Option<String> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let at = u16::from_le_bytes(image.get(0x20e..0x210)?.try_into().ok()?);
    let text = image.get(usize::from(at) + 0x200..)?;
    let text = text.split(|byte| *byte == 0 || *byte == b' ').next()?;
    let release = std::str::from_utf8(text).ok()?;
    (at != 0 && !release.is_empty()).then(|| release.to_string())
}

fn only_entry(directory: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(directory).ok()?.flatten();
    let entry = entries.next()?;
    entries.next().is_none().then(|| entry.path())
}

/// What a meta package of a kernel leads to. Since 7.3 the lists of what is built in are in a package of their own, the last.
const KERNEL_PARTS: [&str; 4] = ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"];
/// Debian 12 has the first, Debian 13 the second.
const MODULE_DIRECTORIES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_its_release() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x30f].copy_from_slice(b"6.12.1-amd64 (x");
        assert_eq!(release_of(&image).as_deref(), Some("6.12.1-amd64"));
        assert_eq!(release_of(b"text"), None);
        image[0x20e..0x210].copy_from_slice(&0xffff_u16.to_le_bytes());
        assert_eq!(release_of(&image), None);
    }

    /// As Debian 12, Debian 13 and the 7.3 of its backports have them.
    #[test]
    fn a_kernel_and_its_modules_are_known_by_their_places() {
        for (path, kernel, below) in [
            ("boot/vmlinuz-6.1.0-1-amd64", true, None),
            ("boot/config-6.1.0-1-amd64", false, None),
            ("lib/modules/6.1.0-1/kernel/a.ko", false, Some("kernel/a.ko")),
            (
                "usr/lib/modules/6.12/modules.builtin",
                false,
                Some("modules.builtin"),
            ),
            ("usr/lib/modules/7.3.4/vmlinuz", true, Some("vmlinuz")),
            (
                "usr/lib/modules/7.3.4/kernel/vmlinuz",
                false,
                Some("kernel/vmlinuz"),
            ),
            ("usr/lib/modules.d/7.3.4/vmlinuz", false, None),
        ] {
            assert_eq!((is_kernel(path), below_modules(path)), (kernel, below), "{path}");
        }
    }

    /// The dependencies are those of Debian's packages.
    #[test]
    fn a_kernel_that_comes_in_parts_leads_to_each_of_them() {
        let package = |dependencies: &[&str]| Package {
            name: "linux-image".into(),
            version: "1".into(),
            first_dependency: None,
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            suite: "trixie-backports".into(),
            path: String::new(),
            bytes: 0,
            sha256: String::new(),
            file: PathBuf::new(),
        };
        let meta = package(&[
            "linux-base-cloud-amd64=7.3.4-1",
            "linux-image-7.3.4+deb13-cloud-amd64=7.3.4-1",
        ]);
        assert_eq!(parts_of(&meta, false), ["linux-image-7.3.4+deb13-cloud-amd64"]);
        assert_eq!(
            parts_of(&meta, true),
            ["linux-image-7.3.4+deb13-cloud-amd64=7.3.4-1"]
        );
        let image = package(&[
            "dracut",
            "linux-base-7.3.4=1",
            "linux-binary-7.3.4=1",
            "linux-modules-7.3.4=1",
        ]);
        assert_eq!(
            parts_of(&image, false),
            ["linux-base-7.3.4", "linux-binary-7.3.4", "linux-modules-7.3.4"]
        );
        let of_debian_12 = package(&["kmod", "linux-base", "initramfs-tools"]);
        assert_eq!(parts_of(&of_debian_12, false), [""; 0]);
    }
}
