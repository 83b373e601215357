//! The archives of a boot image that hold modules: packed, written, and counted by family.

use std::collections::BTreeMap;
use std::path::Path;

use drivers::{ARCHIVE_FILE, CATALOGUE_FILE, OVERLAYS_FILE, Tools, archive_of};

use crate::boot_image::{BuildError, INITRAMFS};
use crate::checksum::sha256_of_bytes;
use crate::cpio::{Node, Tree};
use crate::division::{self, Division, Fetched};
use crate::files;
use crate::firmware::Found;
use crate::initramfs::{self, Packing};
use crate::manifest::{ContentFile, FamilyBytes};
use crate::profile::{Delivery, Wanted};
use crate::progress::{Progress, Report, step};

/// What was made of the modules of an image.
pub(crate) struct Archives {
    /// The part of the initramfs that has the base, packed.
    pub(crate) base: Vec<u8>,
    pub(crate) contents: Vec<ContentFile>,
    pub(crate) families: Vec<FamilyBytes>,
}

/// What is put into archives.
pub(crate) struct Parts<'a> {
    /// Release of the kernel.
    pub(crate) kernel: &'a str,
    pub(crate) division: &'a Division<'a>,
    pub(crate) wanted: &'a Wanted,
    pub(crate) firmware: &'a Found,
    /// What the base says of the programs.
    pub(crate) tools: Option<Tools>,
    pub(crate) containerd: Option<Tools>,
}

/// Packs all modules, and writes what lies beside the initramfs into `directory`. `component_of` says of which component a file is.
///
/// # Errors
/// [`BuildError`] for what cannot be packed or written.
pub(crate) fn write(
    directory: &Path,
    parts: Parts<'_>,
    component_of: &dyn Fn(&str) -> String,
    report: &mut Report<'_>,
) -> Result<Archives, BuildError> {
    let Parts {
        kernel,
        division,
        wanted,
        firmware,
        tools,
        containerd,
    } = parts;
    let (mut contents, mut families) = (Vec::new(), Vec::new());
    let mut seals = BTreeMap::new();
    for (name, modules) in &division.overlays {
        let (tree, seal) = division::overlay_tree(kernel, name, modules, firmware)?;
        let packed = packed(&format!("drivers: {name}"), &tree, report)?;
        let file = archive_of(name);
        contents.extend(contents_of(&tree, &file, component_of));
        families.push(FamilyBytes {
            name: (*name).to_owned(),
            delivery: "overlay".to_owned(),
            bytes: packed.len() as u64,
            budget_bytes: budget_of(wanted, name, Delivery::Overlay),
            sha256: sha256_of_bytes(&packed),
        });
        files::write(&directory.join(file), packed)?;
        seals.insert((*name).to_owned(), seal);
    }
    if !division.overlays.is_empty() {
        files::write(&directory.join(OVERLAYS_FILE), division.table.to_text())?;
    }
    let mut fetched = None;
    if let Some(modules) = &division.fetched {
        let made = step(report, "modules to be fetched", None, |report| {
            division::fetched(kernel, modules, firmware, &mut |bytes| {
                report(Progress::Advanced { bytes });
            })
        })?;
        contents.extend(contents_of(&made.tree, ARCHIVE_FILE, component_of));
        families.extend(fetched_families(&made, division, wanted));
        files::write(&directory.join(ARCHIVE_FILE), &made.archive)?;
        files::write(&directory.join(CATALOGUE_FILE), &made.list)?;
        fetched = Some(made);
    }
    let seals = division::seals(fetched.as_ref(), seals, tools, containerd);
    let mut tree = initramfs::drivers_tree(kernel, &division.base, &seals)?;
    let in_base = division.base.iter().flat_map(|(_, module)| &module.info.firmware);
    for (name, content) in in_base.filter_map(|name| Some((name, firmware.files.get(name)?))) {
        initramfs::add_firmware(&mut tree, name, content.clone())?;
    }
    let base = packed("drivers", &tree, report)?;
    contents.extend(contents_of(&tree, INITRAMFS, component_of));
    families.push(FamilyBytes {
        name: drivers::BASE.to_owned(),
        delivery: drivers::BASE.to_owned(),
        bytes: base.len() as u64,
        budget_bytes: 0,
        sha256: sha256_of_bytes(&base),
    });
    Ok(Archives {
        base,
        contents,
        families,
    })
}

/// Sets what the profiles allow the agent and the base, and says which family has more than it may.
pub(crate) fn judge(families: &mut [FamilyBytes], budgets: &[(&str, u64)], report: &mut Report<'_>) {
    for family in families.iter_mut() {
        if let Some((_, bytes)) = budgets.iter().find(|(name, _)| *name == family.name) {
            family.budget_bytes = *bytes;
        }
        if family.bytes > family.budget_bytes {
            let text = format!(
                "{} has {} B, and the profile's list allows {}",
                family.name, family.bytes, family.budget_bytes
            );
            report(Progress::Noted { text: &text });
        }
    }
}

fn fetched_families(made: &Fetched, division: &Division<'_>, wanted: &Wanted) -> Vec<FamilyBytes> {
    let Some(modules) = &division.fetched else {
        return Vec::new();
    };
    let families = wanted.families.iter();
    let families = families.filter(|(family, _)| family.delivery == Delivery::Fetched);
    families
        .map(|(family, names)| FamilyBytes {
            name: family.name.to_owned(),
            delivery: "fetched".to_owned(),
            bytes: division::bytes_in(&made.tree, modules, names),
            budget_bytes: family.budget_bytes.unwrap_or_default(),
            sha256: String::new(),
        })
        .collect()
}

fn budget_of(wanted: &Wanted, name: &str, delivery: Delivery) -> u64 {
    let mut families = wanted.families.iter();
    let found = families.find(|(family, _)| family.name == name && family.delivery == delivery);
    found
        .and_then(|(family, _)| family.budget_bytes)
        .unwrap_or_default()
}

fn packed(name: &str, tree: &Tree, report: &mut Report<'_>) -> Result<Vec<u8>, BuildError> {
    Ok(step(report, name, Some(tree.len_bytes()), |report| {
        initramfs::compress(tree, Packing::Small, &mut |bytes| {
            report(Progress::Advanced { bytes })
        })
    })?)
}

/// What the manifest says of the files in an archive, and of the links where there are any.
pub(crate) fn contents_of(
    tree: &Tree,
    archive: &str,
    component_of: &dyn Fn(&str) -> String,
) -> Vec<ContentFile> {
    let file = |(path, node): (&str, &Node)| {
        let content = match node {
            Node::File { content, .. } => content.as_slice(),
            Node::Symlink { target } => target.as_bytes(),
            Node::CharacterDevice { .. } | Node::Directory { .. } => return None,
        };
        Some(ContentFile {
            archive: ContentFile::archive_for(archive),
            path: path.to_string(),
            bytes: content.len() as u64,
            sha256: sha256_of_bytes(content),
            component: component_of(path),
        })
    };
    tree.iter().filter_map(file).collect()
}
