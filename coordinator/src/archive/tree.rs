//! A root and its sub-workflows: whether they may be archived, and the commit that does it. Blocks; reads no clock.

use std::collections::BTreeSet;
use std::sync::Arc;

use ephemeral::Manifest;
use serde::de::IgnoredAny;
use store::blobs::Digest;
use store::{Commit, Revision, Store, StoreError};
use workflow::engine::{Head, Workflow};

use super::pack::BELOW;
use super::{Archived, Packer, Part, key};
use crate::data::versions;
use crate::database::{self, Batch, Stored, View};
use crate::error::Error;
use crate::steps::{load, rows};

/// Whether a root and its sub-workflows may be archived now.
#[derive(Debug)]
pub enum Readiness {
    /// It is not in the store: it was archived, or deleted.
    Gone,
    /// Why not, in words.
    NotYet(String),
    /// Those that are in the store, in the order in which they are to be archived: the root is the last.
    Ready(Vec<Member>),
}

/// A workflow that is to be archived.
#[derive(Clone, Debug)]
pub struct Member {
    workflow: Arc<Workflow>,
    /// Of its head, when it was looked at.
    modified: Revision,
    /// Of its data, when it is a root: the newest version.
    data_version: u64,
    data: Manifest,
}

impl Readiness {
    /// Of the root `root` and all that are below it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn of(store: &dyn Store, root: &str) -> Result<Self, Error> {
        database::read(store, |view| Self::as_of(view, root))
    }

    fn as_of(view: &View, root: &str) -> Result<Self, Error> {
        let mut members = Vec::new();
        for id in ids(view, root)? {
            members.extend(Member::find(view, &id)?);
        }
        if members.last().is_none_or(|last| last.workflow.head.id != root) {
            return Ok(Self::Gone);
        }
        for member in &members {
            if let Some(why) = member.is_needed(view, root)? {
                return Ok(Self::NotYet(why));
            }
        }
        Ok(Self::Ready(members))
    }
}

/// The sub-workflows that a root ever made, and then the root.
pub fn ids(view: &View, root: &str) -> Result<Vec<String>, Error> {
    let subs = view.list::<IgnoredAny>(&format!("sub/{root}/"))?;
    let subs = subs.into_iter().map(|(id, _)| id);
    Ok(subs.chain([root.to_owned()]).collect())
}

impl Member {
    fn find(view: &View, id: &str) -> Result<Option<Self>, Error> {
        let Some(head) = view.get::<Head>(&rows::head(id))? else {
            return Ok(None);
        };
        let Some(workflow) = load::workflow(view, id)? else {
            return Ok(None);
        };
        let (mut data_version, mut data) = (0, Manifest::default());
        if workflow.head.parent.is_none() {
            data_version = versions::newest(view.rows(), id)?;
            data = versions::manifest(view.rows(), id, data_version)?.unwrap_or_default();
        }
        Ok(Some(Self {
            workflow,
            modified: head.modified,
            data_version,
            data,
        }))
    }

    pub fn id(&self) -> &str {
        &self.workflow.head.id
    }

    /// The contents that go into the archive.
    pub fn contents(&self) -> BTreeSet<ephemeral::Digest> {
        self.data.files().map(|(_, file)| file.sha256).collect()
    }

    /// Packs it, with these contents by their digests.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn packer(
        &self,
        store: &dyn Store,
        contents: Vec<(String, bytes::Bytes)>,
    ) -> Result<Packer, StoreError> {
        let rows = store.snapshot()?;
        Ok(Packer::new(rows, self.id(), self.data_version, contents))
    }

    /// Who still needs it in the store, in words.
    fn is_needed(&self, view: &View, root: &str) -> Result<Option<String>, Error> {
        let head = &self.workflow.head;
        if !head.state.is_final() {
            return Ok(Some(format!("workflow {} is {}", head.id, head.state)));
        }
        if view.first(&rows::outbox(&head.id))?.is_some() {
            return Ok(Some(format!("workflow {} still has something to tell", head.id)));
        }
        for machine in machines(view, &self.workflow)? {
            let work = load::machine(view, &machine)?;
            let has = |id: &str| id == head.id || id == root;
            let runs = work
                .current
                .as_ref()
                .is_some_and(|current| has(&current.attempt.workflow));
            let keeps = work.claims.iter().any(|claim| has(&claim.root));
            if runs || keeps || work.wants.iter().any(|want| has(&want.workflow)) {
                return Ok(Some(format!(
                    "machine {machine} is not done with workflow {}",
                    head.id
                )));
            }
        }
        Ok(None)
    }

    /// Puts the row of the archive, whose blobs are durable, in the place of all others.
    ///
    /// A conflict means that the workflow has changed since it was looked at.
    pub fn commit(&self, parts: Vec<(String, Digest)>) -> Commit {
        let id = self.id();
        let parts = parts.into_iter().map(|(first, blob)| Part { first, blob });
        let mut batch = Batch::default();
        batch.unchanged(rows::head(id), self.modified);
        batch.absent(key(id));
        batch.put(key(id), &Archived::of(&self.workflow, parts.collect()));
        forget_rows(&mut batch, id);
        batch.into_commit()
    }
}

/// Takes away what the store has of a workflow, but for what others find it by.
pub fn forget_rows(batch: &mut Batch, id: &str) {
    batch.delete(rows::head(id));
    batch.delete(rows::definition(id));
    batch.delete(format!("workflow-text/{id}"));
    for below in BELOW {
        batch.delete_below(&format!("{below}/{id}/"));
    }
    batch.take_in(&Commit {
        operations: versions::forget(id),
        ..Commit::default()
    });
}

/// Machines that a workflow has, or may have had, something for.
pub fn machines(view: &View, workflow: &Workflow) -> Result<BTreeSet<String>, Error> {
    let executions = workflow.executions.values();
    let workers = executions.map(|execution| execution.worker.as_str());
    let workers = workers.chain(workflow.definition.tasks.iter().map(|task| task.worker.as_str()));
    let workers: BTreeSet<&str> = workers.filter(|worker| !worker.is_empty()).collect();
    workers
        .into_iter()
        .map(|worker| load::machine_of(view, &workflow.head.namespace, worker))
        .collect()
}

/// A stored head, or that of an archive.
pub fn head_of(view: &View, id: &str) -> Result<Option<Stored<Head>>, Error> {
    if let Some(head) = view.get::<Head>(&rows::head(id))? {
        return Ok(Some(head));
    }
    let archived = view.get::<Archived>(&key(id))?;
    Ok(archived.map(|Stored { value, modified }| Stored {
        value: value.head,
        modified,
    }))
}
