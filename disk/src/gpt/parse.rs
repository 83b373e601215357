//! Reads a partition table from untrusted bytes.
//!
//! Also the gate to gptman, which panics on an entry size other than 128 and believes the number of entries.

use partitions::Guid;

/// Linux root for x86-64, as in the Discoverable Partitions Specification.
pub(super) const ROOT_X86_64: [u8; 16] = guid(
    0x4f68_bce3,
    0xe8cd,
    0x4db1,
    [0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09],
);
/// Linux root for AArch64.
pub(super) const ROOT_ARM64: [u8; 16] = guid(
    0xb921_b045,
    0x1df0,
    0x41c3,
    [0xaf, 0x44, 0x4c, 0x6f, 0x28, 0x0d, 0x3f, 0xae],
);
/// Linux filesystem data.
pub(super) const LINUX_FILESYSTEM: [u8; 16] = guid(
    0x0fc6_3daf,
    0x8483,
    0x4772,
    [0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4],
);

pub(super) const SIGNATURE: &[u8; 8] = b"EFI PART";
pub(super) const HEADER_BYTES: usize = 92;
pub(super) const ENTRY_BYTES: usize = 128;
/// The specification's minimum is 128; a table with more than 1024 is taken for garbage.
const MAX_ENTRIES: u32 = 1024;

/// A partition table whose checksums match and whose partitions lie in order within its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub sector_size: u64,
    pub disk_guid: [u8; 16],
    pub backup_lba: u64,
    pub first_usable_lba: u64,
    pub last_usable_lba: u64,
    pub entries_lba: u64,
    pub entry_count: u32,
    /// Those in use, by number.
    pub entries: Vec<Entry>,
}

/// A partition in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From 1.
    pub number: u32,
    pub type_guid: [u8; 16],
    pub unique_guid: [u8; 16],
    /// UTF-16, filled up with zeros.
    pub name: [u16; 36],
    pub first_lba: u64,
    /// Inclusive.
    pub last_lba: u64,
}

impl Table {
    /// The size of the disk that the table was made for.
    pub fn disk_bytes(&self) -> u64 {
        self.backup_lba.saturating_add(1).saturating_mul(self.sector_size)
    }

    /// Where the last partition ends.
    pub fn partitions_end_bytes(&self) -> u64 {
        let last = self
            .entries
            .iter()
            .map(|entry| entry.last_lba.saturating_add(1))
            .max();
        last.unwrap_or(self.first_usable_lba)
            .saturating_mul(self.sector_size)
    }
}

impl Entry {
    /// Whether a Linux root may be in it.
    pub fn is_linux(&self) -> bool {
        [ROOT_X86_64, ROOT_ARM64, LINUX_FILESYSTEM].contains(&self.type_guid)
    }

    /// The partition's own GUID as text, in lower case: PARTUUID.
    pub fn uuid(&self) -> String {
        Guid(self.unique_guid).to_string()
    }

    /// The partition's name: PARTLABEL; `None`: it has none.
    pub fn label(&self) -> Option<String> {
        let letters = self.name.split(|unit| *unit == 0).next()?;
        let text = String::from_utf16_lossy(letters);
        let text = text.trim_end();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// The primary table at the start of a disk or image, with sectors of 512 or 4096 bytes.
pub fn find(start: &[u8]) -> Option<Table> {
    [512, 4096]
        .into_iter()
        .find_map(|sector_size| parse(start, sector_size).ok())
}

/// Whether a header's signature stands where a disk with such sectors has its primary header.
pub fn has_signature(start: &[u8], sector_size: u64) -> bool {
    let header = usize::try_from(sector_size).ok().and_then(|at| start.get(at..));
    header.is_some_and(|header| header.starts_with(SIGNATURE))
}

/// What keeps firmware from taking the primary table: it is damaged; `None`: it is whole, or there is none.
///
/// Source: UEFI 2.10 section 5.3.2.
pub fn damage(start: &[u8], sector_size: u64) -> Option<&'static str> {
    if !has_signature(start, sector_size) {
        return None;
    }
    let bad = parse(start, sector_size).err()?;
    bad.is_damage.then_some(bad.why)
}

/// What is wrong with a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BadTable {
    pub why: &'static str,
    /// It was a table: a checksum in it does not match.
    pub is_damage: bool,
}

