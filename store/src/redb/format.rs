//! How rows stand in the file, by version of the format.
//!
//! 2. `keys`: key to (revision, checksum, checksum of the key, value); `revision`: the number of commits, with its
//!    checksum; `format`: 2.
//! 1. `keys`: key to (revision, value); `revision`: the number of commits. Without checksums, and without `format`.
//!
//! A checksum is over key, revision and value. The engine has checksums of its pages, but looks at them only when a
//! whole file is checked; with one of its own, no row whose bits have flipped is ever read as content, whoever reads it.
//!
//! That a row is not there is to be as certain. A search that compares with a damaged key, of a row or of a page above,
//! is led astray and ends beside it. So the rows beside the place are looked at, too: whether their keys are what
//! was written (their values are nobody's business here), and on the side where they should be.

use std::ops::Bound;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use twox_hash::XxHash3_64;

use super::Failure;
use crate::{KeyValue, Revision};

/// A row's revision, its checksum, the checksum of its key, and its value.
pub(crate) type Row<'a> = (u64, u64, u32, &'a [u8]);

/// Every key with its row.
pub(crate) const KEYS: TableDefinition<&[u8], Row<'static>> = TableDefinition::new("keys");
/// One row: the number of commits so far, and its checksum.
pub(crate) const REVISION: TableDefinition<(), (u64, u64)> = TableDefinition::new("revision");
/// One row: the version of the format.
const FORMAT: TableDefinition<(), u64> = TableDefinition::new("format");
/// The version that is written.
pub(crate) const VERSION: u64 = 2;

/// The tables of version 1.
pub(crate) mod first {
    use redb::TableDefinition;

    pub(crate) const KEYS: TableDefinition<&[u8], (u64, &[u8])> = TableDefinition::new("keys");
    pub(crate) const REVISION: TableDefinition<(), u64> = TableDefinition::new("revision");
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing was ever written to it.
    Empty,
    /// Version 1: rows have no checksums.
    First,
    Current,
    /// Of a later Farrier.
    Newer(u64),
}

/// The checksum of a row: XXH3 of the value, seeded with that of the key, which is seeded with the revision.
///
/// Source: xxHash specification 0.2.0, XXH3 with 64 bits.
pub(crate) fn checksum(key: &[u8], revision: Revision, value: &[u8]) -> u64 {
    let seed = XxHash3_64::oneshot_with_seed(revision, key);
    XxHash3_64::oneshot_with_seed(seed, value)
}

/// The row that is written for this key.
pub(crate) fn to_row<'a>(key: &[u8], revision: Revision, value: &'a [u8]) -> Row<'a> {
    (revision, checksum(key, revision, value), key_checksum(key), value)
}

/// The lower half of the key's XXH3.
#[expect(
    clippy::cast_possible_truncation,
    reason = "half of it is enough to know a key by"
)]
fn key_checksum(key: &[u8]) -> u32 {
    XxHash3_64::oneshot(key) as u32
}

/// Whether a row is what was written; then the revision that wrote it.
fn verify(key: &[u8], (modified, sum, _, value): Row<'_>) -> Result<Revision, Failure> {
    if checksum(key, modified, value) == sum {
        Ok(modified)
    } else {
        Err(damaged(key))
    }
}

fn verify_key(key: &[u8], (_, _, sum, _): Row<'_>) -> Result<(), Failure> {
    if key_checksum(key) == sum {
        Ok(())
    } else {
        Err(damaged(key))
    }
}

fn damaged(key: &[u8]) -> Failure {
    Failure::Damaged {
        key: Bytes::copy_from_slice(key),
    }
}

/// A row of the file, when it is what was written.
pub(crate) fn row(key: &[u8], row: Row<'_>) -> Result<KeyValue, Failure> {
    let modified = verify(key, row)?;
    Ok(unverified(key, modified, row.3))
}

/// A row of version 1, which has no checksum.
pub(crate) fn unverified(key: &[u8], modified: Revision, value: &[u8]) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        modified,
    }
}

