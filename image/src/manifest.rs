//! `manifest.json`: what is in a boot image directory, from what it was made, and under which licences.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::boot_image::INITRAMFS;
use crate::files::{About, FileError};

/// The content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub version: u32,
    /// Profile of the image, such as `lab`.
    pub profile: String,
    /// The suite that was asked for its packages; empty in what Farrier 0.1 wrote.
    #[serde(default)]
    pub suite: String,
    /// Release of the kernel, the name of its directory below `lib/modules`.
    pub kernel: String,
    /// Names of the kernel modules in the initramfs.
    pub modules: Vec<String>,
    /// Names of the firmware files in the initramfs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
    /// By module, firmware that it may ask for and that the image does not have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub firmware_left_out: BTreeMap<String, Vec<String>>,
    /// The files beside the manifest, sorted by name.
    pub files: Vec<ManifestFile>,
    /// What the files were made from.
    pub components: Vec<Component>,
    /// What each family of drivers, and the agent, has of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<FamilyBytes>,
    /// The files in the initramfs and in the other archives, sorted by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<ContentFile>,
    /// What the image was made of, so that the next build sees what has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
}

/// One file of the boot image directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Name within the directory.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: String,
}

/// What a family of drivers, or the agent, has of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyBytes {
    /// `agent`, `base`, or a family of the profile's list.
    pub name: String,
    /// `base`: in every machine's initramfs; `overlay`: in an archive of its own; `fetched`: by the agent, one by one.
    pub delivery: String,
    /// Packed.
    pub bytes: u64,
    /// What the list allows.
    pub budget_bytes: u64,
    /// SHA-256 of the archive; empty for what is fetched, whose files have one each.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

/// One file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentFile {
    /// The archive; empty for the initramfs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub archive: String,
    /// Path below the root.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: String,
    /// Name of the component that it is from, which has its version and its licence.
    pub component: String,
}

impl ContentFile {
    /// How the archive of this name is written here.
    pub(crate) fn archive_for(name: &str) -> String {
        if name == INITRAMFS {
            return String::new();
        }
        name.to_string()
    }

    /// The name of the archive that it is in.
    pub fn archive(&self) -> &str {
        if self.archive.is_empty() {
            INITRAMFS
        } else {
            &self.archive
        }
    }
}

/// One piece of software that is in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Name: the Debian package's, or `farrier-agent`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SPDX licence expression.
    pub license: String,
    /// SHA-256 of the package or binary; empty for what the build itself writes.
    pub sha256: String,
    /// The suite of Debian that has it, such as `trixie-security`; empty for what is no package.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suite: String,
    /// Path of the package below the mirror's URL.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The files beside the manifest that have something of it.
    #[serde(default)]
    pub files: Vec<String>,
    /// Names of the firmware files that are from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
}

/// What an image was made of. Two builds with the same inputs give the same bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Digest of everything but agent, certificates and packages: Farrier's version, its lists, what was chosen, a kernel of one's own.
    pub settings: String,
    /// SHA-256 of the agent.
    pub agent: String,
    /// SHA-256 of the site's certificate authorities; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authorities: String,
    /// SHA-256 of each package by what it was asked for; empty for one that the suite did not have.
    pub packages: BTreeMap<String, String>,
    /// Bytes at the beginning of the initramfs that have nothing of agent and certificates.
    pub drivers_bytes: u64,
}

/// Why there is no manifest to be had of a directory.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory has none.
    #[error(
        "{} has no manifest.json, so it is no boot image: `farrier image build --boot-dir {}` makes one",
        path.display(),
        path.display()
    )]
    Missing { path: PathBuf },
    /// It is of a later Farrier.
    #[error("{} has a manifest of format {version}, and this farrier knows up to {FORMAT}: use the farrier that built it", path.display())]
    Newer { path: PathBuf, version: u32 },
    /// It is no manifest.
    #[error("{} is no manifest of a boot image, or damaged: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
}

