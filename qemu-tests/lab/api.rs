//! The control plane's API, for tests and for the lab: blocking calls over one connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use access::{PinnedChannel, Token};
use anyhow::Context;
use proto::v1::control_service_client::ControlServiceClient;
use proto::v1::{
    ActionProgress, ApplyMachinesRequest, BootLogEntry, BootLogRequest, CancelWorkflowRequest,
    CreateWorkflowRequest, DecideApprovalRequest, GetMachineRequest, GetWorkflowRequest, LogLine, Machine,
    PauseWorkflowRequest, PutTemplateRequest, ResumeWorkflowRequest, Template, WatchProgressRequest,
    Workflow, WorkflowDataRequest, WorkflowEvent, WorkflowEventsRequest, WorkflowLogsRequest,
};
use tokio::runtime::Runtime;
use tonic::{Status, Streaming};

use crate::lab::wait::{Look, WaitError, wait_until};

const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// A client of the control plane. Reconnects by itself after the server was restarted.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    client: ControlServiceClient<PinnedChannel>,
}

impl Api {
    /// A client of the server at `authority` ("127.0.0.1:42115"); connects when it is first used.
    ///
    /// # Errors
    /// When the authority is not one.
    pub fn new(authority: &str, token: &Token) -> anyhow::Result<Api> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        // A lazy channel is tied to the runtime that it is made in.
        let _inside = runtime.enter();
        Ok(Api {
            client: ControlServiceClient::new(access::channel(authority, token, Some(ANSWERS_WITHIN))?),
            runtime,
        })
    }

    /// Creates or updates machines; gives the warnings.
    ///
    /// # Errors
    /// What the server refused, in its words.
    pub fn apply_machines(&self, yaml: &str, source: &str) -> anyhow::Result<Vec<String>> {
        let request = ApplyMachinesRequest {
            yaml: yaml.to_owned(),
            source: source.to_owned(),
            ..ApplyMachinesRequest::default()
        };
        Ok(self
            .call(|mut client| async move { client.apply_machines(request).await })?
            .warnings)
    }

    /// One machine.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn machine(&self, name_or_mac: &str) -> anyhow::Result<Machine> {
        let request = GetMachineRequest {
            name_or_mac: name_or_mac.to_owned(),
        };
        self.call(|mut client| async move { client.get_machine(request).await })
    }

    /// Stores a template under the name that is in it.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn put_template(&self, text: &str) -> anyhow::Result<Template> {
        let request = PutTemplateRequest {
            name: String::new(),
            text: text.to_owned(),
            ..PutTemplateRequest::default()
        };
        self.call(|mut client| async move { client.put_template(request).await })
    }

    /// Creates a workflow: `devices` says what the template's variables stand for.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn create_workflow(&self, template: &str, devices: &[(&str, &str)]) -> anyhow::Result<Workflow> {
        let devices: HashMap<_, _> = devices
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let request = CreateWorkflowRequest {
            template: template.to_owned(),
            devices,
            ..Default::default()
        };
        let response = self.call(|mut client| async move { client.create_workflow(request).await })?;
        response
            .workflow
            .context("the server created a workflow but did not say which")
    }

    /// Creates a workflow from a template's text, without storing that.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn run_template(&self, text: &str) -> anyhow::Result<Workflow> {
        let request = CreateWorkflowRequest {
            text: text.to_owned(),
            ..Default::default()
        };
        let response = self.call(|mut client| async move { client.create_workflow(request).await })?;
        response
            .workflow
            .context("the server created a workflow but did not say which")
    }

    /// Starts nothing more of a workflow.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn pause(&self, id: &str) -> anyhow::Result<Workflow> {
        let request = PauseWorkflowRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.call(|mut client| async move { client.pause_workflow(request).await })
    }

    /// Goes on with a paused workflow.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn resume(&self, id: &str) -> anyhow::Result<Workflow> {
        let request = ResumeWorkflowRequest {
            id: id.to_owned(),
            ..ResumeWorkflowRequest::default()
        };
        self.call(|mut client| async move { client.resume_workflow(request).await })
    }

    /// Says yes to a task that waits for it.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn approve(&self, id: &str, task: &str) -> anyhow::Result<Workflow> {
        let request = DecideApprovalRequest {
            id: id.to_owned(),
            task: task.to_owned(),
            approved: true,
            ..Default::default()
        };
        self.call(|mut client| async move { client.decide_approval(request).await })
    }

    /// Stops a workflow.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn cancel(&self, id: &str, reason: &str) -> anyhow::Result<Workflow> {
        let request = CancelWorkflowRequest {
            id: id.to_owned(),
            reason: reason.to_owned(),
            ..CancelWorkflowRequest::default()
        };
        self.call(|mut client| async move { client.cancel_workflow(request).await })
    }

    /// One workflow.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn workflow(&self, id: &str) -> anyhow::Result<Workflow> {
        let request = GetWorkflowRequest { id: id.to_owned() };
        self.call(|mut client| async move { client.get_workflow(request).await })
    }

    /// Everything that happened in a workflow so far.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn events(&self, id: &str) -> anyhow::Result<Vec<WorkflowEvent>> {
        let request = WorkflowEventsRequest {
            id: id.to_owned(),
            from: 0,
            follow: false,
        };
        self.collect(|mut client| async move { client.workflow_events(request).await })
    }

    /// Everything that a workflow's actions printed so far.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn logs(&self, id: &str) -> anyhow::Result<Vec<LogLine>> {
        let request = WorkflowLogsRequest {
            id: id.to_owned(),
            follow: false,
            ..WorkflowLogsRequest::default()
        };
        self.collect(|mut client| async move { client.workflow_logs(request).await })
    }

    /// The files that actions of a workflow have handed over, by path.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn data(&self, id: &str) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let request = WorkflowDataRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let files = self.collect(|mut client| async move { client.workflow_data(request).await })?;
        Ok(files.into_iter().map(|file| (file.path, file.content)).collect())
    }

    /// The boot timeline of a machine; of strangers when `name_or_mac` is empty.
    ///
    /// # Errors
    /// As [`Api::apply_machines`].
    pub fn boot_log(&self, name_or_mac: &str) -> anyhow::Result<Vec<BootLogEntry>> {
        let request = BootLogRequest {
            name_or_mac: name_or_mac.to_owned(),
            follow: false,
            all: false,
            ..BootLogRequest::default()
        };
        self.collect(|mut client| async move { client.boot_log(request).await })
    }

    /// Starts to follow the progress of a workflow's actions; the latest is in the returned place.
    pub fn follow_progress(&self, id: &str) -> std::sync::Arc<Mutex<Option<ActionProgress>>> {
        let latest = std::sync::Arc::new(Mutex::new(None));
        let place = latest.clone();
        let mut client = self.client.clone();
        let request = WatchProgressRequest { id: id.to_owned() };
        self.runtime.spawn(async move {
            // Progress is for the eye; when the stream breaks it is asked for again until the client goes.
            loop {
                if let Ok(stream) = client.watch_progress(request.clone()).await {
                    let mut stream = stream.into_inner();
                    while let Ok(Some(progress)) = stream.message().await {
                        *place.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(progress);
                    }
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        latest
    }

    /// Waits until a workflow is in `state`; another final state ends the wait at once.
    ///
    /// # Errors
    /// [`WaitError`] with the workflow's state and message.
    pub fn wait_for_workflow(
        &self,
        id: &str,
        state: &str,
        deadline: Duration,
    ) -> Result<Workflow, WaitError> {
        wait_until(&format!("workflow {id} to be {state}"), deadline, || {
            match self.workflow(id) {
                Ok(workflow) if workflow.state == state => Look::Done(workflow),
                Ok(workflow) if is_final(&workflow.state) => Look::never(describe(&workflow)),
                Ok(workflow) => Look::not_yet(describe(&workflow)),
                Err(error) => Look::not_yet(format!("{error:#}")),
            }
        })
    }

    fn call<T, F>(&self, request: impl FnOnce(ControlServiceClient<PinnedChannel>) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let client = self.client.clone();
        self.runtime
            .block_on(request(client))
            .map(tonic::Response::into_inner)
            .map_err(in_words)
    }

    fn collect<T, F>(
        &self,
        request: impl FnOnce(ControlServiceClient<PinnedChannel>) -> F,
    ) -> anyhow::Result<Vec<T>>
    where
        F: Future<Output = Result<tonic::Response<Streaming<T>>, Status>>,
    {
        let client = self.client.clone();
        self.runtime.block_on(async {
            let mut stream = request(client).await.map_err(in_words)?.into_inner();
            let mut messages = Vec::new();
            while let Some(message) = stream.message().await.map_err(in_words)? {
                messages.push(message);
            }
            Ok(messages)
        })
    }
}

/// Whether no further transition follows (`PENDING` and `RUNNING` are the others).
pub fn is_final(state: &str) -> bool {
    matches!(state, "SUCCESS" | "FAILED" | "TIMEOUT" | "CANCELLED")
}

/// A workflow in one line: its state, and each action's.
pub fn describe(workflow: &Workflow) -> String {
    let actions: Vec<_> = workflow
        .tasks
        .iter()
        .flat_map(|task| &task.actions)
        .map(|action| {
            format!(
                "{} {} (attempts: {}) {}",
                action.name, action.state, action.attempts, action.message
            )
        })
        .map(|action| action.trim_end().to_owned())
        .collect();
    format!("{} {} [{}]", workflow.state, workflow.message, actions.join("; "))
}

fn in_words(status: Status) -> anyhow::Error {
    anyhow::anyhow!("{}: {}", status.code(), status.message())
}
