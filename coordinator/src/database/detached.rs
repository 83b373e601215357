//! Values that are too large for their commit. They are written before it, in pieces, and its row names them.
//!
//! ```text
//! workflow/<id>                     {"detached":{"sha256":"<digest>","bytes":2100000}}
//! detached/<id>/<digest>/<piece:05> what the row would have, [`PIECE_BYTES`] a piece
//! ```
//!
//! Pieces belong to one version of one row: the digest is over key and value. They go when the row is written again, or
//! with the workflow. So a commit is never larger than a store takes, whatever the workflow has in it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{Commit, Digest, KeyValue, Operation, Snapshot, Store, StoreError};

use super::{Batch, View, after};
use crate::error::Error;
use crate::steps::Limits;

/// Bytes of a piece.
const PIECE_BYTES: usize = 512 << 10;
/// Values up to this size stay in their rows. A commit of as many operations as may be fits with all others in pieces.
pub const IN_ROW_BYTES: usize = 4 << 10;
/// Kinds of rows that belong to the workflow whose id follows.
const OF_WORKFLOWS: [&str; 7] = [
    "event",
    "execution",
    "items",
    "outbox",
    "workflow",
    "workflow-definition",
    "workflow-text",
];

/// What a row has in place of its value.
#[derive(Serialize, Deserialize)]
struct Instead {
    detached: Pieces,
}

#[derive(Serialize, Deserialize)]
struct Pieces {
    sha256: Digest,
    bytes: usize,
}

/// Below which all pieces are.
pub const PREFIX: &str = "detached/";

/// Where the pieces of a workflow's rows are.
pub fn below(id: &str) -> String {
    format!("{PREFIX}{id}/")
}

/// The first key after those of a workflow.
pub fn behind(id: &str) -> String {
    after(&below(id))
}

/// The first workflow with pieces whose keys are at least `from`.
pub fn workflow_from(view: &View, from: &str) -> Result<Option<String>, Error> {
    let first = view.rows.range(from.as_bytes(), after(PREFIX).as_bytes(), 1)?;
    let key = first.first().map(|row| super::tail(row, PREFIX));
    Ok(key.map(|key| key.split('/').next().unwrap_or_default().to_owned()))
}

/// Takes the largest values out of `commit` until it has no more bytes than `limits` say; gives what is to be durable
/// before it.
///
/// Values up to `in_row_bytes` stay, and those that are no workflow's.
pub fn detach(store: &dyn Store, commit: &mut Commit, limits: &Limits) -> Result<Vec<Commit>, StoreError> {
    let in_row = limits.in_row_bytes;
    let mut first = Vec::new();
    let mut old = written_before(store, commit, in_row)?;
    while commit.len_bytes() > limits.commit_bytes {
        let values = commit.operations.iter_mut();
        let largest = values.filter_map(|operation| match operation {
            Operation::Put { key, value } if value.len() > in_row => {
                let (_, id) = of_workflow(key)?;
                Some((id.to_owned(), key, value))
            }
            _ => None,
        });
        let Some((id, key, value)) = largest.max_by_key(|(_, _, value)| value.len()) else {
            break;
        };
        let pieces = Pieces {
            sha256: Digest::of(&[key, &b"\0"[..], value].concat()),
            bytes: value.len(),
        };
        for (n, piece) in value.chunks(PIECE_BYTES).enumerate() {
            let mut batch = Batch::default();
            batch.put_as_it_is(pieces.key(&id, n).into(), value.slice_ref(piece));
            first.push(batch.into_commit());
        }
        old.remove(&pieces.prefix(&id));
        let named = serde_json::to_vec(&Instead { detached: pieces });
        *value = named.expect("a digest and a number").into();
    }
    // Without room for it they go with the workflow.
    let most = limits.commit_operations;
    let room = most.saturating_sub(commit.operations.len());
    for prefix in old.into_iter().take(room) {
        let (from, to) = (prefix.clone().into(), after(&prefix).into());
        commit.operations.push(Operation::DeleteRange { from, to });
    }
    Ok(first)
}

/// Where the pieces of values are that the commit replaces. A value that has become small leaves them to the workflow's
/// end: rows are not read for that.
fn written_before(store: &dyn Store, commit: &Commit, in_row: usize) -> Result<BTreeSet<String>, StoreError> {
    let mut old = BTreeSet::new();
    for operation in &commit.operations {
        let Operation::Put { key, value } = operation else {
            continue;
        };
        let Some((kind, id)) = of_workflow(key).filter(|_| value.len() > in_row) else {
            continue;
        };
        if kind != "event" {
            let before = store.get(key)?.and_then(|before| named(&before.value));
            old.extend(before.map(|before| before.prefix(id)));
        }
    }
    Ok(old)
}

