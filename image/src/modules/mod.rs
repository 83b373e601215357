//! The modules of a kernel: what there is, what a set of them needs, and the indexes that say so at boot.
//!
//! A kernel package has no `modules.dep`: `depmod` writes it when the package is installed. Here it is made from
//! the modules' own metadata instead, for just the modules that are taken along.

mod index;
mod modinfo;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use index::Indexes;
pub use modinfo::{Modinfo, of_module};

use crate::elf::ElfError;
use crate::files::{self, About, FileError};

/// Why the modules of a kernel could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A module needs one that is neither there nor built in.
    #[error("kernel module {module} needs {needs}, which {} does not have", tree.display())]
    Broken {
        module: String,
        needs: String,
        tree: PathBuf,
    },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory has no module.
    #[error("{} holds no kernel modules: name the lib/modules/VERSION of the kernel", tree.display())]
    NoModules { tree: PathBuf },
    /// A file called like a module is none.
    #[error("{} is not a kernel module", path.display())]
    NotAModule {
        path: PathBuf,
        #[source]
        source: ElfError,
    },
    /// A module could not be packed.
    #[error("could not pack a kernel module")]
    Pack(#[source] io::Error),
    /// A module without which the image would be useless is not there.
    #[error("the kernel in {} has no module {module}, which this profile needs", tree.display())]
    Required { module: String, tree: PathBuf },
}

/// The modules below one `lib/modules/<version>` directory: where they are. What they say is read when they are chosen.
#[derive(Debug)]
pub struct ModuleTree {
    directory: PathBuf,
    /// By name, path below the tree without compression suffix, and the file.
    files: BTreeMap<String, (String, PathBuf)>,
    /// By name, the path that `modules.builtin` gives.
    builtin: BTreeMap<String, String>,
    /// By name, the PCI ids that `modules.builtin.modinfo` says the module answers to.
    builtin_aliases: BTreeMap<String, Vec<String>>,
}

/// One module: where it is and what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Path below the tree without compression suffix, such as `kernel/drivers/net/virtio_net.ko`.
    pub path: String,
    /// Where its bytes are, compressed or not.
    file: PathBuf,
    /// Its metadata.
    pub info: Modinfo,
}

impl ModuleTree {
    /// Lists the modules below `directory`, which is a `lib/modules/<version>`.
    ///
    /// # Errors
    /// [`ModuleError`] if the directory cannot be read or has no modules.
    pub fn read(directory: &Path) -> Result<Self, ModuleError> {
        let mut files = BTreeMap::new();
        for file in module_files(directory)? {
            let below = file.strip_prefix(directory).unwrap_or(&file).to_string_lossy();
            let path = without_compression(&below).to_string();
            files.insert(module_name(&path), (path, file));
        }
        let builtin = directory.join("modules.builtin");
        if files.is_empty() && !builtin.exists() {
            return Err(ModuleError::NoModules {
                tree: directory.to_path_buf(),
            });
        }
        let text = fs::read_to_string(&builtin).about("read", &builtin)?;
        // Kernels before 5.2 have none.
        let aliases = fs::read(directory.join("modules.builtin.modinfo")).unwrap_or_default();
        Ok(Self {
            directory: directory.to_path_buf(),
            files,
            builtin: text
                .lines()
                .map(|path| (module_name(path), path.to_string()))
                .collect(),
            builtin_aliases: modinfo::builtin_pci_aliases(&aliases),
        })
    }

    /// Returns whether the kernel itself has the module.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains_key(&module_name(name))
    }

    /// Returns the PCI ids that the built-in module `name` answers to, as patterns of device names.
    pub fn builtin_aliases(&self, name: &str) -> &[String] {
        self.builtin_aliases
            .get(&module_name(name))
            .map_or(&[], Vec::as_slice)
    }

    /// Returns the PCI ids that the kernel itself answers to, whichever module it is.
    pub(crate) fn all_builtin_aliases(&self) -> impl Iterator<Item = &String> {
        self.builtin_aliases.values().flatten()
    }

    /// Returns the paths of all modules that are files, below the tree and without compression suffix, and the files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.files
            .values()
            .map(|(path, file)| (path.as_str(), file.as_path()))
    }

    /// Returns the names and paths of all modules that are files.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(name, (path, _))| (name.as_str(), path.as_str()))
    }

    /// Returns the `required` and, where the kernel has them, the `optional` modules with all they depend on.
    ///
    /// # Errors
    /// [`ModuleError::Required`] and [`ModuleError::Broken`] for what is missing, others for files that are no modules.
    pub fn select<S: AsRef<str>>(
        &self,
        required: &[S],
        optional: &[S],
    ) -> Result<Selection<'_>, ModuleError> {
        let mut chosen = BTreeMap::new();
        for name in required.iter().map(AsRef::as_ref) {
            if !self.is_builtin(name) && !self.files.contains_key(&module_name(name)) {
                return Err(ModuleError::Required {
                    module: name.to_string(),
                    tree: self.directory.clone(),
                });
            }
        }
        let mut open: Vec<String> = required
            .iter()
            .chain(optional)
            .map(|name| module_name(name.as_ref()))
            .collect();
        while let Some(name) = open.pop() {
            let Some((path, file)) = self.files.get(&name) else {
                continue;
            };
            if chosen.contains_key(&name) {
                continue;
            }
            let info =
                modinfo::of_module(&decompressed(file)?).map_err(|source| ModuleError::NotAModule {
                    path: file.clone(),
                    source,
                })?;
            for needed in &info.depends {
                if !self.files.contains_key(needed) && !self.is_builtin(needed) {
                    return Err(ModuleError::Broken {
                        module: name,
                        needs: needed.clone(),
                        tree: self.directory.clone(),
                    });
                }
                open.push(needed.clone());
            }
            // A soft dependency may name an alias; what is built in or absent is simply not pulled in.
            open.extend(info.soft_before.iter().map(|name| module_name(name)));
            let (path, file) = (path.clone(), file.clone());
            chosen.insert(name, Module { path, file, info });
        }
        Ok(Selection {
            tree: self,
            modules: chosen,
        })
    }
}

