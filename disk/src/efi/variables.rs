//! The firmware's variables as files: the kernel shows each as four bytes of attributes and its content.
//!
//! Source: Documentation/filesystems/efivarfs.rst; UEFI specification 2.10, section 8.2; linux/fs.h (FS_IOC_SETFLAGS).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::entries::{Entries, Write};
use super::load_option::{LoadOption, MAX_BYTES};
use crate::probe::System;

/// Of the specification's own variables.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Kept without power, seen at boot and by the system.
const ATTRIBUTES: u32 = 1 | 2 | 4;
/// `FS_IMMUTABLE_FL`, which the kernel gives the variables that nobody knows.
const IMMUTABLE: libc::c_long = 0x10;

mod ioctl {
    nix::ioctl_read!(flags, b'f', 1, libc::c_long);
    nix::ioctl_write_ptr!(set_flags, b'f', 2, libc::c_long);
}

/// The folder with the variables of a machine.
#[derive(Clone, Debug)]
pub struct Variables {
    folder: PathBuf,
}

/// Why the variables could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum VariableError {
    #[error(
        "this machine was started by a BIOS, which has no boot entries: switch its firmware to UEFI, or leave the entry out; nothing was \
         written"
    )]
    NotUefi,
    #[error(
        "{folder} shows none of the firmware's variables: the kernel has no efivarfs, or the firmware gives none; nothing was written"
    )]
    NotShown { folder: PathBuf },
    #[error("{what} {path} failed: {source}")]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "the firmware has no room for {path}: take entries away that nobody needs (REMOVE), or clear its memory in its setup"
    )]
    Full { path: PathBuf },
    #[error("{path} has more than {MAX_BYTES} B, which no boot entry has")]
    TooLarge { path: PathBuf },
    #[error("the firmware took {path}, and shows another content of it")]
    ReadsDifferently { path: PathBuf },
}

impl VariableError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            VariableError::NotUefi => "NotUefi",
            VariableError::NotShown { .. } => "NoVariables",
            VariableError::Io { .. } | VariableError::ReadsDifferently { .. } => "FirmwareRefused",
            VariableError::Full { .. } => "FirmwareFull",
            VariableError::TooLarge { .. } => "BadVariables",
        }
    }
}

