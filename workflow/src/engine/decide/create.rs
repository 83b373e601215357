//! Making a workflow.

use super::super::apply::apply;
use super::super::command::{Creation, Effect};
use super::super::event::{Event, EventKind};
use super::super::state::Workflow;
use super::super::uses::static_workers;
use super::super::{Now, Stamp};
use super::draft::Draft;
use crate::language::PolicyRule;

/// The workflow, and the claims of the machines that its definition names, unless it begins later.
pub(super) fn create(creation: &Creation, now: Now, most_rows: usize) -> Draft<'static> {
    let Stamp { at, tick } = now.stamp(None);
    let created = Event {
        number: 1,
        at,
        tick,
        kind: EventKind::Created {
            id: creation.id.clone(),
            namespace: creation.namespace.clone(),
            name: creation.name.clone(),
            template: creation.template.clone(),
            made_from: creation.made_from.clone().map(Box::new),
            labels: creation.labels.clone(),
            definition: Box::new(creation.definition.clone()),
            inputs: creation.inputs.clone(),
            machines: creation.machines.clone(),
            resolved: creation.resolved.clone(),
            parent: creation.parent.clone(),
            start_at: creation.start_at,
            policy: rules(creation),
            by: creation.by.clone(),
        },
    };
    let workflow = apply(None, &created).expect("a first event that is Created is taken");
    let effects = match workflow.head.start_at {
        Some(_) => Vec::new(),
        None => claims(&workflow),
    };
    let mut draft = Draft::new(None, workflow, now, vec![created], most_rows);
    draft.effects = effects;
    draft
}

/// What was given comes before what its template has. A template that starts itself does not add its rules again.
fn rules(creation: &Creation) -> Vec<PolicyRule> {
    let mut rules = creation.policy.clone();
    for rule in &creation.definition.policy {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

/// In the root's name, for every machine that the definition names.
pub(super) fn claims(workflow: &Workflow) -> Vec<Effect> {
    let claim = |worker| Effect::Claim {
        worker,
        root: workflow.root().to_owned(),
    };
    static_workers(workflow).into_iter().map(claim).collect()
}
