//! What people do to a workflow that there is.

use proto::v1;
use proto::v1::{
    CancelWorkflowRequest, DecideApprovalRequest, PauseTaskRequest, PauseWorkflowRequest, ResumeTaskRequest,
    ResumeWorkflowRequest, RetryTaskRequest, RetryWorkflowRequest, SetPolicyRequest, SkipTaskRequest,
    StartWorkflowRequest,
};
use std::io::Write;
use tonic::{Response, Status};

use super::super::Asking;
use super::Decision;
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::views::Workflow;

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
