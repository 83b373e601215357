//! Tasks: their turn, their gate, their list, their waves, their end.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::command::Effect;
use super::super::event::{Evaluated, EventKind, Failure};
use super::super::graph;
use super::super::ids::ExecutionId;
use super::super::size::json_bytes;
use super::super::state::{Execution, Said, StepState, TaskState, Waiting};
use super::super::{MAX_EXECUTIONS, MAX_ITEMS_BYTES};
use super::draft::Draft;
use super::outcome;
use super::scope::{bind, scope};
use crate::expression::{Scope, evaluate, has_gate, selectors};
use crate::language::{Amount, ForEach, Task};

impl Draft<'_> {
    /// One round over all tasks. True: something went on.
    pub(super) fn advance_tasks(&mut self) -> bool {
        let mut went_on = false;
        for task in 0..self.workflow.head.tasks.len() {
            if !self.is_going() || self.is_cut_short() {
                break;
            }
            let state = self.task_state(task);
            if state == StepState::Idle && self.may_begin(task) {
                if !self.has_room() {
                    break;
                }
                went_on |= self.begin_task(task, None);
            }
            let state = self.task_state(task);
            if state != StepState::Idle && !state.is_final() {
                went_on |= self.carry_on(task);
            }
        }
        went_on
    }

    fn may_begin(&self, task: usize) -> bool {
        let state = self.workflow.head.tasks.get(task);
        let is_held = state.is_some_and(|state| state.asking.is_some() || state.pause.is_some());
        let needs = graph::needs(&self.workflow.definition, task);
        !is_held && needs.iter().all(|&need| self.task_state(need).is_final())
    }

    /// The answer to what a task's list asked for.
    pub(super) fn answer(&mut self, task: usize, instance: u32, answer: &Told<'_>) {
        if self.asks_for(task, instance, answer.selector) {
            // During a pause the list is recorded, and nothing is started.
            self.begin_task(task, Some(answer));
        }
    }

    /// What a task's list asked for has no answer.
    pub(super) fn no_answer(&mut self, task: usize, instance: u32, selector: &str, machine: &str, why: &str) {
        if self.asks_for(task, instance, selector) {
            let message = format!("whether machine {machine} is meant cannot be said: {why}");
            let failure = Failure::new("Expression", shortened(message));
            self.end_task(task, StepState::Failed, None, Some(failure));
        }
    }

    fn asks_for(&self, task: usize, instance: u32, selector: &str) -> bool {
        let head = &self.workflow.head;
        let is_asked = head.tasks.get(task).is_some_and(|state| {
            state.state == StepState::Idle
                && state.instance.checked_add(1) == Some(instance)
                && state.asking.as_deref() == Some(selector)
        });
        is_asked && !head.state.is_final() && head.ending.is_none()
    }

    /// A task's turn has come. True: something happened.
    fn begin_task(&mut self, task: usize, answer: Option<&Told<'_>>) -> bool {
        let definition = self.workflow.definition.clone();
        let Some(defined) = definition.tasks.get(task) else {
            return false;
        };
        let skip = self
            .workflow
            .head
            .tasks
            .get(task)
            .and_then(|state| state.skip.as_ref());
        if let Some(failure) = skip.map(Said::skipped) {
            self.end_task(task, StepState::Skipped, None, Some(failure));
            return true;
        }
        let gates = defined.when.as_deref().is_some_and(has_gate);
        if !gates && !super::scope::gate(&self.workflow, Some(task)).0 {
            self.end_task(task, StepState::Skipped, None, None);
            return true;
        }
        let mut condition = None;
        if let Some(when) = defined.when.as_ref().filter(|_| defined.for_each.is_none()) {
            let mut scope = scope(&self.workflow, Some(task));
            bind(&mut scope, &self.workflow, None, &defined.worker);
            match truth(when, &scope) {
                Ok(evaluated) => condition = Some(evaluated),
                Err(failure) => {
                    self.end_task(task, StepState::Failed, None, Some(failure));
                    return true;
                }
            }
            if condition
                .as_ref()
                .is_some_and(|condition| condition.result != Value::Bool(true))
            {
                self.end_task(task, StepState::Skipped, condition, None);
                return true;
            }
        }
        let (items, machines) = match &defined.for_each {
            None => (None, BTreeMap::new()),
            Some(for_each) => match self.list(task, for_each, answer) {
                Ok(List::Is(items, machines)) => (Some(items), machines),
                Ok(List::Asked) => return true,
                Err(failure) => {
                    self.end_task(task, StepState::Failed, None, Some(failure));
                    return true;
                }
            },
        };
        let unknown = answer.map_or(&[][..], |answer| answer.unknown);
        if let (Some(for_each), Some(items)) = (&defined.for_each, &items)
            && let Some(failure) = too_few(for_each, items.len(), unknown)
        {
            self.end_task(task, StepState::Failed, None, Some(failure));
            return true;
        }
        let more = items.as_ref().map_or(1, Vec::len);
        if self.workflow.executions.len().saturating_add(more) > MAX_EXECUTIONS {
            let made = self.workflow.executions.len();
            let message = format!(
                "a workflow has {MAX_EXECUTIONS} task executions at most: {made} were made and here are {more} more"
            );
            self.end_task(
                task,
                StepState::Failed,
                None,
                Some(Failure::new("TooManyExecutions", message)),
            );
            return true;
        }
        let instance = self.next_instance(task);
        self.push(EventKind::TaskStarted {
            task,
            instance,
            condition,
            items,
            machines,
            warnings: unknown.to_vec(),
        });
        true
    }

    fn next_instance(&self, task: usize) -> u32 {
        let state = self.workflow.head.tasks.get(task);
        state.map_or(1, |state| state.instance.saturating_add(1))
    }

    /// The items of a task.
    fn list(&mut self, task: usize, for_each: &ForEach, answer: Option<&Told<'_>>) -> Result<List, Failure> {
        let carries = self
            .workflow
            .head
            .tasks
            .get(task)
            .map_or(0, |state| state.carries);
        if let Some(items) = self.workflow.items.get(&(task, carries)) {
            return Ok(List::Is((**items).clone(), BTreeMap::new()));
        }
        let mut scope = scope(&self.workflow, Some(task));
        let failed =
            |error: crate::expression::EvaluationError| Failure::new("Expression", error.to_string());
        let asked = selectors(&for_each.list, &scope).map_err(failed)?;
        let mut known = BTreeMap::new();
        match (&asked[..], answer) {
            ([], _) => {}
            ([selector], Some(answer)) if selector == answer.selector => {
                let values = answer
                    .machines
                    .iter()
                    .map(|(_, machine)| machine.clone())
                    .collect();
                scope.machines.insert(selector.clone(), values);
                known.extend(answer.machines.iter().cloned());
            }
            ([selector], _) => {
                let instance = self.next_instance(task);
                self.push(EventKind::Asked {
                    task,
                    instance,
                    selector: selector.clone(),
                });
                self.effects.push(Effect::Ask {
                    workflow: self.workflow.head.id.clone(),
                    task,
                    instance,
                    selector: selector.clone(),
                });
                return Ok(List::Asked);
            }
            (several, _) => {
                let message = format!(
                    "{} asks for machines {} times; write one machines(…) whose selector has them all, with ||",
                    for_each.list,
                    several.len()
                );
                return Err(Failure::new("Expression", message));
            }
        }
        let value = evaluate(&for_each.list, &scope).map_err(failed)?;
        let Value::Array(items) = value else {
            let message = format!("{} is {value}, which is no list", for_each.list);
            return Err(Failure::new("Expression", shortened(message)));
        };
        let bytes = json_bytes(&items);
        if bytes > MAX_ITEMS_BYTES {
            let message = format!(
                "the items of {} take {bytes} B, {MAX_ITEMS_BYTES} B at most",
                for_each.list
            );
            return Err(Failure::new("TooManyItems", message));
        }
        // An item with a `mac` is its own machine; what is known of the others goes into the head.
        let named = |worker: &String| items.iter().any(|item| item.as_str() == Some(worker));
        known.retain(|worker, _| named(worker));
        Ok(List::Is(items, known))
    }

    /// Makes executions, opens waves, ends the task. True: something went on.
    fn carry_on(&mut self, task: usize) -> bool {
        let definition = self.workflow.definition.clone();
        let Some(defined) = definition.tasks.get(task) else {
            return false;
        };
        let mut went_on = self.call_off(task, defined);
        while let Some(state) = self.workflow.head.tasks.get(task).cloned() {
            if state.state == StepState::Idle || state.state.is_final() || !self.is_going() {
                break;
            }
            match next_step(defined, &state) {
                Step::Wait => break,
                Step::OpenWave | Step::End if !self.has_room() => break,
                Step::Make => {
                    if !self.takes_a_step() {
                        break;
                    }
                    self.make(task, state.instance, state.made);
                }
                Step::OpenWave => {
                    let wave = state.wave.saturating_add(1);
                    let instance = state.instance;
                    self.push(EventKind::WaveOpened { task, instance, wave });
                }
                Step::End => self.finish_task(task),
            }
            went_on = true;
        }
        went_on
    }

    /// The failure budget is spent: what was made and has not begun (its machine is busy, or not attached, or nobody has
    /// approved it) does not begin any more. What has begun runs on. True: something was called off.
    fn call_off(&mut self, task: usize, defined: &Task) -> bool {
        let for_each = defined.for_each.as_ref();
        let state = self.workflow.head.tasks.get(task);
        let is_over = for_each
            .zip(state)
            .is_some_and(|(for_each, state)| is_over_budget(for_each, state));
        if !is_over || !self.is_going() {
            return false;
        }
        let has_not_begun = |execution: &&Execution| {
            execution.state == StepState::Waiting
                && matches!(
                    execution.waiting,
                    Some(Waiting::Approval | Waiting::Machine | Waiting::Resume)
                )
                && execution.actions.iter().all(|action| action.attempts == 0)
        };
        let waiting: Vec<ExecutionId> = self
            .workflow
            .executions_of(task)
            .filter(has_not_begun)
            .map(|execution| execution.id)
            .collect();
        let mut went_on = false;
        for id in waiting {
            if !self.takes_a_step() {
                break;
            }
            if self
                .workflow
                .execution(id)
                .is_some_and(|execution| execution.waiting == Some(Waiting::Machine))
            {
                self.unwant(id);
            }
            let failure = Failure::new("TooManyFailures", "too many other items failed before it began");
            self.end_execution(id, StepState::Skipped, Some(failure), Map::new());
            went_on = true;
        }
        went_on
    }

    /// All executions that there will be are over.
    fn finish_task(&mut self, task: usize) {
        let (state, error) = outcome::of_task(&self.workflow, task);
        self.end_task(task, state, None, error);
    }

    /// Ends a task, and goes back where its `goto` says so.
    pub(super) fn end_task(
        &mut self,
        task: usize,
        state: StepState,
        condition: Option<Evaluated>,
        error: Option<Failure>,
    ) {
        let Some(progress) = self.workflow.head.tasks.get(task) else {
            return;
        };
        let instance = if progress.state == StepState::Idle {
            progress.instance.saturating_add(1)
        } else {
            progress.instance
        };
        let is_many = self
            .workflow
            .definition
            .tasks
            .get(task)
            .is_some_and(|task| task.for_each.is_some());
        let has_run = progress.state != StepState::Idle && !is_many;
        let outputs = match self.workflow.executions_of(task).next().filter(|_| has_run) {
            Some(execution) if !execution.outputs.is_empty() => Value::Object(execution.outputs.clone()),
            _ => Value::Null,
        };
        let (state, error, back) = self.goto(task, state, error, &outputs);
        self.push(EventKind::TaskEnded {
            task,
            instance,
            state,
            condition,
            error,
            outputs,
        });
        if let Some(back) = back {
            self.push(back);
        }
    }
}

