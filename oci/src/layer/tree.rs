//! Makes what a layer's archive says, below one folder and nowhere else, in overlayfs's form.
//!
//! Nobody else writes below the folder meanwhile. Source: Linux, Documentation/filesystems/overlayfs.rst, "whiteouts and
//! opaque directories"; OCI image specification 1.1, layer.md.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::Room;
use super::access_list;
use super::archive::{Archive, Beside, Entry, Kind};
use super::calls::{
    give_time_back, hide, hide_below, is_a_device, is_folder, is_whiteout, look, make_whiteout, open_folder,
    set_attribute, times, within,
};
use super::error::{LayerError, Refusal, shown};
use super::names::{self, Meaning};
use super::sparse::Piece;
use super::walk::{Folder, Missing, Walk, joined};

/// Attributes with this prefix are overlayfs's and the host's, never an archive's: containerd leaves them out, too.
const TRUSTED: &[u8] = b"trusted.";
/// Without these a program cannot do what it is there for: they are never left out.
const CAPABILITIES: &[u8] = b"security.capability";
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACCESS_LIST: &[u8] = b"system.posix_acl_default";
const LABEL: &[u8] = b"security.selinux";
/// What an inode takes in a tmpfs, its name with it; content is counted in pages beside that.
pub(super) const INODE_BYTES: u64 = 1024;
const PAGE_BYTES: u64 = 4096;
/// What the paths of folders that are implied may take together.
const LIMIT_IMPLIED_BYTES: usize = 16 << 20;
const CHUNK_BYTES: usize = 256 << 10;

/// What an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Of an image: names and devices may be whiteouts, and some attributes are the host's.
    Layer,
    /// Nothing else than it says.
    Plain,
}

/// A layer that is being unpacked.
pub(super) struct Tree<'r> {
    pub(super) root: OwnedFd,
    /// The folder in which the last entry was made: the next one is in the same, mostly.
    open: Option<Folder>,
    pub(super) made: Made,
    implied_bytes: usize,
    chunk: Vec<u8>,
    form: Form,
    room: &'r mut dyn Room,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) entries: u64,
    /// What it takes in a tmpfs.
    pub(super) held_bytes: u64,
    /// Folders that have no entry of their own and were made for what is in them: their owner and permissions are unknown.
    pub(super) implied: BTreeSet<Vec<u8>>,
    /// Attributes that the filesystem does not know, or that no archive may bring.
    pub(super) attributes_left_out: u64,
}

