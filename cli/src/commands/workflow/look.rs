//! Looking at a workflow: once, or until it has ended.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use jiff::SignedDuration;
use proto::v1::{
    ExplainWorkflowRequest, WaitWorkflowRequest, WorkflowDataRequest, WorkflowEventsRequest,
    WorkflowLogsRequest,
};
use serde::Serialize;

use super::super::{Asking, progress};
use super::fetch;
use crate::failure::Failure;
use crate::output::{self, Format, Rows};
use crate::views::{Event, LogLine, Workflow, when};

pub(super) async fn get(id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let workflow = fetch(&mut asking.connect().await?, id).await?;
    output::one(asking.out, asking.output, &workflow, |out| {
        let mut line = |what: &str, value: &str| writeln!(out, "{:<11}{value}", format!("{what}:"));
        line("ID", &workflow.id)?;
        line("Name", &workflow.name)?;
        line("Template", &workflow.template)?;
        let message = workflow
            .message
            .as_deref()
            .map(|message| format!(": {}", message.replace('\n', "\n           ")))
            .unwrap_or_default();
        line("State", &format!("{}{message}", workflow.state))?;
        if workflow.run > 1 {
            line("Run", &workflow.run.to_string())?;
        }
        if let Some(parent) = &workflow.parent {
            line("Part of", parent)?;
        }
        line("Created", &when(workflow.created_at.as_deref()))?;
        line("Started", &when(workflow.started_at.as_deref()))?;
        if let Some(paused) = &workflow.paused_at {
            line("Paused", &when(Some(paused)))?;
        }
        line("Ended", &when(workflow.ended_at.as_deref()))?;
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
    let mut workflow = fetch(&mut asking.connect().await?, id).await?;
    // The rendered text belongs to `get`.
    workflow.definition = None;
    output::one(asking.out, asking.output, &workflow, |out| table(&workflow, out))
}

fn table(workflow: &Workflow, out: &mut dyn Write) -> Result<(), Failure> {
    let message = workflow
        .message
        .as_deref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    writeln!(out, "{}{message}\n", workflow.state)?;
    output::table(
        out,
        &["TASK", "MACHINE", "ACTION", "STATE", "TRIES", "TIME", "MESSAGE"],
        workflow.rows().into_iter(),
    )
}

/// Draws the state anew whenever something happens; where it is no terminal, once at the end.
pub(super) async fn watch(id: String, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    const AT_MOST_EVERY: Duration = Duration::from_millis(200);
    let mut client = asking.connect().await?;
    let request = WorkflowEventsRequest {
        id: id.clone(),
        from: 0,
        follow: true,
    };
    let answer = client.control.workflow_events(request).await;
    let mut events = client.answer(answer)?;
    let drawn = asking.output == Format::Table && std::io::stdout().is_terminal();
    loop {
        // Whatever has happened by then is drawn together.
        let more = client.next(&mut events).await?.is_some();
        let quiet = tokio::time::sleep(AT_MOST_EVERY);
        tokio::pin!(quiet);
        let mut ended = !more;
        while !ended {
            tokio::select! {
                () = &mut quiet => break,
                next = client.next(&mut events) => ended = next?.is_none(),
            }
        }
        let mut workflow = fetch(&mut client, id.clone()).await?;
        workflow.definition = None;
        if drawn {
            // Home, and below that nothing: no scroll-back is lost.
            write!(asking.out, "\x1b[H\x1b[J{}  {}\n\n", workflow.id, workflow.name)?;
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
            writeln!(out, "{line}")?;
        }
        Ok(())
    })
}

pub(super) async fn events(id: String, from: u64, follow: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .workflow_events(WorkflowEventsRequest { id, from, follow })
        .await;
    let mut events = client.answer(answer)?;
    while let Some(event) = client.next(&mut events).await? {
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
            asking.out.write_all(&file.content)?;
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

pub(super) async fn logs(id: String, follow: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .workflow_logs(WorkflowLogsRequest { id, follow })
        .await;
    let mut lines = client.answer(answer)?;
    let mut of = None;
    while let Some(line) = client.next(&mut lines).await? {
        let line = LogLine::from(line);
        let attempt = (
            line.execution.clone(),
            line.task.clone(),
            line.action.clone(),
            line.attempt,
        );
        let begins = of.as_ref() != Some(&attempt);
        output::streamed(asking.out, asking.output, &line, || {
            let heading = format!("--- {}\n", line.place());
            format!("{}{}", if begins { heading.as_str() } else { "" }, line.text)
        })?;
        of = Some(attempt);
    }
    Ok(())
}

pub(super) async fn wait(
    id: String,
    timeout: Option<Duration>,
    asking: Asking<'_>,
) -> Result<ExitCode, Failure> {
    let client = asking.connect().await?;
    let timeout_ms = timeout.map_or(0, |timeout| {
        u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)
    });
    let mut control = client.control.clone();
    let request = WaitWorkflowRequest {
        id: id.clone(),
        timeout_ms,
    };
    let answer = tokio::select! {
        answer = control.wait_workflow(request) => client.answer(answer)?,
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
    output::one(asking.out, asking.output, &workflow, |out| {
        let message = workflow
            .message
            .as_deref()
            .map(|message| format!(": {message}"))
            .unwrap_or_default();
        writeln!(out, "workflow {} is {}{message}", workflow.id, workflow.state)?;
        Ok(())
    })?;
    Ok(exit_code(&workflow))
}

pub(super) fn exit_code(workflow: &Workflow) -> ExitCode {
    if workflow.state == "SUCCESS" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