/// The answer to what a task's list asked for.
pub(super) struct Told<'a> {
    pub(super) selector: &'a str,
    /// By worker.
    pub(super) machines: &'a [(String, Value)],
    /// Labels that no machine has, in words.
    pub(super) unknown: &'a [String],
}

/// A list that is shorter than its `minItems`.
fn too_few(for_each: &ForEach, items: usize, unknown: &[String]) -> Option<Failure> {
    let wanted = usize::try_from(for_each.min_items).unwrap_or(usize::MAX);
    if items >= wanted {
        return None;
    }
    let mut message = format!("{} gives {items} items, and minItems is {wanted}", for_each.list);
    for what in unknown {
        message.push_str(&format!("; {what}"));
    }
    Some(Failure::new("TooFewItems", shortened(message)))
}

enum List {
    Is(Vec<Value>, BTreeMap<String, Value>),
    Asked,
}

enum Step {
    Make,
    OpenWave,
    End,
    Wait,
}

/// What a task that has started does next.
fn next_step(task: &Task, state: &TaskState) -> Step {
    let under_way = state.made.saturating_sub(state.ended);
    let for_each = task.for_each.as_ref();
    if for_each.is_some_and(|for_each| is_over_budget(for_each, state)) {
        return if under_way == 0 { Step::End } else { Step::Wait };
    }
    if state.made >= state.items {
        return if under_way == 0 { Step::End } else { Step::Wait };
    }
    if state.pause.is_some() {
        return Step::Wait;
    }
    let Some(for_each) = for_each else {
        return Step::Make;
    };
    let window = usize::try_from(for_each.max_parallel).unwrap_or(usize::MAX);
    if state.made >= wave_end(for_each, state) {
        return if under_way == 0 {
            Step::OpenWave
        } else {
            Step::Wait
        };
    }
    if window > 0 && under_way >= window {
        return Step::Wait;
    }
    Step::Make
}

