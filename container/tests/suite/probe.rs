//! A static program of an image that calls the kernel by number, and says what it answered: `NAME ERRNO` in a line, 0 for yes.
//! Built by the tests with rustc alone.

use std::ffi::CString;

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn geteuid() -> u32;
    fn chroot(path: *const std::ffi::c_char) -> i32;
}

/// x86_64's numbers. With arguments that are none: what is let through answers with another error than "not permitted".
const CALLS: [(&str, i64); 38] = [
    ("acct", 163),
    ("add_key", 248),
    ("bpf", 321),
    ("clock_settime", 227),
    ("clone3", 435),
    ("delete_module", 176),
    ("fanotify_init", 300),
    ("finit_module", 313),
    ("fsmount", 432),
    ("fsopen", 430),
    ("init_module", 175),
    ("io_uring_enter", 426),
    ("io_uring_setup", 425),
    ("ioperm", 173),
    ("iopl", 172),
    ("kcmp", 312),
    ("kexec_file_load", 320),
    ("kexec_load", 246),
    ("keyctl", 250),
    ("lookup_dcookie", 212),
    ("mount", 165),
    ("mount_setattr", 442),
    ("move_mount", 429),
    ("move_pages", 279),
    ("open_by_handle_at", 304),
    ("open_tree", 428),
    ("perf_event_open", 298),
    ("pivot_root", 155),
    ("quotactl", 179),
    ("reboot", 169),
    ("request_key", 249),
    ("setns", 308),
    ("settimeofday", 164),
    ("swapon", 167),
    ("syslog", 103),
    ("umount2", 166),
    ("unshare", 272),
    ("userfaultfd", 323),
];

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("calls") => {
            for (name, number) in CALLS {
                // SAFETY: every pointer is null or bad, which the kernel refuses.
                let answer = unsafe { syscall(number, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
                println!("{name} {}", if answer < 0 { errno() } else { 0 });
            }
        }
        Some("vsock") => {
            // SAFETY: numbers only. socket(AF_VSOCK, SOCK_STREAM, 0)
            let answer = unsafe { syscall(41, 40_i64, 1_i64, 0_i64) };
            println!("vsock {}", if answer < 0 { errno() } else { 0 });
        }
        Some("clone-newuser") => {
            // SAFETY: numbers only. clone(CLONE_NEWUSER | SIGCHLD), and the child ends at once.
            let answer = unsafe { syscall(56, 0x1000_0011_i64, 0_i64, 0_i64, 0_i64, 0_i64) };
            if answer == 0 {
                std::process::exit(0);
            }
            println!("clone {}", if answer < 0 { errno() } else { 0 });
        }
        Some("euid") => {
            // SAFETY: cannot fail.
            println!("euid {}", unsafe { geteuid() });
        }
        Some("chroot") => {
            std::fs::create_dir_all("/tmp/x").expect("folder");
            let (inner, up) = (CString::new("/tmp/x").expect("path"), CString::new(".").expect("path"));
            // SAFETY: both paths end in a zero byte.
            let first = unsafe { chroot(inner.as_ptr()) };
            for _ in 0..64 {
                let _ = std::env::set_current_dir("..");
            }
            // SAFETY: as above.
            let second = unsafe { chroot(up.as_ptr()) };
            println!("chroot {first} {second}");
            for entry in std::fs::read_dir("/").expect("root").flatten() {
                println!("{}", entry.file_name().to_string_lossy());
            }
        }
        Some("on-initramfs") => on_initramfs(&std::env::args().skip(2).collect::<Vec<_>>()),
        other => panic!("no such probe: {other:?}"),
    }
}

/// Runs a program of this machine as on a netbooted one: with the kernel's first file system for its root, which hangs nowhere
/// and on every machine lies below the root that one sees. There this machine's own root is at [`OLD`].
fn on_initramfs(command: &[String]) {
    const OLD: &str = "/farrier-test-old";
    const LINKS: [&str; 5] = ["lib", "lib64", "proc", "sys", "usr"];
    const AT_FDCWD: i64 = -100;
    let path = |text: &str| CString::new(text).expect("path");
    let called = |what: &str, answer: i64| {
        assert!(answer >= 0, "{what}: {}", std::io::Error::last_os_error());
        answer
    };
    let (root, old, none) = (path("/"), path(OLD), path(""));
    // SAFETY: every path ends in a zero byte and lives until its call returns; the others are numbers.
    unsafe {
        // unshare(CLONE_NEWNS), mount(MS_REC | MS_PRIVATE), open_tree(OPEN_TREE_CLONE | AT_RECURSIVE)
        called("unshare", syscall(272, 0x2_0000_i64));
        called("private", syscall(165, 0_i64, root.as_ptr(), 0_i64, 0x4_4000_i64, 0_i64));
        let tree = called("open_tree", syscall(428, AT_FDCWD, root.as_ptr(), 0x8001_i64));
        let namespace = std::fs::File::open("/proc/self/ns/mnt").expect("namespace");
        // umount2(MNT_DETACH), setns: the namespace's root is what lay below.
        called("umount2", syscall(166, root.as_ptr(), 2_i64));
        called("setns", syscall(308, std::os::fd::AsRawFd::as_raw_fd(&namespace) as i64, 0_i64));
        let _ = std::fs::create_dir(OLD);
        // move_mount(MOVE_MOUNT_F_EMPTY_PATH)
        called("move_mount", syscall(429, tree, none.as_ptr(), AT_FDCWD, old.as_ptr(), 4_i64));
    }
    // The kernel made a folder for it.
    let (from, dev) = (path(&format!("{OLD}/dev")), path("/dev"));
    // SAFETY: as above. mount(MS_BIND | MS_REC)
    unsafe { called("bind", syscall(165, from.as_ptr(), dev.as_ptr(), 0_i64, 0x5000_i64, 0_i64)) };
    for link in LINKS {
        let _ = std::os::unix::fs::symlink(format!("{OLD}/{link}"), format!("/{link}"));
    }
    let status = std::process::Command::new(format!("{OLD}{}", command[0])).args(&command[1..]).env_clear().status();
    for link in LINKS {
        let _ = std::fs::remove_file(format!("/{link}"));
    }
    // SAFETY: as above.
    unsafe { called("umount2", syscall(166, old.as_ptr(), 2_i64)) };
    let _ = std::fs::remove_dir(OLD);
    assert!(status.expect("program").success());
}