/// At most `limit` rows of `[from, to)`.
pub(crate) fn range(
    table: &impl ReadableTable<&'static [u8], Row<'static>>,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Result<Vec<KeyValue>, Failure> {
    verify_before(table, from)?;
    let mut found: Vec<KeyValue> = Vec::new();
    for row in table.range::<&[u8]>((Bound::Included(from), Bound::Unbounded))? {
        let (key, row) = row?;
        let (key, row) = (key.value(), row.value());
        in_order(found.last().map_or(from <= key, |last| last.key < key))?;
        if key >= to || found.len() == limit {
            // The range is over, if that is its key.
            verify_key(key, row)?;
            break;
        }
        found.push(unverified(key, verify(key, row)?, row.3));
    }
    Ok(found)
}

/// The last rows of `[from, to)`, at most `limit`, the last one first.
pub(crate) fn range_back(
    table: &impl ReadableTable<&'static [u8], Row<'static>>,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Result<Vec<KeyValue>, Failure> {
    verify_behind(table, to)?;
    let mut found: Vec<KeyValue> = Vec::new();
    for row in table
        .range::<&[u8]>((Bound::Unbounded, Bound::Excluded(to)))?
        .rev()
    {
        let (key, row) = row?;
        let (key, row) = (key.value(), row.value());
        in_order(found.last().map_or(key < to, |last| key < last.key))?;
        if key < from || found.len() == limit {
            // The range is over, if that is its key.
            verify_key(key, row)?;
            break;
        }
        found.push(unverified(key, verify(key, row)?, row.3));
    }
    Ok(found)
}

/// The row of a key.
pub(crate) fn get(
    table: &impl ReadableTable<&'static [u8], Row<'static>>,
    key: &[u8],
) -> Result<Option<KeyValue>, Failure> {
    let Some(found) = table.get(key)? else {
        verify_absent(table, key)?;
        return Ok(None);
    };
    row(key, found.value()).map(Some)
}

/// The revision that wrote the row of a key.
pub(crate) fn modified(
    table: &impl ReadableTable<&'static [u8], Row<'static>>,
    key: &[u8],
) -> Result<Option<Revision>, Failure> {
    let Some(found) = table.get(key)? else {
        verify_absent(table, key)?;
        return Ok(None);
    };
    verify(key, found.value()).map(Some)
}

/// Makes sure that a key which was not found is not there.
fn verify_absent(table: &impl ReadableTable<&'static [u8], Row<'static>>, key: &[u8]) -> Result<(), Failure> {
    verify_before(table, key)?;
    let behind = table
        .range::<&[u8]>((Bound::Included(key), Bound::Unbounded))?
        .next();
    if let Some((found, row)) = behind.transpose()? {
        verify_key(found.value(), row.value())?;
        in_order(key < found.value())?;
    }
    Ok(())
}

fn verify_before(table: &impl ReadableTable<&'static [u8], Row<'static>>, key: &[u8]) -> Result<(), Failure> {
    let before = table
        .range::<&[u8]>((Bound::Unbounded, Bound::Excluded(key)))?
        .next_back();
    if let Some((found, row)) = before.transpose()? {
        verify_key(found.value(), row.value())?;
        in_order(found.value() < key)?;
    }
    Ok(())
}

fn verify_behind(table: &impl ReadableTable<&'static [u8], Row<'static>>, key: &[u8]) -> Result<(), Failure> {
    let behind = table
        .range::<&[u8]>((Bound::Included(key), Bound::Unbounded))?
        .next();
    if let Some((found, row)) = behind.transpose()? {
        verify_key(found.value(), row.value())?;
        in_order(key <= found.value())?;
    }
    Ok(())
}

fn in_order(holds: bool) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(redb::Error::Corrupted("its keys are out of order".into()).into())
    }
}

/// What stands in the table of the revision for this one.
pub(crate) fn counter(revision: Revision) -> (u64, u64) {
    (revision, checksum(b"", revision, b""))
}

