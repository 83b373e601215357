//! A planned table as bytes, in the order in which they are written; and whether a disk has it already. Pure.
//!
//! INVARIANT: the disk has no table before the first of these steps. Of a GUID partition table the backup comes first, then
//! the entries of the primary one, its header, and the protective MBR last, each on stable storage before the next. A
//! copy of which only a part has come has a wrong checksum, and is taken by nobody; so the disk has no table, or the
//! new one by its backup, or by both. An MBR is one sector, which a disk writes whole or not at all.

use partitions::{Guid, Kind, Plan, Scheme};
use sha2::{Digest, Sha256};

use crate::ends::Step;
use crate::gpt::{self, Encoded, Ids};
use crate::mbr;

/// The bytes of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Gpt { ids: Ids, encoded: Encoded, sector: u64 },
    Mbr { signature: u32, sector: Box<[u8; 512]> },
}

impl Table {
    /// With GUIDs that are made of the seed where none is declared.
    pub(super) fn new(plan: &Plan, seed: &str) -> Table {
        match plan.scheme {
            Scheme::Gpt => Table::of_gpt(plan, made_ids(plan, seed)),
            Scheme::Mbr => {
                let [a, b, c, d, ..] = digest(seed, 0);
                // Of 0 nobody makes a PARTUUID.
                Table::of_mbr(plan, u32::from_le_bytes([a, b, c, d]).max(1))
            }
        }
    }

    /// The table, if the disk has it: GUIDs that are not declared may be any. `tail` is the end of the disk, with its
    /// first byte's offset. Boot code in the first sector does not count.
    pub(super) fn already(plan: &Plan, head: &[u8], tail: (u64, &[u8]), seed: &str) -> Option<Table> {
        let on_disk = |at: u64, len: usize| {
            let inside = |from: u64, bytes: &'_ [u8]| -> Option<Vec<u8>> {
                let at = usize::try_from(at.checked_sub(from)?).ok()?;
                bytes.get(at..at.checked_add(len)?).map(<[u8]>::to_vec)
            };
            inside(tail.0, tail.1).or_else(|| inside(0, head))
        };
        let table = match plan.scheme {
            Scheme::Gpt => Table::of_gpt(plan, adopted_ids(plan, head, seed)?),
            Scheme::Mbr => {
                let bytes = head.get(mbr::DISK_SIGNATURE)?.first_chunk::<4>()?;
                let signature = Some(u32::from_le_bytes(*bytes)).filter(|signature| *signature != 0)?;
                // An old GUID partition table beneath it is to go.
                let has_gpt = [512, 4096]
                    .into_iter()
                    .any(|sector| gpt::has_signature(head, sector) || has_signature_at_end(tail.1, sector));
                if has_gpt {
                    return None;
                }
                Table::of_mbr(plan, signature)
            }
        };
        let same = match &table {
            Table::Gpt { encoded, .. } => {
                mbr::has_same_entries(&encoded.protective_mbr.1, head)
                    && [&encoded.header, &encoded.entries, &encoded.backup]
                        .into_iter()
                        .all(|(at, bytes)| on_disk(*at, bytes.len()).as_ref() == Some(bytes))
            }
            Table::Mbr { sector, .. } => mbr::has_same_entries(sector.as_slice(), head),
        };
        same.then_some(table)
    }

    fn of_gpt(plan: &Plan, ids: Ids) -> Table {
        Table::Gpt {
            encoded: gpt::encode(plan, &ids),
            ids,
            sector: plan.sector_bytes,
        }
    }

    fn of_mbr(plan: &Plan, signature: u32) -> Table {
        // A plan of an MBR ends within 2 TiB.
        let sectors = |bytes: u64| u32::try_from(bytes / plan.sector_bytes).unwrap_or(u32::MAX);
        let entries: Vec<mbr::Raw> = plan
            .partitions
            .iter()
            .map(|one| mbr::Raw {
                is_active: one.is_active,
                kind: match one.kind {
                    Kind::Mbr(byte) => byte,
                    Kind::Gpt(_) => 0,
                },
                first_sector: sectors(one.start_bytes),
                sectors: sectors(one.size_bytes),
            })
            .collect();
        Table::Mbr {
            signature,
            sector: Box::new(mbr::encode(signature, &entries)),
        }
    }

    /// See the module.
    pub(super) fn steps(&self) -> Vec<Step> {
        let parts = match self {
            Table::Gpt { encoded, .. } => vec![
                encoded.backup.clone(),
                encoded.entries.clone(),
                encoded.header.clone(),
                encoded.protective_mbr.clone(),
            ],
            Table::Mbr { sector, .. } => vec![(0, sector.to_vec())],
        };
        let steps = parts
            .into_iter()
            .flat_map(|(at, bytes)| [Step::Write { at, bytes }, Step::Sync]);
        steps.collect()
    }

    /// The sector of the table that this byte of the disk is in, and where it begins.
    pub(super) fn sector_at(&self, at: u64) -> Option<(u64, Vec<u8>)> {
        let sector = match self {
            Table::Gpt { sector, .. } => *sector,
            Table::Mbr { .. } => 512,
        };
        self.steps().into_iter().find_map(|step| {
            let Step::Write { at: from, bytes } = step else {
                return None;
            };
            let inside = at
                .checked_sub(from)
                .filter(|inside| *inside < bytes.len() as u64)?;
            let begin = inside / sector * sector;
            let start = usize::try_from(begin).ok()?;
            let end = bytes.len().min(start + usize::try_from(sector).ok()?);
            Some((from + begin, bytes.get(start..end)?.to_vec()))
        })
    }

    pub(super) fn uuid(&self) -> String {
        match self {
            Table::Gpt { ids, .. } => ids.disk.to_string(),
            Table::Mbr { signature, .. } => format!("{signature:08x}"),
        }
    }

    /// PARTUUID.
    pub(super) fn partition_uuid(&self, number: u32) -> String {
        match self {
            Table::Gpt { ids, .. } => {
                let at = usize::try_from(number).unwrap_or(0).wrapping_sub(1);
                ids.partitions.get(at).map(Guid::to_string).unwrap_or_default()
            }
            Table::Mbr { signature, .. } => format!("{signature:08x}-{number:02x}"),
        }
    }
}

