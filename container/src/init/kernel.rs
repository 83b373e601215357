//! Calls of the kernel that no library of ours has.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::unistd::Pid;

/// Sends a signal by its number: those for real time have no name in `nix`.
pub(super) fn send(to: Pid, signal: i32) {
    // SAFETY: numbers only; the kernel refuses those that are none.
    unsafe { libc::kill(to.as_raw(), signal) };
}

/// Makes a tree of mounts read-only, or without devices, all that is in it too. Never set-user-id with the latter.
///
/// Source: mount_setattr(2), Linux 5.12.
pub(super) fn restrict(tree: BorrowedFd<'_>, read_only: bool, no_devices: bool) -> io::Result<()> {
    let mut set = 0;
    if read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if no_devices {
        set |= libc::MOUNT_ATTR_NODEV;
    }
    if set == 0 {
        return Ok(());
    }
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a constant that ends in a zero byte, and the size is that of the structure, which lives until
    // the call returns and is only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes every descriptor from this one on when a program is started.
pub(super) fn close_on_exec(from: u32) -> io::Result<()> {
    // SAFETY: marks descriptors; none is closed under anybody's hands.
    let result = unsafe { libc::close_range(from, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Brings the loopback interface of this network namespace up.
///
/// Source: netdevice(7).
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeroes are an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is one of this call's kind, and lives until it returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
