//! An archived workflow's rows, read as a store is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use store::blobs::Blobs;
use store::{Commit, KeyValue, Revision, Snapshot, Store, StoreError};
use tokio::runtime::Handle;

use coordinator::archive::{Part, unpack};

/// Blocks, also on what is async: not to be used on a runtime's own threads.
#[derive(Clone)]
pub(super) struct ArchivedRows {
    blobs: Blobs,
    parts: Vec<Part>,
    runtime: Handle,
    /// The part that was read last, by its place.
    at_hand: Arc<Mutex<Option<(usize, Rows)>>>,
}

type Rows = Arc<BTreeMap<Bytes, KeyValue>>;

impl ArchivedRows {
    pub(super) fn new(blobs: Blobs, parts: Vec<Part>, runtime: Handle) -> Self {
        Self {
            blobs,
            parts,
            runtime,
            at_hand: Arc::default(),
        }
    }

    fn part(&self, place: usize, part: &Part) -> Result<Rows, StoreError> {
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rows)) = at_hand.as_ref().filter(|(at, _)| *at == place) {
            return Ok(rows.clone());
        }
        let blob = self.runtime.block_on(self.blobs.get(&part.blob));
        let blob = blob.map_err(|error| StoreError::Backend {
            message: format!("the archive of a workflow cannot be read: {error}"),
            source: Some(Arc::new(error)),
        })?;
        let rows = unpack(&blob).map_err(|why| StoreError::Backend {
            message: format!("blob {} is no archive of a workflow: {why}", part.blob),
            source: None,
        })?;
        let rows: Rows = Arc::new(rows.into_iter().map(|row| (row.key.clone(), row)).collect());
        *at_hand = Some((place, rows.clone()));
        Ok(rows)
    }
}

impl Snapshot for ArchivedRows {
    /// An archive is of no revision.
    fn revision(&self) -> Result<Revision, StoreError> {
        Ok(0)
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        let after = [key, b"\0"].concat();
        Ok(Snapshot::range(self, key, &after, 1)?.pop())
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        let mut found = Vec::new();
        if from >= to {
            return Ok(found);
        }
        let begun = self.parts.partition_point(|part| part.first.as_bytes() <= from);
        let parts = self.parts.iter().enumerate().skip(begun.saturating_sub(1));
        for (place, part) in parts {
            if part.first.as_bytes() >= to || found.len() >= limit {
                break;
            }
            let rows = self.part(place, part)?;
            let range = rows.range(Bytes::copy_from_slice(from)..Bytes::copy_from_slice(to));
            found.extend(range.take(limit - found.len()).map(|(_, row)| row.clone()));
        }
        Ok(found)
    }
}

impl Store for ArchivedRows {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        Snapshot::get(self, key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        Snapshot::range(self, from, to, limit)
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(self.clone()))
    }

    fn commit(&self, _: &Commit) -> Result<Revision, StoreError> {
        Err(StoreError::Backend {
            message: "what is archived does not change".into(),
            source: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys `a` to `f`, two in each blob.
    async fn rows() -> ArchivedRows {
        let blobs = Blobs::in_memory();
        let mut parts = Vec::new();
        for keys in [["a", "b"], ["c", "d"], ["e", "f"]] {
            let lines = keys.map(|key| {
                store::rows::to_line(&KeyValue {
                    key: key.into(),
                    value: key.to_uppercase().into(),
                    modified: 1,
                })
            });
            let packed = zstd::bulk::compress(&lines.concat(), 1).unwrap();
            parts.push(Part {
                first: keys[0].into(),
                blob: blobs.put(packed).await.unwrap(),
            });
        }
        ArchivedRows::new(blobs, parts, Handle::current())
    }

    fn keys(rows: &ArchivedRows, from: &str, to: &str, limit: usize) -> String {
        let found = Snapshot::range(rows, from.as_bytes(), to.as_bytes(), limit).unwrap();
        let keys = found
            .iter()
            .map(|row| String::from_utf8_lossy(&row.key).into_owned());
        keys.collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ranges_go_over_several_blobs() {
        let rows = rows().await;
        tokio::task::spawn_blocking(move || {
            for (from, to, limit, want) in [
                ("", "z", 9, "abcdef"),
                ("b", "e", 9, "bcd"),
                ("b\0", "e\0", 9, "cde"),
                ("a", "z", 3, "abc"),
                ("d", "d\0", 9, "d"),
                ("d", "d", 9, ""),
                ("g", "z", 9, ""),
                ("", "a", 9, ""),
            ] {
                assert_eq!(keys(&rows, from, to, limit), want, "{from}..{to}");
            }
            assert_eq!(
                Snapshot::get(&rows, b"e").unwrap().unwrap().value,
                Bytes::from_static(b"E")
            );
            assert_eq!(Snapshot::get(&rows, b"ee").unwrap(), None);
            assert!(rows.commit(&Commit::default()).is_err());
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_blob_that_is_gone_is_an_error_that_names_it() {
        let rows = rows().await;
        rows.blobs.delete(&rows.parts[1].blob).await.unwrap();
        tokio::task::spawn_blocking(move || {
            assert_eq!(keys(&rows, "a", "c", 9), "ab");
            let error = Snapshot::get(&rows, b"d").unwrap_err();
            let StoreError::Backend { source, .. } = error else {
                panic!("{error}")
            };
            let why = source.unwrap().to_string();
            assert!(why.contains(&rows.parts[1].blob.to_string()), "{why}");
        })
        .await
        .unwrap();
    }
}
