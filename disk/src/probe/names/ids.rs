//! Names by id: what a disk's hardware says it is.

use std::fs;
use std::path::{Path, PathBuf};

use super::replaced;
use crate::probe::{Disk, text};

/// The names that udev makes in /dev/disk/by-id for a disk; `dir` is its folder in sysfs.
pub(in crate::probe) fn ids(disk: &Disk, dir: &Path) -> Vec<String> {
    let model = disk.model.as_deref().map(replaced);
    let serial = disk.serial.as_deref().map(replaced);
    let mut ids = Vec::new();
    match (disk.transport.as_deref(), model, serial) {
        (Some("virtio"), _, Some(serial)) => ids.push(format!("virtio-{serial}")),
        (Some("mmc"), _, Some(serial)) => {
            let name = text(dir, "device/name").map(|name| replaced(&name));
            ids.extend(name.map(|name| format!("mmc-{name}_{serial}")));
        }
        (Some("nvme"), Some(model), Some(serial)) => {
            let namespace = text(dir, "nsid");
            ids.push(format!("nvme-{model}_{serial}"));
            ids.extend(namespace.map(|number| format!("nvme-{model}_{serial}_{number}")));
        }
        (Some("ata" | "scsi" | "usb"), model, serial) => ids.extend(of_scsi(disk, dir, model, serial)),
        _ => {}
    }
    let page = Page83::read(dir);
    let wwn = disk.wwn.as_deref();
    if disk.transport.as_deref() == Some("nvme") {
        ids.extend(wwn.map(|wwn| format!("nvme-{}", replaced(wwn))));
    } else if let Some(naa) = page.naa() {
        ids.push(format!("wwn-0x{naa}"));
    } else if let Some(naa) = wwn.and_then(|wwn| wwn.strip_prefix("naa.")) {
        ids.push(format!("wwn-0x{naa}"));
    }
    ids
}

/// By the bus that it is on: `ata-MODEL_SERIAL`, `usb-VENDOR_MODEL_SERIAL-0:0`, `scsi-…`.
fn of_scsi(disk: &Disk, dir: &Path, model: Option<String>, serial: Option<String>) -> Option<String> {
    let vendor = text(dir, "device/vendor");
    let page = Page83::read(dir);
    if disk.transport.as_deref() == Some("usb") {
        let mut id = format!("usb-{}", replaced(&vendor?));
        let (serial, place) = usb(dir);
        for part in [model, serial.map(|serial| replaced(&serial))]
            .into_iter()
            .flatten()
        {
            id = format!("{id}_{part}");
        }
        return Some(match place {
            Some(place) => format!("{id}-{place}"),
            None => id,
        });
    }
    if vendor.as_deref() == Some("ATA") || (vendor.is_none() && disk.transport.as_deref() == Some("ata")) {
        return match page.ata() {
            Some((model, serial)) => Some(format!("ata-{}_{}", replaced(&model), replaced(&serial))),
            // The model that SCSI shows has at most 16 letters.
            None => Some(format!("ata-{}_{}", model?, serial?)),
        };
    }
    let padded = |name: &str, len: usize| format!("{:<len$}", text(dir, name).unwrap_or_default());
    let maker = format!("{}{}", padded("device/vendor", 8), padded("device/model", 16));
    match page.identifier(&maker) {
        Some(id) => Some(format!("scsi-{}", replaced(&id))),
        None => Some(format!(
            "scsi-{}",
            replaced(&format!("S{maker}{}", disk.serial.as_deref()?))
        )),
    }
}

/// The serial of the USB device above, and `TARGET:LUN`.
fn usb(dir: &Path) -> (Option<String>, Option<String>) {
    let device = fs::canonicalize(dir.join("device")).ok();
    let place = device.as_deref().and_then(|device| {
        let name = device.file_name()?.to_str()?;
        let mut numbers = name.splitn(3, ':');
        numbers.nth(2).map(str::to_owned)
    });
    let real = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let above = real.ancestors().find(|dir| dir.join("idVendor").exists());
    let serial = above.map(PathBuf::from).and_then(|dir| text(&dir, "serial"));
    (serial, place)
}

/// Device identification, VPD page 0x83 of SCSI. Source: SPC-4 7.8.6.
struct Page83(Vec<u8>);

/// One designator of the page.
struct Designator<'a> {
    code_set: u8,
    kind: u8,
    value: &'a [u8],
}

const BINARY: u8 = 1;
const ASCII: u8 = 2;
const VENDOR: u8 = 0;
const T10: u8 = 1;
const EUI64: u8 = 2;
const NAA: u8 = 3;

