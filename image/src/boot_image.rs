//! Builds the boot image directory: kernel, initramfs, boot loaders and manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use drivers::{CATALOGUE_FILE, OVERLAYS_FILE};

use crate::apt::{AptError, Archive, Suite};
use crate::archives::{self, Parts};
use crate::boot_dir::{BootDirError, Others, Place};
use crate::cards::{self, CardError};
use crate::checksum::sha256_of_bytes;
use crate::deb::{self, DebError};
use crate::division::Division;
use crate::files::{self, About, FileError};
use crate::firmware::{Firmware, FirmwareError, Found};
use crate::grub::{self, Grub, GrubError};
use crate::initramfs::{self, InitramfsError, Packing};
use crate::inputs::{self, Own};
use crate::kernel::{Kernel, OwnKernel};
use crate::manifest::{
    Component, ContentFile, FORMAT, FamilyBytes, Inputs, MANIFEST, Manifest, ManifestFile,
};
use crate::modules::{ModuleError, Selection, without_packing};
use crate::plan;
use crate::profile::{AGENT, Profile, Profiles, Wanted};
use crate::progress::{Progress, Report, step};
use crate::scratch::Scratch;
use crate::sources::Sources;
use crate::spdx;
use crate::tools::{self, ToolError};

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
    /// Which kernel and drivers, and what beside them.
    pub profiles: Profiles,
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

impl Options {
    /// The firmware that is taken: what was asked for, or what the profile says.
    pub(crate) fn firmware(&self) -> Firmware {
        self.firmware
            .unwrap_or(self.profiles.machines.contents().firmware)
    }

