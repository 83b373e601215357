//! One workflow's events, judged as they come, by rules that share no code with the engine.

mod attempts;

use std::collections::{BTreeMap, BTreeSet};

use workflow::engine::{AttemptId, Event, EventKind, ExecutionId, StepState, WorkflowState};
use workflow::language::{Amount, Boots, Control, Definition, PolicyRule};

pub(crate) use attempts::AttemptSeen;

/// What its events have said so far.
#[derive(Default)]
pub(crate) struct History {
    definition: Definition,
    pub(crate) events: Vec<Event>,
    tasks: Vec<TaskSeen>,
    executions: BTreeMap<ExecutionId, ExecutionSeen>,
    pub(crate) attempts: BTreeMap<AttemptId, AttemptSeen>,
    /// Items that succeeded in an earlier instance, by task: a retry of the workflow does not do them again.
    succeeded: BTreeSet<(usize, usize)>,
    pub(crate) paused: bool,
    stopping: bool,
    pub(crate) ended: Option<WorkflowState>,
    run: u32,
    /// It is to begin later, and has not begun.
    later: bool,
    /// Its first rule is that somebody releases every action.
    steps: bool,
}

#[derive(Default)]
struct TaskSeen {
    instance: u32,
    /// In its present instance: whether machines were asked for, and whether it has begun.
    asked: bool,
    started: bool,
    ended: bool,
    items: usize,
    wave: usize,
    failed: usize,
    /// Somebody holds it, or items of it that were not made.
    held: bool,
    held_items: BTreeSet<usize>,
}

#[derive(Default)]
struct ExecutionSeen {
    worker: String,
    approved: bool,
    ended: bool,
    /// Somebody holds it.
    held: bool,
    /// The action that it asks for, and those that were released.
    asks: Option<usize>,
    released: BTreeSet<usize>,
    /// Somebody has skipped it since it was made, or its task or item in a later instance; and it did not succeed all the same.
    skipped: bool,
    /// By action: done in this try of the task.
    done: BTreeSet<usize>,
    /// By action: the number of its last attempt.
    last: BTreeMap<usize, u32>,
    under_way: Option<AttemptId>,
}

impl History {
    /// Takes the next event.
    ///
    /// # Errors
    /// What it breaks, in words.
    pub(crate) fn take(&mut self, event: &Event) -> Result<(), String> {
        self.numbers(event)?;
        if let Some(state) = self.ended
            && !matches!(
                event.kind,
                EventKind::Labelled { .. } | EventKind::Late { .. } | EventKind::RunOpened { .. }
            )
        {
            return Err(format!("it is {state}, and terminal stays terminal for its run"));
        }
        if matches!(event.kind, EventKind::Created { .. }) != (event.number == 1) {
            return Err("a workflow is created once, by its first event".to_owned());
        }
        self.judge(&event.kind)?;
        self.events.push(event.clone());
        Ok(())
    }

    pub(crate) fn is_root(&self) -> bool {
        matches!(
            self.events.first().map(|event| &event.kind),
            Some(EventKind::Created { parent: None, .. })
        )
    }

