//! `cexec`: a command inside the installed system (or beside it, with its filesystem mounted).
//!
//! The worker mounts the filesystem, starts its own binary as `chroot-exec` ([`super::chroot`]), hands it the spec
//! on standard input and passes on what it prints. Source of the variables: tinkerbell/actions cexec.

use std::io;
use std::path::{Path, PathBuf};

use proto::v1;
use tokio::process::Command;

use super::chroot::{Shown, Spec, World};
use super::command_line;
use super::environment::Environment;
use super::image_root;
use super::mount_points::MountPoints;
use super::process::{self, Ended, Force};
use super::programs;
use super::scratch::{self, Scratch};
use super::target::{self, Mounted, blocking};
use super::{Done, Failure, Feed, Gives, Halt, Place};
use crate::cmdline::Cmdline;
use crate::device_links;
use crate::setting::Setting;

/// Those that it reads itself; the command sees all.
pub(super) const VARIABLES: [&str; 6] = [
    "BLOCK_DEVICE",
    "CHROOT",
    "CMD_LINE",
    "DEFAULT_INTERPRETER",
    "FS_TYPE",
    "UPDATE_RESOLV_CONF",
];
pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let hint = env.required("BLOCK_DEVICE")?;
    let fs_type = env.required("FS_TYPE")?.to_owned();
    let commands = commands(env)?;
    let device = target::resolve(hint).await?;
    if env.optional("CHROOT").is_none() {
        bring_tools(&commands, place, feed, halt).await?;
    }
    let scratch = Scratch::make(action, place, halt).await?;
    let mounts = place.mounts.clone();
    let mounted = blocking(move || Mounted::mount(&mounts, &device, &fs_type)).await?;
    feed.touches_disk();
    let root = mounted.path().to_owned();
    let mut spec = Spec {
        action: action.native.clone(),
        world: match env.optional("CHROOT") {
            Some(_) => World::Inside(root),
            None => World::Beside(root),
        },
        commands,
        environment: action.environment.clone().into_iter().collect(),
        host_processes: action.pid == "host",
        cmdline: (place.setting == Setting::Netboot).then(|| Cmdline::of_this_boot().masked()),
        resolv_conf: env
            .is_on("UPDATE_RESOLV_CONF")
            .then(|| std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        shown: Vec::new(),
    };
    spec.environment.extend(place.surroundings.variables(env));
    spec.environment
        .insert("FARRIER_LABELS".into(), scratch::labels(action));
    let needed = needed(&spec)?;
    let mount_points = show(&mut spec, &scratch, place.setting, action);
    let (mount_points, blind) = match mount_points {
        Ok(mount_points) => (mount_points, None),
        // It would do something else than it is told.
        Err(e) if !action.input_json.is_empty() => (None, Some(no_input(&e))),
        Err(e) => {
            scratch::none(feed, &e.to_string()).await;
            (None, None)
        }
    };
    if place.setting == Setting::Netboot {
        let refreshed = blocking(|| Ok(device_links::refresh())).await?;
        if let Err(e) = refreshed {
            feed.line(format!("farrier: /dev/disk is not as the disks are: {e}"))
                .await;
        }
    }
    let ran = match blind {
        Some(failure) => Err(failure),
        None => run_child(&spec, &place.own, feed, halt).await,
    };
    drop(mount_points);
    // The last first: each puts back when its folder was changed.
    needed.into_iter().rev().for_each(drop);
    // Whatever happened: the filesystem is to be whole on the disk afterwards.
    let unmounted = blocking(move || mounted.unmount()).await;
    let ended = ran.and_then(|ended| unmounted.map(|()| ended));
    let message = match ended.and_then(|ended| ended.message()) {
        Ok(message) => message,
        Err(failure) => return Err(scratch.explain(failure).await),
    };
    // One after which the machine reboots had nothing to give in the first place.
    let gives = if action.reboots {
        Gives::default()
    } else {
        scratch.take(halt).await?
    };
    Ok(Done::Succeeded {
        message,
        bytes: 0,
        gives,
    })
}