impl Page83 {
    fn read(dir: &Path) -> Page83 {
        Page83(fs::read(dir.join("device/vpd_pg83")).unwrap_or_default())
    }

    /// Those of the logical unit, not of its port or target.
    fn designators(&self) -> Vec<Designator<'_>> {
        let mut found = Vec::new();
        let mut rest = self.0.get(4..).unwrap_or_default();
        while let Some((head, body)) = rest.split_first_chunk::<4>() {
            let [code_set, kind, _, len] = *head;
            let Some((value, after)) = body.split_at_checked(usize::from(len)) else {
                break;
            };
            if kind & 0x30 == 0 {
                found.push(Designator {
                    code_set: code_set & 0x0f,
                    kind: kind & 0x0f,
                    value,
                });
            }
            rest = after;
        }
        found
    }

    /// The worldwide name's digits: a registered extended one before a registered one, before any.
    fn naa(&self) -> Option<String> {
        let designators = self.designators();
        let of = |format: Option<u8>| {
            designators.iter().find(|d| {
                d.kind == NAA && format.is_none_or(|format| d.value.first().is_some_and(|b| b >> 4 == format))
            })
        };
        of(Some(6))
            .or_else(|| of(Some(5)))
            .or_else(|| of(None))
            .map(Designator::text)
    }

    /// Model and serial that a SATA disk has, whole. Source: SAT-3 10.3.4 (vendor `ATA`, model of 40, serial of 20).
    fn ata(&self) -> Option<(String, String)> {
        self.designators()
            .iter()
            .filter(|d| d.kind == T10)
            .find_map(|designator| {
                let words = designator.value.strip_prefix(b"ATA     ")?;
                let (model, serial) = words.split_at_checked(40)?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
                Some((text(model), text(serial.get(..20)?)))
            })
    }

    /// What scsi_id takes for the disk's identity; `maker` is vendor and model with their padding.
    fn identifier(&self, maker: &str) -> Option<String> {
        if let Some(naa) = self.naa() {
            return Some(format!("{NAA}{naa}"));
        }
        let designators = self.designators();
        for kind in [EUI64, T10, VENDOR] {
            for code_set in [BINARY, ASCII] {
                let found = designators
                    .iter()
                    .find(|d| d.kind == kind && d.code_set == code_set);
                if let Some(found) = found {
                    let maker = if kind == VENDOR { maker } else { "" };
                    return Some(format!("{kind}{maker}{}", found.text()));
                }
            }
        }
        None
    }
}

impl Designator<'_> {
    fn text(&self) -> String {
        if self.code_set == ASCII {
            let text = self.value.split(|b| *b == 0).next().unwrap_or_default();
            return String::from_utf8_lossy(text).into_owned();
        }
        self.value.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(designators: &[(u8, u8, &[u8])]) -> Page83 {
        let mut bytes = vec![0, 0x83, 0, 0];
        for (code_set, kind, value) in designators {
            bytes.extend([*code_set, *kind, 0, value.len() as u8]);
            bytes.extend_from_slice(value);
        }
        Page83(bytes)
    }

    #[test]
    fn the_identity_of_a_scsi_disk_is_the_one_that_scsi_id_takes() {
        // QEMU's scsi-hd without a wwn: vendor specific, in letters.
        let maker = "QEMU    QEMU HARDDISK   ";
        let qemu = page(&[(ASCII, VENDOR, b"drive-scsi0")]);
        assert_eq!(
            qemu.identifier(maker).as_deref().map(replaced).as_deref(),
            Some("0QEMU_QEMU_HARDDISK_drive-scsi0")
        );
        // A port's name (association 1) is passed over, and the worldwide name wins.
        let named = page(&[
            (ASCII, VENDOR, b"x"),
            (BINARY, NAA | 0x10, &[0x50, 1, 2, 3, 4, 5, 6, 7]),
            (BINARY, NAA, &[0x50, 0x01, 0x4e, 0xe2, 0xb5, 0xe4, 0xf0, 0xa1]),
        ]);
        assert_eq!(named.identifier(maker).as_deref(), Some("350014ee2b5e4f0a1"));
        let t10 = page(&[(ASCII, T10, b"LIO-ORG disk1:abc")]);
        assert_eq!(t10.identifier(maker).as_deref(), Some("1LIO-ORG disk1:abc"));
        assert_eq!(page(&[]).identifier(maker), None);
    }

    #[test]
    fn a_page_that_ends_early_is_read_up_to_there() {
        let mut short = page(&[(ASCII, T10, b"LIO-ORG disk1:abc")]);
        short.0.truncate(12);
        assert_eq!(short.identifier(""), None);
        assert_eq!(Page83(vec![0, 0x83]).naa(), None);
    }
}
