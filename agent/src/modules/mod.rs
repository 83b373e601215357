//! Kernel modules: which ones a machine needs, and putting them into the kernel in order.
//!
//! Files are `modules.dep` and `modules.alias` under `/lib/modules/<release>` for those that every machine has, and a list of each
//! driver overlay that this one was sent; modules may be plain or packed with zstd, xz or gzip. What neither has is fetched
//! ([`fetched`]). Runs in PID 1 (single-threaded), in the worker, and when the kernel itself asks for a module.

pub(crate) mod fetched;
mod index;
mod packing;
mod plan;
mod sealed;

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use drivers::{Catalogue, Entry, Seal};
pub use index::Index;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};
use sealed::Overlay;

/// sysfs is a tree of devices; deeper than this it is a loop.
const MAX_DEPTH: u32 = 40;

/// The modules of the running kernel, and which of them were put into it.
#[derive(Default)]
pub struct Modules {
    root: PathBuf,
    index: Index,
    overlays: Vec<Overlay>,
    fetched: Option<Seal>,
    tried: HashSet<String>,
    seen: HashSet<String>,
    /// What the kernel refused, in words.
    pub problems: Vec<String>,
}

impl Modules {
    /// Reads the tables of the running kernel; empty when there are none (a kernel with everything built in).
    pub fn of_running_kernel() -> Modules {
        Modules::below(&root_of_running_kernel())
    }

    fn below(root: &Path) -> Modules {
        let table = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
        let index = Index::parse(&table("modules.dep"), &table("modules.alias"));
        let mut problems = Vec::new();
        let seals = sealed::seals(root, &mut problems);
        Modules {
            overlays: sealed::overlays(root, &seals, &mut problems),
            fetched: seals.fetched,
            root: root.to_owned(),
            index,
            tried: HashSet::new(),
            seen: HashSet::new(),
            problems,
        }
    }

    /// What the list of modules that are fetched has to be; `None`: there are none.
    pub(crate) fn fetched(&self) -> Option<&Seal> {
        self.fetched.as_ref()
    }

    /// The names of the driver overlays that this machine was sent.
    pub fn overlays(&self) -> Vec<&str> {
        self.overlays
            .iter()
            .map(|overlay| overlay.name.as_str())
            .collect()
    }

    /// How many were loaded, or tried.
    pub(crate) fn loaded(&self) -> usize {
        self.tried.len()
    }

    /// As [`Modules::load_for`], beside whatever else the runtime has to do: some drivers look for their devices for seconds.
    pub(crate) async fn load_for_blocking(&mut self, modalias: &str) {
        let modalias = modalias.to_owned();
        self.beside(move |here| here.load_for(&modalias)).await;
    }

    /// As [`Modules::load`], beside whatever else the runtime has to do.
    pub(crate) async fn load_blocking(&mut self, name: &str) {
        let name = name.to_owned();
        self.beside(move |here| here.load(&name)).await;
    }