/// Modules chosen from a tree; what one of them depends on is here, in the part of the image below this one, or built in.
#[derive(Debug, Clone)]
pub struct Selection<'a> {
    tree: &'a ModuleTree,
    modules: BTreeMap<String, Module>,
}

impl<'a> Selection<'a> {
    /// The modules of these names, and what they depend on, of those that are here.
    pub(crate) fn closure(&self, names: &[String]) -> Selection<'a> {
        let mut open: Vec<String> = names.iter().map(|name| module_name(name)).collect();
        let mut modules = BTreeMap::new();
        while let Some(name) = open.pop() {
            let Some(module) = self.modules.get(&name) else {
                continue;
            };
            if modules.insert(name, module.clone()).is_none() {
                let before = module.info.soft_before.iter().map(|name| module_name(name));
                open.extend(module.info.depends.iter().cloned().chain(before));
            }
        }
        Selection {
            tree: self.tree,
            modules,
        }
    }

    /// Leaves out what another selection has.
    pub(crate) fn leave_out(&mut self, other: &Selection<'_>) {
        self.modules.retain(|name, _| !other.modules.contains_key(name));
    }

    /// Returns the bytes of a module as its package has them, and how they are packed: `.xz`, say, or nothing.
    ///
    /// # Errors
    /// [`ModuleError::File`] if the file cannot be read.
    pub(crate) fn file(&self, module: &Module) -> Result<(&'static str, Vec<u8>), ModuleError> {
        let name = module.file.to_string_lossy();
        let packing = COMPRESSIONS.iter().find(|suffix| name.ends_with(**suffix));
        Ok((packing.unwrap_or(&""), files::read(&module.file)?))
    }

    /// Returns the modules by name, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.modules.iter().map(|(name, module)| (name.as_str(), module))
    }

    /// Returns the bytes of a module, decompressed, as its file has them (signature included).
    ///
    /// # Errors
    /// [`ModuleError::File`] if the file cannot be read.
    pub fn content(&self, module: &Module) -> Result<Vec<u8>, ModuleError> {
        decompressed(&module.file)
    }

    /// Returns the module called `name`, if it was chosen.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.get(&module_name(name))
    }

    /// The modules that these were chosen from.
    pub fn tree(&self) -> &'a ModuleTree {
        self.tree
    }

    /// Returns the index files to be put beside the modules.
    pub fn indexes(&self) -> Indexes {
        Indexes::of(&self.modules, &self.tree.builtin, &self.tree.builtin_aliases)
    }
}

/// Returns the name that the kernel knows a module by: no directory, no suffix, `_` for `-`.
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = without_compression(file);
    stem.strip_suffix(".ko").unwrap_or(stem).replace('-', "_")
}

pub(crate) fn without_compression(path: &str) -> &str {
    let stripped = COMPRESSIONS.iter().find_map(|suffix| path.strip_suffix(suffix));
    stripped.filter(|path| path.ends_with(".ko")).unwrap_or(path)
}

/// The path of a file of the archive that agents fetch from, without how it is packed.
pub(crate) fn without_packing(path: &str) -> &str {
    let stripped = COMPRESSIONS.iter().find_map(|suffix| path.strip_suffix(suffix));
    stripped.unwrap_or(path)
}

