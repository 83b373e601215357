//! `download`: a file from a URL into a filesystem, or into the workflow's data, verified before it has its name.
//!
//! It comes under a temporary name beside its own, and is renamed when all of it came, its checksum is right and it is on the disk.
//! Without `DEST_DISK` a path in `/workflow` is a file of the workflow's ephemeral data.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use disk::image::content::Content;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use proto::v1;

use super::environment::Environment;
use super::inside::{self, Folders, free_bytes, is_full};
use super::scratch::Scratch;
use super::target::{self, Mounted, blocking};
use super::writefile::{WORKFLOW, file_mode};
use super::{Done, Failure, Feed, Gives, Halt, Place, remote};

pub(super) const VARIABLES: [&str; 16] = [
    "ALL_PROXY",
    "CA_CERTIFICATES",
    "DEST_DISK",
    "DEST_PATH",
    "DIRMODE",
    "FS_TYPE",
    "GID",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "MODE",
    "NO_PROXY",
    "RETRY_DURATION_MINUTES",
    "RETRY_ENABLED",
    "SHA256",
    "UID",
    "URL",
];
/// What a run that was stopped leaves; the next one takes it away.
const TEMPORARY: &str = ".farrier-download";
const CHUNK_BYTES: usize = 256 << 10;

#[derive(Clone)]
struct Plan {
    to: Destination,
    /// Inside of it, without a leading slash.
    path: PathBuf,
    mode: Mode,
    folders: Folders,
}

#[derive(Clone)]
enum Destination {
    Filesystem {
        device: PathBuf,
        mounts: PathBuf,
        fs_type: String,
    },
    Folder(PathBuf),
}

/// A file that has not its name yet.
struct Temporary {
    folder: File,
    mounted: Option<Mounted>,
}

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let request = remote::request(env, "URL", place)?;
    let path = inside::file("DEST_PATH", env.required("DEST_PATH")?)?;
    let mode = match env.optional("MODE") {
        Some(_) => file_mode(env, "MODE")?,
        None => Mode::from_bits_retain(0o644),
    };
    let Some(hint) = env.optional("DEST_DISK") else {
        let Ok(path) = Path::new("/")
            .join(&path)
            .strip_prefix(WORKFLOW)
            .map(Path::to_owned)
        else {
            return Err(Failure::new(
                "MissingVariable",
                "environment variable DEST_DISK is not set; this action needs it, but for a DEST_PATH in /workflow",
            ));
        };
        if path.as_os_str().is_empty() {
            return Err(Failure::new(
                "BadVariable",
                "environment variable DEST_PATH=/workflow names a folder, not a file",
            ));
        }
        if action.reboots {
            return Err(Failure::new(
                "BadVariable",
                "an action with `reboots: true` cannot change /workflow: download the file in an action before it",
            ));
        }
        let scratch = Scratch::make(action, place, halt).await?;
        let plan = Plan {
            to: Destination::Folder(scratch.workflow()),
            path: path.clone(),
            mode,
            folders: Folders {
                uid: Uid::effective(),
                gid: Gid::effective(),
                mode: Mode::from_bits_retain(0o755),
            },
        };
        let to = format!("{WORKFLOW}/{}", path.display());
        let (message, bytes) = download(plan, &request, &to, feed, halt).await?;
        let gives = scratch.take(halt).await?;
        return Ok(Done::Succeeded {
            message,
            bytes,
            gives,
        });
    };
    let number = |name: &str| match env.optional(name) {
        Some(_) => env.number(name, 10),
        None => Ok(0),
    };
    let folders = Folders {
        uid: Uid::from_raw(number("UID")?),
        gid: Gid::from_raw(number("GID")?),
        mode: match env.optional("DIRMODE") {
            Some(_) => file_mode(env, "DIRMODE")?,
            None => Mode::from_bits_retain(0o755),
        },
    };
    let fs_type = env.required("FS_TYPE")?.to_owned();
    let device = target::resolve(hint).await?;
    let to = format!("/{} on {}", path.display(), device.display());
    let plan = Plan {
        to: Destination::Filesystem {
            device,
            mounts: place.mounts.clone(),
            fs_type,
        },
        path,
        mode,
        folders,
    };
    let (message, bytes) = download(plan, &request, &to, feed, halt).await?;
    Ok(Done::Succeeded {
        message,
        bytes,
        gives: Gives::default(),
    })
}

