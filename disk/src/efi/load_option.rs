//! Load options: what a variable `Boot####` holds.
//!
//! Source: UEFI specification 2.10, section 3.1.3.

use super::device_path::{self, HardDrive};

/// Larger than any that firmware takes.
pub const MAX_BYTES: usize = 64 << 10;
const ACTIVE: u32 = 1;

/// A load option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOption {
    pub attributes: u32,
    /// Its label, which firmware shows.
    pub description: String,
    /// Device paths, of which the first is what is started.
    pub paths: Vec<u8>,
    /// What is handed to what is started.
    pub data: Vec<u8>,
}

impl LoadOption {
    /// A loader on a partition; its arguments are handed over as UTF-16.
    pub fn of_loader(label: &str, drive: &HardDrive, file: &str, arguments: &str) -> LoadOption {
        LoadOption {
            attributes: ACTIVE,
            description: label.to_owned(),
            paths: device_path::of_loader(drive, file),
            data: arguments.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        }
    }

    /// Of a variable's bytes; `None`: they are no load option, or its first path is none.
    pub fn parse(bytes: &[u8]) -> Option<LoadOption> {
        if bytes.len() > MAX_BYTES {
            return None;
        }
        let (attributes, rest) = bytes.split_first_chunk()?;
        let (paths_bytes, rest) = rest.split_first_chunk()?;
        let units = rest.as_chunks::<2>().0;
        let end = units.iter().position(|unit| *unit == [0, 0])?;
        let paths_at = (end + 1) * 2;
        let paths_end = paths_at + usize::from(u16::from_le_bytes(*paths_bytes));
        let paths = rest.get(paths_at..paths_end)?;
        device_path::nodes(paths)?;
        Some(LoadOption {
            attributes: u32::from_le_bytes(*attributes),
            description: device_path::text_of(rest),
            paths: paths.to_vec(),
            data: rest.get(paths_end..)?.to_vec(),
        })
    }

    /// The variable's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.attributes.to_le_bytes().to_vec();
        out.extend(u16::try_from(self.paths.len()).unwrap_or(u16::MAX).to_le_bytes());
        let label = self.description.encode_utf16().filter(|unit| *unit != 0);
        out.extend(label.chain([0]).flat_map(u16::to_le_bytes));
        out.extend(&self.paths);
        out.extend(&self.data);
        out
    }

    /// Whether firmware tries it.
    pub fn is_active(&self) -> bool {
        self.attributes & ACTIVE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn debian() -> LoadOption {
        let drive = HardDrive {
            partition: 1,
            start: 2048,
            sectors: 4096,
            guid: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".parse().unwrap(),
        };
        LoadOption::of_loader("débian", &drive, "\\EFI\\debian\\shimx64.efi", "quiet")
    }

    #[test]
    fn an_option_is_read_as_it_was_written() {
        let option = debian();
        let bytes = option.encode();
        assert_eq!(LoadOption::parse(&bytes), Some(option.clone()));
        assert!(option.is_active());
        // Attributes, length of the paths, label, paths, data.
        assert_eq!(bytes[..4], [1, 0, 0, 0]);
        assert_eq!(usize::from(bytes[4]), option.paths.len());
        assert_eq!(bytes[6..10], [b'd', 0, 0xe9, 0]);
        assert!(bytes.ends_with(b"q\0u\0i\0e\0t\0"));
    }

    #[test]
    fn what_is_cut_or_too_long_is_none() {
        let bytes = debian().encode();
        let whole = bytes.len() - debian().data.len();
        for cut in 0..whole {
            assert_eq!(LoadOption::parse(&bytes[..cut]), None, "{cut}");
        }
        assert!(LoadOption::parse(&bytes[..whole]).is_some());
        let mut long = bytes;
        long.resize(MAX_BYTES + 1, 0);
        assert_eq!(LoadOption::parse(&long), None);
    }
}
