//! The action's root: an overlay over the image's layers, what it writes in memory, and the mounts of the plan.
//!
//! Runs in a mount namespace of its own. First everything of the machine that the action is to see is taken hold of, as
//! mounts that hang nowhere (open_tree); then the root becomes the image; only then is anything put in its place. So each
//! place is looked up with the image as the root, and no link of it leads anywhere else.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, chroot, pivot_root};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::named;
use crate::plan::{Mount, Plan, What};

const NONE: Option<&str> = None;
/// Inodes cost memory that no size bounds: one for each so many bytes.
const BYTES_OF_INODE: u64 = 4096;
const MIN_INODES: u64 = 1024;
/// An empty folder and an empty file that cover what nobody is to see.
const COVER: &str = "mode=0555,size=4k,nr_inodes=2";

/// Builds the root in the plan's folder and makes it the root of this mount namespace; nothing of the machine's is left in it.
pub(super) fn enter(plan: &Plan) -> io::Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(|e| named("making mounts private", e))?;
    build(plan)?;
    let held: Vec<Held> = plan
        .mounts
        .iter()
        .enumerate()
        .map(hold)
        .collect::<io::Result<_>>()?;
    change_root()?;
    for (mount, held) in plan.mounts.iter().zip(held) {
        place(mount, held)
            .map_err(|e| io::Error::new(e.kind(), format!("mounting {} failed: {e}", mount.at.display())))?;
    }
    Ok(())
}

/// Something of the machine's, to be put somewhere in the image.
enum Held {
    Nothing,
    Tree { tree: OwnedFd, is_folder: bool },
}

/// A tmpfs with the overlay's layers in it, the overlay, and the texts. Leaves this process in it.
fn build(plan: &Plan) -> io::Result<()> {
    let inodes = (plan.writable_bytes / BYTES_OF_INODE).max(MIN_INODES);
    let options = format!("mode=0700,size={},nr_inodes={inodes}", plan.writable_bytes);
    mount(
        Some("tmpfs"),
        &plan.folder,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some(options.as_str()),
    )
    .map_err(|e| named("mounting memory for what the action writes", e))?;
    chdir(&plan.folder).map_err(|e| named("going to the root's folder", e))?;
    for folder in ["layers", "layers/none", "root", "texts", "upper", "work"] {
        fs::create_dir(folder)?;
    }
    // Short names, and none with a colon or a comma: all of them have to fit into one page.
    let mut lower = Vec::new();
    for (number, layer) in plan.layers.iter().enumerate() {
        let name = format!("layers/{number}");
        symlink(layer, &name)?;
        lower.insert(0, name);
    }
    if lower.is_empty() {
        lower.push("layers/none".to_owned());
    }
    let options = format!("lowerdir={},upperdir=upper,workdir=work", lower.join(":"));
    let flags = match plan.confined {
        true => MsFlags::MS_NODEV,
        false => MsFlags::empty(),
    };
    mount(
        Some("overlay"),
        "root",
        Some("overlay"),
        flags,
        Some(options.as_str()),
    )
    .map_err(|e| named(&format!("mounting the image's {} layers", plan.layers.len()), e))?;
    for (number, mount) in plan.mounts.iter().enumerate() {
        if let What::Text { text } = &mount.what {
            fs::write(text_file(number), text)?;
        }
    }
    Ok(())
}

fn text_file(number: usize) -> String {
    format!("texts/{number}")
}

/// Takes hold of what a mount shows of the machine.
fn hold((number, mount): (usize, &Mount)) -> io::Result<Held> {
    let (source, recursive) = match &mount.what {
        What::Volume { source } => {
            // As Docker makes it.
            if !source.exists() {
                fs::create_dir_all(source).map_err(|e| {
                    io::Error::new(
                        e.kind(),
                        format!("making the folder {} of a volume failed: {e}", source.display()),
                    )
                })?;
            }
            (source.clone(), true)
        }
        What::Folder { source } | What::Given { source } | What::Device { source } => (source.clone(), false),
        What::Text { .. } => (text_file(number).into(), false),
        What::Fresh { .. } | What::Link { .. } | What::Itself | What::Nothing => return Ok(Held::Nothing),
    };
    let found = |e: io::Error| {
        io::Error::new(
            e.kind(),
            format!("{} of the machine cannot be shown: {e}", source.display()),
        )
    };
    let kind = fs::metadata(&source).map_err(found)?.file_type();
    if let What::Device { .. } = mount.what
        && !kind.is_char_device()
    {
        return Err(io::Error::other(format!(
            "{} of the machine is no device",
            source.display()
        )));
    }
    let tree = clone_of(&source, recursive).map_err(found)?;
    super::kernel::restrict(tree.as_fd(), mount.read_only, mount.no_devices)?;
    Ok(Held::Tree {
        tree,
        is_folder: kind.is_dir(),
    })
}

