//! What a boot image that is built has for a card: read out of its initramfs, which is what the machine really gets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::files::FileError;
use crate::modules::{ModuleError, module_name, of_module};
use crate::newc;
use crate::pci::PciId;

/// The drivers and the firmware of a boot image.
#[derive(Debug, Default)]
pub struct Carried {
    /// By name.
    modules: BTreeMap<String, Driver>,
    /// PCI patterns and the module of each, the kernel's own included.
    aliases: Vec<(String, String)>,
    firmware: BTreeSet<String>,
}

/// One module of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Driver {
    /// Name.
    pub name: String,
    /// Path below the modules' directory; `None` if the kernel itself has it.
    pub path: Option<String>,
    /// Size in the image.
    pub bytes: u64,
    /// The modules that it needs, directly or not.
    pub needs: Vec<String>,
    /// Firmware that it may ask for and that is in the image.
    pub firmware: Vec<String>,
    /// Firmware that it may ask for and that is not.
    pub firmware_missing: Vec<String>,
}

/// Why an image could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The initramfs is damaged, or no build of a boot image made it.
    #[error("{} is no initramfs of `farrier image build`, or damaged: build the boot image again", path.display())]
    Damaged { path: PathBuf },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A module is none.
    #[error(transparent)]
    Module(#[from] ModuleError),
}

impl Carried {
    /// Reads `initramfs.img` of the directory.
    ///
    /// # Errors
    /// [`InspectError`] if it is not there, or is not as builds make it.
    pub fn read(boot_dir: &Path) -> Result<Self, InspectError> {
        let path = newc::file_in(boot_dir);
        let archive = newc::unpacked(&path)?;
        let carried = archive.and_then(|archive| Self::of_archive(&archive));
        carried.ok_or(InspectError::Damaged { path })
    }

    /// Reads an unpacked initramfs (cpio, newc); `None`: it is damaged.
    pub fn of_archive(archive: &[u8]) -> Option<Self> {
        let mut carried = Self::default();
        let mut wanted = Vec::new();
        let mut needs = BTreeMap::new();
        for (path, content) in newc::entries(archive)? {
            if let Some(name) = path.strip_prefix("lib/firmware/") {
                if !content.is_empty() {
                    carried.firmware.insert(name.to_string());
                }
                continue;
            }
            let Some((_, below)) = path
                .strip_prefix("lib/modules/")
                .and_then(|path| path.split_once('/'))
            else {
                continue;
            };
            let text = || String::from_utf8_lossy(content);
            match below {
                "modules.dep" => needs.extend(text().lines().filter_map(dependency)),
                "modules.alias" | "modules.builtin.alias" => {
                    carried.aliases.extend(text().lines().filter_map(alias))
                }
                path if path.ends_with(".ko") => wanted.push((path.to_string(), content)),
                _ => {}
            }
        }
        for (path, content) in wanted {
            let name = module_name(&path);
            let asked = of_module(content).ok()?.firmware;
            let (firmware, firmware_missing) = asked
                .into_iter()
                .partition(|file| carried.firmware.contains(file));
            let driver = Driver {
                needs: needs.remove(&name).unwrap_or_default(),
                path: Some(path),
                bytes: content.len() as u64,
                firmware,
                firmware_missing,
                name: name.clone(),
            };
            carried.modules.insert(name, driver);
        }
        Some(carried)
    }

    /// Returns all modules, sorted by name.
    pub fn modules(&self) -> impl Iterator<Item = &Driver> {
        self.modules.values()
    }

    /// Returns the drivers of a card, sorted by name; none if the image has none for it.
    pub fn drivers_of(&self, id: &PciId) -> Vec<Driver> {
        let names = self.aliases.iter().filter(|(alias, _)| id.is_meant_by(alias));
        let names: BTreeSet<&String> = names.map(|(_, name)| name).collect();
        let driver = |name: &String| {
            self.modules.get(name).cloned().unwrap_or_else(|| Driver {
                name: name.clone(),
                ..Driver::default()
            })
        };
        names.into_iter().map(driver).collect()
    }
}

fn dependency(line: &str) -> Option<(String, Vec<String>)> {
    let (path, needs) = line.split_once(':')?;
    Some((
        module_name(path),
        needs.split_whitespace().map(module_name).collect(),
    ))
}

fn alias(line: &str) -> Option<(String, String)> {
    let (pattern, name) = line.strip_prefix("alias ")?.split_once(' ')?;
    pattern
        .starts_with("pci:")
        .then(|| (pattern.to_string(), name.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initramfs;
    use crate::modules::tests::tree_with;

    /// A boot image directory with a driver that needs another and firmware, and a driver that the kernel has.
    fn boot_dir() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let modules = [
            (
                "kernel/net/bnx2.ko.xz",
                "depends=mii firmware=bnx2/mips.fw firmware=bnx2/rv2p.fw alias=pci:v000014E4d00001639sv*sd*bc*sc*i* ",
            ),
            ("kernel/net/mii.ko", "depends= "),
        ];
        std::fs::write(
            directory.path().join("modules.builtin.modinfo"),
            "virtio_pci.alias=pci:v00001AF4d*sv*sd*bc*sc*i*\0",
        )
        .unwrap();
        let tree = tree_with(
            directory.path(),
            &modules,
            "kernel/drivers/virtio/virtio_pci.ko\n",
        );
        let selection = tree.select(&["bnx2"], &[]).unwrap();
        let mut tree = initramfs::drivers_tree("6.12", &selection).unwrap();
        initramfs::add_firmware(&mut tree, "bnx2/mips.fw", b"code".to_vec()).unwrap();
        let boot = tempfile::tempdir().unwrap();
        let agent = initramfs::agent_tree(b"agent".to_vec(), vec![]).unwrap();
        let packed = [tree, agent]
            .map(|tree| initramfs::compress(&tree, initramfs::Packing::Quick, &mut |_| {}).unwrap());
        let packed = packed.concat();
        std::fs::write(boot.path().join("initramfs.img"), packed).unwrap();
        boot
    }

    #[test]
    fn an_image_says_what_it_has_for_a_card() {
        let boot = boot_dir();
        let carried = Carried::read(boot.path()).unwrap();
        let drivers = carried.drivers_of(&"14e4:1639".parse().unwrap());
        let [bnx2] = &drivers[..] else {
            panic!("{drivers:?}")
        };
        assert_eq!(bnx2.path.as_deref(), Some("kernel/net/bnx2.ko"));
        assert_eq!(bnx2.needs, ["mii"]);
        assert_eq!(bnx2.firmware, ["bnx2/mips.fw"]);
        assert_eq!(bnx2.firmware_missing, ["bnx2/rv2p.fw"]);
        let drivers = carried.drivers_of(&"1af4:1000".parse().unwrap());
        assert_eq!(
            (drivers[0].name.as_str(), drivers[0].path.as_deref()),
            ("virtio_pci", None)
        );
        assert_eq!(carried.drivers_of(&"8086:1572".parse().unwrap()), []);
        assert_eq!(carried.modules().count(), 2);
    }

    #[test]
    fn a_damaged_initramfs_is_named() {
        let boot = boot_dir();
        let path = boot.path().join("initramfs.img");
        let whole = std::fs::read(&path).unwrap();
        let empty = zstd::encode_all(&b"0707"[..], 1).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"text", &empty] {
            std::fs::write(&path, damaged).unwrap();
            let error = Carried::read(boot.path()).unwrap_err().to_string();
            assert!(error.contains("initramfs.img is no initramfs of"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Carried::read(boot.path()), Err(InspectError::File(_))));
    }
}
