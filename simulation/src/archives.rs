//! Blobs of archived workflows. A put is durable when it is answered, as that of a real blob store; those that are put
//! for a commit that never comes stay, as garbage.

use std::collections::BTreeMap;

use coordinator::archive::{Archived, unpack};
use store::blobs::Digest;
use store::{Commit, Operation, Store};

use crate::disk::Disk;

#[derive(Default)]
pub(crate) struct Archives(BTreeMap<Digest, Vec<u8>>);

impl Archives {
    pub(crate) fn put(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.0.insert(digest, bytes);
        digest
    }

    /// A blob is gone: it was never synced.
    pub(crate) fn lose(&mut self, digest: &Digest) {
        self.0.remove(digest);
    }

    /// What the store has of a workflow's archive, and the revision of that; none: it is not archived.
    pub(crate) fn of(disk: &Disk, id: &str) -> Result<Option<(Archived, u64)>, String> {
        let row = disk
            .get(format!("archived/{id}").as_bytes())
            .map_err(|error| error.to_string())?;
        row.map(|row| {
            let archived = serde_json::from_slice(&row.value).map_err(|error| error.to_string())?;
            Ok((archived, row.modified))
        })
        .transpose()
    }

    pub(crate) fn rows(&self, digest: &Digest) -> Result<Vec<store::KeyValue>, String> {
        let blob = self
            .0
            .get(digest)
            .ok_or_else(|| format!("blob {digest} of an archive is lost"))?;
        unpack(blob)
    }

    /// The rows of an archived workflow, as a disk has them; none: it is not archived.
    pub(crate) fn unpacked(&self, disk: &Disk, id: &str) -> Result<Option<Disk>, String> {
        let Some((archived, _)) = Archives::of(disk, id)? else {
            return Ok(None);
        };
        let unpacked = Disk::default();
        for part in &archived.parts {
            let rows = self.rows(&part.blob)?;
            for rows in rows.chunks(100) {
                let put = |row: &store::KeyValue| Operation::Put {
                    key: row.key.clone(),
                    value: row.value.clone(),
                };
                let commit = Commit {
                    operations: rows.iter().map(put).collect(),
                    ..Commit::default()
                };
                unpacked.commit(&commit).map_err(|error| error.to_string())?;
            }
        }
        Ok(Some(unpacked))
    }
}
