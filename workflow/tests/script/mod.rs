//! Workflows driven by lines of text: one command a line in, one event a line out.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses its part of it"
)]

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use workflow::engine::{
    self, Command, Creation, Decision, Effect, Event, EventKind, ExecutionId, Loss, Outcome, Refusal, Seen,
    StepState, Workflow, WorkflowState,
};
use workflow::language::{Action, Control, Definition, Devices, ForEach, Task};

pub fn action(name: &str) -> Action {
    Action {
        name: name.into(),
        image: "quay.io/tinkerbell/actions/writefile:latest".into(),
        command: vec!["original".into()],
        ..Action::default()
    }
}

/// A task on a worker; it needs the tasks with these indexes.
pub fn task(name: &str, worker: &str, actions: &[&str], needs: &[usize]) -> Task {
    Task {
        name: name.into(),
        worker: worker.into(),
        actions: actions.iter().map(|name| action(name)).collect(),
        needs: needs.to_vec(),
        ..Task::default()
    }
}

/// A task without a worker.
pub fn control(name: &str, control: Control, needs: &[usize]) -> Task {
    Task {
        control: Some(control),
        ..task(name, "", &[], needs)
    }
}

/// A task for each item of a list that is written out.
pub fn each(mut task: Task, items: Value) -> Task {
    task.for_each = Some(ForEach {
        min_items: 0,
        list: items.to_string(),
        max_parallel: 0,
        waves: vec![],
        max_failures: None,
    });
    task
}

pub fn version_1(tasks: Vec<Task>) -> Definition {
    Definition {
        version: "1".into(),
        name: "install".into(),
        tasks,
        ..Definition::default()
    }
}

/// Actions `one` and `two` on worker `a`, then `three` on `b`; version 0.1.
pub fn two_tasks() -> Definition {
    Definition {
        version: "0.1".into(),
        name: "install".into(),
        tasks: vec![
            task("first", "a", &["one", "two"], &[]),
            task("second", "b", &["three"], &[0]),
        ],
        ..Definition::default()
    }
}

pub fn creation(definition: Definition) -> Creation {
    Creation {
        id: "w".into(),
        namespace: "default".into(),
        name: "install".into(),
        template: "install".into(),
        definition,
        ..Creation::default()
    }
}

/// A workflow `w` with its history.
pub struct Script {
    state: Workflow,
    pub events: Vec<Event>,
    pub effects: Vec<Effect>,
    pub now: u64,
    seen: usize,
}

impl Script {
    /// Created at 1000, and it is 2000 now.
    pub fn new(definition: Definition) -> Script {
        Script::made(creation(definition))
    }

    pub fn made(creation: Creation) -> Script {
        let command = Command::Create(Box::new(creation));
        let decision = engine::decide(None, &command, 1_000).unwrap();
        let mut script = Script {
            state: engine::replay(&decision.events).unwrap(),
            events: vec![],
            effects: vec![],
            now: 2_000,
            seen: 0,
        };
        let more = script.take(decision, None);
        if more {
            script.go_on();
        }
        script
    }

    pub fn state(&self) -> &Workflow {
        &self.state
    }

    /// Decides, and checks what every decision has to keep to. Goes on while it asks for that.
    pub fn decide(&mut self, command: &Command) -> Result<Vec<Event>, Refusal> {
        let before = self.events.len();
        let decision = engine::decide(Some(&self.state), command, self.now)?;
        let state = self.state.clone();
        if self.take(decision, Some(state)) {
            self.go_on();
        }
        Ok(self.events.get(before..).unwrap().to_vec())
    }

    /// One decision, not continued.
    pub fn once(&mut self, command: &Command) -> Result<bool, Refusal> {
        let decision = engine::decide(Some(&self.state), command, self.now)?;
        let state = self.state.clone();
        Ok(self.take(decision, Some(state)))
    }

    pub fn go_on(&mut self) {
        for _ in 0..10_000 {
            let decision = engine::decide(Some(&self.state), &Command::Continue, self.now).unwrap();
            let state = self.state.clone();
            if !self.take(decision, Some(state)) {
                return;
            }
        }
        panic!("it asks to be continued for ever");
    }

