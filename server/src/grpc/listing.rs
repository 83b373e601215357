//! Workflows as a list gives them, and what is put into them that is not theirs: names of machines, and how far actions are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use proto::v1::{ListWorkflowsRequest, ListWorkflowsResponse, Workflow};
use workflow::engine::WorkflowState;

use super::convert;
use super::given::selected;
use crate::clock;
use crate::control::ControlPlane;
use crate::within::Within;
use crate::workflows::list::{Order, Wanted, WorkflowList};
use coordinator::Error;
use coordinator::machines;
use coordinator::namespaces::Reach;
use coordinator::people::Caller;

/// Bytes after which an answer with whole workflows ends.
const WHOLE_BYTES: usize = 1 << 20;
/// Workflows in one answer.
const MAX_LISTED: usize = 500;

impl ControlPlane {
    pub(super) async fn workflows_listed(
        &self,
        caller: Caller,
        request: ListWorkflowsRequest,
    ) -> Result<ListWorkflowsResponse, Error> {
        let whole = request.whole;
        let found = self.workflows(list(&caller, request)?).await?;
        let mut next = found.next;
        let mut shown = Vec::new();
        let mut bytes = 0;
        for listed in &found.workflows {
            if !whole {
                shown.push(convert::summary(listed));
                continue;
            }
            match self.workflow(&caller.reach, listed.id()).await {
                Ok(workflow) => shown.push(convert::shown(&workflow, None)),
                // Deleted since.
                Err(Error::NotFound(_)) => continue,
                // One that cannot be read does not hide the others.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, id = listed.id(), "a workflow is listed without its parts");
                    shown.push(convert::summary(listed));
                }
            }
            bytes += shown.last().map_or(0, Message::encoded_len);
            if bytes > WHOLE_BYTES {
                next = Some(listed.id().to_owned());
                break;
            }
        }
        self.with_machines(&caller.reach, &mut shown).await?;
        Ok(ListWorkflowsResponse {
            next: next.unwrap_or_default(),
            workflows: shown,
        })
    }

    /// Puts the names of machines beside their workers, and how far actions are that run.
    pub(super) async fn with_machines(&self, reach: &Reach, workflows: &mut [Workflow]) -> Result<(), Error> {
        let mut asked = BTreeSet::new();
        for (worker, _) in workflows.iter_mut().flat_map(places) {
            if !worker.is_empty() && !worker.contains("${{") {
                asked.insert(worker.clone());
            }
        }
        let reach = reach.clone();
        let names = self.inner.db.with(move |view| {
            let mut names = BTreeMap::new();
            for worker in &asked {
                if let Some(machine) = machines::with_worker(view, &reach, worker)? {
                    names.insert(worker.clone(), machine.name);
                }
            }
            Ok(names)
        });
        let names: BTreeMap<String, String> = names.await?;
        for (worker, machine) in workflows.iter_mut().flat_map(places) {
            if let Some(name) = names.get(worker) {
                machine.clone_from(name);
            }
        }
        let mut progress = self.inner.agents.progress();
        for workflow in workflows
            .iter_mut()
            .filter(|workflow| workflow.ended_at.is_none())
        {
            workflow.progress = progress.remove(&workflow.id).unwrap_or_default();
        }
        Ok(())
    }
}

/// Where it has workers, and where the names of their machines go.
fn places(workflow: &mut Workflow) -> impl Iterator<Item = (&String, &mut String)> {
    workflow.tasks.iter_mut().flat_map(|task| {
        let executions = task.executions.iter_mut();
        let executions = executions.map(|execution| (&execution.worker, &mut execution.machine));
        std::iter::once((&task.worker, &mut task.machine)).chain(executions)
    })
}

fn list(caller: &Caller, request: ListWorkflowsRequest) -> Result<WorkflowList, Error> {
    let limit = match usize::try_from(request.limit).unwrap_or(usize::MAX) {
        0 => MAX_LISTED,
        limit => limit.min(MAX_LISTED),
    };
    let states = request.states.iter().map(|text| state(text));
    Ok(WorkflowList {
        machine: request.machine,
        after: request.after,
        limit,
        order: match request.newest_first {
            true => Order::NewestFirst,
            false => Order::OldestFirst,
        },
        wanted: Wanted {
            unfinished: request.unfinished,
            states: states.collect::<Result<_, _>>()?,
            template: request.template,
            since: request.since.map(clock::unix_millis).unwrap_or_default(),
            waits_for: request.waiting.then(|| caller.groups.clone()),
            id_prefix: request.id_prefix,
            name: request.name,
            roots: request.roots,
            selector: selected(&request.selector)?.map(Arc::new),
        },
        within: Within::listed(caller, request.namespace, request.all_namespaces),
    })
}

/// A workflow's state as it is written, in letters of either case.
fn state(text: &str) -> Result<WorkflowState, Error> {
    use WorkflowState::*;
    const ALL: [WorkflowState; 10] = [
        Pending, Running, Pausing, Paused, Ending, Cancelling, Success, Failed, Timeout, Cancelled,
    ];
    let named = |state: &WorkflowState| state.as_str().eq_ignore_ascii_case(text.trim());
    ALL.into_iter().find(named).ok_or_else(|| {
        let all = ALL.map(WorkflowState::as_str);
        let otherwise = format!(": there are {}", all.join(", "));
        let meant = yaml::meant(text, all, &otherwise);
        Error::Invalid(format!("{text:?} is no state of a workflow{meant}"))
    })
}
