//! `farrier workflow`.

mod change;
mod graph;
mod listing;
mod logs;
mod look;
pub(crate) mod named;
mod preview;
pub(crate) mod run;
mod several;
mod watch;
mod words;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use proto::v1::{CreateWorkflowRequest, GetWorkflowRequest};

use super::{Asking, devices, labels, read_file, warn};
use crate::client::Client;
use crate::duration::duration;
use crate::failure::Failure;
use crate::following::Following;
use crate::last;
use crate::moment::{from_now, moment};
use crate::once::{Key, ask_once};
use crate::output;
use crate::views::Workflow;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum WorkflowCommand {
    /// Make a workflow from a template, for machines
    #[command(after_help = "\
Examples:
  farrier workflow create -t debian -r device_1=52:54:00:77:00:0b
  farrier workflow create -t rack -i rack=r7 -i 'packages=[\"jq\", \"tmux\"]'
  farrier workflow create -f wipe.yaml -r device_1=node1
  farrier workflow create -t debian -r device_1=node1 -l change=4711 -l owner=ann
  farrier workflow create -t debian -r device_1=node1 --at '2026-11-29 02:00'
  farrier workflow create -t debian -r device_1=node1 --policy 'ask writes=disk by=ops'
  farrier workflow create -t debian -r device_1=node1 --dry-run    what it would do to which disk

It begins as soon as its machine is attached; a machine that is switched on netboots into it. With --at or --in it begins then:
until that time it has no machine, and waits for none.")]
    Create {
        /// Name or id of the template; NAME@VERSION is an older version
        #[arg(short, long, required_unless_present = "file")]
        template: Option<String>,
        /// A template that is not stored, or Tinkerbell's Workflow; - is standard input
        #[arg(short, long, conflicts_with = "template")]
        file: Option<String>,
        /// What a variable of the template stands for; more than once, or all of them as a JSON object
        #[arg(short = 'r', long = "devices", value_name = "NAME=VALUE")]
        devices: Vec<String>,
        /// The machine whose record a template's .hardware is: name, MAC or address [default: the one that the devices tell]
        #[arg(long, value_name = "MACHINE")]
        machine: Option<String>,
        /// The value of an input: the text for one of type string, JSON for others; more than once, or all as a JSON object
        #[arg(short = 'i', long = "input", value_name = "NAME=VALUE")]
        inputs: Vec<String>,
        #[command(flatten)]
        key: Key,
        /// Its name [default: the template's]
        #[arg(long)]
        name: Option<String>,
        /// A label to find it by, beside those of the template; more than once
        #[arg(short, long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// A rule about its actions, before those of the template: ask, deny or auto with action=NAME, image=IMAGE or writes=disk,
        /// or step; more than once, the first that fits counts
        #[arg(long, value_name = "RULE")]
        policy: Vec<String>,
        #[command(flatten)]
        later: Later,
        /// Print its id only, whatever -o says
        #[arg(short, long)]
        quiet: bool,
        /// Check everything, make nothing, and say what the workflow would do to which disk
        #[arg(long, conflicts_with = "quiet")]
        dry_run: bool,
    },
    /// Show workflows and what they were rendered to
    #[command(after_help = "Example:\n  farrier workflow get ID")]
    Get {
        /// Its id or so much of it as is unique, its name, or @last; several are shown one by one
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// List workflows, the newest first; those that have ended and were archived too
    #[command(after_help = "\
Examples:
  farrier workflow list --waiting                         what waits for you
  farrier workflow list --unfinished --machine node1
  farrier workflow list --state failed,timeout --since 7d
  farrier workflow list --template debian --children      with sub-workflows
  farrier workflow list -l 'change=4711,owner!=bob' --show-labels
  farrier workflow list -l change=4711 -o name            ids, one a line")]
    List(Box<listing::ListArgs>),
    /// Set labels of workflows, or take them away, whatever their state is
    #[command(after_help = "\
Examples:
  farrier workflow label ID owner=ann reviewed=yes
  farrier workflow label ID ID owner=ann             of several, one by one
  farrier workflow label ID owner-                   takes it away")]
    Label {
        /// The workflows (id or so much of it as is unique, name, or @last), then what changes: KEY=VALUE sets a label, KEY- takes it away
        #[arg(required = true, value_name = "ID|KEY=VALUE|KEY-")]
        words: Vec<String>,
        #[command(flatten)]
        key: Key,
    },
    /// Delete a workflow that has ended, with its events and logs
    #[command(after_help = "Example:\n  farrier workflow delete ID")]
    Delete {
        /// Its id or so much of it as is unique, its name, or @last; several are deleted one by one
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[command(flatten)]
        key: Key,
    },
    /// Start nothing more of it, or of one task, until it is resumed; what runs, runs on
    #[command(after_help = "\
Examples:
  farrier workflow pause ID --reason 'power work in row 3'
  farrier workflow pause ID burn-in                            a task, also before its turn; the rest goes on
  farrier workflow pause ID 'image[3]' --reason 'look first'   one machine of a rollout
  farrier workflow pause $(farrier workflow list -l change=4711 -o name)   several, one by one

What is paused by itself and with the workflow goes on when both are resumed.")]
    Pause {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
        #[arg(
            value_name = "TASK|ID",
            help = "Only this task, or NAME[ITEM] for one item of a forEach, from 0 [default: all of it]; or more workflows by their ids"
        )]
        rest: Vec<String>,
        /// Why, for those who look later
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        key: Key,
    },
    /// Change when a workflow begins that was made with --at or --in
    #[command(after_help = "\
