//! Archiving off and on the store: when a workflow leaves it ([`keeper`]), its archive read as a store is ([`rows`]), what
//! brings it back ([`restore`]), and what deletes the old and what nothing names ([`retention`]). What an archive is stands
//! in [`coordinator::archive`].

pub(crate) mod keeper;
mod restore;
pub(crate) mod retention;
mod rows;

use std::sync::Arc;

use coordinator::Error;
use coordinator::archive::{Archived, Part, key};
use coordinator::database::{Stored, View};
use store::{Revision, StoreError};
use workflow::engine::Workflow;

use crate::control::ControlPlane;
use crate::database::Reader;
use rows::ArchivedRows;

/// Where the rows of a workflow were found.
pub(crate) struct Place {
    pub(crate) rows: Reader,
    /// Of the row of its archive; `None`: in the store.
    archived: Option<Revision>,
}

impl Place {
    pub(crate) fn is_archive(&self) -> bool {
        self.archived.is_some()
    }
}

impl ControlPlane {
    pub(crate) async fn archived(&self, id: &str) -> Result<Option<Stored<Archived>>, Error> {
        self.inner.db.get::<Archived>(key(id)).await
    }

    /// Where the rows of a workflow are; in the store when there is no such workflow.
    ///
    /// They may be archived, or brought back, while they are read: ask [`ControlPlane::are_still_in`] afterwards.
    pub(crate) async fn place_of(&self, id: &str) -> Result<Place, Error> {
        Ok(match self.archived(id).await? {
            None => Place {
                rows: self.inner.db.reader(),
                archived: None,
            },
            Some(archived) => Place {
                rows: self.archived_rows(archived.value.parts),
                archived: Some(archived.modified),
            },
        })
    }

    pub(crate) async fn are_still_in(&self, id: &str, place: &Place) -> Result<bool, Error> {
        let now = self.archived(id).await?;
        Ok(now.map(|archived| archived.modified) == place.archived)
    }

    /// An archived workflow as it was when it was archived.
    pub(crate) async fn archived_workflow(&self, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
        let Some(archived) = self.archived(id).await? else {
            return Ok(None);
        };
        let asked = id.to_owned();
        let rows = self.archived_rows(archived.value.parts);
        let found = rows
            .with(move |view| coordinator::archive::workflow_in(view, &asked))
            .await;
        match found {
            // Its blobs go when it is brought back, or deleted.
            Err(Error::Store(StoreError::Backend { .. }))
                if self.has_moved(id, archived.modified).await? =>
            {
                Ok(None)
            }
            Ok(None) => Err(Error::Refused(format!(
                "the archive of workflow {id} has no workflow"
            ))),
            found => found,
        }
    }

    async fn has_moved(&self, id: &str, from: Revision) -> Result<bool, Error> {
        Ok(self.archived(id).await?.map(|archived| archived.modified) != Some(from))
    }

    fn archived_rows(&self, parts: Vec<Part>) -> Reader {
        let runtime = tokio::runtime::Handle::current();
        let rows = ArchivedRows::new(self.inner.config.blobs.clone(), parts, runtime);
        Reader::new(View::new(Arc::new(rows)))
    }
}
