//! Names by path: where in the machine a disk is plugged in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::probe::text;

/// The names that udev makes in /dev/disk/by-path for a disk; `dir` is its folder in sysfs.
///
/// Goes from the disk up to its bus, a word for each device that has a name of its own. Empty: it has no place that
/// lasts, or is on a bus that is not known here.
pub(in crate::probe) fn paths(sys: &Path, name: &str, dir: &Path) -> Vec<String> {
    let real = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    if real.to_string_lossy().contains("/virtual/") {
        return Vec::new();
    }
    let mut walk = Walk {
        sys,
        words: Vec::new(),
        older: None,
        transport: false,
        parent: false,
    };
    let mut at = real.parent().map(Path::to_owned);
    while let Some(device) = at {
        at = walk.visit(&real, &device).parent().map(Path::to_owned);
    }
    if walk.words.is_empty() || !walk.transport || !walk.parent {
        return Vec::new();
    }
    let path = walk.joined(None);
    let mut paths = vec![path.clone()];
    // systemd called the ports of SATA controllers so before version 246, and still makes these links.
    paths.extend(walk.older.as_deref().map(|older| walk.joined(Some(older))));
    if name.starts_with("vd") && path.starts_with("pci-") {
        paths.push(format!("virtio-{path}"));
    }
    paths
}

/// The way up: words, the one nearest to the disk first.
struct Walk<'a> {
    sys: &'a Path,
    words: Vec<String>,
    /// What stood in the place of the first word in older versions.
    older: Option<String>,
    transport: bool,
    parent: bool,
}

impl Walk<'_> {
    fn joined(&self, first: Option<&str>) -> String {
        let mut words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        if let (Some(word), Some(older)) = (words.first_mut(), first) {
            *word = older;
        }
        words.reverse();
        words.join("-")
    }

    /// Looks at one device on the way; the last one that is done with it.
    fn visit(&mut self, disk: &Path, device: &Path) -> PathBuf {
        let name = file_name(device);
        let subsystem = subsystem(device).unwrap_or_default();
        match subsystem.as_str() {
            "scsi" if name.split(':').count() == 4 => {
                self.transport = true;
                return self.scsi(device, &name).unwrap_or_else(|| device.to_owned());
            }
            "usb" => {
                self.transport = true;
                let Some((_, port)) = name.split_once('-') else {
                    return device.to_owned();
                };
                self.words.push(format!("usb-0:{port}"));
            }
            "nvme" => {
                let Some(namespace) = text(disk, "nsid") else {
                    return device.to_owned();
                };
                self.words.push(format!("nvme-{namespace}"));
                (self.transport, self.parent) = (true, true);
            }
            "pci" | "acpi" | "xen" => {
                self.words.push(format!("{subsystem}-{name}"));
                self.parent = true;
            }
            "platform" => {
                self.words.push(format!("platform-{name}"));
                (self.transport, self.parent) = (true, true);
            }
            "virtio" => self.transport = true,
            _ => return device.to_owned(),
        }
        topmost(device, &subsystem)
    }

    /// A disk behind a SCSI host; returns where to go on from.
    fn scsi(&mut self, device: &Path, name: &str) -> Option<PathBuf> {
        let numbers: Vec<u32> = name.split(':').filter_map(|number| number.parse().ok()).collect();
        let [host_number, bus, target, lun] = *numbers.as_slice() else {
            return None;
        };
        let target_dir = device.parent()?;
        let host = device.ancestors().find(|dir| {
            let name = file_name(dir);
            name.strip_prefix("host")
                .is_some_and(|rest| rest.parse::<u32>().is_ok())
        })?;
        let lun_word = match lun {
            0..256 => format!("lun-{lun}"),
            _ => format!("lun-0x{:04x}{:04x}00000000", lun & 0xffff, lun >> 16),
        };
        let whole = device.to_string_lossy();
        if whole.contains("/rport-") {
            let port = text(&self.class("fc_transport", &file_name(target_dir)), "port_name")?;
            self.words.push(format!("fc-{port}-{lun_word}"));
            self.parent = true;
            return Some(device.to_owned());
        }
        if whole.contains("/end_device-") {
            self.words
                .push(format!("sas-{}-{lun_word}", self.sas(target_dir.parent()?)?));
            self.parent = true;
            return Some(device.to_owned());
        }
        if whole.contains("/ata") {
            let port = text(&self.class("ata_port", &file_name(host.parent()?)), "port_no")?;
            // Behind a port multiplier the bus tells, else which of two disks on one cable.
            self.words.push(match bus {
                0 => format!("ata-{port}.{target}"),
                bus => format!("ata-{port}.{bus}.0"),
            });
            self.older = Some(format!("ata-{port}"));
            return Some(host.to_owned());
        }
        let hosts = fs::read_dir(host.parent()?).ok()?.flatten();
        let first = hosts
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_str()?
                    .strip_prefix("host")?
                    .parse::<u32>()
                    .ok()
            })
            .min()?;
        let host_number = host_number.checked_sub(first)?;
        self.words
            .push(format!("scsi-{host_number}:{bus}:{target}:{lun}"));
        Some(host.to_owned())
    }

    /// How a SAS disk is attached: by the plug, or over several lines by its address.
    fn sas(&self, end_device: &Path) -> Option<String> {
        let device = self.class("sas_device", &file_name(end_device));
        let port = end_device.parent()?;
        if text(&self.class("sas_port", &file_name(port)), "num_phys")? != "1" {
            return text(&device, "sas_address");
        }
        let plug = text(&device, "phy_identifier")?;
        let expander = self.class("sas_device", &file_name(port.parent()?));
        Some(match text(&expander, "sas_address") {
            Some(address) => format!("exp{address}-phy{plug}"),
            None => format!("phy{plug}"),
        })
    }

    fn class(&self, class: &str, name: &str) -> PathBuf {
        self.sys.join("class").join(class).join(name)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn subsystem(device: &Path) -> Option<String> {
    Some(file_name(&fs::read_link(device.join("subsystem")).ok()?))
}

/// The topmost of the devices from this one up that are all of one subsystem: only the nearest is told.
fn topmost(device: &Path, name: &str) -> PathBuf {
    let same = device
        .ancestors()
        .take_while(|above| subsystem(above).as_deref() == Some(name));
    same.last().unwrap_or(device).to_owned()
}