    fn take(&mut self, decision: Decision, before: Option<Workflow>) -> bool {
        let mut state = before.clone();
        for event in &decision.events {
            state = engine::apply(state, event);
            let head = &state.as_ref().unwrap().head;
            assert_eq!(head.last_event, event.number, "{event:?} was not taken");
        }
        let state = state.unwrap();
        assert_eq!(state, decision.workflow, "the events give another state");
        if let Some(before) = before {
            for (id, execution) in &state.executions {
                let is_same = before.executions.get(id) == Some(execution);
                assert!(
                    is_same || decision.changed.contains(id),
                    "{id} has changed unsaid"
                );
            }
            for (key, items) in &state.items {
                let is_same = before.items.get(key) == Some(items);
                assert!(
                    is_same || decision.expanded.contains(key),
                    "{key:?} has changed unsaid"
                );
            }
            assert!(before.head == state.head || !decision.events.is_empty());
        }
        assert!(!decision.more || !decision.events.is_empty(), "more of nothing");
        self.state = state;
        self.events.extend(decision.events);
        self.effects.extend(decision.effects);
        decision.more
    }

    /// Runs one command and compares the events that it led to.
    #[track_caller]
    pub fn check(&mut self, line: &str, want: &str) {
        let command = self.command(line);
        let events = self.decide(&command).unwrap();
        let lines: Vec<String> = events.iter().map(print).collect();
        assert_eq!(lines.join("\n"), want, "after {line:?}");
        assert_eq!(engine::replay(&self.events).unwrap(), self.state);
    }

    /// Compares the events since the last time.
    #[track_caller]
    pub fn expect_events(&mut self, want: &str) {
        let events = self.events.get(self.seen..).unwrap();
        let lines: Vec<String> = events.iter().map(print).collect();
        self.seen = self.events.len();
        assert_eq!(lines.join("\n"), want);
    }

    #[track_caller]
    pub fn run(&mut self, lines: &str) {
        for line in lines.split(';').map(str::trim) {
            let command = self.command(line);
            if let Err(refusal) = self.decide(&command) {
                panic!("{line}: {refusal}");
            }
        }
    }

    #[track_caller]
    pub fn refused(&mut self, line: &str, want: &str) {
        let command = self.command(line);
        let before = self.state.clone();
        assert_eq!(self.decide(&command).unwrap_err().to_string(), want);
        assert_eq!(self.state, before);
    }

    #[track_caller]
    pub fn expect_state(&self, state: WorkflowState, message: &str) {
        let head = &self.state.head;
        assert_eq!((head.state, head.message.as_str()), (state, message));
        assert!(head.ended_at.is_some() && head.ending.is_none());
    }

    /// The states of all tasks.
    #[track_caller]
    pub fn expect_tasks(&self, want: &str) {
        let states = self.state.head.tasks.iter().map(|task| task.state.as_str());
        assert_eq!(states.collect::<Vec<_>>().join(" "), want);
    }

    /// The effects since the last time, one a line.
    #[track_caller]
    pub fn expect_effects(&mut self, want: &str) {
        let lines: Vec<String> = self
            .effects
            .drain(..)
            .map(|effect| print_effect(&effect))
            .collect();
        assert_eq!(lines.join("\n"), want);
    }

    pub fn dispatch(&self, attempt: &str) -> engine::Dispatch {
        engine::dispatch(&self.state, &attempt.parse().unwrap()).unwrap()
    }

    /// The state of an execution, and what it waits for.
    pub fn execution(&self, id: &str) -> &engine::Execution {
        self.state.execution(id.parse().unwrap()).unwrap()
    }

    /// Hands out what is ready for a worker and reports `outcome` of it.
    #[track_caller]
    pub fn does(&mut self, worker: &str, word: &str) {
        let attempt = self.hand_out(worker);
        self.report(&attempt, outcome(word));
    }

    /// Hands out what is ready for a worker.
    #[track_caller]
    pub fn hand_out(&mut self, worker: &str) -> String {
        let ready = (0..self.state.head.tasks.len()).find_map(|task| {
            let mut executions = self.state.executions_of(task);
            let ready = executions.find(|execution| {
                execution.worker == worker && execution.waiting == Some(engine::Waiting::Machine)
            });
            ready.map(|execution| execution.id)
        });
        let execution = ready.unwrap_or_else(|| panic!("nothing is ready for {worker}"));
        let events = self
            .decide(&Command::Dispatch {
                execution,
                worker: worker.into(),
                boot_id: "boot1".into(),
                epoch: 1,
            })
            .unwrap();
        let dispatched = events.iter().find_map(|event| match &event.kind {
            EventKind::Dispatched { attempt, .. } => Some(attempt.to_string()),
            _ => None,
        });
        dispatched.unwrap()
    }

