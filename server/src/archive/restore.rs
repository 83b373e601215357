//! Brings an archived workflow's rows back into the store: a person retries it.

use coordinator::Error;
use coordinator::archive::{Archived, Restoring, unpack};
use coordinator::database::Stored;

use crate::control::ControlPlane;

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
