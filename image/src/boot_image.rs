//! Builds the boot image directory: kernel, initramfs, boot loaders and manifest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{AptError, Archive, Package, Suite};
use crate::boot_dir::{BootDirError, MANIFEST, Others, Place};
use crate::cards::{self, CardError};
use crate::checksum::sha256_of_bytes;
use crate::deb::{self, DebError};
use crate::files::{self, About, FileError};
use crate::firmware::{Firmware, FirmwareError, Found};
use crate::grub::{self, Grub, GrubError};
use crate::initramfs::{self, InitramfsError};
use crate::manifest::{Component, FORMAT, Manifest, ManifestFile, license_of};
use crate::modules::{ModuleError, ModuleTree};
use crate::profile::Profile;
use crate::progress::{Progress, Report, step};
use crate::scratch::Scratch;

/// What to build, from what, and where to.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agent: a static binary for x86-64 Linux, which becomes `/init`.
    pub agent: PathBuf,
    /// The boot image directory to write; an older one there is replaced as a whole.
    pub output: PathBuf,
    /// What becomes of files in that directory that no build made.
    pub others: Others,
    /// Where fetched packages are kept.
    pub cache: PathBuf,
    /// Which kernel and drivers.
    pub profile: Profile,
    /// Which firmware is taken along; `None` for what the profile says.
    pub firmware: Option<Firmware>,
    /// The suite of Debian that kernel, firmware and boot loaders come from.
    pub suite: Suite,
    /// Another kernel package than the profile's: a name, or `name=version`.
    pub kernel_package: Option<String>,
    /// The Debian mirror, as [`crate::apt::Mirror::parse`] reads it; `None` for the host's own or the public one.
    pub mirror: Option<String>,
    /// Whether to look for newer packages although the cache has some.
    pub refresh: bool,
    /// PEM files with certificate authorities of the site's own, for images that come over https.
    pub ca_files: Vec<PathBuf>,
    /// Another kernel than Debian's, with its `lib/modules/<version>` directory.
    pub kernel: Option<OwnKernel>,
}

/// A kernel that does not come from a package.
#[derive(Debug, Clone)]
pub struct OwnKernel {
    /// The `vmlinuz`.
    pub image: PathBuf,
    /// Its `lib/modules/<version>`; the last part of the path is taken as the version.
    pub modules: PathBuf,
}

/// Why the boot image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Packages could not be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// The boot image directory holds what is not to be deleted, or could not be replaced.
    #[error(transparent)]
    BootDir(#[from] BootDirError),
    /// A card that the profile promises would not be served.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A package could not be unpacked.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Firmware could not be taken along.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// The loader for local boot could not be made.
    #[error(transparent)]
    Grub(#[from] GrubError),
    /// The initramfs could not be made.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// The kernel's modules could not be read.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// A file that should hold certificates does not.
    #[error("{} holds no certificate: it must be PEM (-----BEGIN CERTIFICATE-----)", .path.display())]
    NoCertificate { path: PathBuf },
    /// The modules are those of another kernel.
    #[error(
        "{} is Linux {kernel}, and {} are the modules of {modules}: name the lib/modules/{kernel} that was built with this kernel",
        image.display(),
        directory.display()
    )]
    OtherModules {
        image: PathBuf,
        directory: PathBuf,
        kernel: String,
        modules: String,
    },
    /// The kernel package is not made as expected.
    #[error("the package {package} has no {what}")]
    NoKernel { package: String, what: &'static str },
}

/// Builds the boot image and returns its manifest.
///
/// The directory appears complete or not at all. Blocks for some seconds, a minute if packages are fetched.
///
/// # Errors
/// [`BuildError`], saying what is missing and how to get it.
pub fn build(options: &Options, report: &mut Report<'_>) -> Result<Manifest, BuildError> {
    let place = Place::find(&options.output, options.others, report)?;
    let fresh = place.beside()?;

    let mut archive = Archive::open(
        options.mirror.as_deref(),
        options.suite.clone(),
        &options.cache,
        options.refresh,
    )?;
    let agent = files::read(&options.agent)?;
    let mut components = vec![Component {
        name: "farrier-agent".to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        license: license_of("farrier-agent").to_string(),
        sha256: sha256_of_bytes(&agent),
        suite: String::new(),
        path: String::new(),
        files: vec![INITRAMFS.to_string()],
        firmware: Vec::new(),
    }];
    let kernel = step(report, "kernel", None, |report| {
        kernel(options, &mut archive, &mut components, report)
    })?;
    files::write(&fresh.path().join(KERNEL), &kernel.image)?;
    let content = initramfs(options, agent, &kernel, &mut archive, fresh.path(), report)?;
    let firmware = content.firmware.packages.into_iter();
    components.extend(firmware.map(|(package, firmware)| Component {
        firmware,
        ..component(&package, &[INITRAMFS])
    }));
    step(report, "boot loaders", None, |report| {
        boot_loaders(&mut archive, fresh.path(), &mut components, report)
    })?;

    let manifest = Manifest {
        version: FORMAT,
        profile: options.profile.to_string(),
        suite: options.suite.to_string(),
        kernel: kernel.version,
        modules: content.modules,
        firmware: content.firmware.files.into_keys().collect(),
        firmware_left_out: content.firmware.left_out,
        files: files_of(fresh.path())?,
        components,
    };
    let mut text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    text.push(b'\n');
    files::write(&fresh.path().join(MANIFEST), text)?;
    place.take(fresh)?;
    Ok(manifest)
}

