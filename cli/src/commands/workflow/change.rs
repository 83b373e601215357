//! What people do to a workflow that there is.

use proto::v1;
use proto::v1::{
    CancelWorkflowRequest, DecideApprovalRequest, DeleteWorkflowRequest, LabelWorkflowRequest,
    PauseTaskRequest, PauseWorkflowRequest, ResumeTaskRequest, ResumeWorkflowRequest, RetryTaskRequest,
    RetryWorkflowRequest, SetPolicyRequest, SkipTaskRequest, StartWorkflowRequest,
};
use std::io::Write;
use workflow::labels::in_one_line;

use super::super::{Asking, labels, last_of};
use super::words::with_task;
use super::{Decision, fetch_once};
use crate::client::Client;
use crate::failure::Failure;
use crate::once::{Key, ask_once};
use crate::output;
use crate::terminal::Out;
use crate::views::{Workflow, dash};

/// Workflows, and the task that is meant where it is one; `None` is all of each.
type Meant = (Vec<String>, Option<String>);

/// Asks for one after the other; one that cannot be done keeps none of the others from it. Each has a key of its own.
async fn each(
    ids: Vec<String>,
    key: Key,
    asking: Asking<'_>,
    said: fn(&Workflow, &mut Out) -> Result<(), Failure>,
    ask: impl AsyncFn(&Client, String, String) -> Result<v1::Workflow, Failure>,
) -> Result<(), Failure> {
    key.check_for(ids.len())?;
    let client = asking.connect().await?;
    let count = ids.len();
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for id in ids {
        match ask(&client, id, key.clone().text()).await {
            Ok(workflow) => done.push(Workflow::from(workflow)),
            Err(failure) => failed.push(failure),
        }
    }
    print(&done, count, said, asking)?;
    last_of(failed)
}

/// Of one that was asked for its answer; of several a line or a list.
fn print(
    done: &[Workflow],
    count: usize,
    said: fn(&Workflow, &mut Out) -> Result<(), Failure>,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    match (done, asking.output.is_text()) {
        ([workflow], _) if count == 1 => {
            output::one(asking.out, asking.output, workflow, |out| said(workflow, out))
        }
        ([], _) if count == 1 => Ok(()),
        (done, true) => done.iter().try_for_each(|workflow| said(workflow, asking.out)),
        (done, false) => output::list(asking.out, asking.output, done),
    }
}

pub(super) async fn pause(
    (ids, task): Meant,
    (reason, key): (String, Key),
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let ask = async |client: &Client, id, idempotency_key| {
        let reason = reason.clone();
        match task.clone() {
            Some(task) => ask_once!(
                client,
                pause_task(PauseTaskRequest {
                    id,
                    task,
                    reason,
                    idempotency_key,
                })
            ),
            None => ask_once!(
                client,
                pause_workflow(PauseWorkflowRequest {
                    id,
                    reason,
                    idempotency_key,
                })
            ),
        }
    };
    each(ids, key, asking, said, ask).await
}

pub(super) async fn resume((ids, task): Meant, key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    let ask = async |client: &Client, id, idempotency_key| match task.clone() {
        Some(task) => ask_once!(
            client,
            resume_task(ResumeTaskRequest {
                id,
                task,
                idempotency_key,
            })
        ),
        None => ask_once!(
            client,
            resume_workflow(ResumeWorkflowRequest { id, idempotency_key })
        ),
    };
    each(ids, key, asking, said, ask).await
}

/// `at`: `None` is now.
pub(super) async fn start(
    ids: Vec<String>,
    at: Option<prost_types::Timestamp>,
    key: Key,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let ask = async |client: &Client, id, idempotency_key| {
        ask_once!(
            client,
            start_workflow(StartWorkflowRequest {
                id,
                at,
                idempotency_key,
            })
        )
    };
    each(ids, key, asking, said, ask).await
}

/// `changes`: KEY=VALUE, and KEY- for one that goes.
pub(super) async fn label(
    ids: Vec<String>,
    changes: &[String],
    key: Key,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    if ids.is_empty() || changes.is_empty() {
        return Err(Failure::Usage(
            "expected workflows and then labels: farrier workflow label ID [ID…] KEY=VALUE|KEY-".into(),
        ));
    }
    let is_gone = |change: &&String| !change.contains('=') && change.ends_with('-');
    let (gone, set): (Vec<&String>, Vec<&String>) = changes.iter().partition(is_gone);
    let set: Vec<String> = set.into_iter().cloned().collect();
    let set = labels(&set)?;
    let remove: Vec<String> = gone.iter().map(|key| key[..key.len() - 1].to_owned()).collect();
    let ask = async |client: &Client, id, idempotency_key| {
        ask_once!(
            client,
            label_workflow(LabelWorkflowRequest {
                id,
                set: set.clone().into_iter().collect(),
                remove: remove.clone(),
                idempotency_key,
            })
        )
    };
    let said = |workflow: &Workflow, out: &mut Out| {
        let labels = dash(&in_one_line(&workflow.labels));
        Ok(writeln!(out, "workflow {} has the labels {labels}", workflow.id)?)
    };
    each(ids, key, asking, said, ask).await
}