    #[track_caller]
    pub fn report(&mut self, attempt: &str, outcome: Outcome) {
        let attempt = attempt.parse().unwrap();
        self.decide(&Command::Report { attempt, outcome }).unwrap();
    }

    pub fn command(&self, line: &str) -> Command {
        let words: Vec<&str> = line.split(' ').collect();
        let by = || "ann".to_owned();
        match words[..] {
            ["dispatch", execution, worker, boot] => Command::Dispatch {
                execution: execution.parse().unwrap(),
                worker: worker.into(),
                boot_id: boot.into(),
                epoch: 1,
            },
            ["report", attempt, outcome] => Command::Report {
                attempt: attempt.parse().unwrap(),
                outcome: self::outcome(outcome),
            },
            ["returned", attempt, boot] => Command::Returned {
                attempt: attempt.parse().unwrap(),
                boot_id: boot.into(),
            },
            ["lost", attempt, why] => Command::Lost {
                attempt: attempt.parse().unwrap(),
                why: loss(why),
            },
            ["cancel"] => Command::Cancel {
                by: String::new(),
                reason: "wrong machine".into(),
            },
            ["label", ref changes @ ..] => Command::Label {
                set: changes
                    .iter()
                    .filter_map(|change| change.split_once('='))
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
                remove: changes
                    .iter()
                    .filter(|change| !change.contains('='))
                    .map(|change| change.trim_end_matches('-').to_owned())
                    .collect(),
                by: by(),
            },
            ["start"] => Command::Start { at: None, by: by() },
            ["start", at] => Command::Start {
                at: Some(at.parse().unwrap()),
                by: by(),
            },
            ["answered", execution, "yes"] => Command::Answered {
                execution: execution.parse().unwrap(),
                seen: Seen::Answer(Map::from_iter([("status".to_owned(), json!(200))])),
            },
            ["answered", execution, ref words @ ..] => Command::Answered {
                execution: execution.parse().unwrap(),
                seen: Seen::Else(words.join(" ")),
            },
            ["timer"] => Command::Timer,
            ["timer", now] => panic!("set script.now = {now}"),
            ["continue"] => Command::Continue,
            ["pause"] => Command::Pause {
                by: by(),
                reason: "lunch".into(),
            },
            ["unpause"] => Command::Unpause { by: by() },
            ["pause", task] => pause(task, ""),
            ["pause", task, reason] => pause(task, reason),
            ["unpause", task] => {
                let (task, item) = of_item(task);
                Command::UnpauseOne { task, item, by: by() }
            }
            ["policy", ref rules @ ..] => {
                let rules = rules.join(" ");
                let rules = rules.split(',').filter(|rule| !rule.is_empty());
                Command::SetPolicy {
                    policy: rules.map(|rule| rule.parse().unwrap()).collect(),
                    by: by(),
                }
            }
            ["skip", task] => skip(task, ""),
            ["skip", task, reason] => skip(task, reason),
            ["retry"] => Command::Retry { by: by() },
            ["retry", task] => {
                let (task, item) = of_item(task);
                Command::RetryOne { task, item, by: by() }
            }
            ["retry-child"] => Command::RetryChild { by: by() },
            ["deadlock"] => Command::Deadlock {
                machine: "b".into(),
                with: "v".into(),
            },
            [word @ ("approve" | "reject"), task] => decided(word, task, "ann", &[]),
            [word @ ("approve" | "reject"), task, by, ref groups @ ..] => decided(word, task, by, groups),
            ["answer", task, instance, ref macs @ ..] => Command::Answer {
                unknown: vec![],
                task: task.parse().unwrap(),
                instance: instance.parse().unwrap(),
                selector: "rack == 'r7'".into(),
                machines: macs
                    .iter()
                    .map(|mac| ((*mac).to_owned(), json!({"mac": mac})))
                    .collect(),
            },
            ["child", execution, child, run, state] => Command::ChildEnded {
                execution: execution.parse().unwrap(),
                child: child.into(),
                run: run.parse().ok(),
                state: workflow_state(state),
                message: if state == "SUCCESS" { "" } else { "it broke" }.into(),
                outputs: if state == "SUCCESS" {
                    Map::from_iter([("address".to_owned(), json!("10.0.0.7"))])
                } else {
                    Map::new()
                },
                workers: vec!["c".into()],
            },
            _ => panic!("no command: {line}"),
        }
    }
}

