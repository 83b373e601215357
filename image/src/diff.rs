//! What is different in two boot images: settings, packages, modules, firmware, and files, to the byte.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::boot_image::INITRAMFS;
use crate::files::{self, FileError};
use crate::manifest::{Component, Manifest, ManifestError};
use crate::modules::{module_name, without_packing};
use crate::newc;

/// One thing that the two do not have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// `setting`, `package`, `module`, `firmware`, `content` (in an archive) or `file` (beside the manifest).
    pub kind: &'static str,
    /// Its name or path.
    pub name: String,
    /// What the first one has; empty: it has none.
    pub from: String,
    /// What the second one has; empty: it has none.
    pub to: String,
    /// The first byte that is different, counted from 0, where both have the file.
    pub at_byte: Option<u64>,
}

/// Why two directories cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// An archive is damaged.
    #[error("{} is no archive of `farrier image build`, or damaged: `farrier image verify` says what else is", path.display())]
    Damaged { path: PathBuf },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A directory is no boot image.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Compares two boot image directories; nothing is given when they are the same.
///
/// # Errors
/// [`DiffError`] when one is no boot image that can be read.
pub fn diff(one: &Path, other: &Path) -> Result<Vec<Difference>, DiffError> {
    let manifests = (Manifest::read(one)?, Manifest::read(other)?);
    let mut differences = settings(&manifests.0, &manifests.1);
    differences.extend(packages(&manifests.0, &manifests.1));
    let archives = (archives(one, &manifests.0)?, archives(other, &manifests.1)?);
    let (from, to) = (files_of(&archives.0, one)?, files_of(&archives.1, other)?);
    differences.extend(contents(&from, &to));
    differences.extend(beside(one, &manifests.0, other, &manifests.1)?);
    Ok(differences)
}

/// Name and content of each archive, unpacked.
fn archives(directory: &Path, manifest: &Manifest) -> Result<Vec<(String, Vec<u8>)>, DiffError> {
    let names = manifest.archives().into_iter();
    names
        .map(|name| {
            let path = directory.join(name);
            let archive = newc::unpacked(&path)?.ok_or(DiffError::Damaged { path })?;
            Ok((name.to_owned(), archive))
        })
        .collect()
}

/// What a file is called here: its kind, its name, and the archive where that is not the initramfs.
type Key = (&'static str, String);

/// The files of unpacked archives: directories and devices have no content.
fn files_of<'a>(
    archives: &'a [(String, Vec<u8>)],
    directory: &Path,
) -> Result<BTreeMap<Key, &'a [u8]>, DiffError> {
    let mut files = BTreeMap::new();
    for (name, archive) in archives {
        let entries = newc::entries(archive).ok_or_else(|| DiffError::Damaged {
            path: directory.join(name),
        })?;
        for (path, content) in entries.into_iter().filter(|(_, content)| !content.is_empty()) {
            // Modules and firmware have the same names in two kernels, and other paths.
            let (kind, mut key) = key_of(&path);
            if name != INITRAMFS {
                key = format!("{key} in {name}");
            }
            files.insert((kind, key), content);
        }
    }
    Ok(files)
}

fn settings(one: &Manifest, other: &Manifest) -> Vec<Difference> {
    let settings = [
        ("profile", &one.profile, &other.profile),
        ("suite", &one.suite, &other.suite),
        ("kernel", &one.kernel, &other.kernel),
    ];
    let different = settings.into_iter().filter(|(_, from, to)| from != to);
    different
        .map(|(name, from, to)| Difference {
            kind: "setting",
            name: name.to_owned(),
            from: from.clone(),
            to: to.clone(),
            at_byte: None,
        })
        .collect()
}

fn packages(one: &Manifest, other: &Manifest) -> Vec<Difference> {
    let by_name = |manifest: &Manifest| -> BTreeMap<String, Component> {
        let named = manifest.components.iter().cloned();
        named
            .map(|component| (component.name.clone(), component))
            .collect()
    };
    let (from, to) = (by_name(one), by_name(other));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let mut different = Vec::new();
    for name in names {
        let (from, to) = (from.get(name), to.get(name));
        let is =
            |component: Option<&Component>| component.map(|one| (one.version.clone(), one.sha256.clone()));
        if is(from) == is(to) {
            continue;
        }
        // The same version with other bytes is another build of it: then the digest tells them apart.
        let same_version = from.map(|one| &one.version) == to.map(|one| &one.version);
        let text = |component: Option<&Component>| match component {
            None => String::new(),
            Some(one) if same_version => {
                let short: String = one.sha256.chars().take(12).collect();
                format!("{} {short}", one.version)
            }
            Some(one) => one.version.clone(),
        };
        different.push(Difference {
            kind: "package",
            name: name.clone(),
            from: text(from),
            to: text(to),
            at_byte: None,
        });
    }
    different
}

fn contents(from: &BTreeMap<Key, &[u8]>, to: &BTreeMap<Key, &[u8]>) -> Vec<Difference> {
    let keys: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    let mut different: Vec<Difference> = keys
        .into_iter()
        .filter_map(|key| {
            let (from, to) = (from.get(key), to.get(key));
            between(key.0, &key.1, from.copied(), to.copied())
        })
        .collect();
    let order = ["module", "firmware", "content"];
    different.sort_by_key(|one| order.iter().position(|kind| *kind == one.kind));
    different
}

