//! The boot image directory: what of it may be replaced, and how a new one takes its place.
//!
//! A build deletes what an earlier one made, by the names and digests of its manifest, and nothing that it cannot name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::checksum::sha256_of_file;
use crate::files::{About, FileError};
use crate::manifest::{MANIFEST, Manifest};
use crate::progress::{Progress, Report};
use crate::scratch::Scratch;

/// Names that are shown of a directory's content.
const SHOWN: usize = 8;

/// What to do with files in the directory that no build made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// Name them, delete them with the rest. Directories are never deleted.
    Delete,
    /// Name them and build nothing.
    #[default]
    Refuse,
}

/// Why a directory is not written to.
#[derive(Debug, thiserror::Error)]
pub enum BootDirError {
    /// The directory could not be read or replaced.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is a file or a device.
    #[error("{} is no directory: name a new one, or an empty one", path.display())]
    NoDirectory { path: PathBuf },
    /// It has files in it that no build of a boot image made.
    #[error(
        "{} holds {what} that `farrier image build` did not make; nothing was changed: name a new directory or an empty one, \
         or say --force to delete {it}",
        path.display(),
        it = if .what.contains(", ") { "them" } else { "it" }
    )]
    OtherFiles { path: PathBuf, what: String },
    /// It has directories in it, and no build of a boot image makes any.
    #[error(
        "{} holds the directory {name:?}, which `farrier image build` did not make and never deletes; nothing was changed: \
         name a new directory or an empty one",
        path.display()
    )]
    Directory { path: PathBuf, name: String },
    /// Something came into the directory while the image was being built.
    #[error("the boot image is built; the former content of {} that is not Farrier's was kept in {}", path.display(), kept.display())]
    Kept { path: PathBuf, kept: PathBuf },
}

/// A place for a boot image, and what is deleted when the image takes it.
#[derive(Debug)]
pub(crate) struct Place {
    /// Absolute, without symbolic links: a link to a directory stays, what it leads to is replaced.
    path: PathBuf,
    /// File names; `None`: there is no directory yet.
    former: Option<Vec<String>>,
    /// The boot image that is there, if every file of it is as its build made it.
    whole: Option<Manifest>,
    /// Whether there are files that no build made.
    has_others: bool,
}

impl Place {
    /// Looks at the directory and says what will be deleted. Changes nothing but that its parent is made.
    ///
    /// # Errors
    /// [`BootDirError`] when something in it is not to be deleted.
    pub(crate) fn find(output: &Path, others: Others, report: &mut Report<'_>) -> Result<Self, BootDirError> {
        let path = resolved(output)?;
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    path,
                    former: None,
                    whole: None,
                    has_others: false,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(BootDirError::NoDirectory { path });
            }
            entries => entries.about("list", &path)?,
        };
        let manifest = Manifest::read(&path).ok();
        let made = manifest
            .as_ref()
            .map_or_else(Vec::new, |manifest| made_in(&path, manifest));
        let (mut former, mut foreign) = (Vec::new(), Vec::new());
        for entry in entries {
            let entry = entry.about("list", &path)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_directory = entry.file_type().about("look at", &entry.path())?.is_dir();
            // A name that is no text cannot be named, and so not be deleted.
            if is_directory || entry.file_name().to_str().is_none() {
                return Err(BootDirError::Directory { path, name });
            }
            if !made.contains(&name) {
                foreign.push(name.clone());
            }
            former.push(name);
        }
        former.sort();
        foreign.sort();
        if !foreign.is_empty() {
            if others == Others::Refuse {
                let what = in_words(&foreign);
                return Err(BootDirError::OtherFiles { path, what });
            }
            for name in &foreign {
                let text = format!("--force: {} will be deleted", path.join(name).display());
                report(Progress::Noted { text: &text });
            }
        }
        // The names of the manifest's files and of itself.
        let whole = manifest.filter(|manifest| made.len() == manifest.files.len() + 1);
        Ok(Self {
            path,
            former: Some(former),
            whole,
            has_others: !foreign.is_empty(),
        })
    }

    /// Where the boot image is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The boot image that is there, if it is whole.
    pub(crate) fn whole(&self) -> Option<&Manifest> {
        self.whole.as_ref()
    }

    /// Whether there are files that are to be deleted although no build made them.
    pub(crate) fn has_others(&self) -> bool {
        self.has_others
    }

    /// An empty directory beside the place.
    pub(crate) fn beside(&self) -> Result<Scratch, FileError> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        Scratch::make(".boot-image-", parent).about("create directory", parent)
    }

    /// Moves the complete directory to its place; what was there goes away after that.
    ///
    /// # Errors
    /// [`BootDirError`]; what was there is whole unless it says otherwise.
    pub(crate) fn take(&self, fresh: Scratch) -> Result<(), BootDirError> {
        complete(fresh.path())?;
        // From here on whoever ends the process must not remove it: it may hold what was there before.
        let fresh = fresh.keep();
        let Some(former) = &self.former else {
            fs::rename(&fresh, &self.path).about("write", &self.path)?;
            return Ok(sync_parent(&self.path)?);
        };
        // The two change places in one step: a server that reads meanwhile sees one or the other.
        let exchanged = nix::fcntl::renameat2(
            nix::fcntl::AT_FDCWD,
            &fresh,
            nix::fcntl::AT_FDCWD,
            &self.path,
            nix::fcntl::RenameFlags::RENAME_EXCHANGE,
        );
        exchanged.map_err(io::Error::from).about("replace", &self.path)?;
        sync_parent(&self.path)?;
        // What was there is now at the temporary place. Whatever is not on the list came since: it stays.
        let old = fresh;
        for name in former {
            let file = old.join(name);
            fs::remove_file(&file).about("remove", &file)?;
        }
        fs::remove_dir(&old).map_err(|_| BootDirError::Kept {
            path: self.path.clone(),
            kept: old,
        })
    }
}

