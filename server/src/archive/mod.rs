//! Archiving off and on the store: when a workflow leaves it ([`keeper`]), its archive read as a
//! snapshot is ([`rows`]), what
//! brings it back ([`restore`]), and what deletes the old and what nothing names ([`retention`]). What an archive is stands
//! in [`coordinator::archive`].

pub(crate) mod keeper;
mod restore;
pub(crate) mod retention;
mod rows;

use std::sync::{Arc, Mutex, PoisonError};

use coordinator::Error;
use coordinator::archive::{Archived, key};
use coordinator::database::{self, Stored, View};
use coordinator::steps;
use serde::de::IgnoredAny;
use store::Store;
use store::blobs::Blobs;
use tokio::runtime::Handle;

use crate::control::ControlPlane;
use crate::database::off_the_runtime;
use rows::ArchivedRows;

/// The rows of a workflow, wherever they are. For one that follows them: an archive is unpacked once for all of its reads.
#[derive(Clone)]
pub(crate) struct WorkflowRows {
    id: String,
    store: Arc<dyn Store>,
    blobs: Blobs,
    at_hand: Arc<Mutex<Option<ArchivedRows>>>,
}

/// Where the rows of a workflow are, as of one snapshot of the store.
pub(crate) struct Place<'a> {
    /// To read them.
    pub(crate) rows: &'a View,
    /// The row of its archive; `None`: they are in the store, if they are anywhere.
    pub(crate) archived: Option<&'a Stored<Archived>>,
}

impl Place<'_> {
    /// Whether the workflow `id`, whose rows these are, is there at all.
    pub(crate) fn has_workflow(&self, id: &str) -> Result<bool, Error> {
        Ok(self.archived.is_some() || self.rows.get::<IgnoredAny>(&steps::rows::head(id))?.is_some())
    }
}

impl WorkflowRows {
    /// Runs `read` on a thread that may block, from its beginning again when what it reads is archived, brought back or
    /// deleted in a way that it would see, or when a snapshot expires.
    pub(crate) fn read<T, F>(&self, mut read: F) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnMut(&Place<'_>) -> Result<T, Error> + Send + 'static,
    {
        let runtime = Handle::current();
        let rows = self.clone();
        off_the_runtime(move || {
            database::read(&*rows.store, |view| {
                let archived = view.get::<Archived>(&key(&rows.id))?;
                match &archived {
                    None => read(&Place {
                        rows: view,
                        archived: None,
                    }),
                    Some(found) => read(&Place {
                        rows: &View::new(Arc::new(rows.archive(found, &runtime))),
                        archived: Some(found),
                    }),
                }
            })
        })
    }

    /// The archive's rows; those of the last time, when it is the same.
    fn archive(&self, found: &Stored<Archived>, runtime: &Handle) -> ArchivedRows {
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = at_hand.as_ref().filter(|rows| rows.is_of(found)) {
            return rows.clone();
        }
        let rows = ArchivedRows::new(&self.id, found, &self.store, &self.blobs, runtime);
        *at_hand = Some(rows.clone());
        rows
    }
}

impl ControlPlane {
    pub(crate) async fn archived(&self, id: &str) -> Result<Option<Stored<Archived>>, Error> {
        self.inner.db.get::<Archived>(key(id)).await
    }

    /// The rows of a workflow, in the store or in its archive.
    pub(crate) fn rows_of(&self, id: &str) -> WorkflowRows {
        WorkflowRows {
            id: id.to_owned(),
            store: self.inner.db.store(),
            blobs: self.inner.config.blobs.clone(),
            at_hand: Arc::default(),
        }
    }
}
