//! Device paths: where firmware finds what it starts, as a list of nodes.
//!
//! Source: UEFI specification 2.10, section 10.3.

use std::fmt::Write;

use partitions::Guid;

/// Node headers: type, subtype, length. Section 10.3.1.
const HEADER_BYTES: usize = 4;
/// Nobody's path has more.
const MAX_NODES: usize = 64;
const MEDIA: u8 = 4;
const HARD_DRIVE: u8 = 1;
const FILE_PATH: u8 = 4;
const MESSAGING: u8 = 3;
const END: u8 = 0x7f;
const END_ENTIRE: u8 = 0xff;
const HARD_DRIVE_BYTES: usize = 42;
/// Of a hard drive node: its table is a GPT, and so it has a GUID.
const FORMAT_GPT: u8 = 2;
const SIGNATURE_GUID: u8 = 2;

/// A node of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    pub kind: u8,
    pub subkind: u8,
    /// Behind its header.
    pub data: &'a [u8],
}

/// A partition of a GPT, as firmware finds it. Section 10.3.5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardDrive {
    pub partition: u32,
    /// In sectors of the disk, as the length.
    pub start: u64,
    pub sectors: u64,
    pub guid: Guid,
}

/// The nodes of the first path in `bytes`, without its end; `None`: they are no path.
pub fn nodes(bytes: &[u8]) -> Option<Vec<Node<'_>>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    loop {
        let ([kind, subkind, low, high], _) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let data = rest.get(HEADER_BYTES..len)?;
        if *kind == END {
            // Another path of the same option may come behind it: it is no part of this one.
            return (*subkind == END_ENTIRE || *subkind == 1).then_some(found);
        }
        if found.len() == MAX_NODES {
            return None;
        }
        found.push(Node {
            kind: *kind,
            subkind: *subkind,
            data,
        });
        rest = rest.get(len..)?;
    }
}

/// The path of a file on a partition, which firmware looks for on all disks ("short form", section 3.1.2).
pub fn of_loader(drive: &HardDrive, file: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(HARD_DRIVE_BYTES - HEADER_BYTES);
    data.extend(drive.partition.to_le_bytes());
    data.extend(drive.start.to_le_bytes());
    data.extend(drive.sectors.to_le_bytes());
    data.extend(drive.guid.0);
    data.extend([FORMAT_GPT, SIGNATURE_GUID]);
    let mut out = node(MEDIA, HARD_DRIVE, &data);
    let name: Vec<u8> = file
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    out.extend(node(MEDIA, FILE_PATH, &name));
    out.extend(node(END, END_ENTIRE, &[]));
    out
}

fn node(kind: u8, subkind: u8, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(HEADER_BYTES + data.len()).unwrap_or(u16::MAX);
    let [low, high] = len.to_le_bytes();
    let mut out = vec![kind, subkind, low, high];
    out.extend(data);
    out
}

impl HardDrive {
    /// Of a node; `None`: it is another one, or of another table.
    pub fn of(node: &Node<'_>) -> Option<HardDrive> {
        if (node.kind, node.subkind) != (MEDIA, HARD_DRIVE)
            || node.data.len() != HARD_DRIVE_BYTES - HEADER_BYTES
        {
            return None;
        }
        let is_gpt = node.data.get(36..38) == Some(&[FORMAT_GPT, SIGNATURE_GUID]);
        let number = |at: usize| Some(u64::from_le_bytes(*node.data.get(at..)?.first_chunk()?));
        is_gpt.then_some(HardDrive {
            partition: u32::from_le_bytes(*node.data.first_chunk()?),
            start: number(4)?,
            sectors: number(12)?,
            guid: Guid(*node.data.get(20..)?.first_chunk()?),
        })
    }
}

/// The file that a node names.
pub fn file(node: &Node<'_>) -> Option<String> {
    if (node.kind, node.subkind) != (MEDIA, FILE_PATH) {
        return None;
    }
    Some(text_of(node.data))
}

/// UTF-16 up to its zero.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let units = bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// For people: partitions, files and network cards as the specification writes them, of other nodes their type, subtype and length.
///
/// Source: section 10.6.1.6.
pub fn shown(bytes: &[u8]) -> String {
    let Some(nodes) = nodes(bytes) else {
        return format!("no device path: {} B", bytes.len());
    };
    let mut out = String::new();
    for node in nodes {
        if !out.is_empty() {
            out.push('/');
        }
        let written = match (HardDrive::of(&node), file(&node)) {
            (Some(drive), _) => write!(
                out,
                "HD({},GPT,{},{:#x},{:#x})",
                drive.partition, drive.guid, drive.start, drive.sectors
            ),
            (_, Some(file)) => {
                out.extend(file.chars().map(|c| if c.is_control() { '?' } else { c }));
                Ok(())
            }
            _ => match (node.kind, node.subkind, node.data) {
                (MESSAGING, 11, [a, b, c, d, e, f, ..]) => {
                    write!(out, "MAC({a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x})")
                }
                (MESSAGING, 12, _) => write!(out, "IPv4"),
                (MESSAGING, 13, _) => write!(out, "IPv6"),
                (MESSAGING, 24, _) => write!(out, "Uri"),
                (kind, subkind, data) => write!(out, "Path({kind},{subkind},{} B)", data.len()),
            },
        };
        // Writing to a text does not fail.
        let _ = written;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive() -> HardDrive {
        HardDrive {
            partition: 1,
            start: 0x800,
            sectors: 0x10_0000,
            guid: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".parse().unwrap(),
        }
    }

    #[test]
    fn a_loader_s_path_is_read_as_it_was_written() {
        let path = of_loader(&drive(), "\\EFI\\debian\\shimx64.efi");
        // As the specification's tables have it: type, subtype, length, partition, start, size, GUID, format, kind of signature.
        let first = [
            0x04, 0x01, 0x2a, 0x00, 1, 0, 0, 0, 0x00, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0,
            0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
            2, 2,
        ];
        assert_eq!(path[..42], first);
        assert_eq!(path[42..46], [4, 4, 4 + 2 * 24, 0]);
        assert_eq!(path[path.len() - 4..], [0x7f, 0xff, 4, 0]);
        let found = nodes(&path).unwrap();
        assert_eq!(HardDrive::of(&found[0]), Some(drive()));
        assert_eq!(file(&found[1]).as_deref(), Some("\\EFI\\debian\\shimx64.efi"));
        assert_eq!(
            shown(&path),
            "HD(1,GPT,c12a7328-f81f-11d2-ba4b-00a0c93ec93b,0x800,0x100000)/\\EFI\\debian\\shimx64.efi"
        );
    }

    #[test]
    fn what_is_no_path_has_no_nodes() {
        let path = of_loader(&drive(), "\\x.efi");
        for cut in 0..path.len() {
            assert!(nodes(&path[..cut]).is_none(), "{cut}");
        }
        // A node that is shorter than its header, and a path without an end.
        assert!(nodes(&[4, 4, 3, 0, 0x7f, 0xff, 4, 0]).is_none());
        assert!(nodes(&[1, 1, 4, 0].repeat(100)).is_none());
        assert_eq!(shown(b"xyz"), "no device path: 3 B");
        let card = [
            3, 11, 10, 0, 0x52, 0x54, 0, 0x77, 0, 0x0b, 3, 12, 4, 0, 0x7f, 0xff, 4, 0,
        ];
        assert_eq!(shown(&card), "MAC(52540077000b)/IPv4");
    }
}
