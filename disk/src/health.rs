//! What a disk says of its own health: asked of NVMe disks and of SATA ones, read from nothing else.
//!
//! Source: NVM Express base specification 2.0, section 5.16.1.3 (SMART / Health Information, log page 02h); ACS-3 section 7.48.8
//! (SMART RETURN STATUS); SAT-4 section 12.2.2 (ATA PASS-THROUGH); linux/nvme_ioctl.h, scsi/sg.h.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use crate::passthrough;
use crate::probe::Disk;

/// What an ailing disk is given to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of the log page.
pub const NVME_LOG_BYTES: usize = 512;

/// What a disk says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What it warns of; empty: of nothing.
    pub warnings: Vec<&'static str>,
    /// Of the writes that its maker warrants; more than 100 is possible. 0 where it does not say.
    pub percentage_used: u32,
    pub power_on_hours: u64,
    /// Blocks that it could not give back as they were written.
    pub media_errors: u64,
}

/// Asks a disk; `None`: it is of a kind that is not asked, or does not answer. Blocks while it thinks.
pub fn read(disk: &Disk) -> Option<Health> {
    let open = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&disk.path)
    };
    match disk.transport.as_deref()? {
        "nvme" => nvme(&nvme_log(&open().ok()?).ok()?),
        "ata" => ata(&smart_status(&open().ok()?).ok()?),
        _ => None,
    }
}

/// What a log page 02h comes to; `None`: it is shorter than one.
pub fn nvme(log: &[u8]) -> Option<Health> {
    /// Bits of the critical warning, the lowest first.
    const WARNINGS: [&str; 6] = [
        "spare blocks run out",
        "it is too hot or too cold",
        "it is not reliable any more",
        "it takes no more writes",
        "its backup of volatile memory has failed",
        "its persistent memory takes no more writes",
    ];
    let log: &[u8; NVME_LOG_BYTES] = log.first_chunk()?;
    let [critical, _, _, _, _, percentage_used, ..] = *log;
    let number = |at: usize| {
        let bytes = log.get(at..)?.first_chunk()?;
        Some(u64::try_from(u128::from_le_bytes(*bytes)).unwrap_or(u64::MAX))
    };
    let warnings = (0..).zip(WARNINGS);
    Some(Health {
        warnings: warnings
            .filter(|(bit, _)| critical & (1 << bit) != 0)
            .map(|(_, words)| words)
            .collect(),
        percentage_used: u32::from(percentage_used),
        power_on_hours: number(128)?,
        media_errors: number(160)?,
    })
}

/// What the registers in the sense data of SMART RETURN STATUS come to; `None`: they are neither of the two answers that there are.
pub fn ata(sense: &[u8]) -> Option<Health> {
    let registers = match sense {
        // Descriptors, of which the one of ATA has the code 9; fixed, with the registers where the standard puts them.
        [0x72 | 0xf2, ..] => {
            ata_descriptor(sense.get(8..)?).and_then(|found| Some((*found.get(9)?, *found.get(11)?)))?
        }
        [0x70 | 0xf0, ..] => (*sense.get(10)?, *sense.get(11)?),
        _ => return None,
    };
    let warnings = match registers {
        (0x4f, 0xc2) => Vec::new(),
        (0xf4, 0x2c) => vec!["it expects to fail soon"],
        _ => return None,
    };
    Some(Health {
        warnings,
        ..Health::default()
    })
}

fn ata_descriptor(mut descriptors: &[u8]) -> Option<&[u8]> {
    loop {
        let [code, more, ..] = *descriptors else {
            return None;
        };
        let (one, rest) = descriptors.split_at_checked(2 + usize::from(more))?;
        if code == 0x09 {
            return Some(one);
        }
        descriptors = rest;
    }
}

fn nvme_log(device: &File) -> io::Result<Vec<u8>> {
    const GET_LOG_PAGE: u8 = 0x02;
    const HEALTH: u32 = 0x02;
    let mut log = vec![0_u8; NVME_LOG_BYTES];
    // Of the controller, so of all namespaces; the length counts double words, from 0.
    let words = [HEALTH | ((NVME_LOG_BYTES as u32 / 4 - 1) << 16), 0, 0, 0, 0, 0];
    passthrough::nvme(device, GET_LOG_PAGE, u32::MAX, words, &mut log, Some(PATIENCE))?;
    Ok(log)
}