/// Downloads the file to its place; what is said of that, and how long it is.
async fn download(
    plan: Plan,
    request: &disk::image::content::ReadRequest,
    to: &str,
    feed: &Feed,
    halt: &Halt,
) -> Result<(String, u64), Failure> {
    feed.line(format!("downloading {} to {to}", request.url)).await;
    // Nothing is mounted before the first bytes have come.
    let temporary = Arc::new(Mutex::new(None));
    let reader = {
        let (plan, feed, temporary) = (plan.clone(), feed.clone(), Arc::clone(&temporary));
        move |content: &mut Content<'_>| write(&plan, content, &feed, &temporary)
    };
    let read = remote::read("file", request, None, feed, halt, reader).await;
    let read = match read {
        Ok(_) if halt.is_asked() => Err(Failure::stopped()),
        read => read,
    };
    let is_good = read.is_ok();
    let ended = blocking(move || {
        let temporary = temporary.lock().ok().and_then(|mut temporary| temporary.take());
        match temporary {
            Some(temporary) => end(temporary, &plan.path, is_good),
            None => Ok(()),
        }
    })
    .await;
    // Why it did not come counts before what followed from that.
    let bytes = read?.of_reader;
    ended?;
    let message = format!("downloaded {bytes} B of {} to {to}", request.url);
    feed.line(message.as_str()).await;
    Ok((message, bytes))
}

/// Writes the content under the temporary name, and has it on the disk.
fn write(
    plan: &Plan,
    content: &mut Content<'_>,
    feed: &Feed,
    keep: &Mutex<Option<Temporary>>,
) -> Result<u64, Failure> {
    let (root, mounted) = match &plan.to {
        Destination::Folder(folder) => (folder.clone(), None),
        Destination::Filesystem {
            device,
            mounts,
            fs_type,
        } => {
            let mounted = Mounted::mount(mounts, device, fs_type)?;
            feed.touches_disk();
            (mounted.path().to_owned(), Some(mounted))
        }
    };
    let failed = |e: io::Error| failed(&plan.path, &e);
    if let (Some(size), Some(free)) = (content.size_bytes(), free_bytes(&root))
        && size > free
    {
        return Err(Failure::new(
            "FilesystemFull",
            format!(
                "the file has {size} B, and there are {free} B free where it goes; nothing of it is there"
            ),
        ));
    }
    let parent = plan.path.parent().unwrap_or(Path::new(""));
    let root = File::open(root).map_err(failed)?;
    let folder = inside::make_folders(&root, parent, &plan.folders).map_err(failed)?;
    is_replaceable(&folder, name(&plan.path)).map_err(failed)?;
    remove(&folder).map_err(failed)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(&folder, TEMPORARY, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let mut file = File::from(file.map_err(|e| failed(e.into()))?);
    if let Ok(mut keep) = keep.lock() {
        *keep = Some(Temporary { folder, mounted });
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let len = match content.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => len,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failed(e)),
        };
        file.write_all(chunk.get(..len).unwrap_or_default())
            .map_err(failed)?;
        bytes += len as u64;
    }
    // The owner first: chown clears set-user-id bits.
    fchown(&file, Some(plan.folders.uid), Some(plan.folders.gid)).map_err(|e| failed(e.into()))?;
    fchmod(&file, plan.mode).map_err(|e| failed(e.into()))?;
    file.sync_all().map_err(failed)?;
    Ok(bytes)
}

/// Gives it its name, or takes it away; unmounts.
fn end(temporary: Temporary, path: &Path, is_good: bool) -> Result<(), Failure> {
    let Temporary { folder, mounted } = temporary;
    let ended = match is_good {
        true => renameat(&folder, TEMPORARY, &folder, name(path)).map_err(io::Error::from),
        false => remove(&folder),
    };
    let ended = ended.and_then(|()| folder.sync_all());
    drop(folder);
    let unmounted = mounted.map_or(Ok(()), Mounted::unmount);
    ended.map_err(|e| failed(path, &e))?;
    unmounted
}

fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// Regular files are replaced, and links; nothing else.
fn is_replaceable(folder: &File, name: &OsStr) -> io::Result<()> {
    let stat = match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    match kind == SFlag::S_IFREG || kind == SFlag::S_IFLNK {
        true => Ok(()),
        false => Err(io::Error::other("it is there already and is no regular file")),
    }
}

fn remove(folder: &File) -> io::Result<()> {
    match unlinkat(folder, TEMPORARY, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn failed(path: &Path, e: &io::Error) -> Failure {
    let reason = if is_full(e) {
        "FilesystemFull"
    } else {
        "WriteFailed"
    };
    Failure::new(
        reason,
        format!("writing /{} failed: {e}; nothing of it is there", path.display()),
    )
}
