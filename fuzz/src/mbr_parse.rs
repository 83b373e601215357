//! Partition tables of BIOS disks, with chains of logical partitions that lead anywhere.

use std::io;

use disk::mbr;

pub(crate) fn run(bytes: &[u8]) {
    chain(bytes);
    // With the signature at the end of each sector, without which there is no table.
    let mut signed = bytes.to_vec();
    for sector in signed.chunks_exact_mut(512) {
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
    }
    chain(&signed);
}

fn chain(disk: &[u8]) {
    let _ = mbr::has_boot_signature(disk);
    let Some(primary) = mbr::parse(disk) else { return };
    assert!(primary.len() <= 4);
    let sectors = disk.len() / 512;
    let read = |sector: u64| {
        // A chain that leads out of these few sectors goes on in them.
        let at = usize::try_from(sector % sectors as u64).map_err(io::Error::other)? * 512;
        let sector = disk.get(at..).and_then(|rest| rest.first_chunk::<512>());
        sector.copied().ok_or_else(|| io::Error::other("beyond the end"))
    };
    for partition in mbr::logical(&primary, read).unwrap_or_default() {
        assert!(partition.number >= 5);
        let inside = primary
            .iter()
            .any(|all| all.is_extended() && partition.end_sector() <= all.end_sector());
        assert!(inside, "{partition:?}");
    }
}
