//! The form of an archive's blob: the workflow's rows as lines of JSON, in order, compressed with zstd.
//!
//! `zstd -dc` shows one. A row is as it was in the store, with the revision that wrote it. Beside them stand, as
//! `content/<digest>`, the files of the newest version of a root's ephemeral data.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use store::{KeyValue, Snapshot, StoreError};

use crate::data::versions;
use crate::steps::rows;

/// Bytes of lines in one blob: the line that reaches this is the last.
const PART_BYTES: usize = 16 << 20;
/// Of one that is read: a full part, and the longest content after it.
const MAX_PART_BYTES: u64 = 64 << 20;
/// Rows read in one go.
const PAGE: usize = 256;
const LEVEL: i32 = 3;

/// A blob to be, and the first key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    pub first: String,
    pub bytes: Vec<u8>,
}

/// Packs a workflow's rows, a blob at a time. Blocks.
pub struct Packer {
    rows: Arc<dyn Snapshot>,
    contents: VecDeque<KeyValue>,
    ranges: VecDeque<(Bytes, Bytes)>,
    read: VecDeque<KeyValue>,
}

impl Packer {
    /// Of what `rows` has of a workflow. `contents`: of its newest data, when it is a root.
    pub fn new(rows: Arc<dyn Snapshot>, id: &str, data_version: u64, contents: Vec<(String, Bytes)>) -> Self {
        let mut contents: Vec<KeyValue> = contents
            .into_iter()
            .map(|(digest, value)| KeyValue {
                key: content_key(&digest).into(),
                value,
                modified: 0,
            })
            .collect();
        contents.sort_by(|one, other| one.key.cmp(&other.key));
        contents.dedup_by(|one, other| one.key == other.key);
        Self {
            rows,
            contents: contents.into(),
            ranges: ranges(id, data_version).into(),
            read: VecDeque::new(),
        }
    }

    /// The next blob; `None` after the last.
    ///
    /// # Errors
    /// When the snapshot cannot be read, or has expired: then all parts are to be made again.
    pub fn next_part(&mut self) -> Result<Option<Packed>, StoreError> {
        let Some(row) = self.next_row()? else {
            return Ok(None);
        };
        let first = String::from_utf8_lossy(&row.key).into_owned();
        let mut lines = store::rows::to_line(&row);
        while lines.len() < PART_BYTES
            && let Some(row) = self.next_row()?
        {
            lines.extend(store::rows::to_line(&row));
        }
        let bytes = zstd::bulk::compress(&lines, LEVEL).map_err(|source| StoreError::Backend {
            message: "an archive cannot be compressed".into(),
            source: Some(Arc::new(source)),
        })?;
        Ok(Some(Packed { first, bytes }))
    }

    fn next_row(&mut self) -> Result<Option<KeyValue>, StoreError> {
        if let Some(content) = self.contents.pop_front() {
            return Ok(Some(content));
        }
        while self.read.is_empty()
            && let Some((from, to)) = self.ranges.pop_front()
        {
            let page = self.rows.range(&from, &to, PAGE)?;
            if let Some(last) = page.last().filter(|_| page.len() == PAGE) {
                // The smallest key that is larger.
                let from = [&last.key, &b"\0"[..]].concat();
                self.ranges.push_front((from.into(), to));
            }
            self.read = page.into();
        }
        Ok(self.read.pop_front())
    }
}

/// Where the rows of a workflow are, in order.
fn ranges(id: &str, data_version: u64) -> Vec<(Bytes, Bytes)> {
    let one = |key: String| {
        let end = [key.as_bytes(), b"\0"].concat();
        (key.into(), end.into())
    };
    let below = |prefix: &str| {
        // The character after the slash.
        (format!("{prefix}/{id}/").into(), format!("{prefix}/{id}0").into())
    };
    let mut ranges = vec![
        one(versions::head_key(id)),
        one(versions::version_key(id, data_version)),
    ];
    ranges.extend(BELOW.map(below));
    ranges.extend([
        one(rows::definition(id)),
        one(format!("workflow-text/{id}")),
        one(rows::head(id)),
    ]);
    ranges
}

/// Prefixes of what there may be many of, in order.
pub(super) const BELOW: [&str; 6] = ["detached", "event", "execution", "items", "log-total", "log"];

pub fn content_key(digest: &str) -> String {
    format!("content/{digest}")
}