/// No rules: everything is done at once.
pub(super) async fn policy(
    id: String,
    policy: Vec<String>,
    key: Key,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let request = SetPolicyRequest {
        id,
        policy,
        idempotency_key: key.text(),
    };
    changed(ask_once!(client, set_policy(request))?, asking)
}

pub(super) async fn skip(
    id: String,
    task: String,
    (reason, key): (String, Key),
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let request = SkipTaskRequest {
        id,
        task,
        reason,
        idempotency_key: key.text(),
    };
    changed(ask_once!(client, skip_task(request))?, asking)
}

pub(super) async fn cancel(
    ids: Vec<String>,
    reason: String,
    key: Key,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let ask = async |client: &Client, id, idempotency_key| {
        let reason = reason.clone();
        ask_once!(
            client,
            cancel_workflow(CancelWorkflowRequest {
                id,
                reason,
                idempotency_key,
            })
        )
    };
    each(ids, key, asking, said, ask).await
}

/// One by one, as [`each`].
pub(super) async fn delete(ids: &[String], key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    key.check_for(ids.len())?;
    let client = asking.connect().await?;
    let mut failed = Vec::new();
    for id in ids {
        let request = DeleteWorkflowRequest {
            id: id.clone(),
            idempotency_key: key.clone().text(),
        };
        match ask_once!(client, delete_workflow(request)) {
            Ok(_) => output::deleted(asking.out, asking.output, "workflow", id)?,
            Err(failure) => failed.push(failure),
        }
    }
    last_of(failed)
}

/// Without a task it is all that did not succeed.
pub(super) async fn retry((ids, task): Meant, key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    let ask = async |client: &Client, id, idempotency_key| match task.clone() {
        Some(task) => ask_once!(
            client,
            retry_task(RetryTaskRequest {
                id,
                task,
                idempotency_key,
            })
        ),
        None => ask_once!(
            client,
            retry_workflow(RetryWorkflowRequest { id, idempotency_key })
        ),
    };
    each(ids, key, asking, said, ask).await
}

/// What waits in a workflow, or in one task of it: all of it, one by one, as each is a decision of its own.
async fn waiting(client: &mut Client, id: &str, task: &str) -> Result<Vec<String>, Failure> {
    let workflow = fetch_once(client, id.to_owned()).await?;
    let waiting: Vec<String> = workflow.waiting_for_approval(task).collect();
    if waiting.is_empty() {
        let of = match task {
            "" => String::new(),
            task => format!("task {task:?} of "),
        };
        return Err(Failure::Failed(format!(
            "nothing of {of}workflow {} waits for approval",
            workflow.id
        )));
    }
    Ok(waiting)
}

/// One workflow after the other; one in which nothing can be decided keeps none of the others from it.
pub(super) async fn decide(decision: Decision, approved: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let (ids, task) = with_task(decision.id, decision.rest)?;
    let task = task.unwrap_or_default();
    decision.key.check_for(ids.len())?;
    let mut client = asking.connect().await?;
    let count = ids.len();
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for id in ids {
        let tasks = match decision.all {
            false => Ok(vec![task.clone()]),
            true => waiting(&mut client, &id, &task).await,
        };
        let tasks = match tasks {
            Ok(tasks) => tasks,
            Err(failure) => {
                failed.push(failure);
                continue;
            }
        };
        decision.key.check_for(tasks.len())?;
        let mut now = None;
        for task in tasks {
            let request = DecideApprovalRequest {
                id: id.clone(),
                task,
                approved,
                comment: decision.comment.clone(),
                idempotency_key: decision.key.clone().text(),
            };
            match ask_once!(client, decide_approval(request)) {
                Ok(workflow) => now = Some(Workflow::from(workflow)),
                Err(failure) => failed.push(failure),
            }
        }
        done.extend(now);
    }
    print(&done, count, said, asking)?;
    last_of(failed)
}

fn changed(workflow: v1::Workflow, asking: Asking<'_>) -> Result<(), Failure> {
    let workflow = Workflow::from(workflow);
    output::one(asking.out, asking.output, &workflow, |out| said(&workflow, out))
}

fn said(workflow: &Workflow, out: &mut Out) -> Result<(), Failure> {
    Ok(writeln!(
        out,
        "workflow {} is {}",
        workflow.id,
        workflow.state_and_time()
    )?)
}
