//! Builds the boot image directory: kernel, initramfs, boot loaders and manifest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::{AptError, Archive, Package};
use crate::boot_dir::{BootDirError, MANIFEST, Others, Place};
use crate::checksum::sha256_of_bytes;
use crate::deb::{self, DebError};
use crate::files::{self, About, FileError};
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
    /// A package could not be unpacked.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
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

    let mut archive = Archive::open(options.mirror.as_deref(), &options.cache, options.refresh)?;
    let agent = files::read(&options.agent)?;
    let mut components = vec![Component {
        name: "farrier-agent".to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        license: license_of("farrier-agent").to_string(),
        sha256: sha256_of_bytes(&agent),
    }];
    let kernel = step(report, "kernel", None, |report| {
        kernel(options, &mut archive, &mut components, report)
    })?;
    files::write(&fresh.path().join("vmlinuz"), &kernel.image)?;
    let modules = initramfs(options, agent, &kernel, fresh.path(), report)?;
    step(report, "boot loaders", None, |report| {
        boot_loaders(&mut archive, fresh.path(), &mut components, report)
    })?;

    let manifest = Manifest {
        version: FORMAT,
        profile: options.profile.to_string(),
        kernel: kernel.version,
        modules,
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
        components.push(Component {
            name: "linux".to_string(),
            version: version.clone(),
            license: license_of("linux-").to_string(),
            sha256: sha256_of_bytes(&image),
        });
        return Ok(Kernel {
            version,
            image,
            modules: ModuleTree::read(&own.modules)?,
            _unpacked: None,
        });
    }
    let meta = archive.package(options.profile.kernel_package(), report)?;
    let missing = |package: &Package, what| BuildError::NoKernel {
        package: package.name.clone(),
        what,
    };
    let name = meta
        .first_dependency
        .clone()
        .ok_or_else(|| missing(&meta, "kernel among its dependencies"))?;
    let package = archive.package(&name, report)?;
    components.push(component(&package));

    let temporary = std::env::temp_dir();
    let unpacked = Scratch::make("farrier-kernel-", &temporary).about("create directory", &temporary)?;
    let wanted = |path: &str| path.starts_with("boot/vmlinuz-") || path.starts_with("lib/modules/");
    deb::unpack(&package.file, unpacked.path(), wanted)?;
    let image = only_entry(&unpacked.path().join("boot")).ok_or_else(|| missing(&package, "boot/vmlinuz"))?;
    let modules =
        only_entry(&unpacked.path().join("lib/modules")).ok_or_else(|| missing(&package, "lib/modules"))?;
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

/// Writes the initramfs and returns the names of the modules in it.
fn initramfs(
    options: &Options,
    agent: Vec<u8>,
    kernel: &Kernel,
    into: &Path,
    report: &mut Report<'_>,
) -> Result<Vec<String>, BuildError> {
    let profile = options.profile;
    let modules = kernel
        .modules
        .select(profile.required_modules(), profile.optional_modules())?;
    let mut tree = initramfs::tree(agent, &kernel.version, &modules)?;
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
    files::write(&into.join("initramfs.img"), compressed)?;
    Ok(modules.iter().map(|(name, _)| name.to_string()).collect())
}

fn boot_loaders(
    archive: &mut Archive,
    into: &Path,
    components: &mut Vec<Component>,
    report: &mut Report<'_>,
) -> Result<(), BuildError> {
    let ipxe = archive.package("ipxe", report)?;
    for name in ["snponly.efi", "undionly.kpxe"] {
        files::write(
            &into.join(name),
            deb::read_file(&ipxe.file, &format!("usr/lib/ipxe/{name}"))?,
        )?;
    }
    components.push(component(&ipxe));
    let grub = Grub::fetch(archive, report)?;
    files::write(&into.join("local-boot.efi"), grub::local_boot(&grub)?)?;
    components.extend(
        grub.packages
            .iter()
            .filter(|package| package.name.contains("efi"))
            .map(component),
    );
    Ok(())
}

fn component(package: &Package) -> Component {
    Component {
        name: package.name.clone(),
        version: package.version.clone(),
        license: license_of(&package.name).to_string(),
        sha256: package.sha256.clone(),
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