/// A row with its value, wherever that is.
///
/// # Errors
/// When the snapshot that the row is of cannot be read, or does not have all pieces.
pub fn whole(rows: &dyn Snapshot, row: KeyValue) -> Result<KeyValue, StoreError> {
    let mut row = row;
    let Some((pieces, (_, id))) = named(&row.value).zip(of_workflow(&row.key)) else {
        return Ok(row);
    };
    let Some(value) = pieces.read(rows, id)? else {
        return Err(StoreError::Backend {
            message: format!(
                "pieces of the value of {} are missing; see `farrier store check`",
                String::from_utf8_lossy(&row.key)
            ),
            source: None,
        });
    };
    row.value = value.into();
    Ok(row)
}

/// The keys that have the value of a row; none: it has it itself.
pub fn pieces_of(row: &KeyValue) -> Vec<Bytes> {
    let Some((pieces, (_, id))) = named(&row.value).zip(of_workflow(&row.key)) else {
        return Vec::new();
    };
    pieces.keys(id).map(Bytes::from).collect()
}

impl Pieces {
    fn prefix(&self, id: &str) -> String {
        format!("{}{}/", below(id), self.sha256)
    }

    fn key(&self, id: &str, n: usize) -> String {
        format!("{}{n:05}", self.prefix(id))
    }

    fn keys(&self, id: &str) -> impl Iterator<Item = String> {
        (0..self.bytes.div_ceil(PIECE_BYTES)).map(move |n| self.key(id, n))
    }

    fn read(&self, rows: &dyn Snapshot, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut value = Vec::new();
        for key in self.keys(id) {
            let Some(piece) = rows.get(key.as_bytes())? else {
                return Ok(None);
            };
            value.extend_from_slice(&piece.value);
        }
        Ok((value.len() == self.bytes).then_some(value))
    }
}

fn named(value: &[u8]) -> Option<Pieces> {
    if !value.starts_with(b"{\"detached\":") {
        return None;
    }
    let instead: Instead = serde_json::from_slice(value).ok()?;
    Some(instead.detached)
}

