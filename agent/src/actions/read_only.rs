//! The agent's own world for a command that is to change nothing of it. Runs in `chroot-exec`, in namespaces of the command's own.
//!
//! A device is written to through its node whatever the mount is that the node lies on, so read-only mounts are half of it:
//! - every mount is read-only, and none but `/dev` has devices;
//! - `/dev` has the disks as nodes that are for reading, and no other device than those that every program needs: no NVMe controller,
//!   no SCSI generic device, no BMC, no memory;
//! - `/run`, and with it the sockets of whoever could write on the command's behalf, is an empty one; so is `/tmp`;
//! - the command has no capability that gets around that: it makes no node, mounts nothing, sends no command to a disk that reading does not take.
//!
//! What is left: the network, and sockets that have no path. Source: mount_setattr(2), capabilities(7), block/ioctl.c and
//! drivers/scsi/scsi_ioctl.c of Linux.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, mknod, umask};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use super::chroot::{Shown, bind, named};

/// What the command keeps of root's: reading whatever is there, and being another user. `SYSLOG` is not among them, as the kernel's log
/// has the token of the boot.
const KEPT: CapabilitySet = CapabilitySet::DAC_READ_SEARCH
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID);
/// Character devices that change nothing.
const HARMLESS: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// Of a machine with more, some are not seen.
const MAX_NODES: usize = 8192;
/// `/dev/disk/by-path/…` is three deep.
const MAX_DEPTH: usize = 6;
/// The command's own, in memory, and gone with it.
const VOLATILE: [(&str, &str); 2] = [("/dev/shm", "mode=1777,size=16m"), ("/tmp", "mode=1777,size=16m")];

/// Between what is mounted before `/proc`, and what seals it all.
pub(super) struct Mounting {
    /// May be written to.
    writable: Vec<PathBuf>,
}

impl Mounting {
    /// `/dev`, `/run` and `/tmp`, and in them and beside them what is shown.
    ///
    /// # Errors
    /// The kernel's, with what was being done.
    pub(super) fn begin(shown: &[Shown]) -> io::Result<Mounting> {
        // They may lie below what is covered now.
        let sources = shown.iter().map(|shown| Ok((shown, path_only(&shown.from)?)));
        let sources: Vec<(&Shown, File)> = sources.collect::<io::Result<_>>()?;
        tmpfs(Path::new("/run"), "mode=0755,size=1m")?;
        let mut writable = Vec::new();
        for (shown, source) in sources {
            let at = shown.at.as_deref().unwrap_or(&shown.from);
            fs::create_dir_all(at)
                .map_err(|e| io::Error::new(e.kind(), format!("making {}: {e}", at.display())))?;
            bind(&by_descriptor(&source), at, MsFlags::empty())?;
            if !shown.read_only {
                writable.push(at.to_owned());
            }
        }
        devices()?;
        for (at, options) in VOLATILE {
            let at = Path::new(at);
            if at.is_dir() {
                tmpfs(at, options)?;
                writable.push(at.to_owned());
            }
        }
        Ok(Mounting { writable })
    }

    /// Makes all of it read-only, and gives up what could undo that.
    ///
    /// # Errors
    /// The kernel's: one before Linux 5.12 cannot.
    pub(super) fn finish(self) -> io::Result<()> {
        let everywhere = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV;
        set(Path::new("/"), everywhere, 0, libc::AT_RECURSIVE).map_err(|e| {
            let why = "making all mounts read-only, which takes Linux 5.12 or newer, failed";
            io::Error::new(e.kind(), format!("{why}: {e}"))
        })?;
        set(Path::new("/dev"), 0, libc::MOUNT_ATTR_NODEV, 0)?;
        for at in &self.writable {
            set(at, 0, libc::MOUNT_ATTR_RDONLY, 0)?;
        }
        give_up()
    }
}

/// A `/dev` with the disks to be read, and what every program needs.
fn devices() -> io::Result<()> {
    let old = path_only(Path::new("/dev"))?;
    tmpfs(Path::new("/dev"), "mode=0755,size=4m,nr_inodes=16k")?;
    let before = umask(Mode::empty());
    let mut left = MAX_NODES;
    let made = copy(&by_descriptor(&old), Path::new("/dev"), MAX_DEPTH, &mut left);
    umask(before);
    made?;
    fs::create_dir_all("/dev/shm")
}

/// Copies nodes and links; what goes away meanwhile is left out.
fn copy(from: &Path, to: &Path, depth: usize, left: &mut usize) -> io::Result<()> {
    for entry in fs::read_dir(from)?.flatten() {
        let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else {
            continue;
        };
        let at = to.join(&name);
        *left = match left.checked_sub(1) {
            Some(left) => left,
            None => return Ok(()),
        };
        if kind.is_dir() && depth > 0 && !is_mounted_apart(&name) {
            fs::create_dir(&at)?;
            copy(&entry.path(), &at, depth - 1, left)?;
        } else if kind.is_symlink() {
            if let Ok(target) = fs::read_link(entry.path()) {
                symlink(target, &at)?;
            }
        } else if let Some((kind, mode)) = node(kind, &name)
            && let Ok(found) = entry.metadata()
        {
            mknod(&at, kind, Mode::from_bits_truncate(mode), found.rdev())
                .map_err(|e| named(&format!("making {}", at.display()), e))?;
        }
    }
    Ok(())
}

/// Its kind and its mode, where the command is to have it. The first of the mode counts: without `DAC_OVERRIDE` its owner is held to it.
fn node(kind: fs::FileType, name: &OsStr) -> Option<(SFlag, u32)> {
    match kind.is_block_device() {
        true => Some((SFlag::S_IFBLK, 0o400)),
        false if kind.is_char_device() && HARMLESS.iter().any(|harmless| name == *harmless) => {
            Some((SFlag::S_IFCHR, 0o666))
        }
        false => None,
    }
}

/// `/dev/pts` and such: what is in them is no device of the machine.
fn is_mounted_apart(name: &OsStr) -> bool {
    ["hugepages", "mqueue", "pts", "shm"]
        .iter()
        .any(|apart| name == *apart)
}

fn tmpfs(at: &Path, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
        .map_err(|e| named(&format!("mounting an empty {}", at.display()), e))
}

/// Gives every capability up but [`KEPT`], also for programs that are started.
fn give_up() -> io::Result<()> {
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        match thread::remove_capability_from_bounding_set(capability) {
            // Of a newer kernel than this one.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    thread::clear_ambient_capability_set()?;
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective: KEPT,
            permitted: KEPT,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(thread::set_no_new_privs(true)?)
}

/// Sets and clears attributes of the mount at `at`, of all below it too with `AT_RECURSIVE`.
fn set(at: &Path, attributes: u64, cleared: u64, flags: libc::c_int) -> io::Result<()> {
    let path = CString::new(at.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: attributes,
        attr_clr: cleared,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path ends in a zero byte, and the size is that of the structure; both live until the call returns and are only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// For what is to be found again when something was mounted over it.
fn path_only(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path);
    opened.map_err(|e| io::Error::new(e.kind(), format!("looking for {}: {e}", path.display())))
}

fn by_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
