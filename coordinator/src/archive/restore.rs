//! Brings an archived workflow's rows back into the store: a person retries it.

use bytes::Bytes;
use store::{Commit, KeyValue, Revision};

use super::key;
use crate::database::Batch;
use crate::steps::rows;

/// Operations and bytes of a commit.
const MOST_ROWS: usize = 100;
const MOST_BYTES: usize = 512 << 10;

/// An archive on its way back. Its head comes last, in the commit that takes the archive's row away: what is broken off
/// before that is found in the archive still, and begins again.
pub struct Restoring {
    id: String,
    /// Of the archive's row.
    modified: Revision,
    head: Option<Bytes>,
}

/// What is in one blob of an archive.
#[derive(Debug, Default)]
pub struct Restored {
    /// To be put as blobs.
    pub contents: Vec<Bytes>,
    /// To be done after that.
    pub commits: Vec<Commit>,
}

impl Restoring {
    pub fn new(id: &str, modified: Revision) -> Self {
        Self {
            id: id.to_owned(),
            modified,
            head: None,
        }
    }

    /// Takes the rows of the next blob.
    pub fn part(&mut self, rows: Vec<KeyValue>) -> Restored {
        let mut restored = Restored::default();
        let mut batch = Batch::default();
        let mut bytes = 0;
        for row in rows {
            if row.key.starts_with(b"content/") {
                restored.contents.push(row.value);
                continue;
            }
            if row.key == rows::head(&self.id).as_bytes() {
                self.head = Some(row.value);
                continue;
            }
            if batch.len() == MOST_ROWS || bytes + row.value.len() > MOST_BYTES {
                restored.commits.extend(self.whole(&mut batch));
                bytes = 0;
            }
            bytes += row.value.len();
            batch.put_as_it_is(row.key, row.value);
        }
        restored.commits.extend(self.whole(&mut batch));
        restored
    }

    fn whole(&self, batch: &mut Batch) -> Option<Commit> {
        if batch.is_empty() {
            return None;
        }
        let mut batch = std::mem::take(batch);
        batch.unchanged(key(&self.id), self.modified);
        Some(batch.into_commit())
    }

    /// What makes it be in the store again; `None`: the archive had no head.
    pub fn finish(self) -> Option<Commit> {
        let mut batch = Batch::default();
        batch.unchanged(key(&self.id), self.modified);
        batch.absent(rows::head(&self.id));
        batch.delete(key(&self.id));
        batch.put_as_it_is(rows::head(&self.id).into(), self.head?);
        Some(batch.into_commit())
    }
}
