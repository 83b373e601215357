//! Keeps the inventory as the machine is: a thread that reads it, and reads it again when something has changed.
//!
//! It wakes by uevents (a disk, a card), by what switches say, when somebody asks, and every few seconds to look at the links,
//! of which nothing tells. What it finds goes to a place that always holds the newest.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use disk::probe::System;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use proto::v1::{Bmc, HardwareInventory};
use tokio::sync::watch;

use super::listener::{Listener, Neighbours};
use super::{Beside, bmc, interfaces, whole};
use crate::console::say;
use crate::net::link;
use crate::supervisor::listen_for_devices;

/// What happens within this time is looked at together: a disk comes with all its partitions.
const SETTLES_WITHIN: Duration = Duration::from_millis(500);
/// Links are looked at this often.
const LINKS_MS: u16 = 5000;

/// The inventory as it is, and how to have it read again.
#[derive(Debug)]
pub struct Watched {
    newest: watch::Receiver<Option<Box<HardwareInventory>>>,
    ask: UnixStream,
}

impl Watched {
    /// Starts the thread; it lasts as long as this.
    ///
    /// # Errors
    /// The kernel gives no thread or no socket.
    pub fn start(system: System) -> std::io::Result<Watched> {
        let (ask, asked) = UnixStream::pair()?;
        ask.set_nonblocking(true)?;
        asked.set_nonblocking(true)?;
        let (found, newest) = watch::channel(None);
        std::thread::Builder::new()
            .name("inventory".to_owned())
            .spawn(move || run(&system, &asked, &found))?;
        Ok(Watched { newest, ask })
    }

    /// Has it read again: an action may have written to disks.
    pub fn look_again(&self) {
        // A full pipe says so already.
        let _ = (&self.ask).write(b"?");
    }

    /// The next time, the newest counts as not seen.
    pub fn forget_seen(&mut self) {
        self.newest.mark_changed();
    }

    /// The newest, if it was not seen yet.
    pub fn unseen(&mut self) -> Option<Box<HardwareInventory>> {
        match self.newest.has_changed() {
            Ok(true) => self.newest.borrow_and_update().clone(),
            _ => None,
        }
    }
}

fn run(system: &System, asked: &UnixStream, found: &watch::Sender<Option<Box<HardwareInventory>>>) {
    let uevents = listen_for_devices().ok();
    // Without CAP_NET_RAW nothing is heard of switches.
    let mut listener = Listener::open().ok();
    let mut neighbours = Neighbours::default();
    let mut bmc: Option<Bmc> = None;
    loop {
        let cards = cards(system);
        if let Some(listener) = &mut listener {
            listener.join(&cards);
            listener.take(Instant::now(), &cards, &mut neighbours);
        }
        let links = interfaces::links(system);
        let beside = Beside {
            permanent: permanent_addresses(),
            neighbours: neighbours.now(Instant::now()),
        };
        // It is told before the controller is asked, which may take seconds.
        let known = bmc.clone().unwrap_or_default();
        tell(found, whole(system, &beside, &known));
        // Its driver may be loaded later.
        if bmc.is_none() && bmc::is_there(&system.dev) {
            let asked = bmc.insert(bmc::read(&system.dev));
            if *asked != known {
                tell(found, whole(system, &beside, asked));
            }
        }
        loop {
            let why = wait(uevents.as_ref(), listener.as_ref(), asked);
            if found.is_closed() || matches!(why, Why::Gone) {
                return;
            }
            if let Some(listener) = &listener {
                listener.take(Instant::now(), &cards, &mut neighbours);
            }
            let is_other = matches!(why, Why::Asked)
                || interfaces::links(system) != links
                || neighbours.now(Instant::now()) != beside.neighbours;
            if is_other {
                break;
            }
        }
    }
}

fn tell(found: &watch::Sender<Option<Box<HardwareInventory>>>, inventory: HardwareInventory) {
    found.send_if_modified(|newest| {
        let is_other = newest.as_deref() != Some(&inventory);
        if is_other {
            *newest = Some(Box::new(inventory));
        }
        is_other
    });
}

