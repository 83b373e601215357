//! Loop devices and device-mapper devices that an action set up and left.
//!
//! On a netbooted machine one action runs at a time, and nobody else makes any: what is new was the action's. Its loop devices
//! are taken off their files; device-mapper devices may be what it was for (LVM, LUKS), and are named only. On somebody's
//! system others make such devices too: all are named only.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::setting::Setting;

/// `LOOP_CLR_FD` of linux/loop.h.
const LOOP_CLR_FD: i32 = 0x4c01;
nix::ioctl_none_bad!(
    /// Takes a loop device off its file. Source: loop(4).
    loop_clr_fd,
    LOOP_CLR_FD
);

/// Those that there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Devices {
    loops: BTreeSet<String>,
    mapped: BTreeSet<String>,
}

impl Devices {
    pub(super) fn now() -> Devices {
        Devices::below(Path::new("/sys/block"))
    }

    fn below(block: &Path) -> Devices {
        let mut devices = Devices::default();
        for entry in fs::read_dir(block).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().join("loop/backing_file").exists() {
                devices.loops.insert(name);
            } else if let Ok(mapped) = fs::read_to_string(entry.path().join("dm/name")) {
                devices.mapped.insert(format!("/dev/mapper/{}", mapped.trim()));
            }
        }
        devices
    }

    /// Frees what came since, and gives lines that say so.
    pub(super) fn clear(self, setting: Setting) -> Vec<String> {
        let now = Devices::now();
        let mut lines = Vec::new();
        for name in now.loops.difference(&self.loops) {
            lines.push(match setting {
                Setting::Host => format!(
                    "farrier: /dev/{name} was set up while the action ran, perhaps by it, and is left"
                ),
                Setting::Netboot => match free(&Path::new("/dev").join(name)) {
                    Ok(()) => format!("farrier: the action left /dev/{name} set up; it is free again"),
                    Err(e) => {
                        format!("farrier: the action left /dev/{name} set up, and it cannot be freed: {e}")
                    }
                },
            });
        }
        for name in now.mapped.difference(&self.mapped) {
            lines.push(format!(
                "farrier: {name} was opened while the action ran, and is left open"
            ));
        }
        lines
    }
}

fn free(device: &Path) -> std::io::Result<()> {
    let device = File::open(device)?;
    // SAFETY: the call takes no argument.
    unsafe { loop_clr_fd(device.as_raw_fd()) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_devices_with_a_file_and_mapped_ones_by_their_names_are_seen() {
        let block = tempfile::tempdir().expect("folder");
        for (file, text) in [
            ("loop0/size", "0"),
            ("loop1/loop/backing_file", "/x"),
            ("dm-0/dm/name", "vg-root\n"),
            ("vda/size", "1"),
        ] {
            let path = block.path().join(file);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, text).expect("file");
        }
        let devices = Devices::below(block.path());
        assert_eq!(devices.loops, BTreeSet::from(["loop1".to_owned()]));
        assert_eq!(devices.mapped, BTreeSet::from(["/dev/mapper/vg-root".to_owned()]));
    }

    #[test]
    fn what_came_meanwhile_is_freed_on_a_netbooted_machine_and_named_elsewhere() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("file");
        File::create(&file).expect("file").set_len(1 << 20).expect("size");
        let set_up = || {
            let ran = std::process::Command::new("losetup")
                .args(["--find", "--show"])
                .arg(&file)
                .output()
                .expect("losetup");
            String::from_utf8(ran.stdout).expect("name").trim().to_owned()
        };
        // Other tests set some up at the same time: only this one's is looked at.
        let without = |device: &str| {
            let mut before = Devices::now();
            before.loops.remove(device.strip_prefix("/dev/").expect("device"));
            before
        };
        let device = set_up();
        let lines = without(&device).clear(Setting::Host);
        assert!(
            lines
                .iter()
                .any(|line| line.contains(&device) && line.contains("is left")),
            "{lines:?}"
        );
        free(Path::new(&device)).expect("freed");
        assert!(
            !Devices::now()
                .loops
                .contains(device.strip_prefix("/dev/").expect("device"))
        );
    }
}