fn clone_of(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(CWD, path, flags)?)
}

/// Makes `root` in the present folder, which is a mount, the root.
///
/// The root of an initramfs cannot be exchanged (`EINVAL`: it hangs nowhere). There the present folder is first moved over
/// it: what hangs on something can be exchanged, and with that the mount that covered the initramfs is gone again.
fn change_root() -> io::Result<()> {
    match exchange("root") {
        Err(Errno::EINVAL) => {
            mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)
                .map_err(|e| named("moving the root's folder over the initramfs", e))?;
            chroot(".").map_err(|e| named("changing to the root's folder", e))?;
            exchange("/root").map_err(|e| named("changing root on an initramfs", e))
        }
        result => result.map_err(|e| named("changing root", e)),
    }
}

fn exchange(to: &str) -> Result<(), Errno> {
    let before = File::open(".").map_err(|_| Errno::ENOENT)?;
    chdir(to)?;
    // The old root is put upon the new one, so that no folder is needed for it, and taken off.
    if let Err(e) = pivot_root(".", ".") {
        nix::unistd::fchdir(&before)?;
        return Err(e);
    }
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

/// Puts one mount in its place in the image.
fn place(mount: &Mount, held: Held) -> io::Result<()> {
    let at = mount.at.as_path();
    match (&mount.what, held) {
        (What::Fresh { kind, options }, _) => {
            make_folder(at)?;
            fresh(mount, kind, options)
        }
        (What::Link { to }, _) => {
            match fs::remove_file(at) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            symlink(to, at)
        }
        (What::Itself, _) => {
            if !at.exists() {
                return Ok(());
            }
            let tree = clone_of(at, true)?;
            super::kernel::restrict(tree.as_fd(), true, mount.no_devices)?;
            put(&tree, at)
        }
        (What::Nothing, _) => cover(at),
        (_, Held::Tree { tree, is_folder }) => {
            if is_folder {
                make_folder(at)?;
            } else {
                make_file(at, matches!(mount.what, What::Text { .. }))?;
            }
            put(&tree, at)
        }
        // Taken hold of in `hold`, each of them.
        (_, Held::Nothing) => Err(io::Error::other("nothing was taken hold of")),
    }
}

fn fresh(of: &Mount, kind: &str, options: &str) -> io::Result<()> {
    let mut flags = MsFlags::MS_NOSUID;
    if kind != "tmpfs" {
        flags |= MsFlags::MS_NOEXEC;
    }
    if of.no_devices {
        flags |= MsFlags::MS_NODEV;
    }
    if of.read_only {
        flags |= MsFlags::MS_RDONLY;
    }
    let options = Some(options).filter(|options| !options.is_empty());
    mount(Some(kind), &of.at, Some(kind), flags, options).map_err(io::Error::from)
}

fn put(tree: &OwnedFd, at: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(move_mount(tree, "", CWD, at, flags)?)
}

/// Nothing of it can be seen, nor changed.
fn cover(at: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(at) {
        Ok(found) => found.file_type(),
        Err(_) => return Ok(()),
    };
    if kind.is_dir() {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        return mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(COVER)).map_err(io::Error::from);
    }
    put(&clone_of(Path::new("/dev/null"), false)?, at)
}

fn make_folder(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)
}

/// An empty file to mount upon. `over_links`: in place of a link, wherever it leads.
fn make_file(at: &Path, over_links: bool) -> io::Result<()> {
    if over_links && fs::symlink_metadata(at).is_ok_and(|found| found.file_type().is_symlink()) {
        fs::remove_file(at)?;
    }
    if at.exists() {
        return Ok(());
    }
    if let Some(folder) = at.parent() {
        make_folder(folder)?;
    }
    File::create(at).map(drop)
}