struct Kernel {
    version: String,
    image: Vec<u8>,
    modules: ModuleTree,
    /// Where the modules were unpacked to, until the image is built.
    _unpacked: Option<Scratch>,
}

fn kernel(
    options: &Options,
    archive: &mut Archive,
    components: &mut Vec<Component>,
    report: &mut Report<'_>,
) -> Result<Kernel, BuildError> {
    if let Some(own) = &options.kernel {
        let version = own
            .modules
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let image = files::read(&own.image)?;
        let modules = ModuleTree::read(&own.modules)?;
        if let Some(kernel) = release_of(&image)
            && kernel != version
        {
            return Err(BuildError::OtherModules {
                image: own.image.clone(),
                directory: own.modules.clone(),
                kernel,
                modules: version,
            });
        }
        components.push(Component {
            name: "linux".to_string(),
            version: version.clone(),
            license: license_of("linux-").to_string(),
            sha256: sha256_of_bytes(&image),
            suite: String::new(),
            path: String::new(),
            files: [KERNEL, INITRAMFS].map(str::to_string).to_vec(),
            firmware: Vec::new(),
        });
        return Ok(Kernel {
            version,
            image,
            modules,
            _unpacked: None,
        });
    }
    let asked = options.kernel_package.as_deref();
    let package = archive.package(asked.unwrap_or(options.profile.kernel_package()), report)?;
    let temporary = std::env::temp_dir();
    let unpacked = Scratch::make("farrier-kernel-", &temporary).about("create directory", &temporary)?;
    let exactly = asked.is_some_and(|name| name.contains('='));
    unpack_kernel(package, exactly, &unpacked, archive, components, report)?;
    let missing = |what| BuildError::NoKernel {
        package: asked.unwrap_or(options.profile.kernel_package()).to_string(),
        what,
    };
    let root = unpacked.path();
    let image = only_entry(&root.join("boot")).ok_or_else(|| missing("boot/vmlinuz"))?;
    let modules = MODULE_DIRECTORIES
        .iter()
        .find_map(|directory| only_entry(&root.join(directory)))
        .ok_or_else(|| missing("lib/modules"))?;
    Ok(Kernel {
        version: modules
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        image: files::read(&image)?,
        modules: ModuleTree::read(&modules)?,
        _unpacked: Some(unpacked),
    })
}

