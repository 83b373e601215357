//! The file systems that a Linux system has without a disk.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::last_words::PSTORE;

/// What every /dev has beside devices: shells use `/dev/fd` for `<(…)`.
const LINKS: [(&str, &str); 5] = [
    ("/dev/core", "/proc/kcore"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
const COMMON: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NODEV);

/// Mounts all of them; returns what failed, in words, as there is no console before /dev.
pub(super) fn mount_all() -> Vec<String> {
    let no_exec = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
    let table: [(&str, &str, MsFlags, &str); 8] = [
        ("proc", "/proc", COMMON, ""),
        ("sysfs", "/sys", COMMON, ""),
        ("devtmpfs", "/dev", no_exec, "mode=0755"),
        ("tmpfs", "/run", COMMON, "mode=0755"),
        (
            "tmpfs",
            "/tmp",
            MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
            "mode=1777",
        ),
        ("devpts", "/dev/pts", no_exec, "mode=0620,ptmxmode=0666"),
        (
            "tmpfs",
            "/dev/shm",
            MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV),
            "mode=1777",
        ),
        ("cgroup2", "/sys/fs/cgroup", COMMON, ""),
    ];
    let mut problems = Vec::new();
    for folder in ["/etc", "/mnt"] {
        let _ = fs::create_dir_all(folder);
    }
    for (kind, at, flags, data) in table {
        if let Err(e) = mount_one(kind, at, flags, data) {
            problems.push(format!("{kind} is not mounted at {at}: {e}"));
        }
    }
    for (link, to) in LINKS {
        match std::os::unix::fs::symlink(to, link) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                problems.push(format!("{link} is not there: {e}"));
            }
            _ => {}
        }
    }
    problems
}

/// EFI variables, where the firmware is UEFI and the kernel has the file system by now.
pub(super) fn mount_efivarfs() {
    let at = "/sys/firmware/efi/efivars";
    if Path::new(at).is_dir() {
        let _ = mount_one("efivarfs", at, COMMON, "");
    }
}

/// What the kernel kept of its own end, where it has the file system by now.
pub(super) fn mount_pstore() {
    if Path::new(PSTORE).is_dir() {
        let _ = mount_one("pstore", PSTORE, COMMON, "");
    }
}

fn mount_one(kind: &str, at: &str, flags: MsFlags, data: &str) -> Result<(), Errno> {
    let _ = fs::create_dir_all(at);
    match mount(
        Some(kind),
        at,
        Some(kind),
        flags,
        Some(data).filter(|d| !d.is_empty()),
    ) {
        // The kernel may have mounted devtmpfs itself (CONFIG_DEVTMPFS_MOUNT).
        Err(Errno::EBUSY) => Ok(()),
        other => other,
    }
}
