//! `archive2disk`: a tar archive from a URL into a filesystem, verified before anything of it is in its place.
//!
//! It is unpacked into a folder in `DEST_PATH` and moved from there when all of it came and its checksum is right. As long as that
//! folder is there, an archive may be half in its place; the next run begins anew. Source of the variables: tinkerbell/actions
//! archive2disk; `SHA256`, retries, proxies and authorities are image2disk's.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use disk::image::content::{Content, Packing, ReadContent, Verify};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use oci::layer::{Beside, Files, LayerError, PlaceError};

use super::environment::Environment;
use super::inside::{self, Folders, free_bytes, is_full};
use super::tar_checksum::TarChecksum;
use super::target::{self, Mounted, blocking};
use super::{Done, Failure, Feed, Gives, Halt, Place, remote};

pub(super) const VARIABLES: [&str; 16] = [
    "ALL_PROXY",
    "ARCHIVE_TYPE",
    "ARCHIVE_URL",
    "CA_CERTIFICATES",
    "DEST_DISK",
    "DEST_PATH",
    "FS_TYPE",
    "HTTPS_PROXY",
    "HTTP_CLIENT_TIMEOUT_MINUTES",
    "HTTP_PROXY",
    "INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION",
    "NO_PROXY",
    "RETRY_DURATION_MINUTES",
    "RETRY_ENABLED",
    "SHA256",
    "TARFILE_CHECKSUM",
];

/// Where it goes, and what it has to be.
#[derive(Clone)]
struct Plan {
    device: PathBuf,
    mounts: PathBuf,
    fs_type: String,
    /// Inside the filesystem, without a leading slash.
    path: PathBuf,
    checksum: Option<TarChecksum>,
}

/// The filesystem, and what is unpacked in it beside its place.
struct Unpacking {
    beside: Beside,
    mounted: Mounted,
}

/// What the reader of the archive knows.
struct Unpacked {
    files: Files,
    packed_with: Option<&'static str>,
    found_one: bool,
}

pub(super) async fn run(
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let mut request = remote::request(env, "ARCHIVE_URL", place)?;
    request.packing = Packing::Undone;
    let hint = env.required("DEST_DISK")?;
    let fs_type = env.required("FS_TYPE")?.to_owned();
    let path = inside::folder("DEST_PATH", env.required("DEST_PATH")?)?;
    let checksum = env
        .optional("TARFILE_CHECKSUM")
        .map(TarChecksum::parse)
        .transpose()?;
    let insecure = env.is_on("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION");
    if checksum.is_none() && !insecure {
        request.verify = Verify::Always;
    }
    let within = env.duration("HTTP_CLIENT_TIMEOUT_MINUTES", Duration::from_secs(60))?;
    let plan = Plan {
        device: target::resolve(hint).await?,
        mounts: place.mounts.clone(),
        fs_type,
        path,
        checksum: checksum.filter(|_| !insecure),
    };
    let to = format!("/{} on {}", plan.path.display(), plan.device.display());
    feed.line(format!("unpacking {} to {to}", request.url)).await;
    // Nothing is mounted before the first bytes have come.
    let unpacking = Arc::new(Mutex::new(None));
    let reader = {
        let (plan, feed, unpacking) = (plan.clone(), feed.clone(), Arc::clone(&unpacking));
        move |content: &mut Content<'_>| unpack(&plan, content, &feed, &unpacking)
    };
    let read = remote::read("archive", &request, within, feed, halt, reader).await;
    let read = match read {
        Ok(_) if halt.is_asked() => Err(Failure::stopped()),
        read => read,
    };
    let is_good = read.is_ok();
    let ended = blocking(move || {
        let unpacking = unpacking.lock().ok().and_then(|mut unpacking| unpacking.take());
        match unpacking {
            Some(unpacking) => end(unpacking, is_good),
            None => Ok(()),
        }
    })
    .await;
    // Why it did not come counts before what followed from that.
    let read = read?;
    ended?;
    say(env, &read, feed).await;
    let files = read.of_reader.files;
    let message = format!("unpacked {} entries of {} to {to}", files.entries, request.url);
    feed.line(message.as_str()).await;
    Ok(Done::Succeeded {
        message,
        bytes: files.archive_bytes,
        gives: Gives::default(),
    })
}

async fn say(env: &Environment<'_>, read: &ReadContent<Unpacked>, feed: &Feed) {
    let unpacked = &read.of_reader;
    if unpacked.found_one {
        let note = "note: an earlier run had been stopped half way; what it left was taken away";
        feed.line(note).await;
    }
    let packed_with = unpacked.packed_with.unwrap_or("nothing");
    let said = env.optional("ARCHIVE_TYPE");
    let agrees = match said {
        Some("tar") => unpacked.packed_with.is_none(),
        Some("targz") => unpacked.packed_with == Some("gzip"),
        Some(_) => false,
        None => true,
    };
    if let (Some(said), false) = (said, agrees) {
        feed.line(format!(
            "note: ARCHIVE_TYPE is {said}, and the archive is packed with {packed_with}: its first bytes count"
        ))
        .await;
    }
    if unpacked.files.attributes_left_out > 0 {
        feed.line(format!(
            "note: {} attributes were left out, which this filesystem does not have",
            unpacked.files.attributes_left_out
        ))
        .await;
    }
}