fn key_of(path: &str) -> (&'static str, String) {
    if let Some(name) = path.strip_prefix("lib/firmware/") {
        return ("firmware", without_packing(name).to_owned());
    }
    let below = path
        .strip_prefix("lib/modules/")
        .and_then(|path| path.split_once('/'));
    match below {
        Some((_, module)) if without_packing(module).ends_with(".ko") => ("module", module_name(module)),
        Some((_, list)) => ("content", format!("lib/modules/*/{list}")),
        None => ("content", path.to_owned()),
    }
}

fn beside(
    one: &Path,
    of_one: &Manifest,
    other: &Path,
    of_other: &Manifest,
) -> Result<Vec<Difference>, DiffError> {
    let names = |manifest: &Manifest| -> BTreeSet<String> {
        manifest.files.iter().map(|file| file.name.clone()).collect()
    };
    let (in_one, in_other) = (names(of_one), names(of_other));
    let mut different = Vec::new();
    for name in in_one.union(&in_other) {
        let read = |directory: &Path, there: &BTreeSet<String>| {
            let there = there.contains(name);
            there.then(|| files::read(&directory.join(name))).transpose()
        };
        let (from, to) = (read(one, &in_one)?, read(other, &in_other)?);
        different.extend(between("file", name, from.as_deref(), to.as_deref()));
    }
    Ok(different)
}

/// The difference of two contents, if there is one.
fn between(kind: &'static str, name: &str, from: Option<&[u8]>, to: Option<&[u8]>) -> Option<Difference> {
    if from == to {
        return None;
    }
    let size =
        |content: Option<&[u8]>| content.map_or_else(String::new, |content| format!("{} B", content.len()));
    let at_byte = from.zip(to).map(|(from, to)| {
        let same = from.iter().zip(to).take_while(|(from, to)| from == to);
        same.count() as u64
    });
    Some(Difference {
        kind,
        name: name.to_owned(),
        from: size(from),
        to: size(to),
        at_byte,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::verify::tests::boot_image;

    #[test]
    fn the_same_image_twice_has_no_differences() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&one, &other] {
            boot_image(directory.path(), "6.12", &[("init", "agent")]);
        }
        assert_eq!(diff(one.path(), other.path()).unwrap(), []);
    }

    #[test]
    fn what_changed_is_said_by_package_module_and_byte() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        boot_image(
            one.path(),
            "6.12",
            &[
                ("init", "agent one"),
                ("lib/firmware/x.fw", "code"),
                ("lib/modules/6.12/kernel/net/igb.ko", "module 1"),
                ("lib/modules/6.12/kernel/net/same.ko", "same"),
            ],
        );
        boot_image(
            other.path(),
            "6.13",
            &[
                ("init", "agent two"),
                ("lib/modules/6.13/kernel/drivers/net/igb.ko", "module 22"),
                ("lib/modules/6.13/kernel/net/ice.ko", "new"),
                ("lib/modules/6.13/kernel/net/same.ko", "same"),
            ],
        );
        let said: Vec<_> = diff(one.path(), other.path())
            .unwrap()
            .into_iter()
            .map(|one| (one.kind, one.name, one.from, one.to, one.at_byte))
            .collect();
        let want = [
            ("setting", "kernel", "6.12", "6.13", None),
            ("package", "linux-image", "6.12", "6.13", None),
            ("module", "ice", "", "3 B", None),
            ("module", "igb", "8 B", "9 B", Some(7)),
            ("firmware", "x.fw", "4 B", "", None),
            ("content", "init", "9 B", "9 B", Some(6)),
        ];
        for (said, want) in said.iter().zip(want) {
            let (kind, name, from, to, at_byte) = said;
            assert_eq!((*kind, name.as_str(), from.as_str(), to.as_str(), *at_byte), want);
        }
        let files: Vec<&str> = said[want.len()..].iter().map(|one| one.1.as_str()).collect();
        assert_eq!(files, ["initramfs.img", "vmlinuz"]);
        assert_eq!(said[want.len() + 1].4, Some(3), "6.12 and 6.13");
    }

    #[test]
    fn another_build_of_the_same_version_is_told_by_its_digest() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        boot_image(one.path(), "6.12", &[("init", "agent")]);
        let mut manifest = boot_image(other.path(), "6.12", &[("init", "agent")]);
        manifest.components[0].sha256 = "0123456789abcdef".to_owned();
        fs::write(other.path().join("manifest.json"), manifest.to_text()).unwrap();
        let differences = diff(one.path(), other.path()).unwrap();
        let [package] = &differences[..] else {
            panic!("{differences:?}")
        };
        assert_eq!(
            (package.kind, package.to.as_str()),
            ("package", "6.12 0123456789ab")
        );
    }

    #[test]
    fn what_is_no_boot_image_is_named() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        boot_image(one.path(), "6.12", &[("init", "agent")]);
        let error = diff(one.path(), other.path()).unwrap_err().to_string();
        assert!(error.contains("has no manifest.json"), "{error}");
        boot_image(other.path(), "6.12", &[("init", "agent")]);
        fs::write(other.path().join("initramfs.img"), "text").unwrap();
        let error = diff(one.path(), other.path()).unwrap_err().to_string();
        assert!(error.contains("initramfs.img is no archive of"), "{error}");
    }
}
