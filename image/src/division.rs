//! Where the modules of an image lie: in the base that every machine gets, in an overlay that some get, or in the archive that agents
//! fetch from.

use std::collections::{BTreeMap, BTreeSet};

use drivers::{Catalogue, Entry, Overlays, Seal, Seals, Tools};

use crate::checksum::sha256_of_bytes;
use crate::cpio::{Node, Tree};
use crate::firmware::Found;
use crate::initramfs::{self, InitramfsError};
use crate::modules::{ModuleError, Selection};
use crate::newc;
use crate::profile::{Delivery, Wanted};
use drivers::PciId;

/// The modules of an image by where they lie.
#[derive(Debug)]
pub(crate) struct Division<'a> {
    pub(crate) base: Selection<'a>,
    /// By name, with what they depend on, but for what the base has.
    pub(crate) overlays: BTreeMap<&'static str, Selection<'a>>,
    /// Everything that is not in the base; `None` where the profile fetches nothing.
    pub(crate) fetched: Option<Selection<'a>>,
    /// Which card needs which overlay.
    pub(crate) table: Overlays,
}

impl<'a> Division<'a> {
    /// Divides the chosen modules as the profile's families say.
    pub(crate) fn of(chosen: &Selection<'a>, wanted: &Wanted) -> Self {
        let names_of = |delivery: Delivery| {
            let families = wanted.families.iter();
            let families = families.filter(move |(family, _)| family.delivery == delivery);
            families
                .flat_map(|(_, names)| names.iter().cloned())
                .collect::<Vec<_>>()
        };
        let base = chosen.closure(&names_of(Delivery::Base));
        let mut overlays = BTreeMap::new();
        let mut table = Overlays::default();
        drive(
            &mut table,
            drivers::BASE,
            base.iter().flat_map(|(_, module)| &module.info.aliases),
        );
        drive(&mut table, drivers::BASE, chosen.tree().all_builtin_aliases());
        for (family, names) in &wanted.families {
            let cards = family.cards.iter().filter_map(|card| card.parse::<PciId>().ok());
            match family.delivery {
                Delivery::Base => {
                    cards.for_each(|card| table.drives(drivers::BASE, card.vendor, Some(card.device)))
                }
                Delivery::Overlay => {
                    cards.for_each(|card| table.drives(family.name, card.vendor, Some(card.device)))
                }
                Delivery::Fetched => {}
            }
            if family.delivery != Delivery::Overlay {
                continue;
            }
            let mut overlay = chosen.closure(names);
            overlay.leave_out(&base);
            table.add(family.name).expect("the list's reader looks at names");
            let named = names.iter().filter_map(|name| overlay.module(name));
            drive(
                &mut table,
                family.name,
                named.flat_map(|module| &module.info.aliases),
            );
            overlays.insert(family.name, overlay);
        }
        let fetches = wanted
            .families
            .iter()
            .any(|(family, _)| family.delivery != Delivery::Base);
        let fetched = fetches.then(|| {
            let mut rest = chosen.clone();
            rest.leave_out(&base);
            rest
        });
        Self {
            base,
            overlays,
            fetched,
            table,
        }
    }

    /// Where a module lies: `base`, names of overlays, or `fetched`.
    pub(crate) fn place_of(&self, module: &str) -> Vec<&str> {
        if self.base.module(module).is_some() {
            return vec![drivers::BASE];
        }
        let overlays = self
            .overlays
            .iter()
            .filter(|(_, overlay)| overlay.module(module).is_some());
        let overlays: Vec<&str> = overlays.map(|(name, _)| *name).collect();
        if overlays.is_empty() {
            vec!["fetched"]
        } else {
            overlays
        }
    }
}

fn drive<'a>(table: &mut Overlays, name: &str, aliases: impl IntoIterator<Item = &'a String>) {
    for (vendor, device) in aliases.into_iter().filter_map(|alias| PciId::named_by(alias)) {
        table.drives(name, vendor, device);
    }
}

