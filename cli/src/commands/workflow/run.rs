//! `farrier run`: one action on one machine, now. A workflow in all respects.

use std::process::ExitCode;
use std::time::Duration;

use proto::v1::{CreateWorkflowRequest, GetMachineRequest, WaitWorkflowRequest, WorkflowLogsRequest};
use serde_json::{Map, Value, json};

use super::super::Asking;
use super::look::exit_code;
use crate::duration::duration;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::views::Workflow;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrier run node1 reboot
  farrier run node1 cexec -e BLOCK_DEVICE=/dev/vda1 -e FS_TYPE=ext4 -e CHROOT=y -e CMD_LINE='uname -a'
  farrier run node1 image2disk -e IMG_URL=http://10.77.0.1:7080/images/debian.raw.zst -e DEST_DISK=/dev/vda --timeout 30m

Prints what the action prints, and then how it ended. Exit code 0 for SUCCESS only. Interrupting it (Ctrl-C) leaves the
action running: `farrier workflow cancel ID` stops it.")]
pub(crate) struct RunArgs {
    /// The machine: name or MAC
    machine: String,
    /// The action's image
    image: String,
    /// Arguments of the action
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// An environment variable of the action; may be given more than once
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// A volume, as Docker's -v; may be given more than once
    #[arg(long = "volume", value_name = "FROM:TO[:OPTIONS]")]
    volumes: Vec<String>,
    /// How long it may take, such as 90s, 30m or 2h
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m")]
    timeout: Duration,
    /// Print its id and do not wait
    #[arg(short, long)]
    detach: bool,
}

pub(crate) async fn run(args: RunArgs, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let mut client = asking.connect().await?;
    let request = GetMachineRequest {
        name_or_mac: args.machine.clone(),
    };
    let answer = client.control.get_machine(request).await;
    let machine = client.answer(answer)?;
    let Some(worker) = machine.macs.first() else {
        return Err(Failure::Failed(format!("machine {} has no MAC", machine.name)));
    };
    let request = CreateWorkflowRequest {
        text: definition(&args, worker)?,
        name: format!("run {}", args.image),
        ..CreateWorkflowRequest::default()
    };
    let answer = client.control.create_workflow(request).await;
    let answer = client.answer(answer)?;
    super::warn(&answer.warnings);
    let id = answer.workflow.map(|workflow| workflow.id).unwrap_or_default();
    if args.detach {
        writeln!(asking.out, "{id}")?;
        return Ok(ExitCode::SUCCESS);
    }
    if !machine.attached {
        eprintln!(
            "workflow {id} waits for machine {}: switch it on, and it netboots into it",
            machine.name
        );
    }
    let request = WorkflowLogsRequest {
        id: id.clone(),
        follow: true,
    };
    let answer = client.control.workflow_logs(request).await;
    let mut lines = client.answer(answer)?;
    while let Some(line) = client.next(&mut lines).await? {
        if asking.output == Format::Table {
            writeln!(asking.out, "{}", line.text)?;
            asking.out.flush()?;
        }
    }
    let answer = client
        .control
        .wait_workflow(WaitWorkflowRequest { id, timeout_ms: 0 })
        .await;
    let workflow = client.answer(answer)?.workflow.map(Workflow::from);
    let Some(mut workflow) = workflow else {
        return Err(Failure::Failed(
            "the server ran a workflow and does not say which".into(),
        ));
    };
    workflow.definition = None;
    output::one(asking.out, asking.output, &workflow, |_| {
        let message = workflow
            .message
            .as_deref()
            .map(|message| format!(": {message}"))
            .unwrap_or_default();
        // What the action printed is the output.
        eprintln!("workflow {} is {}{message}", workflow.id, workflow.state);
        Ok(())
    })?;
    Ok(exit_code(&workflow))
}

/// A template of one action. JSON is YAML; what looks like an action of the template language is written so that it
/// comes out as it is.
fn definition(args: &RunArgs, worker: &str) -> Result<String, Failure> {
    let mut environment = Map::new();
    for variable in &args.environment {
        let (name, value) = variable
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("bad --env {variable:?}: expected NAME=VALUE")))?;
        environment.insert(name.to_owned(), value.into());
    }
    let mut action = json!({
        "name": "run",
        "image": args.image,
        "timeout": args.timeout.as_secs().max(1).to_string(),
    });
    if let Some(action) = action.as_object_mut() {
        for (field, value) in [
            ("command", json!(args.arguments)),
            ("volumes", json!(args.volumes)),
            ("environment", Value::Object(environment)),
        ] {
            if value.as_array().is_some_and(|list| !list.is_empty())
                || value.as_object().is_some_and(|map| !map.is_empty())
            {
                action.insert(field.to_owned(), value);
            }
        }
    }
    let text = json!({
        "version": "0.1",
        "name": "run",
        "tasks": [{"name": "run", "worker": worker, "actions": [action]}],
    });
    Ok(text.to_string().replace("{{", "{{\"{{\"}}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn written(line: &[&str]) -> String {
        let args = Line::parse_from([&["run"], line].concat()).run;
        definition(&args, "52:54:00:77:00:0b").unwrap()
    }

    #[test]
    fn a_run_is_a_template_of_one_action() {
        assert_eq!(
            written(&[
                "node1",
                "quay.io/a/b:v1",
                "-e",
                "A=b=c",
                "--timeout",
                "90s",
                "--",
                "-x",
                "y"
            ]),
            r#"{"version":"0.1","name":"run","tasks":[{"name":"run","worker":"52:54:00:77:00:0b","actions":[{"name":"run","image":"quay.io/a/b:v1","timeout":"90","command":["-x","y"],"environment":{"A":"b=c"}}]}]}"#
        );
    }

    #[test]
    fn braces_come_out_as_they_are() {
        let text = written(&["node1", "cexec", "-e", "CMD_LINE=docker ps --format {{.ID}}"]);
        assert!(text.contains(r#"--format {{"{{"}}.ID}}"#), "{text}");
    }
}