Examples:
  farrier workflow start ID --now
  farrier workflow start ID --at 2026-11-29T02:00:00Z")]
    #[command(group = clap::ArgGroup::new("when").required(true).args(["at", "in_time", "now"]))]
    Start {
        /// Its id or so much of it as is unique, its name, or @last; several begin one by one
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[command(flatten)]
        later: Later,
        /// At once
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        key: Key,
    },
    /// Go on with a paused workflow, or with one paused task of it
    #[command(after_help = "\
Examples:
  farrier workflow resume ID
  farrier workflow resume ID 'image[3]'   what was paused by itself")]
    Resume {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
        #[arg(
            value_name = "TASK|ID",
            help = "The task that was paused by itself, or NAME[ITEM] [default: the workflow]; or more workflows by their ids"
        )]
        rest: Vec<String>,
        #[command(flatten)]
        key: Key,
    },
    /// Change which of its actions a person releases, and which are refused
    #[command(after_help = "\
Examples:
  farrier workflow policy ID 'ask writes=disk by=ops'      before each action that writes a disk somebody of ops is asked
  farrier workflow policy ID 'auto image=cexec' step       every action but cexec is released one by one
  farrier workflow policy ID 'deny action=wipe'            its task fails with Denied
  farrier workflow policy ID --none                        all are done at once

The rules replace those that it has; the first that fits an action counts. What is asked is answered with approve and reject.")]
    #[command(group = clap::ArgGroup::new("rules").required(true).args(["policy", "none"]))]
    Policy {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
        #[arg(
            value_name = "RULE",
            help = "ask, deny or auto, with action=NAME, image=IMAGE, writes=disk or nothing; step is ask; by=GROUP,… says who decides"
        )]
        policy: Vec<String>,
        /// No rules
        #[arg(long)]
        none: bool,
        #[command(flatten)]
        key: Key,
    },
    /// Do not do one task, or one item of a forEach; the rest goes on
    #[command(after_help = "\
Examples:
  farrier workflow skip ID 'image[3]' --reason 'dead fan'    one machine of a rollout
  farrier workflow skip ID burn-in                           a task, also before its turn")]
    Skip {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
        #[arg(help = "The task's name, or NAME[ITEM] for one item of a forEach, from 0")]
        task: String,
        /// Why, for those who look later
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        key: Key,
    },
    /// Start nothing more of a workflow, and stop what runs
    #[command(after_help = "Example:\n  farrier workflow cancel ID --reason 'wrong image'")]
    Cancel {
        /// Its id or so much of it as is unique, its name, or @last; several are cancelled one by one
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Why, for those who look later
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        key: Key,
    },
    /// Run what did not succeed of an ended workflow once more, or one task or item that failed
    #[command(after_help = "\
Examples:
  farrier workflow retry ID && farrier workflow wait ID
  farrier workflow retry ID 'image[3]'   one machine of a rollout, while the others go on
  farrier workflow retry ID install      one task, with what depends on it, also when the workflow has ended")]
    Retry {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
        #[arg(
            value_name = "TASK|ID",
            help = "Only this task, or NAME[ITEM] for one item of a forEach, from 0 [default: all that did not succeed]; or more workflows by their ids"
        )]
        rest: Vec<String>,
        #[command(flatten)]
        key: Key,
    },
    /// Say yes to a task that waits for it
    #[command(after_help = "\
