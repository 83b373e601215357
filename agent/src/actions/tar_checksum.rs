//! The checksum of an archive as it is without packing: `sha256:` and its like. Pure.

use std::io::{self, Read};

use sha2::{Digest, Sha256, Sha384, Sha512};

use super::Failure;

/// A checksum that an archive is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TarChecksum {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// Those of upstream's, which are those of its library for digests.
const ALGORITHMS: [(&str, Algorithm, usize); 3] = [
    ("sha256", Algorithm::Sha256, 64),
    ("sha384", Algorithm::Sha384, 96),
    ("sha512", Algorithm::Sha512, 128),
];

impl TarChecksum {
    /// Reads `ALGORITHM:HEX`, in letters of any size.
    ///
    /// # Errors
    /// `BadVariable`, with what is right.
    pub(super) fn parse(text: &str) -> Result<TarChecksum, Failure> {
        let lower = text.trim().to_ascii_lowercase();
        let of = |(name, algorithm, digits): (&str, Algorithm, usize)| {
            let hex = lower.strip_prefix(name)?.strip_prefix(':')?;
            let is_hex = hex.len() == digits && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex.then(|| TarChecksum {
                algorithm,
                hex: hex.to_owned(),
            })
        };
        ALGORITHMS.into_iter().find_map(of).ok_or_else(|| {
            let shown: String = text.chars().take(160).collect();
            Failure::new(
                "BadVariable",
                format!(
                    "environment variable TARFILE_CHECKSUM={shown} is none of sha256: and 64 hexadecimal digits, sha384: and 96, \
                     sha512: and 128; it is of the tar archive without its packing (gunzip < FILE | sha256sum)"
                ),
            )
        })
    }

    /// A reader that makes the checksum of what is read through it.
    pub(super) fn of<R>(&self, input: R) -> Summed<R> {
        Summed {
            input,
            state: match self.algorithm {
                Algorithm::Sha256 => State::Sha256(Sha256::new()),
                Algorithm::Sha384 => State::Sha384(Sha384::new()),
                Algorithm::Sha512 => State::Sha512(Sha512::new()),
            },
        }
    }

    /// Whether it is this one; otherwise the checksum that it is.
    pub(super) fn is_of<R>(&self, summed: Summed<R>) -> Result<(), String> {
        let actual = match summed.state {
            State::Sha256(sum) => hex(&sum.finalize()),
            State::Sha384(sum) => hex(&sum.finalize()),
            State::Sha512(sum) => hex(&sum.finalize()),
        };
        if actual == self.hex { Ok(()) } else { Err(actual) }
    }

    pub(super) fn hex(&self) -> &str {
        &self.hex
    }
}

/// See [`TarChecksum::of`].
pub(super) struct Summed<R> {
    input: R,
    state: State,
}

enum State {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(into)?;
        let bytes = into.get(..len).unwrap_or_default();
        match &mut self.state {
            State::Sha256(sum) => sum.update(bytes),
            State::Sha384(sum) => sum.update(bytes),
            State::Sha512(sum) => sum.update(bytes),
        }
        Ok(len)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_is_checked() {
        // FIPS 180-4, "abc".
        for text in [
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "SHA384:CB00753F45A35E8BB5A03D699AC65007272C32AB0EDED1631A8B605A43FF5BED8086072BA1E7CC2358BAECA134C825A7",
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ] {
            let checksum = TarChecksum::parse(text).expect("a checksum");
            for (bytes, is_right) in [("abc", true), ("abd", false)] {
                let mut summed = checksum.of(bytes.as_bytes());
                io::copy(&mut summed, &mut io::sink()).expect("read");
                assert_eq!(checksum.is_of(summed).is_ok(), is_right, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_checksum_is_refused_with_what_is() {
        for text in [
            "",
            "sha256:12",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &"a".repeat(64),
        ] {
            let said = TarChecksum::parse(text).expect_err(text).message;
            assert!(
                said.contains("TARFILE_CHECKSUM") && said.contains("sha512"),
                "{said}"
            );
        }
    }
}
