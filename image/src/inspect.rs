//! What a boot image that is built has for a card: read out of its archives and their lists, which is what the machine really gets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use drivers::{BASE, CATALOGUE_FILE, Catalogue, OVERLAYS_FILE, Overlays, archive_of};

use crate::files::{self, FileError};
use crate::modules::{ModuleError, module_name, of_module};
use crate::newc;
use drivers::PciId;

/// The drivers and the firmware of a boot image.
#[derive(Debug, Default)]
pub struct Carried {
    /// By name.
    modules: BTreeMap<String, Driver>,
    /// PCI patterns and the module of each, the kernel's own included.
    aliases: BTreeSet<(String, String)>,
    firmware: BTreeSet<String>,
}

/// One module of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Driver {
    /// Name.
    pub name: String,
    /// Path below the modules' directory; `None` if the kernel itself has it.
    pub path: Option<String>,
    /// `base`: every machine gets it; `fetched`: the agent fetches it; else the names of the overlays that have it.
    pub places: Vec<String>,
    /// Size in the image; of what is fetched, packed.
    pub bytes: u64,
    /// The modules that it needs: in the base directly or not, elsewhere directly.
    pub needs: Vec<String>,
    /// Firmware that it may ask for and that is in the image.
    pub firmware: Vec<String>,
    /// Firmware that it may ask for and that is not.
    pub firmware_missing: Vec<String>,
}

/// Why an image could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// An archive or a list is damaged, or no build of a boot image made it.
    #[error("{} is none of the files of `farrier image build`, or damaged: build the boot image again", path.display())]
    Damaged { path: PathBuf },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A module is none.
    #[error(transparent)]
    Module(#[from] ModuleError),
}

impl Carried {
    /// Reads the initramfs of the directory, its overlays, and the list of what is fetched.
    ///
    /// # Errors
    /// [`InspectError`] if one is not there, or is not as builds make it.
    pub fn read(boot_dir: &Path) -> Result<Self, InspectError> {
        let damaged = |path: &Path| InspectError::Damaged {
            path: path.to_path_buf(),
        };
        let path = newc::file_in(boot_dir);
        let archive = newc::unpacked(&path)?;
        let carried = archive.and_then(|archive| Self::of_archive(&archive));
        let mut carried = carried.ok_or_else(|| damaged(&path))?;
        let path = boot_dir.join(OVERLAYS_FILE);
        if path.exists() {
            let text = text_of(files::read(&path)?);
            let overlays = Overlays::parse(&text).map_err(|_| damaged(&path))?;
            for name in overlays.names() {
                let path = boot_dir.join(archive_of(name));
                let archive = newc::unpacked(&path)?;
                let list = archive.and_then(|archive| list_in(&archive, name));
                carried.add(&list.ok_or_else(|| damaged(&path))?, name);
            }
        }
        let path = boot_dir.join(CATALOGUE_FILE);
        if path.exists() {
            let list = newc::unpacked(&path)?.and_then(|text| Catalogue::parse(&text_of(text)).ok());
            carried.add(&list.ok_or_else(|| damaged(&path))?, FETCHED);
        }
        Ok(carried)
    }