Examples:
  farrier workflow approve ID                        where only one task waits
  farrier workflow approve ID go-live --comment 'change 4711'
  farrier workflow approve ID 'image[3]'             one item of a forEach
  farrier workflow approve ID image --all            all of its items that wait")]
    Approve(Decision),
    /// Say no to a task that waits for approval: it is FAILED
    #[command(after_help = "Example:\n  farrier workflow reject ID go-live --comment 'not in this window'")]
    Reject(Decision),
    /// Say what it, or one of its tasks, does or waits for, and why
    #[command(after_help = "Example:\n  farrier workflow explain ID configure")]
    Explain {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
        #[arg(help = "A task's name, or NAME[ITEM] for one item of a forEach, from 0")]
        task: Option<String>,
    },
    /// Show what happened, in order
    #[command(
        after_help = "Examples:\n  farrier workflow events ID -f\n  farrier workflow events ID --from 17"
    )]
    Events {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
        /// Keep printing until it has ended
        #[arg(short, long)]
        follow: bool,
        /// The number of the first one to show
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        from: u64,
    },
    /// Show the files that its actions have handed over, or print one
    #[command(after_help = "\
Examples:
  farrier workflow data ID
  farrier workflow data ID token > token
  farrier workflow data ID --version 2")]
    Data {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
        /// The file to print
        path: Option<String>,
        /// An earlier version of the data [default: the latest]
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        version: Option<u64>,
    },
    /// Show how far it is, action by action
    #[command(after_help = "Example:\n  farrier workflow state ID")]
    State {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
    },
    /// Show how far it is, again and again, until it has ended
    #[command(after_help = "\
Examples:
  farrier workflow watch ID
  farrier workflow watch -l change=4711   all that have this label, also those that are made meanwhile")]
    Watch {
        /// Its id or so much of it as is unique, its name, or @last
        #[arg(required_unless_present = "selector", conflicts_with = "selector")]
        id: Option<String>,
        /// Instead of one: those with these labels, as in `farrier workflow list -l`
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
    },
    /// Draw its tasks and what needs what, as Mermaid text
    #[command(after_help = "Example:\n  farrier workflow graph ID > workflow.mmd")]
    Graph {
        /// Its id or so much of it as is unique, its name, or @last
        id: String,
    },
    /// Print what its actions print
    Logs(Box<logs::LogsArgs>),
    /// Wait for its end; exit code 0 for SUCCESS only
    #[command(after_help = "\
Examples:
  farrier workflow wait ID --timeout 30m && echo installed
  farrier workflow wait -l change=4711 --timeout 2h   all that have this label now; 0 if all are SUCCESS")]
    Wait {
        /// Its id or so much of it as is unique, its name, or @last
        #[arg(required_unless_present = "selector", conflicts_with = "selector")]
        id: Option<String>,
        /// Instead of one: those with these labels, as in `farrier workflow list -l`
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
        /// How long, such as 90s, 30m or 2h; 0: for ever [default: for ever]
        #[arg(long, value_name = "TIME", value_parser = duration)]
        timeout: Option<Duration>,
    },
}

/// When it begins.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Later {
    /// Begin then: a time with its zone, such as 2026-11-29T02:00:00Z, or by the clock here, such as "2026-11-29 02:00"
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Timestamp>,
    /// Begin so long from now, such as 90s, 30m, 2h or 7d
    #[arg(long = "in", id = "in_time", value_name = "TIME", value_parser = duration, conflicts_with = "at")]
    in_time: Option<Duration>,
}

impl Later {
    /// As it is asked of a server; `None`: at once.
    fn asked(&self) -> Result<Option<prost_types::Timestamp>, Failure> {
        let at = match self.in_time {
            Some(span) => Some(from_now(span).map_err(|why| Failure::Usage(format!("bad --in: {why}")))?),
            None => self.at,
        };
        Ok(at.map(|at| prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }))
    }
}

/// What somebody decides, and who.
#[derive(Debug, clap::Args)]
pub(crate) struct Decision {
    /// The workflow: its id or so much of it as is unique, its name, or @last
    id: String,
    #[arg(
        value_name = "TASK|ID",
        help = "The task's name, or NAME[ITEM] for one item of a forEach, from 0 [default: the only one that waits]; or more workflows by their ids"
    )]
    rest: Vec<String>,
    /// All that wait; with a task's name: all items of it
    #[arg(long)]
    all: bool,
    /// For those who look later
    #[arg(long, default_value = "", hide_default_value = true)]
    comment: String,
    #[command(flatten)]
    key: Key,
}

