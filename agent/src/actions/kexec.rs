//! `kexec`: the machine leaves into an installed kernel, without its firmware and boot loader in between.
//!
//! The kernel is loaded here, and started by PID 1 once the server has acknowledged that the machine leaves. Kernel and initial RAM disks are those
//! that the variables name, or those of the entry that GRUB would start. Source of the variables: tinkerbell/actions kexec;
//! kexec_file_load(2).

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use disk::grub_cfg::{self, Entry};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;

use super::environment::Environment;
use super::inside::{file, open_inside};
use super::target::{self, Mounted, blocking};
use super::{Done, Failure, Feed, Halt, Place};
use crate::setting::Setting;

pub(super) const VARIABLES: [&str; 6] = [
    "BLOCK_DEVICE",
    "CMD_LINE",
    "FS_TYPE",
    "GRUBCFG_PATH",
    "INITRD_PATH",
    "KERNEL_PATH",
];
/// Where upstream looks, and Debian has it.
const GRUB_CFG: &str = "/boot/grub/grub.cfg";
/// x86's `COMMAND_LINE_SIZE`, with the NUL at its end.
const COMMAND_LINE_BYTES: usize = 2048;

pub(super) async fn run(
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let wanted = wanted(env)?;
    let fs_type = env.optional("FS_TYPE").unwrap_or("auto").to_owned();
    if place.setting == Setting::Host {
        return Err(Failure::new(
            "NotHere",
            "kexec starts another kernel in place of a netbooted one; this agent runs as a process of a system, which kexec would end without \
             a shutdown",
        ));
    }
    let device = target::resolve(env.required("BLOCK_DEVICE")?).await?;
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    let mounts = place.mounts.clone();
    let loaded = blocking(move || {
        let fs_type = target::filesystem(&device, &fs_type)?;
        let mounted = Mounted::mount_with(&mounts, &device, &fs_type, None)?;
        let loaded = load(&mounted, &device, &wanted);
        mounted.unmount()?;
        loaded
    });
    for line in loaded.await? {
        feed.line(line).await;
    }
    if halt.is_asked() {
        let _ = call(-1, -1, "", KEXEC_FILE_UNLOAD);
        return Err(Failure::stopped());
    }
    Ok(Done::Leaving("kexec"))
}

/// Which kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// That of GRUB's entry, perhaps with other arguments.
    Grub {
        config: PathBuf,
        arguments: Option<String>,
    },
    Named {
        kernel: PathBuf,
        initrd: Option<PathBuf>,
        arguments: String,
    },
}

fn wanted(env: &Environment<'_>) -> Result<Wanted, Failure> {
    let path = |name: &str, text: &str| {
        // Upstream's are relative to the filesystem as often as not.
        file(name, &format!("/{}", text.trim_start_matches('/')))
    };
    let arguments = env.optional("CMD_LINE").map(str::to_owned);
    let initrd = env.optional("INITRD_PATH");
    match env.optional("KERNEL_PATH") {
        None if initrd.is_some() => Err(Failure::new(
            "MissingVariable",
            "environment variable INITRD_PATH is set and KERNEL_PATH is not: give both, or neither for what GRUB would start",
        )),
        None => {
            let config = env.optional("GRUBCFG_PATH").unwrap_or(GRUB_CFG);
            Ok(Wanted::Grub {
                config: path("GRUBCFG_PATH", config)?,
                arguments,
            })
        }
        Some(kernel) => Ok(Wanted::Named {
            kernel: path("KERNEL_PATH", kernel)?,
            initrd: initrd.map(|initrd| path("INITRD_PATH", initrd)).transpose()?,
            arguments: arguments.unwrap_or_default(),
        }),
    }
}

