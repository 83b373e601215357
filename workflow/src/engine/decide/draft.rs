//! A workflow while a command is decided: every event is applied as it is pushed, and what it touched is noted.

use std::collections::BTreeSet;

use super::super::apply::happen;
use super::super::command::{Decision, Effect};
use super::super::event::{Event, EventKind};
use super::super::ids::ExecutionId;
use super::super::state::{StepState, Workflow};
use super::super::uses::is_item;
use super::super::{MAX_STEPS, Now, Stamp, UnixMillis};
use super::fill;
use crate::expression::Scope;

/// Rows of one step at most: an execution that is made, ends at once, and ends its task and the workflow with it.
const STEP_ROWS: usize = 8;

pub(super) struct Draft<'a> {
    /// None while it is created.
    pub(super) before: Option<&'a Workflow>,
    pub(super) workflow: Workflow,
    pub(super) now: UnixMillis,
    /// For stamps.
    clock: Now,
    /// For what names a time of day.
    pub(super) wall: UnixMillis,
    pub(super) effects: Vec<Effect>,
    /// Workers that something may have stopped using.
    pub(super) touched: BTreeSet<String>,
    /// Items that were left, or a loop, will not run: what only they could have used is not touched by itself.
    pub(super) closed: bool,
    /// Of the task whose executions are being made.
    pub(super) scope: Option<(usize, Scope)>,
    events: Vec<Event>,
    changed: BTreeSet<ExecutionId>,
    expanded: BTreeSet<(usize, u32)>,
    steps: usize,
    /// Of events, executions and lists.
    most_rows: usize,
    more: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        before: Option<&'a Workflow>,
        workflow: Workflow,
        now: Now,
        events: Vec<Event>,
        most_rows: usize,
    ) -> Draft<'a> {
        Draft {
            before,
            workflow,
            now: now.at,
            clock: now,
            wall: now.wall(),
            effects: Vec::new(),
            touched: BTreeSet::new(),
            closed: false,
            scope: None,
            events,
            changed: BTreeSet::new(),
            expanded: BTreeSet::new(),
            steps: 0,
            most_rows,
            more: false,
        }
    }

    /// Makes an event of it. What follows from the state alone can't fail to follow it.
    pub(super) fn push(&mut self, kind: EventKind) {
        let event = next_event(&self.workflow, kind, self.clock);
        let taken = happen(&mut self.workflow, &event);
        debug_assert!(taken, "{event:?} does not follow");
        if !taken {
            return;
        }
        if let Some(id) = event.kind.execution() {
            self.changed.insert(id);
        }
        match &event.kind {
            EventKind::TaskStarted {
                task,
                instance,
                items: Some(_),
                ..
            } => {
                self.expanded.insert((*task, *instance));
            }
            EventKind::ExecutionEnded { execution, .. } => self.touch(*execution),
            EventKind::ExecutionMade {
                execution,
                waiting: None,
                ..
            } => self.touch(*execution),
            EventKind::TaskEnded { task, .. } => {
                self.scope = None;
                let state = self.workflow.head.tasks.get(*task);
                self.closed |= state.is_some_and(|state| state.made < state.items);
                if let Some(task) = self.workflow.definition.tasks.get(*task) {
                    if !task.worker.contains("${{") {
                        self.touched.insert(task.worker.clone());
                    }
                    self.closed |= task.goto.is_some();
                }
            }
            _ => {}
        }
        self.events.push(event);
    }

    /// Its machines may be free now; one that never came to have a worker held the one that its item names.
    fn touch(&mut self, id: ExecutionId) {
        let Some(execution) = self.workflow.execution(id) else {
            return;
        };
        let task = self.workflow.definition.tasks.get(id.task);
        let item = execution.item.as_ref().filter(|_| task.is_some_and(is_item));
        let named = item.and_then(|item| item.as_str().or_else(|| item.get("mac")?.as_str()));
        self.touched.insert(execution.worker.clone());
        self.touched.extend(named.map(fill::worker));
        self.touched.extend(execution.child_workers.iter().cloned());
    }

    /// Whether one more execution can be made, stopped or ended in this decision. No: it asks to be continued.
    pub(super) fn takes_a_step(&mut self) -> bool {
        let fits = self.steps < MAX_STEPS && self.has_room();
        self.steps = self.steps.saturating_add(1);
        self.more |= !fits;
        fits
    }

    /// Whether the rows of one more thing fit in this decision. No: it asks to be continued. What would be nothing
    /// otherwise always fits, so that every decision gets on.
    pub(super) fn has_room(&mut self) -> bool {
        let fits = self.events.is_empty() || self.fits(STEP_ROWS);
        self.more |= !fits;
        fits
    }

    /// Whether there is room for so many more rows.
    pub(super) fn fits(&self, rows: usize) -> bool {
        let written = self.events.len() + self.changed.len() + self.expanded.len();
        written.saturating_add(rows) <= self.most_rows
    }

    pub(super) fn is_cut_short(&self) -> bool {
        self.more
    }

    pub(super) fn is_paused(&self) -> bool {
        self.workflow.head.paused_at.is_some()
    }

    /// Executions of tasks that have started and are not over, which are not over either.
    pub(super) fn open_executions(&self) -> Vec<ExecutionId> {
        open_executions(&self.workflow)
            .map(|execution| execution.id)
            .collect()
    }

    pub(super) fn finish(self) -> Decision {
        Decision {
            events: self.events,
            workflow: self.workflow,
            changed: self.changed,
            expanded: self.expanded,
            effects: self.effects,
            more: self.more,
        }
    }
}

pub(in super::super) fn open_executions(
    workflow: &Workflow,
) -> impl Iterator<Item = &super::super::state::Execution> {
    let tasks = workflow.head.tasks.iter().enumerate();
    tasks
        .filter(|(_, task)| task.state != StepState::Idle && !task.state.is_final() && task.ended < task.made)
        .flat_map(|(task, _)| workflow.executions_of(task))
        .filter(|execution| !execution.state.is_final())
}

/// The stamp never goes back, whatever the clock does.
fn next_event(workflow: &Workflow, kind: EventKind, now: Now) -> Event {
    let Stamp { at, tick } = now.stamp(Some(workflow.head.stamp()));
    Event {
        number: workflow.head.last_event.saturating_add(1),
        at,
        tick,
        kind,
    }
}
