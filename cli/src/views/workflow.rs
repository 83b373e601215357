//! Workflows as they are printed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use proto::v1;
use serde::Serialize;
use serde_json::Value;

use super::listed::Listed;
use super::progress::{Progress, span};
use super::short::short;
use super::{at_place, clock, dash, first_line, given, seconds, time, when};
use crate::output::{InNamespace, Labelled, Rows};
use crate::terminal::set_in;

#[derive(Debug, Serialize)]
pub(crate) struct Workflow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) template: Option<String>,
    pub(crate) template_id: Option<String>,
    pub(crate) template_version: Option<u64>,
    pub(crate) template_sha256: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) state: String,
    pub(crate) message: Option<String>,
    pub(crate) run: u32,
    pub(crate) parent: Option<String>,
    pub(crate) root: Option<String>,
    pub(crate) created_at: Option<String>,
    /// When it is to begin, until it has.
    pub(crate) starts_at: Option<String>,
    pub(crate) started_at: Option<String>,
    pub(crate) paused_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    /// The first rule that fits an action counts.
    pub(crate) policy: Vec<String>,
    pub(crate) updated_at: Option<String>,
    pub(crate) paused: Option<Intervention>,
    pub(crate) resumed: Option<Intervention>,
    pub(crate) cancelled: Option<Intervention>,
    pub(crate) inputs: Option<Value>,
    pub(crate) vars: Option<Value>,
    pub(crate) outputs: Option<Value>,
    pub(crate) last_event: u64,
    pub(crate) stamp: String,
    /// Of its actions that run.
    pub(crate) progress: Vec<Progress>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) definition: Option<String>,
}

/// What somebody wanted of a workflow.
#[derive(Debug, Serialize)]
pub(crate) struct Intervention {
    pub(crate) by: String,
    pub(crate) reason: Option<String>,
    pub(crate) at: Option<String>,
}

impl From<v1::Intervention> for Intervention {
    fn from(asked: v1::Intervention) -> Self {
        Self {
            by: asked.by,
            reason: given(asked.reason),
            at: time(asked.at),
        }
    }
}

impl Intervention {
    /// `2026-11-29 … by ann: why`
    pub(crate) fn line(&self) -> String {
        let reason = self
            .reason
            .as_ref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        format!("{} by {}{reason}", when(self.at.as_deref()), self.by)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) group: Option<String>,
    pub(crate) worker: Option<String>,
    /// The name of the machine that the worker is.
    pub(crate) machine: Option<String>,
    pub(crate) state: String,
    pub(crate) needs: Vec<String>,
    pub(crate) recovers: Vec<String>,
    pub(crate) when: Option<String>,
    pub(crate) for_each: bool,
    pub(crate) instance: u32,
    pub(crate) iteration: u32,
    pub(crate) items: u64,
    pub(crate) made: u64,
    pub(crate) ended: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    pub(crate) wave: u32,
    pub(crate) recovered: bool,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) warnings: Vec<String>,
    /// Somebody skipped it, or holds it, before its turn.
    pub(crate) skip: Option<Said>,
    pub(crate) pause: Option<Said>,
    /// Items whose turn has not come, of which somebody wants something.
    pub(crate) ahead: Vec<Ahead>,
    pub(crate) outputs: Option<Value>,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) actions: Vec<Action>,
    pub(crate) executions: Vec<Execution>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Execution {
    pub(crate) id: String,
    pub(crate) item_number: u64,
    pub(crate) item: Option<Value>,
    pub(crate) worker: Option<String>,
    pub(crate) machine: Option<String>,
    pub(crate) state: String,
    pub(crate) waiting: Option<String>,
    pub(crate) due: Option<String>,
    pub(crate) tries: u32,
    pub(crate) child: Option<String>,
    pub(crate) decision: Option<Decision>,
    pub(crate) approve_message: Option<String>,
    pub(crate) skip: Option<Said>,
    pub(crate) pause: Option<Said>,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) outputs: Option<Value>,
    pub(crate) created_at: Option<String>,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) actions: Vec<Action>,
}

/// An item of a `forEach`.
#[derive(Debug, Serialize)]
pub(crate) struct Ahead {
    pub(crate) item_number: u64,
    pub(crate) skip: Option<Said>,
    pub(crate) pause: Option<Said>,
}