fn has_signature_at_end(tail: &[u8], sector: u64) -> bool {
    let before = usize::try_from(sector).unwrap_or(0);
    let last = tail.len().checked_sub(before).and_then(|at| tail.get(at..));
    last.is_some_and(|last| last.starts_with(b"EFI PART"))
}

fn made_ids(plan: &Plan, seed: &str) -> Ids {
    let of = |number: u32| Guid::of_digest(digest(seed, number));
    Ids {
        disk: of(0),
        partitions: plan
            .partitions
            .iter()
            .map(|one| one.uuid.unwrap_or_else(|| of(one.number)))
            .collect(),
    }
}

/// Those that the disk's table has, where none is declared; `None`: it has other partitions.
fn adopted_ids(plan: &Plan, head: &[u8], seed: &str) -> Option<Ids> {
    let there = gpt::parse(head, plan.sector_bytes).ok()?;
    let mut ids = made_ids(plan, seed);
    ids.disk = Guid(there.disk_guid);
    for (one, id) in plan.partitions.iter().zip(&mut ids.partitions) {
        let entry = there.entries.iter().find(|entry| entry.number == one.number)?;
        *id = one.uuid.unwrap_or(Guid(entry.unique_guid));
    }
    let all = || std::iter::once(&ids.disk).chain(&ids.partitions);
    let is_good = all().all(|id| *id != Guid::ZERO)
        && (ids.partitions.iter().enumerate()).all(|(at, id)| !ids.partitions[..at].contains(id));
    is_good.then_some(ids)
}

/// 16 bytes that only this seed and number give.
fn digest(seed: &str, number: u32) -> [u8; 16] {
    let mut sha256 = Sha256::new();
    sha256.update(b"farrier partition\0");
    sha256.update(number.to_le_bytes());
    sha256.update(seed);
    let digest = sha256.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}
