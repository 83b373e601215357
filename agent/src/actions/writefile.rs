//! `writefile`: one file into a filesystem, owner and mode exactly as said.
//!
//! The path is resolved inside the mounted filesystem by the kernel (openat2 with RESOLVE_IN_ROOT): neither `..`
//! nor a symbolic link of the image leads out of it. Source of the variables: tinkerbell/actions writefile.
//!
//! Beyond upstream: without `DEST_DISK` a path in `/workflow` is a file of the workflow's ephemeral data.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchown};
use proto::v1;

use super::environment::Environment;
use super::inside::{Folders, file, leads_nowhere, link, make_folders, open_inside};
use super::scratch::Scratch;
use super::target::{self, Mounted, blocking};
use super::{Done, Failure, Feed, Gives, Halt, Place};

pub(super) const VARIABLES: [&str; 8] = [
    "CONTENTS",
    "DEST_DISK",
    "DEST_PATH",
    "DIRMODE",
    "FS_TYPE",
    "GID",
    "MODE",
    "UID",
];
pub(super) const WORKFLOW: &str = "/workflow";

/// What to write; parsed before anything is touched.
#[derive(Clone, Debug)]
struct Plan {
    fs_type: String,
    /// Inside the filesystem, without a leading slash.
    path: PathBuf,
    contents: Vec<u8>,
    uid: Uid,
    gid: Gid,
    mode: Mode,
    folder_mode: Mode,
}

impl Plan {
    fn folders(&self) -> Folders {
        Folders {
            uid: self.uid,
            gid: self.gid,
            mode: self.folder_mode,
        }
    }
}

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    if env.optional("DEST_DISK").is_none()
        && let Some(plan) = data_plan(env)?
    {
        return write_data(action, plan, place, feed, halt).await;
    }
    let plan = plan(env)?;
    let device = target::resolve(env.required("DEST_DISK")?).await?;
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    let bytes = plan.contents.len() as u64;
    let message = format!(
        "wrote {bytes} B to /{} on {}",
        plan.path.display(),
        device.display()
    );
    let mounts = place.mounts.clone();
    let touches = feed.clone();
    blocking(move || {
        let mounted = Mounted::mount(&mounts, &device, &plan.fs_type)?;
        touches.touches_disk();
        write_into(mounted.path(), &plan)?;
        mounted.unmount()
    })
    .await?;
    feed.line(message.as_str()).await;
    Ok(Done::Succeeded {
        message,
        bytes,
        gives: Gives::default(),
    })
}

async fn write_data(
    action: &v1::RunAction,
    plan: Plan,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    if action.reboots {
        return Err(Failure::new(
            "BadVariable",
            "an action with `reboots: true` cannot change /workflow: write the file in an action before it",
        ));
    }
    let bytes = plan.contents.len() as u64;
    let message = format!("wrote {bytes} B to {WORKFLOW}/{}", plan.path.display());
    let scratch = Scratch::make(action, place, halt).await?;
    let folder = scratch.workflow();
    blocking(move || write_into(&folder, &plan)).await?;
    feed.line(message.as_str()).await;
    let gives = scratch.take(halt).await?;
    Ok(Done::Succeeded {
        message,
        bytes,
        gives,
    })
}

/// Where the path is in `/workflow`: relative to it. Owners are not handed over, and of the mode only whether the
/// file is executable.
fn data_plan(env: &Environment<'_>) -> Result<Option<Plan>, Failure> {
    let path = file("DEST_PATH", env.required("DEST_PATH")?)?;
    let Ok(path) = Path::new("/")
        .join(&path)
        .strip_prefix(WORKFLOW)
        .map(Path::to_owned)
    else {
        return Ok(None);
    };
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let mode = match env.optional("MODE") {
        Some(_) => file_mode(env, "MODE")?,
        None => Mode::from_bits_retain(0o644),
    };
    Ok(Some(Plan {
        fs_type: String::new(),
        path,
        contents: env.required("CONTENTS")?.as_bytes().to_vec(),
        uid: Uid::effective(),
        gid: Gid::effective(),
        mode,
        folder_mode: Mode::from_bits_retain(0o755),
    }))
}

fn plan(env: &Environment<'_>) -> Result<Plan, Failure> {
    env.required("DEST_DISK")?;
    Ok(Plan {
        fs_type: env.required("FS_TYPE")?.to_owned(),
        path: file("DEST_PATH", env.required("DEST_PATH")?)?,
        contents: env.required("CONTENTS")?.as_bytes().to_vec(),
        uid: Uid::from_raw(env.number("UID", 10)?),
        gid: Gid::from_raw(env.number("GID", 10)?),
        mode: file_mode(env, "MODE")?,
        folder_mode: file_mode(env, "DIRMODE")?,
    })
}

pub(super) fn file_mode(env: &Environment<'_>, name: &str) -> Result<Mode, Failure> {
    let number = env.number(name, 8)?;
    Some(number)
        .filter(|n| *n <= 0o7777)
        .map(Mode::from_bits_retain)
        .ok_or_else(|| {
            Failure::new(
                "BadVariable",
                format!("environment variable {name}={number:o} is no file mode (0 to 7777)"),
            )
        })
}

fn write_into(root: &Path, plan: &Plan) -> Result<(), Failure> {
    let failed = |what: &str, path: &Path, e: io::Error| {
        Failure::new("WriteFailed", format!("{what} /{} failed: {e}", path.display()))
    };
    let root = File::open(root).map_err(|e| failed("opening", Path::new(""), e))?;
    let parent = plan.path.parent().unwrap_or(Path::new(""));
    let folder =
        make_folders(&root, parent, &plan.folders()).map_err(|e| failed("making folder", parent, e))?;
    let file = write_file(&root, &folder, plan).map_err(|e| failed("writing", &plan.path, e))?;
    file.sync_all().map_err(|e| failed("syncing", &plan.path, e))?;
    folder
        .sync_all()
        .map_err(|e| failed("syncing folder", parent, e))?;
    Ok(())
}