/// The kind of a row, and the id of the workflow that it is of.
fn of_workflow(key: &[u8]) -> Option<(&str, &str)> {
    let key = std::str::from_utf8(key).ok()?;
    let (kind, rest) = key.split_once('/')?;
    let id = rest.split_once('/').map_or(rest, |(id, _)| id);
    OF_WORKFLOWS.contains(&kind).then_some((kind, id))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::{BetweenReads, MAX_COMMIT_BYTES, MemoryStore};

    use super::*;

    const MOST: usize = 10_000;

    fn commit(rows: &[(&str, &str)]) -> Commit {
        let mut batch = Batch::default();
        for (key, value) in rows {
            batch.put(*key, value);
        }
        batch.into_commit()
    }

    fn limits(commit_bytes: usize) -> Limits {
        Limits {
            commit_bytes,
            ..Limits::default()
        }
    }

    fn put(store: &Arc<dyn Store>, rows: &[(&str, &str)], most: usize) -> usize {
        let mut commit = commit(rows);
        let first = detach(&**store, &mut commit, &limits(most)).unwrap();
        for piece in &first {
            store.commit(piece).unwrap();
        }
        store.commit(&commit).unwrap();
        assert!(commit.len_bytes() <= most);
        first.len()
    }

    fn pieces(store: &Arc<dyn Store>) -> usize {
        store.range(b"detached/", b"detached0", 1_000).unwrap().len()
    }

    fn store() -> Arc<dyn Store> {
        Arc::new(MemoryStore::default())
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let store = store();
        assert_eq!(put(&store, &[("workflow/w", &"x".repeat(MOST - 20))], MOST), 0);
        let row = store.get(b"workflow/w").unwrap().unwrap();
        assert_eq!(row.value.len(), MOST - 18);
        assert_eq!(whole(&*store.snapshot().unwrap(), row.clone()).unwrap(), row);
    }

    #[test]
    fn the_largest_go_and_are_read_as_before() {
        let store = store();
        let (large, larger, small) = (
            "l".repeat(5_000),
            "m".repeat(3 * MAX_COMMIT_BYTES),
            "s".repeat(3_000),
        );
        let rows = [
            ("event/w/1", &*large),
            ("event/w/2", &*larger),
            ("event/w/3", &*small),
            ("execution/w/1", &*large),
        ];
        // Ten pieces of the largest, and one of one of the two next.
        assert_eq!(put(&store, &rows, MOST), 11);
        assert_eq!(pieces(&store), 11);
        let view = View::now(&*store).unwrap();
        for (key, value) in rows {
            assert_eq!(view.get::<String>(key).unwrap().unwrap().value, value);
        }
        let events = view.list::<String>("event/w/").unwrap();
        let texts: Vec<&str> = events.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, [&*large, &*larger, &*small]);
        let page = view.page::<String>("event/w/", "event/w/2", 1).unwrap();
        assert_eq!(page, [("2".to_owned(), larger.clone())]);
        let from = view.from::<String>("event/w/", "event/w/2").unwrap();
        assert_eq!(from.len(), 2);
    }

    #[test]
    fn a_row_that_is_written_again_takes_its_pieces_with_it() {
        let store = store();
        let (one, other) = ("1".repeat(20_000), "2".repeat(20_000));
        put(&store, &[("workflow/w", &one), ("workflow/v", &one)], MOST);
        assert_eq!(pieces(&store), 2);
        put(&store, &[("workflow/w", &other)], MOST);
        assert_eq!(pieces(&store), 2);
        // The same again is where it was.
        put(&store, &[("workflow/w", &other)], MOST);
        assert_eq!(pieces(&store), 2);
        let view = View::now(&*store).unwrap();
        assert_eq!(view.get::<String>("workflow/w").unwrap().unwrap().value, other);
        assert_eq!(view.get::<String>("workflow/v").unwrap().unwrap().value, one);
    }

    /// The row and its pieces are read one after another; somebody writes, and deletes, in between.
    #[test]
    fn a_row_that_changes_while_it_is_read_is_read_as_it_was() {
        let store = store();
        put(&store, &[("workflow/w", &"1".repeat(20_000))], MOST);
        let mut commit = commit(&[("workflow/w", &"2".repeat(20_000))]);
        let first = detach(&*store, &mut commit, &limits(MOST)).unwrap();
        let mut gone = Batch::default();
        gone.delete("workflow/w");
        gone.delete_below("detached/w/");
        let gone = gone.into_commit();
        let racing = BetweenReads::new(store, move |store, before| {
            match before {
                // Before the piece is read, whose row has been.
                1 => first
                    .iter()
                    .chain([&commit])
                    .try_for_each(|commit| store.commit(commit).map(drop)),
                3 => store.commit(&gone).map(drop),
                _ => Ok(()),
            }
        });
        let read = || View::now(&racing).unwrap().get::<String>("workflow/w").unwrap();
        for byte in ["1", "2"] {
            assert_eq!(read().unwrap().value, byte.repeat(20_000));
        }
        assert!(read().is_none());
    }

    #[test]
    fn a_piece_that_is_missing_is_an_error_that_names_the_row() {
        let store = store();
        put(&store, &[("workflow/w", &"1".repeat(20_000))], MOST);
        let mut batch = Batch::default();
        batch.delete_below("detached/w/");
        store.commit(&batch.into_commit()).unwrap();
        let row = store.get(b"workflow/w").unwrap().unwrap();
        let error = whole(&*store.snapshot().unwrap(), row).unwrap_err().to_string();
        assert_eq!(
            error,
            "store: pieces of the value of workflow/w are missing; see `farrier store check`"
        );
    }

    /// A commit with as many operations as may be, all as large as stays in a row.
    #[test]
    fn whatever_is_in_a_commit_it_fits() {
        let store = store();
        let value = "x".repeat(IN_ROW_BYTES * 4);
        let keys: Vec<String> = (0..store::MAX_OPERATIONS)
            .map(|n| format!("event/01a20ebe-4a9f-7538-8e12-d2eef9e3269c/{n:010}"))
            .collect();
        let rows: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), value.as_str())).collect();
        put(&store, &rows, MAX_COMMIT_BYTES);
        let mut small = commit(&rows);
        detach(&*store, &mut small, &limits(0)).unwrap();
        assert!(small.len_bytes() < MAX_COMMIT_BYTES / 10);
    }
}