impl<'r> Tree<'r> {
    /// `root` is there, and empty.
    pub(super) fn new(root: &Path, form: Form, room: &'r mut dyn Room) -> Result<Tree<'r>, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, root, flags, Mode::empty())
            .map_err(|error| LayerError::kernel("opening", root.as_os_str().as_bytes(), error))?;
        // As long as nothing is said of the root, a lower layer says whose it is.
        let made = Made {
            implied: BTreeSet::from([Vec::new()]),
            ..Made::default()
        };
        Ok(Tree {
            root,
            open: None,
            made,
            implied_bytes: 0,
            chunk: vec![0; CHUNK_BYTES],
            form,
            room,
        })
    }

    /// Makes one entry, whose content is taken from the archive.
    ///
    /// # Errors
    /// An entry that reaches for what is not its own; what the kernel and the archive say.
    pub(super) fn make<R: io::Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), LayerError> {
        self.made.entries += 1;
        let meaning = match self.form {
            Form::Layer => names::meaning(&entry.path),
            Form::Plain => names::plain(&entry.path),
        };
        match meaning.map_err(|why| LayerError::hostile(&entry.path, why))? {
            Meaning::Nothing => Ok(()),
            Meaning::Root => self.root_itself(entry),
            Meaning::Opaque { folder } => {
                let folder = self.enter(&folder, &entry.path)?;
                hide(folder.fd.as_fd())
                    .map_err(|error| LayerError::kernel("hiding what is below", &entry.path, error))?;
                self.open = Some(folder);
                Ok(())
            }
            Meaning::Whiteout { folder, name } => {
                let folder = self.enter(&folder, &entry.path)?;
                self.whiteout(&folder, name, &entry.path)?;
                self.open = Some(folder);
                Ok(())
            }
            Meaning::Plain { folder, name } => {
                let folder = self.enter(&folder, &entry.path)?;
                self.plain(&folder, name, entry, archive)?;
                self.open = Some(folder);
                Ok(())
            }
        }
    }

    /// All is made; what came of it. Nothing says that it is on a disk.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn finish(mut self) -> Result<Made, LayerError> {
        self.close()?;
        Ok(self.made)
    }

    fn root_itself(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(LayerError::hostile(&entry.path, Refusal::NoFolderAtRoot));
        }
        self.close()?;
        self.no_longer_implied(b"");
        let root = self.root.try_clone();
        let root = root.map_err(|error| LayerError::kernel("opening", &entry.path, error))?;
        self.describe_open(root.as_fd(), entry)
    }

    fn whiteout(&mut self, folder: &Folder, name: &[u8], path: &[u8]) -> Result<(), LayerError> {
        let name = OsStr::from_bytes(name);
        match look(folder.fd.as_fd(), name).map_err(|error| LayerError::kernel("looking at", path, error))? {
            None => {
                make_whiteout(folder.fd.as_fd(), name)
                    .map_err(|error| LayerError::kernel("making the whiteout", path, error))?;
                self.charge(INODE_BYTES)
            }
            // What this layer itself has by the name stays; what is below it does not.
            Some(there) if is_folder(&there) => hide_below(folder.fd.as_fd(), name)
                .map_err(|error| LayerError::kernel("hiding what is below", path, error)),
            Some(_) => Ok(()),
        }
    }

    fn plain<R: io::Read>(
        &mut self,
        folder: &Folder,
        name: &[u8],
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), LayerError> {
        let kernel = |what| move |error: Errno| LayerError::kernel(what, &entry.path, error);
        let path = joined(&folder.path, name);
        let fd = folder.fd.as_fd();
        let name = OsStr::from_bytes(name);
        let there = look(fd, name).map_err(kernel("looking at"))?;
        let is_device = matches!(
            entry.kind,
            Kind::BlockDevice { .. } | Kind::CharacterDevice { .. }
        );
        if is_device && there.as_ref().is_some_and(|there| !is_a_device(there)) {
            return Err(LayerError::hostile(&entry.path, Refusal::DeviceOverFile));
        }
        if entry.kind == Kind::Directory && there.as_ref().is_some_and(is_folder) {
            self.no_longer_implied(&path);
            let folder = open_folder(fd, name).map_err(kernel("opening"))?;
            return self.describe_open(folder.as_fd(), entry);
        }
        if let Some(there) = &there {
            self.remove(fd, name, there, &path)
                .map_err(|error| LayerError::kernel("replacing", &entry.path, error))?;
        }
        self.charge(INODE_BYTES)?;
        match &entry.kind {
            Kind::Directory => {
                rustix::fs::mkdirat(fd, name, Mode::RWXU).map_err(kernel("making the folder"))?;
                if there.as_ref().is_some_and(|there| self.is_whiteout(there)) {
                    hide_below(fd, name).map_err(kernel("hiding what is below"))?;
                }
                let folder = open_folder(fd, name).map_err(kernel("opening"))?;
                self.describe_open(folder.as_fd(), entry)
            }
            Kind::File { size, pieces } => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(fd, name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(kernel("making the file"))?;
                self.fill(file.as_fd(), *size, pieces, &entry.path, archive)?;
                self.describe_open(file.as_fd(), entry)
            }
            Kind::HardLink { target } => self.hard_link(target, fd, name, entry),
            Kind::SymbolicLink { target } => {
                rustix::fs::symlinkat(OsStr::from_bytes(target), fd, name)
                    .map_err(kernel("making the symbolic link"))?;
                self.describe_named(fd, name, entry)
            }
            Kind::CharacterDevice { major, minor } => {
                self.node(FileType::CharacterDevice, (*major, *minor), fd, name, entry)
            }
            Kind::BlockDevice { major, minor } => {
                self.node(FileType::BlockDevice, (*major, *minor), fd, name, entry)
            }
            Kind::Fifo => self.node(FileType::Fifo, (0, 0), fd, name, entry),
        }
    }

    fn node(
        &mut self,
        kind: FileType,
        number: (u32, u32),
        fd: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let device = rustix::fs::makedev(number.0, number.1);
        rustix::fs::mknodat(fd, name, kind, Mode::RUSR | Mode::WUSR, device)
            .map_err(|error| LayerError::kernel("making the device or pipe", &entry.path, error))?;
        self.describe_named(fd, name, entry)
    }

    fn hard_link(
        &mut self,
        target: &[u8],
        fd: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let refused = |why| LayerError::hostile(&entry.path, why);
        let way = names::parts(target).map_err(|why| {
            let why = Box::new(why);
            let target = shown(target);
            refused(Refusal::LinkTarget { target, why })
        })?;
        let nothing = || refused(Refusal::LinkToNothing(shown(target)));
        let Some((target_name, folder)) = way.split_last() else {
            return Err(refused(Refusal::LinkToFolder(shown(target))));
        };
        let folder = Walk::new(self, &entry.path)
            .to(folder, Missing::Stays)?
            .ok_or_else(nothing)?;
        let target_name = OsStr::from_bytes(target_name);
        let there = look(folder.fd.as_fd(), target_name)
            .map_err(|error| LayerError::kernel("looking at the target of", &entry.path, error))?
            .ok_or_else(nothing)?;
        if is_folder(&there) {
            return Err(refused(Refusal::LinkToFolder(shown(target))));
        }
        if self.is_whiteout(&there) {
            return Err(nothing());
        }
        rustix::fs::linkat(&folder.fd, target_name, fd, name, AtFlags::empty())
            .map_err(|error| LayerError::kernel("linking", &entry.path, error))
    }

    fn fill<R: io::Read>(
        &mut self,
        file: BorrowedFd<'_>,
        size: u64,
        pieces: &[Piece],
        path: &[u8],
        archive: &mut Archive<R>,
    ) -> Result<(), LayerError> {
        let kernel = |error: Errno| LayerError::kernel("writing", path, error);
        let mut end = 0;
        for piece in pieces.iter().filter(|piece| piece.length > 0) {
            self.charge(
                piece
                    .length
                    .checked_next_multiple_of(PAGE_BYTES)
                    .unwrap_or(u64::MAX),
            )?;
            end = piece.offset + piece.length;
            let mut at = piece.offset;
            while at < end {
                let most = usize::try_from(end - at)
                    .unwrap_or(usize::MAX)
                    .min(self.chunk.len());
                let into = self.chunk.get_mut(..most).unwrap_or_default();
                let taken = archive.read(into)?;
                let mut rest = into.get(..taken).unwrap_or_default();
                if rest.is_empty() {
                    // The map and the content were compared before.
                    break;
                }
                while !rest.is_empty() {
                    let written =
                        rustix::io::retry_on_intr(|| rustix::io::pwrite(file, rest, at)).map_err(kernel)?;
                    at += written as u64;
                    rest = rest.get(written..).unwrap_or_default();
                }
            }
        }
        if end != size {
            rustix::fs::ftruncate(file, size).map_err(kernel)?;
        }
        Ok(())
    }

    /// Owner, permissions, attributes and time, in the order in which one does not undo another.
    fn describe_open(&mut self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
        let kernel = |what| move |error: Errno| LayerError::kernel(what, &entry.path, error);
        let (uid, gid) = owner(entry);
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(kernel("giving an owner to"))?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(kernel("giving permissions to"))?;
        let remove = |name: &[u8]| rustix::fs::fremovexattr(fd, OsStr::from_bytes(name));
        self.attributes(entry, |name, value| set_attribute(fd, name, value), remove)?;
        rustix::fs::futimens(fd, &times(entry.modified)).map_err(kernel("giving a time to"))
    }

    /// The same for what is not opened: links, devices and pipes.
    fn describe_named(&mut self, fd: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> Result<(), LayerError> {
        let kernel = |what| move |error: Errno| LayerError::kernel(what, &entry.path, error);
        let (uid, gid) = owner(entry);
        rustix::fs::chownat(fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(kernel("giving an owner to"))?;
        if !matches!(entry.kind, Kind::SymbolicLink { .. }) {
            rustix::fs::chmodat(fd, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(kernel("giving permissions to"))?;
        }
        let path = within(fd, name);
        let set = |name: &[u8], value: &[u8]| {
            rustix::fs::lsetxattr(&path, OsStr::from_bytes(name), value, XattrFlags::empty())
        };
        let remove = |name: &[u8]| rustix::fs::lremovexattr(&path, OsStr::from_bytes(name));
        self.attributes(entry, set, remove)?;
        rustix::fs::utimensat(fd, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(kernel("giving a time to"))
    }

    fn attributes(
        &mut self,
        entry: &Entry,
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
        remove: impl Fn(&[u8]) -> Result<(), Errno>,
    ) -> Result<(), LayerError> {
        if self.form == Form::Plain {
            // Of a folder with a default list, what is made in it has one that the archive does not say.
            for name in [ACCESS_LIST, DEFAULT_ACCESS_LIST] {
                match remove(name) {
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS | Errno::INVAL) => {}
                    Err(error) => return Err(LayerError::kernel("giving attributes to", &entry.path, error)),
                }
            }
        }
        for (name, value) in &entry.attributes {
            if self.form == Form::Layer && name.starts_with(TRUSTED) {
                self.made.attributes_left_out += 1;
                continue;
            }
            match set(name, value) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) if name != CAPABILITIES => self.made.attributes_left_out += 1,
                Err(error) => return Err(LayerError::kernel("giving attributes to", &entry.path, error)),
            }
        }
        if self.form == Form::Layer {
            return Ok(());
        }
        for (what, said) in &entry.beside {
            let (name, value) = match what {
                Beside::AccessList => (ACCESS_LIST, access_list::encode(said)),
                Beside::DefaultAccessList => (DEFAULT_ACCESS_LIST, access_list::encode(said)),
                Beside::Label => (LABEL, Ok(said.clone())),
            };
            // The attribute itself has numbers, the text may have names.
            if entry.attributes.iter().any(|(given, _)| given == name) {
                continue;
            }
            let value = value.map_err(|why| LayerError::hostile(&entry.path, Refusal::AccessList(why)))?;
            match set(name, &value) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => self.made.attributes_left_out += 1,
                Err(error) => return Err(LayerError::kernel("giving attributes to", &entry.path, error)),
            }
        }
        Ok(())
    }

    fn remove(&mut self, fd: BorrowedFd<'_>, name: &OsStr, there: &Stat, path: &[u8]) -> io::Result<()> {
        if !is_folder(there) {
            return Ok(rustix::fs::unlinkat(fd, name, AtFlags::empty())?);
        }
        std::fs::remove_dir_all(within(fd, name))?;
        let below = [path, b"/"].concat();
        let gone: Vec<Vec<u8>> = self
            .made
            .implied
            .range(path.to_vec()..)
            .take_while(|implied| *implied == path || implied.starts_with(&below))
            .cloned()
            .collect();
        for path in gone {
            self.no_longer_implied(&path);
        }
        Ok(())
    }

    /// Whether this hides what a lower layer has.
    pub(super) fn is_whiteout(&self, there: &Stat) -> bool {
        self.form == Form::Layer && is_whiteout(there)
    }

    /// Takes room for what is about to be made.
    pub(super) fn charge(&mut self, bytes: u64) -> Result<(), LayerError> {
        self.made.held_bytes = self.made.held_bytes.saturating_add(bytes);
        match self.room.take(bytes) {
            true => Ok(()),
            false => Err(LayerError::NoRoom {
                bytes: self.made.held_bytes,
            }),
        }
    }

    pub(super) fn now_implied(&mut self, path: Vec<u8>) -> Result<(), LayerError> {
        self.implied_bytes += path.len();
        self.made.implied.insert(path);
        match self.implied_bytes {
            0..=LIMIT_IMPLIED_BYTES => Ok(()),
            _ => Err(LayerError::TooMuch {
                of: "B in the paths of folders without entries",
                limit: LIMIT_IMPLIED_BYTES as u64,
                cure: "build it with entries for its folders",
            }),
        }
    }

    fn no_longer_implied(&mut self, path: &[u8]) {
        if self.made.implied.remove(path) {
            self.implied_bytes -= path.len();
        }
    }

    /// The folder to which these names lead, made where it is missing. When something was made in it, it is the open one.
    fn enter(&mut self, names: &[&[u8]], of: &[u8]) -> Result<Folder, LayerError> {
        let asked = names.join(&b"/"[..]);
        if let Some(folder) = self.open.take_if(|folder| folder.asked == asked) {
            return Ok(folder);
        }
        self.close()?;
        Walk::new(self, of)
            .to(names, Missing::IsMade)?
            .ok_or_else(|| LayerError::hostile(of, Refusal::NoFolder(shown(&asked))))
    }

    /// Gives the open folder its time back.
    fn close(&mut self) -> Result<(), LayerError> {
        match self.open.take() {
            Some(folder) => give_time_back(folder.fd.as_fd(), folder.modified)
                .map_err(|error| LayerError::kernel("giving a time to", &folder.path, error)),
            None => Ok(()),
        }
    }
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}