fn write_file(root: &File, folder: &File, plan: &Plan) -> io::Result<File> {
    let no_file = || io::Error::other("it is there already and is no regular file");
    // A named pipe of the image would be waited on for ever without O_NONBLOCK.
    let flags = OFlag::O_WRONLY
        | OFlag::O_CREAT
        | OFlag::O_TRUNC
        | OFlag::O_CLOEXEC
        | OFlag::O_NOCTTY
        | OFlag::O_NONBLOCK;
    let opened = open_inside(root, &plan.path, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let mut file = File::from(opened.map_err(|e| {
        match e.raw_os_error() {
            // A named pipe without a reader, a socket, a device that there is not.
            Some(libc::ENXIO) => no_file(),
            Some(libc::ENOENT) => match plan
                .path
                .file_name()
                .and_then(|name| link(folder, Path::new(name)))
            {
                Some(target) => leads_nowhere(&plan.path, &target),
                None => e,
            },
            _ => e,
        }
    })?);
    if !file.metadata()?.is_file() {
        return Err(no_file());
    }
    file.write_all(&plan.contents)?;
    // The owner first: chown clears set-user-id bits.
    fchown(&file, Some(plan.uid), Some(plan.gid))?;
    fchmod(&file, plan.mode)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn plan_for(path: &str) -> Plan {
        Plan {
            fs_type: "ext4".to_owned(),
            path: file("DEST_PATH", path).expect("a path"),
            contents: b"text\n".to_vec(),
            uid: Uid::from_raw(1234),
            gid: Gid::from_raw(2345),
            mode: Mode::from_bits_retain(0o646),
            folder_mode: Mode::from_bits_retain(0o2751),
        }
    }

    #[test]
    fn owner_and_modes_are_exact_for_file_and_folders() {
        let root = tempfile::tempdir().expect("folder");
        write_into(root.path(), &plan_for("/etc/deep/er/file")).expect("written");
        let file = std::fs::metadata(root.path().join("etc/deep/er/file")).expect("file");
        assert_eq!(
            (file.permissions().mode() & 0o7777, file.uid(), file.gid()),
            (0o646, 1234, 2345)
        );
        let folder = std::fs::metadata(root.path().join("etc/deep")).expect("folder");
        assert_eq!(
            (folder.permissions().mode() & 0o7777, folder.uid()),
            (0o2751, 1234)
        );
        // Again: replaced, and nothing of a longer content stays.
        let shorter = Plan {
            contents: b"x".to_vec(),
            ..plan_for("/etc/deep/er/file")
        };
        write_into(root.path(), &shorter).expect("written");
        assert_eq!(
            std::fs::read(root.path().join("etc/deep/er/file")).expect("file"),
            b"x"
        );
    }

    #[test]
    fn no_link_leads_out_of_the_filesystem() {
        let outside = tempfile::tempdir().expect("folder");
        let root = tempfile::tempdir().expect("folder");
        symlink(outside.path(), root.path().join("etc")).expect("link");
        symlink("../../../../../../etc", root.path().join("up")).expect("link");
        symlink(outside.path().join("target"), root.path().join("file")).expect("link");
        // Absolute and upward links are followed from the filesystem's own root, where they lead nowhere.
        assert!(write_into(root.path(), &plan_for("/etc/passwd")).is_err());
        assert!(write_into(root.path(), &plan_for("/file")).is_err());
        let _ = write_into(root.path(), &plan_for("/up/farrier-escaped"));
        assert!(!Path::new("/etc/farrier-escaped").exists());
        assert_eq!(std::fs::read_dir(outside.path()).expect("folder").count(), 0);
    }

    #[test]
    fn a_named_pipe_in_the_way_is_refused_and_not_waited_on() {
        let root = tempfile::tempdir().expect("folder");
        nix::unistd::mkfifo(&root.path().join("pipe"), Mode::S_IRWXU).expect("pipe");
        let (done, ended) = std::sync::mpsc::channel();
        let path = root.path().to_owned();
        std::thread::spawn(move || done.send(write_into(&path, &plan_for("/pipe"))));
        let refused = ended
            .recv_timeout(std::time::Duration::from_secs(20))
            .expect("it ends");
        let message = refused.expect_err("refused").message;
        assert!(
            message.contains("/pipe") && message.contains("no regular file"),
            "{message}"
        );
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::create_dir(root.path().join("etc")).expect("folder");
        symlink(
            "../run/systemd/resolve/stub-resolv.conf",
            root.path().join("etc/resolv.conf"),
        )
        .expect("link");
        symlink("/nowhere", root.path().join("opt")).expect("link");
        for (path, target) in [
            ("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
            ("/opt/x", "/nowhere"),
        ] {
            let refused = write_into(root.path(), &plan_for(path))
                .expect_err("refused")
                .message;
            assert!(
                refused.contains("is a link to") && refused.contains(target),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_link_inside_is_followed() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::create_dir(root.path().join("real")).expect("folder");
        symlink("/real", root.path().join("link")).expect("link");
        write_into(root.path(), &plan_for("/link/file")).expect("written");
        assert!(root.path().join("real/file").exists());
    }

    #[test]
    fn paths_are_refused_before_anything_is_mounted() {
        for path in ["etc/hosts", "/etc/../../x", "/", "/etc/"] {
            assert_eq!(file("DEST_PATH", path).expect_err(path).reason, "BadVariable");
        }
        assert_eq!(
            file("DEST_PATH", "//etc/./hosts").expect("inside"),
            Path::new("etc/hosts")
        );
    }
}