enum Why {
    /// Something was plugged, or somebody wants to know.
    Asked,
    /// Nobody wants to know any more.
    Gone,
    /// It is time to look, or a switch spoke.
    Look,
}

fn wait(uevents: Option<&OwnedFd>, listener: Option<&Listener>, asked: &UnixStream) -> Why {
    let mut waits = vec![PollFd::new(asked.as_fd(), PollFlags::POLLIN)];
    waits.extend(uevents.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
    waits.extend(listener.map(|listener| PollFd::new(listener.fd(), PollFlags::POLLIN)));
    if poll(&mut waits, PollTimeout::from(LINKS_MS)).is_err() {
        std::thread::sleep(SETTLES_WITHIN);
    }
    let is_ready = |wait: Option<&PollFd>| wait.is_some_and(|wait| wait.any().unwrap_or(false));
    let (is_asked, has_uevent) = (
        is_ready(waits.first()),
        uevents.is_some() && is_ready(waits.get(1)),
    );
    if !is_asked && !has_uevent {
        return Why::Look;
    }
    std::thread::sleep(SETTLES_WITHIN);
    if let Some(uevents) = uevents {
        let mut message = [0_u8; 8192];
        while recv(uevents.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT).is_ok_and(|len| len > 0) {}
    }
    let mut words = [0_u8; 64];
    loop {
        match (&*asked).read(&mut words) {
            Ok(0) => return Why::Gone,
            Ok(_) => {}
            Err(_) => return Why::Asked,
        }
    }
}

/// The cards by the kernel's numbers for them.
fn cards(system: &System) -> BTreeMap<u32, String> {
    let cards = interfaces::links(system).into_iter();
    cards
        .filter_map(|(name, ..)| Some((if_nametoindex(name.as_str()).ok()?, name)))
        .collect()
}

/// Netlink is spoken on a runtime; this thread has one for as long as it takes.
fn permanent_addresses() -> BTreeMap<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let asked = match runtime {
        Ok(runtime) => runtime.block_on(link::permanent_addresses()),
        Err(e) => {
            say(&format!(
                "the addresses that cards have of their own are not known: {e}"
            ));
            return BTreeMap::new();
        }
    };
    asked.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_told_once_until_it_is_another() {
        let (found, newest) = watch::channel(None);
        let (ask, _asked) = UnixStream::pair().expect("sockets");
        let mut watched = Watched { newest, ask };
        assert_eq!(watched.unseen(), None);
        let inventory = |cpus| HardwareInventory {
            cpus,
            ..HardwareInventory::default()
        };
        tell(&found, inventory(1));
        assert_eq!(watched.unseen().map(|one| one.cpus), Some(1));
        tell(&found, inventory(1));
        assert_eq!(watched.unseen(), None);
        tell(&found, inventory(2));
        assert_eq!(watched.unseen().map(|one| one.cpus), Some(2));
        watched.forget_seen();
        assert_eq!(
            watched.unseen().map(|one| one.cpus),
            Some(2),
            "for another stream"
        );
    }

    #[test]
    fn who_asks_wakes_it_and_who_is_gone_ends_it() {
        let (ask, asked) = UnixStream::pair().expect("sockets");
        asked.set_nonblocking(true).expect("set");
        (&ask).write_all(b"??").expect("asked");
        assert!(matches!(wait(None, None, &asked), Why::Asked));
        drop(ask);
        assert!(matches!(wait(None, None, &asked), Why::Gone));
    }

    #[test]
    fn the_thread_reads_this_machine() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        let mut watched = Watched::start(System::default()).expect("started");
        let mut newest = watched.newest.clone();
        runtime.block_on(async { newest.changed().await.expect("it reads") });
        let inventory = watched.unseen().expect("the first");
        assert!(inventory.cpus > 0 && inventory.memory_bytes > 0, "{inventory:?}");
        assert_eq!(
            inventory.processor.as_ref().map(|processor| processor.threads),
            Some(inventory.cpus)
        );
    }
}