/// The sense data that come with the registers.
fn smart_status(device: &File) -> io::Result<Vec<u8>> {
    const NO_DATA: i32 = -1;
    let mut command = [0_u8; 16];
    command[0] = 0x85; // ATA PASS-THROUGH (16)
    command[1] = 3 << 1; // no data
    command[2] = 0x20; // the registers are asked for (CK_COND)
    command[4] = 0xda; // SMART RETURN STATUS
    command[10] = 0x4f;
    command[12] = 0xc2;
    command[14] = 0xb0; // SMART
    Ok(passthrough::scsi(device, &mut command, NO_DATA, None, Some(PATIENCE))?.sense)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut log = vec![0; NVME_LOG_BYTES];
        for (at, field) in fields {
            log[*at..at + field.len()].copy_from_slice(field);
        }
        log
    }

    /// Offsets as in figure 207 of the specification.
    #[test]
    fn a_log_of_nvme_is_read_at_the_places_of_the_specification() {
        let healthy = log(&[
            (1, &300_u16.to_le_bytes()),
            (3, &[100, 10, 7]),
            (112, &99_u128.to_le_bytes()),
            (128, &8766_u128.to_le_bytes()),
            (144, &98_u128.to_le_bytes()),
            (160, &3_u128.to_le_bytes()),
            (176, &97_u128.to_le_bytes()),
        ]);
        let want = Health {
            warnings: Vec::new(),
            percentage_used: 7,
            power_on_hours: 8766,
            media_errors: 3,
        };
        assert_eq!(nvme(&healthy), Some(want));
        let failing = nvme(&log(&[(0, &[0b1101]), (5, &[255]), (128, &[0xff; 16])])).expect("a log");
        assert_eq!(
            failing.warnings,
            [
                "spare blocks run out",
                "it is not reliable any more",
                "it takes no more writes"
            ]
        );
        assert_eq!((failing.percentage_used, failing.power_on_hours), (255, u64::MAX));
        assert_eq!(nvme(&healthy[..511]), None);
    }

    #[test]
    fn a_sata_disk_answers_with_one_of_two_pairs_of_registers() {
        let descriptor = |mid, high| {
            // Another descriptor comes first.
            let mut sense = vec![0x72, 0x01, 0x00, 0x1d, 0, 0, 0, 18, 0x00, 0x02, 1, 2];
            sense.extend([0x09, 0x0c, 0, 0, 0, 1, 0, 0, 0, mid, 0, high, 0, 0x50]);
            ata(&sense)
        };
        let fixed = |mid, high| ata(&[0x70, 0, 1, 0, 0x50, 0, 1, 10, 0, 0, mid, high, 0, 0x1d]);
        for answer in [&descriptor as &dyn Fn(u8, u8) -> Option<Health>, &fixed] {
            assert_eq!(answer(0x4f, 0xc2), Some(Health::default()));
            let failing = answer(0xf4, 0x2c).expect("an answer");
            assert_eq!(failing.warnings, ["it expects to fail soon"]);
            assert_eq!(answer(0xc2, 0x4f), None);
        }
        for rubbish in [
            &[][..],
            &[0x72],
            &[0x72, 0, 0, 0, 0, 0, 0, 9, 9, 200, 1],
            &[0x70, 0, 0],
        ] {
            assert_eq!(ata(rubbish), None, "{rubbish:?}");
        }
    }

    #[test]
    fn what_is_no_disk_of_these_kinds_is_not_asked() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for transport in [None, Some("virtio"), Some("nvme"), Some("ata")] {
            let disk = Disk {
                path: file.path().to_owned(),
                transport: transport.map(str::to_owned),
                ..Disk::default()
            };
            assert_eq!(read(&disk), None, "{transport:?}");
        }
    }
}