fn module_files(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).about("list", &directory)? {
            let entry = entry.about("list", &directory)?;
            let kind = entry.file_type().about("look at", &entry.path())?;
            // Links are not followed: `build` and `source` lead out of the tree.
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file()
                && without_compression(&entry.file_name().to_string_lossy()).ends_with(".ko")
            {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn decompressed(file: &Path) -> Result<Vec<u8>, ModuleError> {
    let bytes = files::read(file)?;
    let mut content = Vec::new();
    let read = match file.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(&bytes[..])
            .take(SIZE_LIMIT)
            .read_to_end(&mut content),
        Some("xz") => liblzma::read::XzDecoder::new(&bytes[..])
            .take(SIZE_LIMIT)
            .read_to_end(&mut content),
        Some("zst") => {
            zstd::Decoder::new(&bytes[..]).and_then(|zstd| zstd.take(SIZE_LIMIT).read_to_end(&mut content))
        }
        _ => return Ok(bytes),
    };
    let fits = read.and_then(|len| {
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {SIZE_LIMIT} B"));
        if len as u64 == SIZE_LIMIT {
            Err(too_large())
        } else {
            Ok(())
        }
    });
    fits.about("decompress", file)?;
    Ok(content)
}

const COMPRESSIONS: [&str; 3] = [".gz", ".xz", ".zst"];
/// No module is near this size.
const SIZE_LIMIT: u64 = 256 << 20;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tree with the modules given as (path, metadata separated by spaces).
    pub(crate) fn tree_with(directory: &Path, modules: &[(&str, &str)], builtin: &str) -> ModuleTree {
        for (path, info) in modules {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let module = crate::elf::with_section(".modinfo", info.replace(' ', "\0").as_bytes());
            let bytes = match path.extension().unwrap().to_str().unwrap() {
                "zst" => zstd::encode_all(&module[..], 1).unwrap(),
                "xz" => {
                    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
                    io::Write::write_all(&mut xz, &module).unwrap();
                    xz.finish().unwrap()
                }
                _ => module,
            };
            fs::write(path, bytes).unwrap();
        }
        fs::write(directory.join("modules.builtin"), builtin).unwrap();
        ModuleTree::read(directory).unwrap()
    }

    const NET: &[(&str, &str)] = &[
        (
            "kernel/drivers/net/virtio_net.ko",
            "name=virtio_net depends=net-failover,virtio alias=virtio:d1v* ",
        ),
        (
            "kernel/drivers/net/net_failover.ko.xz",
            "name=net_failover depends=failover ",
        ),
        ("kernel/net/core/failover.ko.zst", "name=failover depends= "),
        ("kernel/drivers/virtio/virtio.ko", "name=virtio depends= "),
        (
            "kernel/drivers/virtio/virtio-rng.ko",
            "name=virtio_rng depends=virtio,rng_core ",
        ),
    ];

    #[test]
    fn selection_takes_along_what_it_depends_on() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree_with(
            directory.path(),
            NET,
            "kernel/drivers/char/hw_random/rng-core.ko\n",
        );
        let selection = tree
            .select(&["virtio-net", "rng_core"], &["no_such_module"])
            .unwrap();
        let names: Vec<&str> = selection.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio", "virtio_net"]);
        let (_, failover) = selection.iter().next().unwrap();
        assert_eq!(failover.path, "kernel/net/core/failover.ko");
        assert!(selection.content(failover).unwrap().starts_with(b"\x7fELF"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree_with(directory.path(), NET, "");
        let error = tree.select(&["virtio_blk"], &[]).unwrap_err().to_string();
        assert!(error.contains("has no module virtio_blk"), "{error}");
        let error = tree.select(&["virtio_rng"], &[]).unwrap_err().to_string();
        assert!(error.contains("module virtio_rng needs rng_core"), "{error}");
    }

    #[test]
    fn indexes_list_dependencies_so_that_the_last_is_loaded_first() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree_with(
            directory.path(),
            NET,
            "kernel/drivers/char/hw_random/rng-core.ko\n",
        );
        let indexes = tree.select(&["virtio_net"], &[]).unwrap().indexes();
        assert_eq!(
            indexes.dependencies,
            "kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n\
             kernel/drivers/net/virtio_net.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/net/net_failover.ko \
             kernel/net/core/failover.ko\n\
             kernel/drivers/virtio/virtio.ko:\n\
             kernel/net/core/failover.ko:\n"
        );
        assert_eq!(indexes.aliases, "alias virtio:d1v* virtio_net\n");
    }

    #[test]
    fn names_are_those_of_the_kernel() {
        assert_eq!(module_name("kernel/fs/nls/nls_iso8859-1.ko.xz"), "nls_iso8859_1");
        assert_eq!(module_name("virtio-rng"), "virtio_rng");
        assert_eq!(without_compression("notes.gz"), "notes.gz");
    }

    #[test]
    fn a_folder_without_modules_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = ModuleTree::read(directory.path()).unwrap_err().to_string();
        assert!(
            error.contains("holds no kernel modules: name the lib/modules/VERSION"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_no_module_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("odd.ko"), "text").unwrap();
        fs::write(directory.path().join("modules.builtin"), "").unwrap();
        let tree = ModuleTree::read(directory.path()).unwrap();
        let error = tree.select(&["odd"], &[]).unwrap_err().to_string();
        assert!(error.ends_with("odd.ko is not a kernel module"), "{error}");
    }
}
