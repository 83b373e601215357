//! An archive that is no layer, unpacked beside its place and then moved into it.
//!
//! The folder in which it is unpacked lies in the destination, so that both are of one filesystem; as long as it is there, what
//! is in the destination may be half of an archive. Whoever finds it begins anew: moving twice ends in the same. Nobody else
//! writes in the destination meanwhile. The layers' unpacker makes the files, without whiteouts.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Uid};
use rustix::io::Errno;

use super::archive::Archive;
use super::calls::{give_time_back, is_folder, look, modified, open_folder, set_attribute, within};
use super::error::{LayerError, shown};
use super::tree::{Form, Tree};
use super::walk::joined;
use super::{Room, take};

/// The folder in the destination.
const NAME: &str = ".farrier-archive2disk";
/// As many files as no filesystem here has inodes for; the filesystem's own bound is met before.
const LIMIT_ENTRIES: u64 = 1 << 32;
/// Folders within folders.
const LIMIT_DEPTH: usize = 2048;

/// A destination, and the folder in it that is not in its place yet.
#[derive(Debug)]
pub struct Beside {
    destination: OwnedFd,
    /// As the kernel names it, for calls that take no descriptor.
    folder: PathBuf,
    found_one: bool,
    /// The destination's own time, before the folder was made.
    modified: Timespec,
    implied: BTreeSet<Vec<u8>>,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub entries: u64,
    /// Of the archive.
    pub archive_bytes: u64,
    /// Attributes that this filesystem does not know.
    pub attributes_left_out: u64,
}

/// Why files could not be moved into their place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Found before anything was moved.
    #[error(
        "the archive has {what} {path}, and in the destination that is {there}: nothing was put there; take it away first, or \
         leave it out of the archive"
    )]
    InTheWay {
        path: String,
        what: &'static str,
        there: &'static str,
    },
    #[error("{what} {path} in the destination failed")]
    Kernel {
        what: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the archive's folder {path} lies deeper than {LIMIT_DEPTH} folders")]
    TooDeep { path: String },
}

/// Room that only the filesystem bounds.
struct AsTheDiskHas;

impl Room for AsTheDiskHas {
    fn take(&mut self, _: u64) -> bool {
        true
    }
}

