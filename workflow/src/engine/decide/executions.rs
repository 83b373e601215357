//! Task executions: how one is made, what it does when it begins, how it ends.

use serde_json::{Map, Value};

use super::super::UnixMillis;
use super::super::command::Effect;
use super::super::event::{Evaluated, EventKind, Failure};
use super::super::ids::ExecutionId;
use super::super::state::{Filled, Parent, StepState, Waiting, WorkflowState};
use super::draft::Draft;
use super::fill;
use super::outputs::{bad_input, too_long};
use super::scope::{Item, bind, scope};
use super::tasks::truth;
use crate::expression::{EvaluationError, Scope, evaluate, fill_text};
use crate::labels::Labels;
use crate::language::{Control, Task, duration_ms, is_host, is_path, not_a_host, until_ms};

/// What an execution does when nothing holds it up any more.
pub(super) enum Plan {
    /// Its actions, on its machine.
    Machine,
    /// Waits until then, by server time.
    Wait(UnixMillis),
    /// Waits until then, by the clock on the wall.
    Until(UnixMillis),
    /// A system that answers.
    Answer,
    /// A sub-workflow.
    Child {
        id: String,
        /// It exists, and goes on from what failed.
        again: bool,
        template: String,
        inputs: Map<String, Value>,
    },
    /// It is done with that: `set`, `succeed`, `fail`, nothing.
    Now,
}

impl Plan {
    pub(super) fn waiting(&self) -> Waiting {
        match self {
            Plan::Machine => Waiting::Machine,
            Plan::Answer => Waiting::Answer,
            Plan::Child { .. } => Waiting::Children,
            Plan::Wait(_) | Plan::Until(_) | Plan::Now => Waiting::Time,
        }
    }

    pub(super) fn due(&self) -> Option<UnixMillis> {
        match self {
            Plan::Wait(due) | Plan::Until(due) => Some(*due),
            _ => None,
        }
    }

    pub(super) fn child(&self) -> Option<String> {
        match self {
            Plan::Child { id, .. } => Some(id.clone()),
            _ => None,
        }
    }
}

