//! A planned GUID partition table as bytes, both copies of it. Pure.
//!
//! Source: UEFI specification 2.10, sections 5.2.3 (protective MBR), 5.3.2 (header) and 5.3.3 (entries).

use partitions::{GPT_ENTRIES_BYTES, Guid, Kind, Plan, Planned};

use super::parse::{ENTRY_BYTES, HEADER_BYTES, SIGNATURE, crc32};
use crate::mbr;

/// Where the entries of the primary table are.
const ENTRIES_LBA: u64 = 2;

/// The GUIDs of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    pub disk: Guid,
    /// Of each partition of the plan, in its order.
    pub partitions: Vec<Guid>,
}

/// A table's parts, each with the byte of the disk that it begins at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The first 512 bytes, without boot code.
    pub protective_mbr: (u64, Vec<u8>),
    pub header: (u64, Vec<u8>),
    pub entries: (u64, Vec<u8>),
    /// The backup's entries, then its header: they end where the disk ends.
    pub backup: (u64, Vec<u8>),
}

/// The bytes of a planned table.
///
/// The plan is of a GUID partition table, and leaves room for both copies, as [`partitions::Layout::plan`] does.
pub fn encode(plan: &Plan, ids: &Ids) -> Encoded {
    let sector = plan.sector_bytes;
    let lbas = plan.lbas();
    let entries_sectors = GPT_ENTRIES_BYTES.div_ceil(sector);
    let mut entries = vec![0; usize::try_from(GPT_ENTRIES_BYTES).unwrap_or(0)];
    for ((planned, uuid), into) in plan
        .partitions
        .iter()
        .zip(&ids.partitions)
        .zip(entries.chunks_exact_mut(ENTRY_BYTES))
    {
        into.copy_from_slice(&entry(planned, *uuid, sector));
    }
    let backup_entries_lba = lbas.saturating_sub(entries_sectors + 1);
    let header = |own: u64, other: u64, entries_lba: u64| {
        header(&Header {
            own,
            other,
            first_usable: ENTRIES_LBA + entries_sectors,
            last_usable: backup_entries_lba.saturating_sub(1),
            disk: ids.disk,
            entries_lba,
            entries_crc: crc32(&entries),
            sector,
        })
    };
    let last = lbas.saturating_sub(1);
    let mut backup = entries.clone();
    backup.extend(header(last, 1, backup_entries_lba));
    Encoded {
        protective_mbr: (0, protective_mbr(lbas)),
        header: (sector, header(1, last, ENTRIES_LBA)),
        entries: (ENTRIES_LBA * sector, entries),
        backup: (backup_entries_lba * sector, backup),
    }
}

fn entry(planned: &Planned, uuid: Guid, sector: u64) -> [u8; ENTRY_BYTES] {
    let kind = match planned.kind {
        Kind::Gpt(guid) => guid,
        Kind::Mbr(_) => Guid::ZERO,
    };
    let first = planned.start_bytes / sector;
    let last = (planned.start_bytes + planned.size_bytes) / sector - 1;
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..16].copy_from_slice(&kind.0);
    bytes[16..32].copy_from_slice(&uuid.0);
    bytes[32..40].copy_from_slice(&first.to_le_bytes());
    bytes[40..48].copy_from_slice(&last.to_le_bytes());
    bytes[48..56].copy_from_slice(&planned.attribute_bits.to_le_bytes());
    let name = planned.name.as_deref().unwrap_or_default();
    for (unit, into) in name.encode_utf16().zip(bytes[56..].chunks_exact_mut(2)) {
        into.copy_from_slice(&unit.to_le_bytes());
    }
    bytes
}

struct Header {
    own: u64,
    other: u64,
    first_usable: u64,
    last_usable: u64,
    disk: Guid,
    entries_lba: u64,
    entries_crc: u32,
    sector: u64,
}

fn header(of: &Header) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(of.sector).unwrap_or(4096)];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, SIGNATURE);
    put(8, &0x0001_0000_u32.to_le_bytes());
    put(12, &(HEADER_BYTES as u32).to_le_bytes());
    put(24, &of.own.to_le_bytes());
    put(32, &of.other.to_le_bytes());
    put(40, &of.first_usable.to_le_bytes());
    put(48, &of.last_usable.to_le_bytes());
    put(56, &of.disk.0);
    put(72, &of.entries_lba.to_le_bytes());
    put(
        80,
        &((GPT_ENTRIES_BYTES / ENTRY_BYTES as u64) as u32).to_le_bytes(),
    );
    put(84, &(ENTRY_BYTES as u32).to_le_bytes());
    put(88, &of.entries_crc.to_le_bytes());
    let sum = crc32(&bytes[..HEADER_BYTES]);
    bytes[16..20].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// One entry that covers the disk, as far as 32 bits reach.