/// A task's name, or `NAME[item]`.
fn of_item(text: &str) -> (String, Option<usize>) {
    match text.split_once('[') {
        Some((task, item)) => (task.into(), item.trim_end_matches(']').parse().ok()),
        None => (text.into(), None),
    }
}

fn pause(task: &str, reason: &str) -> Command {
    let (task, item) = of_item(task);
    Command::PauseOne {
        task,
        item,
        by: "ann".into(),
        reason: reason.into(),
    }
}

fn skip(task: &str, reason: &str) -> Command {
    let (task, item) = of_item(task);
    Command::Skip {
        task,
        item,
        by: "ann".into(),
        reason: reason.into(),
    }
}

fn decided(word: &str, task: &str, by: &str, groups: &[&str]) -> Command {
    let (task, item) = of_item(task);
    Command::Decide {
        task,
        item,
        approved: word == "approve",
        by: by.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        comment: "ok".into(),
    }
}

pub fn workflow_state(word: &str) -> WorkflowState {
    serde_json::from_value(json!(word)).unwrap()
}

pub fn loss(word: &str) -> Loss {
    match word {
        "forgotten" => Loss::Forgotten,
        "silence" => Loss::Silence { for_ms: 300_000 },
        boot => Loss::OtherBoot { boot_id: boot.into() },
    }
}

pub fn outcome(word: &str) -> Outcome {
    match word {
        "started" => Outcome::Started,
        "succeeded" => Outcome::Succeeded {
            message: "wrote it".into(),
            bytes: 7,
            outputs: Map::new(),
            data_version: None,
        },
        "failed" => Outcome::Failed {
            reason: "WrongDigest".into(),
            message: "digest is a, expected b".into(),
            exit_code: 1,
        },
        "timed_out" => Outcome::TimedOut {
            message: "after 5 s".into(),
        },
        "leaving" => Outcome::Leaving { how: "reboot".into() },
        "stopped" => Outcome::Stopped {
            message: "SIGTERM".into(),
        },
        _ => panic!("no outcome: {word}"),
    }
}

pub fn with_outputs(outputs: Value) -> Outcome {
    let Value::Object(outputs) = outputs else {
        panic!("no object: {outputs}");
    };
    Outcome::Succeeded {
        message: String::new(),
        bytes: 0,
        outputs,
        data_version: None,
    }
}