/// Mounts the filesystem and unpacks the archive in it, beside its place.
fn unpack(
    plan: &Plan,
    content: &mut Content<'_>,
    feed: &Feed,
    keep: &Mutex<Option<Unpacking>>,
) -> Result<Unpacked, Failure> {
    let mounted = Mounted::mount(&plan.mounts, &plan.device, &plan.fs_type)?;
    feed.touches_disk();
    let free_bytes = free_bytes(mounted.path());
    // A filesystem keeps some for itself: what is not even free is not enough.
    if let (Some(size), Some(free)) = (content.size_bytes(), free_bytes)
        && size > free
    {
        return Err(full(plan, free, &format!("the archive has {size} B")));
    }
    let beside = begin(mounted.path(), &plan.path)?;
    let found_one = beside.found_one();
    let mut unpacking = Unpacking { beside, mounted };
    let packed_with = content.packed_with();
    let made = match &plan.checksum {
        None => unpacking.beside.unpack(&mut *content).map_err(Unmade::Layer),
        Some(checksum) => {
            let mut summed = checksum.of(&mut *content);
            let made = unpacking.beside.unpack(&mut summed).map_err(Unmade::Layer);
            made.and_then(|made| match checksum.is_of(summed) {
                Ok(()) => Ok(made),
                Err(actual) => Err(Unmade::Checksum(checksum.hex().to_owned(), actual)),
            })
        }
    };
    if let Ok(mut keep) = keep.lock() {
        *keep = Some(unpacking);
    }
    let files = made.map_err(|error| unmade(plan, content, free_bytes, error))?;
    if files.entries == 0 {
        return Err(Failure::new(
            "BadArchive",
            "the archive has no entries: is it a tar archive?",
        ));
    }
    Ok(Unpacked {
        files,
        packed_with,
        found_one,
    })
}

fn begin(root: &Path, path: &Path) -> Result<Beside, Failure> {
    let failed = |e: io::Error| {
        Failure::new(
            "WriteFailed",
            format!("making the folder /{} failed: {e}", path.display()),
        )
    };
    let folders = Folders {
        uid: Uid::from_raw(0),
        gid: Gid::from_raw(0),
        mode: Mode::from_bits_retain(0o755),
    };
    let root = File::open(root).map_err(failed)?;
    let folder = inside::make_folders(&root, path, &folders).map_err(failed)?;
    Beside::begin(folder).map_err(|error| not_placed(&error))
}

/// Puts what was unpacked into its place, or takes it away; unmounts.
fn end(unpacking: Unpacking, is_good: bool) -> Result<(), Failure> {
    let Unpacking { beside, mounted } = unpacking;
    let ended = match is_good {
        true => beside.place(),
        false => beside.discard(),
    };
    let unmounted = mounted.unmount();
    ended.map_err(|error| not_placed(&error))?;
    unmounted
}

/// Why an archive was not unpacked.
enum Unmade {
    /// What it was to be, and what it is.
    Checksum(String, String),
    Layer(LayerError),
}

fn unmade(plan: &Plan, content: &mut Content<'_>, free_bytes: Option<u64>, error: Unmade) -> Failure {
    match error {
        Unmade::Checksum(expected, actual) => Failure::new(
            "WrongDigest",
            format!(
                "the checksum of the tar archive is {actual}, TARFILE_CHECKSUM is {expected}: nothing of it is in the filesystem. \
                 TARFILE_CHECKSUM is of the archive without its packing; SHA256 is of the file"
            ),
        ),
        Unmade::Layer(LayerError::Kernel { source, path, .. }) if is_full(&source) => {
            full(plan, free_bytes.unwrap_or(0), &format!("it was full at {path}"))
        }
        Unmade::Layer(LayerError::Kernel { what, path, source }) => Failure::new(
            "WriteFailed",
            format!("{what} {path} of the archive failed: {source}"),
        ),
        Unmade::Layer(error) => {
            // The checksum of the file says more than what the damage looks like.
            let _ = io::copy(&mut content.by_ref(), &mut io::sink());
            let hint = match error {
                LayerError::BadArchive { at: 0..=512, .. } => ". Is it a tar archive?",
                _ => "",
            };
            Failure::new(
                "BadArchive",
                format!("{error}; nothing of it is in the filesystem{hint}"),
            )
        }
    }
}

fn not_placed(error: &PlaceError) -> Failure {
    match error {
        PlaceError::InTheWay { .. } => Failure::new("InTheWay", error.to_string()),
        PlaceError::Kernel { source, .. } => Failure::new(
            "WriteFailed",
            format!("{error}: {source}; run the action again, which begins anew"),
        ),
        PlaceError::TooDeep { .. } => Failure::new("BadArchive", error.to_string()),
    }
}

fn full(plan: &Plan, free_bytes: u64, why: &str) -> Failure {
    Failure::new(
        "FilesystemFull",
        format!(
            "the archive does not fit into the filesystem on {}, which had {free_bytes} B free: {why}; nothing of it is there. Choose a \
             larger partition, or grow it",
            plan.device.display()
        ),
    )
}