impl Draft<'_> {
    /// Makes the execution of one item.
    pub(super) fn make(&mut self, task: usize, instance: u32, item: usize) {
        let definition = self.workflow.definition.clone();
        let Some(defined) = definition.tasks.get(task) else {
            return;
        };
        let id = ExecutionId { task, instance, item };
        if self.carry_over(id) {
            return;
        }
        if let Some(failure) = self.skipped_ahead(id) {
            let mut kind = made(id, String::new(), None, None);
            if let EventKind::ExecutionMade { skipped, .. } = &mut kind {
                *skipped = Some(failure);
            }
            self.push(kind);
            return;
        }
        let items = self.workflow.items.get(&(task, instance)).cloned();
        let value = items.as_ref().and_then(|items| items.get(item));
        let bound = value.map(|value| Item { value, index: item });
        let mut condition = None;
        let prepared = self.prepare(task, defined, bound, &mut condition);
        let (worker, filled) = match prepared {
            Ok(Some(prepared)) => prepared,
            Ok(None) => {
                self.push(made(id, String::new(), condition, None));
                return;
            }
            Err(failure) => {
                self.push(made(id, String::new(), condition, None).waits(Waiting::Time, None, None));
                self.end_execution(id, StepState::Failed, Some(failure), Map::new());
                return;
            }
        };
        let kind = made(id, worker, condition, filled.clone().map(Box::new));
        if let Some(approve) = &defined.approve {
            let due = (approve.timeout_s > 0)
                .then(|| self.now.saturating_add(approve.timeout_s.saturating_mul(1000)));
            self.push(kind.waits(Waiting::Approval, due, None));
            return;
        }
        if self.is_held_ahead(id) {
            self.push(kind.waits(Waiting::Resume, None, None));
            return;
        }
        match self.plan(id, defined, filled.as_ref()) {
            Ok(plan) => {
                self.push(kind.waits(plan.waiting(), plan.due(), plan.child()));
                self.carry_out(id, plan);
            }
            Err(failure) => {
                self.push(kind.waits(Waiting::Time, None, None));
                self.end_execution(id, StepState::Failed, Some(failure), Map::new());
            }
        }
    }

    /// What succeeded in the run before is not done again.
    fn carry_over(&mut self, id: ExecutionId) -> bool {
        let earlier = self.workflow.earlier(id);
        let Some(earlier) = earlier.filter(|earlier| earlier.state == StepState::Success) else {
            return false;
        };
        let (worker, outputs) = (earlier.worker.clone(), earlier.outputs.clone());
        self.push(made(id, worker, None, None).waits(Waiting::Time, None, None));
        self.end_execution(id, StepState::Success, None, outputs);
        true
    }

    /// The execution's worker and its texts. None: its condition is not met.
    fn prepare(
        &mut self,
        index: usize,
        defined: &Task,
        item: Option<Item<'_>>,
        condition: &mut Option<Evaluated>,
    ) -> Result<Option<(String, Option<Filled>)>, Failure> {
        let definition = &self.workflow.definition;
        let is_dynamic = definition.has_expressions() && defined.worker.contains("${{");
        let has_condition = defined.when.is_some() && defined.for_each.is_some();
        if !is_dynamic && !has_condition && !fill::has_texts(definition, defined) {
            return Ok(Some((fill::worker(&defined.worker), None)));
        }
        // All items of a task see the same but for the item.
        let kept = self.scope.take().filter(|(of, _)| *of == index);
        let mut scope = match kept {
            Some((_, scope)) => scope,
            None => scope(&self.workflow, Some(index)),
        };
        let prepared = self.prepare_in(&mut scope, defined, item, condition);
        self.scope = Some((index, scope));
        prepared
    }

    fn prepare_in(
        &self,
        scope: &mut Scope,
        defined: &Task,
        item: Option<Item<'_>>,
        condition: &mut Option<Evaluated>,
    ) -> Result<Option<(String, Option<Filled>)>, Failure> {
        let definition = &self.workflow.definition;
        let failed = |error: EvaluationError| Failure::new("Expression", error.to_string());
        let when = defined.when.as_ref().filter(|_| defined.for_each.is_some());
        let mut worker = fill::worker(&defined.worker);
        bind(scope, &self.workflow, item, &worker);
        if let Some(when) = when {
            let evaluated = truth(when, scope)?;
            let is_met = evaluated.result == Value::Bool(true);
            *condition = Some(evaluated);
            if !is_met {
                return Ok(None);
            }
        }
        if definition.has_expressions() && defined.worker.contains("${{") {
            worker = fill::worker(&fill_text(&defined.worker, scope).map_err(failed)?);
            if worker.is_empty() {
                let message = format!("worker {} is empty", defined.worker);
                return Err(Failure::new("Expression", message));
            }
            bind(scope, &self.workflow, item, &worker);
        }
        let has_texts = fill::has_texts(definition, defined);
        let filled = has_texts.then(|| fill::fill(defined, scope)).transpose();
        let mut filled = filled.map_err(failed)?;
        if let (Some(Control::Answers(_)), Some(filled)) = (&defined.control, &mut filled) {
            asks_somebody(filled, scope.variables.get("machine"), &worker)?;
        }
        match filled
            .as_ref()
            .and_then(|filled| too_long(filled).or_else(|| bad_input(filled)))
        {
            Some(failure) => Err(failure),
            None => Ok(Some((worker, filled))),
        }
    }

    /// What an execution does next.
    pub(super) fn plan(
        &self,
        id: ExecutionId,
        defined: &Task,
        filled: Option<&Filled>,
    ) -> Result<Plan, Failure> {
        match &defined.control {
            None if defined.actions.is_empty() => Ok(Plan::Now),
            None => Ok(Plan::Machine),
            Some(Control::Set(_) | Control::Succeed | Control::Fail { .. }) => Ok(Plan::Now),
            Some(Control::Wait(text)) => {
                let text = filled.map_or(text, |filled| &filled.time);
                let wait = duration_ms(text).ok_or_else(|| {
                    let message = format!("{text:?} is no duration; one is 90s, 10m or 1h30m");
                    Failure::new("Expression", message)
                })?;
                Ok(Plan::Wait(self.now.saturating_add(wait)))
            }
            Some(Control::Until(text)) => {
                let text = filled.map_or(text, |filled| &filled.time);
                let due = until_ms(text, self.wall).ok_or_else(|| {
                    let message = format!("{text:?} is no time; one is 2026-01-31T08:00:00Z or next 22:00Z");
                    Failure::new("Expression", message)
                })?;
                Ok(Plan::Until(due))
            }
            Some(Control::Answers(_)) => match filled {
                Some(filled) if !filled.address.is_empty() => Ok(Plan::Answer),
                _ => Err(no_address(&defined.worker)),
            },
            Some(Control::Workflow { template, inputs }) => {
                let (id, again) = self.child_of(id);
                Ok(Plan::Child {
                    id,
                    again,
                    template: filled.map_or(template, |filled| &filled.template).clone(),
                    inputs: match filled {
                        Some(filled) => filled.inputs.clone(),
                        None => inputs.clone().into_iter().collect(),
                    },
                })
            }
        }
    }

    /// Does what the plan says, now that it is recorded.
    pub(super) fn carry_out(&mut self, id: ExecutionId, plan: Plan) {
        match plan {
            Plan::Machine => self.want(id),
            Plan::Wait(due) if due <= self.now => {
                self.end_execution(id, StepState::Success, None, Map::new());
            }
            Plan::Until(due) if due <= self.wall => {
                self.end_execution(id, StepState::Success, None, Map::new());
            }
            Plan::Answer | Plan::Wait(_) | Plan::Until(_) => {}
            Plan::Child {
                id: child,
                again,
                template,
                inputs,
            } => {
                let head = &self.workflow.head;
                let task = self.workflow.definition.tasks.get(id.task);
                let name = format!("{}-{}", head.name, task.map_or("", |task| &task.name));
                let parent = Parent {
                    workflow: head.id.clone(),
                    execution: id,
                    root: self.workflow.root().to_owned(),
                };
                let namespace = head.namespace.clone();
                let policy = head.policy.clone();
                self.effects.push(if again {
                    Effect::RetryChild {
                        id: child,
                        by: format!("workflow {}", head.id),
                    }
                } else {
                    Effect::StartChild {
                        id: child,
                        parent,
                        namespace,
                        template,
                        name,
                        inputs,
                        labels: Labels::clone(&self.workflow.head.labels),
                        policy,
                    }
                });
            }
            Plan::Now => self.act(id),
        }
    }

    /// `set`, `succeed`, `fail`, and a task that has nothing to do.
    fn act(&mut self, id: ExecutionId) {
        let definition = self.workflow.definition.clone();
        let Some(defined) = definition.tasks.get(id.task) else {
            return;
        };
        let execution = self.workflow.execution(id);
        let filled = execution.and_then(|execution| execution.filled.clone());
        match &defined.control {
            Some(Control::Set(values)) => {
                let mut scope = scope(&self.workflow, Some(id.task));
                let item = execution.and_then(|execution| {
                    let (value, index) = (execution.item.as_ref()?, id.item);
                    Some(Item { value, index })
                });
                bind(&mut scope, &self.workflow, item, &defined.worker);
                let values: Result<Map<String, Value>, _> = values
                    .iter()
                    .map(|(name, text)| Ok((name.clone(), evaluate(text, &scope)?)))
                    .collect();
                match values {
                    Ok(values) => self.succeed_with(id, values),
                    Err(error) => {
                        let error: EvaluationError = error;
                        let failure = Failure::new("Expression", error.to_string());
                        self.end_execution(id, StepState::Failed, Some(failure), Map::new());
                    }
                }
            }
            Some(Control::Succeed) => {
                self.end_execution(id, StepState::Success, None, Map::new());
                self.end_early(id, WorkflowState::Success, String::new());
            }
            Some(Control::Fail { reason, message }) => {
                let (reason, message) = match &filled {
                    Some(filled) => (&filled.reason, &filled.fail_message),
                    None => (reason, message),
                };
                let reason = if reason.is_empty() { "Failed" } else { reason };
                let failure = Failure::new(reason, message.clone());
                let words = super::outcome::of_control(&defined.name, StepState::Failed, Some(&failure));
                self.end_execution(id, StepState::Failed, Some(failure), Map::new());
                self.end_early(id, WorkflowState::Failed, words);
            }
            _ => self.end_execution(id, StepState::Success, None, Map::new()),
        }
    }

    /// Ends the task of a `succeed` or `fail`, and with it the workflow.
    fn end_early(&mut self, id: ExecutionId, state: WorkflowState, message: String) {
        let (end, error) = super::outcome::of_task(&self.workflow, id.task);
        let is_alone = self
            .workflow
            .head
            .tasks
            .get(id.task)
            .is_some_and(|task| task.ended >= task.items);
        if is_alone {
            self.end_task(id.task, end, None, error);
        }
        if !is_alone || self.task_state(id.task).is_final() {
            self.stop(state, message);
        }
    }

    /// Ends an execution with outputs that came to be now, if the workflow may have so many.
    pub(super) fn succeed_with(&mut self, id: ExecutionId, outputs: Map<String, Value>) {
        match self.too_many(&outputs) {
            None => self.end_execution(id, StepState::Success, None, outputs),
            Some(failure) => self.end_execution(id, StepState::Failed, Some(failure), Map::new()),
        }
    }

    pub(super) fn end_execution(
        &mut self,
        execution: ExecutionId,
        state: StepState,
        error: Option<Failure>,
        outputs: Map<String, Value>,
    ) {
        self.push(EventKind::ExecutionEnded {
            execution,
            state,
            error,
            outputs,
        });
    }
}

