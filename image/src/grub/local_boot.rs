//! `local-boot.efi`: boots a UEFI machine from its own disk, when it is the network that was asked first.
//!
//! Neither iPXE's `exit` nor its `sanboot` reach the disk on UEFI firmware; chain-loading the disk's boot loader
//! from a GRUB without network drivers does, in a second.

use std::io;

use crate::files::FileError;
use crate::grub::{Grub, GrubError, Image, Platform};

/// Returns the EFI application that starts the first boot loader it finds on the disks.
///
/// It says on the console what it does. If there is no boot loader on any disk it says so, waits, and starts the
/// machine over: it asks the network again, where somebody may have changed their mind. (Returning to the firmware
/// would end in a setup screen that nobody looks at.)
///
/// # Errors
/// As [`Grub::make`].
pub fn local_boot(grub: &Grub) -> Result<Vec<u8>, GrubError> {
    let memdisk = memdisk(SCRIPT).map_err(|source| FileError {
        action: "pack",
        path: "grub.cfg".into(),
        source,
    })?;
    grub.make(&Image {
        platform: Platform::Uefi,
        prefix: "(memdisk)/boot/grub",
        memdisk: Some(&memdisk),
        modules: MODULES,
    })
}

/// A tar archive with the one file `grub.cfg`, in the directory that GRUB takes for a prefix without one.
fn memdisk(script: &str) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(script.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "boot/grub/grub.cfg", script.as_bytes())?;
    archive.into_inner()
}

/// The removable path first, on every disk: what Farrier installs has it, and it is the one path every system may
/// use. Then what other systems leave, who rely on entries in the firmware's memory. FAT does not know upper from lower case.
const SCRIPT: &str = r#"
function start {
  if [ -f "$1" ]; then
    echo "Farrier: starting $1"
    regexp --set=1:root '^\((.*)\)' "$1"
    if chainloader "$1"; then
      boot
    fi
    echo "Farrier: $1 did not start."
  fi
}

echo "Farrier: booting from the local disk."
for device in (hd*,*) (hd*); do
  start "$device/EFI/BOOT/BOOTX64.EFI"
done
for device in (hd*,*) (hd*); do
  for loader in $device/EFI/*/shimx64.efi $device/EFI/*/grubx64.efi $device/EFI/Microsoft/Boot/bootmgfw.efi; do
    start "$loader"
  done
done
echo "Farrier: no disk of this machine has a boot loader at /EFI/BOOT/BOOTX64.EFI. These are the devices:"
ls
echo "Farrier: starting over in 10 seconds."
sleep 10
reboot
"#;
const MODULES: &[&str] = &[
    "boot",
    "chain",
    "configfile",
    "echo",
    "fat",
    "ext2",
    "halt",
    "ls",
    "memdisk",
    "minicmd",
    "normal",
    "part_gpt",
    "part_msdos",
    "probe",
    "reboot",
    "regexp",
    "search",
    "search_fs_file",
    "sleep",
    "tar",
    "test",
];

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn script_is_one_that_grub_can_read() {
        let checker = Command::new("grub-script-check").stdin(Stdio::piped()).spawn();
        let Ok(mut checker) = checker else {
            println!("grub-script-check is not installed here: the lab boots the script anyway");
            return;
        };
        checker
            .stdin
            .take()
            .unwrap()
            .write_all(SCRIPT.as_bytes())
            .unwrap();
        assert!(checker.wait().unwrap().success());
    }

    #[test]
    fn memdisk_holds_the_script_and_nothing_of_the_time() {
        let one = memdisk(SCRIPT).unwrap();
        let mut archive = tar::Archive::new(&one[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("boot/grub/grub.cfg"));
        assert_eq!(entry.header().mtime().unwrap(), 0);
    }
}
