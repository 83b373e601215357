//! Calls of the kernel that no library of ours has.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use nix::unistd::{ForkResult, Pid, fork};

/// Source: include/uapi/linux/sched.h. libc's is an `int`, in which it has no room: it is 0 there.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Sends a signal by its number: those for real time have no name in `nix`.
pub(super) fn send(to: Pid, signal: i32) {
    // SAFETY: numbers only; the kernel refuses those that are none.
    unsafe { libc::kill(to.as_raw(), signal) };
}

/// Forks, in a group of cgroups where one is given: who is born there need not be moved, which takes the kernel a grace period of RCU,
/// some 8 ms.
///
/// Source: clone(2), Linux 5.7.
///
/// # Safety
/// As `fork`: the process has one thread.
pub(super) unsafe fn fork_into(group: Option<&Path>) -> io::Result<ForkResult> {
    let Some(group) = group else {
        // SAFETY: the caller says so.
        return Ok(unsafe { fork() }?);
    };
    let named = |e: io::Error| io::Error::new(e.kind(), format!("joining {} failed: {e}", group.display()));
    let folder = File::open(group).map_err(named)?;
    // SAFETY: all zeroes are no stack, no addresses and no flags.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = folder.as_raw_fd() as u64;
    // SAFETY: the structure lives until the call returns and is only read; without a stack the child goes on with a copy of this one,
    // as after fork.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match result {
        0 => Ok(ForkResult::Child),
        child if child > 0 => Ok(ForkResult::Parent {
            child: Pid::from_raw(child as i32),
        }),
        _ => Err(named(io::Error::last_os_error())),
    }
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