/// The path without symbolic links; its parent is made.
fn resolved(output: &Path) -> Result<PathBuf, FileError> {
    if let Ok(path) = output.canonicalize() {
        return Ok(path);
    }
    let absolute = std::path::absolute(output).about("find", output)?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Ok(absolute);
    };
    crate::files::create_directory(parent)?;
    Ok(parent.canonicalize().about("find", parent)?.join(name))
}

/// Files that are as the build of this manifest made them.
fn made_in(directory: &Path, manifest: &Manifest) -> Vec<String> {
    let files = manifest.files.iter().filter(|file| {
        let digest = sha256_of_file(&directory.join(&file.name));
        digest.is_ok_and(|digest| digest == file.sha256)
    });
    let names = files.map(|file| file.name.clone());
    names.chain([MANIFEST.to_owned()]).collect()
}

fn in_words(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more files", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// Makes the directory fit to be seen: readable, and on the disk.
fn complete(directory: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;

    // Temporary directories are private; this one is for whoever serves it.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).about("make readable", directory)?;
    // Complete after a power cut too: a rename may reach the disk before what was written into the files.
    for entry in fs::read_dir(directory).about("list", directory)? {
        let path = entry.about("list", directory)?.path();
        // Whatever the umask of who builds is: it is served by another user.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).about("make readable", &path)?;
        let file = fs::File::open(&path).about("open", &path)?;
        file.sync_all().about("write", &path)?;
    }
    let itself = fs::File::open(directory).about("open", directory)?;
    itself.sync_all().about("write", directory)
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let directory = fs::File::open(parent).about("open", parent)?;
    directory.sync_all().about("write", parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::sha256_of_bytes;
    use crate::manifest::{FORMAT, ManifestFile};

    /// What a build would have made: one file and its manifest.
    fn built(directory: &Path, content: &str) {
        fs::write(directory.join("vmlinuz"), content).unwrap();
        let manifest = Manifest {
            version: FORMAT,
            profile: "lab".to_owned(),
            suite: String::new(),
            kernel: "6.1".to_owned(),
            modules: vec![],
            firmware: vec![],
            firmware_left_out: Default::default(),
            files: vec![ManifestFile {
                name: "vmlinuz".to_owned(),
                bytes: content.len() as u64,
                sha256: sha256_of_bytes(content.as_bytes()),
            }],
            components: vec![],
            families: vec![],
            contents: vec![],
            inputs: None,
        };
        fs::write(directory.join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
    }

    fn build(output: &Path, others: Others) -> (Result<(), BootDirError>, Vec<String>) {
        let mut said = Vec::new();
        let place = Place::find(output, others, &mut |progress| {
            if let Progress::Noted { text } = progress {
                said.push(text.to_owned());
            }
        });
        let done = place.and_then(|place| {
            let fresh = place.beside()?;
            built(fresh.path(), "new");
            place.take(fresh)
        });
        (done, said)
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_an_empty_and_its_own_directory_are_taken() {
        let parent = tempfile::tempdir().unwrap();
        let (fresh, empty, own) = (
            parent.path().join("a/b/boot"),
            parent.path().join("empty"),
            parent.path().join("own"),
        );
        fs::create_dir(&empty).unwrap();
        fs::create_dir(&own).unwrap();
        built(&own, "old");
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        for output in [&fresh, &empty, &own, &link] {
            let (done, said) = build(output, Others::Refuse);
            done.unwrap();
            assert_eq!(said, Vec::<String>::new());
            assert_eq!(names(output), [MANIFEST, "vmlinuz"]);
            assert_eq!(fs::read_to_string(output.join("vmlinuz")).unwrap(), "new");
        }
        assert!(link.is_symlink(), "what it leads to is replaced");
        assert_eq!(
            names(parent.path()),
            ["a", "empty", "link", "own"],
            "nothing is left"
        );
    }

    #[test]
    fn other_files_are_named_and_stay() {
        let output = tempfile::tempdir().unwrap();
        built(output.path(), "old");
        fs::write(output.path().join("farrier.redb"), "a store").unwrap();
        // Under a name of ours, and not of our making.
        fs::write(output.path().join("vmlinuz"), "another kernel").unwrap();
        let (done, _) = build(output.path(), Others::Refuse);
        let error = done.unwrap_err().to_string();
        let want = "holds \"farrier.redb\", \"vmlinuz\" that `farrier image build` did not make; nothing was changed";
        assert!(error.contains(want) && error.contains("--force"), "{error}");
        assert_eq!(names(output.path()), ["farrier.redb", MANIFEST, "vmlinuz"]);
    }

    #[test]
    fn force_says_what_it_deletes_and_deletes_no_directory() {
        let parent = tempfile::tempdir().unwrap();
        let output = parent.path().join("boot");
        fs::create_dir(&output).unwrap();
        fs::write(output.join("notes.txt"), "mine").unwrap();
        let (done, said) = build(&output, Others::Delete);
        done.unwrap();
        let want = format!(
            "--force: {} will be deleted",
            output.canonicalize().unwrap().join("notes.txt").display()
        );
        assert_eq!(said, [want]);
        assert_eq!(names(&output), [MANIFEST, "vmlinuz"]);

        fs::create_dir_all(output.join("blobs/00")).unwrap();
        for others in [Others::Refuse, Others::Delete] {
            let error = build(&output, others).0.unwrap_err().to_string();
            assert!(error.contains("holds the directory \"blobs\""), "{error}");
        }
        assert_eq!(names(&output), ["blobs", MANIFEST, "vmlinuz"]);
    }

    #[test]
    fn what_comes_while_it_builds_is_kept() {
        let parent = tempfile::tempdir().unwrap();
        let output = parent.path().join("boot");
        fs::create_dir(&output).unwrap();
        built(&output, "old");
        let place = Place::find(&output, Others::Refuse, &mut |_| {}).unwrap();
        let fresh = place.beside().unwrap();
        built(fresh.path(), "new");
        fs::write(output.join("late"), "mine").unwrap();
        let BootDirError::Kept { kept, .. } = place.take(fresh).unwrap_err() else {
            panic!("something was deleted, or it was not said")
        };
        assert_eq!(names(&kept), ["late"]);
        assert_eq!(fs::read_to_string(output.join("vmlinuz")).unwrap(), "new");
    }

    #[test]
    fn a_build_that_fails_leaves_the_earlier_one_whole() {
        let parent = tempfile::tempdir().unwrap();
        let output = parent.path().join("boot");
        fs::create_dir(&output).unwrap();
        built(&output, "old");
        let place = Place::find(&output, Others::Refuse, &mut |_| {}).unwrap();
        let fresh = place.beside().unwrap();
        fs::write(fresh.path().join("vmlinuz"), "half").unwrap();
        drop(fresh);
        assert_eq!(fs::read_to_string(output.join("vmlinuz")).unwrap(), "old");
        assert_eq!(names(parent.path()), ["boot"]);
    }

    #[test]
    fn a_file_is_no_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = build(file.path(), Others::Delete).0.unwrap_err().to_string();
        assert!(error.contains("is no directory"), "{error}");
    }
}