    async fn beside(&mut self, work: impl FnOnce(&mut Modules) + Send + 'static) {
        let mut here = std::mem::take(self);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut here);
            here
        });
        *self = done
            .await
            .unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    }

    /// Loads what the network and the kernel's randomness need, and everything else only where `is_there` says that this was not enough.
    /// Returns how many loaded.
    pub(crate) fn load_for_boot(&mut self, is_there: impl Fn() -> bool) -> usize {
        let before = self.tried.len();
        for _round in 0..8 {
            let known = self.seen.len();
            for modalias in modaliases_for_boot(Path::new("/sys/bus")) {
                self.load_for(&modalias);
            }
            if self.seen.len() == known {
                break;
            }
        }
        if !is_there() {
            self.load_for_devices();
        }
        self.tried.len() - before
    }

    /// Loads what every device in sysfs asks for, again until no new device shows up. Returns how many loaded.
    pub fn load_for_devices(&mut self) -> usize {
        let before = self.tried.len();
        for _round in 0..8 {
            let known = self.seen.len();
            for modalias in modaliases() {
                self.load_for(&modalias);
            }
            if self.seen.len() == known {
                break;
            }
        }
        self.tried.len() - before
    }

    /// Loads every module that serves this modalias, once.
    pub fn load_for(&mut self, modalias: &str) {
        if self.seen.insert(modalias.to_owned()) {
            for name in self.for_modalias(modalias) {
                self.load_with_dependencies(&name);
            }
        }
    }

    /// Loads a module by its name or by an alias, with what it depends on. Unknown names are built in or absent.
    pub fn load(&mut self, name: &str) {
        if self.has(name) {
            return self.load_with_dependencies(name);
        }
        for name in self.for_modalias(name) {
            self.load_with_dependencies(&name);
        }
    }

    /// Whether the base or an overlay has the module.
    fn has(&self, name: &str) -> bool {
        self.index.has(name)
            || self
                .overlays
                .iter()
                .any(|overlay| overlay.list.module(name).is_some())
    }

    fn for_modalias(&self, modalias: &str) -> Vec<String> {
        let overlays = self.overlays.iter();
        let in_overlays = overlays.flat_map(|overlay| overlay.list.for_modalias(modalias));
        let mut names: Vec<String> = Vec::new();
        for name in self.index.for_modalias(modalias).into_iter().chain(in_overlays) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    fn load_with_dependencies(&mut self, name: &str) {
        let lists: Vec<&Catalogue> = self.overlays.iter().map(|overlay| &overlay.list).collect();
        for name in plan::order(name, &|name| self.index.has(name), &lists) {
            if self.index.has(&name) {
                for file in self.index.load_order(&name) {
                    if self.tried.insert(file.clone()) {
                        let loaded = insert(&self.root.join(&file));
                        self.note(&file, loaded);
                    }
                }
            } else if self.tried.insert(index::normal(&name)) {
                self.load_from_overlay(&name);
            }
        }
    }

    fn load_from_overlay(&mut self, name: &str) {
        let mut overlays = self.overlays.iter();
        let Some((overlay, entry)) =
            overlays.find_map(|overlay| Some((overlay.name.clone(), overlay.list.module(name)?.0.clone())))
        else {
            return;
        };
        match sealed::read(&self.root.join(&entry.path), &entry) {
            Ok(image) => {
                let loaded = insert_image(&image, parameters(&entry.path));
                self.note(&entry.path, loaded);
            }
            Err(what) => self.problems.push(format!(
                "module {} of driver overlay {overlay} is not loaded: it {what}; it was damaged on its way, or is of another boot image",
                entry.path
            )),
        }
    }

    /// Puts a module that was fetched, and is what its list says, into the kernel. Blocks while it looks for its devices.
    fn load_fetched(entry: &Entry, packed: &[u8]) -> Result<(), String> {
        let image = packing::unpack(&entry.path, packed).map_err(|e| format!("cannot be unpacked: {e}"))?;
        match insert_image(&image, parameters(&entry.path)) {
            Err(e) if !is_no_problem(&e) => Err(format!("did not load: {e}")),
            _ => Ok(()),
        }
    }

    fn note(&mut self, file: &str, loaded: io::Result<()>) {
        if let Err(e) = loaded
            && !is_no_problem(&e)
        {
            self.problems.push(format!("module {file} did not load: {e}"));
        }
    }
}

/// Whether a device is a network card, or the source of randomness that virtual machines have: before there is some no address is asked
/// for. Each module takes the kernel some 30 ms where it is emulated, for its signature, and disks look for what hangs on them.
///
/// Source: Linux `scripts/mod/file2alias.c`; PCI class 02; virtio devices 1 and 4 (virtio 1.2 section 5).
fn is_for_boot(modalias: &str) -> bool {
    let class = modalias
        .strip_prefix("pci:")
        .and_then(|rest| rest.split_once("bc"));
    let virtio = ["virtio:d00000001v", "virtio:d00000004v"];
    class.is_some_and(|(_, class)| class.starts_with("02"))
        || virtio.iter().any(|device| modalias.starts_with(device))
}

/// EEXIST: loaded before. ENODEV: there is no such device after all, as modprobe takes it.
fn is_no_problem(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    matches!(errno, Errno::EEXIST | Errno::ENODEV)
}

fn insert(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let name = path.to_string_lossy();
    if path.extension().is_some_and(|packing| packing == "ko") {
        return Ok(finit_module(&file, parameters(&name), ModuleInitFlags::empty())?);
    }
    insert_image(&packing::unpack(&name, file)?, parameters(&name))
}

fn insert_image(image: &[u8], parameters: &CStr) -> io::Result<()> {
    Ok(init_module(image, parameters)?)
}

/// What a module is loaded with. Bonding makes a link bond0 that nobody has asked for, unless it is told not to.
///
/// Source: Linux Documentation/networking/bonding.rst, `max_bonds`.
fn parameters(path: &str) -> &'static CStr {
    let file = path.rsplit('/').next().unwrap_or_default();
    match file.split('.').next() {
        Some("bonding") => c"max_bonds=0",
        _ => c"",
    }
}

/// What the boot image seals; nothing where it cannot be read.
pub(crate) fn seals_of_running_kernel() -> drivers::Seals {
    // What is wrong with the seals, PID 1 has said.
    sealed::seals(&root_of_running_kernel(), &mut Vec::new())
}

fn root_of_running_kernel() -> PathBuf {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Path::new("/lib/modules").join(release.trim())
}

/// What every device in sysfs asks for.
pub(crate) fn modaliases() -> Vec<String> {
    let mut found = Vec::new();
    collect_modaliases(Path::new("/sys/devices"), 0, &mut found);
    found
}

