//! `farrier run`: one action on one machine, now. A workflow in all respects.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use proto::v1::{CreateWorkflowRequest, GetMachineRequest};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use workflow::language::secrets_in;

use super::super::{Asking, labels};
use super::logs::Lines;
use super::look::{ended, exit_code};
use crate::client::Client;
use crate::duration::duration;
use crate::failure::Failure;
use crate::following::Following;
use crate::last;
use crate::output;
use crate::terminal::say;
use crate::views::Workflow;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farrier run node1 reboot
  farrier run node1 exec lsblk -o NAME,SIZE,MODEL            looks at the machine; no disk is needed, and none is written
  farrier run node1 exec --write -- nvme format /dev/nvme0n1   may do whatever root may
  farrier run node1 cexec -e BLOCK_DEVICE=/dev/vda1 -e FS_TYPE=ext4 -e CHROOT=y -- uname -a
  farrier run node1 cexec -i block_device=/dev/vda1 -i fs_type=ext4 -i count=3 -- sh -c 'cat $FARRIER_INPUT'
  farrier run node1 image2disk -e IMG_URL=http://10.77.0.1:7080/images/debian.raw.zst -e DEST_DISK=/dev/vda --timeout 30m

Prints what the action prints, and then how it ended. Exit code 0 for SUCCESS only. Interrupting it (Ctrl-C) leaves the
action running: `farrier workflow cancel ID` stops it.")]
pub(crate) struct RunArgs {
    /// The machine: name, MAC or address
    machine: String,
    /// The action's image
    image: String,
    /// The command, for exec and cexec: word by word as it is run, no shell; with -- in front of them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// With exec: the command may change the machine and its disks; else it can only read
    #[arg(long)]
    write: bool,
    /// An environment variable of the action; may be given more than once
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// A value of the action's input, which it finds as JSON in the file that $FARRIER_INPUT names; a built-in action takes its
    /// variables from it, too. What is JSON is taken for that (3, true, [1, 2]), all else for text; may be given more than once
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    input: Vec<String>,
    /// A volume, as Docker's -v; may be given more than once
    #[arg(long = "volume", value_name = "FROM:TO[:OPTIONS]")]
    volumes: Vec<String>,
    /// How long it may take, such as 90s, 30m or 2h; 0: as long as it takes
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m")]
    timeout: Duration,
    /// A label to find its workflow by; may be given more than once
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Print its id and do not wait
    #[arg(short, long)]
    detach: bool,
}

pub(crate) async fn run(args: RunArgs, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let client = asking.connect().await?;
    let mut asks = Following::new(&client, None);
    let answer = asks.ask(|mut control| {
        let name_or_mac = args.machine.clone();
        async move { control.get_machine(GetMachineRequest { name_or_mac }).await }
    });
    let machine = answer.await?;
    if !asking.namespace.is_empty() && asking.namespace != machine.namespace {
        return Err(Failure::NotFound(format!(
            "machine {} is not of namespace {:?}, but of {:?}: leave -n out",
            machine.name, asking.namespace, machine.namespace
        )));
    }
    let Some(worker) = machine.macs.first() else {
        return Err(Failure::Failed(format!("machine {} has no MAC", machine.name)));
    };
    let request = CreateWorkflowRequest {
        text: definition(&args, worker)?,
        name: format!("run {}", args.image),
        namespace: machine.namespace.clone(),
        labels: labels(&args.labels)?.into_iter().collect(),
        ..CreateWorkflowRequest::default()
    };
    carried_out(request, "run", &machine, args.detach, &client, asking).await
}

