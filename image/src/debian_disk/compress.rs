//! The disk image as one zstd frame that carries its content's size and checksum.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::files::{About, FileError};

/// Compresses `raw` into `output`, telling `advanced` how many bytes went in.
pub(super) fn compress(raw: &Path, output: &Path, advanced: &mut dyn FnMut(u64)) -> Result<(), FileError> {
    let mut input = File::open(raw).about("open", raw)?;
    let len_bytes = input.metadata().about("look at", raw)?.len();
    let file = File::create(output).about("create", output)?;
    let mut encoder = encoder(file, len_bytes).about("compress", raw)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = input.read(&mut buffer).about("read", raw)?;
        let Some(bytes @ [_, ..]) = buffer.get(..read) else {
            break;
        };
        encoder.write_all(bytes).about("write", output)?;
        advanced(read as u64);
    }
    encoder
        .finish()
        .and_then(|file| file.sync_all())
        .about("write", output)
}

fn encoder(file: File, len_bytes: u64) -> io::Result<zstd::Encoder<'static, File>> {
    let mut encoder = zstd::Encoder::new(file, LEVEL)?;
    // Whoever writes the image to a disk knows before the first byte how large that disk must be.
    encoder.set_pledged_src_size(Some(len_bytes))?;
    encoder.include_contentsize(true)?;
    encoder.include_checksum(true)?;
    let workers = std::thread::available_parallelism().map_or(1, |workers| workers.get().min(MOST_WORKERS));
    encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
    Ok(encoder)
}

const LEVEL: i32 = 9;
const MOST_WORKERS: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn frame_says_how_large_its_content_is() {
        let directory = tempfile::tempdir().unwrap();
        let (raw, output) = (directory.path().join("raw"), directory.path().join("zst"));
        let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 1000) as u8).collect();
        fs::write(&raw, &content).unwrap();
        let mut seen = 0;
        compress(&raw, &output, &mut |bytes| seen += bytes).unwrap();
        let compressed = fs::read(&output).unwrap();
        assert_eq!(seen, 3_000_000);
        assert_eq!(
            zstd::zstd_safe::get_frame_content_size(&compressed).unwrap(),
            Some(3_000_000)
        );
        assert_eq!(zstd::decode_all(&compressed[..]).unwrap(), content);
    }
}