fn protective_mbr(lbas: u64) -> Vec<u8> {
    let covered = u32::try_from(lbas.saturating_sub(1)).unwrap_or(u32::MAX);
    let entry = mbr::Raw {
        is_active: false,
        kind: mbr::PROTECTIVE,
        first_sector: 1,
        sectors: covered,
    };
    mbr::encode(0, &[entry]).to_vec()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    use partitions::{Layout, TYPES};
    use serde_json::json;

    use super::*;
    use crate::gpt;
    use crate::testing::{LoopDevice, output};

    const MIB: u64 = 1 << 20;

    fn ids(count: u8) -> Ids {
        Ids {
            disk: Guid::of_digest([7; 16]),
            partitions: (1..=count).map(|n| Guid::of_digest([n; 16])).collect(),
        }
    }

    /// The table of this layout on a loop device of 64 MiB with such sectors.
    fn written(partitions: serde_json::Value, sector: u64) -> (LoopDevice, Encoded) {
        let layout = Layout::read(None, &partitions).unwrap();
        let plan = layout.plan(64 * MIB, sector).unwrap();
        let encoded = encode(&plan, &ids(plan.partitions.len() as u8));
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 * MIB).unwrap();
        let device = LoopDevice::over(file, u32::try_from(sector).unwrap(), &[]);
        let disk = File::options().write(true).open(device.path()).unwrap();
        for (at, bytes) in [
            &encoded.protective_mbr,
            &encoded.header,
            &encoded.entries,
            &encoded.backup,
        ] {
            disk.write_all_at(bytes, *at).unwrap();
        }
        (device, encoded)
    }

    #[test]
    fn other_peoples_tools_find_no_fault_in_it_and_read_what_was_declared() {
        for sector in [512, 4096] {
            let (device, _) = written(
                json!([
                    {"name": "EFI System", "size": "8MiB", "type": "efi", "attributes": ["required", "legacy-boot"]},
                    {"size": "50%", "type": "linux"},
                    {"name": "größe", "size": "rest", "type": "home", "attributes": ["no-auto"]},
                ]),
                sector,
            );
            let said = output(Command::new("sgdisk").arg("--verify").arg(device.path()));
            assert!(said.contains("No problems found"), "{said}");
            let mib = MIB / sector;
            let said = output(Command::new("sfdisk").arg("--dump").arg(device.path()));
            let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("/dev/")).collect();
            for (line, words) in lines.iter().zip([
                vec![
                    format!("start={:>12}", mib),
                    "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B".to_owned(),
                    "name=\"EFI System\"".to_owned(),
                    "RequiredPartition".to_owned(),
                    "LegacyBIOSBootable".to_owned(),
                ],
                vec![format!("size={:>12}", 31 * mib), "type=0FC63DAF".to_owned()],
                vec!["gr\\xc3\\xb6\\xc3\\x9fe".to_owned(), "GUID:63".to_owned()],
            ]) {
                for word in words {
                    assert!(line.contains(&word), "{sector}: {word} in {line}");
                }
            }
            assert_eq!(lines.len(), 3, "{said}");
            let first = ids(1).partitions[0].to_string().to_uppercase();
            assert!(said.contains(&format!("uuid={first}")), "{said}");
            assert!(
                said.contains(&format!("label-id: {}", ids(0).disk.to_string().to_uppercase())),
                "{said}"
            );
        }
    }

    #[test]
    fn our_own_parser_reads_it_and_so_does_gptman() {
        for sector in [512, 4096] {
            let (device, encoded) = written(
                json!([{"name": "root", "size": "rest", "type": "root-x86-64"}]),
                sector,
            );
            let content = device.content();
            let table = gpt::parse(&content[..MIB as usize], sector).unwrap();
            assert_eq!(table.disk_bytes(), 64 * MIB);
            assert_eq!(table.disk_guid, ids(0).disk.0);
            assert_eq!(table.entries[0].label().as_deref(), Some("root"));
            assert!(table.entries[0].is_linux());
            assert_eq!(encoded.backup.0 + encoded.backup.1.len() as u64, 64 * MIB);
            let mut file = std::io::Cursor::new(&content);
            let read = gptman::GPT::read_from(&mut file, sector).unwrap();
            assert_eq!(read[1].starting_lba * sector, MIB);
            // The backup alone does, too.
            let mut without = content.clone();
            without[..MIB as usize].fill(0);
            let read = gptman::GPT::find_from(&mut std::io::Cursor::new(&without));
            assert_eq!(read.unwrap()[1].partition_name.as_str(), "root", "{sector}");
        }
    }

    #[test]
    fn types_are_what_the_field_calls_so() {
        let all: Vec<_> = TYPES
            .iter()
            .map(|named| json!({"name": named.name, "size": "1MiB", "type": named.name}))
            .collect();
        let (device, _) = written(json!(all), 512);
        let listed = output(Command::new("sfdisk").arg("--list").arg(device.path()));
        for (name, called) in [
            (1, "BIOS boot"),
            (2, "EFI System"),
            (3, "Linux home"),
            (4, "Linux filesystem"),
            (6, "Linux LVM"),
            (7, "Microsoft basic data"),
            (8, "Microsoft reserved"),
            (9, "PowerPC PReP boot"),
            (10, "Linux RAID"),
            (11, "Linux root (ARM-64)"),
            (12, "Linux root (x86-64)"),
            (13, "Linux server data"),
            (14, "Linux swap"),
            (15, "Linux temporary data"),
            (16, "Linux /usr (ARM-64)"),
            (17, "Linux /usr (x86-64)"),
            (18, "Linux variable data"),
            (19, "Linux extended boot"),
            (20, "Solaris /usr & Apple ZFS"),
        ] {
            let prefix = format!("{}p{name} ", device.path().display());
            let line = listed.lines().find(|line| line.starts_with(&prefix));
            assert!(
                line.is_some_and(|line| line.contains(called)),
                "{called}: {listed}"
            );
        }
    }
}
