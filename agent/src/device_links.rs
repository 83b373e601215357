//! /dev/disk of the in-memory system, which has no udev: kept as the disks are by a thread of the worker.
//!
//! It wakes when the kernel tells of a block device (uevents), and when somebody who had a disk or a partition open
//! for writing closes it: a new table or filesystem brings new names.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use disk::probe::{self, Include, System};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{MsgFlags, recv};

use crate::console::say;
use crate::supervisor::listen_for_devices;

/// What happens within this time is looked at together: a table brings all its partitions at once.
const SETTLES_WITHIN: Duration = Duration::from_millis(50);
/// Where nothing tells of changes, they are looked for.
const POLL_MS: u16 = 2000;

/// Starts the thread; it lasts as long as the worker.
pub(crate) fn keep() {
    let started = std::thread::Builder::new()
        .name("device-links".to_owned())
        .spawn(run);
    if let Err(e) = started {
        say(&format!("/dev/disk is not kept: {e}"));
    }
}

/// Makes /dev/disk what the disks are now. Blocks while superblocks are read.
pub(crate) fn refresh() -> std::io::Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    probe::refresh_links(&System::default())
}

fn run() {
    let uevents = listen_for_devices().ok();
    let written = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
    let mut said = String::new();
    loop {
        // Watched first: what is written while superblocks are read is seen the next time.
        if let Some(written) = &written {
            for device in devices() {
                let _ = written.add_watch(&device, AddWatchFlags::IN_CLOSE_WRITE);
            }
        }
        if let Err(e) = refresh()
            && said != e.to_string()
        {
            said = e.to_string();
            say(&format!("/dev/disk is not as the disks are: {said}"));
        }
        let mut waits = Vec::new();
        waits.extend(
            uevents
                .as_ref()
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
        );
        waits.extend(
            written
                .as_ref()
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
        );
        let timeout = if waits.len() == 2 {
            PollTimeout::NONE
        } else {
            PollTimeout::from(POLL_MS)
        };
        let _ = poll(&mut waits, timeout);
        std::thread::sleep(SETTLES_WITHIN);
        if let Some(uevents) = &uevents {
            let mut message = [0_u8; 8192];
            while recv(uevents.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT).is_ok_and(|len| len > 0) {}
        }
        if let Some(written) = &written {
            while written.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
    }
}

/// Every disk and partition.
fn devices() -> HashSet<PathBuf> {
    let disks = probe::list(&System::default(), Include::DisksOnly).unwrap_or_default();
    disks
        .into_iter()
        .flat_map(|disk| {
            let partitions = disk.partitions.into_iter().map(|partition| partition.path);
            partitions.chain([disk.path])
        })
        .collect()
}