impl From<&'static str> for BadTable {
    fn from(why: &'static str) -> Self {
        Self {
            why,
            is_damage: false,
        }
    }
}

fn damaged(why: &'static str) -> BadTable {
    BadTable { why, is_damage: true }
}

/// Reads the primary table from the first bytes of a disk; they must hold all its entries.
///
/// # Errors
/// In words: what is wrong with it.
pub fn parse(start: &[u8], sector_size: u64) -> Result<Table, BadTable> {
    let sector = usize::try_from(sector_size).map_err(|_| "sector size out of range")?;
    let header = start
        .get(sector..)
        .and_then(|rest| rest.get(..HEADER_BYTES))
        .ok_or("too short for a header")?;
    if !header.starts_with(SIGNATURE) {
        return Err("no GPT signature".into());
    }
    if u32_at(header, 8)? != 0x0001_0000 {
        return Err("not revision 1.0".into());
    }
    if u32_at(header, 12)? as usize != HEADER_BYTES {
        return Err("header size is not 92".into());
    }
    let mut zeroed = header.to_vec();
    zeroed.splice(16..20, [0; 4]);
    if crc32(&zeroed) != u32_at(header, 16)? {
        return Err(damaged("checksum of the header does not match"));
    }
    if u64_at(header, 24)? != 1 {
        return Err("header does not say that it is the primary one".into());
    }
    let table = Table {
        sector_size,
        disk_guid: *header
            .get(56..)
            .and_then(|rest| rest.first_chunk::<16>())
            .ok_or("too short")?,
        backup_lba: u64_at(header, 32)?,
        first_usable_lba: u64_at(header, 40)?,
        last_usable_lba: u64_at(header, 48)?,
        entries_lba: u64_at(header, 72)?,
        entry_count: u32_at(header, 80)?,
        entries: Vec::new(),
    };
    if u32_at(header, 84)? as usize != ENTRY_BYTES {
        return Err("entry size is not 128".into());
    }
    if table.entry_count == 0 || table.entry_count > MAX_ENTRIES {
        return Err("number of entries out of range".into());
    }
    if table.first_usable_lba > table.last_usable_lba || table.last_usable_lba >= table.backup_lba {
        return Err("usable range is empty or beyond the backup table".into());
    }
    if table.disk_bytes() == u64::MAX {
        return Err("disk size out of range".into());
    }
    let from = table
        .entries_lba
        .checked_mul(sector_size)
        .and_then(|at| usize::try_from(at).ok());
    let bytes = from
        .and_then(|from| start.get(from..))
        .and_then(|rest| rest.get(..table.entry_count as usize * ENTRY_BYTES))
        .ok_or("entries are not within the bytes at hand")?;
    if crc32(bytes) != u32_at(header, 88)? {
        return Err(damaged("checksum of the entries does not match"));
    }
    let entries = bytes
        .chunks_exact(ENTRY_BYTES)
        .zip(1..)
        .filter_map(|(bytes, number)| entry(bytes, number));
    let table = Table {
        entries: entries.collect::<Result<_, _>>()?,
        ..table
    };
    Ok(checked(table)?)
}

fn entry(bytes: &[u8], number: u32) -> Option<Result<Entry, &'static str>> {
    let type_guid: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
    if type_guid == [0; 16] {
        return None;
    }
    let unique_guid: [u8; 16] = bytes.get(16..32)?.try_into().ok()?;
    let mut name = [0; 36];
    let units = bytes.get(56..128)?.chunks_exact(2);
    for (unit, place) in units.zip(&mut name) {
        *place = u16::from_le_bytes(unit.try_into().ok()?);
    }
    let read = || {
        Ok(Entry {
            number,
            type_guid,
            unique_guid,
            name,
            first_lba: u64_at(bytes, 32)?,
            last_lba: u64_at(bytes, 40)?,
        })
    };
    Some(read())
}

