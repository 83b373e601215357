//! What packs a layer's archive: nothing, gzip or zstd.
//!
//! Which one it is, its first bytes say: media types of images in the field are wrong now and then.

use std::io::{self, BufRead, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// The window of `zstd --long`, 128 MiB, which is the largest that zstd(1) unpacks unasked. Images are built with 8 MiB at most.
const ZSTD_WINDOW_LOG: u32 = 27;

type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// Reads what is packed.
pub(super) enum Packing<R: BufRead> {
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Plain(Whole<R>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Whole<R>>>),
}

impl<R: BufRead> Packing<R> {
    /// # Errors
    /// What the stream says.
    pub(super) fn new(mut input: R) -> io::Result<Packing<R>> {
        let mut first = Vec::new();
        input.by_ref().take(4).read_to_end(&mut first)?;
        let (is_gzip, is_zstd) = match first.as_slice() {
            [0x1f, 0x8b, ..] => (true, false),
            // A frame, or one to be skipped: RFC 8878 section 3.1.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => (false, true),
            _ => (false, false),
        };
        let whole = Cursor::new(first).chain(input);
        if is_gzip {
            return Ok(Packing::Gzip(Box::new(MultiGzDecoder::new(whole))));
        }
        if is_zstd {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            return Ok(Packing::Zstd(Box::new(decoder)));
        }
        Ok(Packing::Plain(whole))
    }

    /// As it is called in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Packing::Gzip(_) => "gzip",
            Packing::Plain(_) => "tar",
            Packing::Zstd(_) => "zstd",
        }
    }

    /// What it reads from, with what was not taken of it.
    pub(super) fn into_inner(self) -> R {
        let whole = match self {
            Packing::Gzip(decoder) => decoder.into_inner(),
            Packing::Plain(input) => input,
            Packing::Zstd(decoder) => decoder.finish(),
        };
        whole.into_inner().1
    }
}

impl<R: BufRead> Read for Packing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Packing::Gzip(decoder) => decoder.read(into),
            Packing::Plain(input) => input.read(into),
            Packing::Zstd(decoder) => decoder.read(into),
        }
    }
}
