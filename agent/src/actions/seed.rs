//! `seed`: what an installed system reads at its first boot, for cloud-init or Ignition.
//!
//! As files in a filesystem that is there, or as a partition of its own ([`disk::seed`]). What is there already is left alone, so that the
//! action may be run again at any time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use disk::probe::System;
use disk::seed::{self, Datasource, Form, MAX_SEED_TEXT_BYTES, Seed, SeedFields, SeedRequest};
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use proto::v1;
use serde::Serialize;

use super::environment::Environment;
use super::inside::{Folders, available_bytes, folder, make_folders, open_inside};
use super::target::{self, Mounted, blocking};
use super::{Done, Failure, Feed, Halt, Place};
use crate::inventory;

pub(super) const VARIABLES: [&str; 11] = [
    "DATASOURCE",
    "DEST_DISK",
    "DEST_PATH",
    "FORM",
    "FS_TYPE",
    "INSTANCE_ID",
    "META_DATA",
    "NETWORK_CONFIG",
    "ONLY_EMPTY",
    "USER_DATA",
    "VENDOR_DATA",
];
/// Where every cloud-init has its configuration, and where it is switched off.
const CLOUD_INIT: &str = "etc/cloud";
const SWITCHED_OFF: &str = "etc/cloud/cloud-init.disabled";
/// Without it GRUB does not have Ignition run. Source: Fedora CoreOS, `grub.cfg` of coreos-assembler.
const FIRST_BOOT: &str = "ignition.firstboot";
/// What a filesystem takes for the files beside their content.
const ROOM_BYTES: u64 = 64 << 10;

/// What later actions find in the task's outputs.
#[derive(Serialize)]
struct Outputs {
    datasource: &'static str,
    device: String,
    form: &'static str,
    /// In the filesystem of the device; left out where it is a partition of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'static str>,
    /// Whether anything was written.
    changed: bool,
}

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let hint = env.required("DEST_DISK")?;
    let declared = declared(env)?;
    if declared.datasource == Datasource::Ignition {
        env.required("USER_DATA")?;
    }
    let files = declared.files(&machine_id(action));
    let device = target::resolve(hint).await?;
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    match declared.form {
        Form::Files => into_filesystem(env, &declared, files, device, place, feed).await,
        Form::Iso9660 => onto_partition(env, &declared, files, device, feed).await,
    }
}

fn declared(env: &Environment<'_>) -> Result<Seed, Failure> {
    let of = |name| env.optional(name);
    let fields = SeedFields {
        datasource: of("DATASOURCE"),
        form: of("FORM"),
        dest_path: of("DEST_PATH"),
        fs_type: of("FS_TYPE"),
        instance_id: of("INSTANCE_ID"),
        meta_data: of("META_DATA"),
        network_config: of("NETWORK_CONFIG"),
        only_empty: of("ONLY_EMPTY"),
        user_data: of("USER_DATA"),
        vendor_data: of("VENDOR_DATA"),
    };
    Seed::parse(&fields).map_err(Failure::bad_variables)
}

/// The UUID that the firmware gives the machine; of one that gives none, or the same to every machine, the workflow's id.
fn machine_id(action: &v1::RunAction) -> String {
    let uuid = inventory::system_uuid(&System::default());
    let digits = uuid.chars().filter(|c| *c != '-');
    let is_one = uuid.len() == 36 && !digits.clone().all(|c| c == '0') && !digits.clone().all(|c| c == 'f');
    if is_one { uuid } else { action.workflow_id.clone() }
}

