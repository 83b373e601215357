//! SHA-256 whose state between two blocks can be kept and taken up again.
//!
//! Source: FIPS 180-4 sections 5.1.1 (padding), 5.3.3 (initial state) and 6.2.

use sha2::block_api::compress256;

const BLOCK_BYTES: usize = 64;
const BEGIN: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The state after a whole number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Midstate {
    /// How many bytes were digested; a multiple of 64.
    pub(super) at: u64,
    pub(super) state: [u32; 8],
}

impl Midstate {
    pub(super) const START: Midstate = Midstate { at: 0, state: BEGIN };

    /// `None`: no state is between two blocks there.
    pub(super) fn new(at: u64, state: [u32; 8]) -> Option<Midstate> {
        at.is_multiple_of(BLOCK_BYTES as u64)
            .then_some(Midstate { at, state })
    }
}

/// A digest that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunningDigest {
    whole: Midstate,
    /// What does not fill a block yet.
    held: Vec<u8>,
}

impl RunningDigest {
    /// Goes on behind what `from` has digested.
    pub(super) fn from(from: Midstate) -> RunningDigest {
        RunningDigest {
            whole: from,
            held: Vec::with_capacity(2 * BLOCK_BYTES),
        }
    }

    /// The state after all whole blocks so far, and what came behind them.
    pub(super) fn parts(&self) -> (Midstate, &[u8]) {
        (self.whole, &self.held)
    }

    /// How many bytes came.
    pub(super) fn at(&self) -> u64 {
        self.whole.at + self.held.len() as u64
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        if !self.held.is_empty() {
            let (fill, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.held.len()));
            self.held.extend_from_slice(fill);
            bytes = rest;
            if let Some(block) = self.held.first_chunk::<BLOCK_BYTES>() {
                compress256(&mut self.whole.state, &[*block]);
                self.whole.at += BLOCK_BYTES as u64;
                self.held.clear();
            }
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        compress256(&mut self.whole.state, blocks);
        self.whole.at += (blocks.len() * BLOCK_BYTES) as u64;
        self.held.extend_from_slice(rest);
    }

    /// The digest of everything.
    pub(super) fn finish(mut self) -> [u8; 32] {
        let bits = (self.whole.at + self.held.len() as u64).wrapping_mul(8);
        let mut end = std::mem::take(&mut self.held);
        end.push(0x80);
        while end.len() % BLOCK_BYTES != BLOCK_BYTES - 8 {
            end.push(0);
        }
        end.extend_from_slice(&bits.to_be_bytes());
        compress256(&mut self.whole.state, end.as_chunks::<BLOCK_BYTES>().0);
        let mut digest = [0; 32];
        for (into, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.whole.state) {
            *into = word.to_be_bytes();
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn it_is_sha_256_however_the_bytes_come_and_wherever_it_is_taken_up() {
        let bytes: Vec<u8> = (0..1000_u32).map(|nth| (nth * 7 % 251) as u8).collect();
        for len in [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 777, 1000] {
            for piece in [1, 3, 64, 100, 1000] {
                let mut digest = RunningDigest::from(Midstate::START);
                let mut taken = digest.clone();
                for (nth, part) in bytes[..len].chunks(piece).enumerate() {
                    digest.update(part);
                    if nth % 3 == 0 {
                        taken = digest.clone();
                    }
                }
                let (whole, held) = taken.parts();
                let mut again = RunningDigest::from(Midstate::new(whole.at, whole.state).unwrap());
                again.update(held);
                assert_eq!(again, taken);
                again.update(&bytes[taken.at() as usize..len]);
                let right: [u8; 32] = Sha256::digest(&bytes[..len]).into();
                assert_eq!((digest.finish(), again.finish()), (right, right), "{len} {piece}");
            }
        }
        assert_eq!(Midstate::new(63, BEGIN), None);
    }
}