    /// The workflow at the top.
    pub(crate) fn root(&self) -> &str {
        match self.events.first().map(|event| &event.kind) {
            Some(EventKind::Created {
                parent: Some(parent), ..
            }) => &parent.root,
            Some(EventKind::Created { id, .. }) => id,
            _ => "",
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        match self.events.first().map(|event| &event.kind) {
            Some(EventKind::Created { namespace, .. }) => namespace,
            _ => "",
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self.events.first().map(|event| &event.kind) {
            Some(EventKind::Created { name, .. }) => name,
            _ => "",
        }
    }

    /// What its template says that machines boot after its success.
    pub(crate) fn boots(&self) -> Option<Boots> {
        self.definition.boots
    }

    /// The workflow that it is part of, and what of that it was made for.
    pub(crate) fn above(&self) -> Option<(&str, ExecutionId)> {
        match self.events.first().map(|event| &event.kind) {
            Some(EventKind::Created {
                parent: Some(parent), ..
            }) => Some((&parent.workflow, parent.execution)),
            _ => None,
        }
    }

    /// Whether somebody skipped it after it was made, or a later instance of the same.
    pub(crate) fn was_skipped(&self, id: ExecutionId) -> bool {
        let execution = self.executions.get(&id);
        execution.is_some_and(|execution| execution.skipped)
    }

    /// Attempts that were handed out and are neither over nor given up.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &AttemptId> {
        self.executions
            .values()
            .filter_map(|execution| execution.under_way.as_ref())
    }

    fn numbers(&self, event: &Event) -> Result<(), String> {
        let (number, at) = self
            .events
            .last()
            .map_or((0, (0, 0)), |last| (last.number, (last.at, last.tick)));
        if event.number != number + 1 {
            return Err(format!("event {} comes after event {number}", event.number));
        }
        if (event.at, event.tick) <= at {
            return Err(format!(
                "event {} is stamped {}+{}, not above {}+{}",
                event.number, event.at, event.tick, at.0, at.1
            ));
        }
        Ok(())
    }

    fn judge(&mut self, kind: &EventKind) -> Result<(), String> {
        match kind {
            EventKind::Created {
                definition,
                start_at,
                policy,
                ..
            } => {
                self.steps = is_step(policy);
                self.later = start_at.is_some();
                self.tasks = definition.tasks.iter().map(|_| TaskSeen::default()).collect();
                self.definition = (**definition).clone();
                self.run = 1;
                Ok(())
            }
            EventKind::StartMoved { .. } | EventKind::Begun { .. } if !self.later => {
                Err("it had begun, and begins again".to_owned())
            }
            EventKind::StartMoved { .. } => Ok(()),
            EventKind::Begun { .. } => {
                self.later = false;
                self.starts_things("it begins")
            }
            EventKind::Asked { task, .. } => {
                self.needs_are_over(*task)?;
                self.starts_things("machines are asked for")?;
                self.task(*task)?.asked = true;
                Ok(())
            }
            EventKind::TaskStarted {
                task,
                instance,
                items,
                ..
            } => self.task_started(*task, *instance, items.as_ref().map_or(1, Vec::len)),
            EventKind::ExecutionMade {
                execution,
                worker,
                waiting,
                ..
            } => self.execution_made(*execution, worker, waiting.is_none()),
            EventKind::Decided {
                execution, approved, ..
            } => self.decided(*execution, *approved),
            EventKind::Dispatched {
                attempt,
                worker,
                boot_id,
                ..
            } => self.dispatched(attempt, worker, boot_id),
            EventKind::Reported { attempt, outcome } => self.reported(attempt, outcome),
            EventKind::StopAsked { attempt, .. } => self.is_under_way(attempt, "asked to stop"),
            EventKind::Lost { attempt, why } => self.lost(attempt, why),
            EventKind::Returned { attempt, boot_id } => self.returned(attempt, boot_id),
            EventKind::Late { attempt, outcome } => self.late(attempt, outcome),
            EventKind::Delayed {
                execution, action, ..
            } => self.delayed(*execution, *action),
            EventKind::Resumed { execution, .. } => {
                self.not_held(*execution, "goes on")?;
                self.open(*execution)?.asks = None;
                Ok(())
            }
            EventKind::Unanswered { execution, .. }
            | EventKind::ChildAsked { execution, .. }
            | EventKind::ChildEnded { execution, .. } => self.open(*execution).map(|_| ()),
            EventKind::ExecutionEnded { execution, state, .. } => self.execution_ended(*execution, *state),
            EventKind::WaveOpened { task, wave, .. } => self.wave_opened(*task, *wave),
            EventKind::TaskEnded { task, instance, .. } => self.task_ended(*task, *instance),
            EventKind::WentBack { tasks, .. } => {
                self.succeeded.retain(|(task, _)| !tasks.contains(task));
                self.again(tasks)
            }
            EventKind::PauseAsked { .. } | EventKind::Paused => {
                self.paused = true;
                Ok(())
            }
            EventKind::CancelAsked { .. } | EventKind::Labelled { .. } => Ok(()),
            EventKind::PolicySet { policy, .. } => {
                self.steps = is_step(policy);
                Ok(())
            }
            EventKind::ActionAsked {
                execution, action, ..
            } => {
                self.not_held(*execution, "asks for an action")?;
                self.open(*execution)?.asks = Some(*action);
                Ok(())
            }
            EventKind::SkipAsked {
                task,
                item,
                execution,
                ..
            } => {
                if let Some(execution) = execution {
                    self.open(*execution)?;
                }
                self.set_skipped(*task, execution.map(|id| id.item).or(*item), true);
                self.holds(*task, *item, *execution, false).map(|_| ())
            }
            EventKind::TaskPaused {
                task,
                item,
                execution,
                ..
            } => match self.holds(*task, *item, *execution, true)? {
                true => Err(format!("task {task} is paused twice")),
                false => Ok(()),
            },
            EventKind::TaskResumed {
                task,
                item,
                execution,
                ..
            } => match self.holds(*task, *item, *execution, false)? {
                true => Ok(()),
                false => Err(format!("task {task} is resumed, and was not paused")),
            },
            EventKind::Unpaused { .. } => {
                self.paused = false;
                Ok(())
            }
            EventKind::Stopping { .. } => {
                self.stopping = true;
                Ok(())
            }
            EventKind::Ended { state, .. } => self.end(*state),
            EventKind::ItemReopened { execution, .. } => self.item_reopened(*execution),
            EventKind::TasksReopened { tasks, .. } => {
                if let Some(task) = tasks
                    .iter()
                    .find(|task| !self.tasks.get(**task).is_some_and(|task| task.ended))
                {
                    return Err(format!("task {task} is done again before it is over"));
                }
                self.again(tasks)
            }
            EventKind::RunOpened { run, tasks, .. } => self.run_opened(*run, tasks),
        }
    }

    fn task(&mut self, task: usize) -> Result<&mut TaskSeen, String> {
        self.tasks
            .get_mut(task)
            .ok_or_else(|| format!("there is no task {task}"))
    }

    /// From here on somebody holds this, or nobody does. Gives whether somebody did before.
    fn holds(
        &mut self,
        task: usize,
        item: Option<usize>,
        execution: Option<ExecutionId>,
        held: bool,
    ) -> Result<bool, String> {
        if let Some(id) = execution {
            let execution = self.open(id)?;
            return Ok(std::mem::replace(&mut execution.held, held));
        }
        let seen = self.task(task)?;
        Ok(match (item, held) {
            (None, _) => std::mem::replace(&mut seen.held, held),
            (Some(item), true) => !seen.held_items.insert(item),
            (Some(item), false) => seen.held_items.remove(&item),
        })
    }

    fn not_held(&mut self, id: ExecutionId, what: &str) -> Result<(), String> {
        match self.open(id)?.held {
            true => Err(format!("execution {id} {what} although somebody holds it")),
            false => Ok(()),
        }
    }

    fn needs_are_over(&self, task: usize) -> Result<(), String> {
        let needs = self
            .definition
            .tasks
            .get(task)
            .map(|task| task.needs.as_slice())
            .unwrap_or_default();
        match needs
            .iter()
            .find(|need| !self.tasks.get(**need).is_some_and(|need| need.ended))
        {
            Some(need) => Err(format!(
                "task {task} starts before task {need}, which it needs, is over"
            )),
            None => Ok(()),
        }
    }

    fn starts_things(&self, what: &str) -> Result<(), String> {
        if self.later {
            return Err(format!("{what} before the workflow begins"));
        }
        if self.paused {
            return Err(format!("{what} in a pause"));
        }
        if self.stopping {
            return Err(format!("{what} although the workflow is being stopped"));
        }
        Ok(())
    }

    fn task_started(&mut self, task: usize, instance: u32, items: usize) -> Result<(), String> {
        self.needs_are_over(task)?;
        let seen = self.task(task)?;
        let is_answer = std::mem::take(&mut seen.asked);
        let held = seen.held;
        if held && !is_answer {
            return Err(format!("task {task} is started although somebody holds it"));
        }
        // An answer to what was asked before the pause is written down in it; nothing is made from it yet.
        if !(is_answer && self.paused) {
            self.starts_things("a task is started")?;
        }
        let seen = self.task(task)?;
        if seen.started || instance <= seen.instance {
            return Err(format!(
                "task {task} is started as instance {instance} after {}",
                seen.instance
            ));
        }
        *seen = TaskSeen {
            instance,
            started: true,
            items,
            held,
            ..TaskSeen::default()
        };
        Ok(())
    }

    fn execution_made(&mut self, id: ExecutionId, worker: &str, skipped: bool) -> Result<(), String> {
        self.starts_things("an execution is made")?;
        let task = self.task(id.task)?;
        if !task.started || task.ended || task.instance != id.instance || id.item >= task.items {
            return Err(format!("execution {id} is none of its task's present instance"));
        }
        if task.held {
            return Err(format!("execution {id} is made although somebody holds its task"));
        }
        let held = task.held_items.remove(&id.item) && !skipped;
        self.window(id)?;
        let seen = ExecutionSeen {
            worker: worker.to_owned(),
            ended: skipped,
            held,
            ..ExecutionSeen::default()
        };
        match self.executions.insert(id, seen) {
            Some(_) => Err(format!("execution {id} is made twice")),
            None => Ok(()),
        }
    }

    /// `maxParallel`, `waves` and `maxFailures`.
    fn window(&self, id: ExecutionId) -> Result<(), String> {
        let for_each = self
            .definition
            .tasks
            .get(id.task)
            .and_then(|task| task.for_each.as_ref());
        let (Some(for_each), Some(task)) = (for_each, self.tasks.get(id.task)) else {
            return Ok(());
        };
        let made = self.made(id.task, id.instance);
        let open = made.clone().filter(|(_, execution)| !execution.ended).count();
        if for_each.max_parallel > 0 && open >= for_each.max_parallel as usize {
            return Err(format!(
                "execution {id} is made beside {open} others: maxParallel is {}",
                for_each.max_parallel
            ));
        }
        if let Some(wave) = for_each.waves.get(task.wave)
            && id.item >= count(*wave, task.items)
        {
            return Err(format!("execution {id} is made in wave {} already", task.wave));
        }
        if let Some(most) = for_each.max_failures
            && task.failed > count(most, task.items)
        {
            return Err(format!("execution {id} is made after {} failures", task.failed));
        }
        Ok(())
    }

    fn made(
        &self,
        task: usize,
        instance: u32,
    ) -> impl Iterator<Item = (&ExecutionId, &ExecutionSeen)> + Clone {
        let bound = move |item| ExecutionId { task, instance, item };
        self.executions.range(bound(0)..=bound(usize::MAX))
    }

    /// An execution that is not over.
    fn open(&mut self, id: ExecutionId) -> Result<&mut ExecutionSeen, String> {
        let execution = self.executions.get_mut(&id);
        execution
            .filter(|execution| !execution.ended)
            .ok_or_else(|| format!("execution {id} is over, or was never made"))
    }

    fn decided(&mut self, id: ExecutionId, approved: bool) -> Result<(), String> {
        let execution = self.open(id)?;
        if let Some(action) = execution.asks.take() {
            if approved {
                execution.released.insert(action);
            }
            return Ok(());
        }
        if execution.approved {
            return Err(format!("execution {id} is decided twice"));
        }
        execution.approved = approved;
        Ok(())
    }

    fn delayed(&mut self, id: ExecutionId, action: Option<usize>) -> Result<(), String> {
        // When the whole task is tried again nobody waits for a machine that is on its way.
        let state = action.map_or(StepState::Failed, |_| StepState::Idle);
        self.has_left(id, state)?;
        let execution = self.open(id)?;
        if let Some(attempt) = &execution.under_way {
            return Err(format!("execution {id} is delayed while {attempt} is under way"));
        }
        if action.is_none() {
            execution.done.clear();
        }
        Ok(())
    }

    fn execution_ended(&mut self, id: ExecutionId, state: StepState) -> Result<(), String> {
        let actions = self
            .definition
            .tasks
            .get(id.task)
            .map_or(0, |task| task.actions.len());
        self.has_left(id, state)?;
        let carried = self.succeeded.contains(&(id.task, id.item));
        let execution = self.open(id)?;
        if let Some(attempt) = &execution.under_way {
            return Err(format!("execution {id} ends while {attempt} is under way"));
        }
        if state == StepState::Success && execution.done.len() != actions && !carried {
            return Err(format!(
                "execution {id} succeeds with {} of {actions} actions done",
                execution.done.len()
            ));
        }
        if !state.is_final() {
            return Err(format!("execution {id} ends as {state}"));
        }
        execution.ended = true;
        if state == StepState::Success {
            self.succeeded.insert((id.task, id.item));
            self.set_skipped(id.task, Some(id.item), false);
        }
        if matches!(state, StepState::Failed | StepState::Timeout) {
            self.task(id.task)?.failed += 1;
        }
        Ok(())
    }

    /// Of a task, or of one item of it, in whichever instance.
    fn set_skipped(&mut self, task: usize, item: Option<usize>, skipped: bool) {
        let those = self.executions.iter_mut();
        let those = those.filter(|(id, _)| id.task == task && item.is_none_or(|item| item == id.item));
        those.for_each(|(_, execution)| execution.skipped = skipped);
    }

    fn item_reopened(&mut self, id: ExecutionId) -> Result<(), String> {
        self.starts_things("an item is done again")?;
        let task = self.task(id.task)?;
        if task.ended || task.instance != id.instance || task.failed == 0 {
            return Err(format!(
                "execution {id} is done again, and its task is over or has no failure"
            ));
        }
        task.failed -= 1;
        let execution = self.executions.get_mut(&id).filter(|execution| execution.ended);
        let execution = execution.ok_or_else(|| format!("execution {id} is done again before it is over"))?;
        execution.ended = false;
        // Its end ended a pause of it, too.
        execution.held = false;
        execution.done.clear();
        execution.released.clear();
        execution.asks = None;
        Ok(())
    }

    fn wave_opened(&mut self, task: usize, wave: usize) -> Result<(), String> {
        let seen = self.task(task)?;
        if wave != seen.wave + 1 {
            return Err(format!(
                "wave {wave} of task {task} is opened after wave {}",
                seen.wave
            ));
        }
        seen.wave = wave;
        let instance = seen.instance;
        match self.made(task, instance).find(|(_, execution)| !execution.ended) {
            Some((id, _)) => Err(format!(
                "wave {wave} of task {task} is opened before {id} is over"
            )),
            None => Ok(()),
        }
    }

    fn task_ended(&mut self, task: usize, instance: u32) -> Result<(), String> {
        let seen = self.task(task)?;
        if seen.ended {
            return Err(format!("task {task} ends twice"));
        }
        seen.ended = true;
        seen.held = false;
        seen.held_items.clear();
        match self.made(task, instance).find(|(_, execution)| !execution.ended) {
            Some((id, _)) => Err(format!("task {task} ends before its execution {id}")),
            None => Ok(()),
        }
    }

    fn again(&mut self, tasks: &[usize]) -> Result<(), String> {
        for task in tasks {
            let seen = self.task(*task)?;
            seen.asked = false;
            seen.started = false;
            seen.ended = false;
        }
        Ok(())
    }

    fn end(&mut self, state: WorkflowState) -> Result<(), String> {
        if !state.is_final() {
            return Err(format!("it ends as {state}"));
        }
        if let Some(attempt) = self.under_way().next() {
            return Err(format!("it ends while {attempt} is under way"));
        }
        if state == WorkflowState::Success
            && !self
                .definition
                .tasks
                .iter()
                .any(|task| task.control == Some(Control::Succeed))
            && let Some(task) = self.tasks.iter().position(|task| !task.ended)
        {
            return Err(format!("it succeeds before task {task} is over"));
        }
        self.ended = Some(state);
        for task in &mut self.tasks {
            task.held = false;
            task.held_items.clear();
        }
        Ok(())
    }

    fn run_opened(&mut self, run: u32, tasks: &[usize]) -> Result<(), String> {
        // It begins at once.
        self.later = false;
        if self.ended.is_none_or(|state| state == WorkflowState::Success) {
            return Err("a run is opened where none has failed".to_owned());
        }
        if run != self.run + 1 {
            return Err(format!("run {run} follows run {}", self.run));
        }
        self.run = run;
        self.ended = None;
        self.stopping = false;
        self.paused = false;
        self.again(tasks)
    }
}

/// Of the items of a list; a share is rounded up.
fn count(amount: Amount, items: usize) -> usize {
    match amount {
        Amount::Count(count) => count as usize,
        Amount::Percent(percent) => (items * percent as usize).div_ceil(100),
    }
}

/// Whether every action is to be released by somebody, whatever other rules there are.
fn is_step(policy: &[PolicyRule]) -> bool {
    policy.first().is_some_and(|rule| rule.to_string() == "step")
}
