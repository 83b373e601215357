//! How modules and firmware are packed: by the end of their names.

use std::io::{self, Read};

/// A module of the kernel, or a file of firmware, is never larger than this, unpacked.
const MAX_BYTES: u64 = 64 << 20;

/// Unpacks what is called `name`: `.zst`, `.xz` and `.gz` are known, and anything else is taken as it is.
///
/// # Errors
/// What cannot be unpacked, or would be larger than any module.
pub(super) fn unpack(name: &str, packed: impl Read) -> io::Result<Vec<u8>> {
    let ending = name.rsplit('.').next().unwrap_or_default();
    let unpacked: Box<dyn Read + '_> = match ending {
        "zst" => Box::new(zstd::Decoder::new(packed)?),
        "xz" => Box::new(liblzma::read::XzDecoder::new(packed)),
        "gz" => Box::new(flate2::read::GzDecoder::new(packed)),
        _ => Box::new(packed),
    };
    let mut bytes = Vec::new();
    unpacked.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_BYTES} B")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_name_says_how_it_is_packed() {
        let zst = zstd::encode_all(&b"module"[..], 1).expect("packed");
        assert_eq!(unpack("a.ko.zst", &zst[..]).expect("unpacked"), b"module");
        assert_eq!(unpack("a.ko", &b"module"[..]).expect("plain"), b"module");
        assert!(unpack("a.ko.xz", &b"module"[..]).is_err());
        let bomb = zstd::encode_all(io::repeat(0).take(MAX_BYTES + 1), 1).expect("packed");
        let error = unpack("a.ko.zst", &bomb[..]).expect_err("too large").to_string();
        assert!(error.contains("larger than"), "{error}");
    }
}