impl Beside {
    /// Makes the folder in a destination that is there. What an earlier run left in it is taken away.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin(destination: impl Into<OwnedFd>) -> Result<Beside, PlaceError> {
        let destination = destination.into();
        let before =
            rustix::fs::fstat(&destination).map_err(|error| PlaceError::kernel("looking at", b"/", error))?;
        let folder = within(destination.as_fd(), OsStr::new(NAME));
        let beside = Beside {
            found_one: remove(&folder)?,
            destination,
            folder,
            modified: modified(&before),
            implied: BTreeSet::new(),
        };
        rustix::fs::mkdirat(&beside.destination, NAME, Mode::RWXU)
            .map_err(|error| PlaceError::kernel("making the folder", NAME.as_bytes(), error))?;
        Ok(beside)
    }

    /// Whether a run before this one had been stopped half way.
    pub fn found_one(&self) -> bool {
        self.found_one
    }

    /// Unpacks a tar archive to its end. Blocks. Needs root: owners and devices are the archive's.
    ///
    /// # Errors
    /// A damaged or hostile archive; what the kernel says, and the stream ([`LayerError::Transfer`]).
    pub fn unpack(&mut self, archive: impl Read) -> Result<Files, LayerError> {
        let mut room = AsTheDiskHas;
        let mut tree = Tree::new(&self.folder, Form::Plain, &mut room)?;
        let mut entries = Archive::new(archive, u64::MAX);
        take(&mut tree, &mut entries, LIMIT_ENTRIES)?;
        let (archive_bytes, _) = entries.finish()?;
        let made = tree.finish()?;
        self.implied = made.implied;
        Ok(Files {
            entries: made.entries,
            archive_bytes,
            attributes_left_out: made.attributes_left_out,
        })
    }

    /// Moves all that was unpacked into the destination, and takes the folder away. Blocks until it is on the disk.
    ///
    /// A folder that is there already keeps what it has; a link to a folder stays and is followed, within the destination.
    /// Other files are replaced, each at once.
    ///
    /// # Errors
    /// [`PlaceError::InTheWay`] before anything was moved; what the kernel says, after which it is to be begun anew.
    pub fn place(self) -> Result<(), PlaceError> {
        // What a loss of power leaves of a file is its old content or its new one.
        self.sync()?;
        let folder = |what: &OwnedFd, name: &str| {
            open_folder(what.as_fd(), OsStr::new(name))
                .map_err(|error| PlaceError::kernel("opening", name.as_bytes(), error))
        };
        let said = folder(&self.destination, NAME)?;
        let said =
            Said::of(&said).map_err(|error| PlaceError::kernel("looking at", NAME.as_bytes(), error))?;
        for step in [Step::Judge, Step::Move] {
            let (from, to) = (folder(&self.destination, NAME)?, folder(&self.destination, ".")?);
            self.walk(step, &from, &to, b"", 0)?;
        }
        self.sync()?;
        remove(&self.folder)?;
        match self.implied.contains(&b""[..]) {
            true => give_time_back(self.destination.as_fd(), self.modified),
            false => said.give(&self.destination),
        }
        .map_err(|error| PlaceError::kernel("describing", b"/", error))?;
        self.sync()
    }

    /// Takes away all that was unpacked.
    ///
    /// # Errors
    /// What the kernel says; the next [`Beside::begin`] takes it away then.
    pub fn discard(self) -> Result<(), PlaceError> {
        remove(&self.folder)?;
        self.sync()
    }

    fn sync(&self) -> Result<(), PlaceError> {
        rustix::fs::syncfs(&self.destination).map_err(|error| PlaceError::kernel("syncing", b"/", error))
    }

    fn walk(
        &self,
        step: Step,
        from: &OwnedFd,
        to: &OwnedFd,
        path: &[u8],
        depth: usize,
    ) -> Result<(), PlaceError> {
        if depth > LIMIT_DEPTH {
            return Err(PlaceError::TooDeep { path: shown(path) });
        }
        for name in names(from, path)? {
            let below = joined(path, name.as_bytes());
            if depth == 0 && name == NAME {
                return Err(in_the_way(
                    &below,
                    "an entry",
                    "the folder in which it is unpacked",
                ));
            }
            let failed = |what| {
                let below = below.clone();
                move |error: Errno| PlaceError::kernel(what, &below, error)
            };
            let ours = look(from.as_fd(), &name).map_err(failed("looking at"))?;
            let there = look(to.as_fd(), &name).map_err(failed("looking at"))?;
            let (Some(ours), Some(there)) = (ours, there) else {
                moved(step, from, to, &name, &below)?;
                continue;
            };
            if !is_folder(&ours) {
                if is_folder(&there) {
                    return Err(in_the_way(&below, "a file", "a folder"));
                }
                moved(step, from, to, &name, &below)?;
                continue;
            }
            let inner = match self.folder_there(to, &name, &below, &there) {
                Ok(inner) => inner,
                Err(Errno::NOTDIR) => return Err(in_the_way(&below, "a folder", "a file")),
                Err(Errno::NOENT | Errno::LOOP) => {
                    return Err(in_the_way(&below, "a folder", "a link to no folder"));
                }
                Err(error) => return Err(failed("opening")(error)),
            };
            let source = open_folder(from.as_fd(), &name).map_err(failed("opening"))?;
            let said = match self.implied.contains(&below) {
                // Nothing is said of it: it stays as it was.
                true => Said::of(&inner),
                false => Said::of(&source),
            };
            let said = said.map_err(failed("looking at"))?;
            self.walk(step, &source, &inner, &below, depth + 1)?;
            if step == Step::Move {
                said.give(&inner).map_err(failed("describing"))?;
            }
        }
        Ok(())
    }

    /// The folder that is there by this name; one to which a link leads within the destination.
    fn folder_there(&self, to: &OwnedFd, name: &OsStr, path: &[u8], there: &Stat) -> Result<OwnedFd, Errno> {
        if FileType::from_raw_mode(there.st_mode) != FileType::Symlink {
            return open_folder(to.as_fd(), name);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(
            &self.destination,
            OsStr::from_bytes(path),
            flags,
            Mode::empty(),
            resolve,
        )
    }
}