/// Who wanted something of one task or item, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Said {
    pub(crate) by: String,
    pub(crate) reason: Option<String>,
    pub(crate) since: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Decision {
    pub(crate) approved: bool,
    pub(crate) by: String,
    pub(crate) comment: String,
    pub(crate) at: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Action {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) state: String,
    pub(crate) attempts: u32,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) seconds: Option<f64>,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) bytes: Option<u64>,
    pub(crate) input: Option<Value>,
    pub(crate) outputs: Option<Value>,
    /// Who said that it may be done, where the policy had somebody asked.
    pub(crate) released: Option<Decision>,
}

impl From<v1::Workflow> for Workflow {
    fn from(workflow: v1::Workflow) -> Self {
        Self {
            id: workflow.id,
            name: workflow.name,
            namespace: workflow.namespace,
            template: given(workflow.template),
            template_id: given(workflow.template_id),
            template_version: Some(workflow.template_version).filter(|version| *version > 0),
            template_sha256: given(workflow.template_sha256),
            labels: workflow.labels.into_iter().collect(),
            state: workflow.state,
            message: given(workflow.message),
            run: workflow.run,
            parent: given(workflow.parent),
            root: given(workflow.root),
            created_at: time(workflow.created_at),
            starts_at: time(workflow.starts_at),
            started_at: time(workflow.started_at),
            paused_at: time(workflow.paused_at),
            ended_at: time(workflow.ended_at),
            policy: workflow.policy,
            updated_at: time(workflow.updated_at),
            paused: workflow.paused.map(Intervention::from),
            resumed: workflow.resumed.map(Intervention::from),
            cancelled: workflow.cancelled.map(Intervention::from),
            inputs: json(&workflow.inputs_json),
            vars: json(&workflow.vars_json),
            outputs: json(&workflow.outputs_json),
            last_event: workflow.last_event,
            stamp: workflow.stamp,
            progress: workflow.progress.into_iter().map(Progress::from).collect(),
            tasks: workflow.tasks.into_iter().map(Task::from).collect(),
            definition: given(workflow.definition_yaml),
        }
    }
}

impl From<v1::TaskState> for Task {
    fn from(task: v1::TaskState) -> Self {
        Self {
            name: task.name,
            kind: task.kind,
            group: given(task.group),
            worker: given(task.worker),
            machine: given(task.machine),
            state: task.state,
            needs: task.needs,
            recovers: task.recovers,
            when: given(task.when),
            for_each: task.for_each,
            instance: task.instance,
            iteration: task.iteration,
            items: task.items,
            made: task.made,
            ended: task.ended,
            failed: task.failed,
            skipped: task.skipped,
            wave: task.wave,
            recovered: task.recovered,
            reason: given(task.reason),
            message: given(task.message),
            warnings: task.warnings,
            skip: task.skip.map(Said::from),
            pause: task.pause.map(Said::from),
            ahead: task.ahead.into_iter().map(Ahead::from).collect(),
            outputs: json(&task.outputs_json),
            started_at: time(task.started_at),
            ended_at: time(task.ended_at),
            actions: task.actions.into_iter().map(Action::from).collect(),
            executions: task.executions.into_iter().map(Execution::from).collect(),
        }
    }
}

impl From<v1::TaskExecution> for Execution {
    fn from(execution: v1::TaskExecution) -> Self {
        Self {
            id: execution.id,
            item_number: execution.item,
            item: json(&execution.item_json),
            worker: given(execution.worker),
            machine: given(execution.machine),
            state: execution.state,
            waiting: given(execution.waiting),
            due: time(execution.due),
            tries: execution.tries,
            child: given(execution.child),
            decision: execution.decision.map(Decision::from),
            approve_message: given(execution.approve_message),
            skip: execution.skip.map(Said::from),
            pause: execution.pause.map(Said::from),
            reason: given(execution.reason),
            message: given(execution.message),
            outputs: json(&execution.outputs_json),
            created_at: time(execution.created_at),
            started_at: time(execution.started_at),
            ended_at: time(execution.ended_at),
            actions: execution.actions.into_iter().map(Action::from).collect(),
        }
    }
}

impl From<v1::Decision> for Decision {
    fn from(decision: v1::Decision) -> Self {
        Self {
            approved: decision.approved,
            by: decision.by,
            comment: decision.comment,
            at: time(decision.at),
        }
    }
}

impl From<v1::ItemAhead> for Ahead {
    fn from(ahead: v1::ItemAhead) -> Self {
        Self {
            item_number: ahead.item,
            skip: ahead.skip.map(Said::from),
            pause: ahead.pause.map(Said::from),
        }
    }
}

