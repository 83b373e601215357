//! How rows stand in the file, by version of the format.
//!
//! 2. `keys`: key to (revision, checksum, value); `revision`: the number of commits, with its checksum; `format`: 2.
//! 1. `keys`: key to (revision, value); `revision`: the number of commits. Without checksums, and without `format`.
//!
//! A checksum is over key, revision and value. The engine has checksums of its pages, but looks at them only when a
//! whole file is checked; with one of its own, no row whose bits have flipped is ever read as content, whoever reads it.

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use twox_hash::XxHash3_64;

use super::Failure;
use crate::{KeyValue, Revision};

/// A row's revision, checksum and value.
pub(crate) type Row<'a> = (u64, u64, &'a [u8]);

/// Every key, with the revision that wrote it, the checksum of both and the value, and the value.
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

/// A row as it is in the file, when its checksum is right.
pub(crate) fn row(key: &[u8], (modified, sum, value): Row<'_>) -> Result<KeyValue, Failure> {
    verify(key, (modified, sum, value))?;
    Ok(unverified(key, modified, value))
}

/// A row of version 1, which has no checksum.
pub(crate) fn unverified(key: &[u8], modified: Revision, value: &[u8]) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        modified,
    }
}

/// The revision that wrote the row, when its checksum is right.
pub(crate) fn verify(key: &[u8], (modified, sum, value): Row<'_>) -> Result<Revision, Failure> {
    if checksum(key, modified, value) == sum {
        Ok(modified)
    } else {
        Err(Failure::Damaged {
            key: Bytes::copy_from_slice(key),
        })
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
            new.insert(key, (modified, checksum(key, modified, value), value))?;
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
        let sum = checksum(key, 7, value);
        assert!(row(key, (7, sum, value)).is_ok());
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..8 * key.len() {
            assert!(row(&flipped(key, bit), (7, sum, value)).is_err());
        }
        for bit in 0..8 * value.len() {
            assert!(row(key, (7, sum, &flipped(value, bit))).is_err());
        }
        for bit in 0..64 {
            assert!(row(key, (7 ^ (1 << bit), sum, value)).is_err());
            assert!(row(key, (7, sum ^ (1 << bit), value)).is_err());
        }
    }
}
