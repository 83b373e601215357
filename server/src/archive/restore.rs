//! Brings an archived workflow's rows back into the store: a person retries it.

use bytes::Bytes;
use store::{Commit, KeyValue, Revision};

use super::{Archived, key, unpack};
use crate::control::ControlPlane;
use crate::coordinator::rows;
use crate::database::{Batch, Stored};
use crate::error::Error;

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

impl ControlPlane {
    /// Brings a workflow back, if it is archived. Its sub-workflows follow when it has something to tell them.
    pub(crate) async fn bring_back(&self, id: &str) -> Result<(), Error> {
        let Some(archived) = self.archived(id).await? else {
            return Ok(());
        };
        let _turn = self.archive_turn(archived.value.root()).lock().await;
        match self.archived(id).await? {
            Some(archived) => self.bring_one_back(id, archived).await,
            None => Ok(()),
        }
    }

    async fn bring_one_back(&self, id: &str, archived: Stored<Archived>) -> Result<(), Error> {
        let blobs = &self.inner.config.blobs;
        let mut restoring = Restoring::new(id, archived.modified);
        for part in &archived.value.parts {
            let rows = unpack(&blobs.get(&part.blob).await?).map_err(|why| no_archive(id, &why))?;
            let restored = restoring.part(rows);
            for content in restored.contents {
                blobs.put(content).await?;
            }
            for commit in restored.commits {
                self.inner.db.commit_of(commit).await?;
            }
        }
        let commit = restoring
            .finish()
            .ok_or_else(|| no_archive(id, "it has no workflow"))?;
        self.inner.db.commit_of(commit).await?;
        self.inner.coordinator.forget_workflow(id);
        self.forget_blobs(&archived.value).await;
        Ok(())
    }

    /// Those of an archive that nothing names any more. What cannot be deleted now is garbage for later.
    pub(crate) async fn forget_blobs(&self, archived: &Archived) {
        for part in &archived.parts {
            if let Err(error) = self.inner.config.blobs.delete(&part.blob).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the blob of an archive cannot be deleted now");
            }
        }
    }
}

fn no_archive(id: &str, why: &str) -> Error {
    Error::Refused(format!(
        "the archive of workflow {id} cannot be read: {why}; see `farrier store check`"
    ))
}
