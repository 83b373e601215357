//! `farrier workflow`.

use std::process::ExitCode;
use std::time::Duration;

use jiff::SignedDuration;
use proto::v1::{
    CancelWorkflowRequest, CreateWorkflowRequest, DeleteWorkflowRequest, GetWorkflowRequest,
    ListWorkflowsRequest, WorkflowEventsRequest, WorkflowLogsRequest,
};

use super::{Asking, devices, progress, warn};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::views::{Event, LogLine, Workflow, dash, first_line, when};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum WorkflowCommand {
    /// Make a workflow from a template, for machines
    #[command(after_help = "\
Example:
  farrier workflow create -t debian -r device_1=52:54:00:77:00:0b

It begins as soon as its machine is attached; a machine that is switched on netboots into it.")]
    Create {
        /// Name or id of the template
        #[arg(short, long)]
        template: String,
        /// What a variable of the template stands for; more than once, or all of them as a JSON object
        #[arg(short = 'r', long = "devices", value_name = "NAME=VALUE")]
        devices: Vec<String>,
        /// The same key gives the same workflow, however often it is asked for
        #[arg(long, value_name = "TEXT")]
        idempotency_key: Option<String>,
        /// Its name [default: the template's]
        #[arg(short, long)]
        name: Option<String>,
        /// Print its id only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Show a workflow and what it was rendered to
    #[command(after_help = "Example:\n  farrier workflow get ID")]
    Get {
        /// Its id, from `farrier workflow list`
        id: String,
    },
    /// List workflows
    #[command(after_help = "Example:\n  farrier workflow list --machine node1")]
    List {
        /// Only those of this machine: name or MAC
        #[arg(short, long)]
        machine: Option<String>,
    },
    /// Delete a workflow that has ended, with its events and logs
    #[command(after_help = "Example:\n  farrier workflow delete ID")]
    Delete {
        /// Its id, from `farrier workflow list`
        id: String,
    },
    /// Start nothing more of a workflow, and stop what runs
    #[command(after_help = "Example:\n  farrier workflow cancel ID --reason 'wrong image'")]
    Cancel {
        /// Its id, from `farrier workflow list`
        id: String,
        /// Why, for those who look later
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Show what happened, in order
    #[command(after_help = "Example:\n  farrier workflow events ID -f")]
    Events {
        /// Its id, from `farrier workflow list`
        id: String,
        /// Keep printing until it has ended
        #[arg(short, long)]
        follow: bool,
    },
    /// Show how far it is, action by action
    #[command(after_help = "Example:\n  watch farrier workflow state ID")]
    State {
        /// Its id, from `farrier workflow list`
        id: String,
    },
    /// Print what its actions print
    #[command(after_help = "Example:\n  farrier workflow logs ID -f")]
    Logs {
        /// Its id, from `farrier workflow list`
        id: String,
        /// Keep printing until it has ended
        #[arg(short, long)]
        follow: bool,
    },
    /// Wait for its end; exit code 0 for SUCCESS only
    #[command(after_help = "Example:\n  farrier workflow wait ID --timeout 30m && echo installed")]
    Wait {
        /// Its id, from `farrier workflow list`
        id: String,
        /// How long, such as 90s, 30m or 2h [default: for ever]
        #[arg(long, value_name = "TIME", value_parser = duration)]
        timeout: Option<Duration>,
    },
}

pub(crate) async fn run(command: WorkflowCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    match command {
        WorkflowCommand::Create {
            template,
            devices: given,
            idempotency_key,
            name,
            quiet,
        } => {
            let request = CreateWorkflowRequest {
                template,
                devices: devices(&given)?.into_iter().collect(),
                idempotency_key: idempotency_key.unwrap_or_default(),
                name: name.unwrap_or_default(),
                ..CreateWorkflowRequest::default()
            };
            create(request, quiet, asking).await?;
        }
        WorkflowCommand::Get { id } => get(id, asking).await?,
        WorkflowCommand::List { machine } => list(machine.unwrap_or_default(), asking).await?,
        WorkflowCommand::Delete { id } => delete(id, asking).await?,
        WorkflowCommand::Cancel { id, reason } => cancel(id, reason, asking).await?,
        WorkflowCommand::Events { id, follow } => events(id, follow, asking).await?,
        WorkflowCommand::State { id } => state(id, asking).await?,
        WorkflowCommand::Logs { id, follow } => logs(id, follow, asking).await?,
        WorkflowCommand::Wait { id, timeout } => return wait(id, timeout, asking).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(request: CreateWorkflowRequest, quiet: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.create_workflow(request).await;
    let answer = client.answer(answer)?;
    warn(&answer.warnings);
    let Some(workflow) = answer.workflow.map(Workflow::from) else {
        return Err(Failure::Failed(
            "the server made a workflow and does not say which".into(),
        ));
    };
    output::one(asking.out, asking.output, &workflow, |out| {
        if quiet {
            writeln!(out, "{}", workflow.id)?;
        } else {
            writeln!(out, "workflow {} is {}", workflow.id, workflow.state)?;
        }
        Ok(())
    })
}

async fn get(id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let workflow = fetch(&mut asking.connect().await?, id).await?;
    output::one(asking.out, asking.output, &workflow, |out| {
        writeln!(out, "ID:        {}", workflow.id)?;
        writeln!(out, "Name:      {}", workflow.name)?;
        writeln!(out, "Template:  {}", workflow.template)?;
        let message = workflow
            .message
            .as_deref()
            .map(|message| format!(": {}", message.replace('\n', "\n           ")))
            .unwrap_or_default();
        writeln!(out, "State:     {}{message}", workflow.state)?;
        let at = [
            ("Created", &workflow.created_at),
            ("Started", &workflow.started_at),
            ("Ended", &workflow.ended_at),
        ];
        for (what, at) in at {
            writeln!(out, "{:<11}{}", format!("{what}:"), when(at.as_deref()))?;
        }
        writeln!(
            out,
            "\n{}",
            workflow.definition.as_deref().unwrap_or_default().trim_end()
        )?;
        Ok(())
    })
}

async fn list(machine: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .list_workflows(ListWorkflowsRequest { machine })
        .await;
    let workflows: Vec<_> = client
        .answer(answer)?
        .workflows
        .into_iter()
        .map(Workflow::from)
        .collect();
    output::list(asking.out, asking.output, &workflows)
}

async fn delete(id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .delete_workflow(DeleteWorkflowRequest { id: id.clone() })
        .await;
    client.answer(answer)?;
    output::deleted(asking.out, asking.output, "workflow", &id)
}

async fn cancel(id: String, reason: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .cancel_workflow(CancelWorkflowRequest { id, reason })
        .await;
    let workflow = Workflow::from(client.answer(answer)?);
    output::one(asking.out, asking.output, &workflow, |out| {
        writeln!(out, "workflow {} is {}", workflow.id, workflow.state)?;
        Ok(())
    })
}

async fn events(id: String, follow: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .workflow_events(WorkflowEventsRequest { id, from: 0, follow })
        .await;
    let mut events = client.answer(answer)?;
    while let Some(event) = client.next(&mut events).await? {
        let event = Event::from(event);
        output::streamed(asking.out, asking.output, &event, || event.line())?;
    }
    Ok(())
}

async fn state(id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut workflow = fetch(&mut asking.connect().await?, id).await?;
    // The rendered text belongs to `get`.
    workflow.definition = None;
    output::one(asking.out, asking.output, &workflow, |out| {
        let message = workflow
            .message
            .as_deref()
            .map(|message| format!(": {message}"))
            .unwrap_or_default();
        writeln!(out, "{}{message}\n", workflow.state)?;
        let rows = workflow.tasks.iter().flat_map(|task| {
            task.actions.iter().map(|action| {
                vec![
                    task.name.clone(),
                    task.worker.clone(),
                    action.name.clone(),
                    action.state.clone(),
                    action.attempts.to_string(),
                    action.time(),
                    dash(&first_line(action.message.as_deref().unwrap_or_default())),
                ]
            })
        });
        output::table(
            out,
            &["TASK", "MACHINE", "ACTION", "STATE", "TRIES", "TIME", "MESSAGE"],
            rows,
        )
    })
}

async fn logs(id: String, follow: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .workflow_logs(WorkflowLogsRequest { id, follow })
        .await;
    let mut lines = client.answer(answer)?;
    let mut of = None;
    while let Some(line) = client.next(&mut lines).await? {
        let line = LogLine::from(line);
        let attempt = (line.task.clone(), line.action.clone(), line.attempt);
        let begins = of.as_ref() != Some(&attempt);
        output::streamed(asking.out, asking.output, &line, || {
            let tries = if line.attempt > 1 {
                format!(" #{}", line.attempt)
            } else {
                String::new()
            };
            let heading = format!("--- {}/{}{tries}\n", line.task, line.action);
            format!("{}{}", if begins { heading.as_str() } else { "" }, line.text)
        })?;
        of = Some(attempt);
    }
    Ok(())
}

async fn wait(id: String, timeout: Option<Duration>, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let mut client = asking.connect().await?;
    let ended = async {
        let request = WorkflowEventsRequest {
            id: id.clone(),
            from: u64::MAX,
            follow: true,
        };
        let answer = client.control.clone().workflow_events(request).await;
        let mut events = client.answer(answer)?;
        // The stream ends with the workflow.
        while client.next(&mut events).await?.is_some() {}
        Ok::<(), Failure>(())
    };
    let ended = async {
        tokio::select! {
            ended = ended => ended,
            never = progress::show(&client, &id) => match never {},
        }
    };
    let waited = match timeout {
        Some(timeout) => tokio::time::timeout(timeout, ended)
            .await
            .is_ok_and(|ended| ended.is_ok()),
        None => ended.await.map(|()| true)?,
    };
    let mut workflow = fetch(&mut client, id).await?;
    workflow.definition = None;
    if !waited && workflow.ended_at.is_none() {
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
    Ok(if workflow.state == "SUCCESS" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn fetch(client: &mut Client, id: String) -> Result<Workflow, Failure> {
    let answer = client.control.get_workflow(GetWorkflowRequest { id }).await;
    Ok(Workflow::from(client.answer(answer)?))
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Option<SignedDuration> = match text.parse::<u64>() {
        Ok(seconds) => i64::try_from(seconds).ok().map(SignedDuration::from_secs),
        Err(_) => text.parse().ok(),
    };
    let positive = parsed.and_then(|duration| Duration::try_from(duration).ok());
    positive.ok_or_else(|| "expected a time such as 90s, 30m or 2h".to_owned())
}