/// Has the kernel loaded; says what, a line each. Blocks.
fn load(mounted: &Mounted, device: &Path, wanted: &Wanted) -> Result<Vec<String>, Failure> {
    let root = File::open(mounted.path()).map_err(|e| not_read(device, Path::new(""), &e))?;
    let mut lines = Vec::new();
    let (kernel, initrds, arguments) = match wanted {
        Wanted::Named {
            kernel,
            initrd,
            arguments,
        } => (
            kernel.clone(),
            initrd.iter().cloned().collect(),
            arguments.clone(),
        ),
        Wanted::Grub { config, arguments } => {
            let entry = entry(&root, device, config)?;
            lines.push(format!(
                "GRUB would start {:?}, by /{} on {}",
                entry.title,
                config.display(),
                device.display()
            ));
            let inside = |path: &String| {
                // Of a path like (hd0,gpt2)/vmlinuz GRUB's own device says nothing here.
                let path = path.rsplit(')').next().unwrap_or_default();
                file(
                    "the path in grub.cfg",
                    &format!("/{}", path.trim_start_matches('/')),
                )
            };
            let initrds = entry.initrds.iter().map(inside).collect::<Result<Vec<_>, _>>()?;
            let arguments = arguments.clone().unwrap_or_else(|| entry.arguments.join(" "));
            (inside(&entry.kernel)?, initrds, arguments)
        }
    };
    if arguments.len() >= COMMAND_LINE_BYTES || arguments.contains('\0') {
        return Err(Failure::new(
            "BadVariable",
            format!(
                "the kernel's command line has {} B, {} B are the most, without NUL",
                arguments.len(),
                COMMAND_LINE_BYTES - 1
            ),
        ));
    }
    let open = |path: &Path| {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        open_inside(&root, path, flags, Mode::empty())
            .map(File::from)
            .map_err(|e| not_read(device, path, &e))
    };
    let image = open(&kernel)?;
    let initrd = match initrds.as_slice() {
        [] => None,
        [one] => Some(open(one)?),
        several => Some(joined(device, several, open)?),
    };
    let (fd, flags) = match &initrd {
        Some(initrd) => (initrd.as_raw_fd(), 0),
        None => (-1, KEXEC_FILE_NO_INITRAMFS),
    };
    call(image.as_raw_fd(), fd, &arguments, flags).map_err(|errno| refused(&kernel, errno))?;
    let beside = match initrds.as_slice() {
        [] => "no initial RAM disk".to_owned(),
        paths => paths
            .iter()
            .map(|path| format!("/{}", path.display()))
            .collect::<Vec<_>>()
            .join(", "),
    };
    lines.push(format!(
        "loaded /{} with {beside}; its command line is {arguments:?}",
        kernel.display()
    ));
    Ok(lines)
}

fn entry(root: &File, device: &Path, config: &Path) -> Result<Entry, Failure> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let bytes = open_inside(root, config, flags, Mode::empty())
        .map(File::from)
        .and_then(|file| {
            let mut bytes = Vec::new();
            io::Read::read_to_end(
                &mut io::Read::take(file, grub_cfg::LIMIT_BYTES as u64 + 1),
                &mut bytes,
            )?;
            Ok(bytes)
        })
        .map_err(|e| not_read(device, config, &e))?;
    grub_cfg::default_entry(&bytes).map_err(|why| {
        Failure::new(
            "NoKernel",
            format!(
                "/{} on {} says not what to start: {why}. Name the kernel: KERNEL_PATH, INITRD_PATH and CMD_LINE",
                config.display(),
                device.display()
            ),
        )
    })
}

/// Initial RAM disks one behind the other, each at a multiple of 4 bytes, as the kernel unpacks them.
fn joined(
    device: &Path,
    paths: &[PathBuf],
    open: impl Fn(&Path) -> Result<File, Failure>,
) -> Result<File, Failure> {
    let name = c"initrd";
    let mut whole = memfd_create(name, MFdFlags::MFD_CLOEXEC)
        .map(File::from)
        .map_err(|e| Failure::new("KexecFailed", format!("no memory for initial RAM disks: {e}")))?;
    for path in paths {
        let mut part = open(path)?;
        let copied = io::copy(&mut part, &mut whole).and_then(|bytes| {
            let padding = bytes.next_multiple_of(4) - bytes;
            whole.write_all([0; 3].get(..padding as usize).unwrap_or_default())
        });
        copied.map_err(|e| not_read(device, path, &e))?;
    }
    whole.rewind().map_err(|e| not_read(device, Path::new(""), &e))?;
    Ok(whole)
}

