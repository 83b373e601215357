//! All members of a packed file, one after the other, and what stands behind the last.
//!
//! Members are what gzip calls so; streams of xz and bzip2, frames of zstd and lz4 are the same thing. Zeros behind the
//! last one are padding. Anything else that does not begin as a member does is left out, as gzip(1) and bzip2(1) do,
//! and told: vendors put signatures there. What begins as a member must be one.

use std::io::{self, BufRead, Read};

use liblzma::bufread::XzDecoder;
use liblzma::stream::{MtStreamBuilder, Stream};

use super::ahead::Ahead;
use super::zstd_frame::ZstdFrame;
use super::{Compression, Limits};

/// Above this, xz decodes with fewer threads.
const XZ_THREADING_BYTES: u64 = 128 << 20;
/// Enough for every magic number, a zstd frame header (18 bytes) and a skippable frame's (8).
const HEADER_BYTES: usize = 18;

/// Reads what is packed in all members.
pub(in super::super) struct Members<'a> {
    packing: Compression,
    limits: Limits,
    at: At<'a>,
    ignored_bytes: u64,
    /// Where in the input the present member begins; behind the last one, how long the input was.
    member_at: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Part {
    Bytes(usize),
    /// Nothing but the beginning of another member, at this place of the input.
    Member(u64),
    /// The end of the input, and where that is.
    End(u64),
}

enum At<'a> {
    Member(Box<dyn Member<'a> + 'a>),
    End,
}

/// The decoder of one member; gives 0 bytes at the member's end, having checked its sums.
trait Member<'a>: Read + Send {
    fn into_input(self: Box<Self>) -> Ahead<'a>;
}

impl<'a> Members<'a> {
    /// The first member must be there.
    pub(in super::super) fn new(
        packing: Compression,
        input: Box<dyn BufRead + Send + 'a>,
        limits: Limits,
    ) -> io::Result<Members<'a>> {
        let mut members = Members {
            packing,
            limits,
            at: At::End,
            ignored_bytes: 0,
            member_at: 0,
        };
        let mut input = Ahead::new(input);
        members.skip_frames(&mut input)?;
        // Only skippable frames: an empty image.
        members.member_at = input.position();
        if !input.peek(1)?.is_empty() {
            members.at = At::Member(members.member(input)?);
        }
        Ok(members)
    }

    /// How much behind the last member was left out, zeros apart; counts after the end.
    pub(in super::super) fn ignored_bytes(&self) -> u64 {
        self.ignored_bytes
    }

    fn member(&self, mut input: Ahead<'a>) -> io::Result<Box<dyn Member<'a> + 'a>> {
        Ok(match self.packing {
            Compression::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(input)),
            Compression::Detect | Compression::None => Box::new(Raw(input)),
            Compression::Gzip => Box::new(flate2::bufread::GzDecoder::new(input)),
            Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(EndIsError(input))),
            Compression::Xz => Box::new(XzDecoder::new_stream(input, xz_stream(self.limits)?)),
            Compression::Zstd => {
                let header = input.peek(HEADER_BYTES)?.to_vec();
                Box::new(ZstdFrame::new(&header, input, self.limits)?)
            }
        })
    }

    fn next(&mut self, mut input: Ahead<'a>) -> io::Result<()> {
        self.skip_frames(&mut input)?;
        if self.packing == Compression::Xz {
            // Streams may have zeros between them: xz file format section 2.2.
            skip_zeros(&mut input)?;
        }
        let header = input.peek(HEADER_BYTES)?;
        if begins(self.packing, header) {
            self.member_at = input.position();
            self.at = At::Member(self.member(input)?);
            return Ok(());
        }
        skip_zeros(&mut input)?;
        // To the end: the digest is that of the whole file.
        self.ignored_bytes = input.skip(u64::MAX)?;
        self.member_at = input.position();
        Ok(())
    }

    /// Reads on, over the end of no member.
    pub(in super::super) fn read_part(&mut self, into: &mut [u8]) -> io::Result<Part> {
        let At::Member(member) = &mut self.at else {
            return Ok(Part::End(self.member_at));
        };
        match member.read(into)? {
            0 => {}
            len => return Ok(Part::Bytes(len)),
        }
        if let At::Member(member) = std::mem::replace(&mut self.at, At::End) {
            self.next(member.into_input())?;
        }
        Ok(match self.at {
            At::Member(_) => Part::Member(self.member_at),
            At::End => Part::End(self.member_at),
        })
    }

    /// Skippable frames, which zstd and lz4 share: RFC 8878 section 3.1.2.
    fn skip_frames(&self, input: &mut Ahead<'a>) -> io::Result<()> {
        if !matches!(self.packing, Compression::Lz4 | Compression::Zstd) {
            return Ok(());
        }
        while let [0x50..=0x5f, 0x2a, 0x4d, 0x18, rest @ ..] = input.peek(HEADER_BYTES)? {
            let Some(len) = rest.first_chunk::<4>() else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let len = 8 + u64::from(u32::from_le_bytes(*len));
            if input.skip(len)? < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

impl Read for Members<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read_part(into)? {
                Part::Bytes(len) => return Ok(len),
                Part::Member(_) => {}
                Part::End(_) => return Ok(0),
            }
        }
    }
}