impl From<v1::Said> for Said {
    fn from(said: v1::Said) -> Self {
        Self {
            by: said.by,
            reason: given(said.reason),
            since: time(said.since),
        }
    }
}

impl From<v1::ActionState> for Action {
    fn from(action: v1::ActionState) -> Self {
        let seconds = match (seconds(action.started_at), seconds(action.ended_at)) {
            (Some(from), Some(to)) => Some(((to - from).max(0.0) * 1000.0).round() / 1000.0),
            _ => None,
        };
        Self {
            name: action.name,
            image: action.image,
            state: action.state,
            attempts: action.attempts,
            started_at: time(action.started_at),
            ended_at: time(action.ended_at),
            seconds,
            reason: given(action.reason),
            message: given(action.message),
            exit_code: action.exit_code,
            bytes: action.bytes,
            input: json(&action.input_json),
            outputs: json(&action.outputs_json),
            released: action.released.map(Decision::from),
        }
    }
}

impl InNamespace for Workflow {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Labelled for Workflow {
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
}

impl Rows for Workflow {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "STATE", "AGE", "MACHINES", "MESSAGE"];
    const NONE: &'static str = "no workflows: make one with `farrier workflow create -t TEMPLATE -r DEVICES`";

    fn row(&self) -> Vec<String> {
        let mut rows = Listed::default().rows(&[(0, self)]);
        rows.pop().unwrap_or_default()
    }
}

/// Executions of a `forEach` that a table shows; of more it shows those that are neither IDLE nor SUCCESS.
const ALL_ITEMS: usize = 20;

impl Workflow {
    /// `FAILED: why`.
    pub(crate) fn state_in_words(&self) -> String {
        match self.why().as_str() {
            "" => self.state.clone(),
            why => format!("{}: {}", self.state, set_in(why, 2)),
        }
    }

    /// `PENDING, begins at …`; of others the state alone.
    pub(crate) fn state_and_time(&self) -> String {
        match self.begins() {
            Some(begins) => format!("{}, begins at {begins}", self.state),
            None => self.state.clone(),
        }
    }

    /// When it is to begin, by the clock here; `None`: it has, or ended before.
    pub(crate) fn begins(&self) -> Option<String> {
        self.starts_at.as_deref().map(at_place)
    }

    /// What is to be said of its state: when it begins, or why it ended so.
    pub(crate) fn why(&self) -> String {
        let is_paused = matches!(self.state.as_str(), "PAUSED" | "PAUSING");
        match (&self.message, &self.paused, &self.starts_at) {
            (Some(message), ..) => message.clone(),
            (None, Some(paused), _) if is_paused => match &paused.reason {
                Some(reason) => format!("by {}: {reason}", paused.by),
                None => format!("by {}", paused.by),
            },
            (None, _, Some(at)) => format!("begins at {}", at_place(at)),
            (None, ..) => String::new(),
        }
    }

    /// With the names of the tasks that they are about.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tasks.iter().flat_map(|task| {
            task.warnings
                .iter()
                .map(|warning| (task.name.as_str(), warning.as_str()))
        })
    }

    /// A row for each action, and for each task that has none.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        self.tasks
            .iter()
            .flat_map(|task| task.rows(&self.progress))
            .collect()
    }
}