fn moved(step: Step, from: &OwnedFd, to: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<(), PlaceError> {
    match step {
        Step::Judge => Ok(()),
        Step::Move => rustix::fs::renameat(from, name, to, name)
            .map_err(|error| PlaceError::kernel("moving to its place", path, error)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Judge,
    Move,
}

fn in_the_way(path: &[u8], what: &'static str, there: &'static str) -> PlaceError {
    PlaceError::InTheWay {
        path: shown(path),
        what,
        there,
    }
}

fn names(folder: &OwnedFd, path: &[u8]) -> Result<Vec<OsString>, PlaceError> {
    let failed = |error| PlaceError::kernel("reading", path, error);
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// What is said of a folder: taken before anything is moved out of it or into it, which changes its time.
struct Said {
    stat: Stat,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Said {
    fn of(folder: &OwnedFd) -> Result<Said, Errno> {
        let mut list = vec![0; 64 << 10];
        let length = match rustix::fs::flistxattr(folder, &mut list) {
            Err(Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        let mut attributes = Vec::new();
        let mut value = vec![0; 64 << 10];
        let names = list.get(..length).unwrap_or_default().split(|byte| *byte == 0);
        for name in names.filter(|name| !name.is_empty()) {
            let length = rustix::fs::fgetxattr(folder, OsStr::from_bytes(name), &mut value)?;
            attributes.push((name.to_vec(), value.get(..length).unwrap_or_default().to_vec()));
        }
        Ok(Said {
            stat: rustix::fs::fstat(folder)?,
            attributes,
        })
    }

    fn give(&self, folder: &OwnedFd) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(self.stat.st_uid), Gid::from_raw(self.stat.st_gid));
        rustix::fs::fchown(folder, Some(uid), Some(gid))?;
        rustix::fs::fchmod(folder, Mode::from_raw_mode(self.stat.st_mode))?;
        for (name, value) in &self.attributes {
            set_attribute(folder.as_fd(), name, value)?;
        }
        give_time_back(folder.as_fd(), modified(&self.stat))
    }
}

/// Takes a folder away with all that is in it; whether it was there. Never follows a link.
fn remove(folder: &Path) -> Result<bool, PlaceError> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(PlaceError::kernel("taking away", NAME.as_bytes(), error)),
    }
}

impl PlaceError {
    fn kernel(what: &'static str, path: &[u8], source: impl Into<io::Error>) -> PlaceError {
        PlaceError::Kernel {
            what,
            path: shown(path),
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(if *kind == tar::EntryType::Directory {
                0o750
            } else {
                0o640
            });
            header.set_uid(7);
            header.set_gid(8);
            header.set_mtime(1_000_000);
            if *kind == tar::EntryType::Symlink {
                header.set_size(0);
                builder.append_link(&mut header, path, content).expect("entry");
                continue;
            }
            header.set_size(content.len() as u64);
            builder
                .append_data(&mut header, path, content.as_bytes())
                .expect("entry");
        }
        builder.into_inner().expect("archive")
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;
    const FOLDER: tar::EntryType = tar::EntryType::Directory;

    fn placed(folder: &Path, bytes: &[u8]) -> Result<(), PlaceError> {
        let mut beside = Beside::begin(fs::File::open(folder).expect("folder"))?;
        beside.unpack(bytes).expect("unpacked");
        beside.place()
    }

    #[test]
    fn what_is_there_stays_and_what_the_archive_has_goes_over_it() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path();
        fs::create_dir_all(root.join("usr/lib")).expect("folder");
        fs::write(root.join("usr/lib/old"), "old").expect("file");
        fs::write(root.join("usr/lib/both"), "old").expect("file");
        symlink("usr/lib", root.join("lib")).expect("link");
        let bytes = archive(&[
            ("lib/", FOLDER, ""),
            ("lib/both", FILE, "new"),
            ("lib/new", FILE, "new"),
            ("deep/er/file", FILE, "x"),
            (".wh.old", FILE, "no whiteout"),
        ]);
        for _ in 0..2 {
            placed(root, &bytes).expect("placed");
            let read = |path: &str| fs::read_to_string(root.join(path)).expect(path);
            assert_eq!(read("usr/lib/old"), "old");
            assert_eq!(
                (read("usr/lib/both"), read("usr/lib/new")),
                ("new".into(), "new".into())
            );
            assert_eq!(
                (read("deep/er/file"), read(".wh.old")),
                ("x".into(), "no whiteout".into())
            );
            assert!(root.join("lib").is_symlink() && !root.join(NAME).exists());
            let lib = fs::metadata(root.join("usr/lib")).expect("folder");
            assert_eq!(
                (lib.uid(), lib.mode() & 0o7777, lib.mtime()),
                (7, 0o750, 1_000_000)
            );
        }
    }

    #[test]
    fn what_is_in_the_way_is_named_and_nothing_was_moved() {
        for (there, entry, words) in [
            ("folder/a", ("a", FILE, "x"), ["a file \"a\"", "is a folder"]),
            ("file/a", ("a/b", FILE, "x"), ["a folder \"a\"", "is a file"]),
            (
                "link/a",
                ("a/b", FILE, "x"),
                ["a folder \"a\"", "a link to no folder"],
            ),
        ] {
            let folder = tempfile::tempdir().expect("folder");
            match there.split_once('/').expect("kind") {
                ("folder", name) => fs::create_dir(folder.path().join(name)).expect("folder"),
                ("file", name) => fs::write(folder.path().join(name), "old").expect("file"),
                (_, name) => symlink("../../../../../../tmp", folder.path().join(name)).expect("link"),
            }
            let bytes = archive(&[("0-first", FILE, "x"), entry, ("z-last", FILE, "x")]);
            let said = placed(folder.path(), &bytes).expect_err(there).to_string();
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
            let left = fs::read_dir(folder.path()).expect("folder");
            let mut left: Vec<_> = left.map(|entry| entry.expect("entry").file_name()).collect();
            left.sort();
            assert_eq!(left, [NAME, "a"], "{there}");
        }
    }

    #[test]
    fn a_run_that_was_stopped_is_begun_anew() {
        let folder = tempfile::tempdir().expect("folder");
        let mut beside = Beside::begin(fs::File::open(folder.path()).expect("folder")).expect("begun");
        beside
            .unpack(&archive(&[("half", FILE, "x")])[..])
            .expect("unpacked");
        drop(beside);
        assert!(folder.path().join(NAME).join("half").exists());
        let again = Beside::begin(fs::File::open(folder.path()).expect("folder")).expect("begun");
        assert!(again.found_one());
        again.discard().expect("gone");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
        let first = Beside::begin(fs::File::open(folder.path()).expect("folder")).expect("begun");
        assert!(!first.found_one());
    }

    #[test]
    fn an_archive_that_has_the_folder_itself_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let bytes = archive(&[(".farrier-archive2disk/x", FILE, "x")]);
        let said = placed(folder.path(), &bytes).expect_err("refused").to_string();
        assert!(said.contains(NAME), "{said}");
    }
}
