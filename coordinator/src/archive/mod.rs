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
//! [`pack`] is the form of a blob, [`tree`] says what may be archived and gives the commit that does it, [`restore`] gives
//! those that bring it back. Blobs are read and written by whoever drives this.

mod pack;
mod restore;
pub mod tree;

use std::sync::Arc;

use ephemeral::Manifest;
use serde::{Deserialize, Serialize};
use store::blobs::Digest;
use store::offline::Named;
use store::{KeyValue, Store};
use workflow::engine::{Head, Workflow, worker_shown};

pub use pack::{Packed, Packer, content_key, unpack};
pub use restore::{Restored, Restoring};
pub use tree::{Member, Readiness};

use crate::data;
use crate::database::{self, View, detached};
use crate::error::Error;
use crate::steps::load;

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

pub fn key(id: &str) -> String {
    format!("archived/{id}")
}

/// The row that says that a workflow is a sub-workflow of this root.
pub fn sub_key(root: &str, id: &str) -> String {
    format!("sub/{root}/{id}")
}

impl Archived {
    /// The root that it belongs to; itself, if it is one.
    pub fn root(&self) -> &str {
        let parent = self.head.parent.as_ref();
        parent.map_or(&self.head.id, |parent| &parent.root)
    }

    fn of(workflow: &Workflow, parts: Vec<Part>) -> Self {
        let tasks = workflow.definition.tasks.iter().zip(&workflow.head.tasks);
        let tasks = tasks.take(MAX_TASKS).enumerate();
        let tasks = tasks.map(|(index, (task, state))| {
            // The machine that it ran on; of a `forEach` they are several.
            let mut executions = workflow.executions_of(index).filter(|_| task.for_each.is_none());
            let worker = executions.next().map(|execution| execution.worker.clone());
            ArchivedTask {
                name: task.name.clone(),
                worker: worker
                    .filter(|worker| !worker.is_empty())
                    .unwrap_or_else(|| worker_shown(&task.worker, &workflow.head)),
                state: state.state.to_string(),
            }
        });
        let tasks = tasks.collect();
        let mut head = workflow.head.clone();
        head.inputs.clear();
        head.vars.clear();
        head.outputs.clear();
        head.machines.clear();
        head.tasks.clear();
        Self { head, tasks, parts }
    }
}

/// A workflow whose rows a store has: those of an archive, for one.
///
/// # Errors
/// When they cannot be read.
pub fn workflow(store: &dyn Store, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
    database::read(store, |view| workflow_in(view, id))
}

/// As [`workflow()`], of what a view reads.
///
/// # Errors
/// When the rows cannot be read.
pub fn workflow_in(view: &View, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
    load::workflow(view, id)
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
        let names = manifest.files().map(|(_, file)| data::blob_of(&file.sha256));
        blobs.extend(names.flatten());
    }
    Named {
        blobs,
        keys: detached::pieces_of(row),
    }
}
