//! The power goes at every point of a write: what is on the disk then, by a record of what was written and synced.

use std::sync::Arc;
use std::sync::mpsc;

use super::super::writer::{Block, Demand, Finished, Piece, Verdict, Writer};
use super::*;
use crate::ends::Step;
use crate::gpt;
use crate::testing::gpt_image;
use crate::testing::recorder::Recorder;

const MIB: usize = 1 << 20;
const SECTOR: usize = 512;

/// In which order an image comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Forwards,
    /// Its last block first, as a qcow2 file may have them.
    Backwards,
}

/// Writes `image` over `old`; what was done, and what is there in the end.
fn recorded(old: &[u8], image: &[u8], sector_bytes: u64, order: Order) -> (Vec<Step>, Finished) {
    let (pieces, from) = mpsc::channel();
    pieces.send(Piece::Size(Some(image.len() as u64))).unwrap();
    let block = |part: &[u8]| {
        let mut block = Block::new();
        block.as_mut_slice()[..part.len()].copy_from_slice(part);
        block.truncate(part.len());
        block
    };
    match order {
        Order::Forwards => {
            for part in image.chunks(Block::BYTES) {
                pieces.send(Piece::Block(block(part))).unwrap();
            }
        }
        Order::Backwards => {
            let first = image[..image.len().min(Block::BYTES)].to_vec();
            pieces.send(Piece::Start(first)).unwrap();
            // What is placed goes over the ends of the part that is held back.
            let len = MIB * 3 / 4;
            for (number, part) in image
                .chunks(len)
                .enumerate()
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
            {
                let at = (number * len) as u64;
                let piece = match part.iter().all(|byte| *byte == 0) {
                    true => Piece::Hole(at..at + part.len() as u64),
                    false => Piece::Placed {
                        at,
                        block: block(part),
                    },
                };
                pieces.send(piece).unwrap();
            }
        }
    }
    pieces.send(Piece::End).unwrap();
    let (empties, _returned) = mpsc::channel();
    let (verdict, spoken) = mpsc::channel();
    verdict.send(Verdict::Right).unwrap();
    let mut recorder = Recorder::shown(old.to_vec(), sector_bytes);
    let demand = Demand {
        url: "http://x/y".to_owned(),
        content: Content::Disk,
        grow: Grow::LastLinux,
        verify: Verify::ReadBack,
        block_bytes: Block::BYTES,
        end_bytes: MIB as u64,
        notes: None,
        touched: Arc::default(),
        read_back: Arc::default(),
        stop: CancellationToken::new(),
    };
    let writer = Writer::new(&mut recorder, demand, Arc::default(), Arc::default());
    let finished = writer.run(&from, &empties, &spoken).unwrap().unwrap();
    (recorder.steps, finished)
}

/// An old and a new system of this size, told apart by every sector of their partitions.
pub(super) fn system(len: usize, fill: u8, sector_bytes: u64) -> Vec<u8> {
    let mut disk = std::fs::read(gpt_image(len as u64, sector_bytes).path()).unwrap();
    disk[MIB..len - MIB].fill(fill);
    // Boot code, in the first sector and in the gap behind the table.
    disk[..400].fill(fill);
    disk[64 << 10..MIB].fill(fill);
    disk
}

/// Whether firmware would find a table: the primary, or the backup at the end.
fn has_table(disk: &[u8], sector_bytes: u64) -> bool {
    let backup = &disk[disk.len() - sector_bytes as usize..];
    gpt::parse(&disk[..MIB], sector_bytes).is_ok() || backup.starts_with(b"EFI PART")
}

/// What must hold of a disk that was cut off from power.
fn check(disk: &[u8], old: &[u8], new: &[u8], sector_bytes: u64, when: &str) {
    if disk[510..512] == [0x55, 0xaa] {
        assert!(disk == old || disk == new, "{when}: it boots half a system");
    }
    if has_table(disk, sector_bytes) {
        let rest = sector_bytes as usize..;
        let data = MIB..disk.len() - MIB;
        assert!(
            disk[data.clone()] == old[data.clone()]
                || disk[rest.clone()] == new[rest]
                || disk[data.clone()] == new[data],
            "{when}: a table leads to half a system"
        );
    }
}

