//! Our records as messages.

use proto::v1;
use workflow::engine::{ActionState, Event, EventKind, Outcome, Workflow};

use crate::agents::Agent;
use crate::clock::timestamp;
use crate::machines::{Machine, mac_text};
use crate::templates::Template;
use crate::timeline::Written;
use crate::workflows::Text;
use crate::workflows::logs::Line;

/// What is known of a machine beside its record.
pub(super) struct Live {
    pub(super) attached: bool,
    pub(super) agent: Option<Agent>,
    pub(super) boots_next: (String, String),
    pub(super) running_workflow: String,
}

pub(super) fn machine(machine: Machine, live: Live) -> v1::Machine {
    v1::Machine {
        macs: machine
            .interfaces
            .iter()
            .map(|interface| mac_text(interface.mac))
            .collect(),
        addresses: machine.addresses().iter().map(ToString::to_string).collect(),
        labels: machine.labels.into_iter().collect(),
        spec_yaml: yaml(&machine.document),
        name: machine.name,
        attached: live.attached,
        boots_next: live.boots_next.0,
        boots_next_reason: live.boots_next.1,
        running_workflow: live.running_workflow,
        last_seen: live.agent.as_ref().map(|agent| timestamp(agent.last_seen)),
        agent_version: live.agent.map(|agent| agent.version).unwrap_or_default(),
    }
}

fn yaml(document: &serde_json::Value) -> String {
    // JSON is YAML, for what the emitter might not write.
    serde_saphyr::to_string(document).unwrap_or_else(|_| document.to_string())
}

pub(super) fn template(template: Template, warnings: Vec<String>) -> v1::Template {
    v1::Template {
        id: template.id,
        name: template.name,
        text: template.text,
        version: template.version,
        created_at: Some(timestamp(template.created_at)),
        updated_at: Some(timestamp(template.updated_at)),
        warnings,
    }
}

pub(super) fn workflow(workflow: Workflow, text: Option<Text>) -> v1::Workflow {
    let tasks = workflow.definition.tasks.iter().zip(&workflow.tasks);
    let tasks = tasks.map(|(defined, task)| v1::TaskState {
        name: defined.name.clone(),
        worker: defined.worker.clone(),
        state: task.state.to_string(),
        actions: defined
            .actions
            .iter()
            .zip(&task.actions)
            .map(|(action, state)| action_state(action, state))
            .collect(),
    });
    v1::Workflow {
        tasks: tasks.collect(),
        id: workflow.id,
        name: workflow.name,
        template: workflow.template,
        state: workflow.state.to_string(),
        created_at: Some(timestamp(workflow.created_at)),
        started_at: workflow.started_at.map(timestamp),
        ended_at: workflow.ended_at.map(timestamp),
        message: workflow.message,
        definition_yaml: text.map(|text| text.yaml).unwrap_or_default(),
    }
}

fn action_state(action: &workflow::language::Action, state: &ActionState) -> v1::ActionState {
    v1::ActionState {
        name: action.name.clone(),
        image: action.image.clone(),
        state: state.state.to_string(),
        attempts: state.attempts,
        started_at: state.started_at.map(timestamp),
        ended_at: state.ended_at.map(timestamp),
        message: state.message.clone(),
        reason: state.reason.clone(),
        bytes: state.bytes,
    }
}

pub(super) fn event(event: &Event, workflow: &Workflow) -> v1::WorkflowEvent {
    let parts = event.kind.attempt().and_then(|attempt| attempt.parts());
    let task = parts.and_then(|parts| workflow.definition.tasks.get(parts.task));
    let action = parts.and_then(|parts| task?.actions.get(parts.action));
    v1::WorkflowEvent {
        number: event.number,
        at: Some(timestamp(event.at)),
        kind: kind(&event.kind).to_owned(),
        task: task.map(|task| task.name.clone()).unwrap_or_default(),
        action: action.map(|action| action.name.clone()).unwrap_or_default(),
        attempt: parts.map(|parts| parts.attempt).unwrap_or_default(),
        message: message(&event.kind),
        json: serde_json::to_string(event).unwrap_or_default(),
    }
}

/// A report goes by its outcome.
fn kind(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Reported { outcome, .. } => outcome.name(),
        other => other.name(),
    }
}

fn message(kind: &EventKind) -> String {
    match kind {
        EventKind::Created { name, template, .. } => format!("{name} from template {template}"),
        EventKind::Dispatched { worker, .. } => format!("to {worker}"),
        EventKind::Reported { outcome, .. } => outcome_message(outcome),
        EventKind::Lost { retried, .. } => {
            let then = if *retried { "is tried again" } else { "is given up" };
            format!("the machine came back with another boot: it {then}")
        }
        EventKind::Returned { .. } => "the machine came back".into(),
        EventKind::Late { outcome, .. } => format!("{} came late and changes nothing", outcome.name()),
        EventKind::Stopping { state, message } | EventKind::Ended { state, message } => {
            let colon = if message.is_empty() { "" } else { ": " };
            format!("{state}{colon}{message}")
        }
    }
}

fn outcome_message(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Started => String::new(),
        Outcome::Succeeded { message, bytes: 0 }
        | Outcome::TimedOut { message }
        | Outcome::Stopped { message } => message.clone(),
        Outcome::Succeeded { message, bytes } if message.is_empty() => format!("{bytes} B"),
        Outcome::Succeeded { message, bytes } => format!("{message} ({bytes} B)"),
        Outcome::Failed { reason, message, .. } => format!("{reason}: {message}"),
        Outcome::Leaving { how } => how.clone(),
    }
}

pub(super) fn line(line: Line) -> v1::LogLine {
    v1::LogLine {
        task: line.task,
        action: line.action,
        attempt: line.attempt,
        line: line.number,
        text: line.text,
    }
}

pub(super) fn boot_log_entry(entry: Written) -> v1::BootLogEntry {
    v1::BootLogEntry {
        at: Some(timestamp(entry.at)),
        mac: entry.mac,
        boot: entry.boot,
        stage: entry.stage,
        what: entry.what,
        detail: entry.detail,
        bytes: entry.bytes,
        outcome: entry.outcome,
    }
}
