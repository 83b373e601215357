//! Looking at a workflow: once, or until it has ended.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use proto::v1::{
    self, ExplainWorkflowRequest, GetWorkflowRequest, WaitWorkflowRequest, WaitWorkflowResponse,
    WorkflowDataRequest, WorkflowEventsRequest,
};
use serde::Serialize;
use tonic::{Response, Status, Streaming};
use workflow::labels::in_one_line;

use super::super::{Asking, last_of, progress};
use super::fetch_once;
use crate::failure::Failure;
use crate::following::{Control, Following, Source};
use crate::output::{self, Rows};
use crate::terminal::{Out, say, set_in};
use crate::views::{Event, Workflow, dash, when};

/// One by one; one that there is not keeps none of the others from being shown.
pub(super) async fn get(ids: Vec<String>, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let (mut workflows, mut failed) = (Vec::new(), Vec::new());
    let is_one = ids.len() == 1;
    for id in ids {
        match fetch_once(&mut client, id).await {
            Ok(workflow) => workflows.push(workflow),
            Err(failure) => failed.push(failure),
        }
    }
    match (workflows.as_slice(), asking.output.is_text()) {
        ([workflow], _) if is_one => {
            output::one(asking.out, asking.output, workflow, |out| shown(workflow, out))?;
        }
        (workflows, true) => {
            for (number, workflow) in workflows.iter().enumerate() {
                if number > 0 {
                    writeln!(asking.out)?;
                }
                shown(workflow, asking.out)?;
            }
        }
        (workflows, false) => output::values(asking.out, asking.output, workflows)?,
    }
    last_of(failed)
}

fn shown(workflow: &Workflow, out: &mut Out) -> Result<(), Failure> {
    let mut line = |what: &str, value: &str| output::field(out, 11, what, value);
    line("ID", &workflow.id)?;
    line("Name", &workflow.name)?;
    let version = workflow
        .template_version
        .map(|version| format!(", version {version}"))
        .unwrap_or_default();
    let template = dash(workflow.template.as_deref().unwrap_or_default());
    line("Template", &format!("{template}{version}"))?;
    let message = workflow
        .message
        .as_deref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    line("State", &format!("{}{message}", workflow.state))?;
    if let Some(begins) = workflow.begins() {
        line("Begins", &begins)?;
    }
    if workflow.run > 1 {
        line("Run", &workflow.run.to_string())?;
    }
    if let Some(parent) = &workflow.parent {
        line("Part of", parent)?;
    }
    line("Created", &when(workflow.created_at.as_deref()))?;
    line("Started", &when(workflow.started_at.as_deref()))?;
    for (what, asked) in [
        ("Paused", &workflow.paused),
        ("Resumed", &workflow.resumed),
        ("Cancelled", &workflow.cancelled),
    ] {
        if let Some(asked) = asked {
            line(what, &asked.line())?;
        }
    }
    line("Ended", &when(workflow.ended_at.as_deref()))?;
    line("Updated", &when(workflow.updated_at.as_deref()))?;
    if !workflow.labels.is_empty() {
        line("Labels", &in_one_line(&workflow.labels))?;
    }
    if !workflow.policy.is_empty() {
        line("Policy", &workflow.policy.join("\n"))?;
    }
    for (what, values) in [("Inputs", &workflow.inputs), ("Outputs", &workflow.outputs)] {
        if let Some(values) = values {
            line(what, &values.to_string())?;
        }
    }
    writeln!(
        out,
        "\n{}",
        workflow.definition.as_deref().unwrap_or_default().trim_end()
    )?;
    Ok(())
}

pub(super) async fn state(id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut workflow = fetch_once(&mut asking.connect().await?, id).await?;
    // The rendered text belongs to `get`.
    workflow.definition = None;
    output::one(asking.out, asking.output, &workflow, |out| table(&workflow, out))
}

/// What a state's rows have in them.
pub(super) const HEADER: [&str; 7] = ["TASK", "MACHINE", "ACTION", "STATE", "TRIES", "TIME", "MESSAGE"];
/// Which of these is the state.
pub(super) const STATE: usize = 3;

pub(super) fn table(workflow: &Workflow, out: &mut Out) -> Result<(), Failure> {
    writeln!(out, "{}\n", workflow.state_in_words())?;
    output::table_of_states(out, &HEADER, &workflow.rows(), STATE)?;
    for (task, warning) in workflow.warnings() {
        writeln!(out, "\nwarning: task {task:?}: {}", set_in(warning, 2))?;
    }
    Ok(())
}

/// Of a workflow, by their numbers.
pub(super) struct Events(pub(super) WorkflowEventsRequest);

impl Source for Events {
    type Item = v1::WorkflowEvent;

    async fn open(&self, mut control: Control) -> Result<Response<Streaming<Self::Item>>, Status> {
        control.workflow_events(self.0.clone()).await
    }

