//! Kernel modules: which ones a machine needs, and putting them into the kernel in order.
//!
//! Files are `modules.dep` and `modules.alias` under `/lib/modules/<release>`; modules may be plain or packed
//! with zstd, xz or gzip. Runs in PID 1 (single-threaded) and when the kernel itself asks for a module.

mod index;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use index::Index;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};

/// A module of the kernel is never larger than this, unpacked.
const MAX_MODULE_BYTES: u64 = 64 << 20;
/// sysfs is a tree of devices; deeper than this it is a loop.
const MAX_DEPTH: u32 = 40;

/// The modules of the running kernel, and which of them were put into it.
pub struct Modules {
    root: PathBuf,
    index: Index,
    tried: HashSet<String>,
    seen: HashSet<String>,
    /// What the kernel refused, in words.
    pub problems: Vec<String>,
}

impl Modules {
    /// Reads the tables of the running kernel; empty when there are none (a kernel with everything built in).
    pub fn of_running_kernel() -> Modules {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let root = Path::new("/lib/modules").join(release.trim());
        let table = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
        let index = Index::parse(&table("modules.dep"), &table("modules.alias"));
        Modules {
            root,
            index,
            tried: HashSet::new(),
            seen: HashSet::new(),
            problems: Vec::new(),
        }
    }

    /// Loads what every device in sysfs asks for, again until no new device shows up. Returns how many loaded.
    pub fn load_for_devices(&mut self) -> usize {
        let before = self.tried.len();
        for _round in 0..8 {
            let mut found = Vec::new();
            collect_modaliases(Path::new("/sys/devices"), 0, &mut found);
            let known = self.seen.len();
            for modalias in found {
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
            for name in self.index.for_modalias(modalias) {
                self.load(&name);
            }
        }
    }

    /// Loads a module by its name or by an alias, with what it depends on. Unknown names are built in or absent.
    pub fn load(&mut self, name: &str) {
        if !self.index.has(name) {
            for name in self.index.for_modalias(name) {
                self.load_with_dependencies(&name);
            }
            return;
        }
        self.load_with_dependencies(name);
    }

    fn load_with_dependencies(&mut self, name: &str) {
        for file in self.index.load_order(name) {
            if !self.tried.insert(file.clone()) {
                continue;
            }
            // EEXIST: loaded before. ENODEV: there is no such device after all, as modprobe takes it.
            match insert(&self.root.join(&file)) {
                Ok(()) => {}
                Err(e)
                    if matches!(
                        Errno::from_raw(e.raw_os_error().unwrap_or(0)),
                        Errno::EEXIST | Errno::ENODEV
                    ) => {}
                Err(e) => self.problems.push(format!("module {file} did not load: {e}")),
            }
        }
    }
}

/// Answers `/init -q -- NAME`: the kernel asks for a file system, a cipher or a protocol by name.
pub fn serve_kernel_request(name: &str) -> ExitCode {
    let mut modules = Modules::of_running_kernel();
    modules.load(name);
    if modules.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn insert(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let packed = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let mut image = Vec::new();
    let unpacked: Box<dyn Read> = match packed {
        "ko" => return Ok(finit_module(&file, c"", ModuleInitFlags::empty())?),
        "zst" => Box::new(zstd::Decoder::new(file)?),
        "xz" => Box::new(liblzma::read::XzDecoder::new(file)),
        "gz" => Box::new(flate2::read::GzDecoder::new(file)),
        _ => {
            return Err(io::Error::other(
                "unknown packing; .ko, .ko.zst, .ko.xz and .ko.gz are known",
            ));
        }
    };
    unpacked.take(MAX_MODULE_BYTES).read_to_end(&mut image)?;
    Ok(init_module(&image, c"")?)
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
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            found.extend(Some(text.trim().to_owned()).filter(|t| !t.is_empty()));
        }
    }
}
