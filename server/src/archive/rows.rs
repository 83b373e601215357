//! An archived workflow's rows, read as a snapshot is: it expires when the archive is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use coordinator::archive::{Archived, Part, key, unpack};
use coordinator::database::Stored;
use store::blobs::{BlobError, Blobs};
use store::{KeyValue, Revision, Snapshot, Store, StoreError};
use tokio::runtime::Handle;

/// Blocks, also on what is async: not to be used on a runtime's own threads.
#[derive(Clone)]
pub(super) struct ArchivedRows(Arc<Inner>);

struct Inner {
    /// The key of the archive's row, and the revision that wrote it.
    key: String,
    modified: Revision,
    parts: Vec<Part>,
    store: Arc<dyn Store>,
    blobs: Blobs,
    runtime: Handle,
    /// The part that was read last, by its place.
    at_hand: Mutex<Option<(usize, Rows)>>,
}

type Rows = Arc<BTreeMap<Bytes, KeyValue>>;

impl ArchivedRows {
    pub(super) fn new(
        id: &str,
        archived: &Stored<Archived>,
        store: &Arc<dyn Store>,
        blobs: &Blobs,
        runtime: &Handle,
    ) -> Self {
        Self(Arc::new(Inner {
            key: key(id),
            modified: archived.modified,
            parts: archived.value.parts.clone(),
            store: store.clone(),
            blobs: blobs.clone(),
            runtime: runtime.clone(),
            at_hand: Mutex::default(),
        }))
    }

    /// Whether they are of this archive.
    pub(super) fn is_of(&self, archived: &Stored<Archived>) -> bool {
        self.0.modified == archived.modified
    }
}

impl Inner {
    fn part(&self, place: usize, part: &Part) -> Result<Rows, StoreError> {
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rows)) = at_hand.as_ref().filter(|(at, _)| *at == place) {
            return Ok(rows.clone());
        }
        let blob = match self.runtime.block_on(self.blobs.get(&part.blob)) {
            Ok(blob) => blob,
            // An archive's blobs go when it is brought back, or deleted; the snapshot that named it does not keep them.
            Err(BlobError::NotFound { .. }) if !self.is_there()? => return Err(StoreError::SnapshotExpired),
            Err(error) => {
                return Err(StoreError::Backend {
                    message: format!("the archive of a workflow cannot be read: {error}"),
                    source: Some(Arc::new(error)),
                });
            }
        };
        let rows = unpack(&blob).map_err(|why| StoreError::Backend {
            message: format!("blob {} is no archive of a workflow: {why}", part.blob),
            source: None,
        })?;
        let rows: Rows = Arc::new(rows.into_iter().map(|row| (row.key.clone(), row)).collect());
        *at_hand = Some((place, rows.clone()));
        Ok(rows)
    }

    fn is_there(&self) -> Result<bool, StoreError> {
        let row = self.store.get(self.key.as_bytes())?;
        Ok(row.is_some_and(|row| row.modified == self.modified))
    }
}

impl Snapshot for ArchivedRows {
    /// That of the archive.
    fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.0.modified)
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        let after = [key, b"\0"].concat();
        Ok(self.range(key, &after, 1)?.pop())
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        let mut found = Vec::new();
        if from >= to {
            return Ok(found);
        }
        let begun = self.0.parts.partition_point(|part| part.first.as_bytes() <= from);
        let parts = self.0.parts.iter().enumerate().skip(begun.saturating_sub(1));
        for (place, part) in parts {
            if part.first.as_bytes() >= to || found.len() >= limit {
                break;
            }
            let rows = self.0.part(place, part)?;
            let range = rows.range(Bytes::copy_from_slice(from)..Bytes::copy_from_slice(to));
            found.extend(range.take(limit - found.len()).map(|(_, row)| row.clone()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use coordinator::database::Batch;
    use store::MemoryStore;

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
        let head = r#"{"id":"w","name":"w","template":"","state":"SUCCESS","run":1,"tasks":[],"created_at":0,
            "started_at":null,"ended_at":1,"last_event":1,"last_at":1}"#;
        let archived = Archived {
            head: serde_json::from_str(head).unwrap(),
            tasks: Vec::new(),
            parts,
        };
        let mut batch = Batch::default();
        batch.put(key("w"), &archived);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let archived = Stored {
            value: archived,
            modified: store.commit(&batch.into_commit()).unwrap(),
        };
        ArchivedRows::new("w", &archived, &store, &blobs, &Handle::current())
    }

    fn keys(rows: &ArchivedRows, from: &str, to: &str, limit: usize) -> String {
        let found = rows.range(from.as_bytes(), to.as_bytes(), limit).unwrap();
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
            assert_eq!(rows.get(b"e").unwrap().unwrap().value, Bytes::from_static(b"E"));
            assert_eq!(rows.get(b"ee").unwrap(), None);
            assert_eq!(rows.revision().unwrap(), 1);
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_blob_that_is_gone_is_an_error_that_names_it() {
        let rows = rows().await;
        rows.0.blobs.delete(&rows.0.parts[1].blob).await.unwrap();
        tokio::task::spawn_blocking(move || {
            assert_eq!(keys(&rows, "a", "c", 9), "ab");
            let error = rows.get(b"d").unwrap_err();
            let StoreError::Backend { source, .. } = error else {
                panic!("{error}")
            };
            let why = source.unwrap().to_string();
            assert!(why.contains(&rows.0.parts[1].blob.to_string()), "{why}");
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_blob_that_went_with_its_archive_is_the_snapshots_end() {
        let rows = rows().await;
        rows.0.blobs.delete(&rows.0.parts[1].blob).await.unwrap();
        let mut batch = Batch::default();
        batch.delete(key("w"));
        rows.0.store.commit(&batch.into_commit()).unwrap();
        tokio::task::spawn_blocking(move || {
            assert_eq!(keys(&rows, "a", "c", 9), "ab");
            assert!(rows.get(b"d").unwrap_err().is_expired());
        })
        .await
        .unwrap();
    }
}
