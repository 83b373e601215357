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
use super::{Decision, fetch_once};
use crate::failure::Failure;
use crate::once::{Key, ask_once};
use crate::output;
use crate::terminal::Out;
use crate::views::{Workflow, dash};

/// `task`: `None` is all of it.
pub(super) async fn pause(
    id: String,
    task: Option<String>,
    (reason, key): (String, Key),
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let idempotency_key = key.text();
    let answer = match task {
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
    };
    changed(answer?, asking)
}

pub(super) async fn resume(
    id: String,
    task: Option<String>,
    key: Key,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let idempotency_key = key.text();
    let answer = match task {
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
    changed(answer?, asking)
}

/// `at`: `None` is now.
pub(super) async fn start(
    id: String,
    at: Option<prost_types::Timestamp>,
    key: Key,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let request = StartWorkflowRequest {
        id,
        at,
        idempotency_key: key.text(),
    };
    changed(ask_once!(client, start_workflow(request))?, asking)
}

/// `changes`: KEY=VALUE, and KEY- for one that goes.
pub(super) async fn label(
    id: String,
    changes: &[String],
    key: Key,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let is_gone = |change: &&String| !change.contains('=') && change.ends_with('-');
    let (gone, set): (Vec<&String>, Vec<&String>) = changes.iter().partition(is_gone);
    let set: Vec<String> = set.into_iter().cloned().collect();
    let request = LabelWorkflowRequest {
        id,
        set: labels(&set)?.into_iter().collect(),
        remove: gone.iter().map(|key| key[..key.len() - 1].to_owned()).collect(),
        idempotency_key: key.text(),
    };
    let client = asking.connect().await?;
    let workflow = Workflow::from(ask_once!(client, label_workflow(request))?);
    output::one(asking.out, asking.output, &workflow, |out| {
        let labels = dash(&in_one_line(&workflow.labels));
        Ok(writeln!(out, "workflow {} has the labels {labels}", workflow.id)?)
    })
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

/// One by one; one that cannot be cancelled keeps none of the others from it.
pub(super) async fn cancel(
    ids: &[String],
    reason: String,
    key: Key,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    key.check_for(ids.len())?;
    let client = asking.connect().await?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for id in ids {
        let request = CancelWorkflowRequest {
            id: id.clone(),
            reason: reason.clone(),
            idempotency_key: key.clone().text(),
        };
        match ask_once!(client, cancel_workflow(request)) {
            Ok(workflow) => done.push(Workflow::from(workflow)),
            Err(failure) => failed.push(failure),
        }
    }
    match (ids.len(), asking.output.is_text()) {
        (1, _) => {
            for workflow in done {
                output::one(asking.out, asking.output, &workflow, |out| said(&workflow, out))?;
            }
        }
        (_, true) => done.iter().try_for_each(|workflow| said(workflow, asking.out))?,
        (_, false) => output::list(asking.out, asking.output, &done)?,
    }
    last_of(failed)
}

/// One by one, as [`cancel`].
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

/// `task`: `None` is all that did not succeed.
pub(super) async fn retry(
    id: String,
    task: Option<String>,
    key: Key,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let idempotency_key = key.text();
    let answer = match task {
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
    changed(answer?, asking)
}

/// All that waits in a workflow, or in one task of it: one by one, as each is a decision of its own.
async fn decide_all(decision: Decision, approved: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let workflow = fetch_once(&mut client, decision.id.clone()).await?;
    let waiting: Vec<String> = workflow.waiting_for_approval(&decision.task).collect();
    if waiting.is_empty() {
        let of = match decision.task.as_str() {
            "" => String::new(),
            task => format!("task {task:?} of "),
        };
        return Err(Failure::Failed(format!(
            "nothing of {of}workflow {} waits for approval",
            workflow.id
        )));
    }
    decision.key.check_for(waiting.len())?;
    let (mut now, mut failed) = (None, Vec::new());
    for task in waiting {
        let request = DecideApprovalRequest {
            id: decision.id.clone(),
            task,
            approved,
            comment: decision.comment.clone(),
            idempotency_key: decision.key.clone().text(),
        };
        match ask_once!(client, decide_approval(request)) {
            Ok(workflow) => now = Some(workflow),
            Err(failure) => failed.push(failure),
        }
    }
    if let Some(workflow) = now {
        changed(workflow, asking)?;
    }
    last_of(failed)
}

pub(super) async fn decide(decision: Decision, approved: bool, asking: Asking<'_>) -> Result<(), Failure> {
    if decision.all {
        return decide_all(decision, approved, asking).await;
    }
    let client = asking.connect().await?;
    let request = DecideApprovalRequest {
        id: decision.id,
        task: decision.task,
        approved,
        comment: decision.comment,
        idempotency_key: decision.key.text(),
    };
    changed(ask_once!(client, decide_approval(request))?, asking)
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
