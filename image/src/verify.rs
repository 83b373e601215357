//! Whether a boot image directory is as its build made it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use crate::checksum::{sha256_of_bytes, sha256_of_file};
use crate::files::{About, FileError};
use crate::manifest::{MANIFEST, Manifest, ManifestError, ManifestFile};
use crate::newc;

/// Why a directory cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file is there and cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It has no manifest to check by.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What was found.
#[derive(Debug)]
pub struct Verified {
    /// What the directory should be.
    pub manifest: Manifest,
    /// What is not so, by file; empty: it is whole.
    pub faults: Vec<Fault>,
    /// Files that no build made. They do no harm.
    pub others: Vec<String>,
}

/// A file that is not as the build made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Name in the directory, or an archive's, `: ` and a path in it.
    pub file: String,
    /// What is wrong.
    pub what: What,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It has other bytes, as many as it should.
    Content { is: String, expected: String },
    /// It is not there.
    Missing,
    /// It cannot be unpacked.
    Packing,
    /// It has more bytes or fewer.
    Size { is: u64, expected: u64 },
    /// The manifest does not name it.
    Unknown,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        match &self.what {
            What::Content { is, expected } => {
                write!(
                    formatter,
                    "{file} has the SHA-256 {is}, and {MANIFEST} says {expected}"
                )
            }
            What::Missing => write!(formatter, "{file} is missing"),
            What::Packing => write!(formatter, "{file} cannot be unpacked"),
            What::Size { is, expected } => {
                write!(formatter, "{file} has {is} B, and {MANIFEST} says {expected}")
            }
            What::Unknown => write!(formatter, "{file} is there, and {MANIFEST} does not name it"),
        }
    }
}

impl Verified {
    /// What is wrong, in one line; `None`: nothing is.
    pub fn in_words(&self) -> Option<String> {
        let (first, more) = self.faults.split_first()?;
        let more = match more.len() {
            0 => String::new(),
            1 => ", and so is one more file".to_owned(),
            more => format!(", and so are {more} more files"),
        };
        Some(format!("{first}{more}"))
    }
}

/// Compares the files of a boot image directory with its manifest, by size and SHA-256.
///
/// # Errors
/// [`VerifyError`] when it has no manifest that can be read, or a file cannot be read.
pub fn verify(boot_dir: &Path) -> Result<Verified, VerifyError> {
    let manifest = Manifest::read(boot_dir)?;
    let mut faults = Vec::new();
    for file in &manifest.files {
        let path = boot_dir.join(&file.name);
        if let Some(what) = fault_of(&path, file)? {
            let file = file.name.clone();
            faults.push(Fault { file, what });
        }
    }
    let mut others = Vec::new();
    for entry in fs::read_dir(boot_dir).about("list", boot_dir)? {
        let name = entry
            .about("list", boot_dir)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        if name != MANIFEST && manifest.files.iter().all(|file| file.name != name) {
            others.push(name);
        }
    }
    others.sort();
    Ok(Verified {
        manifest,
        faults,
        others,
    })
}

/// Compares what is in the archives with what the manifest says of it. Images that Farrier 0.1 built do not say.
///
/// # Errors
/// [`FileError`] when an archive cannot be read.
pub fn contents(boot_dir: &Path, manifest: &Manifest) -> Result<Vec<Fault>, FileError> {
    let mut faults = Vec::new();
    if !manifest.contents.is_empty() {
        for archive in manifest.archives() {
            faults.extend(contents_of(boot_dir, manifest, archive)?);
        }
    }
    Ok(faults)
}

fn contents_of(boot_dir: &Path, manifest: &Manifest, name: &str) -> Result<Vec<Fault>, FileError> {
    let archive = newc::unpacked(&boot_dir.join(name))?.unwrap_or_default();
    let Some(entries) = newc::entries(&archive) else {
        let (file, what) = (name.to_owned(), What::Packing);
        return Ok(vec![Fault { file, what }]);
    };
    let mut there: BTreeMap<String, &[u8]> = entries.into_iter().collect();
    let mut faults = Vec::new();
    let mut note = |path: &str, what| {
        let file = format!("{name}: {path}");
        faults.push(Fault { file, what });
    };
    for expected in manifest.contents.iter().filter(|one| one.archive() == name) {
        let what = match there.remove(&expected.path) {
            None => Some(What::Missing),
            Some(content) => different(
                content.len() as u64,
                || Ok(sha256_of_bytes(content)),
                expected.bytes,
                &expected.sha256,
            )?,
        };
        if let Some(what) = what {
            note(&expected.path, what);
        }
    }
    // Directories and devices have no content.
    for (path, _) in there.iter().filter(|(_, content)| !content.is_empty()) {
        note(path, What::Unknown);
    }
    Ok(faults)
}

fn fault_of(path: &Path, file: &ManifestFile) -> Result<Option<What>, FileError> {
    let is_bytes = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(What::Missing)),
        metadata => metadata.about("look at", path)?.len(),
    };
    let digest = || sha256_of_file(path).about("read", path);
    different(is_bytes, digest, file.bytes, &file.sha256)
}

