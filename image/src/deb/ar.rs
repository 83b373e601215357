//! Reads the `ar` archive that a Debian package is.
//!
//! Only what packages use: short names, padded with spaces, optionally closed by a slash.
//!
//! Source: `deb(5)`, `ar(5)`.

use std::io::{self, Read, Seek, SeekFrom, Take};

/// The archive is damaged, or is none.
#[derive(Debug, thiserror::Error)]
pub enum ArError {
    /// A member's header does not have the form it must have.
    #[error("the member header at byte {offset} is damaged")]
    BadHeader { offset: u64 },
    /// The file does not begin like an archive.
    #[error("it does not begin with the magic of an ar archive")]
    NoArchive,
    /// The file could not be read.
    #[error("it could not be read")]
    Read(#[from] io::Error),
}

/// Returns the name of the first member that is `wanted`, and a reader of its content.
///
/// A member that is cut short by the end of the file reads as its shorter content.
pub(super) fn find<R: Read + Seek>(
    mut archive: R,
    wanted: impl Fn(&str) -> bool,
) -> Result<Option<(String, Take<R>)>, ArError> {
    let mut magic = [0; MAGIC.len()];
    archive.read_exact(&mut magic).map_err(|_| ArError::NoArchive)?;
    if magic != *MAGIC {
        return Err(ArError::NoArchive);
    }
    let mut offset = MAGIC.len() as u64;
    loop {
        let mut header = Vec::new();
        archive.by_ref().take(HEADER_LEN).read_to_end(&mut header)?;
        if header.is_empty() {
            return Ok(None);
        }
        let (name, len_bytes) = parse(&header).ok_or(ArError::BadHeader { offset })?;
        if wanted(&name) {
            return Ok(Some((name, archive.take(len_bytes))));
        }
        // Contents are padded to an even length. The length has ten digits at most, so nothing overflows.
        offset += HEADER_LEN + len_bytes.next_multiple_of(2);
        archive.seek(SeekFrom::Start(offset))?;
    }
}

fn parse(header: &[u8]) -> Option<(String, u64)> {
    if header.get(58..60)? != b"`\n" {
        return None;
    }
    let name = std::str::from_utf8(header.get(..16)?)
        .ok()?
        .trim_end()
        .trim_end_matches('/');
    let len_bytes = std::str::from_utf8(header.get(48..58)?)
        .ok()?
        .trim_end()
        .parse()
        .ok()?;
    Some((name.to_string(), len_bytes))
}

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_LEN: u64 = 60;

/// An archive with these members, for tests.
#[cfg(test)]
pub(super) fn archive_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = MAGIC.to_vec();
    for (name, content) in members {
        archive.extend(
            format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                0,
                0,
                0,
                100_644,
                content.len()
            )
            .bytes(),
        );
        archive.extend(*content);
        if !content.len().is_multiple_of(2) {
            archive.push(b'\n');
        }
    }
    archive
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn find_in(archive: &[u8], name: &str) -> Result<Option<Vec<u8>>, ArError> {
        let Some((_, mut reader)) = find(Cursor::new(archive), |at| at == name)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        Ok(Some(content))
    }

    #[test]
    fn finds_members_behind_odd_ones() {
        let archive = archive_of(&[("one", b"1"), ("two/", b"22"), ("three", b"333")]);
        assert_eq!(find_in(&archive, "two").unwrap().unwrap(), b"22");
        assert_eq!(find_in(&archive, "three").unwrap().unwrap(), b"333");
        assert_eq!(find_in(&archive, "four").unwrap(), None);
    }

    #[test]
    fn damage_is_an_error_with_its_place() {
        assert!(matches!(
            find_in(b"PK\x03\x04 or so", "x").unwrap_err(),
            ArError::NoArchive
        ));
        let mut archive = archive_of(&[("one", b"1"), ("two", b"22")]);
        archive[8 + 62 + 58] = b'?';
        assert_eq!(
            find_in(&archive, "two").unwrap_err().to_string(),
            "the member header at byte 70 is damaged"
        );
    }

    #[test]
    fn no_truncation_panics() {
        let archive = archive_of(&[("one", b"1"), ("two", b"22")]);
        for len in 0..archive.len() {
            let _ = find_in(&archive[..len], "two");
        }
    }
}
