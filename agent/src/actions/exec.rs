//! `exec`: a command in the agent's own world, without a disk: what one wants to see of a machine before there is a system on it.
//!
//! It can change nothing of the machine unless it is told that it may ([`super::read_only`]). Like [`super::cexec`] it runs in a process
//! that is started anew, and nothing that it starts outlives it.

use proto::v1;

use super::cexec;
use super::chroot::{Spec, World};
use super::environment::Environment;
use super::scratch::{self, Scratch};
use super::{Done, Failure, Feed, Gives, Halt, Place};
use crate::cmdline::Cmdline;
use crate::device_links;
use crate::setting::Setting;

/// Those that it reads itself; the command sees all.
pub(super) const VARIABLES: [&str; 3] = ["CMD_LINE", "DEFAULT_INTERPRETER", "WRITE"];

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let commands = cexec::commands(env)?;
    let may_write = env.is_on("WRITE");
    cexec::bring_tools(&commands, place, feed, halt).await?;
    let scratch = Scratch::make(action, place, halt).await?;
    let mut spec = Spec {
        action: action.native.clone(),
        world: match may_write {
            true => World::Own,
            false => World::ReadOnly,
        },
        commands,
        environment: action.environment.clone().into_iter().collect(),
        // It could change them, and they could write for it.
        host_processes: may_write && action.pid == "host",
        cmdline: (place.setting == Setting::Netboot).then(|| Cmdline::of_this_boot().masked()),
        resolv_conf: None,
        shown: Vec::new(),
    };
    spec.environment.extend(place.surroundings.variables(env));
    spec.environment
        .insert("FARRIER_LABELS".into(), scratch::labels(action));
    cexec::show(&mut spec, &scratch, place.setting, action)
        .map_err(|e| Failure::new("MountFailed", format!("/workflow cannot be shown: {e}")))?;
    if place.setting == Setting::Netboot {
        // Names below /dev/disk are for people; without them it still runs.
        let refreshed = super::target::blocking(|| Ok(device_links::refresh())).await?;
        if let Err(e) = refreshed {
            feed.line(format!("farrier: /dev/disk is not as the disks are: {e}"))
                .await;
        }
    }
    if may_write {
        feed.touches_disk();
    }
    let ran = cexec::run_child(&spec, &place.own, feed, halt).await;
    let message = match ran.and_then(|ended| ended.message()) {
        Ok(message) => message,
        Err(failure) => return Err(scratch.explain(failure).await),
    };
    let gives = match action.reboots {
        true => Gives::default(),
        false => scratch.take(halt).await?,
    };
    Ok(Done::Succeeded {
        message,
        bytes: 0,
        gives,
    })
}