    /// The package of the kernel: what was asked for, or the profile's.
    pub(crate) fn kernel_package(&self) -> &str {
        self.kernel_package
            .as_deref()
            .unwrap_or(self.profiles.machines.kernel_package())
    }
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
    /// The agent was compiled without what asks containerd.
    #[error(
        "the agent {} cannot ask containerd, which --profile containerd is for: it was built with --no-default-features; build it \
         without that and name it with --agent",
        .agent.display()
    )]
    NoClient { agent: PathBuf },
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
    /// The programs for actions could not be put together.
    #[error(transparent)]
    Tools(#[from] ToolError),
    /// The kernel package is not made as expected.
    #[error("the package {package} has no {what}")]
    NoKernel { package: String, what: &'static str },
}

/// Builds the boot image and returns its manifest.
///
/// The directory appears complete or not at all. What is there already is used: nothing is done when it was made of the same, and
/// with another agent the drivers are taken over as they are. Blocks for some seconds, a minute if packages are fetched.
///
/// # Errors
/// [`BuildError`], saying what is missing and how to get it.
pub fn build(options: &Options, report: &mut Report<'_>) -> Result<Manifest, BuildError> {
    let place = Place::find(&options.output, options.others, report)?;
    let mut archive = Archive::open(
        options.mirror.as_deref(),
        options.suite.clone(),
        &options.cache,
        options.refresh,
    )?;
    let own = Own::read(options)?;
    if options.profiles.containerd && !own.has_containerd_client() {
        return Err(BuildError::NoClient {
            agent: options.agent.clone(),
        });
    }
    let settings = inputs::settings(options)?;
    if let Some(own) = &options.kernel {
        own.check()?;
    }
    if let Some(former) = place.whole()
        && let Some(inputs) = &former.inputs
        && inputs.drivers_bytes < former.bytes_of(INITRAMFS)
        && inputs::are_still(inputs, &settings, &mut archive, report)?
    {
        let same = inputs.agent == own.agent_sha256() && inputs.authorities == own.authorities_sha256();
        if same && !place.has_others() {
            let text = format!("nothing has changed: {} stays as it is", place.path().display());
            report(Progress::Noted { text: &text });
            return Ok(former.clone());
        }
        let (former, inputs) = (former.clone(), inputs.clone());
        return repack(former, inputs, own, options.profiles, &place, report);
    }
    // Made before anything is fetched: a place where it can't be is told at once.
    let fresh = place.beside()?;
    plan::fetch_all(options, &mut archive, report)?;
    let mut sources = Sources::default();
    let kernel = step(report, "kernel", None, |report| {
        Kernel::fetch(options, &mut archive, &mut sources, report)
    })?;
    files::write(&fresh.path().join(KERNEL), &kernel.image)?;
    let wanted = options.profiles.machines.contents().wanted(&kernel.modules);
    let (modules, firmware) = drivers(options, &kernel, &wanted, &mut archive, &mut sources, report)?;
    let division = Division::of(&modules, &wanted);
    if options.profiles.machines == Profile::Server {
        check_cards(options, &kernel, &modules, &division, &firmware, report)?;
    }
    let mut programs = Vec::new();
    for wanted in tools::Wanted::of_lists(options.profiles.containerd) {
        programs.push(wanted.make(fresh.path(), &mut archive, &mut sources, report)?);
    }
    let mut sealed = programs.iter().map(|made| made.tools.clone());
    let component_of = |path: &str| component_of(path, &kernel, &firmware);
    let version = &kernel.version;
    let parts = Parts {
        kernel: version,
        division: &division,
        wanted: &wanted,
        firmware: &firmware,
        tools: sealed.next(),
        containerd: sealed.next(),
    };
    let archives = archives::write(fresh.path(), parts, &component_of, report)?;
    let inputs = Inputs {
        settings,
        agent: own.agent_sha256(),
        authorities: own.authorities_sha256(),
        packages: Default::default(),
        drivers_bytes: archives.base.len() as u64,
    };
    let (mut components, mut contents) = (components_of(&own), contents_of_agent(&own));
    contents.extend(archives.contents);
    let agent = agent(own, report)?;
    let families = [of_agent(&agent)].into_iter().chain(archives.families);
    let mut families: Vec<FamilyBytes> = families.collect();
    for made in programs {
        contents.extend(made.contents);
        families.push(made.family);
    }
    files::write(&fresh.path().join(INITRAMFS), [archives.base, agent].concat())?;
    step(report, "boot loaders", None, |report| {
        boot_loaders(&mut archive, fresh.path(), &mut sources, report)
    })?;
    components.extend(sources.components);
    let manifest = Manifest {
        version: FORMAT,
        profile: options.profiles.to_string(),
        suite: options.suite.to_string(),
        kernel: kernel.version.clone(),
        modules: modules.iter().map(|(name, _)| name.to_string()).collect(),
        firmware: firmware.files.keys().cloned().collect(),
        firmware_left_out: firmware.left_out.clone(),
        files: Vec::new(),
        components,
        families,
        contents,
        inputs: Some(Inputs {
            packages: archive.asked().clone(),
            ..inputs
        }),
    };
    finish(
        manifest,
        options.profiles,
        &sources.licences,
        fresh,
        &place,
        report,
    )
}

/// The same image with another agent or other certificates: the rest is taken over byte by byte.
fn repack(
    former: Manifest,
    inputs: Inputs,
    own: Own,
    profiles: Profiles,
    place: &Place,
    report: &mut Report<'_>,
) -> Result<Manifest, BuildError> {
    report(Progress::Noted {
        text: "only the agent or the certificates have changed: the rest is taken over",
    });
    let fresh = place.beside()?;
    for file in &former.files {
        if ![INITRAMFS, spdx::SPDX].contains(&file.name.as_str()) {
            let from = place.path().join(&file.name);
            fs::copy(&from, fresh.path().join(&file.name)).about("copy", &from)?;
        }
    }
    let mut packed = files::read(&place.path().join(INITRAMFS))?;
    packed.truncate(usize::try_from(inputs.drivers_bytes).unwrap_or(usize::MAX));
    let licences = spdx::licences_of(&files::read(&place.path().join(spdx::SPDX))?);
    let is_ours = |name: &str| [AGENT_COMPONENT, SITE_COMPONENT].contains(&name);
    let rest = former
        .components
        .into_iter()
        .filter(|one| !is_ours(&one.name) && one.name != BUILD_COMPONENT);
    let contents = former.contents.into_iter().filter(|one| !is_ours(&one.component));
    let (components_of_own, contents_of_own) = (components_of(&own), contents_of_agent(&own));
    let (agent_sha256, authorities_sha256) = (own.agent_sha256(), own.authorities_sha256());
    let agent = agent(own, report)?;
    let families = former.families.into_iter().filter(|one| one.name != AGENT);
    let manifest = Manifest {
        families: [of_agent(&agent)].into_iter().chain(families).collect(),
        components: components_of_own.into_iter().chain(rest).collect(),
        contents: contents_of_own.into_iter().chain(contents).collect(),
        inputs: Some(Inputs {
            agent: agent_sha256,
            authorities: authorities_sha256,
            ..inputs
        }),
        ..former
    };
    packed.extend(agent);
    files::write(&fresh.path().join(INITRAMFS), packed)?;
    finish(manifest, profiles, &licences, fresh, place, report)
}

/// The agent's part of the initramfs, compressed.
fn agent(own: Own, report: &mut Report<'_>) -> Result<Vec<u8>, BuildError> {
    let tree = initramfs::agent_tree(own.agent, own.authorities)?;
    Ok(step(report, "agent", Some(tree.len_bytes()), |report| {
        initramfs::compress(&tree, Packing::Quick, &mut |bytes| {
            report(Progress::Advanced { bytes })
        })
    })?)
}

/// Writes what says what is there, and puts the directory into its place.
fn finish(
    mut manifest: Manifest,
    profiles: Profiles,
    licences: &BTreeMap<String, String>,
    fresh: Scratch,
    place: &Place,
    report: &mut Report<'_>,
) -> Result<Manifest, BuildError> {
    manifest
        .contents
        .sort_by(|one, other| (&one.path, &one.archive).cmp(&(&other.path, &other.archive)));
    archives::judge(&mut manifest.families, &profiles.budgets(), report);
    name_archives(&mut manifest);
    files::write(
        &fresh.path().join(spdx::SPDX),
        spdx::document(&manifest, licences),
    )?;
    manifest.files = files_of(fresh.path())?;
    files::write(&fresh.path().join(MANIFEST), manifest.to_text())?;
    place.take(fresh)?;
    Ok(manifest)
}

/// Says of each component in which archives it is.
fn name_archives(manifest: &mut Manifest) {
    for component in &mut manifest.components {
        let contents = manifest
            .contents
            .iter()
            .filter(|one| one.component == component.name);
        let archives: BTreeSet<String> = contents.map(|one| one.archive().to_string()).collect();
        let is_archive = |file: &String| file.ends_with(".img") || file == drivers::ARCHIVE_FILE;
        let beside = component.files.drain(..).filter(|file| !is_archive(file));
        component.files = beside
            .collect::<BTreeSet<_>>()
            .into_iter()
            .chain(archives)
            .collect();
        component.files.sort();
    }
}

/// The modules of the image, and their firmware.
fn drivers<'a>(
    options: &Options,
    kernel: &'a Kernel,
    wanted: &Wanted,
    archive: &mut Archive,
    sources: &mut Sources,
    report: &mut Report<'_>,
) -> Result<(Selection<'a>, Found), BuildError> {
    if options.profiles.machines == Profile::Server && !wanted.unknown.is_empty() {
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
    let firmware = options.firmware().fetch(&modules, archive, sources, report)?;
    Ok((modules, firmware))
}

fn of_agent(packed: &[u8]) -> FamilyBytes {
    FamilyBytes {
        name: AGENT.to_owned(),
        delivery: drivers::BASE.to_string(),
        bytes: packed.len() as u64,
        budget_bytes: 0,
        sha256: sha256_of_bytes(packed),
    }
}

/// Ends the build for a card that would not be served, and says which ones do without something.
fn check_cards(
    options: &Options,
    kernel: &Kernel,
    modules: &Selection<'_>,
    division: &Division<'_>,
    firmware: &Found,
    report: &mut Report<'_>,
) -> Result<(), BuildError> {
    let choice = options.firmware();
    let cards = cards::list();
    let without = cards::check(&cards, &kernel.version, modules, choice, firmware)?;
    cards::check_overlays(&cards, &kernel.version, division)?;
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
    Ok(())
}

fn boot_loaders(
    archive: &mut Archive,
    into: &Path,
    sources: &mut Sources,
    report: &mut Report<'_>,
) -> Result<(), BuildError> {
    let ipxe = archive.package("ipxe", report)?;
    let temporary = std::env::temp_dir();
    let unpacked = Scratch::make("farrier-ipxe-", &temporary).about("create directory", &temporary)?;
    let paths = IPXE.map(|name| format!("usr/lib/ipxe/{name}"));
    deb::unpack(&ipxe.file, unpacked.path(), |path| {
        paths.iter().any(|wanted| wanted == path)
    })?;
    for (name, path) in IPXE.iter().zip(&paths) {
        let loader = unpacked.path().join(path);
        if !loader.is_file() {
            return Err(BuildError::Deb(DebError::Missing {
                deb: ipxe.file.clone(),
                wanted: path.clone(),
            }));
        }
        files::write(&into.join(name), files::read(&loader)?)?;
    }
    sources.package(&ipxe, unpacked.path(), &IPXE, Vec::new());
    let grub = Grub::fetch(archive, report)?;
    files::write(&into.join(LOCAL_BOOT), grub::local_boot(&grub)?)?;
    let for_efi = grub
        .packages
        .iter()
        .filter(|package| package.name.contains("efi"));
    for package in for_efi {
        sources.package(package, grub.root(), &[LOCAL_BOOT], Vec::new());
    }
    Ok(())
}

/// The components that are not Debian's, but for a kernel of one's own.
fn components_of(own: &Own) -> Vec<Component> {
    let mut sources = Sources::default();
    let version = env!("CARGO_PKG_VERSION");
    sources.other(AGENT_COMPONENT, version, own.agent_sha256(), &[INITRAMFS]);
    let files = [spdx::SPDX, LOCAL_BOOT, OVERLAYS_FILE, CATALOGUE_FILE];
    sources.other(BUILD_COMPONENT, version, String::new(), &files);
    if !own.authorities.is_empty() {
        sources.other(SITE_COMPONENT, "", own.authorities_sha256(), &[INITRAMFS]);
    }
    sources.components
}

fn contents_of_agent(own: &Own) -> Vec<ContentFile> {
    let file = |path: &str, content: &[u8], component: &str| ContentFile {
        archive: String::new(),
        path: path.to_string(),
        bytes: content.len() as u64,
        sha256: sha256_of_bytes(content),
        component: component.to_string(),
    };
    let agent = file(initramfs::AGENT, &own.agent, AGENT_COMPONENT);
    let site =
        (!own.authorities.is_empty()).then(|| file(initramfs::AUTHORITIES, &own.authorities, SITE_COMPONENT));
    [agent].into_iter().chain(site).collect()
}

/// Of which component a file of the drivers' part is.
fn component_of(path: &str, kernel: &Kernel, firmware: &Found) -> String {
    if let Some(name) = path.strip_prefix("lib/firmware/") {
        // What is fetched is packed; firmware may have such a name itself.
        let name = [name, without_packing(name)]
            .into_iter()
            .find(|name| firmware.from.contains_key(*name))
            .unwrap_or(name);
        return firmware.from.get(name).cloned().unwrap_or_default();
    }
    let below = path
        .strip_prefix("lib/modules/")
        .and_then(|path| path.strip_prefix(kernel.version.as_str())?.strip_prefix('/'));
    match below {
        Some(module) if without_packing(module).ends_with(".ko") => {
            let from = kernel.modules_from.get(without_packing(module)).cloned();
            from.unwrap_or_else(|| "linux".to_string())
        }
        // Lists of modules and the few files of /etc: the build writes them.
        _ => BUILD_COMPONENT.to_string(),
    }
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

pub(crate) const KERNEL: &str = "vmlinuz";
pub(crate) const INITRAMFS: &str = "initramfs.img";
const IPXE: [&str; 2] = ["snponly.efi", "undionly.kpxe"];
const LOCAL_BOOT: &str = "local-boot.efi";
const AGENT_COMPONENT: &str = "farrier-agent";
/// What the build writes itself: lists of modules, users, the script of the local boot.
const BUILD_COMPONENT: &str = "farrier";
/// Certificate authorities of the site's own.
const SITE_COMPONENT: &str = "site-certificates";
