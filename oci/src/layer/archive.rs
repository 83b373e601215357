//! A layer's archive, entry by entry: what is to be made, without making it.
//!
//! Reads ustar, GNU's and pax's form, as they come in images. The fields of a header are the tar crate's; its reader keeps
//! long names and extended headers of any size in memory, and knows sparse files of one form only, so the entries are read here.
//! Source: POSIX.1-2017, pax; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".

use std::io::{self, Read};

use tar::Header;

use super::error::{LayerError, Refusal};
use super::pax::{self, Records};
use super::sparse::{self, Piece};

const BLOCK_BYTES: usize = 512;
/// What an extended header, a long name or a map of a sparse file may take. Go's reader, which others use, has the same bound.
const HEADER_LIMIT_BYTES: u64 = 1 << 20;
/// `(uid_t) -1` says "as it is" to chown(2).
const NO_OWNER: u32 = u32::MAX;

/// Entries of an archive that comes down a stream.
pub(super) struct Archive<R> {
    input: R,
    at: u64,
    limit_bytes: u64,
    /// Of the entry that was given last: content that was not taken, and what fills its last block.
    content: u64,
    padding: u64,
    ended: bool,
}

/// What is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// As it stands in the archive.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Permissions, set-uid and its like; nothing else.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, u32),
    /// Extended attributes: names and values.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// What GNU tar says beside them, as it stands in the archive; no layer has it.
    pub(super) beside: Vec<(Beside, Vec<u8>)>,
}

/// What has a record of its own although the kernel knows it as an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    AccessList,
    DefaultAccessList,
    Label,
}