impl Variables {
    /// Those of a machine.
    ///
    /// # Errors
    /// It was started by a BIOS, or shows none.
    pub fn of(system: &System) -> Result<Variables, VariableError> {
        let firmware = system.sys.join("firmware/efi");
        if !firmware.is_dir() {
            return Err(VariableError::NotUefi);
        }
        let folder = firmware.join("efivars");
        let shows_one = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
        match shows_one {
            true => Ok(Variables { folder }),
            false => Err(VariableError::NotShown { folder }),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-{GLOBAL}"))
    }

    /// The boot entries.
    ///
    /// # Errors
    /// See [`VariableError`].
    pub fn entries(&self) -> Result<Entries, VariableError> {
        let numbers = self.numbers().map_err(|source| VariableError::Io {
            what: "reading",
            path: self.folder.clone(),
            source,
        })?;
        let mut options = BTreeMap::new();
        for number in numbers {
            if let Some(bytes) = self.read(&entry(number))? {
                options.insert(number, LoadOption::parse(&bytes));
            }
        }
        let list = |bytes: Option<Vec<u8>>| -> Vec<u16> {
            let bytes = bytes.unwrap_or_default();
            let units = bytes.as_chunks::<2>().0.iter();
            units.map(|unit| u16::from_le_bytes(*unit)).collect()
        };
        Ok(Entries {
            options,
            order: list(self.read("BootOrder")?),
            next: list(self.read("BootNext")?).first().copied(),
            current: list(self.read("BootCurrent")?).first().copied(),
        })
    }

    /// Of `Boot0000`, whose digits are capital letters.
    fn numbers(&self) -> io::Result<Vec<u16>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let name = file?.file_name();
            let number = name.to_str().and_then(|name| {
                let digits = name
                    .strip_suffix(GLOBAL)?
                    .strip_suffix('-')?
                    .strip_prefix("Boot")?;
                let number = u16::from_str_radix(digits, 16).ok()?;
                (entry(number) == format!("Boot{digits}")).then_some(number)
            });
            found.extend(number);
        }
        Ok(found)
    }

    /// The content of a variable, without its attributes; `None`: there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VariableError> {
        let path = self.path(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| {
            let most = MAX_BYTES as u64 + 4 + 1;
            file.take(most).read_to_end(&mut bytes)
        });
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(VariableError::Io {
                what: "reading",
                path,
                source,
            }),
            Ok(len) if len > MAX_BYTES + 4 => Err(VariableError::TooLarge { path }),
            // One that somebody has opened and not written yet.
            Ok(_) => Ok(bytes
                .split_first_chunk::<4>()
                .map(|(_, content)| content.to_vec())),
        }
    }

    /// Carries out what was planned, each write by itself, and reads each back.
    ///
    /// # Errors
    /// See [`VariableError`]; the writes before it count.
    pub fn apply(&self, writes: &[Write]) -> Result<(), VariableError> {
        for write in writes {
            match write {
                Write::Entry(number, option) => self.write(&entry(*number), &option.encode())?,
                Write::Order(order) => {
                    let bytes: Vec<u8> = order.iter().copied().flat_map(u16::to_le_bytes).collect();
                    self.write("BootOrder", &bytes)?;
                }
                Write::Next(number) => self.write("BootNext", &number.to_le_bytes())?,
                Write::Gone(number) => self.remove(&entry(*number))?,
                Write::NoNext => self.remove("BootNext")?,
            }
        }
        Ok(())
    }

    /// One call of write(2) is one of the firmware's. An order of nothing is a variable that is not there.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), VariableError> {
        if content.is_empty() {
            return self.remove(name);
        }
        let path = self.path(name);
        let is_new = !path.exists();
        let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend(content);
        let written = changeable(&path).and_then(|()| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)?;
            file.write_all(&bytes)
        });
        if let Err(source) = written {
            if is_new {
                // A file without a variable would stay until the next boot.
                let _ = fs::remove_file(&path);
            }
            return Err(match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => VariableError::Full { path },
                _ => VariableError::Io {
                    what: "writing",
                    path,
                    source,
                },
            });
        }
        match self.read(name)?.as_deref() == Some(content) {
            true => Ok(()),
            false => Err(VariableError::ReadsDifferently { path }),
        }
    }

    fn remove(&self, name: &str) -> Result<(), VariableError> {
        let path = self.path(name);
        let removed = changeable(&path).and_then(|()| fs::remove_file(&path));
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| VariableError::Io {
                what: "removing",
                path,
                source,
            }),
        }
    }
}

fn entry(number: u16) -> String {
    format!("Boot{number:04X}")
}