impl Manifest {
    /// Reads `manifest.json` of a boot image directory.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(boot_dir: &Path) -> Result<Self, ManifestError> {
        let path = boot_dir.join(MANIFEST);
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ManifestError::Missing {
                    path: boot_dir.to_path_buf(),
                });
            }
            file => file.about("open", &path)?,
        };
        let mut text = Vec::new();
        file.take(SIZE_LIMIT + 1)
            .read_to_end(&mut text)
            .about("read", &path)?;
        let unreadable = |why| ManifestError::Unreadable {
            path: path.clone(),
            why,
        };
        if text.len() as u64 > SIZE_LIMIT {
            return Err(unreadable(format!("it is larger than {SIZE_LIMIT} B")));
        }
        let manifest = Self::parse(&text).map_err(unreadable)?;
        if manifest.version > FORMAT {
            return Err(ManifestError::Newer {
                path,
                version: manifest.version,
            });
        }
        Ok(manifest)
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// Says in words what is wrong with it: no such JSON, or a file name that leads out of the directory.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let leads_out = |name: &&ManifestFile| {
            name.name.is_empty() || name.name.contains(['/', '\0']) || name.name.starts_with('.')
        };
        if let Some(file) = manifest.files.iter().find(leads_out) {
            return Err(format!("{:?} is no name of a file beside it", file.name));
        }
        let unnamed = |content: &&ContentFile| {
            !content.archive.is_empty() && manifest.files.iter().all(|file| file.name != content.archive)
        };
        if let Some(content) = manifest.contents.iter().find(unnamed) {
            return Err(format!(
                "{:?} is none of its files, and is to hold {:?}",
                content.archive, content.path
            ));
        }
        Ok(manifest)
    }

    /// The bytes of `manifest.json`.
    pub(crate) fn to_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// The names of the archives that hold the files of `contents`; the initramfs is always one.
    pub fn archives(&self) -> BTreeSet<&str> {
        let named = self.contents.iter().map(ContentFile::archive);
        named.chain([INITRAMFS]).collect()
    }

    /// Returns the size of the file called `name`, or 0 if there is none.
    pub fn bytes_of(&self, name: &str) -> u64 {
        self.files
            .iter()
            .find(|file| file.name == name)
            .map_or(0, |file| file.bytes)
    }
}

/// The file that says what a build made.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Version of the manifest's format.
pub(crate) const FORMAT: u32 = 1;
/// That of all modules and firmware of Debian is below 2 MB.
const SIZE_LIMIT: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"version": 1, "profile": "lab", "kernel": "6.1", "modules": [], "files": [
        {"name": "vmlinuz", "bytes": 1, "sha256": "x"}], "components": []}"#;

    #[test]
    fn what_farrier_0_1_wrote_is_read() {
        let manifest = Manifest::parse(SMALL.as_bytes()).unwrap();
        assert_eq!((manifest.suite.as_str(), manifest.inputs), ("", None));
        assert_eq!(manifest.files[0].name, "vmlinuz");
    }

    #[test]
    fn names_that_lead_out_of_the_directory_are_refused() {
        for name in ["../shadow", "/etc/shadow", "a/b", "", ".", "..", ".hidden"] {
            let error = Manifest::parse(SMALL.replace("vmlinuz", name).as_bytes()).unwrap_err();
            assert!(
                error.contains("is no name of a file beside it"),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn an_archive_that_is_no_file_beside_it_is_refused() {
        let content = r#""components": [], "contents": [
            {"archive": "../x", "path": "init", "bytes": 1, "sha256": "x", "component": "c"}]"#;
        let error = Manifest::parse(SMALL.replace("\"components\": []", content).as_bytes()).unwrap_err();
        assert_eq!(error, "\"../x\" is none of its files, and is to hold \"init\"");
        let content = content.replace("../x", "vmlinuz");
        let manifest = Manifest::parse(SMALL.replace("\"components\": []", &content).as_bytes()).unwrap();
        assert_eq!(
            manifest.archives().into_iter().collect::<Vec<_>>(),
            ["initramfs.img", "vmlinuz"]
        );
    }

    #[test]
    fn a_directory_without_one_and_one_of_a_later_farrier_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = Manifest::read(directory.path()).unwrap_err().to_string();
        assert!(
            error.contains("has no manifest.json, so it is no boot image"),
            "{error}"
        );
        for (text, want) in [
            (
                SMALL.replace("\"version\": 1", "\"version\": 2"),
                "has a manifest of format 2",
            ),
            (
                "{}".to_owned(),
                "is no manifest of a boot image, or damaged: missing field",
            ),
        ] {
            fs::write(directory.path().join(MANIFEST), text).unwrap();
            let error = Manifest::read(directory.path()).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