impl Beside {
    /// Source: star(5); GNU tar manual, "Extended File Attributes".
    fn of(key: &[u8]) -> Option<Beside> {
        match key {
            b"SCHILY.acl.access" => Some(Beside::AccessList),
            b"SCHILY.acl.default" => Some(Beside::DefaultAccessList),
            b"RHT.security.selinux" => Some(Beside::Label),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BlockDevice {
        major: u32,
        minor: u32,
    },
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    Directory,
    Fifo,
    /// The pieces are all that [`Archive::read`] gives, one after the other; between them are holes.
    File {
        size: u64,
        pieces: Vec<Piece>,
    },
    HardLink {
        target: Vec<u8>,
    },
    SymbolicLink {
        target: Vec<u8>,
    },
}

/// What stands before an entry and is about it.
#[derive(Default)]
struct Before {
    records: Vec<u8>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Archive<R> {
    /// `limit_bytes` is how long the archive may be, with all that stands around its entries.
    pub(super) fn new(input: R, limit_bytes: u64) -> Archive<R> {
        Archive {
            input,
            at: 0,
            limit_bytes,
            content: 0,
            padding: 0,
            ended: false,
        }
    }

    /// The next entry; content of the one before that was not taken is passed over.
    ///
    /// # Errors
    /// A damaged archive, one that is too long, and what the stream says. Nothing more is to be asked for then.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut before = Before::default();
        loop {
            self.pass_over()?;
            let Some(block) = self.header()? else {
                return Ok(None);
            };
            let header = Header::from_byte_slice(&block);
            if !checksum_holds(header) {
                return Err(self.bad("the sum of a header is wrong"));
            }
            let stored = self.number("size", &header.as_old().size)?;
            let kind = header.as_old().linkflag[0];
            match kind {
                b'g' => self.begin(stored),
                b'x' => before.records = self.small(stored)?,
                b'L' => before.long_name = Some(until_zero(&self.small(stored)?).to_vec()),
                b'K' => before.long_link = Some(until_zero(&self.small(stored)?).to_vec()),
                _ => return self.entry(header, kind, stored, before).map(Some),
            }
        }
    }

    /// The next bytes of the entry's content as it is stored; 0 at its end.
    ///
    /// # Errors
    /// An archive that ends in the middle of it, or is too long; what the stream says.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, LayerError> {
        let most = usize::try_from(self.content)
            .unwrap_or(usize::MAX)
            .min(into.len());
        let Some(into) = into.get_mut(..most).filter(|into| !into.is_empty()) else {
            return Ok(0);
        };
        let taken = self.read_some(into)?;
        if taken == 0 {
            return Err(self.bad("it ends in the middle of a file"));
        }
        self.content -= taken as u64;
        Ok(taken)
    }

    /// How many bytes of the archive were read: after [`Archive::next`], where the entry's content begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Reads what stands behind the last entry, to the stream's end: the digest is of all of it. How long the archive is, and the stream.
    ///
    /// # Errors
    /// As [`Archive::read`].
    pub(super) fn finish(mut self) -> Result<(u64, R), LayerError> {
        let mut rest = vec![0; 64 << 10];
        while self.read_some(&mut rest)? > 0 {}
        Ok((self.at, self.input))
    }

    fn entry(&mut self, header: &Header, kind: u8, stored: u64, before: Before) -> Result<Entry, LayerError> {
        let old = header.as_old();
        let mut path = before
            .long_name
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let mut target = before
            .long_link
            .unwrap_or_else(|| until_zero(&old.linkname).to_vec());
        let mut stored = stored;
        let mut owner = (self.number("uid", &old.uid)?, self.number("gid", &old.gid)?);
        let mut modified = (self.signed("mtime", &old.mtime)?, 0);
        let mut attributes = Vec::new();
        let mut beside = Vec::new();
        let mut holes = sparse::Said::default();
        for record in Records::new(&before.records) {
            let record = record.map_err(|_| self.bad("a record of a pax header is no record"))?;
            let text = |what: &str| String::from_utf8_lossy(what.as_bytes()).into_owned();
            let number = |archive: &Self| {
                let refused =
                    || archive.bad(format!("{} of a pax header is no number", shown_key(record.key)));
                pax::number(record.value).ok_or_else(refused)
            };
            // A record without a value takes back what was said before.
            match record.key {
                _ if record.value.is_empty() && !record.key.starts_with(ATTRIBUTE) => {}
                b"path" => path = record.value.to_vec(),
                b"linkpath" => target = record.value.to_vec(),
                b"size" => stored = number(self)?,
                b"uid" => owner.0 = number(self)?,
                b"gid" => owner.1 = number(self)?,
                b"mtime" => {
                    modified = pax::time(record.value)
                        .ok_or_else(|| self.bad(text("mtime of a pax header is no time")))?;
                }
                b"GNU.sparse.name" => path = record.value.to_vec(),
                key => match (key.strip_prefix(ATTRIBUTE), key.strip_prefix(b"GNU.sparse.")) {
                    (Some(name), _) => attributes.push((name.to_vec(), record.value.to_vec())),
                    (_, Some(key)) => holes.take(key, record.value).map_err(|what| self.bad(what))?,
                    _ => beside.extend(Beside::of(key).map(|what| (what, record.value.to_vec()))),
                },
            }
        }
        let owner = (self.owner("uid", owner.0)?, self.owner("gid", owner.1)?);
        let kind = match kind {
            b'0' | b'7' => self.file(stored, holes)?,
            0 if path.ends_with(b"/") => Kind::Directory,
            0 => self.file(stored, holes)?,
            b'S' => self.old_sparse(header, stored)?,
            b'1' => Kind::HardLink { target },
            b'2' => Kind::SymbolicLink { target },
            b'3' | b'4' => {
                let (major, minor) = self.device(header)?;
                match kind {
                    b'3' => Kind::CharacterDevice { major, minor },
                    _ => Kind::BlockDevice { major, minor },
                }
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let why = Refusal::UnknownKind(char::from(other));
                return Err(LayerError::hostile(&path, why));
            }
        };
        Ok(Entry {
            path,
            kind,
            mode: (self.number("mode", &old.mode)? & 0o7777) as u32,
            uid: owner.0,
            gid: owner.1,
            modified,
            attributes,
            beside,
        })
    }

    fn file(&mut self, stored: u64, said: sparse::Said) -> Result<Kind, LayerError> {
        self.begin(stored);
        let (size, pieces) = match said.form().map_err(|what| self.bad(what))? {
            None => (stored, sparse::whole(stored)),
            Some(sparse::Form::Said { size, pieces }) => (size, pieces),
            Some(sparse::Form::InContent { size }) => (size, self.map_in_content()?),
        };
        self.judge_map(size, &pieces)?;
        Ok(Kind::File { size, pieces })
    }

    /// The map that stands before a file's content: numbers in lines of their own, filled up to a block.
    fn map_in_content(&mut self) -> Result<Vec<Piece>, LayerError> {
        let mut map = sparse::Lines::default();
        loop {
            let mut block = [0; BLOCK_BYTES];
            self.fill_from_content(&mut block)?;
            if map.take(&block).map_err(|what| self.bad(what))? {
                return map.pieces().map_err(|what| self.bad(what));
            }
        }
    }

    fn fill_from_content(&mut self, into: &mut [u8]) -> Result<(), LayerError> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read(rest)? {
                0 => return Err(self.bad("the map of a sparse file is longer than its content")),
                taken => filled += taken,
            }
        }
        Ok(())
    }

    fn old_sparse(&mut self, header: &Header, stored: u64) -> Result<Kind, LayerError> {
        let gnu = header
            .as_gnu()
            .ok_or_else(|| self.bad("a sparse file of GNU tar has a header of another form"))?;
        let size = self.number("realsize", &gnu.realsize)?;
        let mut map = Vec::new();
        let mut is_extended = gnu.is_extended();
        self.take_pieces(&mut map, &gnu.sparse)?;
        while is_extended {
            let block = self
                .block()?
                .ok_or_else(|| self.bad("it ends in the middle of a sparse file's map"))?;
            let mut more = tar::GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&block);
            self.take_pieces(&mut map, more.sparse())?;
            is_extended = more.is_extended();
        }
        self.begin(stored);
        self.judge_map(size, &map)?;
        Ok(Kind::File { size, pieces: map })
    }

    fn take_pieces(&self, map: &mut Vec<Piece>, said: &[tar::GnuSparseHeader]) -> Result<(), LayerError> {
        for piece in said.iter().filter(|piece| !piece.is_empty()) {
            let piece = Piece {
                offset: self.number("offset", &piece.offset)?,
                length: self.number("numbytes", &piece.numbytes)?,
            };
            // One of no length says only where the file ends.
            if piece.length > 0 {
                map.push(piece);
            }
        }
        sparse::has_bound(map.len()).map_err(|what| self.bad(what))
    }

    /// Pieces are in order, within the file, and what is stored.
    fn judge_map(&self, size: u64, pieces: &[Piece]) -> Result<(), LayerError> {
        sparse::judge(size, self.content, pieces).map_err(|what| self.bad(what))
    }

    fn device(&self, header: &Header) -> Result<(u32, u32), LayerError> {
        let fields = match (header.as_ustar(), header.as_gnu()) {
            (Some(ustar), _) => Some((&ustar.dev_major, &ustar.dev_minor)),
            (None, Some(gnu)) => Some((&gnu.dev_major, &gnu.dev_minor)),
            (None, None) => None,
        };
        let (major, minor) =
            fields.ok_or_else(|| self.bad("a device has a header in which devices have no numbers"))?;
        let number = |name, field| {
            let number = self.number(name, field)?;
            u32::try_from(number).map_err(|_| self.bad(format!("the {name} number {number} is no device's")))
        };
        Ok((number("major", major)?, number("minor", minor)?))
    }

    fn owner(&self, name: &str, number: u64) -> Result<u32, LayerError> {
        u32::try_from(number)
            .ok()
            .filter(|id| *id != NO_OWNER)
            .ok_or_else(|| self.bad(format!("the {name} {number} is nobody's")))
    }

    /// A field of a header that is no negative number. One without digits is 0.
    fn number(&self, name: &str, field: &[u8]) -> Result<u64, LayerError> {
        let number = self.signed(name, field)?;
        u64::try_from(number).map_err(|_| self.bad(format!("the {name} {number} of a header is negative")))
    }

    fn signed(&self, name: &str, field: &[u8]) -> Result<i64, LayerError> {
        field_number(field).ok_or_else(|| {
            let field = String::from_utf8_lossy(field);
            self.bad(format!("the {name} {field:?} of a header is no number"))
        })
    }

    fn begin(&mut self, stored: u64) {
        self.content = stored;
        let over = stored % BLOCK_BYTES as u64;
        self.padding = if over == 0 { 0 } else { BLOCK_BYTES as u64 - over };
    }

    /// All of a small content.
    fn small(&mut self, stored: u64) -> Result<Vec<u8>, LayerError> {
        if stored > HEADER_LIMIT_BYTES {
            return Err(self.bad(format!(
                "an extended header has {stored} B, {HEADER_LIMIT_BYTES} B are the most"
            )));
        }
        self.begin(stored);
        let mut content = vec![0; usize::try_from(stored).unwrap_or_default()];
        self.fill_from_content(&mut content)?;
        Ok(content)
    }

    fn pass_over(&mut self) -> Result<(), LayerError> {
        if self.content == 0 && self.padding == 0 {
            return Ok(());
        }
        let mut rest = [0; 16 << 10];
        while self.read(&mut rest)? > 0 {}
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or_default();
        let mut filled = 0;
        while filled < padding {
            match self.read_some(rest.get_mut(..padding - filled).unwrap_or_default())? {
                // Who writes the last block short has written the whole content.
                0 => break,
                taken => filled += taken,
            }
        }
        Ok(())
    }

    /// The next header; none at the end: two blocks of zeros, or the end of the stream between two entries.
    fn header(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, LayerError> {
        if self.ended {
            return Ok(None);
        }
        let block = self.block()?;
        match block {
            Some(block) if block == [0; BLOCK_BYTES] => match self.block()? {
                Some(second) if second != [0; BLOCK_BYTES] => {
                    Err(self.bad("a block of zeros stands between entries"))
                }
                _ => {
                    self.ended = true;
                    Ok(None)
                }
            },
            Some(block) => Ok(Some(block)),
            None => {
                self.ended = true;
                Ok(None)
            }
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, LayerError> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_some(rest)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(self.bad("it ends in the middle of a block")),
                taken => filled += taken,
            }
        }
        Ok(Some(block))
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize, LayerError> {
        loop {
            match self.input.read(into) {
                Ok(taken) => {
                    self.at += taken as u64;
                    if self.at > self.limit_bytes {
                        return Err(LayerError::TooMuch {
                            of: "B",
                            limit: self.limit_bytes,
                            cure: "make the image smaller, or give its machines more memory",
                        });
                    }
                    return Ok(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LayerError::Transfer(error)),
            }
        }
    }

    fn bad(&self, what: impl Into<String>) -> LayerError {
        LayerError::BadArchive {
            at: self.at,
            what: what.into(),
        }
    }
}

const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// The sum of a header's bytes, its own field taken as spaces. Some old programs added bytes with a sign.
fn checksum_holds(header: &Header) -> bool {
    let field = 148..156;
    let said = field_number(&header.as_old().cksum);
    let bytes = header
        .as_bytes()
        .iter()
        .enumerate()
        .map(|(at, byte)| match field.contains(&at) {
            true => b' ',
            false => *byte,
        });
    let (unsigned, signed) = bytes.fold((0, 0), |(unsigned, signed), byte| {
        (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
    });
    said == Some(unsigned) || said == Some(signed)
}

/// Octal digits, or a binary number with a sign where the first bit is set. A field without digits is 0.
fn field_number(field: &[u8]) -> Option<i64> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            // The second bit is the number's sign.
            let is_negative = first & 0x40 != 0;
            let top = i128::from(first & 0x3f) - if is_negative { 0x40 } else { 0 };
            let number = rest.iter().try_fold(top, |number, byte| {
                number.checked_mul(256)?.checked_add(i128::from(*byte))
            })?;
            i64::try_from(number).ok()
        }
        _ => {
            let text = std::str::from_utf8(until_zero(field)).ok()?.trim();
            let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
            match text {
                "" => Some(0),
                _ => i64::from_str_radix(text, 8).ok().filter(|_| is_octal),
            }
        }
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn shown_key(key: &[u8]) -> String {
    String::from_utf8_lossy(key.get(..40).unwrap_or(key)).into_owned()
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