/// An overlay: its modules and their firmware where the kernel looks for them, and their list. Gives the list's seal, too.
pub(crate) fn overlay_tree(
    kernel: &str,
    name: &str,
    modules: &Selection<'_>,
    firmware: &Found,
) -> Result<(Tree, Seal), InitramfsError> {
    let (mut tree, mut catalogue) = (Tree::default(), Catalogue::default());
    for (_, module) in modules.iter() {
        let content = modules.content(module)?;
        let entry = entry(&module.path, 0, &content);
        catalogue.add_module(
            entry,
            &module.info.depends,
            &module.info.aliases,
            &module.info.firmware,
        );
        tree.add(
            &format!("lib/modules/{kernel}/{}", module.path),
            initramfs::file(content),
        )?;
        for (name, content) in firmware_of(&module.info.firmware, firmware) {
            catalogue.add_firmware(self::entry(name, 0, content));
            initramfs::add_firmware(&mut tree, name, content.to_vec())?;
        }
    }
    let list = catalogue.to_text().into_bytes();
    let seal = seal(&list);
    tree.add(
        &format!("lib/modules/{kernel}/overlays/{name}.list"),
        initramfs::file(list),
    )?;
    Ok((tree, seal))
}

/// What agents fetch from: the archive, and its list, packed.
pub(crate) struct Fetched {
    pub(crate) tree: Tree,
    pub(crate) archive: Vec<u8>,
    pub(crate) list: Vec<u8>,
}

/// Packs each module for itself. What the kernel's package has packed stays as it is.
pub(crate) fn fetched(
    kernel: &str,
    modules: &Selection<'_>,
    firmware: &Found,
    advanced: &mut dyn FnMut(u64),
) -> Result<Fetched, InitramfsError> {
    let mut tree = Tree::default();
    let directory = format!("lib/modules/{kernel}/");
    let mut by_path = BTreeMap::new();
    for (_, module) in modules.iter() {
        let (suffix, content) = packed(modules.file(module)?)?;
        advanced(content.len() as u64);
        let path = format!("{directory}{}{suffix}", module.path);
        tree.add(&path, initramfs::file(content))?;
        by_path.insert(path, module);
    }
    let names = modules
        .iter()
        .flat_map(|(_, module)| firmware_of(&module.info.firmware, firmware));
    for (name, content) in names.collect::<BTreeMap<_, _>>() {
        let content = initramfs::pack(content, FIRMWARE_LEVEL).map_err(InitramfsError::Compress)?;
        initramfs::add_firmware(&mut tree, &format!("{name}.zst"), content)?;
    }
    let mut archive = Vec::new();
    tree.write_to(&mut archive).map_err(InitramfsError::Compress)?;
    let mut catalogue = Catalogue::default();
    let places = newc::places(&archive).unwrap_or_default();
    for (path, offset, content) in places.iter().filter(|(_, _, content)| !content.is_empty()) {
        if let Some(name) = path.strip_prefix("lib/firmware/") {
            catalogue.add_firmware(entry(name, *offset, content));
        } else if let Some((module, below)) = by_path.get(path).zip(path.strip_prefix(&directory)) {
            let info = &module.info;
            catalogue.add_module(
                entry(below, *offset, content),
                &info.depends,
                &info.aliases,
                &info.firmware,
            );
        }
    }
    let list =
        initramfs::pack(catalogue.to_text().as_bytes(), LIST_LEVEL).map_err(InitramfsError::Compress)?;
    Ok(Fetched { tree, archive, list })
}

/// What the base says of the lists.
pub(crate) fn seals(
    fetched: Option<&Fetched>,
    overlays: BTreeMap<String, Seal>,
    tools: Option<Tools>,
    containerd: Option<Tools>,
) -> Seals {
    Seals {
        fetched: fetched.map(|fetched| seal(&fetched.list)),
        overlays,
        tools,
        containerd,
    }
}

/// The bytes that a family has in the archive, each module and each file of firmware counted once.
pub(crate) fn bytes_in(tree: &Tree, modules: &Selection<'_>, names: &[String]) -> u64 {
    let mut wanted = BTreeSet::new();
    for module in names.iter().filter_map(|name| modules.module(name)) {
        wanted.insert(module.path.as_str());
        wanted.extend(module.info.firmware.iter().map(String::as_str));
    }
    let is_wanted = |path: &str| {
        let below = path.strip_prefix("lib/firmware/").or_else(|| {
            let (_, below) = path.strip_prefix("lib/modules/")?.split_once('/')?;
            Some(below)
        });
        below.is_some_and(|below| wanted.contains(crate::modules::without_packing(below)))
    };
    let nodes = tree.iter().filter(|(path, _)| is_wanted(path));
    nodes
        .map(|(_, node)| match node {
            Node::File { content, .. } => content.len() as u64,
            _ => 0,
        })
        .sum()
}

