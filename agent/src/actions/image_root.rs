//! The root that a command gets in an image: the machine's /dev, /proc and /sys, an empty /run, name servers.
//!
//! The image may hold anything. Every place in it is found by the kernel with the image as the root
//! (openat2, RESOLVE_IN_ROOT), and all are found before anything is mounted, so that no link leads out of the image
//! or into what was mounted a moment before. Runs in the mount namespace of `chroot-exec`; nothing is written to the
//! image, and the mounts go with the namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};

use super::chroot::{Shown, bind, named};
use super::mount_points::open_folder;

/// What a command of any system needs.
pub(super) const NEEDED: [&str; 3] = ["dev", "proc", "sys"];
/// Volatile by the Filesystem Hierarchy Standard 3.0, section 3.15: what is left there must not stay on the disk.
pub(super) const RUN: &str = "run";

/// Mounts what the command needs into the image; `resolv_conf` is seen as /etc/resolv.conf.
///
/// # Errors
/// A folder that is needed is none, or leads to the image's own root; the kernel refuses a mount.
pub(super) fn furnish(root: &Path, shown: &[Shown], resolv_conf: Option<&str>) -> io::Result<()> {
    let needed: Vec<(&str, OwnedFd)> = NEEDED
        .into_iter()
        .map(|folder| Ok((folder, place(root, folder)?)))
        .collect::<io::Result<_>>()?;
    let run = place(root, RUN);
    let elsewhere: Vec<(&Path, &Path)> = shown.iter().filter_map(Shown::elsewhere).collect();
    let workflow: Vec<(&Path, OwnedFd)> = elsewhere
        .iter()
        .filter(|(_, at)| !at.starts_with("/run"))
        .map(|(from, at)| Ok((*from, open_folder(root, inside(at))?)))
        .collect::<io::Result<_>>()?;
    if let Some(text) = resolv_conf
        && let Err(e) = show_resolv_conf(root, text)
    {
        println!("cexec: the command sees /etc/resolv.conf of the image as it is: {e}");
    }
    for (folder, at) in &needed {
        bind(&Path::new("/").join(folder), &by_descriptor(at), MsFlags::MS_REC)?;
    }
    for (from, at) in &workflow {
        bind(from, &by_descriptor(at), MsFlags::empty())?;
    }
    match run {
        Ok(run) => mount_run(root, &run, &elsewhere),
        // On a filesystem that cannot be written to it may be missing.
        Err(e) => {
            println!("cexec: the image has no usable /run: {e}");
            Ok(())
        }
    }
}

/// An empty /run with what is shown below it.
fn mount_run(root: &Path, run: &OwnedFd, shown: &[(&Path, &Path)]) -> io::Result<()> {
    mount(
        Some("tmpfs"),
        &by_descriptor(run),
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=0755,size=10%"),
    )
    .map_err(|e| named("mounting /run", e))?;
    let run = open_folder(root, Path::new(RUN))?;
    mkdirat(&run, "lock", Mode::from_bits_retain(0o1777))?;
    for (from, at) in shown {
        let Ok(below) = at.strip_prefix("/run") else {
            continue;
        };
        mkdirat(&run, below, Mode::from_bits_retain(0o755))?;
        let at = openat(
            &run,
            below,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        bind(from, &by_descriptor(&at), MsFlags::empty())?;
    }
    Ok(())
}

/// The name servers, over whatever the image has as /etc/resolv.conf: over a link itself, wherever it leads.
fn show_resolv_conf(root: &Path, text: &str) -> io::Result<()> {
    let etc = open_folder(root, Path::new("etc"))?;
    let file = temporary(text)?;
    let shown = match open_as_it_is(&etc, "resolv.conf") {
        Ok(target) if SFlag::from_bits_truncate(fstat(&target)?.st_mode) == SFlag::S_IFDIR => {
            Err(io::Error::other("it is a folder"))
        }
        Ok(target) => bind(&file, &by_descriptor(&target), MsFlags::empty()),
        // There was no way to make it: the image cannot be written to.
        Err(Errno::ENOENT) => overlay(&etc, text),
        Err(e) => Err(e.into()),
    };
    // The mount keeps the content.
    let _ = std::fs::remove_file(&file);
    shown
}

/// A layer over a folder that cannot be written to, with the file in it.
fn overlay(etc: &OwnedFd, text: &str) -> io::Result<()> {
    let folder = std::env::temp_dir().join(format!("farrier-etc-{}", crate::entropy::name()));
    std::fs::create_dir(&folder)?;
    let mounted = (|| {
        // In memory, and gone with the namespace.
        mount(
            Some("tmpfs"),
            &folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=16m"),
        )
        .map_err(|e| named("mounting a layer over /etc", e))?;
        for name in ["upper", "work"] {
            std::fs::create_dir(folder.join(name))?;
        }
        std::fs::write(folder.join("upper/resolv.conf"), text)?;
        let options = format!(
            "lowerdir={},upperdir={}/upper,workdir={}/work",
            by_descriptor(etc).display(),
            folder.display(),
            folder.display()
        );
        mount(
            Some("overlay"),
            &by_descriptor(etc),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(|e| named("mounting a layer over /etc", e))
    })();
    if mounted.is_err() {
        let _ = nix::mount::umount2(&folder, nix::mount::MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&folder);
    }
    mounted
}

/// A folder of the image to mount on.
fn place(root: &Path, folder: &str) -> io::Result<OwnedFd> {
    let at = open_folder(root, Path::new(folder))
        .map_err(|e| io::Error::other(format!("/{folder} of the image is no folder in it: {e}")))?;
    let (found, whole) = (fstat(&at)?, fstat(File::open(root)?)?);
    if (found.st_dev, found.st_ino) == (whole.st_dev, whole.st_ino) {
        return Err(io::Error::other(format!(
            "/{folder} of the image is a link to the image's root; make it a folder"
        )));
    }
    Ok(at)
}

/// Without following it, should it be a link.
fn open_as_it_is(folder: &impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

/// Whether something of this name is there, be it a link that leads nowhere.
pub(super) fn is_there(folder: &impl AsFd, name: &str) -> bool {
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn by_descriptor(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// A file with this text, to be mounted from and then removed.
pub(super) fn temporary(text: &str) -> io::Result<PathBuf> {
    let file = std::env::temp_dir().join(format!("farrier-shown-{}", crate::entropy::name()));
    std::fs::write(&file, text)?;
    Ok(file)
}