fn not_read(device: &Path, path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        "NoKernel",
        format!(
            "/{} on {} cannot be read: {error}",
            path.display(),
            device.display()
        ),
    )
}

fn refused(kernel: &Path, errno: Errno) -> Failure {
    let why = match errno {
        Errno::ENOSYS => "this machine's kernel has no kexec (CONFIG_KEXEC_FILE): reboot instead",
        Errno::EPERM => {
            "this machine's kernel starts no other (kernel.kexec_load_disabled, or Secure Boot's lockdown): reboot instead"
        }
        Errno::ENOEXEC => "it is no kernel for this machine",
        Errno::EBADMSG | Errno::EKEYREJECTED | Errno::ENOKEY | Errno::ENODATA => {
            "its signature is not one that this machine's kernel trusts: reboot instead"
        }
        Errno::ENOMEM | Errno::EADDRNOTAVAIL => "there is no memory for it",
        Errno::EBUSY => "another one is being loaded",
        _ => "kexec_file_load",
    };
    Failure::new(
        "KexecFailed",
        format!(
            "kernel /{} is not loaded: {why} ({})",
            kernel.display(),
            errno.desc()
        ),
    )
}

/// linux/kexec.h.
const KEXEC_FILE_UNLOAD: u64 = 1;
const KEXEC_FILE_NO_INITRAMFS: u64 = 4;

fn call(kernel: RawFd, initrd: RawFd, arguments: &str, flags: u64) -> Result<(), Errno> {
    let mut line = arguments.as_bytes().to_vec();
    line.push(0);
    // SAFETY: the line ends with NUL, is as long as said, and outlives the call, which reads it only; numbers of files are judged by the kernel.
    let done = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel,
            initrd,
            line.len(),
            line.as_ptr(),
            flags,
        )
    };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::tests::{feed, place};
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Wanted, Failure> {
        let variables: HashMap<_, _> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        wanted(&Environment::of(&variables))
    }

    #[test]
    fn paths_are_the_filesystems_with_or_without_a_slash() {
        for config in ["boot/grub/grub.cfg", "/boot/grub/grub.cfg", ""] {
            assert_eq!(
                of(&[("GRUBCFG_PATH", config), ("CMD_LINE", "quiet")]),
                Ok(Wanted::Grub {
                    config: "boot/grub/grub.cfg".into(),
                    arguments: Some("quiet".to_owned()),
                })
            );
        }
        assert_eq!(
            of(&[("KERNEL_PATH", "boot/vmlinuz"), ("INITRD_PATH", "/boot/initrd")]),
            Ok(Wanted::Named {
                kernel: "boot/vmlinuz".into(),
                initrd: Some("boot/initrd".into()),
                arguments: String::new(),
            })
        );
        assert_eq!(of(&[("INITRD_PATH", "x")]).unwrap_err().reason, "MissingVariable");
        assert_eq!(of(&[("KERNEL_PATH", "../x")]).unwrap_err().reason, "BadVariable");
    }

    #[test]
    fn initial_ram_disks_are_joined_at_multiples_of_four() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = [("a", "12345"), ("b", "6789"), ("c", "0")]
            .iter()
            .map(|(name, content)| {
                let path = folder.path().join(name);
                std::fs::write(&path, content).unwrap();
                path
            })
            .collect();
        let open = |path: &Path| File::open(path).map_err(|e| not_read(path, path, &e));
        let mut whole = joined(Path::new("/dev/x"), &paths, open).unwrap();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut whole, &mut bytes).unwrap();
        assert_eq!(bytes, b"12345\0\0\x006789\x30\0\0\0");
    }

    #[tokio::test]
    async fn a_system_that_runs_is_not_ended_by_it() {
        let variables = HashMap::from([("BLOCK_DEVICE".to_owned(), "/dev/none".to_owned())]);
        let failure = run(
            &Environment::of(&variables),
            &place(),
            &feed().0,
            &Halt::default(),
        )
        .await
        .unwrap_err();
        assert_eq!(failure.reason, "NotHere");
    }
}