fn print(event: &Event) -> String {
    use EventKind::*;
    let attempt = event.kind.attempt().map(ToString::to_string);
    let execution = event.kind.execution().map(|id| id.to_string());
    let place = attempt
        .or(execution)
        .or(event.kind.task().map(|task| task.to_string()));
    let detail = match &event.kind {
        Reported { outcome, .. } | Late { outcome, .. } => outcome.name().to_owned(),
        Stopping { state, .. } | Ended { state, .. } => state.to_string(),
        ExecutionEnded { state, .. } | TaskEnded { state, .. } => state.to_string(),
        ExecutionMade { waiting, .. } => match waiting {
            Some(waiting) => serde_json::to_value(waiting)
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned(),
            None => "SKIPPED".into(),
        },
        Resumed { waiting, .. } => serde_json::to_value(waiting)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned(),
        Delayed {
            action: Some(action), ..
        } => format!("action {action}"),
        ActionAsked { action, rule, .. } => format!("action {action}: {rule}"),
        PolicySet { policy, .. } => {
            let rules: Vec<String> = policy.iter().map(ToString::to_string).collect();
            rules.join(", ")
        }
        Decided { approved, .. } => if *approved { "yes" } else { "no" }.into(),
        SkipAsked {
            item: Some(item),
            execution: None,
            ..
        }
        | TaskPaused {
            item: Some(item),
            execution: None,
            ..
        }
        | TaskResumed {
            item: Some(item),
            execution: None,
            ..
        } => format!("item {item}"),
        StopAsked { then, .. } => then.to_string(),
        ChildAsked { request, .. } => format!("{request:?}").to_lowercase(),
        WentBack { tasks, .. } | RunOpened { tasks, .. } | TasksReopened { tasks, .. } => {
            format!("{tasks:?}")
        }
        TaskStarted {
            items: Some(items), ..
        } => format!("{} items", items.len()),
        Asked { selector, .. } => selector.clone(),
        WaveOpened { wave, .. } => format!("wave {wave}"),
        Unanswered { seen, .. } => seen.clone(),
        _ => String::new(),
    };
    let words = [Some(event.kind.name().to_owned()), place, Some(detail)];
    let words: Vec<String> = words
        .into_iter()
        .flatten()
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

pub fn print_effect(effect: &Effect) -> String {
    match effect {
        Effect::Claim { worker, root } => format!("claim {worker} for {root}"),
        Effect::Release { worker, root } => format!("release {worker} of {root}"),
        Effect::ReleaseMany { workers, root } => format!("release {} machines of {root}", workers.len()),
        Effect::Want {
            worker, execution, ..
        } => format!("want {worker} for {execution}"),
        Effect::Unwant {
            worker, execution, ..
        } => format!("unwant {worker} for {execution}"),
        Effect::Stop { attempt, reason, .. } => format!("stop {attempt}: {reason}"),
        Effect::SkippedMany { workers, root } => format!("skipped on {} machines by {root}", workers.len()),
        Effect::Skipped { worker, root } => format!("skipped on {worker} by {root}"),
        Effect::Ask { task, selector, .. } => format!("ask {task} {selector}"),
        Effect::StartChild {
            template,
            name,
            inputs,
            ..
        } => format!("start {template} as {name} {}", Value::Object(inputs.clone())),
        Effect::CancelChild { reason, .. } => format!("cancel child: {reason}"),
        Effect::PauseChild { .. } => "pause child".into(),
        Effect::UnpauseChild { .. } => "unpause child".into(),
        Effect::RetryChild { .. } => "retry child".into(),
        Effect::EndChild { state, run, .. } => format!("end child {state} run {run}"),
    }
}

/// Final, or not.
pub fn is_over(state: StepState) -> bool {
    state.is_final()
}

pub fn id(text: &str) -> ExecutionId {
    text.parse().unwrap()
}

pub fn machines(entries: &[(&str, Value)]) -> BTreeMap<String, Value> {
    entries
        .iter()
        .map(|(worker, machine)| ((*worker).to_owned(), machine.clone()))
        .collect()
}

/// A definition from the text of its template.
/// The templates that a page of the documentation has.
pub fn examples(page: &str) -> Vec<&str> {
    let blocks = page.split("```yaml template\n").skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).collect()
}

/// The one with this name.
#[track_caller]
pub fn example<'a>(page: &'a str, name: &str) -> &'a str {
    let wanted = format!("\nname: {name}\n");
    let all = examples(page);
    let found = all.into_iter().find(|text| text.contains(&wanted));
    found.unwrap_or_else(|| panic!("there is no example {name}"))
}

/// What the examples are rendered for.
pub fn devices() -> Devices {
    let devices = [
        ("device_1", "52:54:00:77:00:0b"),
        ("device_2", "52:54:00:77:00:0c"),
    ];
    Devices {
        devices: BTreeMap::from(devices.map(|(name, mac)| (name.into(), mac.into()))),
        hardware: json!({"metadata": {"name": "node1"}, "spec": {"disks": [{"device": "/dev/vda"}]}}),
    }
}

#[track_caller]
pub fn template(text: &str) -> Definition {
    match workflow::language::render(text, &workflow::language::Devices::default()) {
        Ok(rendered) => rendered.definition,
        Err(problems) => panic!("{problems:#?}"),
    }
}

/// A template of version 1 from the text of its tasks: every `run: NAME on WORKER` is an action.
#[track_caller]
pub fn tasks(text: &str) -> Definition {
    let mut yaml = String::from("version: \"1\"\nname: install\n");
    let mut in_tasks = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let line = line.strip_prefix("    ").unwrap_or(line);
        if line.starts_with('-') && !in_tasks {
            in_tasks = true;
            yaml += "tasks:\n";
        }
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().split_once("run: ") {
            Some(("", rest)) => {
                let (names, worker) = rest.split_once(" on ").unwrap();
                let pad = " ".repeat(indent);
                yaml += &format!("{pad}worker: {worker}\n{pad}actions:\n");
                for name in names.split(' ') {
                    yaml += &format!("{pad}- {{name: {name}, image: example.org/{name}:v1}}\n");
                }
            }
            _ => yaml += &format!("{line}\n"),
        }
    }
    template(&yaml)
}