/// The revision that the table has; 0 before the first commit.
pub(crate) fn revision(table: &impl ReadableTable<(), (u64, u64)>) -> Result<Revision, Failure> {
    let Some(row) = table.get(())? else { return Ok(0) };
    let (revision, sum) = row.value();
    if counter(revision) == (revision, sum) {
        Ok(revision)
    } else {
        Err(redb::Error::Corrupted("the checksum of its revision does not match".into()).into())
    }
}

/// What the file is, without changing it.
pub(crate) fn found(database: &Database) -> Result<Found, Failure> {
    let read = database.begin_read()?;
    match read.open_table(FORMAT) {
        Ok(table) => {
            return Ok(match table.get(())?.map(|row| row.value()) {
                Some(VERSION) => {
                    read.open_table(KEYS)?;
                    read.open_table(REVISION)?;
                    Found::Current
                }
                Some(newer) if newer > VERSION => Found::Newer(newer),
                other => {
                    return Err(redb::Error::Corrupted(format!("its format is {other:?}")).into());
                }
            });
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match read.open_table(first::KEYS) {
        Ok(_) => {
            read.open_table(first::REVISION)?;
            Ok(Found::First)
        }
        Err(TableError::TableDoesNotExist(_)) => Ok(Found::Empty),
        Err(error) => Err(error.into()),
    }
}

/// Makes the tables, so that readers may open them without asking whether they are there.
pub(crate) fn create(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(FORMAT)?.insert((), VERSION)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(REVISION)?;
    Ok(())
}

/// Gives the rows of a file of version 1 their checksums. All of it happens with the transaction, or none.
pub(crate) fn upgrade(transaction: &WriteTransaction) -> Result<(), Failure> {
    const UNFINISHED: TableDefinition<&[u8], Row<'static>> = TableDefinition::new("keys of format 2");
    let revision = {
        let old = transaction.open_table(first::REVISION)?;
        old.get(())?.map_or(0, |row| row.value())
    };
    {
        let old = transaction.open_table(first::KEYS)?;
        let mut new = transaction.open_table(UNFINISHED)?;
        for row in old.iter()? {
            let (key, row) = row?;
            let (key, (modified, value)) = (key.value(), row.value());
            new.insert(key, to_row(key, modified, value))?;
        }
    }
    transaction.delete_table(first::KEYS)?;
    transaction.delete_table(first::REVISION)?;
    transaction.rename_table(UNFINISHED, KEYS)?;
    create(transaction)?;
    transaction.open_table(REVISION)?.insert((), counter(revision))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the reference implementation, as its own tests have them.
    #[test]
    fn a_checksum_is_xxh3_of_all_of_a_row() {
        // XXH3_64bits("", seed 0) and XXH3_64bits("a", seed 0).
        assert_eq!(XxHash3_64::oneshot_with_seed(0, b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(XxHash3_64::oneshot_with_seed(0, b"a"), 0xe6c6_32b6_1e96_4e1f);
        let sum = checksum(b"machine/a", 7, b"{}");
        for other in [
            checksum(b"machine/b", 7, b"{}"),
            checksum(b"machine/a", 8, b"{}"),
            checksum(b"machine/a", 7, b"{ }"),
            // Bytes that change sides.
            checksum(b"machine/a{", 7, b"}"),
        ] {
            assert_ne!(other, sum);
        }
    }

    #[test]
    fn any_flipped_bit_of_a_row_is_seen() {
        let (key, value) = (b"machine/node1", b"{\"mac\":\"52:54:00:12:34:56\"}");
        let written = to_row(key, 7, value);
        assert!(row(key, written).is_ok() && verify_key(key, written).is_ok());
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..8 * key.len() {
            assert!(row(&flipped(key, bit), written).is_err());
            assert!(verify_key(&flipped(key, bit), written).is_err());
        }
        let (modified, sum, key_sum, _) = written;
        for bit in 0..8 * value.len() {
            let value = flipped(value, bit);
            assert!(row(key, (modified, sum, key_sum, &value)).is_err());
        }
        for bit in 0..64 {
            assert!(row(key, (modified ^ (1 << bit), sum, key_sum, value)).is_err());
            assert!(row(key, (modified, sum ^ (1 << bit), key_sum, value)).is_err());
        }
    }
}
