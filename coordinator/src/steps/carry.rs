//! Rows of outboxes, taken to those they are for: what the target makes of a row and the row's end are one commit.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use store::Revision;
use workflow::Shared;
use workflow::engine::{Command, Creation, Effect, Now, Parent, Refusal, WorkflowState};
use workflow::expression::Selector;
use workflow::labels::Labels;
use workflow::language::PolicyRule;

use super::rows::{self, Row};
use super::step::Step;
use super::{Answer, Coordinator, Next, Plan};
use crate::archive;
use crate::database::{Batch, Stored, View};
use crate::error::Error;
use crate::machines::{self, Inventory, Machine};
use crate::making::{self, Identity, Source, Text};
use crate::namespaces::{Reach, Scope};
use crate::templates;

/// Sub-workflows of sub-workflows.
const MAX_DEPTH: usize = 16;

impl Coordinator {
    pub(super) fn carry(&self, now: Now, key: &str) -> Result<Plan, Error> {
        let mut step = Step::new(self, now);
        let Some(id) = rows::whose(key) else {
            return step.plan(Answer::Done);
        };
        let prefix = rows::outbox(id);
        let mut found = step.view()?.first_of::<Row>(&prefix, 2)?.into_iter();
        let Some((first, Stored { value: row, modified })) = found.next() else {
            return step.plan(Answer::Done);
        };
        let first = format!("{prefix}{first}");
        self.take(&mut step, id, &first, modified, row)?;
        if let Some((second, _)) = found.next() {
            step.then.push(Next::Carry(format!("{prefix}{second}")));
        }
        step.plan(Answer::Done)
    }

    fn take(
        &self,
        step: &mut Step<'_>,
        id: &str,
        key: &str,
        modified: Revision,
        row: Row,
    ) -> Result<(), Error> {
        step.carried(key, modified);
        // What comes of it is stamped above what it came of.
        step.workflow(id)?;
        match row {
            Row::Machine { machine, effects } => {
                let mut machines = BTreeSet::from([machine.clone()]);
                for item in effects {
                    let whom = step.whom(id, &machine, &item.effect)?;
                    step.apply(&whom, item)?;
                    machines.insert(whom);
                }
                machines
                    .iter()
                    .try_for_each(|machine| self.check_blocked(step, machine))
            }
            Row::Several { rows } => {
                step.apart(key, rows);
                Ok(())
            }
            Row::Continue => self.tell(step, id, &Command::Continue),
            Row::Deadlock { machine, with } => {
                if self.is_deadlocked(step, id)? {
                    return self.tell(step, id, &Command::Deadlock { machine, with });
                }
                Ok(())
            }
            Row::Other { effect } => self.other(step, *effect),
        }
    }

    fn other(&self, step: &mut Step<'_>, effect: Effect) -> Result<(), Error> {
        match effect {
            Effect::Ask {
                workflow,
                task,
                instance,
                selector,
            } => {
                let namespace = step
                    .workflow(&workflow)?
                    .map(|workflow| workflow.head.namespace.clone());
                let reach = Reach::only(&namespace.unwrap_or_default());
                let known = machines::all(step.view()?, &reach)?;
                let command = match matching(step.view()?, &known, &selector)? {
                    Ok(machines) => Command::Answer {
                        task,
                        instance,
                        unknown: unknown_labels(&known, &selector),
                        selector,
                        machines,
                    },
                    Err(Unknown { machine, why }) => Command::NoAnswer {
                        task,
                        instance,
                        selector,
                        machine,
                        why,
                    },
                };
                self.tell(step, &workflow, &command)
            }
            Effect::StartChild {
                id,
                parent,
                namespace,
                template,
                name,
                inputs,
                labels,
                policy,
            } => {
                let child = Child {
                    id,
                    parent,
                    namespace,
                    template,
                    name,
                    inputs,
                    labels,
                    policy,
                };
                self.start_child(step, child)
            }
            Effect::CancelChild { id, reason } => self.tell(
                step,
                &id,
                &Command::Cancel {
                    by: String::new(),
                    reason,
                },
            ),
            Effect::PauseChild { id, by, reason } => self.tell(step, &id, &Command::Pause { by, reason }),
            Effect::UnpauseChild { id, by } => self.tell(step, &id, &Command::Unpause { by }),
            Effect::RetryChild { id, by } => self.tell(step, &id, &Command::RetryChild { by }),
            Effect::EndChild {
                parent,
                child,
                run,
                state,
                message,
                outputs,
                workers,
            } => {
                let command = Command::ChildEnded {
                    execution: parent.execution,
                    child,
                    run: Some(run),
                    state,
                    message,
                    outputs,
                    workers,
                };
                self.tell(step, &parent.workflow, &command)
            }
            // These stand in rows of machines.
            Effect::Claim { .. }
            | Effect::Release { .. }
            | Effect::ReleaseMany { .. }
            | Effect::Want { .. }
            | Effect::Unwant { .. }
            | Effect::Skipped { .. }
            | Effect::SkippedMany { .. }
            | Effect::Stop { .. } => Ok(()),
        }
    }

    /// A refusal means that it is done.
    fn tell(&self, step: &mut Step<'_>, id: &str, command: &Command) -> Result<(), Error> {
        if let Err(refusal) = step.command(id, command)? {
            // Its root is retried.
            if refusal == Refusal::Missing && step.is_archived(id) {
                return Err(Error::Archived(id.to_owned()));
            }
            tracing::debug!(workflow = id, %refusal, "what another asked of a workflow was refused");
        }
        Ok(())
    }