/// Whether another member begins here; also if the input ends in the middle of its first bytes.
fn begins(packing: Compression, header: &[u8]) -> bool {
    let magic: &[u8] = match packing {
        // What is behind it, the method and the flags, is judged as part of a member.
        Compression::Gzip => &[0x1f, 0x8b],
        Compression::Bzip2 => b"BZh",
        Compression::Lz4 => &[0x04, 0x22, 0x4d, 0x18],
        Compression::Xz => b"\xfd7zXZ\0",
        Compression::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        Compression::Detect | Compression::None => return false,
    };
    header.starts_with(magic) || (header.len() >= 2 && magic.starts_with(header))
}

fn skip_zeros(input: &mut Ahead) -> io::Result<()> {
    loop {
        let bytes = input.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 {
            return Ok(());
        }
        input.consume(zeros);
    }
}

fn xz_stream(limits: Limits) -> io::Result<Stream> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8)) as u32;
    let mut builder = MtStreamBuilder::new();
    builder
        .threads(threads)
        .memlimit_threading(XZ_THREADING_BYTES)
        .memlimit_stop(limits.xz_bytes);
    Ok(builder.decoder()?)
}

impl<'a> Member<'a> for bzip2::bufread::BzDecoder<Ahead<'a>> {
    fn into_input(self: Box<Self>) -> Ahead<'a> {
        self.into_inner()
    }
}

impl<'a> Member<'a> for flate2::bufread::GzDecoder<Ahead<'a>> {
    fn into_input(self: Box<Self>) -> Ahead<'a> {
        self.into_inner()
    }
}

impl<'a> Member<'a> for XzDecoder<Ahead<'a>> {
    fn into_input(self: Box<Self>) -> Ahead<'a> {
        self.into_inner()
    }
}

impl<'a> Member<'a> for ZstdFrame<'a> {
    fn into_input(self: Box<Self>) -> Ahead<'a> {
        ZstdFrame::into_input(*self)
    }
}

impl<'a> Member<'a> for lz4_flex::frame::FrameDecoder<EndIsError<'a>> {
    fn into_input(self: Box<Self>) -> Ahead<'a> {
        self.into_inner().0
    }
}

/// lz4_flex's decoder takes an end of input between two blocks of a frame for the end of the frame, so the end of
/// the input is made an error that it passes on.
struct EndIsError<'a>(Ahead<'a>);

impl Read for EndIsError<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 if !into.is_empty() => Err(io::Error::other("data ends in the middle of a frame")),
            len => Ok(len),
        }
    }
}

/// What is not packed has one member, itself.
struct Raw<'a>(Ahead<'a>);

impl Read for Raw<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl<'a> Member<'a> for Raw<'a> {
    fn into_input(self: Box<Self>) -> Ahead<'a> {
        self.0
    }
}
