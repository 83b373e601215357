//! Partitions as templates declare them: what is read goes onto a disk without overlap, or is refused, and what is written for
//! it is read again as it was planned.

use disk::gpt::{self, Ids};
use disk::signatures;
use partitions::{Guid, Layout, Scheme};

/// The first letter says which table, which sectors and how large the disk is; the rest is the layout as JSON.
pub(crate) fn run(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let table = if choice & 1 == 0 { "gpt" } else { "mbr" };
    let sector = if choice & 2 == 0 { 512 } else { 4096 };
    let Ok(layout) = Layout::parse(Some(table), &text) else {
        return;
    };
    let Ok(plan) = layout.plan(u64::from(*choice) * (37 << 30) + (9 << 20), sector) else {
        return;
    };
    let mut free_from = partitions::ALIGN_BYTES;
    for one in &plan.partitions {
        assert!(one.start_bytes == free_from && one.size_bytes > 0);
        free_from += one.size_bytes;
    }
    assert!(free_from <= plan.disk_bytes);
    if layout.scheme == Scheme::Gpt {
        let ids = Ids {
            disk: Guid([1; 16]),
            partitions: plan
                .partitions
                .iter()
                .map(|one| one.uuid.unwrap_or(Guid([2; 16])))
                .collect(),
        };
        let encoded = gpt::encode(&plan, &ids);
        let mut start = encoded.protective_mbr.1;
        start.resize(1 << 20, 0);
        for (at, bytes) in [&encoded.header, &encoded.entries] {
            let at = usize::try_from(*at).unwrap_or(usize::MAX);
            start[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let Ok(read) = gpt::parse(&start, sector) else {
            panic!("what was made is read again")
        };
        assert_eq!(read.entries.len(), plan.partitions.len());
        for (entry, one) in read.entries.iter().zip(&plan.partitions) {
            assert_eq!(entry.first_lba * sector, one.start_bytes);
            assert_eq!((entry.last_lba + 1) * sector, one.start_bytes + one.size_bytes);
        }
        assert_eq!(
            encoded.backup.0 + encoded.backup.1.len() as u64,
            plan.lbas() * sector
        );
    }
}

/// Signatures of what these bytes are as a device; each lies within it, and is gone when it is erased.
pub(crate) fn signatures_of(bytes: &[u8]) {
    let find = |bytes: &[u8]| {
        let read = |at: u64, len: usize| {
            let at = usize::try_from(at).map_err(std::io::Error::other)?;
            let part = bytes.get(at..).and_then(|rest| rest.get(..len));
            Ok(part
                .ok_or_else(|| std::io::Error::other("beyond the end"))?
                .to_vec())
        };
        signatures::find(bytes.len() as u64, read)
    };
    let Ok(found) = find(bytes) else {
        panic!("nothing beyond the end is read")
    };
    let mut without = bytes.to_vec();
    for one in &found {
        let (Ok(from), Ok(until)) = (usize::try_from(one.erase_from), usize::try_from(one.erase_until))
        else {
            panic!("it lies within the device")
        };
        without[from..until].fill(0);
    }
    assert!(find(&without).is_ok_and(|left| left.is_empty()), "{found:?}");
}
