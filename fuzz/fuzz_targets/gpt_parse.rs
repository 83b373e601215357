//! What is read from disks and images: partition tables and superblocks. No input may panic.
//!
//! The modules are taken by path: as a dependency, `disk` would bring an HTTP client and five decoders along.

#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../disk/src/filesystem/detect.rs"]
mod detect;
#[path = "../../disk/src/mbr.rs"]
mod mbr;
#[path = "../../disk/src/gpt/parse.rs"]
mod parse;

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    // With the checksums made right, so that what lies behind them is reached.
    for sector in [512, 4096] {
        let mut forged = bytes.to_vec();
        if seal(&mut forged, sector).is_some() {
            look(&forged);
        }
    }
    let _ = detect::detect(bytes);
    let primary = mbr::parse(bytes).unwrap_or_default();
    let read = |sector: u64| {
        let from = usize::try_from(sector).ok().and_then(|sector| sector.checked_mul(512));
        let sector = from.and_then(|from| bytes.get(from..)).and_then(|rest| rest.first_chunk::<512>());
        sector.copied().ok_or_else(|| std::io::Error::other("beyond the end"))
    };
    let _ = mbr::logical(&primary, read);
});

fn look(bytes: &[u8]) {
    if let Some(table) = parse::find(bytes) {
        assert!(table.disk_bytes() > table.partitions_end_bytes() || table.entries.is_empty());
        let _ = table.entries.iter().filter(|entry| entry.is_linux()).count();
    }
}

fn seal(bytes: &mut [u8], sector: usize) -> Option<()> {
    let header = bytes.get(sector..sector + 92)?;
    let lba = u64::from_le_bytes(header.get(72..80)?.try_into().ok()?);
    let count = u32::from_le_bytes(header.get(80..84)?.try_into().ok()?);
    let from = usize::try_from(lba).ok()?.checked_mul(sector)?;
    let entries = crc32(bytes.get(from..from.checked_add(usize::try_from(count).ok()?.checked_mul(128)?)?)?);
    let header = bytes.get_mut(sector..sector + 92)?;
    header[88..92].copy_from_slice(&entries.to_le_bytes());
    header[16..20].fill(0);
    let sum = crc32(header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    Some(())
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
