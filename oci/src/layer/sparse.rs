//! Where the content of a sparse file lies in it.
//!
//! Source: GNU tar manual, "Storing Sparse Files": the formats 0.0, 0.1 and 1.0 of pax headers.

use super::pax;

/// A part of a file that is stored; what is between two of them is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What the records of a pax header say of a file.
#[derive(Default)]
pub(super) struct Said {
    major: Option<u64>,
    size: Option<u64>,
    pieces: Vec<Piece>,
    /// An offset whose length comes next.
    offset: Option<u64>,
    has_map: bool,
}

/// How a file is stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The map stands before the content.
    InContent {
        size: u64,
    },
    Said {
        size: u64,
        pieces: Vec<Piece>,
    },
}

/// The map that stands before the content: how many pieces, and offset and length of each, one number in a line.
#[derive(Default)]
pub(super) struct Lines {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

/// Files that are VMs' disks have some thousands of pieces.
const LIMIT_PIECES: usize = 65_536;
/// A number of 64 bits has 20.
const LIMIT_DIGITS: usize = 20;

/// A file without holes.
pub(super) fn whole(size: u64) -> Vec<Piece> {
    match size {
        0 => Vec::new(),
        length => vec![Piece { offset: 0, length }],
    }
}

/// Whether a map may have so many pieces.
pub(super) fn has_bound(pieces: usize) -> Result<(), String> {
    match pieces {
        0..=LIMIT_PIECES => Ok(()),
        _ => Err(format!("a sparse file has more than {LIMIT_PIECES} pieces")),
    }
}

/// Whether pieces are in order, within a file of this size, and together what is stored.
pub(super) fn judge(size: u64, stored: u64, pieces: &[Piece]) -> Result<(), String> {
    if i64::try_from(size).is_err() {
        return Err(format!("a file has {size} B, which no file has"));
    }
    let (mut end, mut sum) = (0, 0_u64);
    for piece in pieces {
        let behind = piece
            .offset
            .checked_add(piece.length)
            .filter(|behind| *behind <= size);
        let behind = behind.ok_or_else(|| {
            let Piece { offset, length } = piece;
            format!("a piece of {length} B at {offset} is outside of a sparse file of {size} B")
        })?;
        if piece.offset < end {
            return Err("the pieces of a sparse file are not in order".to_owned());
        }
        end = behind;
        sum = sum.saturating_add(piece.length);
    }
    match sum == stored {
        true => Ok(()),
        false => Err(format!("a sparse file has {stored} B, and its map {sum} B")),
    }
}

impl Said {
    /// Takes a record whose key begins with `GNU.sparse.`; `key` is what comes after that.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let number = || pax::number(value).ok_or("a number of a sparse file's header is none".to_owned());
        match key {
            b"major" => self.major = Some(number()?),
            b"realsize" | b"size" => self.size = Some(number()?),
            b"offset" => self.offset = Some(number()?),
            b"numbytes" => {
                let length = number()?;
                let offset = self
                    .offset
                    .take()
                    .ok_or("a piece of a sparse file has no offset".to_owned())?;
                self.add(Piece { offset, length })?;
            }
            b"map" => self.map(value)?,
            _ => {}
        }
        Ok(())
    }

    fn map(&mut self, value: &[u8]) -> Result<(), String> {
        let mut numbers = value.split(|byte| *byte == b',').map(pax::number);
        while let Some(offset) = numbers.next() {
            match (offset, numbers.next().flatten()) {
                (Some(offset), Some(length)) => self.add(Piece { offset, length })?,
                _ => return Err("the map of a sparse file is no list of pairs of numbers".to_owned()),
            }
        }
        Ok(())
    }

    fn add(&mut self, piece: Piece) -> Result<(), String> {
        self.has_map = true;
        // One of no length says only where the file ends.
        if piece.length > 0 {
            self.pieces.push(piece);
        }
        has_bound(self.pieces.len())
    }

    /// How the file is stored; none if it has no holes.
    pub(super) fn form(self) -> Result<Option<Form>, String> {
        match (self.major, self.size, self.has_map) {
            (None | Some(0), None, false) => Ok(None),
            (None | Some(0), Some(size), _) => Ok(Some(Form::Said {
                size,
                pieces: self.pieces,
            })),
            (Some(1), Some(size), _) => Ok(Some(Form::InContent { size })),
            (Some(major), Some(_), _) if major > 1 => Err(format!(
                "a sparse file is stored in the form {major}, which nobody knows"
            )),
            _ => Err("a sparse file has no size".to_owned()),
        }
    }
}

impl Lines {
    /// Takes a block of it; whether that was the last one.
    pub(super) fn take(&mut self, block: &[u8]) -> Result<bool, String> {
        for byte in block {
            match byte {
                b'\n' => {
                    let number =
                        pax::number(&self.digits).ok_or("a line of a sparse file's map is no number")?;
                    self.digits.clear();
                    self.numbers.push(number);
                    if self.is_complete()? {
                        return Ok(true);
                    }
                }
                _ if self.digits.len() >= LIMIT_DIGITS => {
                    return Err("a line of a sparse file's map is no number".to_owned());
                }
                digit => self.digits.push(*digit),
            }
        }
        Ok(false)
    }

    fn is_complete(&self) -> Result<bool, String> {
        let Some((count, rest)) = self.numbers.split_first() else {
            return Ok(false);
        };
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        has_bound(count)?;
        Ok(rest.len() == count * 2)
    }

    pub(super) fn pieces(self) -> Result<Vec<Piece>, String> {
        let pairs = self.numbers.get(1..).unwrap_or_default().chunks_exact(2);
        let pieces = pairs.filter_map(|pair| match pair {
            // One of no length says only where the file ends.
            [_, 0] => None,
            [offset, length] => Some(Piece {
                offset: *offset,
                length: *length,
            }),
            _ => None,
        });
        Ok(pieces.collect())
    }
}
