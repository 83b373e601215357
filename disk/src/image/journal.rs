//! How far a write has come, on the disk itself, so that a later one goes on there.
//!
//! Two slots at the beginning of what is held back of the disk's end, which is zero until an image is whole. They are written in
//! turn, each after everything that it tells of is on stable storage, so that one is always there. A slot is believed
//! only when its check is right, and that is made with a [`Subject`]: of another image, another disk or another run of a
//! workflow it never is. Nobody who wrote to the disk before the run began can have known its name, so nobody can have put a
//! slot there (decision 063).

use sha2::{Digest, Sha256};

use super::running_digest::{Midstate, RunningDigest};
use crate::gpt;

/// Of a slot; a page, which every disk has a whole number of sectors in.
pub(super) const SLOT_BYTES: usize = 4096;
pub(super) const BYTES: usize = 2 * SLOT_BYTES;

const MAGIC: [u8; 8] = *b"FARRIERJ";
const VERSION: u32 = 1;
const HELD_BYTES: usize = 64;
const FIELDS_BYTES: usize = 108 + HELD_BYTES;
const CHECKED_BYTES: usize = FIELDS_BYTES + 32;
const USED_BYTES: usize = CHECKED_BYTES + 4;

/// What the notes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject([u8; 32]);

impl Subject {
    /// Of all that has to be the same.
    pub(super) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Subject {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Subject(digest.finalize().into())
    }
}

/// A place where a write can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Counts them; the larger is the later.
    pub(super) sequence: u64,
    /// Where in the image a write goes on. All before is on the disk, but for what is held back.
    pub(super) image_at: u64,
    /// Of the file, packed as it is, before the member whose content comes there: of the very bytes that were unpacked.
    pub(super) file: RunningDigest,
    /// SHA-256 of the image before `image_at`.
    pub(super) image: [u8; 32],
}

/// Why there is nothing to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It was torn, or is damaged.
    Damaged,
    /// Nothing was noted.
    Nothing,
    /// It is of another image, server, disk or run.
    OfAnother,
    /// A later version wrote it.
    Version(u32),
}

impl Checkpoint {
    /// Which half of the journal it goes to.
    pub(super) fn offset(&self) -> u64 {
        self.sequence % 2 * SLOT_BYTES as u64
    }

    pub(super) fn encode(&self, subject: &Subject) -> Vec<u8> {
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&MAGIC);
        slot.extend_from_slice(&VERSION.to_le_bytes());
        let (whole, held) = self.file.parts();
        for number in [self.sequence, self.image_at, self.file.at(), whole.at] {
            slot.extend_from_slice(&number.to_le_bytes());
        }
        for word in whole.state {
            slot.extend_from_slice(&word.to_le_bytes());
        }
        slot.extend_from_slice(held);
        slot.resize(slot.len() + HELD_BYTES - held.len(), 0);
        slot.extend_from_slice(&self.image);
        slot.extend_from_slice(&check(&slot, subject));
        slot.extend_from_slice(&gpt::crc32(&slot).to_le_bytes());
        slot.resize(SLOT_BYTES, 0);
        slot
    }

    /// Reads a slot.
    ///
    /// # Errors
    /// [`Unusable`]; whatever the bytes are.
    pub(super) fn parse(slot: &[u8], subject: &Subject) -> Result<Checkpoint, Unusable> {
        let mut fields = Fields(slot);
        if fields.take::<8>() != Some(MAGIC) {
            return Err(Unusable::Nothing);
        }
        let damaged = || Unusable::Damaged;
        let version = u32::from_le_bytes(fields.take().ok_or_else(damaged)?);
        if version != VERSION {
            return Err(Unusable::Version(version));
        }
        let used = slot.get(..USED_BYTES).ok_or_else(damaged)?;
        let (checked, crc) = used.split_at(CHECKED_BYTES);
        if crc != gpt::crc32(checked).to_le_bytes() {
            return Err(Unusable::Damaged);
        }
        let (all, said) = checked.split_at(FIELDS_BYTES);
        if said != check(all, subject) {
            return Err(Unusable::OfAnother);
        }
        let mut number = || fields.take().map(u64::from_le_bytes).ok_or_else(damaged);
        let (sequence, image_at, file_at, whole_at) = (number()?, number()?, number()?, number()?);
        let mut state = [0; 8];
        for word in &mut state {
            *word = u32::from_le_bytes(fields.take().ok_or_else(damaged)?);
        }
        let held: [u8; HELD_BYTES] = fields.take().ok_or_else(damaged)?;
        let held = file_at
            .checked_sub(whole_at)
            .and_then(|len| held.get(..usize::try_from(len).ok()?))
            .filter(|held| held.len() < HELD_BYTES);
        let mut file = RunningDigest::from(Midstate::new(whole_at, state).ok_or_else(damaged)?);
        file.update(held.ok_or_else(damaged)?);
        Ok(Checkpoint {
            sequence,
            image_at,
            file,
            image: fields.take().ok_or_else(damaged)?,
        })
    }
}

