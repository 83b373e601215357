//! Looking at a workflow: once, or until it has ended.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use proto::v1::{
    self, ExplainWorkflowRequest, GetWorkflowRequest, WaitWorkflowRequest, WaitWorkflowResponse,
    WorkflowDataRequest, WorkflowEventsRequest, WorkflowLogsRequest,
};
use serde::Serialize;
use tonic::{Response, Status, Streaming};
use workflow::labels::in_one_line;

use super::super::{Asking, progress};
use super::{fetch, fetch_once};
use crate::failure::Failure;
use crate::following::{Control, Following, Source};
use crate::output::{self, Format, Rows};
use crate::terminal::{Out, say, set_in};
use crate::views::{Event, LogLine, Workflow, dash, when};

pub(super) async fn get(id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let workflow = fetch_once(&mut asking.connect().await?, id).await?;
    output::one(asking.out, asking.output, &workflow, |out| {
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
    })
}

pub(super) async fn state(id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut workflow = fetch_once(&mut asking.connect().await?, id).await?;
    // The rendered text belongs to `get`.
    workflow.definition = None;
    output::one(asking.out, asking.output, &workflow, |out| table(&workflow, out))
}

fn table(workflow: &Workflow, out: &mut Out) -> Result<(), Failure> {
    writeln!(out, "{}\n", workflow.state_in_words())?;
    output::table(
        out,
        &["TASK", "MACHINE", "ACTION", "STATE", "TRIES", "TIME", "MESSAGE"],
        workflow.rows().into_iter(),
    )?;
    for (task, warning) in workflow.warnings() {
        writeln!(out, "\nwarning: task {task:?}: {}", set_in(warning, 2))?;
    }
    Ok(())
}

/// Draws the state anew whenever something happens; where it is no terminal, once at the end.
pub(super) async fn watch(id: String, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    const AT_MOST_EVERY: Duration = Duration::from_millis(200);
    let client = asking.connect().await?;
    let mut asks = Following::new(&client, None);
    let mut events = Following::new(&client, None).stream(Events(WorkflowEventsRequest {
        id: id.clone(),
        from: 0,
        follow: true,
    }));
    let drawn = asking.output == Format::Table && asking.out.is_terminal();
    loop {
        // Whatever has happened by then is drawn together.
        let more = events.next().await?.is_some();
        let quiet = tokio::time::sleep(AT_MOST_EVERY);
        tokio::pin!(quiet);
        let mut ended = !more;
        while !ended {
            tokio::select! {
                () = &mut quiet => break,
                next = events.next() => ended = next?.is_none(),
            }
        }
        let mut workflow = fetch(&mut asks, &id).await?;
        workflow.definition = None;
        if drawn {
            // Home, and below that nothing: no scroll-back is lost.
            write!(asking.out.as_it_is()?, "\x1b[H\x1b[J")?;
            writeln!(asking.out, "{}  {}\n", workflow.id, workflow.name)?;
            table(&workflow, asking.out)?;
            asking.out.flush()?;
        }
        if ended {
            if !drawn {
                output::one(asking.out, asking.output, &workflow, |out| table(&workflow, out))?;
            }
            return Ok(exit_code(&workflow));
        }
    }
}

/// Of a workflow, by their numbers.
struct Events(WorkflowEventsRequest);

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

/// What actions print. Lines of an attempt are only added to: those that came before are counted, and left out.
pub(super) struct Lines {
    request: WorkflowLogsRequest,
    /// By execution, action and attempt: how many were taken, and how many this stream has brought.
    known: BTreeMap<(String, String, u32), (u64, u64)>,
}

impl Lines {
    pub(super) fn of(id: String, follow: bool) -> Self {
        Self {
            request: WorkflowLogsRequest { id, follow },
            known: BTreeMap::new(),
        }
    }
}

impl Source for Lines {
    type Item = v1::LogLine;

    async fn open(&self, mut control: Control) -> Result<Response<Streaming<Self::Item>>, Status> {
        control.workflow_logs(self.request.clone()).await
    }

    fn take(&mut self, line: &Self::Item) -> bool {
        let of = (line.execution.clone(), line.action.clone(), line.attempt);
        let (taken, brought) = self.known.entry(of).or_default();
        *brought += 1;
        let is_new = *brought > *taken;
        *taken = (*taken).max(*brought);
        is_new
    }

    fn is_followed(&self) -> bool {
        self.request.follow
    }

    fn reopened(&mut self) {
        self.known.values_mut().for_each(|(_, brought)| *brought = 0);
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
    if path.is_some() && asking.output != Format::Table {
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

/// `raw`: to the byte as they were printed, whatever that does to a terminal.
pub(super) async fn logs(id: String, follow: bool, raw: bool, asking: Asking<'_>) -> Result<(), Failure> {
    if raw && asking.output != Format::Table {
        return Err(Failure::Usage(
            "--raw is for text: JSON and YAML have the lines as they are already".into(),
        ));
    }
    let client = asking.connect().await?;
    let mut lines = Following::new(&client, None).stream(Lines::of(id, follow));
    let mut of = None;
    while let Some(line) = lines.next().await? {
        let line = LogLine::from(line);
        let attempt = (
            line.execution.clone(),
            line.task.clone(),
            line.action.clone(),
            line.attempt,
        );
        let begins = of.as_ref() != Some(&attempt);
        of = Some(attempt);
        if raw {
            if begins {
                writeln!(asking.out, "--- {}", line.place())?;
            }
            writeln!(asking.out.as_it_is()?, "{}", line.text)?;
            asking.out.flush()?;
            continue;
        }
        output::streamed(asking.out, asking.output, &line, || {
            let heading = format!("--- {}\n", line.place());
            format!("{}{}", if begins { heading.as_str() } else { "" }, line.text)
        })?;
    }
    Ok(())
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