impl WorkflowCommand {
    /// The words for the workflows that it is about.
    fn words(&mut self) -> Vec<&mut String> {
        match self {
            WorkflowCommand::Approve(Decision { id, rest, .. })
            | WorkflowCommand::Reject(Decision { id, rest, .. })
            | WorkflowCommand::Pause { id, rest, .. }
            | WorkflowCommand::Resume { id, rest, .. }
            | WorkflowCommand::Retry { id, rest, .. } => {
                let more = rest.iter_mut().filter(|word| words::is_printed_id(word));
                [id].into_iter().chain(more).collect()
            }
            WorkflowCommand::Label { words, .. } => {
                let workflows = words::before_labels(words);
                words.iter_mut().take(workflows).collect()
            }
            WorkflowCommand::Cancel { ids, .. }
            | WorkflowCommand::Delete { ids, .. }
            | WorkflowCommand::Get { ids }
            | WorkflowCommand::Start { ids, .. } => ids.iter_mut().collect(),
            WorkflowCommand::Data { id, .. }
            | WorkflowCommand::Events { id, .. }
            | WorkflowCommand::Explain { id, .. }
            | WorkflowCommand::Graph { id }
            | WorkflowCommand::Policy { id, .. }
            | WorkflowCommand::Skip { id, .. }
            | WorkflowCommand::State { id } => vec![id],
            WorkflowCommand::Logs(args) => vec![&mut args.id],
            WorkflowCommand::Wait { id, .. } | WorkflowCommand::Watch { id, .. } => id.iter_mut().collect(),
            WorkflowCommand::Create { .. } | WorkflowCommand::List(_) => Vec::new(),
        }
    }
}