/// What network cards and sources of randomness ask for. These are on two buses; a walk through all of sysfs takes as long as a driver
/// does to load, and once more for each round.
///
/// Source: Linux Documentation/driver-api/driver-model/bus.rst.
fn modaliases_for_boot(buses: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for bus in ["pci", "virtio"] {
        let Ok(devices) = std::fs::read_dir(buses.join(bus).join("devices")) else {
            continue;
        };
        let modaliases = devices.flatten().map(|device| {
            let text = read_some(&device.path().join("modalias"));
            text.trim().to_owned()
        });
        found.extend(modaliases.filter(|modalias| is_for_boot(modalias)));
    }
    found
}

fn collect_modaliases(folder: &Path, depth: u32, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth < MAX_DEPTH {
            collect_modaliases(&entry.path(), depth + 1, found);
        } else if kind.is_file() && entry.file_name() == "modalias" {
            let text = read_some(&entry.path());
            found.extend(Some(text.trim().to_owned()).filter(|t| !t.is_empty()));
        }
    }
}

/// A file of sysfs is a page at most.
fn read_some(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text));
    read.map_or_else(|_| String::new(), |_| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_that_a_boot_needs_are_found_on_their_buses() {
        let sys = tempfile::tempdir().expect("a folder");
        let device = |path: &str, modalias: &str| {
            let folder = sys.path().join(path);
            std::fs::create_dir_all(&folder).expect("made");
            std::fs::write(folder.join("modalias"), modalias).expect("written");
            folder
        };
        let card = "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00";
        // In sysfs the entries of a bus are links.
        let real = device("devices/pci0000:00/0000:00:02.0", &format!("{card}\n"));
        device(
            "bus/pci/devices/0000:00:1f.2",
            "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
        );
        device("bus/virtio/devices/virtio0", "virtio:d00000001v00001AF4\n");
        device("bus/usb/devices/1-1", "usb:v0B95p1790d0100dc00");
        std::os::unix::fs::symlink(real, sys.path().join("bus/pci/devices/0000:00:02.0")).expect("linked");
        std::fs::create_dir_all(sys.path().join("bus/pci/devices/no-modalias")).expect("made");
        let mut found = modaliases_for_boot(&sys.path().join("bus"));
        found.sort();
        assert_eq!(found, [card, "virtio:d00000001v00001AF4"]);
        assert!(modaliases_for_boot(&sys.path().join("none")).is_empty());
    }

    #[test]
    fn the_network_and_randomness_come_first() {
        for (modalias, want) in [
            ("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", true),
            ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", false),
            // Digits are large letters.
            ("pci:v0000BC02d00002922sv00001AF4sd00001100bc01sc06i01", false),
            ("virtio:d00000001v00001AF4", true),
            ("virtio:d00000004v00001AF4", true),
            ("virtio:d00000002v00001AF4", false),
            ("usb:v0B95p1790d0100dc00", false),
        ] {
            assert_eq!(is_for_boot(modalias), want, "{modalias}");
        }
    }

    /// A machine's modules: a base, one overlay as it is sealed, and its module of which a byte is another one.
    #[test]
    fn a_module_of_an_overlay_that_is_not_what_its_list_says_is_not_loaded() {
        let root = tempfile::tempdir().expect("folder");
        let write = |name: &str, content: &[u8]| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, content).expect("written");
        };
        let digest = |bytes: &[u8]| -> String {
            use sha2::{Digest, Sha256};
            Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        let list = format!(
            "farrier modules 1\nmodule kernel/igb.ko 0 6 {} i2c_algo_bit\nalias pci:v00008086d00001521* igb\n",
            digest(b"module")
        );
        let seals = format!(
            "farrier seals 1\noverlay intel {} {}\n",
            list.len(),
            digest(list.as_bytes())
        );
        write("modules.dep", b"kernel/net/virtio_net.ko:\n");
        write("modules.alias", b"alias virtio:d00000001v* virtio_net\n");
        write("seals", seals.as_bytes());
        write("overlays/intel.list", list.as_bytes());
        write("kernel/igb.ko", b"another module");
        let mut modules = Modules::below(root.path());
        assert_eq!((modules.overlays(), modules.problems.len()), (vec!["intel"], 0));
        assert!(modules.has("igb") && modules.has("virtio-net") && !modules.has("i2c_algo_bit"));
        modules.load_for("pci:v00008086d00001521sv0");
        let said = modules.problems.join("\n");
        assert!(
            said.contains("module kernel/igb.ko of driver overlay intel is not loaded: it has 14 B, and the boot image says 6"),
            "{said}"
        );
        assert_eq!(modules.problems.len(), 1, "once");
        modules.load_for("pci:v00008086d00001521sv0");
        modules.load("igb");
        assert_eq!(modules.problems.len(), 1, "once");
    }
}
