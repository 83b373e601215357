//! SMBIOS tables as the firmware wrote them: memory modules and the kind of the chassis.
//!
//! Firmware writes anything, so nothing is believed: a structure that does not fit ends the table. The crate dmidecode 1.0
//! reads far more, and panics where a structure says that it is shorter than its own header.
//! Source: DMTF DSP0134 3.7, sections 6.1 (structures), 7.4 (chassis) and 7.18 (memory devices).

use proto::inventory::cleaned;
use proto::v1::MemoryModule;

/// Structures that are looked at; real tables have a few hundred.
const MAX_STRUCTURES: usize = 4096;
const HEADER_BYTES: usize = 4;
const CHASSIS: u8 = 3;
const MEMORY_DEVICE: u8 = 17;
const END: u8 = 127;

/// One structure: its formatted part, header included, and its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Structure<'a> {
    kind: u8,
    formatted: &'a [u8],
    texts: &'a [u8],
}

impl Structure<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.formatted.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        let bytes = self.formatted.get(at..)?.first_chunk()?;
        Some(u16::from_le_bytes(*bytes))
    }

    fn double_word(&self, at: usize) -> Option<u32> {
        let bytes = self.formatted.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    /// The text whose number stands at `at`; empty where there is none.
    fn text(&self, at: usize) -> String {
        let Some(number) = self.byte(at).filter(|number| *number > 0) else {
            return String::new();
        };
        let text = self.texts.split(|byte| *byte == 0).nth(usize::from(number) - 1);
        cleaned(&String::from_utf8_lossy(text.unwrap_or_default()))
    }
}

/// The structures of a table, up to its end or to the first that does not fit.
fn structures(table: &[u8]) -> impl Iterator<Item = Structure<'_>> {
    let mut rest = table;
    let next = move || {
        let (kind, len) = (*rest.first()?, usize::from(*rest.get(1)?));
        if len < HEADER_BYTES || kind == END {
            return None;
        }
        let (formatted, behind) = rest.split_at_checked(len)?;
        // Texts end with an empty one; a structure without texts has two zeros.
        let end = behind.windows(2).position(|two| two == [0, 0])?;
        let (texts, _) = behind.split_at_checked(end)?;
        rest = behind.get(end + 2..)?;
        Some(Structure {
            kind,
            formatted,
            texts,
        })
    };
    std::iter::from_fn(next).take(MAX_STRUCTURES)
}

/// The memory modules of a table: slots with something in them, in its order.
pub fn memory_modules(table: &[u8]) -> Vec<MemoryModule> {
    let devices = structures(table).filter(|one| one.kind == MEMORY_DEVICE);
    devices.filter_map(|device| module(&device)).collect()
}

fn module(device: &Structure<'_>) -> Option<MemoryModule> {
    let size_bytes = match device.word(0x0c)? {
        // Nothing in the slot, or unknown.
        0 | 0xffff => return None,
        0x7fff => u64::from(device.double_word(0x1c)? & 0x7fff_ffff) << 20,
        kib if kib & 0x8000 != 0 => u64::from(kib & 0x7fff) << 10,
        mib => u64::from(mib) << 20,
    };
    // A table may also say "none" in another unit.
    if size_bytes == 0 {
        return None;
    }
    let speed = |at, extended| match device.word(at) {
        Some(0xffff) => device
            .double_word(extended)
            .map_or(0, |speed| speed & 0x7fff_ffff),
        speed => u32::from(speed.unwrap_or(0)),
    };
    let speed_mt_per_s = match speed(0x20, 0x58) {
        0 => speed(0x15, 0x54),
        configured => configured,
    };
    Some(MemoryModule {
        slot: device.text(0x10),
        size_bytes,
        kind: memory_kind(device.byte(0x12)?).to_owned(),
        speed_mt_per_s,
        manufacturer: device.text(0x17),
        part_number: device.text(0x1a),
        serial: device.text(0x18),
    })
}

/// Table 78 of the specification: what is in use.
fn memory_kind(number: u8) -> &'static str {
    match number {
        0x03 => "DRAM",
        0x07 => "RAM",
        0x0f => "SDRAM",
        0x12 => "DDR",
        0x13 => "DDR2",
        0x14 => "DDR2 FB-DIMM",
        0x18 => "DDR3",
        0x1a => "DDR4",
        0x1b => "LPDDR",
        0x1c => "LPDDR2",
        0x1d => "LPDDR3",
        0x1e => "LPDDR4",
        0x1f => "logical non-volatile device",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        _ => "",
    }
}