/// The digest is taken only of what has the right size.
fn different(
    is_bytes: u64,
    digest: impl FnOnce() -> Result<String, FileError>,
    bytes: u64,
    sha256: &str,
) -> Result<Option<What>, FileError> {
    if is_bytes != bytes {
        let (is, expected) = (is_bytes, bytes);
        return Ok(Some(What::Size { is, expected }));
    }
    let (is, expected) = (digest()?, sha256.to_owned());
    Ok((is != expected).then_some(What::Content { is, expected }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cpio::{Node, Tree};
    use crate::initramfs;
    use crate::manifest::{Component, ContentFile, FORMAT};

    /// A boot image of a kernel and these files in the initramfs.
    pub(crate) fn boot_image(directory: &Path, kernel: &str, files: &[(&str, &str)]) -> Manifest {
        let mut tree = Tree::default();
        for (path, content) in files {
            let content = content.as_bytes().to_vec();
            let permissions = 0o644;
            tree.add(path, Node::File { permissions, content }).unwrap();
        }
        let packed = initramfs::compress(&tree, initramfs::Packing::Small, &mut |_| {}).unwrap();
        let file = |name: &str, content: &[u8]| {
            fs::write(directory.join(name), content).unwrap();
            ManifestFile {
                name: name.to_owned(),
                bytes: content.len() as u64,
                sha256: sha256_of_bytes(content),
            }
        };
        let module = |path: &str| Some(path.rsplit('/').next()?.strip_suffix(".ko")?.to_owned());
        let manifest = Manifest {
            version: FORMAT,
            profile: "lab".to_owned(),
            suite: "trixie".to_owned(),
            kernel: kernel.to_owned(),
            modules: files.iter().filter_map(|(path, _)| module(path)).collect(),
            firmware: vec![],
            firmware_left_out: Default::default(),
            files: vec![file("initramfs.img", &packed), file("vmlinuz", kernel.as_bytes())],
            components: vec![Component {
                name: "linux-image".to_owned(),
                version: kernel.to_owned(),
                license: "GPL-2.0-only".to_owned(),
                sha256: sha256_of_bytes(kernel.as_bytes()),
                suite: "trixie".to_owned(),
                path: "pool/linux.deb".to_owned(),
                files: vec![],
                firmware: vec![],
            }],
            families: vec![],
            contents: files
                .iter()
                .map(|(path, content)| ContentFile {
                    archive: String::new(),
                    path: (*path).to_owned(),
                    bytes: content.len() as u64,
                    sha256: sha256_of_bytes(content.as_bytes()),
                    component: "linux-image".to_owned(),
                })
                .collect(),
            inputs: None,
        };
        fs::write(directory.join(MANIFEST), manifest.to_text()).unwrap();
        manifest
    }

    #[test]
    fn a_whole_image_is_whole_and_other_files_do_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        boot_image(directory.path(), "6.12", &[("init", "agent"), ("lib/a.ko", "a")]);
        fs::write(directory.path().join("notes.txt"), "mine").unwrap();
        let verified = verify(directory.path()).unwrap();
        assert_eq!((verified.faults.as_slice(), verified.in_words()), (&[][..], None));
        assert_eq!(verified.others, ["notes.txt"]);
        assert_eq!(contents(directory.path(), &verified.manifest).unwrap(), []);
    }

    #[test]
    fn what_is_damaged_is_named_with_what_it_should_be() {
        let directory = tempfile::tempdir().unwrap();
        let vmlinuz = directory.path().join("vmlinuz");
        for (damage, want) in [
            ("6.1", "vmlinuz has 3 B, and manifest.json says 4"),
            ("6.13", "vmlinuz has the SHA-256 "),
        ] {
            boot_image(directory.path(), "6.12", &[("init", "agent")]);
            fs::write(&vmlinuz, damage).unwrap();
            let said = verify(directory.path()).unwrap().in_words().unwrap();
            assert!(said.starts_with(want), "{said}");
        }
        fs::remove_file(&vmlinuz).unwrap();
        fs::write(directory.path().join("initramfs.img"), "").unwrap();
        let said = verify(directory.path()).unwrap().in_words().unwrap();
        assert!(
            said.starts_with("initramfs.img has 0 B, and manifest.json says "),
            "{said}"
        );
        assert!(said.ends_with(", and so is one more file"), "{said}");
    }

    #[test]
    fn what_is_in_the_initramfs_is_held_against_the_manifest() {
        let directory = tempfile::tempdir().unwrap();
        let mut manifest = boot_image(
            directory.path(),
            "6.12",
            &[("a", "1"), ("b", "2"), ("c", "3"), ("init", "agent")],
        );
        manifest.contents[0].sha256 = "other".to_owned();
        manifest.contents[1].bytes = 7;
        manifest.contents[2].path = "d".to_owned();
        let said: Vec<String> = contents(directory.path(), &manifest)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(
            said[0].starts_with("initramfs.img: a has the SHA-256 6b86"),
            "{said:?}"
        );
        assert_eq!(said[1], "initramfs.img: b has 1 B, and manifest.json says 7");
        assert_eq!(said[2], "initramfs.img: d is missing");
        assert_eq!(
            said[3],
            "initramfs.img: c is there, and manifest.json does not name it"
        );
        fs::write(directory.path().join("initramfs.img"), "text").unwrap();
        let faults = contents(directory.path(), &manifest).unwrap();
        assert_eq!(faults[0].to_string(), "initramfs.img cannot be unpacked");
    }
}