impl Task {
    fn rows(&self, progress: &[Progress]) -> Vec<Vec<String>> {
        if !self.for_each {
            let execution = self.executions.first();
            let actions = execution.map_or(&self.actions, |execution| &execution.actions);
            let worker = match execution {
                Some(execution) => execution.machine.as_ref().or(execution.worker.as_ref()),
                None => self.machine.as_ref().or(self.worker.as_ref()),
            };
            let worker = worker.map(String::as_str).unwrap_or_default();
            let before = self.is_before_actions(execution);
            if actions.is_empty() || before {
                return vec![self.row(&self.name, worker, &self.kind, execution)];
            }
            let mut rows = Vec::new();
            if !self.wanted(execution).is_empty() {
                rows.push(self.row(&self.name, worker, &self.kind, execution));
            }
            let progress = of_execution(progress, execution);
            rows.extend(
                actions
                    .iter()
                    .map(|action| action.row(&self.name, worker, progress)),
            );
            return rows;
        }
        let items = match self.items {
            0 => String::new(),
            items => format!("{} of {items} ended", self.ended),
        };
        let mut rows = vec![self.row(&self.name, "", &items, None)];
        let all = self.executions.len() <= ALL_ITEMS;
        for execution in &self.executions {
            let name = format!("{}[{}]", self.name, execution.item_number);
            if !all && execution.state == "SUCCESS" {
                continue;
            }
            let worker = execution.machine.as_ref().or(execution.worker.as_ref());
            let worker = worker.map(String::as_str).unwrap_or_default();
            if execution.actions.is_empty() || self.is_before_actions(Some(execution)) {
                rows.push(self.row(&name, worker, &self.kind, Some(execution)));
            } else {
                if !self.wanted(Some(execution)).is_empty() {
                    rows.push(self.row(&name, worker, &self.kind, Some(execution)));
                }
                let progress = of_execution(progress, Some(execution));
                let actions = execution.actions.iter();
                rows.extend(actions.map(|action| action.row(&name, worker, progress)));
            }
        }
        rows.extend(self.ahead.iter().map(|ahead| {
            let (skip, pause) = (ahead.skip.as_ref(), ahead.pause.as_ref());
            let message = wanted(skip.map(|said| (said, TURN)), pause);
            let name = format!("{}[{}]", self.name, ahead.item_number);
            let dash = || "-".to_owned();
            vec![
                name,
                dash(),
                self.kind.clone(),
                "IDLE".to_owned(),
                dash(),
                dash(),
                first_line(&message),
            ]
        }));
        rows
    }

    /// What somebody wants of it, or of an execution of it; empty: nothing.
    fn wanted(&self, execution: Option<&Execution>) -> String {
        match execution {
            Some(execution) if execution.ended_at.is_some() => String::new(),
            Some(execution) => wanted(
                execution
                    .skip
                    .as_ref()
                    .map(|said| (said, "when what it runs has stopped")),
                execution
                    .pause
                    .as_ref()
                    .or(self.pause.as_ref().filter(|_| !self.for_each)),
            ),
            None => wanted(self.skip.as_ref().map(|said| (said, TURN)), self.pause.as_ref()),
        }
    }

    /// What its actions would show says less than what the execution waits for, or why it was skipped.
    fn is_before_actions(&self, execution: Option<&Execution>) -> bool {
        let state = execution.map_or(&self.state, |execution| &execution.state);
        state == "SKIPPED"
            || execution.is_some_and(|execution| execution.waiting.as_deref() == Some("approval"))
    }

    fn row(&self, name: &str, worker: &str, what: &str, execution: Option<&Execution>) -> Vec<String> {
        let state = execution.map_or(&self.state, |execution| &execution.state);
        let (started, ended, message) = match execution {
            Some(execution) => (&execution.started_at, &execution.ended_at, execution.message()),
            None => (
                &self.started_at,
                &self.ended_at,
                self.message.clone().unwrap_or_default(),
            ),
        };
        let wanted = self.wanted(execution);
        let message = match (wanted.as_str(), message.as_str()) {
            ("", _) => message,
            (_, "") => wanted,
            (wanted, message) => format!("{wanted}; {message}"),
        };
        let tries = execution.map_or_else(String::new, |execution| execution.tries.to_string());
        vec![
            name.to_owned(),
            dash(worker),
            dash(what),
            state.clone(),
            dash(&tries),
            between(started.as_deref(), ended.as_deref()),
            dash(&first_line(&message)),
        ]
    }
}

/// How far the action is that an execution has under way.
fn of_execution<'p>(progress: &'p [Progress], execution: Option<&Execution>) -> Option<&'p Progress> {
    let execution = execution?;
    progress.iter().find(|progress| {
        // WORKFLOW/TASK/INSTANCE/ITEM/ACTION/ATTEMPT
        let of = progress.attempt.split_once('/').map_or("", |(_, rest)| rest);
        let of = of.strip_prefix(execution.id.as_str());
        of.is_some_and(|rest| rest.starts_with('/'))
    })
}

impl Execution {
    pub(super) fn message(&self) -> String {
        let due = self.due.as_deref().map(|due| clock(Some(due)));
        match (self.waiting.as_deref(), due) {
            (Some("approval"), _) => {
                let message = self.approve_message.as_deref().unwrap_or_default();
                format!("waits for approval: {message}")
                    .trim_end_matches([':', ' '])
                    .to_owned()
            }
            (Some("answer"), _) => {
                let message = self.message.as_deref().unwrap_or_default();
                format!("waits for an answer: {message}")
                    .trim_end_matches([':', ' '])
                    .to_owned()
            }
            (Some("time"), Some(due)) => format!("waits until {due}"),
            (Some("children"), _) => {
                format!(
                    "waits for workflow {}",
                    short(self.child.as_deref().unwrap_or_default())
                )
            }
            (Some("machine"), _) if self.pause.is_none() => "waits for its machine".to_owned(),
            (None, Some(due)) if self.state == "DELAYED" => format!("tried again at {due}"),
            _ => self.message.clone().unwrap_or_default(),
        }
    }
}

