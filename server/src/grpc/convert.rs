//! Our records as messages.

mod workflows;

use proto::v1;
use workflow::engine::{self, UnixMillis};

use crate::agents::Agent;
use crate::clock::timestamp;
use crate::timeline::{Placed, Written};
use crate::workflows::logs::Line;
use coordinator::machines::{Change, Machine, mac_text};
use coordinator::namespaces::Namespace;
use coordinator::people;
use coordinator::secrets::{Secret, SecretId};
use coordinator::templates::Template;

pub(super) use self::workflows::{event, shown, summary};

/// What is known of a machine beside its record.
pub(super) struct Live {
    pub(super) attached: bool,
    pub(super) agent: Option<Agent>,
    pub(super) boots_next: (String, String),
    pub(super) running_workflow: String,
    pub(super) work: engine::Machine,
    pub(super) silent: bool,
    pub(super) told: Option<(v1::HardwareInventory, UnixMillis)>,
    pub(super) progress: Option<v1::ActionProgress>,
    /// One of many.
    pub(super) is_listed: bool,
}

pub(super) fn machine(machine: Machine, live: Live) -> v1::Machine {
    let (inventory, inventory_at) = live.told.unzip();
    let death = live.agent.as_ref().and_then(|agent| agent.death.clone());
    v1::Machine {
        progress: live.progress,
        macs: machine
            .interfaces
            .iter()
            .map(|interface| mac_text(interface.mac))
            .collect(),
        addresses: machine.addresses().iter().map(ToString::to_string).collect(),
        labels: machine.labels.into_iter().collect(),
        // Of thousands, people read few: JSON is YAML, and is written and read at a tenth of the cost.
        spec_yaml: match live.is_listed {
            true => machine.document.to_string(),
            false => yaml(&machine.document),
        },
        name: machine.name,
        attached: live.attached,
        boots_next: live.boots_next.0,
        boots_next_reason: live.boots_next.1,
        running_workflow: live.running_workflow,
        last_seen: live.agent.as_ref().map(|agent| timestamp(agent.last_seen)),
        last_death: death.as_ref().map(|death| death.why.clone()).unwrap_or_default(),
        last_death_at: death.map(|death| timestamp(death.at)),
        agent_version: live.agent.map(|agent| agent.version).unwrap_or_default(),
        silent: live.silent,
        attempt_lost: live.work.current.as_ref().is_some_and(|current| current.lost),
        running_attempt: live
            .work
            .current
            .map(|current| current.attempt.to_string())
            .unwrap_or_default(),
        queue: live.work.claims.iter().map(|claim| claim.root.clone()).collect(),
        epoch: live.work.epoch,
        namespace: machine.namespace,
        inventory: inventory.map(Box::new),
        inventory_at: inventory_at.map(timestamp),
        version: 0,
    }
}

pub(super) fn change(change: Change) -> v1::MachineChange {
    v1::MachineChange {
        name: change.name,
        namespace: change.namespace,
        change: change.kind.word().to_owned(),
        before_yaml: change.before.as_ref().map(yaml).unwrap_or_default(),
        after_yaml: yaml(&change.after),
    }
}

fn yaml(document: &serde_json::Value) -> String {
    // JSON is YAML, for what the emitter might not write.
    serde_saphyr::to_string(document).unwrap_or_else(|_| document.to_string())
}

pub(super) fn token(token: people::Token) -> v1::Token {
    v1::Token {
        name: token.name,
        groups: token.groups,
        role: token.role.to_string(),
        created_at: Some(timestamp(token.created_at)),
        created_by: token.created_by,
        expires_at: token.expires_at.map(timestamp),
        namespaces: token.namespaces,
    }
}

pub(super) fn template(template: Template, warnings: Vec<String>) -> v1::Template {
    v1::Template {
        digest: template.digest(),
        updated_by: template.updated_by,
        id: template.id,
        namespace: template.namespace,
        name: template.name,
        text: template.text,
        version: template.version,
        created_at: Some(timestamp(template.created_at)),
        updated_at: Some(timestamp(template.updated_at)),
        labels: template.labels.into_iter().collect(),
        warnings,
        change: String::new(),
        previous_text: String::new(),
    }
}

pub(crate) fn namespace((name, row): (String, Option<Namespace>)) -> v1::Namespace {
    v1::Namespace {
        name,
        created_at: row.as_ref().map(|row| timestamp(row.created_at)),
        created_by: row.map(|row| row.created_by).unwrap_or_default(),
    }
}

pub(super) fn secret((id, secret): (SecretId, Secret)) -> v1::Secret {
    v1::Secret {
        name: id.name,
        namespace: id.namespace,
        version: secret.version,
        created_at: Some(timestamp(secret.created_at)),
        updated_at: Some(timestamp(secret.updated_at)),
        set_by: secret.set_by,
    }
}

pub(super) fn line(line: Line) -> v1::LogLine {
    v1::LogLine {
        task: line.task,
        action: line.action,
        attempt: line.attempt,
        execution: line.execution,
        line: line.number,
        text: line.text,
        machine: line.machine,
        at: line.at.map(timestamp),
    }
}

pub(super) fn boot_log_entry(placed: Placed) -> v1::BootLogEntry {
    let Placed { ring, number, entry } = placed;
    let Written {
        at,
        mac,
        boot,
        stage,
        what,
        detail,
        bytes,
        outcome,
    } = entry;
    v1::BootLogEntry {
        at: Some(timestamp(at)),
        mac,
        boot,
        stage: stage.into(),
        what,
        detail,
        bytes,
        outcome: outcome.into(),
        ring,
        number,
    }
}
