//! Takes apart what uses a disk: filesystems are unmounted, swap space is given back, arrays, volumes and opened LUKS devices are stopped,
//! whatever lies on top first. What they hold stays on the disk.
//!
//! Source: Linux include/uapi/linux/raid/md_u.h (`STOP_ARRAY`), include/uapi/linux/dm-ioctl.h (`DM_DEV_REMOVE`), umount(2), swapoff(2).

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use crate::probe::{self, System, Use, User};

/// Devices on top of each other, at most.
const MAX_DEPTH: usize = 16;
/// What one disk is used by, at most.
const MAX_STEPS: usize = 1024;

/// One thing to be stopped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Unmount(PathBuf),
    /// The device, in /dev.
    SwapOff(PathBuf),
    /// The array, in /dev.
    StopArray(PathBuf),
    /// What device-mapper calls it: a volume, an opened LUKS device.
    RemoveMapping(String),
}

/// Why something goes on using the disk.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("reading what uses {device}: {source}")]
    Probe { device: PathBuf, source: io::Error },
    #[error(
        "{device} is used by the system that runs here ({user}): that is not stopped; nothing was written. Netboot the machine, and work \
         on its disk from there"
    )]
    Root { device: PathBuf, user: String },
    #[error(
        "{device} is used by {user}, which is neither an array nor a mapping: stop it first; nothing was written"
    )]
    Unknown { device: PathBuf, user: String },
    #[error(
        "more than {MAX_STEPS} things use {device}, or more than {MAX_DEPTH} on top of each other; nothing was written"
    )]
    TooMany { device: PathBuf },
    #[error("{step} failed: {source}; what was stopped before it stays stopped, and nothing was written")]
    Failed { step: String, source: io::Error },
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Unmount(at) => write!(f, "unmounting {}", at.display()),
            Step::SwapOff(device) => write!(f, "swapoff of {}", device.display()),
            Step::StopArray(device) => write!(f, "stopping the array {}", device.display()),
            Step::RemoveMapping(name) => write!(f, "closing the mapping {name}"),
        }
    }
}

/// What is to be stopped, in this order, so that nothing uses `path`. Changes nothing. Blocks.
///
/// # Errors
/// Something of it cannot be stopped, so nothing is.
pub fn plan(system: &System, path: &Path) -> Result<Vec<Step>, StopError> {
    let failed = |source| StopError::Probe {
        device: path.to_owned(),
        source,
    };
    let device = fs::metadata(path).map_err(failed)?.rdev();
    let mut steps = Vec::new();
    add(system, path, device, 0, &mut steps)?;
    Ok(steps)
}

