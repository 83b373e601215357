//! Files that no tool makes.

use super::clusters::{Clusters, Collector};
use super::*;

const CLUSTER: u64 = 512;

/// A header of version 3 for a disk of `size_bytes` in clusters of 512 B, whose first table is at 1024.
fn header(size_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&3_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&9_u32.to_be_bytes());
    bytes[24..32].copy_from_slice(&size_bytes.to_be_bytes());
    bytes[36..40].copy_from_slice(&4_u32.to_be_bytes());
    bytes[40..48].copy_from_slice(&1024_u64.to_be_bytes());
    bytes
}

fn refused(at: usize, with: &[u8]) -> String {
    let mut bytes = header(CLUSTER);
    bytes[at..at + with.len()].copy_from_slice(with);
    Header::parse(&bytes).unwrap_err()
}

#[test]
fn a_header_that_makes_no_sense_is_refused_in_words() {
    Header::parse(&header(CLUSTER)).unwrap();
    for (at, with, word) in [
        (0, b"QED\0".as_slice(), "no qcow2 file"),
        (4, &1_u32.to_be_bytes(), "version 1"),
        (20, &8_u32.to_be_bytes(), "2^8"),
        (20, &22_u32.to_be_bytes(), "2^22"),
        (20, &[0xff; 4], "2^4294967295"),
        (24, &[0xff; 8], "does not do"),
        (24, &(5 * 64 * CLUSTER).to_be_bytes(), "does not do"),
        (36, &[0; 4], "does not do"),
        (32, &1_u32.to_be_bytes(), "AES"),
        (40, &0_u64.to_be_bytes(), "byte 0"),
        (40, &1025_u64.to_be_bytes(), "byte 1025"),
        (72, &(1_u64 << 40).to_be_bytes(), "0x10000000000"),
    ] {
        let said = refused(at, with);
        assert!(said.contains(word), "{word}: {said}");
    }
    let mut other = header(CLUSTER);
    other[79] = 8;
    other[104] = 7;
    assert!(
        Header::parse(&other)
            .unwrap_err()
            .contains("neither zlib nor zstd")
    );
    assert!(
        Header::parse(&header(CLUSTER)[..40])
            .unwrap_err()
            .contains("within its header")
    );
}

fn table(entries: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    bytes.resize(CLUSTER as usize, 0);
    bytes
}

/// The clusters of a disk of one table.
fn clusters(entries: &[u64], size_bytes: u64, file_bytes: u64) -> Result<Clusters, String> {
    let header = Header::parse(&header(size_bytes)).unwrap();
    let mut collector = Collector::new(&header, Some(file_bytes));
    let first = collector.first_level(&2048_u64.to_be_bytes())?;
    assert_eq!(first, [Some(2048)]);
    collector.second_level(Some((2048, &table(entries))))?;
    collector.finish()
}

#[test]
fn runs_are_told_as_one_and_what_is_in_no_cluster_is_a_hole() {
    let packed = 1 << 62 | 6000;
    let entries = [4096, 4608, 0, 8192 | 1, packed, 3072];
    let found = clusters(&entries, 7 * CLUSTER - 100, 1 << 20).unwrap();
    let told: Vec<_> = found
        .extents
        .iter()
        .map(|extent| (extent.at, extent.len, extent.disk_at, extent.content))
        .collect();
    assert_eq!(
        told,
        [
            (1024, 8, 0, Content::Table),
            (2048, 512, 1, Content::Table),
            (3072, 512, 5 * CLUSTER, Content::Data),
            (4096, 1024, 0, Content::Data),
            (6000, 144, 4 * CLUSTER, Content::Packed),
        ]
    );
    assert_eq!(
        found.holes,
        [2 * CLUSTER..4 * CLUSTER, 6 * CLUSTER..7 * CLUSTER - 100]
    );
}

#[test]
fn clusters_in_each_other_and_beyond_the_end_are_refused() {
    let packed = |at: u64| 1 << 62 | at;
    for (entries, word) in [
        (&[4096, 4096][..], "two clusters at byte 4096"),
        (&[4096, packed(4500)], "two clusters at byte 4500"),
        (&[packed(5000), packed(5000)], "two clusters at byte 5000"),
        (
            &[packed(5000) | 3 << 61, packed(5100)],
            "two clusters at byte 5100",
        ),
        (&[2048], "two clusters at byte 2048"),
        (&[4096 + 512 * 100_000], "not whole"),
        (&[packed((1 << 20) + 1)], "not whole"),
    ] {
        let said = clusters(entries, 2 * CLUSTER, 1 << 20).unwrap_err();
        assert!(said.contains(word), "{word}: {said}");
    }
    // Packed ones are told in whole sectors: one may begin in the last sector of the other, and the last end with the file.
    let found = clusters(&[packed(5000), packed(5100)], 2 * CLUSTER, 5110).unwrap();
    let lens: Vec<u64> = found.extents.iter().map(|extent| extent.len).collect();
    assert_eq!(lens, [8, 512, 100, 10]);
}