    /// Adds the modules of an overlay, or what is fetched.
    fn add(&mut self, list: &Catalogue, place: &str) {
        for (pattern, name) in list.patterns().filter(|(pattern, _)| pattern.starts_with("pci:")) {
            self.aliases.insert((pattern.to_owned(), name.to_owned()));
        }
        for (name, entry) in list.modules() {
            if let Some(known) = self.modules.get_mut(name) {
                // Whatever is in an overlay is fetched, too, by machines that boot from another card.
                if place != FETCHED {
                    known.places.push(place.to_owned());
                }
                continue;
            }
            let (firmware, firmware_missing) = list
                .asked_by(name)
                .into_iter()
                .partition(|file| list.has_firmware(file));
            let needs = list.module(name).map(|(_, needs)| needs.to_vec());
            let driver = Driver {
                name: name.to_owned(),
                path: Some(entry.plain_path().to_owned()),
                places: vec![place.to_owned()],
                bytes: entry.bytes,
                needs: needs.unwrap_or_default(),
                firmware,
                firmware_missing,
            };
            self.modules.insert(name.to_owned(), driver);
        }
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
                places: vec![BASE.to_owned()],
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

fn list_in(archive: &[u8], overlay: &str) -> Option<Catalogue> {
    let name = format!("overlays/{overlay}.list");
    let entries = newc::entries(archive)?;
    let (_, list) = entries.iter().find(|(path, _)| path.ends_with(&name))?;
    Catalogue::parse(&String::from_utf8_lossy(list)).ok()
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
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

/// Where the agent has a driver from that no archive of its boot has.
const FETCHED: &str = "fetched";

#[cfg(test)]
mod tests {
    use drivers::Seals;

    use super::*;
    use crate::division::{self, Division};
    use crate::firmware::Found;
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
        let mut tree = initramfs::drivers_tree("6.12", &selection, &Seals::default()).unwrap();
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
    fn overlays_and_what_is_fetched_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let modules = [
            (
                "kernel/net/igb.ko.xz",
                "depends=dca firmware=igb.fw alias=pci:v00008086d00001521sv*sd*bc*sc*i* ",
            ),
            ("kernel/drivers/dca.ko", "depends= "),
            (
                "kernel/scsi/hpsa.ko.xz",
                "depends=dca firmware=absent.fw alias=pci:v0000103Cd0000323Bsv*sd*bc*sc*i* ",
            ),
        ];
        let tree = tree_with(directory.path(), &modules, "");
        let list = "kernel k\nfirst: for a test\n  none\nintel overlay, 9 kB: for a test\n  igb\nscsi fetched, 9 kB: for a test\n  hpsa\n";
        let wanted = crate::profile::tests::read(list).wanted(&tree);
        let chosen = tree.select(&wanted.required, &wanted.optional).unwrap();
        let division = Division::of(&chosen, &wanted);
        let mut found = Found::default();
        found.files.insert("igb.fw".to_owned(), b"code".to_vec());
        let boot = boot_dir();
        let overlay = division::overlay_tree("6.12", "intel", &division.overlays["intel"], &found)
            .unwrap()
            .0;
        let packed = initramfs::compress(&overlay, initramfs::Packing::Quick, &mut |_| {}).unwrap();
        let fetched =
            division::fetched("6.12", division.fetched.as_ref().unwrap(), &found, &mut |_| {}).unwrap();
        for (name, content) in [
            (archive_of("intel").as_str(), &packed[..]),
            (CATALOGUE_FILE, &fetched.list),
            (OVERLAYS_FILE, division.table.to_text().as_bytes()),
        ] {
            std::fs::write(boot.path().join(name), content).unwrap();
        }
        let carried = Carried::read(boot.path()).unwrap();
        let of = |id: &str| carried.drivers_of(&id.parse().unwrap()).remove(0);
        let igb = of("8086:1521");
        assert_eq!(
            (igb.places.as_slice(), igb.path.as_deref()),
            (&["intel".to_owned()][..], Some("kernel/net/igb.ko"))
        );
        assert_eq!(
            (igb.firmware.as_slice(), igb.needs.as_slice()),
            (&["igb.fw".to_owned()][..], &["dca".to_owned()][..])
        );
        let hpsa = of("103c:323b");
        assert_eq!(
            (hpsa.places, hpsa.firmware_missing),
            (vec!["fetched".to_owned()], vec!["absent.fw".to_owned()])
        );
        assert_eq!(of("14e4:1639").places, ["base"]);

        std::fs::write(boot.path().join(CATALOGUE_FILE), "text").unwrap();
        let error = Carried::read(boot.path()).unwrap_err().to_string();
        assert!(
            error.contains("modules.list.zst is none of the files of"),
            "{error}"
        );
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
            assert!(error.contains("initramfs.img is none of the files of"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Carried::read(boot.path()), Err(InspectError::File(_))));
    }
}