/// The rows of a blob.
///
/// # Errors
/// In words: the blob is no archive, a larger one than is ever written, or its rows are not in the order of their keys.
pub fn unpack(blob: &[u8]) -> Result<Vec<KeyValue>, String> {
    let decoder = zstd::stream::read::Decoder::new(blob).map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    decoder
        .take(MAX_PART_BYTES + 1)
        .read_to_end(&mut lines)
        .map_err(|error| format!("it cannot be decompressed: {error}"))?;
    if lines.len() as u64 > MAX_PART_BYTES {
        return Err(format!("it has more than {MAX_PART_BYTES} B of rows"));
    }
    let lines = lines.strip_suffix(b"\n").ok_or("its last line breaks off")?;
    let rows = lines
        .split(|byte| *byte == b'\n')
        .map(|line| store::rows::from_line(line).map_err(|error| error.to_string()));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    // A key that stands there twice would be another row to whoever reads it than to whoever brings it back.
    match rows.windows(2).position(|two| two[0].key >= two[1].key) {
        Some(before) => Err(format!("its line {} is out of order", before + 2)),
        None => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use store::{Commit, MemoryStore, Operation, Store};

    use super::*;

    fn store_of(rows: &[(String, Vec<u8>)]) -> MemoryStore {
        let store = MemoryStore::default();
        for (key, value) in rows {
            let put = Operation::Put {
                key: key.clone().into(),
                value: value.clone().into(),
            };
            let commit = Commit {
                operations: vec![put],
                ..Commit::default()
            };
            store.commit(&commit).unwrap();
        }
        store
    }

    fn packed(store: &MemoryStore, contents: Vec<(String, Bytes)>) -> Vec<Packed> {
        let mut packer = Packer::new(store.snapshot().unwrap(), "w", 2, contents);
        std::iter::from_fn(|| packer.next_part().unwrap()).collect()
    }

    #[test]
    fn a_workflow_s_rows_and_no_others_are_packed_in_order() {
        let rows: Vec<(String, Vec<u8>)> = [
            "archived/w",
            "data-version/w",
            "data/w/0000000001",
            "data/w/0000000002",
            "detached/w/x/00000",
            "event/v/0000000001",
            "event/w/0000000001",
            "event/w0/0000000001",
            "execution/w/00000/00000/00000",
            "items/w/00000/00001",
            "log-total/w/x",
            "log/w/x/0000000000",
            "outbox/w/x",
            "workflow-definition/w",
            "workflow-text/w",
            "workflow/w",
            "workflow/w2",
        ]
        .map(|key| (key.to_owned(), key.as_bytes().to_vec()))
        .into();
        let store = store_of(&rows);
        let contents = vec![
            ("b".to_owned(), Bytes::from_static(b"\xff\0")),
            ("a".to_owned(), Bytes::new()),
        ];
        let parts = packed(&store, contents);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].first, "content/a");
        let unpacked = unpack(&parts[0].bytes).unwrap();
        let keys: Vec<&str> = unpacked
            .iter()
            .map(|row| std::str::from_utf8(&row.key).unwrap())
            .collect();
        assert_eq!(
            keys,
            [
                "content/a",
                "content/b",
                "data-version/w",
                "data/w/0000000002",
                "detached/w/x/00000",
                "event/w/0000000001",
                "execution/w/00000/00000/00000",
                "items/w/00000/00001",
                "log-total/w/x",
                "log/w/x/0000000000",
                "workflow-definition/w",
                "workflow-text/w",
                "workflow/w",
            ]
        );
        assert!(keys.is_sorted());
        assert_eq!(unpacked[1].value, Bytes::from_static(b"\xff\0"));
        let there = store.get(b"event/w/0000000001").unwrap().unwrap();
        assert_eq!(unpacked[5], there);
    }

    #[test]
    fn many_rows_are_packed_into_several_blobs_none_twice() {
        let line = vec![b'x'; 64 << 10];
        let rows: Vec<(String, Vec<u8>)> = (0..600)
            .map(|n| (format!("log/w/x/{n:010}"), line.clone()))
            .collect();
        let parts = packed(&store_of(&rows), Vec::new());
        assert_eq!(parts.len(), 3);
        let mut unpacked = Vec::new();
        for part in &parts {
            let rows = unpack(&part.bytes).unwrap();
            assert_eq!(rows[0].key, part.first);
            unpacked.extend(rows.into_iter().map(|row| row.key));
        }
        let keys: Vec<Bytes> = rows.into_iter().map(|(key, _)| key.into()).collect();
        assert_eq!(unpacked, keys);
    }

    #[test]
    fn what_is_no_archive_is_refused_in_words() {
        assert!(unpack(b"no archive").is_err());
        assert!(unpack(&zstd::bulk::compress(b"", 1).unwrap()).is_err());
        let broken = zstd::bulk::compress(b"{\"key\":\"a\"", 1).unwrap();
        assert_eq!(unpack(&broken).unwrap_err(), "its last line breaks off");
        let none = zstd::bulk::compress(b"{}\n", 1).unwrap();
        assert!(unpack(&none).unwrap_err().contains("modified"));
        let row = |key: &str| format!("{{\"key\":\"{key}\",\"value\":\"{{}}\",\"modified\":4}}\n");
        for keys in [["event/w/1", "event/w/1"], ["workflow/w", "event/w/1"]] {
            let lines = keys.map(row).concat();
            let unordered = zstd::bulk::compress(lines.as_bytes(), 1).unwrap();
            assert_eq!(unpack(&unordered).unwrap_err(), "its line 2 is out of order");
        }
        let bomb = zstd::bulk::compress(&vec![0; 65 << 20], 1).unwrap();
        assert_eq!(unpack(&bomb).unwrap_err(), "it has more than 67108864 B of rows");
        let whole = zstd::bulk::compress(&vec![7; 4096], 1).unwrap();
        assert!(unpack(&whole[..whole.len() - 1]).is_err());
    }
}
