//! What wakes PID 1: dead children (SIGCHLD as a descriptor) and devices that appear (uevents).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket,
    sockopt,
};

pub(super) struct Events {
    children: Option<SignalFd>,
    devices: Option<OwnedFd>,
}

impl Events {
    /// Blocks SIGCHLD and listens for uevents. Where either fails, waiting goes by time alone.
    pub(super) fn open() -> Events {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let _ = mask.thread_block();
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok();
        Events {
            children,
            devices: listen().ok(),
        }
    }

    /// Waits until something happens or the time is over; returns the modaliases of new devices.
    pub(super) fn wait(&mut self, at_most: Duration) -> Vec<String> {
        let mut waits: Vec<PollFd> = Vec::new();
        waits.extend(
            self.children
                .as_ref()
                .map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)),
        );
        waits.extend(
            self.devices
                .as_ref()
                .map(|d| PollFd::new(d.as_fd(), PollFlags::POLLIN)),
        );
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
        if poll(&mut waits, timeout).is_err() {
            // Never spin, whatever the kernel thinks of the descriptors.
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(children) = &self.children {
            while let Ok(Some(_)) = children.read_signal() {}
        }
        self.new_modaliases()
    }

    fn new_modaliases(&self) -> Vec<String> {
        let mut found = Vec::new();
        let Some(devices) = &self.devices else {
            return found;
        };
        let mut message = [0_u8; 8192];
        for _ in 0..1024 {
            match recv(devices.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                Ok(length) if length > 0 => found.extend(modalias_of(message.get(..length).unwrap_or(&[]))),
                _ => break,
            }
        }
        found
    }
}

/// A socket that the kernel tells of devices that come, change and go.
pub(crate) fn listen() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        flags,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    let _ = setsockopt(&fd, sockopt::RcvBufForce, &(1 << 20));
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
    Ok(fd)
}

/// A uevent is `add@/path`, then `KEY=value` words, each ended by a zero byte.
pub(crate) fn modalias_of(message: &[u8]) -> Option<String> {
    if !message.starts_with(b"add@") {
        return None;
    }
    let mut words = message.split(|b| *b == 0);
    let modalias = words.find_map(|word| word.strip_prefix(b"MODALIAS="))?;
    String::from_utf8(modalias.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_devices_ask_for_modules() {
        let add = b"add@/devices/x\0ACTION=add\0MODALIAS=pci:v1\0SEQNUM=1\0";
        assert_eq!(modalias_of(add).as_deref(), Some("pci:v1"));
        assert_eq!(modalias_of(b"remove@/devices/x\0MODALIAS=pci:v1\0"), None);
        assert_eq!(modalias_of(b"add@"), None);
    }
}