fn firmware_of<'a>(asked: &'a [String], firmware: &'a Found) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    asked
        .iter()
        .filter_map(|name| Some((name.as_str(), firmware.files.get(name)?.as_slice())))
}

fn packed((suffix, content): (&'static str, Vec<u8>)) -> Result<(&'static str, Vec<u8>), ModuleError> {
    if !suffix.is_empty() {
        return Ok((suffix, content));
    }
    let packed = initramfs::pack(&content, MODULE_LEVEL);
    Ok((".zst", packed.map_err(ModuleError::Pack)?))
}

fn entry(path: &str, offset: u64, content: &[u8]) -> Entry {
    Entry {
        path: path.to_owned(),
        offset,
        bytes: content.len() as u64,
        sha256: sha256_of_bytes(content),
    }
}

fn seal(content: &[u8]) -> Seal {
    Seal {
        bytes: content.len() as u64,
        sha256: sha256_of_bytes(content),
    }
}

/// Of modules that come unpacked (Debian 12's): above this a build takes long, and little becomes smaller.
const MODULE_LEVEL: i32 = 12;
const FIRMWARE_LEVEL: i32 = 12;
/// Every machine of the profile fetches it.
const LIST_LEVEL: i32 = 19;

#[cfg(test)]
mod tests {
    use drivers::Card;

    use super::*;
    use crate::modules::tests::tree_with;
    use crate::profile;

    const MODULES: [(&str, &str); 6] = [
        ("kernel/net/af_packet.ko.xz", "depends= "),
        ("kernel/lib/mii.ko", "depends= "),
        (
            "kernel/net/igb.ko.xz",
            "depends=dca firmware=igb.fw alias=pci:v00008086d00001521sv*sd*bc*sc*i* alias=pci:v*d*sv*sd*bc02sc00i00* ",
        ),
        ("kernel/drivers/dca.ko", "depends= "),
        (
            "kernel/net/r8169.ko",
            "depends=mii firmware=r8169.fw alias=pci:v000010ECd00008168sv*sd*bc*sc*i* ",
        ),
        (
            "kernel/scsi/hpsa.ko.xz",
            "depends=dca alias=pci:v0000103Cd0000323Bsv*sd*bc*sc*i* ",
        ),
    ];
    const LIST: &str = "kernel k\nfirst: for a test\n  af_packet mii\n  for 1af4:1041\nintel overlay, 9 kB: for a test\n  igb\nrealtek overlay, 9 kB: for a \
                        test\n  r8169\n  for 1011:0009\nscsi fetched, 9 kB: for a test\n  hpsa\n";

    fn divided(test: impl FnOnce(&Division<'_>, &Wanted, &Found)) {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree_with(directory.path(), &MODULES, "");
        let wanted = profile::tests::read(LIST).wanted(&tree);
        let chosen = tree.select(&wanted.required, &wanted.optional).unwrap();
        let mut found = Found::default();
        found
            .files
            .insert("igb.fw".to_owned(), b"firmware of igb".to_vec());
        test(&Division::of(&chosen, &wanted), &wanted, &found);
    }

    fn names(selection: &Selection<'_>) -> Vec<String> {
        selection.iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn each_module_lies_where_its_family_says_with_what_it_needs() {
        divided(|division, _, _| {
            assert_eq!(names(&division.base), ["af_packet", "mii"]);
            assert_eq!(names(&division.overlays["intel"]), ["dca", "igb"]);
            assert_eq!(
                names(&division.overlays["realtek"]),
                ["r8169"],
                "the base has what it needs"
            );
            // A second card of another family than the one that boots is fetched, too.
            let fetched = division.fetched.as_ref().unwrap();
            assert_eq!(names(fetched), ["dca", "hpsa", "igb", "r8169"]);
            assert_eq!(division.place_of("igb"), ["intel"]);
            assert_eq!(division.place_of("mii"), ["base"]);
            assert_eq!(division.place_of("hpsa"), ["fetched"]);
            let of = |id: &str| division.table.of(&id.parse().unwrap());
            assert_eq!(of("8086:1521"), Card::In(vec!["intel".to_owned()]));
            assert_eq!(of("1011:0009"), Card::In(vec!["realtek".to_owned()]));
            assert_eq!(of("1af4:1041"), Card::InBase, "its driver is built in");
            assert_eq!(of("103c:323b"), Card::Unknown, "no overlay is for disks");
        });
    }

    #[test]
    fn an_overlay_has_its_modules_firmware_and_their_list() {
        divided(|division, _, found| {
            let (tree, seal) = overlay_tree("6.12", "intel", &division.overlays["intel"], found).unwrap();
            let content = |path: &str| match tree.iter().find(|(at, _)| *at == path).unwrap().1 {
                Node::File { content, .. } => content.clone(),
                other => panic!("{other:?}"),
            };
            assert_eq!(content("lib/firmware/igb.fw"), b"firmware of igb");
            let list = content("lib/modules/6.12/overlays/intel.list");
            assert_eq!(seal.sha256, sha256_of_bytes(&list));
            let catalogue = Catalogue::parse(std::str::from_utf8(&list).unwrap()).unwrap();
            let (igb, needs) = catalogue.module("igb").unwrap();
            let module = content("lib/modules/6.12/kernel/net/igb.ko");
            assert_eq!(
                (igb.sha256.as_str(), needs),
                (sha256_of_bytes(&module).as_str(), &["dca".to_owned()][..])
            );
            assert_eq!(
                catalogue.for_modalias("pci:v00008086d00001521sv0sd0bc02sc00i00"),
                ["igb"]
            );
        });
    }

    #[test]
    fn what_is_fetched_lies_in_the_archive_where_its_list_says() {
        divided(|division, wanted, found| {
            let modules = division.fetched.as_ref().unwrap();
            let fetched = fetched("6.12", modules, found, &mut |_| {}).unwrap();
            let list = zstd::decode_all(&fetched.list[..]).unwrap();
            let catalogue = Catalogue::parse(std::str::from_utf8(&list).unwrap()).unwrap();
            let bytes = |entry: &Entry| {
                let (at, len) = (entry.offset as usize, entry.bytes as usize);
                let bytes = fetched.archive[at..at + len].to_vec();
                assert_eq!(sha256_of_bytes(&bytes), entry.sha256, "{entry:?}");
                bytes
            };
            let (igb, _) = catalogue.module("igb").unwrap();
            assert_eq!(igb.path, "kernel/net/igb.ko.xz", "as its package has it");
            assert!(bytes(igb).starts_with(b"\xfd7zXZ"));
            let (r8169, _) = catalogue.module("r8169").unwrap();
            assert_eq!(r8169.path, "kernel/net/r8169.ko.zst");
            assert!(
                zstd::decode_all(&bytes(r8169)[..])
                    .unwrap()
                    .starts_with(b"\x7fELF")
            );
            let firmware: Vec<&Entry> = catalogue.firmware_of("igb").collect();
            assert_eq!(firmware.len(), 1);
            assert_eq!(
                zstd::decode_all(&bytes(firmware[0])[..]).unwrap(),
                b"firmware of igb"
            );
            assert_eq!(catalogue.firmware_of("r8169").count(), 0, "the image has none");

            let of_igb = bytes_in(&fetched.tree, modules, &["igb".to_owned()]);
            assert_eq!(of_igb, igb.bytes + firmware[0].bytes);
            assert_eq!(wanted.families.len(), 4);
        });
    }

    #[test]
    fn a_profile_of_one_piece_fetches_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree_with(directory.path(), &MODULES, "");
        let wanted = profile::tests::read("kernel k\nall: for a test\n  igb\n").wanted(&tree);
        let chosen = tree.select(&wanted.required, &wanted.optional).unwrap();
        let division = Division::of(&chosen, &wanted);
        assert!(division.fetched.is_none() && division.overlays.is_empty());
        assert_eq!(names(&division.base), ["dca", "igb"]);
        assert_eq!(seals(None, BTreeMap::new(), None, None), Seals::default());
    }
}
