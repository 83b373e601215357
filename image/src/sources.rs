//! What an image is made of while it is built: the components, and the texts of licences that have no name of their own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::apt::Package;
use crate::manifest::Component;

/// The components of an image.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) components: Vec<Component>,
    /// Text by `LicenseRef-…`.
    pub(crate) licences: BTreeMap<String, String>,
}

impl Sources {
    /// Adds a Debian package: `root` is where it was unpacked to, with its `copyright`.
    pub(crate) fn package(&mut self, package: &Package, root: &Path, files: &[&str], firmware: Vec<String>) {
        let license = match known_licence(&package.name) {
            Some(known) => known.to_string(),
            None => match copyright(root, &package.name) {
                Some(text) => {
                    let reference = format!("LicenseRef-Debian-{}", id_of(&package.name));
                    self.licences.insert(reference.clone(), text);
                    reference
                }
                None => NO_ASSERTION.to_string(),
            },
        };
        self.components.push(Component {
            name: package.name.clone(),
            version: package.version.clone(),
            license,
            sha256: package.sha256.clone(),
            suite: package.suite.clone(),
            path: package.path.clone(),
            files: files.iter().map(|file| (*file).to_string()).collect(),
            firmware,
        });
    }

    /// Adds what is no package.
    pub(crate) fn other(&mut self, name: &str, version: &str, sha256: String, files: &[&str]) {
        self.components.push(Component {
            name: name.to_string(),
            version: version.to_string(),
            license: known_licence(name).unwrap_or(NO_ASSERTION).to_string(),
            sha256,
            suite: String::new(),
            path: String::new(),
            files: files.iter().map(|file| (*file).to_string()).collect(),
            firmware: Vec::new(),
        });
    }
}

/// Where a package says under which licences it is, below where it is unpacked to.
pub(crate) fn copyright_path(package: &str) -> String {
    format!("usr/share/doc/{package}/copyright")
}

/// The text, if the package has it itself and does not link to that of another one.
fn copyright(root: &Path, package: &str) -> Option<String> {
    let root = root.canonicalize().ok()?;
    let file = root.join(copyright_path(package)).canonicalize().ok()?;
    if !file.starts_with(&root) || !file.is_file() {
        return None;
    }
    let mut text = Vec::new();
    File::open(&file)
        .ok()?
        .take(COPYRIGHT_LIMIT)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The licence of what images are made from, where SPDX has a name for all of it.
///
/// Source: `debian/copyright` of each package.
fn known_licence(name: &str) -> Option<&'static str> {
    match name {
        "farrier" | "farrier-agent" => Some("Apache-2.0"),
        "ipxe" => Some("GPL-2.0-or-later"),
        "linux" => Some("GPL-2.0-only WITH Linux-syscall-note"),
        name if name.starts_with("grub-") => Some("GPL-3.0-or-later"),
        name if name.starts_with("linux-") => Some("GPL-2.0-only WITH Linux-syscall-note"),
        _ => None,
    }
}

/// A name with the letters that ids of SPDX may have.
pub(crate) fn id_of(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
    name.chars()
        .map(|letter| if plain(letter) { letter } else { '-' })
        .collect()
}

/// SPDX for: nobody has looked.
pub(crate) const NO_ASSERTION: &str = "NOASSERTION";
/// That of linux-firmware has 200 KiB.
const COPYRIGHT_LIMIT: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    fn package(name: &str) -> Package {
        Package {
            name: name.into(),
            version: "1:2+b".into(),
            first_dependency: None,
            dependencies: vec![],
            suite: "trixie".into(),
            path: "pool/x.deb".into(),
            bytes: 1,
            sha256: "s".into(),
            file: PathBuf::new(),
        }
    }

    #[test]
    fn a_licence_is_known_or_the_packages_own_text() {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [("firmware-x", "Redistribution is fine."), ("ipxe", "GPL")] {
            let file = root.path().join(copyright_path(name));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        // A link out of the package is not followed.
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::create_dir_all(root.path().join("usr/share/doc/firmware-y")).unwrap();
        symlink(outside.path(), root.path().join(copyright_path("firmware-y"))).unwrap();
        let mut sources = Sources::default();
        for name in ["firmware-x", "firmware-y", "ipxe"] {
            sources.package(&package(name), root.path(), &[], vec![]);
        }
        let licences: Vec<&str> = sources
            .components
            .iter()
            .map(|one| one.license.as_str())
            .collect();
        assert_eq!(
            licences,
            ["LicenseRef-Debian-firmware-x", NO_ASSERTION, "GPL-2.0-or-later"]
        );
        assert_eq!(
            sources.licences["LicenseRef-Debian-firmware-x"],
            "Redistribution is fine."
        );
        assert_eq!(sources.licences.len(), 1);
    }
}