/// What is to be run, one after the other.
///
/// # Errors
/// `MissingVariable`, `BadVariable`.
pub(super) fn commands(env: &Environment<'_>) -> Result<Vec<Vec<String>>, Failure> {
    let text = env.required("CMD_LINE")?;
    command_line::commands(text, env.optional("DEFAULT_INTERPRETER")).map_err(|why| {
        Failure::new(
            "BadVariable",
            format!("environment variable CMD_LINE cannot be run: {why}"),
        )
    })
}

/// Brings the programs of the boot image that the commands name; what it has not is looked for as it is.
pub(super) async fn bring_tools(
    commands: &[Vec<String>],
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<(), Failure> {
    let programs = commands.iter().filter_map(|command| command.first());
    // Another folder's are somebody else's: those of the mounted filesystem, say.
    let names = programs.map(|program| {
        let mut folders = ["/usr/sbin/", "/sbin/"].iter();
        folders
            .find_map(|folder| program.strip_prefix(folder))
            .unwrap_or(program)
    });
    for name in names.filter(|name| place.tools.has(name)) {
        let brought = tokio::select! {
            brought = programs::bring(&place.tools, name, feed) => brought,
            () = halt.asked() => return Err(Failure::stopped()),
        };
        brought.map_err(|e| Failure::new(e.reason(), e.to_string()))?;
    }
    Ok(())
}

/// Makes what the image lacks to have a root of its own; what was not there goes again.
///
/// # Errors
/// `BadRoot`: it is no root of a system, or its folders are none.
fn needed(spec: &Spec) -> Result<Vec<MountPoints>, Failure> {
    let World::Inside(root) = &spec.world else {
        return Ok(Vec::new());
    };
    let mut made = Vec::new();
    for folder in image_root::NEEDED {
        let points = MountPoints::make(root, &[folder]).map_err(|e| {
            Failure::new(
                "BadRoot",
                format!("/{folder} is no folder of this filesystem, and a command with CHROOT needs it: {e}"),
            )
        })?;
        made.push(points);
    }
    // Where these cannot be made, the command has to do without, and its log says so.
    made.extend(MountPoints::make(root, &[image_root::RUN]).ok());
    if spec.resolv_conf.is_some() {
        made.extend(MountPoints::make_file(root, "etc", "resolv.conf").ok());
    }
    Ok(made)
}

fn no_input(e: &io::Error) -> Failure {
    let message =
        format!("the action's input cannot be shown in the image, and so the command was not run: {e}");
    Failure::new("MountFailed", message)
}

/// Lets the command see `/workflow`, its input and its output file: in its root where that is another one or our own, by their
/// paths on somebody else's system.
///
/// # Errors
/// They cannot be shown in the image; it is left as it is then.
pub(super) fn show(
    spec: &mut Spec,
    scratch: &Scratch,
    setting: Setting,
    action: &v1::RunAction,
) -> io::Result<Option<MountPoints>> {
    let seen = [
        (scratch.workflow(), scratch::WORKFLOW),
        (scratch.run(), scratch::RUN),
    ];
    let mount_points = match &spec.world {
        // The one for outputs lies in a /run of the command's own.
        World::Inside(root) => Some(MountPoints::make(root, &["workflow", image_root::RUN])?),
        _ => None,
    };
    let in_place = matches!(spec.world, World::Beside(_) | World::Own) && setting == Setting::Host;
    let [workflow, run] = seen
        .each_ref()
        .map(|(from, at)| if in_place { from.clone() } else { PathBuf::from(at) });
    spec.environment
        .extend(scratch::variables(action, &workflow, &run));
    spec.shown.extend(seen.map(|(from, at)| Shown {
        from,
        at: (!in_place).then(|| PathBuf::from(at)),
        read_only: action.reboots,
    }));
    Ok(mount_points)
}

/// Runs the agent's own binary as `chroot-exec`, which is told the spec on standard input.
pub(super) async fn run_child(spec: &Spec, own: &Path, feed: &Feed, halt: &Halt) -> Result<Ended, Failure> {
    let text = serde_json::to_vec(spec)
        .map_err(|e| Failure::new("StartFailed", format!("describing the command failed: {e}")))?;
    let mut command = Command::new(own);
    command.arg("chroot-exec").env_clear();
    process::run(command, &text, feed, halt, Force::Kill).await
}