#[test]
fn whatever_part_of_a_write_reaches_the_disk_it_boots_a_whole_system_or_none() {
    for (sector_bytes, order) in [
        (512, Order::Forwards),
        (4096, Order::Forwards),
        (512, Order::Backwards),
        (4096, Order::Backwards),
    ] {
        let len = 5 * MIB;
        let old = system(len, 0x11, sector_bytes);
        // Smaller than the disk, so that its table is moved and its root grown.
        let image = system(4 * MIB, 0x22, sector_bytes);
        let (steps, finished) = recorded(&old, &image, sector_bytes, order);
        assert!(finished.fitted.unwrap().backup_moved);
        let new = steps.iter().fold(old.clone(), |mut disk, step| {
            apply(&mut disk, step);
            disk
        });
        assert_eq!(
            new[sector_bytes as usize * 2 + 4096..MIB],
            image[sector_bytes as usize * 2 + 4096..MIB]
        );
        assert!(has_table(&new, sector_bytes) && new[510..512] == [0x55, 0xaa]);

        let mut settled = old.clone();
        let mut checked = 0;
        for (number, group) in steps.split(|step| *step == Step::Sync).enumerate() {
            let sectors: Vec<(usize, &[u8])> = group
                .iter()
                .filter_map(|step| match step {
                    Step::Write { at, bytes } => Some((*at as usize, bytes)),
                    Step::Sync => None,
                })
                .flat_map(|(at, bytes)| {
                    let unit = sector_bytes as usize;
                    bytes
                        .chunks(unit)
                        .enumerate()
                        .map(move |(nth, part)| (at + nth * unit, part))
                })
                .collect();
            // The first sectors, and every so many of the others: alone, all before them, all but them.
            let chosen =
                (0..sectors.len()).filter(|nth| *nth < 16 || nth % 97 == 0 || nth + 16 > sectors.len());
            for nth in chosen {
                for (name, keeps) in [
                    (
                        "only",
                        Box::new(move |other| other == nth) as Box<dyn Fn(usize) -> bool>,
                    ),
                    ("up to", Box::new(move |other| other <= nth)),
                    ("all but", Box::new(move |other| other != nth)),
                ] {
                    let mut disk = settled.clone();
                    for (other, (at, part)) in sectors.iter().enumerate() {
                        if keeps(other) {
                            disk[*at..at + part.len()].copy_from_slice(part);
                        }
                    }
                    let when = format!(
                        "{order:?}, sectors of {sector_bytes} B, group {number}, {name} sector {nth}"
                    );
                    check(&disk, &old, &new, sector_bytes, &when);
                    checked += 1;
                }
            }
            for step in group {
                apply(&mut settled, step);
            }
            check(&settled, &old, &new, sector_bytes, "between");
        }
        assert!(checked > 300, "{checked}");
    }
}

#[test]
fn the_first_4_kib_are_erased_before_and_written_after_all_others_with_a_sync_between() {
    let old = system(5 * MIB, 0x11, 512);
    let (steps, _) = recorded(&old, &system(4 * MIB, 0x22, 512), 512, Order::Forwards);
    let shape: Vec<Option<(u64, usize)>> = steps
        .iter()
        .map(|step| match step {
            Step::Write { at, bytes } => Some((*at, bytes.len())),
            Step::Sync => None,
        })
        .collect();
    let (mib, page) = (MIB as u64, SECTOR * 8);
    let tail = Some((4 * mib, MIB));
    let rest = Some((page as u64, MIB - page));
    let first = Some((0, page));
    assert_eq!(
        shape[..8],
        [first, None, first, tail, None, rest, None, Some((mib, 3 * MIB))]
    );
    assert_eq!(shape[8..], [None, rest, None, tail, first, None, first, None]);
}

fn apply(disk: &mut [u8], step: &Step) {
    if let Step::Write { at, bytes } = step {
        let at = *at as usize;
        disk[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
