//! The way to a folder of a layer, which leads nowhere else.
//!
//! Every path is walked from the layer's own folder on, name by name, and symbolic links are followed as the image itself would
//! see them: an absolute one begins at the image's root. The kernel is asked to hold that, too (openat2, `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`), so that a fault here opens nothing outside.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec};
use rustix::io::Errno;

use super::calls::{give_time_back, hide, is_folder, look, modified, open_folder};
use super::error::{LayerError, Refusal, shown};
use super::names::PATH_LIMIT_BYTES;
use super::tree::{INODE_BYTES, Tree};

/// As the kernel: `MAXSYMLINKS`.
const LIMIT_LINKS: usize = 40;

/// A folder in which something is made.
pub(super) struct Folder {
    /// The names in the archive that led to it.
    pub(super) asked: Vec<u8>,
    /// Where it is, with no symbolic link on the way.
    pub(super) path: Vec<u8>,
    pub(super) fd: OwnedFd,
    /// Its own time, which it gets back: making something in it changes it.
    pub(super) modified: Timespec,
}

/// What a walk does where a folder is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    IsMade,
    Stays,
}

/// A way from the root, name by name.
pub(super) struct Walk<'t, 'r> {
    tree: &'t mut Tree<'r>,
    /// The entry for which it is walked.
    of: &'t [u8],
    /// Where it is: names without symbolic links.
    path: Vec<u8>,
    links: usize,
    /// The link that was followed last, and its target.
    link: (Vec<u8>, Vec<u8>),
}

impl<'t, 'r> Walk<'t, 'r> {
    pub(super) fn new(tree: &'t mut Tree<'r>, of: &'t [u8]) -> Walk<'t, 'r> {
        Walk {
            tree,
            of,
            path: Vec::new(),
            links: 0,
            link: Default::default(),
        }
    }

    pub(super) fn to(mut self, names: &[&[u8]], missing: Missing) -> Result<Option<Folder>, LayerError> {
        let asked = names.join(&b"/"[..]);
        // Most folders are there and no links.
        let here = match self.straight(&asked) {
            Ok(fd) => {
                self.path.clone_from(&asked);
                fd
            }
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                let start = self
                    .straight(b"")
                    .map_err(|error| self.kernel("opening", error))?;
                match self.name_by_name(start, names, missing)? {
                    Some(fd) => fd,
                    None => return Ok(None),
                }
            }
            Err(error) => return Err(self.kernel("opening the folder of", error)),
        };
        let there =
            rustix::fs::fstat(&here).map_err(|error| self.kernel("looking at the folder of", error))?;
        Ok(Some(Folder {
            asked,
            path: self.path,
            fd: here,
            modified: modified(&there),
        }))
    }

    fn name_by_name(
        &mut self,
        start: OwnedFd,
        names: &[&[u8]],
        missing: Missing,
    ) -> Result<Option<OwnedFd>, LayerError> {
        let mut here = start;
        let mut ahead: VecDeque<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        while let Some(name) = ahead.pop_front() {
            // Entries have none in their paths, links do.
            if name == b".." {
                here = self.up()?;
                continue;
            }
            let named = OsStr::from_bytes(&name);
            let next = joined(&self.path, &name);
            if next.len() > PATH_LIMIT_BYTES {
                return Err(LayerError::hostile(self.of, Refusal::LongPath(PATH_LIMIT_BYTES)));
            }
            let there =
                look(here.as_fd(), named).map_err(|error| self.kernel("looking at a folder of", error))?;
            match there {
                Some(there) if is_folder(&there) => self.path = next,
                Some(there) if FileType::from_raw_mode(there.st_mode) == FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&here, named, Vec::new())
                        .map_err(|error| self.kernel("reading a symbolic link on the way to", error))?;
                    if self.follow(next, target.into_bytes(), &mut ahead)? {
                        here = self.reopened()?;
                    }
                    continue;
                }
                None if missing == Missing::Stays => return Ok(None),
                Some(there) if !self.tree.is_whiteout(&there) || missing == Missing::Stays => {
                    return Err(LayerError::hostile(self.of, Refusal::NoFolder(shown(&next))));
                }
                whiteout => {
                    self.imply(here.as_fd(), named, whiteout.is_some())
                        .map_err(|error| self.kernel("making a folder for", error))?;
                    self.tree.charge(INODE_BYTES)?;
                    self.tree.now_implied(next.clone())?;
                    self.path = next;
                }
            }
            here = open_folder(here.as_fd(), named)
                .map_err(|error| self.kernel("opening a folder of", error))?;
        }
        Ok(Some(here))
    }

    /// Puts the names of a link's target before those that are ahead; whether they begin at the root.
    fn follow(
        &mut self,
        link: Vec<u8>,
        target: Vec<u8>,
        ahead: &mut VecDeque<Vec<u8>>,
    ) -> Result<bool, LayerError> {
        self.links += 1;
        if self.links > LIMIT_LINKS {
            return Err(LayerError::hostile(self.of, Refusal::Loop(LIMIT_LINKS)));
        }
        let names = target.split(|byte| *byte == b'/').rev();
        for name in names.filter(|name| !matches!(*name, b"" | b".")) {
            ahead.push_front(name.to_vec());
        }
        let is_absolute = target.starts_with(b"/");
        if is_absolute {
            self.path.clear();
        }
        self.link = (link, target);
        Ok(is_absolute)
    }

    fn up(&mut self) -> Result<OwnedFd, LayerError> {
        if self.path.is_empty() {
            let why = Refusal::LeavesImage {
                link: shown(&self.link.0),
                target: shown(&self.link.1),
            };
            return Err(LayerError::hostile(self.of, why));
        }
        let parent = self.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.path.truncate(parent);
        self.reopened()
    }

    fn reopened(&self) -> Result<OwnedFd, LayerError> {
        self.straight(&self.path)
            .map_err(|error| self.kernel("opening a folder of", error))
    }

    /// Makes a folder that has no entry, as builders take it to be; with it goes what a whiteout hid.
    fn imply(&self, fd: BorrowedFd<'_>, name: &OsStr, over_whiteout: bool) -> Result<(), Errno> {
        let before = rustix::fs::fstat(fd)?;
        if over_whiteout {
            rustix::fs::unlinkat(fd, name, AtFlags::empty())?;
        }
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        rustix::fs::mkdirat(fd, name, mode)?;
        // Whatever the process's mask is.
        let made = open_folder(fd, name)?;
        rustix::fs::fchmod(&made, mode)?;
        if over_whiteout {
            hide(made.as_fd())?;
        }
        give_time_back(fd, modified(&before))
    }

    /// Opens a folder to which no symbolic link leads.
    fn straight(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(
            &self.tree.root,
            OsStr::from_bytes(path),
            flags,
            Mode::empty(),
            resolve,
        )
    }

    fn kernel(&self, what: &'static str, error: Errno) -> LayerError {
        LayerError::kernel(what, self.of, error)
    }
}

/// The path of a name in a folder.
pub(super) fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        b"" => name.to_vec(),
        folder => [folder, b"/", name].concat(),
    }
}