pub(crate) async fn run(mut command: WorkflowCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    for word in command.words() {
        *word = named::meant(word, &asking).await?;
    }
    match command {
        WorkflowCommand::Create {
            template,
            file,
            devices: given,
            machine,
            inputs: values,
            key,
            name,
            labels: given_labels,
            policy,
            later,
            quiet,
            dry_run,
        } => {
            let (text, source) = file.as_deref().map(read_file).transpose()?.unwrap_or_default();
            let inputs = Inputs::of(&values)?;
            let request = CreateWorkflowRequest {
                template: template.unwrap_or_default(),
                text,
                source,
                devices: devices(&given)?.into_iter().collect(),
                machine: machine.unwrap_or_default(),
                inputs_json: inputs.json()?,
                inputs_text: inputs.typed.into_iter().collect(),
                idempotency_key: key.text(),
                name: name.unwrap_or_default(),
                namespace: asking.namespace.clone(),
                start_at: later.asked()?,
                labels: labels(&given_labels)?.into_iter().collect(),
                policy,
            };
            match dry_run {
                true => preview::preview(request, asking).await?,
                false => create(request, quiet, asking).await?,
            }
        }
        WorkflowCommand::Get { ids } => look::get(ids, asking).await?,
        WorkflowCommand::List(args) => listing::list(*args, asking).await?,
        WorkflowCommand::Label { mut words, key } => {
            let changes = words.split_off(words::before_labels(&words));
            change::label(words, &changes, key, asking).await?;
        }
        WorkflowCommand::Delete { ids, key } => change::delete(&ids, key, asking).await?,
        WorkflowCommand::Pause {
            id,
            rest,
            reason,
            key,
        } => change::pause(words::with_task(id, rest)?, (reason, key), asking).await?,
        WorkflowCommand::Start {
            ids,
            later,
            now: _,
            key,
        } => change::start(ids, later.asked()?, key, asking).await?,
        WorkflowCommand::Resume { id, rest, key } => {
            change::resume(words::with_task(id, rest)?, key, asking).await?;
        }
        WorkflowCommand::Policy {
            id,
            policy,
            none: _,
            key,
        } => change::policy(id, policy, key, asking).await?,
        WorkflowCommand::Skip {
            id,
            task,
            reason,
            key,
        } => change::skip(id, task, (reason, key), asking).await?,
        WorkflowCommand::Cancel { ids, reason, key } => change::cancel(ids, reason, key, asking).await?,
        WorkflowCommand::Retry { id, rest, key } => {
            change::retry(words::with_task(id, rest)?, key, asking).await?;
        }
        WorkflowCommand::Approve(decision) => change::decide(decision, true, asking).await?,
        WorkflowCommand::Reject(decision) => change::decide(decision, false, asking).await?,
        WorkflowCommand::Explain { id, task } => look::explain(id, task.unwrap_or_default(), asking).await?,
        WorkflowCommand::Events { id, follow, from } => look::events(id, from, follow, asking).await?,
        WorkflowCommand::Data { id, path, version } => {
            look::data(id, path, version.unwrap_or_default(), asking).await?;
        }
        WorkflowCommand::State { id } => look::state(id, asking).await?,
        WorkflowCommand::Watch { id, selector } => {
            return match selector {
                Some(selector) => watch::several(&selector, asking).await,
                None => watch::one(&id.unwrap_or_default(), asking).await,
            };
        }
        WorkflowCommand::Graph { id } => graph::graph(id, asking).await?,
        WorkflowCommand::Logs(args) => logs::logs(*args, asking).await?,
        WorkflowCommand::Wait {
            id,
            selector,
            timeout,
        } => {
            let timeout = timeout.filter(|timeout| !timeout.is_zero());
            return match selector {
                Some(selector) => several::wait(&selector, timeout, asking).await,
                None => look::wait(id.unwrap_or_default(), timeout, asking).await,
            };
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The values of `-i`.
#[derive(Debug, Default, PartialEq)]
struct Inputs {
    /// Of JSON objects.
    given: serde_json::Map<String, serde_json::Value>,
    /// Of NAME=VALUE: what a value is depends on the type that its input declares.
    typed: BTreeMap<String, String>,
}

impl Inputs {
    /// The last one of a name wins.
    fn of(given: &[String]) -> Result<Inputs, Failure> {
        let mut all = Inputs::default();
        for one in given {
            match one.split_once('=') {
                Some((name, value)) if !one.trim_start().starts_with('{') => {
                    let name = name.trim().to_owned();
                    all.given.shift_remove(&name);
                    all.typed.insert(name, value.to_owned());
                }
                _ => {
                    let object = yaml::json_object(one).map_err(|found| {
                        Failure::Usage(format!(
                            "bad input {one:?}: {}; expected rack=r7, or JSON such as '{{\"rack\": \"r7\"}}'",
                            found.message
                        ))
                    })?;
                    all.typed.retain(|name, _| !object.contains_key(name));
                    all.given.extend(object);
                }
            }
        }
        Ok(all)
    }

    /// An object; empty: none.
    fn json(&self) -> Result<String, Failure> {
        match self.given.is_empty() {
            true => Ok(String::new()),
            false => serde_json::to_string(&self.given).map_err(|error| Failure::Failed(error.to_string())),
        }
    }
}

async fn create(request: CreateWorkflowRequest, quiet: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let answer = ask_once!(client, create_workflow(request))?;
    warn(&answer.warnings);
    let Some(workflow) = answer.workflow.map(Workflow::from) else {
        return Err(Failure::Failed(
            "the server made a workflow and does not say which".into(),
        ));
    };
    last::keep(&asking.server, &workflow.id);
    if quiet {
        return Ok(writeln!(asking.out, "{}", workflow.id)?);
    }
    output::one(asking.out, asking.output, &workflow, |out| {
        writeln!(out, "workflow {} is {}", workflow.id, workflow.state_and_time())?;
        Ok(())
    })
}

pub(super) async fn fetch_once(client: &mut Client, id: String) -> Result<Workflow, Failure> {
    let answer = client.control.get_workflow(GetWorkflowRequest { id }).await;
    Ok(Workflow::from(client.answer(answer)?))
}

/// Once the server is there.
pub(super) async fn fetch(asks: &mut Following<'_>, id: &str) -> Result<Workflow, Failure> {
    let answer = asks.ask(|mut control| async move {
        let id = id.to_owned();
        control.get_workflow(GetWorkflowRequest { id }).await
    });
    Ok(Workflow::from(answer.await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_typed_or_json_and_the_last_of_a_name_wins() {
        let given = [
            "rack=r7",
            "{\"a\": {\"b\": 1}, \"rack\": 2}",
            "equal=a=b",
            "a=3",
            "empty=",
        ]
        .map(str::to_owned);
        let inputs = Inputs::of(&given).unwrap();
        let typed: Vec<(&str, &str)> = inputs
            .typed
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(typed, [("a", "3"), ("empty", ""), ("equal", "a=b")]);
        assert_eq!(inputs.json().unwrap(), r#"{"rack":2}"#);
        assert_eq!(Inputs::of(&[]).unwrap().json().unwrap(), "");
        let refused = Inputs::of(&["rack".to_owned()]).unwrap_err().to_string();
        assert!(
            refused.starts_with("bad input \"rack\": it is no JSON; expected rack=r7"),
            "{refused}"
        );
    }
}
