//! Workflows that have ended leave the store: one blob, and one row that says what a list shows and where the rest is.
//!
//! A root and its sub-workflows are archived together, when the root has ended, nothing of theirs is still to be carried,
//! and no machine holds anything for them; the sub-workflows first, as only a root is found again after a restart. A blob
//! is durable before the commit that takes the rows away. What people ask of a workflow is answered out of its archive as
//! out of the store; a retry brings its rows back first, and those of a sub-workflow when its root tells it something.
//!
//! ```text
//! archived/<id>        Archived
//! sub/<root>/<id>      the sub-workflows of a root
//! ```
//!
//! [`pack`] is the form of a blob, [`rows`] reads one as a store, [`keeper`] decides when and does it, [`restore`] brings
//! back, [`retention`] deletes what is old, and what nothing names.

pub(crate) mod keeper;
pub(crate) mod pack;
pub(crate) mod restore;
pub(crate) mod retention;
mod rows;
pub(crate) mod tree;

use std::sync::Arc;

use ephemeral::Manifest;
use serde::{Deserialize, Serialize};
use store::blobs::Digest;
use store::offline::Named;
use store::{KeyValue, Revision, Store, StoreError};
use workflow::engine::{Head, Workflow};

pub(crate) use pack::content_key;
pub use pack::{Packed, Packer, unpack};
pub use restore::{Restored, Restoring};
pub use tree::{Member, Readiness};

use crate::control::ControlPlane;
use crate::coordinator::load;
use crate::data::contents;
use crate::database::{Reader, Stored, View, detached};
use crate::error::Error;
use rows::ArchivedRows;

/// What the store keeps of an archived workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Archived {
    /// Without inputs, values, outputs, facts of machines and tasks.
    pub head: Head,
    /// As far as a list shows them, at most [`MAX_TASKS`].
    pub tasks: Vec<ArchivedTask>,
    /// In the order of their keys; one, unless it is large.
    pub parts: Vec<Part>,
}

/// A task, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedTask {
    pub name: String,
    pub worker: String,
    pub state: String,
}

/// A blob with some of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The first key in it.
    pub first: String,
    pub blob: Digest,
}

/// Tasks in the row of an archived workflow.
const MAX_TASKS: usize = 32;

pub(crate) fn key(id: &str) -> String {
    format!("archived/{id}")
}

/// The row that says that a workflow is a sub-workflow of this root.
pub(crate) fn sub_key(root: &str, id: &str) -> String {
    format!("sub/{root}/{id}")
}

impl Archived {
    fn root(&self) -> &str {
        let parent = self.head.parent.as_ref();
        parent.map_or(&self.head.id, |parent| &parent.root)
    }

    fn of(workflow: &Workflow, parts: Vec<Part>) -> Self {
        let mut head = workflow.head.clone();
        head.inputs.clear();
        head.vars.clear();
        head.outputs.clear();
        head.machines.clear();
        head.tasks.clear();
        let tasks = workflow.definition.tasks.iter().zip(&workflow.head.tasks);
        let tasks = tasks.take(MAX_TASKS).map(|(task, state)| ArchivedTask {
            name: task.name.clone(),
            worker: task.worker.clone(),
            state: state.state.to_string(),
        });
        Self {
            head,
            tasks: tasks.collect(),
            parts,
        }
    }
}

/// A workflow whose rows a store has: those of an archive, for one.
///
/// # Errors
/// When they cannot be read.
pub fn workflow(store: &Arc<dyn Store>, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
    load::workflow(&View::new(store.clone()), id)
}

/// The blobs and the keys that a row of the store names; none where it is of no kind that does, or cannot be read.
pub fn named(row: &KeyValue) -> Named {
    let mut blobs = Vec::new();
    if row.key.starts_with(b"archived/") {
        let archived: Option<Archived> = serde_json::from_slice(&row.value).ok();
        let parts = archived.map(|archived| archived.parts).unwrap_or_default();
        blobs.extend(parts.into_iter().map(|part| part.blob));
    }
    if row.key.starts_with(b"data/") {
        let manifest: Manifest = serde_json::from_slice(&row.value).unwrap_or_default();
        let names = manifest.files().map(|(_, file)| contents::name_of(&file.sha256));
        blobs.extend(names.flatten());
    }
    Named {
        blobs,
        keys: detached::pieces_of(row),
    }
}

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
        let found = rows.with(move |view| load::workflow(view, &asked)).await;
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