/// What kind of chassis the machine is in; empty: not told.
pub fn chassis_kind(table: &[u8]) -> &'static str {
    let chassis = structures(table).find(|one| one.kind == CHASSIS);
    // The highest bit says whether there is a lock.
    match chassis.and_then(|chassis| chassis.byte(0x05)).unwrap_or(0) & 0x7f {
        0x03 => "desktop",
        0x04 => "low profile desktop",
        0x05 => "pizza box",
        0x06 => "mini tower",
        0x07 => "tower",
        0x08 => "portable",
        0x09 => "laptop",
        0x0a => "notebook",
        0x0d => "all in one",
        0x11 => "main server chassis",
        0x12 => "expansion chassis",
        0x13 => "sub chassis",
        0x16 => "RAID chassis",
        0x17 => "rack mount",
        0x19 => "multi-system chassis",
        0x1c => "blade",
        0x1d => "blade enclosure",
        0x21 => "IoT gateway",
        0x22 => "embedded PC",
        0x23 => "mini PC",
        0x24 => "stick PC",
        _ => "",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn structure(kind: u8, fields: &[(usize, &[u8])], len: u8, texts: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(len)];
        bytes[..2].copy_from_slice(&[kind, len]);
        for (at, field) in fields {
            bytes[*at..at + field.len()].copy_from_slice(field);
        }
        for text in texts {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        if texts.is_empty() {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    /// A chassis, two modules, an empty slot, and the end.
    pub(crate) fn table() -> Vec<u8> {
        let texts = ["DIMM A1", "Samsung", "S123", "M393A4K40  "];
        let numbers: [(usize, &[u8]); 4] = [(0x10, &[1]), (0x17, &[2]), (0x18, &[3]), (0x1a, &[4])];
        let module = |more: &[(usize, &[u8])], len, texts: &[&str]| {
            structure(MEMORY_DEVICE, &[&numbers, more].concat(), len, texts)
        };
        [
            structure(CHASSIS, &[(5, &[0x97])], 0x15, &["ACME"]),
            module(
                &[
                    (0x0c, &0x7fff_u16.to_le_bytes()),
                    (0x12, &[0x1a]),
                    (0x15, &3200_u16.to_le_bytes()),
                    (0x1c, &(64_u32 << 10).to_le_bytes()),
                    (0x20, &2933_u16.to_le_bytes()),
                ],
                0x28,
                &texts,
            ),
            module(&[(0x0c, &0_u16.to_le_bytes())], 0x28, &texts),
            // As SMBIOS 2.3 has them: no configured speed, nothing extended.
            module(
                &[(0x0c, &512_u16.to_le_bytes()), (0x12, &[0x07])],
                0x1b,
                &["DIMM 0"],
            ),
            structure(END, &[], 4, &[]),
            structure(MEMORY_DEVICE, &[(0x0c, &512_u16.to_le_bytes())], 0x28, &[]),
        ]
        .concat()
    }

    #[test]
    fn slots_with_something_in_them_are_modules() {
        let first = MemoryModule {
            slot: "DIMM A1".into(),
            size_bytes: 64 << 30,
            kind: "DDR4".into(),
            speed_mt_per_s: 2933,
            manufacturer: "Samsung".into(),
            part_number: "M393A4K40".into(),
            serial: "S123".into(),
        };
        let second = MemoryModule {
            slot: "DIMM 0".into(),
            size_bytes: 512 << 20,
            kind: "RAM".into(),
            ..MemoryModule::default()
        };
        assert_eq!(memory_modules(&table()), [first, second]);
        assert_eq!(chassis_kind(&table()), "rack mount");
    }

    /// Found by fuzzing: 0 KiB, and a size that stands elsewhere and is 0 there.
    #[test]
    fn a_slot_of_no_size_in_any_unit_is_empty() {
        for size in [0_u16, 0x8000, 0x7fff, 0xffff] {
            let table = structure(MEMORY_DEVICE, &[(0x0c, &size.to_le_bytes())], 0x28, &[]);
            assert_eq!(memory_modules(&table), [], "{size:#x}");
        }
    }

    #[test]
    fn a_table_that_ends_early_or_lies_gives_what_comes_before() {
        let whole = table();
        for len in 0..whole.len() {
            assert!(memory_modules(&whole[..len]).len() <= 2, "{len}");
        }
        // A structure that is shorter than its own header.
        let mut lying = structure(MEMORY_DEVICE, &[(0x0c, &512_u16.to_le_bytes())], 0x28, &[]);
        lying.extend([17, 3, 0, 0, 0, 0]);
        lying.extend(table());
        assert_eq!(memory_modules(&lying).len(), 1);
    }
}