/// Unpacks the kernel and its modules: of the package itself, or of those that it depends on. Newer kernels come in parts.
/// With `exactly` those are of the version that it names, otherwise the newest.
fn unpack_kernel(
    package: Package,
    exactly: bool,
    into: &Scratch,
    archive: &mut Archive,
    components: &mut Vec<Component>,
    report: &mut Report<'_>,
) -> Result<(), BuildError> {
    let wanted = |path: &str| {
        path.starts_with("boot/vmlinuz-")
            || MODULE_DIRECTORIES.iter().any(|directory| {
                path.strip_prefix(directory)
                    .is_some_and(|rest| rest.starts_with('/'))
            })
    };
    let mut seen = Vec::new();
    let mut open = vec![package];
    while let Some(package) = open.pop() {
        let unpacked = deb::unpack(&package.file, into.path(), wanted)?;
        if !unpacked.is_empty() {
            let has_modules = unpacked.iter().any(|path| !path.starts_with("boot/"));
            let has_kernel = unpacked.iter().any(|path| path.starts_with("boot/"));
            let files = [(KERNEL, has_kernel), (INITRAMFS, has_modules)];
            let files = files.into_iter().filter_map(|(file, has)| has.then_some(file));
            components.push(component(&package, &files.collect::<Vec<_>>()));
        }
        // What an older version put into the cache has the first alone.
        let first = package
            .first_dependency
            .iter()
            .filter(|_| package.dependencies.is_empty());
        for dependency in first.chain(&package.dependencies) {
            let name = match dependency.split_once('=') {
                Some((name, _)) if !exactly => name,
                _ => dependency,
            };
            let is_part = KERNEL_PARTS.iter().any(|part| {
                let rest = name.strip_prefix(part);
                rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            });
            if is_part && !seen.iter().any(|done| done == name) {
                seen.push(name.to_string());
                open.push(archive.package(name, report)?);
            }
        }
    }
    Ok(())
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

struct Content {
    /// Names of the modules.
    modules: Vec<String>,
    firmware: Found,
}

/// Writes the initramfs and returns what is in it.
fn initramfs(
    options: &Options,
    agent: Vec<u8>,
    kernel: &Kernel,
    archive: &mut Archive,
    into: &Path,
    report: &mut Report<'_>,
) -> Result<Content, BuildError> {
    let contents = options.profile.contents();
    let wanted = contents.wanted(&kernel.modules);
    if options.profile == Profile::Server && !wanted.unknown.is_empty() {
        let text = format!(
            "kernel {} has none of: {}",
            kernel.version,
            wanted.unknown.join(" ")
        );
        report(Progress::Noted { text: &text });
    }
    let modules = step(report, "modules", None, |_| {
        kernel.modules.select(&wanted.required, &wanted.optional)
    })?;
    let choice = options.firmware.unwrap_or(contents.firmware);
    let firmware = choice.fetch(&modules, archive, report)?;
    if options.profile == Profile::Server {
        let without = cards::check(&cards::list(), &kernel.version, &modules, choice, &firmware)?;
        let noted = [
            (
                without.firmware,
                format!("with --firmware {choice}, cards that load firmware may not work"),
                "--firmware non-free has it",
            ),
            (
                without.driver,
                format!("kernel {} has no driver for", kernel.version),
                "a newer one has (--suite, --kernel-package)",
            ),
        ];
        for (cards, what, cure) in noted.iter().filter(|(cards, ..)| !cards.is_empty()) {
            let ids: Vec<String> = cards.iter().map(ToString::to_string).collect();
            let text = format!("{what}: {}; {cure}", ids.join(" "));
            report(Progress::Noted { text: &text });
        }
    }
    let mut tree = initramfs::tree(agent, &kernel.version, &modules)?;
    for (name, content) in &firmware.files {
        initramfs::add_firmware(&mut tree, name, content.clone())?;
    }
    let mut authorities = Vec::new();
    for path in &options.ca_files {
        let pem = files::read(path)?;
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(BuildError::NoCertificate { path: path.clone() });
        }
        authorities.extend(pem);
        authorities.push(b'\n');
    }
    if !authorities.is_empty() {
        initramfs::add_authorities(&mut tree, authorities)?;
    }
    let compressed = step(report, "initramfs", Some(tree.len_bytes()), |report| {
        initramfs::compress(&tree, &mut |bytes| report(Progress::Advanced { bytes }))
    })?;
    files::write(&into.join(INITRAMFS), compressed)?;
    Ok(Content {
        modules: modules.iter().map(|(name, _)| name.to_string()).collect(),
        firmware,
    })
}

fn boot_loaders(
    archive: &mut Archive,
    into: &Path,
    components: &mut Vec<Component>,
    report: &mut Report<'_>,
) -> Result<(), BuildError> {
    let ipxe = archive.package("ipxe", report)?;
    for name in IPXE {
        files::write(
            &into.join(name),
            deb::read_file(&ipxe.file, &format!("usr/lib/ipxe/{name}"))?,
        )?;
    }
    components.push(component(&ipxe, &IPXE));
    let grub = Grub::fetch(archive, report)?;
    files::write(&into.join(LOCAL_BOOT), grub::local_boot(&grub)?)?;
    components.extend(
        grub.packages
            .iter()
            .filter(|package| package.name.contains("efi"))
            .map(|package| component(package, &[LOCAL_BOOT])),
    );
    Ok(())
}

fn component(package: &Package, files: &[&str]) -> Component {
    Component {
        name: package.name.clone(),
        version: package.version.clone(),
        license: license_of(&package.name).to_string(),
        sha256: package.sha256.clone(),
        suite: package.suite.clone(),
        path: package.path.clone(),
        files: files.iter().map(|file| (*file).to_string()).collect(),
        firmware: Vec::new(),
    }
}

fn only_entry(directory: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(directory).ok()?.flatten();
    let entry = entries.next()?;
    entries.next().is_none().then(|| entry.path())
}

fn files_of(directory: &Path) -> Result<Vec<ManifestFile>, FileError> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(directory).about("list", directory)? {
        let path = entry.about("list", directory)?.path();
        let content = files::read(&path)?;
        listed.push(ManifestFile {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            bytes: content.len() as u64,
            sha256: sha256_of_bytes(&content),
        });
    }
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(listed)
}

const KERNEL: &str = "vmlinuz";
const INITRAMFS: &str = "initramfs.img";
const IPXE: [&str; 2] = ["snponly.efi", "undionly.kpxe"];
const LOCAL_BOOT: &str = "local-boot.efi";
/// What a meta package of a kernel leads to.
const KERNEL_PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];
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
}