async fn onto_partition(
    env: &Environment<'_>,
    declared: &Seed,
    files: Vec<(&'static str, String)>,
    device: PathBuf,
    feed: &Feed,
) -> Result<Done, Failure> {
    let label = declared.datasource.label().unwrap_or_default();
    let request = SeedRequest {
        device: device.clone(),
        label,
        files,
        only_empty: env.is_on("ONLY_EMPTY"),
        touched: feed.touched(),
    };
    let seeded =
        blocking(move || seed::seed(&request).map_err(|e| Failure::new(e.reason(), e.to_string()))).await?;
    target::say_removed(&seeded.removed, feed).await;
    let shown = device.display();
    let message = match seeded.changed {
        true => format!("{shown} is a seed of {} B now, label {label}", seeded.size_bytes),
        false => format!("{shown} is this seed already: nothing was written"),
    };
    feed.line(message.as_str()).await;
    let outputs = Outputs {
        datasource: declared.datasource.name(),
        device: shown.to_string(),
        form: declared.form.name(),
        folder: None,
        label: Some(label),
        changed: seeded.changed,
    };
    Done::with_outputs(message, &outputs)
}

async fn into_filesystem(
    env: &Environment<'_>,
    declared: &Seed,
    files: Vec<(&'static str, String)>,
    device: PathBuf,
    place: &Place,
    feed: &Feed,
) -> Result<Done, Failure> {
    let fs_type = env.optional("FS_TYPE").unwrap_or("auto").to_owned();
    let datasource = declared.datasource;
    let at = env.optional("DEST_PATH").unwrap_or(datasource.folder());
    let plan = Plan {
        folder: folder("DEST_PATH", at)?,
        is_chosen: env.optional("DEST_PATH").is_some(),
        datasource,
        files,
    };
    let (mounts, touches, on) = (place.mounts.clone(), feed.clone(), device.clone());
    let folder = format!("/{}", plan.folder.display());
    let changed = blocking(move || {
        let fs_type = target::filesystem(&on, &fs_type)?;
        let mounted = Mounted::mount(&mounts, &on, &fs_type)?;
        let changed = put(mounted.path(), &plan, &on, || touches.touches_disk())?;
        mounted.unmount()?;
        Ok(changed)
    })
    .await?;
    let shown = device.display();
    let name = datasource.name();
    let message = match changed {
        true => format!("{folder} on {shown} is the seed for {name} now"),
        false => format!("{folder} on {shown} is this seed for {name} already: nothing was written"),
    };
    feed.line(message.as_str()).await;
    let outputs = Outputs {
        datasource: name,
        device: shown.to_string(),
        form: declared.form.name(),
        folder: Some(folder),
        label: None,
        changed,
    };
    Done::with_outputs(message, &outputs)
}

/// What is to be where in a mounted filesystem.
struct Plan {
    /// From the filesystem's root on.
    folder: PathBuf,
    /// Whether somebody says that it is looked for there.
    is_chosen: bool,
    datasource: Datasource,
    files: Vec<(&'static str, String)>,
}

/// Makes the folder have these files of its datasource and no others; whether anything had to be written. Blocks.
fn put(root: &Path, plan: &Plan, device: &Path, touches: impl FnOnce()) -> Result<bool, Failure> {
    let failed = |what: &str, path: &Path, e: io::Error| {
        Failure::new(
            "WriteFailed",
            format!("{what} /{} on {} failed: {e}", path.display(), device.display()),
        )
    };
    let free = available_bytes(root);
    let root = File::open(root).map_err(|e| failed("opening", Path::new(""), e))?;
    is_read(&root, plan, device)?;
    let mut wrong = Vec::new();
    for (name, content) in &plan.files {
        if !is_there(&root, &plan.folder.join(name), content.as_bytes()) {
            wrong.push((plan.folder.join(name), content));
        }
    }
    let given = |name: &&str| plan.files.iter().any(|(given, _)| given == name);
    let names = plan.datasource.names().iter().copied();
    // What an earlier seed had more than this one would be read with it.
    let stale: Vec<PathBuf> = names
        .filter(|name| !given(name))
        .map(|name| plan.folder.join(name))
        .filter(|path| {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            open_inside(&root, path, flags, Mode::empty()).is_ok()
        })
        .collect();
    if wrong.is_empty() && stale.is_empty() {
        return Ok(false);
    }
    let need_bytes = ROOM_BYTES + wrong.iter().map(|(_, content)| content.len() as u64).sum::<u64>();
    if let Some(free) = free.filter(|free| *free < need_bytes) {
        return Err(Failure::new(
            "FilesystemFull",
            format!(
                "{} has {free} B free, and the seed needs {need_bytes} B; nothing was written",
                device.display()
            ),
        ));
    }
    touches();
    for path in stale {
        remove(&root, &path).map_err(|e| failed("removing", &path, e))?;
    }
    for (path, content) in wrong {
        write(&root, &path, content.as_bytes()).map_err(|e| failed("writing", &path, e))?;
    }
    Ok(true)
}

/// Whether somebody would look there, as far as the filesystem shows it.
fn is_read(root: &File, plan: &Plan, device: &Path) -> Result<(), Failure> {
    let has = |path: &str| {
        open_inside(
            root,
            Path::new(path),
            OFlag::O_PATH | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .is_ok()
    };
    let shown = device.display();
    let nobody = |words: String| Failure::new("NoReader", format!("{words}; nothing was written"));
    match plan.datasource {
        _ if plan.is_chosen => Ok(()),
        Datasource::Ignition if !has(FIRST_BOOT) => Err(nobody(format!(
            "{shown} has no /{FIRST_BOOT}, without which Ignition does not run: name the partition of /boot (LABEL=boot), before its first boot, \
             or DEST_PATH, where this system looks for its configuration"
        ))),
        Datasource::Ignition => Ok(()),
        Datasource::ConfigDrive | Datasource::NoCloud if !has(CLOUD_INIT) => Err(nobody(format!(
            "{shown} has no /{CLOUD_INIT}, and so no cloud-init: name the partition of a system that has it, or DEST_PATH, where it is to be \
             all the same"
        ))),
        Datasource::ConfigDrive | Datasource::NoCloud if has(SWITCHED_OFF) => Err(nobody(format!(
            "/{SWITCHED_OFF} on {shown} switches cloud-init off: remove it first (cexec)"
        ))),
        Datasource::ConfigDrive | Datasource::NoCloud => Ok(()),
    }
}

const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Whether it is a file of root's alone with this content.
fn is_there(root: &File, path: &Path, content: &[u8]) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let Ok(file) = open_inside(root, path, flags, Mode::empty()).map(File::from) else {
        return false;
    };
    let is_ours = fstat(&file).is_ok_and(|stat| {
        stat.st_mode == libc::S_IFREG | MODE.bits() && (stat.st_uid, stat.st_gid) == (0, 0)
    });
    let mut found = Vec::new();
    let read = file.take(MAX_SEED_TEXT_BYTES as u64 * 2).read_to_end(&mut found);
    is_ours && read.is_ok() && found == content
}

/// Beside its place first: there is the old file or the new one. A link in its place is replaced.
fn write(root: &File, path: &Path, content: &[u8]) -> io::Result<()> {
    let folders = Folders {
        uid: Uid::from_raw(0),
        gid: Gid::from_raw(0),
        mode: Mode::from_bits_retain(0o755),
    };
    let (parent, name) = place(path)?;
    let folder = make_folders(root, parent, &folders)?;
    let aside = format!(".{name}.farrier");
    let _ = unlinkat(&folder, aside.as_str(), UnlinkatFlags::NoRemoveDir);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(&folder, aside.as_str(), flags, MODE)?);
    fchown(&file, Some(folders.uid), Some(folders.gid))?;
    fchmod(&file, MODE)?;
    file.write_all(content)?;
    file.sync_all()?;
    renameat2(&folder, aside.as_str(), &folder, name, RenameFlags::empty())?;
    folder.sync_all()
}

fn remove(root: &File, path: &Path) -> io::Result<()> {
    let (parent, name) = place(path)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = File::from(open_inside(root, parent, flags, Mode::empty())?);
    unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir)?;
    folder.sync_all()
}

fn place(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let parts = path.parent().zip(name);
    parts.ok_or_else(|| io::Error::other("it names no file"))
}