/// More items failed than it bears.
pub(super) fn is_over_budget(for_each: &ForEach, state: &TaskState) -> bool {
    for_each
        .max_failures
        .is_some_and(|most| state.failed > amount(most, state.items))
}

/// Items up to the end of the open wave.
fn wave_end(for_each: &ForEach, state: &TaskState) -> usize {
    if state.wave >= for_each.waves.len() {
        return state.items;
    }
    let opened = for_each.waves.iter().take(state.wave.saturating_add(1));
    opened
        .map(|&wave| amount(wave, state.items))
        .max()
        .unwrap_or(state.items)
}

/// A share is rounded up.
pub(super) fn amount(amount: Amount, items: usize) -> usize {
    match amount {
        Amount::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
        Amount::Percent(percent) => {
            let percent = usize::try_from(percent).unwrap_or(usize::MAX);
            items.saturating_mul(percent).div_ceil(100)
        }
    }
}

/// What an expression that has to be true or false is.
pub(super) fn truth(expression: &str, scope: &Scope) -> Result<Evaluated, Failure> {
    let result =
        evaluate(expression, scope).map_err(|error| Failure::new("Expression", error.to_string()))?;
    if !result.is_boolean() {
        let message = format!("{expression} is {result}, which is neither true nor false");
        return Err(Failure::new("Expression", shortened(message)));
    }
    Ok(Evaluated {
        expression: expression.to_owned(),
        result,
    })
}

/// Values in messages may be long.
fn shortened(message: String) -> String {
    match message.char_indices().nth(500) {
        Some((at, _)) => format!("{}…", message.get(..at).unwrap_or_default()),
        None => message,
    }
}