/// Whose answer is waited for: the first address of the machine's record, where the template names none.
fn asks_somebody(filled: &mut Filled, machine: Option<&Value>, worker: &str) -> Result<(), Failure> {
    if filled.address.is_empty() {
        let first = machine.and_then(|machine| machine.pointer("/addresses/0")?.as_str());
        filled.address = first.ok_or_else(|| no_address(worker))?.to_owned();
    }
    if !is_host(&filled.address) {
        return Err(Failure::new("BadAddress", not_a_host(&filled.address)));
    }
    if !filled.path.is_empty() && !is_path(&filled.path) {
        let message = format!(
            "path {:?} is none: it begins with a slash and has no space",
            filled.path
        );
        return Err(Failure::new("BadAddress", message));
    }
    Ok(())
}

fn no_address(worker: &str) -> Failure {
    let message = format!(
        "no address of machine {worker:?} is known: write one into its record, or into answers, as address"
    );
    Failure::new("BadAddress", message)
}

fn made(
    execution: ExecutionId,
    worker: String,
    condition: Option<Evaluated>,
    filled: Option<Box<Filled>>,
) -> EventKind {
    EventKind::ExecutionMade {
        execution,
        worker,
        condition,
        filled,
        waiting: None,
        due: None,
        child: None,
        skipped: None,
    }
}

impl EventKind {
    /// The same, waiting for something.
    fn waits(mut self, on: Waiting, until: Option<UnixMillis>, sub: Option<String>) -> EventKind {
        if let EventKind::ExecutionMade {
            waiting, due, child, ..
        } = &mut self
        {
            (*waiting, *due, *child) = (Some(on), until, sub);
        }
        self
    }
}