/// Makes a workflow that is for this machine alone, and, unless it is detached, prints what its actions print, and how it ended.
pub(crate) async fn carried_out(
    request: CreateWorkflowRequest,
    command: &str,
    machine: &proto::v1::Machine,
    detach: bool,
    client: &Client,
    asking: Asking<'_>,
) -> Result<ExitCode, Failure> {
    let mut asks = Following::new(client, None);
    let request = CreateWorkflowRequest {
        // Asked for again when the server goes away before it has answered, it is still one workflow.
        idempotency_key: format!("{command}-{}", Uuid::new_v4()),
        ..request
    };
    let answer = asks.ask(|mut control| {
        let request = request.clone();
        async move { control.create_workflow(request).await }
    });
    let answer = answer.await?;
    super::warn(&answer.warnings);
    let Some(made) = answer.workflow.map(Workflow::from) else {
        return Err(Failure::Failed(
            "the server made a workflow and does not say which".into(),
        ));
    };
    last::keep(&asking.server, &made.id);
    if detach {
        output::one(asking.out, asking.output, &made, |out| {
            Ok(writeln!(out, "{}", made.id)?)
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let id = made.id;
    match machine.attached {
        true => say(format_args!("workflow {id} is for machine {}", machine.name)),
        false => say(format_args!(
            "workflow {id} waits for machine {}: switch it on, and it netboots into it",
            machine.name
        )),
    }
    let followed = async {
        let mut lines = Following::new(client, None).stream(Lines::of(id.clone(), true));
        while let Some(line) = lines.next().await? {
            if asking.output.is_text() {
                writeln!(asking.out, "{}", line.text)?;
                asking.out.flush()?;
            }
        }
        ended(&mut asks, &id).await
    };
    let answer = tokio::select! {
        answer = followed => answer?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            say(format_args!(
                "\nworkflow {id} goes on; `farrier workflow cancel {id}` stops it, `farrier workflow watch {id}` shows it"
            ));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let workflow = answer.workflow.map(Workflow::from);
    let Some(mut workflow) = workflow else {
        return Err(Failure::Failed(
            "the server ran a workflow and does not say which".into(),
        ));
    };
    workflow.definition = None;
    output::one(asking.out, asking.output, &workflow, |_| {
        // What the action printed is the output.
        say(format_args!(
            "workflow {} is {}",
            workflow.id,
            workflow.state_in_words()
        ));
        Ok(())
    })?;
    Ok(exit_code(&workflow))
}

/// As a shell has it: 128, and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// A template of one action. JSON is YAML; what looks like an action of the template language is written so that it
/// comes out as it is.
fn definition(args: &RunArgs, worker: &str) -> Result<String, Failure> {
    let mut environment = Map::new();
    for variable in &args.environment {
        let (name, value) = name_and_value("--env", variable)?;
        environment.insert(name.to_owned(), value.into());
    }
    let mut input = Map::new();
    for field in &args.input {
        let (name, text) = name_and_value("--input", field)?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        if input.insert(name.to_owned(), value).is_some() {
            return Err(Failure::Usage(format!(
                "--input has {name:?} twice: leave one out"
            )));
        }
    }
    let native = workflow::language::native(&args.image).map(|native| native.name);
    if let Some(name) = native
        && !args.volumes.is_empty()
    {
        return Err(Failure::Usage(format!(
            "--volume has no effect on {name}, which is built into the agent and sees the whole machine: leave it out"
        )));
    }
    let mut command = args.arguments.as_slice();
    if let Some(name) = native
        && !command.is_empty()
    {
        if !["cexec", "exec"].contains(&name) {
            return Err(Failure::Usage(format!(
                "{name} takes no arguments, and these were given: {}; it is told what to do with -e NAME=VALUE",
                command.join(" ")
            )));
        }
        if environment.contains_key("CMD_LINE") || environment.contains_key("DEFAULT_INTERPRETER") {
            return Err(Failure::Usage(format!(
                "{name} has its command as arguments, or in -e CMD_LINE=… (and -e DEFAULT_INTERPRETER=…): give one of them"
            )));
        }
        environment.insert("CMD_LINE".into(), one_line(command).into());
        command = &[];
    }
    if native == Some("exec") && !environment.contains_key("CMD_LINE") && !input.contains_key("cmd_line") {
        return Err(Failure::Usage(
            "exec needs a command: farrier run MACHINE exec COMMAND [WORD…]".into(),
        ));
    }
    if args.write {
        if native != Some("exec") {
            return Err(Failure::Usage(format!(
                "--write has no effect on {}: it is for exec, which reads only without it",
                args.image
            )));
        }
        environment.insert("WRITE".into(), "true".into());
    }
    let mut action = json!({
        "name": "run",
        "image": args.image,
        "timeout": seconds(args.timeout).to_string(),
    });
    if let Some(action) = action.as_object_mut() {
        for (field, value) in [
            ("command", json!(command)),
            ("volumes", json!(args.volumes)),
            ("environment", Value::Object(environment)),
            ("input", Value::Object(input)),
        ] {
            if value.as_array().is_some_and(|list| !list.is_empty())
                || value.as_object().is_some_and(|map| !map.is_empty())
            {
                action.insert(field.to_owned(), value);
            }
        }
    }
    let is_version_1 = !args.input.is_empty() || secrets_in(&action.to_string()).next().is_some();
    let text = json!({
        // Only version 1 has inputs of actions, and secrets.
        "version": if is_version_1 { "1" } else { "0.1" },
        "name": "run",
        "tasks": [{"name": "run", "worker": worker, "actions": [action]}],
    });
    Ok(written_out(&text.to_string(), is_version_1))
}

fn name_and_value<'t>(option: &str, text: &'t str) -> Result<(&'t str, &'t str), Failure> {
    text.split_once('=')
        .filter(|(name, _)| !name.trim().is_empty())
        .ok_or_else(|| Failure::Usage(format!("bad {option} {text:?}: expected NAME=VALUE")))
}

/// What looks like an action of the template language, or like an expression of version 1, written so that it comes out as
/// it is; secrets stay what they are.
pub(crate) fn written_out(text: &str, is_version_1: bool) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let (before, from) = rest.split_at(at);
        let end = from.find("}}").map_or(from.len(), |end| end + 2);
        let hole = format!("${}", &from[..end]);
        let is_one = !from[2..end].contains("{{");
        written.push_str(before);
        rest = &from[2..];
        if !is_version_1 || !before.ends_with('$') {
            written.push_str("{{\"{{\"}}");
        } else if is_one && secrets_in(&hole).next().is_some() {
            written.push_str(&from[..end]);
            rest = &from[end..];
        } else {
            written.push_str("{{ '${{' }}");
        }
    }
    written.push_str(rest);
    written
}

/// Whole ones; a part of one counts. 0 is no limit.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A command line that `cexec` splits into these words again.
fn one_line(words: &[String]) -> String {
    let quoted = |word: &String| {
        let is_plain = |letter: char| letter.is_alphanumeric() || "-_./=:,@%+".contains(letter);
        match !word.is_empty() && word.chars().all(is_plain) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', "'\\''")),
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
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
    fn arguments_of_cexec_are_its_command() {
        let text = written(&[
            "node1",
            "cexec",
            "-e",
            "FS_TYPE=ext4",
            "--",
            "sh",
            "-c",
            "echo it's; ls",
            "",
        ]);
        let text: Value = serde_json::from_str(&text).unwrap();
        let action = &text["tasks"][0]["actions"][0];
        assert_eq!(action["environment"]["CMD_LINE"], r"sh -c 'echo it'\''s; ls' ''");
        assert_eq!(action["command"], Value::Null);
    }

    #[test]
    fn exec_has_its_command_as_arguments_and_writes_only_when_told() {
        let environment = |line: &[&str]| {
            let text: Value = serde_json::from_str(&written(line)).unwrap();
            text["tasks"][0]["actions"][0]["environment"].clone()
        };
        assert_eq!(
            environment(&["node1", "exec", "lsblk", "-f", "--write"]),
            json!({"CMD_LINE": "lsblk -f --write"})
        );
        assert_eq!(
            environment(&["node1", "exec", "--write", "--", "nvme", "format", "/dev/nvme0n1"]),
            json!({"CMD_LINE": "nvme format /dev/nvme0n1", "WRITE": "true"})
        );
        let refused = |line: &[&str]| {
            let args = Line::parse_from([&["run"], line].concat()).run;
            definition(&args, "52:54:00:77:00:0b").unwrap_err().to_string()
        };
        assert!(refused(&["n", "exec"]).starts_with("exec needs a command"));
        assert!(
            refused(&["n", "cexec", "--write", "--", "ls"]).starts_with("--write has no effect on cexec")
        );
    }

    #[test]
    fn an_input_is_data_of_version_1() {
        let line = [
            "node1",
            "cexec",
            "-i",
            "users=[\"ann\"]",
            "-i",
            "n=3",
            "-i",
            "mode=0644",
            "-i",
            "text=a {{.b}} ${{ c }}",
        ];
        let rendered =
            workflow::language::render(&written(&line), &Default::default()).expect("a good template");
        let input = &rendered.definition.tasks[0].actions[0].input;
        assert_eq!(rendered.definition.version, "1");
        let filled =
            workflow::expression::fill_handed_value(&Value::Object(input.clone()), &Default::default());
        assert_eq!(
            filled.expect("it can be filled").0,
            json!({"users": ["ann"], "n": 3, "mode": "0644", "text": "a {{.b}} ${{ c }}"})
        );
        let refused = |input: &[&str]| {
            let args = Line::parse_from([&["run", "node1", "cexec"], input].concat()).run;
            definition(&args, "52:54:00:77:00:0b").unwrap_err().to_string()
        };
        assert_eq!(refused(&["-i", "a"]), "bad --input \"a\": expected NAME=VALUE");
        assert_eq!(
            refused(&["-i", "a=1", "-i", "a=2"]),
            "--input has \"a\" twice: leave one out"
        );
    }

    #[test]
    fn arguments_that_nobody_reads_are_refused() {
        let refused = |line: &[&str]| {
            let args = Line::parse_from([&["run"], line].concat()).run;
            definition(&args, "52:54:00:77:00:0b").unwrap_err().to_string()
        };
        assert!(
            refused(&["n", "quay.io/tinkerbell/actions/reboot:v1", "now"])
                .starts_with("reboot takes no arguments")
        );
        assert!(refused(&["n", "reboot", "-e", "=x"]).contains("expected NAME=VALUE"));
        assert!(refused(&["n", "image2disk", "http://h/i"]).contains("-e NAME=VALUE"));
        assert!(refused(&["n", "cexec", "-e", "CMD_LINE=id", "--", "ls"]).contains("give one of them"));
    }

    #[test]
    fn no_time_is_no_limit() {
        for (given, want) in [
            ("0", "\"timeout\":\"0\""),
            ("0s", "\"timeout\":\"0\""),
            ("500ms", "\"timeout\":\"1\""),
            ("90s", "\"timeout\":\"90\""),
        ] {
            let text = written(&["n", "reboot", "--timeout", given]);
            assert!(text.contains(want), "{text}");
        }
    }

    #[test]
    fn braces_come_out_as_they_are() {
        let text = written(&["node1", "cexec", "-e", "CMD_LINE=docker ps --format {{.ID}}"]);
        assert!(text.contains(r#"--format {{"{{"}}.ID}}"#), "{text}");
    }

    /// What an action would be handed by a workflow that is made of this.
    fn handed(line: &[&str]) -> Vec<String> {
        use workflow::expression::{Scope, fill_handed};
        let text = written(line);
        let rendered = workflow::language::render(&text, &Default::default()).expect("a good template");
        let action = &rendered.definition.tasks[0].actions[0];
        let texts = action.environment.values().chain(&action.command);
        let filled = texts.map(|text| match rendered.definition.version.as_str() {
            "1" => fill_handed(text, &Scope::default()).expect("it can be filled").0,
            _ => text.clone(),
        });
        filled.collect()
    }

    #[test]
    fn secrets_are_put_in_and_all_else_comes_out_as_it_is() {
        let odd = "{{.ID}} ${{ inputs.a }} $${{ {{ ${{secrets.x}}";
        let line = ["node1", "x", "-e", "A=${{ secrets.PW }}", "-e"];
        let with = |more: &str| handed(&[&line[..], &[&format!("B={more}"), "--", "c"]].concat());
        assert!(written(&line[..4]).contains("\"version\":\"1\""));
        assert_eq!(
            with(odd),
            [
                "${{ secrets.PW }}",
                &odd.replace("${{secrets.x}}", "${{ secrets.x }}"),
                "c"
            ]
        );
        let plain = "{{.ID}} ${{ inputs.a }} ${{";
        assert_eq!(handed(&["node1", "x", "-e", &format!("B={plain}")]), [plain]);
    }
}
