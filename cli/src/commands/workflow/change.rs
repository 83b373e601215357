//! What people do to a workflow that there is.

use proto::v1;
use proto::v1::{
    CancelWorkflowRequest, DecideApprovalRequest, LabelWorkflowRequest, PauseTaskRequest,
    PauseWorkflowRequest, ResumeTaskRequest, ResumeWorkflowRequest, RetryTaskRequest, RetryWorkflowRequest,
    SetPolicyRequest, SkipTaskRequest, StartWorkflowRequest,
};
use std::io::Write;
use tonic::{Response, Status};
use workflow::labels::in_one_line;

use super::super::{Asking, labels};
use super::Decision;
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::views::{Workflow, dash};

/// `task`: `None` is all of it.
pub(super) async fn pause(
    id: String,
    task: Option<String>,
    reason: String,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let control = &mut client.control;
    let answer = match task {
        Some(task) => control.pause_task(PauseTaskRequest { id, task, reason }).await,
        None => control.pause_workflow(PauseWorkflowRequest { id, reason }).await,
    };
    changed(&client, answer, asking)
}

pub(super) async fn resume(id: String, task: Option<String>, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let control = &mut client.control;
    let answer = match task {
        Some(task) => control.resume_task(ResumeTaskRequest { id, task }).await,
        None => control.resume_workflow(ResumeWorkflowRequest { id }).await,
    };
    changed(&client, answer, asking)
}

/// `at`: `None` is now.
pub(super) async fn start(
    id: String,
    at: Option<prost_types::Timestamp>,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .start_workflow(StartWorkflowRequest { id, at })
        .await;
    changed(&client, answer, asking)
}

/// `changes`: KEY=VALUE, and KEY- for one that goes.
pub(super) async fn label(id: String, changes: &[String], asking: Asking<'_>) -> Result<(), Failure> {
    let is_gone = |change: &&String| !change.contains('=') && change.ends_with('-');
    let (gone, set): (Vec<&String>, Vec<&String>) = changes.iter().partition(is_gone);
    let set: Vec<String> = set.into_iter().cloned().collect();
    let request = LabelWorkflowRequest {
        id,
        set: labels(&set)?.into_iter().collect(),
        remove: gone.iter().map(|key| key[..key.len() - 1].to_owned()).collect(),
    };
    let mut client = asking.connect().await?;
    let answer = client.control.label_workflow(request).await;
    let workflow = Workflow::from(client.answer(answer)?);
    output::one(asking.out, asking.output, &workflow, |out| {
        let labels = dash(&in_one_line(&workflow.labels));
        Ok(writeln!(out, "workflow {} has the labels {labels}", workflow.id)?)
    })
}

/// No rules: everything is done at once.
pub(super) async fn policy(id: String, policy: Vec<String>, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.set_policy(SetPolicyRequest { id, policy }).await;
    changed(&client, answer, asking)
}

pub(super) async fn skip(
    id: String,
    task: String,
    reason: String,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .skip_task(SkipTaskRequest { id, task, reason })
        .await;
    changed(&client, answer, asking)
}

pub(super) async fn cancel(id: String, reason: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .cancel_workflow(CancelWorkflowRequest { id, reason })
        .await;
    changed(&client, answer, asking)
}

/// `task`: `None` is all that did not succeed.
pub(super) async fn retry(id: String, task: Option<String>, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let control = &mut client.control;
    let answer = match task {
        Some(task) => control.retry_task(RetryTaskRequest { id, task }).await,
        None => control.retry_workflow(RetryWorkflowRequest { id }).await,
    };
    changed(&client, answer, asking)
}

pub(super) async fn decide(decision: Decision, approved: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let request = DecideApprovalRequest {
        id: decision.id,
        task: decision.task,
        approved,
        comment: decision.comment,
    };
    let answer = client.control.decide_approval(request).await;
    changed(&client, answer, asking)
}

fn changed(
    client: &Client,
    answer: Result<Response<v1::Workflow>, Status>,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let workflow = Workflow::from(client.answer(answer)?);
    output::one(asking.out, asking.output, &workflow, |out| {
        writeln!(out, "workflow {} is {}", workflow.id, workflow.state_and_time())?;
        Ok(())
    })
}