/// The same slots with checks that are right, whatever is in their fields.
pub(super) fn sealed(slots: &[u8], subject: &Subject) -> Vec<u8> {
    let mut sealed = slots.to_vec();
    for slot in sealed.chunks_mut(SLOT_BYTES) {
        let Some(used) = slot.get_mut(..USED_BYTES) else {
            break;
        };
        let (checked, crc) = used.split_at_mut(CHECKED_BYTES);
        let (fields, said) = checked.split_at_mut(FIELDS_BYTES);
        fields[..MAGIC.len()].copy_from_slice(&MAGIC);
        fields[MAGIC.len()..][..4].copy_from_slice(&VERSION.to_le_bytes());
        said.copy_from_slice(&check(fields, subject));
        crc.copy_from_slice(&gpt::crc32(checked).to_le_bytes());
    }
    sealed
}

/// The last place that was noted.
///
/// # Errors
/// Why there is none: the better known reason of the two slots'.
pub(super) fn latest(journal: &[u8], subject: &Subject) -> Result<Checkpoint, Unusable> {
    let mut best: Result<Checkpoint, Unusable> = Err(Unusable::Nothing);
    for slot in journal.chunks(SLOT_BYTES).take(2) {
        match (Checkpoint::parse(slot, subject), &best) {
            (Ok(found), Ok(other)) if found.sequence < other.sequence => {}
            (Ok(found), _) => best = Ok(found),
            (Err(Unusable::Nothing), _) | (Err(_), Ok(_)) => {}
            (Err(why), Err(_)) => best = Err(why),
        }
    }
    best
}

fn check(fields: &[u8], subject: &Subject) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(subject.0);
    digest.update(fields);
    digest.finalize().into()
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(sequence: u64) -> Checkpoint {
        let mut file = RunningDigest::from(Midstate::new(640, [1, 2, 3, 4, 5, 6, 7, 8]).unwrap());
        file.update(b"the beginning of a block");
        Checkpoint {
            sequence,
            image_at: 9 << 20,
            file,
            image: [9; 32],
        }
    }

    fn subject(run: &str) -> Subject {
        Subject::of([b"http://images/disk".as_slice(), run.as_bytes()])
    }

    #[test]
    fn the_later_slot_counts_and_the_other_one_where_it_is_torn() {
        let of = subject("one");
        let journal = [checkpoint(4).encode(&of), checkpoint(5).encode(&of)].concat();
        assert_eq!(checkpoint(5).offset(), SLOT_BYTES as u64);
        assert_eq!(latest(&journal, &of), Ok(checkpoint(5)));
        for at in SLOT_BYTES + 8..SLOT_BYTES + USED_BYTES {
            let mut torn = journal.clone();
            torn[at] ^= 4;
            assert_eq!(latest(&torn, &of), Ok(checkpoint(4)), "{at}");
        }
        for len in 0..SLOT_BYTES + USED_BYTES {
            let last = latest(&journal[..len], &of);
            assert_ne!(last, Ok(checkpoint(5)), "{len}");
        }
    }

    #[test]
    fn what_is_of_another_run_or_image_is_told_from_what_is_damaged() {
        let slot = checkpoint(1).encode(&subject("one"));
        let read = |slot: &[u8], run| Checkpoint::parse(slot, &subject(run));
        assert_eq!(read(&slot, "one"), Ok(checkpoint(1)));
        assert_eq!(read(&slot, "two"), Err(Unusable::OfAnother));
        assert_eq!(read(&[0; SLOT_BYTES], "one"), Err(Unusable::Nothing));
        let mut damaged = slot.clone();
        damaged[30] ^= 1;
        assert_eq!(read(&damaged, "one"), Err(Unusable::Damaged));
        damaged[8] = 2;
        assert_eq!(read(&damaged, "one"), Err(Unusable::Version(2)));
        // The parts are told apart, not only what they make together.
        assert_ne!(
            Subject::of([b"ab".as_slice(), b"c"]),
            Subject::of([b"a".as_slice(), b"bc"])
        );
    }
}
