//! GUIDs as they lie in a table, and as people write them.

use std::fmt;
use std::str::FromStr;

/// A GUID in the order of bytes that it has on a disk: its first three fields are little-endian.
///
/// Source: UEFI specification 2.10, appendix A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

/// A text that is no GUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no GUID: write 32 hexadecimal digits in groups of 8-4-4-4-12")]
pub struct BadGuid(pub String);

impl Guid {
    /// Which stands for no partition type, and for no partition.
    pub const ZERO: Guid = Guid([0; 16]);

    /// From the order in which it is written to the order on a disk, and back.
    const fn swapped(b: [u8; 16]) -> [u8; 16] {
        [
            b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
            b[15],
        ]
    }

    /// The GUID that is written with these digits.
    pub(crate) const fn written(digits: u128) -> Guid {
        Guid(Self::swapped(digits.to_be_bytes()))
    }

    /// A GUID made of 16 bytes of a digest.
    ///
    /// Source: RFC 9562 section 5.8 (version 8: the bits are the maker's own).
    pub const fn of_digest(mut bytes: [u8; 16]) -> Guid {
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Guid(Self::swapped(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in Self::swapped(self.0).iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Guid {
    type Err = BadGuid;

    fn from_str(text: &str) -> Result<Guid, BadGuid> {
        let bad = || BadGuid(text.chars().take(64).collect());
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        if groups != [8, 4, 4, 4, 12] {
            return Err(bad());
        }
        let digits: String = text.split('-').collect();
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let digits = u128::from_str_radix(&digits, 16).map_err(|_| bad())?;
        Ok(Guid::written(digits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_was_read_and_its_first_fields_are_little_endian() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        let guid: Guid = text.to_uppercase().parse().unwrap();
        assert_eq!(guid.0[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(guid.to_string(), text);
        for wrong in [
            "",
            "c12a7328f81f11d2ba4b00a0c93ec93b",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93",
            "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            "ß2a7328-f81f-11d2-ba4b-00a0c93ec93b",
        ] {
            assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_of_a_digest_says_that_it_is_the_makers_own() {
        let guid = Guid::of_digest([0xff; 16]).to_string();
        assert_eq!(guid, "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }
}