/// Takes the flag away that keeps a file as it is, where it has one.
fn changeable(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut flags: libc::c_long = 0;
    // SAFETY: the descriptor is open for the call. The kernel writes an int, which is within the long.
    let known = unsafe { ioctl::flags(file.as_raw_fd(), &raw mut flags) };
    // A filesystem without flags keeps nothing.
    if known.is_err() || flags & IMMUTABLE == 0 {
        return Ok(());
    }
    let flags = flags & !IMMUTABLE;
    // SAFETY: the descriptor is open for the call, and the kernel reads an int, which is within the long.
    unsafe { ioctl::set_flags(file.as_raw_fd(), &raw const flags) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use partitions::{BootOrder, Guid};

    use super::*;
    use crate::efi::device_path::HardDrive;
    use crate::efi::entries::{Wanted, plan};

    fn output(command: &mut Command) {
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{command:?}: {ran:?}");
    }

    fn option(label: &str) -> LoadOption {
        let drive = HardDrive {
            partition: 1,
            start: 2048,
            sectors: 4096,
            guid: Guid([7; 16]),
        };
        LoadOption::of_loader(label, &drive, "\\EFI\\x.efi", "quiet")
    }

    /// A folder that stands for the kernel's, with one entry.
    fn machine(folder: &Path) -> (System, PathBuf) {
        let efivars = folder.join("firmware/efi/efivars");
        fs::create_dir_all(&efivars).unwrap();
        let mut bytes = vec![7, 0, 0, 0];
        bytes.extend(option("PXE").encode());
        fs::write(efivars.join(format!("Boot000A-{GLOBAL}")), bytes).unwrap();
        fs::write(efivars.join(format!("BootOrder-{GLOBAL}")), [7, 0, 0, 0, 10, 0]).unwrap();
        fs::write(efivars.join(format!("BootCurrent-{GLOBAL}")), [6, 0, 0, 0, 10, 0]).unwrap();
        // None of these is an entry.
        for name in ["Boot000b", "BootOptionSupport", "Boot12345", "Boot+001"] {
            fs::write(efivars.join(format!("{name}-{GLOBAL}")), [7, 0, 0, 0, 1]).unwrap();
        }
        let system = System {
            sys: folder.to_owned(),
            ..System::default()
        };
        (system, efivars)
    }

    fn wanted() -> Wanted {
        Wanted {
            entry: Some(option("debian")),
            order: BootOrder::First,
            next: Some("debian".into()),
            remove: vec!["PXE".into()],
        }
    }

    #[test]
    fn what_was_planned_is_there_and_a_second_time_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (system, efivars) = machine(folder.path());
        let variables = Variables::of(&system).unwrap();
        let before = variables.entries().unwrap();
        assert_eq!(
            (before.options.len(), before.order.as_slice(), before.current),
            (1, &[10][..], Some(10))
        );
        let first = plan(&before, &wanted()).unwrap();
        variables.apply(&first.writes).unwrap();
        let after = variables.entries().unwrap();
        assert_eq!(after, before.after(&first.writes));
        assert_eq!(plan(&after, &wanted()).unwrap().writes, []);
        // As the kernel wants them: attributes, then the content.
        let raw = fs::read(efivars.join(format!("BootOrder-{GLOBAL}"))).unwrap();
        assert_eq!(raw, [7, 0, 0, 0, 0, 0]);
        let raw = fs::read(efivars.join(format!("Boot0000-{GLOBAL}"))).unwrap();
        assert_eq!(
            (&raw[..4], &raw[4..]),
            (&[7, 0, 0, 0][..], &option("debian").encode()[..])
        );
        assert!(!efivars.join(format!("Boot000A-{GLOBAL}")).exists());
    }

    #[test]
    fn a_bios_and_a_firmware_without_variables_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let system = System {
            sys: folder.path().to_owned(),
            ..System::default()
        };
        let error = Variables::of(&system).unwrap_err();
        assert_eq!(error.reason(), "NotUefi");
        assert!(
            error.to_string().contains("switch its firmware to UEFI"),
            "{error}"
        );
        fs::create_dir_all(folder.path().join("firmware/efi/efivars")).unwrap();
        assert_eq!(Variables::of(&system).unwrap_err().reason(), "NoVariables");
    }

    /// What a test does on a filesystem of its own.
    fn mounted(arguments: &[&str], test: impl FnOnce(&Path) + std::panic::UnwindSafe) {
        let at = tempfile::tempdir().unwrap();
        output(Command::new("mount").args(arguments).arg(at.path()));
        let outcome = std::panic::catch_unwind(|| test(at.path()));
        output(Command::new("umount").arg(at.path()));
        outcome.unwrap();
    }

    #[test]
    fn a_file_that_is_kept_as_it_is_can_be_changed() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        output(Command::new("mke2fs").args(["-q", "-F"]).arg(image.path()));
        let arguments = ["-o", "loop", image.path().to_str().unwrap()];
        mounted(&arguments, |at| {
            let (system, efivars) = machine(at);
            let order = efivars.join(format!("BootOrder-{GLOBAL}"));
            output(Command::new("chattr").arg("+i").arg(&order));
            let variables = Variables::of(&system).unwrap();
            let first = plan(&variables.entries().unwrap(), &wanted()).unwrap();
            variables.apply(&first.writes).unwrap();
            assert_eq!(fs::read(order).unwrap(), [7, 0, 0, 0, 0, 0]);
        });
    }

    #[test]
    fn a_firmware_without_room_is_told_and_nothing_half_written_stays() {
        mounted(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"], |at| {
            let (system, efivars) = machine(at);
            let variables = Variables::of(&system).unwrap();
            let there = variables.entries().unwrap();
            let _ = fs::write(at.join("ballast"), vec![1; 128 << 10]);
            let full = plan(&there, &wanted()).unwrap();
            let error = variables.apply(&full.writes).unwrap_err();
            assert_eq!(error.reason(), "FirmwareFull", "{error}");
            assert!(error.to_string().contains("REMOVE"), "{error}");
            assert_eq!(variables.entries().unwrap(), there);
            assert!(!efivars.join(format!("Boot0000-{GLOBAL}")).exists());
        });
    }
}
