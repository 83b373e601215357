//! Which events a listener wants.

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::Error;
use coordinator::archive::tree;
use coordinator::database::View;
use coordinator::namespaces::Reach;
use coordinator::order::Place;
use coordinator::steps::load;
use serde_json::json;
use workflow::engine::{Event, EventKind, Head, TOLD_KINDS, Workflow};
use workflow::expression::Selector;

/// All that is set has to be so; the default wants everything that it reaches, and reaches nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) reach: Reach,
    /// Words of [`EventKind::told_as`]; empty: all.
    pub(crate) kinds: BTreeSet<String>,
    pub(crate) selector: Option<Arc<Selector>>,
    /// A machine's name; empty: any.
    pub(crate) machine: String,
    /// A root, or a sub-workflow; empty: any.
    pub(crate) workflow: String,
}

/// # Errors
/// [`Error::Invalid`], with the nearest word, for one that no event has.
pub(crate) fn check_kinds<'a>(kinds: impl IntoIterator<Item = &'a String>) -> Result<(), Error> {
    let unknown = |kind: &&String| !TOLD_KINDS.contains(&kind.as_str());
    let Some(kind) = kinds.into_iter().find(unknown) else {
        return Ok(());
    };
    let near = yaml::nearest(kind, TOLD_KINDS);
    let near = near
        .map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_default();
    Err(Error::Invalid(format!(
        "no event is of kind {kind:?}{near} The kinds are {}",
        TOLD_KINDS.join(", ")
    )))
}

impl Wanted {
    /// By what the order says of it.
    pub(crate) fn may_be(&self, place: &Place) -> bool {
        let is_of = |id: &str| place.workflow == id || place.root == id;
        self.reach.has(&place.namespace)
            && (self.kinds.is_empty() || self.kinds.contains(&place.kind))
            && (self.workflow.is_empty() || is_of(&self.workflow))
    }

    /// By the workflow's labels, as they are now. One of which an expression has no value is not meant.
    pub(crate) fn is_labelled(&self, head: &Head) -> bool {
        self.selector.as_ref().is_none_or(|selector| {
            let known = json!({"name": head.name, "labels": *head.labels});
            selector.matches(&known).unwrap_or(false)
        })
    }

    /// Whether it asks for what a workflow that was deleted cannot tell.
    pub(crate) fn needs_workflow(&self) -> bool {
        self.selector.is_some() || !self.machine.is_empty()
    }

    /// Of these events of a workflow, those that are about the machine: what is done on it, and what is about the workflow or a task as a
    /// whole if it has something for the machine.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn on_machine(
        &self,
        view: &View,
        workflow: &Workflow,
        events: &[Event],
    ) -> Result<BTreeSet<u64>, Error> {
        let is_its = tree::machines(view, workflow)?.contains(&self.machine);
        let mut numbers = BTreeSet::new();
        for event in events {
            let wanted = match worker(workflow, &event.kind) {
                Some(worker) => load::machine_of(view, &workflow.head.namespace, worker)? == self.machine,
                None => is_its,
            };
            if wanted {
                numbers.insert(event.number);
            }
        }
        Ok(numbers)
    }
}

/// Where what an event is about is done; `None`: nowhere in particular.
fn worker<'a>(workflow: &'a Workflow, kind: &'a EventKind) -> Option<&'a str> {
    let said = match kind {
        EventKind::Dispatched { worker, .. } | EventKind::ExecutionMade { worker, .. } => worker.as_str(),
        // Of an execution of an earlier run only the task is left.
        _ => {
            let id = kind.execution()?;
            let execution = workflow.execution(id).map(|execution| execution.worker.as_str());
            let task = workflow.definition.tasks.get(id.task);
            execution.or(task.map(|task| task.worker.as_str()))?
        }
    };
    (!said.is_empty()).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_no_event_has_is_refused_with_the_nearest() {
        assert!(check_kinds(&["ended".to_owned(), "timed_out".to_owned()]).is_ok());
        let told = check_kinds(&["endet".to_owned()])
            .expect_err("no kind")
            .to_string();
        assert!(told.contains("did you mean \"ended\"?"), "{told}");
        assert!(told.contains("went_back"), "{told}");
    }
}