fn add(
    system: &System,
    path: &Path,
    device: u64,
    depth: usize,
    steps: &mut Vec<Step>,
) -> Result<(), StopError> {
    let device_of = || path.to_owned();
    if depth > MAX_DEPTH || steps.len() > MAX_STEPS {
        return Err(StopError::TooMany { device: device_of() });
    }
    let users = probe::uses(system, device).map_err(|source| StopError::Probe {
        device: device_of(),
        source,
    })?;
    let mut mounts = BTreeSet::new();
    for user in &users {
        let step = match &user.uses {
            Use::Mounted { at } => {
                let at = PathBuf::from(unescaped(at));
                if at == Path::new("/") {
                    return Err(StopError::Root {
                        device: device_of(),
                        user: user.to_string(),
                    });
                }
                mounts.insert(at);
                continue;
            }
            Use::Swap => Step::SwapOff(system.dev.join(&user.of)),
            Use::PartOf { device, .. } => {
                add(system, path, *device, depth + 1, steps)?;
                stopping(system, path, user)?
            }
        };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    // What is mounted within another one goes before it: its path is the longer one.
    steps.extend(mounts.into_iter().rev().map(Step::Unmount));
    Ok(())
}

fn stopping(system: &System, path: &Path, user: &User) -> Result<Step, StopError> {
    if let Use::PartOf {
        kernel_name, mapped, ..
    } = &user.uses
    {
        if let Some(name) = mapped {
            return Ok(Step::RemoveMapping(name.clone()));
        }
        if system.sys.join("block").join(kernel_name).join("md").exists() {
            return Ok(Step::StopArray(system.dev.join(kernel_name)));
        }
    }
    Err(StopError::Unknown {
        device: path.to_owned(),
        user: user.to_string(),
    })
}

/// As mountinfo writes paths: `\\040` for a space. Source: proc_pid_mountinfo(5).
fn unescaped(text: &str) -> String {
    let mut plain = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digits: Vec<u8> = match byte {
            b'\\' => bytes.clone().take(3).collect(),
            _ => Vec::new(),
        };
        let octal = std::str::from_utf8(&digits)
            .ok()
            .filter(|digits| digits.len() == 3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(letter) => {
                plain.push(letter);
                bytes.nth(2);
            }
            None => plain.push(byte),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Does the steps of a [`plan`]; `done` is told of each. Blocks.
///
/// # Errors
/// The first one that fails; those behind it are not tried.
pub fn carry_out(system: &System, steps: &[Step], mut done: impl FnMut(&Step)) -> Result<(), StopError> {
    for step in steps {
        let outcome = match step {
            Step::Unmount(at) => umount2(at, MntFlags::UMOUNT_NOFOLLOW).map_err(io::Error::from),
            Step::SwapOff(device) => swap_off(device),
            Step::StopArray(device) => stop_array(device),
            Step::RemoveMapping(name) => remove_mapping(system, name),
        };
        outcome.map_err(|source| StopError::Failed {
            step: step.to_string(),
            source,
        })?;
        done(step);
    }
    Ok(())
}

fn swap_off(device: &Path) -> io::Result<()> {
    let path = CString::new(device.as_os_str().as_encoded_bytes())?;
    // SAFETY: the path is a string that ends in a zero byte, and lives until the call returns.
    match unsafe { libc::swapoff(path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `_IO(MD_MAJOR, 0x32)`.
const STOP_ARRAY: libc::c_ulong = 0x0932;

fn stop_array(device: &Path) -> io::Result<()> {
    let array = File::open(device)?;
    // SAFETY: STOP_ARRAY takes no argument.
    match unsafe { libc::ioctl(array.as_raw_fd(), STOP_ARRAY as _, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct dm_ioctl`.
#[repr(C)]
struct DmIoctl {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `_IOWR(0xfd, 4, struct dm_ioctl)`.
const DM_DEV_REMOVE: libc::c_ulong = 0xc138_fd04;

fn remove_mapping(system: &System, name: &str) -> io::Result<()> {
    let mut call = DmIoctl {
        version: [4, 0, 0],
        data_size: size_of::<DmIoctl>() as u32,
        data_start: size_of::<DmIoctl>() as u32,
        target_count: 0,
        open_count: 0,
        flags: 0,
        event_nr: 0,
        padding: 0,
        dev: 0,
        name: [0; 128],
        uuid: [0; 129],
        data: [0; 7],
    };
    // The last byte stays zero.
    if name.len() >= call.name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (into, from) in call.name.iter_mut().zip(name.bytes()) {
        *into = from;
    }
    let control = File::options()
        .read(true)
        .write(true)
        .open(system.dev.join("mapper/control"))?;
    // SAFETY: the structure is the kernel's, of the size that it says, and lives until the call returns.
    let outcome = unsafe { libc::ioctl(control.as_raw_fd(), DM_DEV_REMOVE as _, &raw mut call) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    // Where there is no udev, nobody else takes the names away that its program has made.
    let of_lvm = volume_of(name).map(|(group, volume)| system.dev.join(group).join(volume));
    for link in [Some(system.dev.join("mapper").join(name)), of_lvm]
        .into_iter()
        .flatten()
    {
        if fs::symlink_metadata(&link).is_ok() && !link.exists() {
            let _ = fs::remove_file(&link);
        }
    }
    Ok(())
}

/// Group and volume of LVM's name for its mapping: a hyphen between them, and each of theirs twice.
fn volume_of(mapping: &str) -> Option<(String, String)> {
    let bytes = mapping.as_bytes();
    let single = (1..bytes.len().checked_sub(1)?).find(|at| {
        let hyphen = |at: usize| bytes.get(at) == Some(&b'-');
        let run_before = bytes
            .iter()
            .take(*at)
            .rev()
            .take_while(|byte| **byte == b'-')
            .count();
        hyphen(*at) && !hyphen(*at + 1) && run_before % 2 == 0
    })?;
    let (group, volume) = (mapping.get(..single)?, mapping.get(single + 1..)?);
    Some((group.replace("--", "-"), volume.replace("--", "-")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::output;

    #[test]
    fn the_kernels_structure_has_its_size() {
        assert_eq!(size_of::<DmIoctl>(), 312);
        assert_eq!((DM_DEV_REMOVE >> 16) & 0x3fff, 312);
    }

    #[test]
    fn names_of_mappings_and_of_mounts_are_read() {
        let volume = |name| volume_of(name).map(|(group, volume)| format!("{group} {volume}"));
        assert_eq!(volume("vg0-root"), Some("vg0 root".to_owned()));
        assert_eq!(volume("vg--0-ro--ot"), Some("vg-0 ro-ot".to_owned()));
        assert_eq!(volume("safe"), None);
        assert_eq!(volume("a--b"), None);
        assert_eq!(volume("-"), None);
        assert_eq!(unescaped(r"/mnt/a\040b\134"), r"/mnt/a b\");
        assert_eq!(unescaped(r"/mnt\04"), r"/mnt\04");
    }

    /// Loop devices with what this host's kernel can stop; arrays and mappings are stopped in a guest, by the end-to-end tests.
    #[test]
    fn what_is_mounted_and_swap_space_are_stopped_the_innermost_first() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        output(Command::new("mke2fs").args(["-q", "-F"]).arg(&image));
        let device = output(Command::new("losetup").args(["--find", "--show"]).arg(&image));
        let device = PathBuf::from(device.trim());
        let (outer, inner) = (folder.path().join("a b"), folder.path().join("a b/in"));
        fs::create_dir(&outer).unwrap();
        output(Command::new("mount").arg(&device).arg(&outer));
        fs::create_dir(&inner).unwrap();
        output(Command::new("mount").arg(&device).arg(&inner));
        let system = System::default();
        let steps = plan(&system, &device).unwrap();
        assert_eq!(
            steps,
            [Step::Unmount(inner.clone()), Step::Unmount(outer.clone())]
        );
        // What somebody has open is not torn away.
        let open = File::create(outer.join("file")).unwrap();
        let failed = carry_out(&system, &steps, |_| ()).unwrap_err().to_string();
        assert!(
            failed.starts_with(&format!("unmounting {} failed: ", outer.display())),
            "{failed}"
        );
        drop(open);
        let mut done = Vec::new();
        let steps = plan(&system, &device).unwrap();
        carry_out(&system, &steps, |step| done.push(step.to_string())).unwrap();
        assert_eq!(done, [format!("unmounting {}", outer.display())]);
        assert_eq!(plan(&system, &device).unwrap(), []);

        output(Command::new("mkswap").arg(&device));
        output(Command::new("swapon").arg(&device));
        let steps = plan(&system, &device).unwrap();
        assert_eq!(steps, [Step::SwapOff(device.clone())]);
        carry_out(&system, &steps, |_| ()).unwrap();
        assert_eq!(plan(&system, &device).unwrap(), []);
        output(Command::new("losetup").arg("--detach").arg(&device));
    }

    #[test]
    fn the_root_of_the_system_that_runs_is_not_touched() {
        let root = probe::list(&System::default(), probe::Include::Everything).unwrap();
        let Some(root) = root
            .into_iter()
            .find(|disk| disk.users.iter().any(|user| user.ends_with("is mounted at /")))
        else {
            // A root that is on no disk here.
            return;
        };
        let refused = plan(&System::default(), &root.path).unwrap_err().to_string();
        assert!(
            refused.contains("is used by the system that runs here"),
            "{refused}"
        );
    }
}