    fn start_child(&self, step: &mut Step<'_>, child: Child) -> Result<(), Error> {
        let parent = child.parent.clone();
        let id = child.id.clone();
        let sub = archive::sub_key(&parent.root, &id);
        let problem = match self.child(step, child)? {
            Ok((mut creation, text)) => {
                creation.machines =
                    making::facts_of_workers(step.view()?, &creation.namespace, &creation.definition)?;
                let mut extra = Batch::default();
                extra.put(format!("workflow-text/{id}"), &text);
                extra.put(sub, &());
                match step.command(&id, &Command::Create(Box::new(creation)))? {
                    Ok(_) => {
                        step.batch.merge(extra);
                        return Ok(());
                    }
                    Err(refusal) => {
                        tracing::debug!(workflow = id, %refusal, "a sub-workflow was made before");
                        return Ok(());
                    }
                }
            }
            Err(problem) => problem,
        };
        let command = Command::ChildEnded {
            execution: parent.execution,
            child: id,
            run: None,
            state: WorkflowState::Failed,
            message: problem,
            outputs: Map::new(),
            workers: Vec::new(),
        };
        self.tell(step, &parent.workflow, &command)
    }

    /// What the sub-workflow is made from; or why it can't be made, in words.
    fn child(&self, step: &Step<'_>, child: Child) -> Result<Result<(Creation, Text), String>, Error> {
        let made = self.try_child(step, child);
        match made {
            Ok(made) => Ok(Ok(made)),
            Err(Error::Invalid(problem) | Error::NotFound(problem) | Error::Refused(problem)) => {
                Ok(Err(problem))
            }
            Err(error) => Err(error),
        }
    }

    fn try_child(&self, step: &Step<'_>, child: Child) -> Result<(Creation, Text), Error> {
        let mut depth = 1;
        let mut above = Some(child.parent.workflow.clone());
        while let Some(id) = above {
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(Error::Refused(format!(
                    "template {:?} would be {depth} workflows deep, {MAX_DEPTH} are the most: does it call itself?",
                    child.template
                )));
            }
            let workflow = step.workflow(&id)?;
            above = workflow.and_then(|workflow| Some(workflow.head.parent.as_ref()?.workflow.clone()));
        }
        let scope = Scope::inside(&child.namespace);
        let template = templates::find(step.view()?, &scope, &child.template)?;
        let source = Source {
            template: template.name,
            template_id: template.id,
            template_version: template.version,
            text: template.text,
            inputs: child.inputs,
            name: child.name,
            template_labels: template.labels,
            labels: child.labels,
            ..Source::default()
        };
        let identity = Identity {
            id: child.id,
            parent: Some(child.parent),
            idempotency_key: String::new(),
            by: String::new(),
        };
        let (mut creation, text) = making::make(step.view()?, &scope, &self.images, source, identity)?;
        creation.policy = child.policy.to_vec();
        Ok((creation, text))
    }
}

/// What is known of the machines that match, by worker, in order of their names; or the first of which it can't be said.
/// To leave that one out would be to guess: a rollout is over all that are meant.
fn matching(
    view: &View,
    machines: &[Machine],
    selector: &str,
) -> Result<Result<Vec<(String, Value)>, Unknown>, Error> {
    let mut found = Vec::new();
    let selector = Selector::parse(selector);
    for machine in machines {
        let matches = match &selector {
            Ok(selector) => making::is_meant(view, selector, machine)?,
            Err(error) => Err(error.clone()),
        };
        match matches {
            Ok(true) => {
                let told = Inventory::of(view, machine)?;
                let facts = making::facts(machine, told.as_ref());
                found.push((crate::machines::mac_text(machine.mac()), facts));
            }
            Ok(false) => {}
            Err(error) => {
                return Ok(Err(Unknown {
                    machine: machine.name.clone(),
                    why: error.to_string(),
                }));
            }
        }
    }
    Ok(Ok(found))
}

/// The labels that a selector asks for and no machine has, in words.
fn unknown_labels(machines: &[Machine], selector: &str) -> Vec<String> {
    let has: BTreeSet<&str> = machines
        .iter()
        .flat_map(|machine| machine.labels.keys().map(String::as_str))
        .collect();
    let unknown = |label: &String| {
        let meant = yaml::nearest(label, has.iter().copied())
            .map(|near| format!("; did you mean {near:?}?"))
            .unwrap_or_default();
        format!("no machine has the label {label:?}{meant}")
    };
    let asked = workflow::expression::labels(selector);
    let asked = asked.iter().filter(|label| !has.contains(label.as_str()));
    asked.take(MAX_UNKNOWN).map(unknown).collect()
}

/// Labels that are named.
const MAX_UNKNOWN: usize = 10;

/// A machine for which a selector has no value, and why.
struct Unknown {
    machine: String,
    why: String,
}

/// A sub-workflow to be made.
struct Child {
    id: String,
    parent: Parent,
    namespace: String,
    template: String,
    name: String,
    inputs: Map<String, Value>,
    labels: Labels,
    /// Of its parent.
    policy: Shared<Vec<PolicyRule>>,
}