    fn take(&mut self, event: &Self::Item) -> bool {
        let is_new = event.number >= self.0.from;
        self.0.from = self.0.from.max(event.number.saturating_add(1));
        is_new
    }

    fn is_followed(&self) -> bool {
        self.0.follow
    }
}

#[derive(Serialize)]
struct Explanation {
    lines: Vec<String>,
}

pub(super) async fn explain(id: String, task: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .explain_workflow(ExplainWorkflowRequest { id, task })
        .await;
    let explanation = Explanation {
        lines: client.answer(answer)?.lines,
    };
    output::one(asking.out, asking.output, &explanation, |out| {
        for line in &explanation.lines {
            writeln!(out, "{}", set_in(line, 2))?;
        }
        Ok(())
    })
}

pub(super) async fn events(id: String, from: u64, follow: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let events = Events(WorkflowEventsRequest { id, from, follow });
    let mut events = Following::new(&client, None).stream(events);
    while let Some(event) = events.next().await? {
        let event = Event::from(event);
        output::streamed(asking.out, asking.output, &event, || event.line())?;
    }
    Ok(())
}

#[derive(Serialize)]
struct DataFile {
    path: String,
    version: u64,
    size_bytes: u64,
    sha256: String,
}

impl Rows for DataFile {
    const HEADER: &'static [&'static str] = &["PATH", "BYTES", "SHA-256"];
    const NONE: &'static str = "no files: its actions have written none to /workflow so far";

    fn row(&self) -> Vec<String> {
        vec![
            self.path.clone(),
            self.size_bytes.to_string(),
            self.sha256.clone(),
        ]
    }
}

/// A list of the files, or one file's content as it is.
pub(super) async fn data(
    id: String,
    path: Option<String>,
    version: u64,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    if path.is_some() && !asking.output.is_text() {
        return Err(Failure::Usage(
            "one file is printed as it is: leave -o out, or the path for a list of all".into(),
        ));
    }
    let mut client = asking.connect().await?;
    let one = path.is_some();
    let request = WorkflowDataRequest {
        id,
        version,
        path: path.unwrap_or_default(),
    };
    let answer = client.control.workflow_data(request).await;
    let mut stream = client.answer(answer)?;
    let mut files = Vec::new();
    while let Some(file) = client.next(&mut stream).await? {
        if one {
            asking.out.document(&file.content)?;
        } else {
            let (version, size_bytes) = (file.version, file.size_bytes);
            files.push(DataFile {
                path: file.path,
                version,
                size_bytes,
                sha256: file.sha256,
            });
        }
    }
    match one {
        true => Ok(()),
        false => output::list(asking.out, asking.output, &files),
    }
}

pub(super) async fn wait(
    id: String,
    timeout: Option<Duration>,
    asking: Asking<'_>,
) -> Result<ExitCode, Failure> {
    let client = asking.connect().await?;
    let mut asks = Following::new(&client, timeout);
    let answer = tokio::select! {
        answer = ended(&mut asks, &id) => answer?,
        never = progress::show(&client, &id) => match never {},
    };
    let Some(mut workflow) = answer.workflow.map(Workflow::from) else {
        return Err(Failure::Failed(
            "the server waited for a workflow and does not say which".into(),
        ));
    };
    workflow.definition = None;
    if !answer.ended {
        let after = timeout
            .map(SignedDuration::try_from)
            .and_then(Result::ok)
            .unwrap_or_default();
        return Err(Failure::Failed(format!(
            "workflow {} is still {} after {after:#}",
            workflow.id, workflow.state
        )));
    }
    say_warnings(&workflow);
    output::one(asking.out, asking.output, &workflow, |out| {
        writeln!(out, "workflow {} is {}", workflow.id, workflow.state_in_words())?;
        Ok(())
    })?;
    Ok(exit_code(&workflow))
}

/// What is odd about a workflow that has ended, on stderr.
fn say_warnings(workflow: &Workflow) {
    for (task, warning) in workflow.warnings() {
        say(format_args!("warning: task {task:?}: {}", set_in(warning, 2)));
    }
}

/// When it has ended, or the time limit is over.
pub(super) async fn ended(asks: &mut Following<'_>, id: &str) -> Result<WaitWorkflowResponse, Failure> {
    let until = asks.until();
    let wait = |mut control: Control| async move {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout_ms = left.map_or(0, |left| {
            u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
        });
        let id = id.to_owned();
        control
            .wait_workflow(WaitWorkflowRequest { id, timeout_ms })
            .await
    };
    let is_there = |mut control: Control| async move {
        let id = id.to_owned();
        control.get_workflow(GetWorkflowRequest { id }).await
    };
    asks.ask_long(wait, is_there).await
}

pub(super) fn exit_code(workflow: &Workflow) -> ExitCode {
    if workflow.state == "SUCCESS" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