fn checked(table: Table) -> Result<Table, &'static str> {
    let mut in_order: Vec<&Entry> = table.entries.iter().collect();
    in_order.sort_by_key(|entry| entry.first_lba);
    let mut free_from = table.first_usable_lba;
    for entry in in_order {
        if entry.first_lba < free_from
            || entry.last_lba < entry.first_lba
            || entry.last_lba > table.last_usable_lba
        {
            return Err("partitions overlap or lie outside the usable range");
        }
        free_from = entry.last_lba + 1;
    }
    Ok(table)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, &'static str> {
    let four = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<4>())
        .ok_or("too short")?;
    Ok(u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, &'static str> {
    let eight = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<8>())
        .ok_or("too short")?;
    Ok(u64::from_le_bytes(*eight))
}

/// CRC-32 as in ISO 3309, four bits at a time: a table has 16 KiB.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        crc = (crc >> 4) ^ OF_FOUR_BITS[(crc & 15) as usize];
        crc = (crc >> 4) ^ OF_FOUR_BITS[(crc & 15) as usize];
    }
    !crc
}

const OF_FOUR_BITS: [u32; 16] = {
    let mut table = [0; 16];
    let mut nth = 0;
    while nth < table.len() {
        let mut crc = nth as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[nth] = crc;
        nth += 1;
    }
    table
};

/// The first three fields are little-endian on disk: UEFI appendix A.
const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7],
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start(sector: u64) -> Vec<u8> {
        let image = crate::testing::gpt_image(16 << 20, sector);
        let mut start = std::fs::read(image.path()).unwrap();
        start.truncate(1 << 20);
        start
    }

    /// Sets header bytes and makes its checksum right again, as somebody with intent would.
    fn forged(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut start = start(512);
        start[512 + at..512 + at + bytes.len()].copy_from_slice(bytes);
        start[512 + 16..512 + 20].fill(0);
        let sum = crc32(&start[512..512 + HEADER_BYTES]);
        start[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
        start
    }

    #[test]
    fn a_good_table_is_read_with_both_sector_sizes() {
        for sector in [512, 4096] {
            let table = find(&start(sector)).unwrap();
            assert_eq!((table.sector_size, table.disk_bytes()), (sector, 16 << 20));
            let entries: Vec<_> = table
                .entries
                .iter()
                .map(|entry| (entry.number, entry.is_linux()))
                .collect();
            assert_eq!(entries, [(1, false), (3, true)]);
            assert_eq!(table.partitions_end_bytes(), 15 << 20);
        }
    }

    #[test]
    fn forged_fields_are_refused_in_words() {
        for (at, bytes, word) in [
            (8, 0x0002_0000_u32.to_le_bytes().to_vec(), "revision"),
            (12, 512_u32.to_le_bytes().to_vec(), "header size"),
            (24, 9_u64.to_le_bytes().to_vec(), "primary"),
            (32, 3_u64.to_le_bytes().to_vec(), "beyond"),
            (32, u64::MAX.to_le_bytes().to_vec(), "disk size"),
            (40, u64::MAX.to_le_bytes().to_vec(), "usable range"),
            (40, 3000_u64.to_le_bytes().to_vec(), "outside the usable range"),
            (72, u64::MAX.to_le_bytes().to_vec(), "not within"),
            (72, 3_u64.to_le_bytes().to_vec(), "checksum of the entries"),
            (80, u32::MAX.to_le_bytes().to_vec(), "number of entries"),
            (80, 0_u32.to_le_bytes().to_vec(), "number of entries"),
            (84, 4096_u32.to_le_bytes().to_vec(), "entry size"),
        ] {
            let bad = parse(&forged(at, &bytes), 512).unwrap_err();
            assert!(bad.why.contains(word), "byte {at}: {bad}");
            assert_eq!(bad.is_damage, word.starts_with("checksum"), "{bad}");
        }
        assert!(parse(&start(512)[..512 + 91], 512).is_err());
        assert!(parse(&start(512), u64::MAX).is_err());
        let mut start = start(512);
        start[512 + 60] ^= 1;
        assert_eq!(
            parse(&start, 512).unwrap_err(),
            damaged("checksum of the header does not match")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..92, bytes in proptest::collection::vec(any::<u8>(), 1..16)) {
            let bytes = &bytes[..bytes.len().min(92 - at)];
            let _ = find(&forged(at, bytes));
        }
    }
}
