//! What a partition is for: the names that templates use, and what stands in the table.

use crate::Guid;

/// The type of a partition, as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gpt(Guid),
    Mbr(u8),
}

/// A type that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: &'static str,
    pub gpt: Guid,
    /// `None`: an MBR has no such type.
    pub mbr: Option<u8>,
}

/// Sorted by name.
///
/// Source: UEFI specification 2.10 table 5.7; the Discoverable Partitions Specification; GRUB's and LVM's manuals; for
/// MBRs the list that Linux tools share.
pub const TYPES: [Named; 20] = [
    of("bios-boot", 0x2168_6148_6449_6e6f_744e_6565_6445_4649, None),
    of("efi", 0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b, Some(0xef)),
    of("home", 0x933a_c7e1_2eb4_4f13_b844_0e14_e2ae_f915, None),
    of("linux", 0x0fc6_3daf_8483_4772_8e79_3d69_d847_7de4, Some(0x83)),
    of("luks", 0xca7d_7ccb_63ed_4c53_861c_1742_5360_59cc, Some(0xe8)),
    of("lvm", 0xe6d6_d379_f507_44c2_a23c_238f_2a3d_f928, Some(0x8e)),
    of(
        "microsoft-data",
        0xebd0_a0a2_b9e5_4433_87c0_68b6_b726_99c7,
        Some(0x07),
    ),
    of(
        "microsoft-reserved",
        0xe3c9_e316_0b5c_4db8_817d_f92d_f002_15ae,
        None,
    ),
    of("prep", 0x9e1a_2d38_c612_4316_aa26_8b49_521e_5a8b, Some(0x41)),
    of("raid", 0xa19d_880f_05fc_4d3b_a006_743f_0f84_911e, Some(0xfd)),
    of("root-arm64", 0xb921_b045_1df0_41c3_af44_4c6f_280d_3fae, None),
    of("root-x86-64", 0x4f68_bce3_e8cd_4db1_96e7_fbca_f984_b709, None),
    of("srv", 0x3b8f_8425_20e0_4f3b_907f_1a25_a76f_98e8, None),
    of("swap", 0x0657_fd6d_a4ab_43c4_84e5_0933_c84b_4f4f, Some(0x82)),
    of("tmp", 0x7ec6_f557_3bc5_4aca_b293_16ef_5df6_39d1, None),
    of("usr-arm64", 0xb0e0_1050_ee5f_4390_949a_9101_b171_04e9, None),
    of("usr-x86-64", 0x8484_680c_9521_48c6_9c11_b072_0656_f69e, None),
    of("var", 0x4d21_b016_b534_45c2_a9fb_5c16_e091_fd2d, None),
    of("xbootldr", 0xbc13_c2ff_59e6_4262_a352_b275_fd6f_7172, Some(0xea)),
    of("zfs", 0x6a89_8cc3_1dd2_11b2_99a6_0800_2073_6631, Some(0xbf)),
];

/// Types of an MBR that hold other partitions, cover a GUID partition table, or mean that there is none.
const NOT_TO_DECLARE: [u8; 5] = [0x00, 0x05, 0x0f, 0x85, 0xee];

const fn of(name: &'static str, gpt: u128, mbr: Option<u8>) -> Named {
    Named {
        name,
        gpt: Guid::written(gpt),
        mbr,
    }
}

impl Kind {
    /// A name, or the GUID itself.
    pub(crate) fn of_gpt(text: &str) -> Result<Kind, String> {
        if let Some(named) = named(text) {
            return Ok(Kind::Gpt(named.gpt));
        }
        match text.parse() {
            Ok(Guid::ZERO) => Err("type 0 means that there is no partition".to_owned()),
            Ok(guid) => Ok(Kind::Gpt(guid)),
            Err(_) => Err(format!(
                "type {text:?} is not known: it is one of {}, or a GUID",
                names(|_| true)
            )),
        }
    }

    /// A name, or the byte as `0x83`.
    pub(crate) fn of_mbr(text: &str) -> Result<Kind, String> {
        let known = || names(|named| named.mbr.is_some());
        if let Some(named) = named(text) {
            let none = || {
                format!(
                    "type {text:?} is not there in an MBR: it is one of {}, or a byte such as 0x83; or have table gpt",
                    known()
                )
            };
            return named.mbr.map(Kind::Mbr).ok_or_else(none);
        }
        let is_byte =
            |digits: &&str| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let digits = text.strip_prefix("0x").filter(is_byte);
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if NOT_TO_DECLARE.contains(&byte) => Err(format!(
                "type {text:?} is for no partition of its own: extended, protective or none"
            )),
            Some(byte) => Ok(Kind::Mbr(byte)),
            None => Err(format!(
                "type {text:?} is not known: it is one of {}, or a byte such as 0x83",
                known()
            )),
        }
    }
}

fn named(text: &str) -> Option<&'static Named> {
    TYPES.iter().find(|named| named.name == text)
}

fn names(which: impl Fn(&Named) -> bool) -> String {
    let names: Vec<&str> = TYPES
        .iter()
        .filter(|named| which(named))
        .map(|named| named.name)
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sorted_and_each_has_a_guid_of_its_own() {
        assert!(TYPES.is_sorted_by(|a, b| a.name < b.name));
        for (at, named) in TYPES.iter().enumerate() {
            assert!(TYPES.iter().skip(at + 1).all(|other| other.gpt != named.gpt));
            assert_eq!(Kind::of_gpt(named.name), Ok(Kind::Gpt(named.gpt)));
            assert_eq!(Kind::of_gpt(&named.gpt.to_string()), Ok(Kind::Gpt(named.gpt)));
        }
    }

    #[test]
    fn a_type_that_a_table_cannot_have_is_refused_with_those_that_it_can() {
        assert_eq!(Kind::of_mbr("0x0c"), Ok(Kind::Mbr(0x0c)));
        for (text, word) in [
            ("bios-boot", "have table gpt"),
            ("0x05", "extended"),
            ("0xee", "protective"),
            ("0x083", "not known"),
            ("0x+3", "not known"),
            ("83", "linux"),
        ] {
            let said = Kind::of_mbr(text).unwrap_err();
            assert!(said.contains(word), "{said}");
        }
        for (text, word) in [
            ("ext4", "one of bios-boot, efi"),
            ("0x83", "or a GUID"),
            ("00000000-0000-0000-0000-000000000000", "no partition"),
        ] {
            let said = Kind::of_gpt(text).unwrap_err();
            assert!(said.contains(word), "{said}");
        }
    }
}