impl Action {
    fn row(&self, task: &str, worker: &str, progress: Option<&Progress>) -> Vec<String> {
        let is_under_way = |progress: &&Progress| progress.action == self.name && self.ended_at.is_none();
        let message = match (&self.message, progress.filter(is_under_way)) {
            (Some(message), _) if !message.is_empty() => first_line(message),
            (_, Some(progress)) => progress.line(),
            _ => String::new(),
        };
        vec![
            task.to_owned(),
            dash(worker),
            self.name.clone(),
            self.state.clone(),
            self.attempts.to_string(),
            self.time(),
            dash(&message),
        ]
    }

    /// How long it took, or has taken.
    fn time(&self) -> String {
        match self.seconds {
            Some(seconds) => lasted(seconds),
            None => between(self.started_at.as_deref(), None),
        }
    }
}

const TURN: &str = "when its turn comes";

/// What somebody wants of one thing: who, why, and when a skip is done.
fn wanted(skip: Option<(&Said, &str)>, pause: Option<&Said>) -> String {
    let who = |what: &str, said: &Said| match &said.reason {
        Some(reason) => format!("{what} by {}: {reason}", said.by),
        None => format!("{what} by {}", said.by),
    };
    match (skip, pause) {
        (Some((said, when)), _) => format!("{}; it is SKIPPED {when}", who("skipped", said)),
        (None, Some(said)) => who("paused", said),
        (None, None) => String::new(),
    }
}

/// `12.3 s`, or `26 d 2 h`.
fn lasted(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{:.1} s", seconds.max(0.0)),
        _ => span(Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs()),
    }
}

fn between(started: Option<&str>, ended: Option<&str>) -> String {
    let at = |text: Option<&str>| text.and_then(|at| at.parse::<Timestamp>().ok());
    match (at(started), at(ended)) {
        (Some(started), Some(ended)) => lasted(ended.duration_since(started).as_secs_f64()),
        (Some(started), None) => {
            let seconds = Timestamp::now().duration_since(started).as_secs();
            format!("{} so far", span(u64::try_from(seconds).unwrap_or(0)))
        }
        (None, _) => "-".to_owned(),
    }
}

fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(item: u64, state: &str, waiting: &str) -> v1::TaskExecution {
        v1::TaskExecution {
            id: format!("0/1/{item}"),
            item,
            worker: format!("w{item}"),
            state: state.into(),
            waiting: waiting.into(),
            tries: 1,
            approve_message: "go live".into(),
            ..Default::default()
        }
    }

    fn cells(task: v1::TaskState, columns: [usize; 4]) -> Vec<String> {
        let rows = Task::from(task).rows(&[]);
        rows.iter()
            .map(|row| columns.map(|column| row[column].as_str()).join(" | "))
            .collect()
    }

    #[test]
    fn items_are_rows_below_their_task() {
        let task = v1::TaskState {
            name: "image".into(),
            state: "RUNNING".into(),
            for_each: true,
            items: 3,
            ended: 1,
            executions: vec![execution(0, "SUCCESS", ""), execution(1, "WAITING", "approval")],
            ..Default::default()
        };
        assert_eq!(
            cells(task, [0, 2, 3, 6]),
            [
                "image | 1 of 3 ended | RUNNING | -",
                "image[0] | - | SUCCESS | -",
                "image[1] | - | WAITING | waits for approval: go live"
            ]
        );
    }

    #[test]
    fn of_many_items_those_that_are_done_are_left_out() {
        let mut executions: Vec<_> = (0..100).map(|item| execution(item, "SUCCESS", "")).collect();
        executions[42].state = "FAILED".into();
        let task = v1::TaskState {
            name: "image".into(),
            state: "FAILED".into(),
            for_each: true,
            items: 100,
            ended: 100,
            executions,
            ..Default::default()
        };
        assert_eq!(
            cells(task, [0, 1, 2, 3]),
            [
                "image | - | 100 of 100 ended | FAILED",
                "image[42] | w42 | - | FAILED"
            ]
        );
    }
}
