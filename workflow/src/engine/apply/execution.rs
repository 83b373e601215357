//! Events of one task execution.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::event::{Event, EventKind, Loss, Outcome};
use super::super::ids::{AttemptId, ExecutionId};
use super::super::size::json_bytes;
use super::super::state::{
    ActionState, ApprovalDecision, Asks, ChildRequest, Cleanup, Execution, OwnPause, Said, StepState,
    StoppedClock, Waiting, Workflow, WorkflowState,
};
use super::super::uses::is_last_on_machine;
use super::super::{UnixMillis, state::Head};
use super::{is_set, mirror, open};

pub(super) fn take(workflow: &mut Workflow, event: &Event) -> Option<()> {
    use EventKind::*;
    let at = event.at;
    match &event.kind {
        ExecutionMade { execution, .. } => made(workflow, *execution, &event.kind, at)?,
        Decided {
            execution,
            approved,
            by,
            comment,
            waiting,
            due,
            child,
        } => {
            let decision = ApprovalDecision {
                approved: *approved,
                by: by.clone(),
                comment: comment.clone(),
                at,
            };
            let execution = open(workflow, *execution).filter(|execution| {
                let is_open = execution.asks.is_some() || execution.decision.is_none();
                execution.waiting == Some(Waiting::Approval) && is_open
            })?;
            match execution.asks.as_ref().map(|asks| asks.action) {
                None => execution.decision = Some(decision),
                Some(action) => execution.actions.get_mut(action)?.released = Some(decision),
            }
            execution.due = None;
            if waiting.is_some() {
                goes_on(
                    workflow,
                    event.kind.execution()?,
                    *waiting,
                    *due,
                    child.as_ref(),
                    at,
                );
            }
        }
        Resumed {
            execution,
            waiting,
            due,
            child,
        } => {
            open(workflow, *execution)
                .filter(|execution| execution.state == StepState::Delayed || execution.waiting.is_some())?;
            goes_on(workflow, *execution, Some(*waiting), *due, child.as_ref(), at);
        }
        SkipAsked {
            execution: Some(execution),
            by,
            reason,
            ..
        } => {
            let execution = open(workflow, *execution)?;
            execution.skip = Some(Said::new(by, reason));
            execution.pause = None;
        }
        TaskPaused {
            execution: Some(execution),
            by,
            reason,
            ..
        } => {
            let paused_ms = workflow.head.paused_ms_at(at);
            let execution = open(workflow, *execution).filter(|execution| execution.pause.is_none())?;
            let said = Said::new(by, reason);
            execution.pause = Some(OwnPause { said, since: at });
            stop_clock(execution, paused_ms, at);
        }
        TaskResumed {
            execution: Some(execution),
            ..
        } => {
            let paused_ms = workflow.head.paused_ms_at(at);
            let execution = open(workflow, *execution)?;
            execution.pause.take()?;
            start_clock(execution, paused_ms, at);
        }
        ActionAsked {
            execution,
            action,
            rule,
        } => {
            let paused_ms = workflow.head.paused_ms_at(at);
            let execution = open(workflow, *execution).filter(|execution| {
                let is_asked = execution.waiting == Some(Waiting::Approval) && execution.asks.is_some();
                is_asked || execution.waiting == Some(Waiting::Machine)
            })?;
            execution.actions.get(*action)?;
            execution.waiting = Some(Waiting::Approval);
            execution.asks = Some(Asks {
                action: *action,
                rule: rule.clone(),
                since: at,
            });
            stop_clock(execution, paused_ms, at);
        }
        Unanswered { execution, seen } => {
            let execution =
                open(workflow, *execution).filter(|execution| execution.waiting == Some(Waiting::Answer))?;
            execution.unanswered.clone_from(seen);
            execution.unanswered_times = execution.unanswered_times.saturating_add(1);
        }
        ItemReopened { execution, .. } => reopened(workflow, *execution, at)?,
        Dispatched { .. } => dispatched(workflow, &event.kind, at)?,
        Reported { attempt, outcome } => reported(workflow, attempt, outcome, at)?,
        StopAsked { attempt, then, .. } => {
            let (_, action) = under_way(workflow, attempt)?;
            action.stopping = Some(*then);
        }
        Lost { attempt, why } => lost(workflow, attempt, why, at)?,
        Returned { attempt, .. } => {
            let (_, action) = under_way(workflow, attempt).filter(|(_, action)| action.leaving)?;
            succeed(action, at);
            next_action(workflow, attempt.execution);
        }
        Delayed {
            execution,
            action,
            due,
        } => delayed(workflow, *execution, *action, *due, at)?,
        ChildAsked {
            execution,
            request,
            then,
        } => {
            let execution = open(workflow, *execution).filter(|execution| execution.child.is_some())?;
            execution.child_asked = Some(*request);
            if *request == ChildRequest::Cancel {
                execution.stopping = *then;
            }
        }
        ChildEnded {
            execution,
            run,
            workers,
        } => {
            let execution = open(workflow, *execution)
                .filter(|execution| execution.waiting == Some(Waiting::Children))?;
            execution.child_run = *run;
            execution.waiting = None;
            execution.child_workers.extend(workers.iter().cloned());
            execution.child_workers.sort();
            execution.child_workers.dedup();
        }
        ExecutionEnded { .. } => ended(workflow, &event.kind, at)?,
        _ => return None,
    }
    if let Some(id) = event.kind.execution() {
        mirror(workflow, id);
    }
    Some(())
}

fn made(workflow: &mut Workflow, id: ExecutionId, kind: &EventKind, at: UnixMillis) -> Option<()> {
    let EventKind::ExecutionMade {
        worker,
        filled,
        waiting,
        due,
        child,
        skipped: unwanted,
        ..
    } = kind
    else {
        return None;
    };
    let definition = workflow.definition.clone();
    let defined = definition.tasks.get(id.task)?;
    let task = workflow.head.tasks.get_mut(id.task)?;
    if task.instance != id.instance
        || task.state.is_final()
        || id.item != task.made
        || id.item >= task.items
        || workflow.executions.contains_key(&id)
    {
        return None;
    }
    let items = workflow.items.get(&(id.task, id.instance));
    let skip = task.skips.remove(&id.item).or_else(|| task.skip.clone());
    let held = task.pauses.remove(&id.item).filter(|_| waiting.is_some());
    task.made = task.made.saturating_add(1);
    let skipped = waiting.is_none();
    if skipped {
        task.ended = task.ended.saturating_add(1);
        task.skipped = task.skipped.saturating_add(1);
    }
    let paused_ms = workflow.head.paused_ms_at(at);
    let stopped_clock = held.as_ref().map(|_| StoppedClock { since: at, paused_ms });
    let pause = held.map(|said| OwnPause { said, since: at });
    let earlier = workflow.earlier(id);
    // What an earlier run did is no beginning of this one: its clocks wait for something that runs.
    let is_kept = earlier.is_some_and(|earlier| earlier.state == StepState::Success);
    let execution = Execution {
        id,
        item: items.and_then(|items| items.get(id.item).cloned()),
        worker: worker.clone(),
        state: if skipped {
            StepState::Skipped
        } else {
            StepState::Waiting
        },
        waiting: waiting.filter(|_| is_kept),
        actions: defined.actions.iter().map(|_| ActionState::idle()).collect(),
        filled: filled.clone(),
        due: None,
        tries: 1,
        child: None,
        // Its end in that run is not the one that is waited for; with an approval to come it is not named yet.
        child_run: workflow
            .earlier_with_child(id)
            .filter(|earlier| child.is_none() || earlier.child == *child)
            .and_then(|earlier| earlier.child_run),
        child_asked: None,
        stopping: None,
        child_workers: Vec::new(),
        wanted: 0,
        decision: None,
        unanswered: String::new(),
        unanswered_times: 0,
        skip: skip.filter(|_| unwanted.is_some()),
        pause,
        asks: None,
        stopped_clock,
        error: unwanted.clone(),
        outputs: Default::default(),
        created_at: at,
        started_at: is_kept.then_some(at),
        paused_before_ms: 0,
        own_paused_ms: 0,
        ended_at: skipped.then_some(at),
    };
    workflow.executions.insert(id, Arc::new(execution));
    if !is_kept {
        goes_on(workflow, id, *waiting, *due, child.as_ref(), at);
    }
    Some(())
}

/// An execution now waits for `waiting`.
fn goes_on(
    workflow: &mut Workflow,
    id: ExecutionId,
    waiting: Option<Waiting>,
    due: Option<UnixMillis>,
    child: Option<&String>,
    at: UnixMillis,
) {
    let (wanted, paused_ms) = (wanted(&workflow.head), paused_in_run(&workflow.head));
    let paused_ms_now = workflow.head.paused_ms_at(at);
    let earlier = workflow.earlier_with_child(id);
    let child_before = earlier.and_then(|earlier| earlier.child.clone());
    let Some(execution) = open(workflow, id) else {
        return;
    };
    if execution.asks.take().is_some() {
        start_clock(execution, paused_ms_now, at);
    }
    execution.waiting = waiting;
    execution.due = due;
    if execution.state == StepState::Delayed {
        execution.state = StepState::Waiting;
    }
    match waiting {
        Some(Waiting::Machine) => execution.wanted = wanted,
        Some(Waiting::Children | Waiting::Time | Waiting::Answer) => {
            if let Some(child) = child {
                // Which run has ended is known of the sub-workflow that was named before, here or in an earlier run.
                let before = execution.child.as_ref().or(child_before.as_ref());
                if before.is_some_and(|before| before != child) {
                    execution.child_run = None;
                }
                execution.child = Some(child.clone());
                execution.child_asked = None;
                execution.stopping = None;
            }
            if execution.started_at.is_none() {
                execution.started_at = Some(at);
                execution.paused_before_ms = paused_ms;
                execution.own_paused_ms = 0;
            }
            start(&mut workflow.head, at);
        }
        Some(Waiting::Approval | Waiting::Resume) | None => {}
    }
}

/// Its clock stands still from here on, where it does not already. `paused_ms`: pauses of the workflow up to now.
fn stop_clock(execution: &mut Execution, paused_ms: u64, at: UnixMillis) {
    let since = || StoppedClock { since: at, paused_ms };
    execution.stopped_clock.get_or_insert_with(since);
}

/// Its clock goes on, unless something else keeps it.
fn start_clock(execution: &mut Execution, paused_ms: u64, at: UnixMillis) {
    if execution.pause.is_some() || execution.asks.is_some() {
        return;
    }
    // That of one that has not begun does not run.
    if let Some(clock) = execution.stopped_clock.take()
        && execution.started_at.is_some()
    {
        let both_ms = paused_ms.saturating_sub(clock.paused_ms);
        let alone_ms = at.saturating_sub(clock.since).saturating_sub(both_ms);
        execution.own_paused_ms = execution.own_paused_ms.saturating_add(alone_ms);
    }
}

/// What `wanted` is of an execution that becomes ready now: during a pause the machine is not told.
fn wanted(head: &Head) -> u32 {
    match head.paused_at {
        Some(_) => head.pauses.saturating_sub(1),
        None => head.pauses,
    }
}

fn start(head: &mut Head, at: UnixMillis) {
    if head.state == WorkflowState::Pending {
        head.state = WorkflowState::Running;
    }
    if head.started_at.is_none() {
        head.paused_ms = paused_in_run(head);
        head.started_at = Some(at);
    }
}

/// Pauses since the clocks run; what was paused before took nothing from them.
fn paused_in_run(head: &Head) -> u64 {
    match head.started_at {
        Some(_) => head.paused_ms,
        None => 0,
    }
}

fn dispatched(workflow: &mut Workflow, kind: &EventKind, at: UnixMillis) -> Option<()> {
    let EventKind::Dispatched {
        attempt,
        worker,
        boot_id,
        data_version,
        ..
    } = kind
    else {
        return None;
    };
    let head = &workflow.head;
    if attempt.workflow != head.id || !matches!(head.state, WorkflowState::Pending | WorkflowState::Running) {
        return None;
    }
    let paused_ms = paused_in_run(head);
    let execution = open(workflow, attempt.execution)?;
    let number = execution.actions.get(attempt.action)?.attempts.checked_add(1)?;
    if execution.waiting != Some(Waiting::Machine)
        || execution.next_action() != Some(attempt.action)
        || attempt.attempt != number
        || execution.worker != *worker
    {
        return None;
    }
    execution.waiting = None;
    execution.due = None;
    if execution.started_at.is_none() {
        execution.started_at = Some(at);
        execution.paused_before_ms = paused_ms;
        execution.own_paused_ms = 0;
    }
    let action = execution.actions.get_mut(attempt.action)?;
    action.attempts = number;
    action.boot_id = Some(boot_id.clone());
    action.leaving = false;
    action.stopping = None;
    action.data_version = *data_version;
    if action.cleanup.is_some() {
        action.cleanup = Some(Cleanup::UnderWay);
    } else {
        action.tries = action.tries.saturating_add(1);
        action.state = StepState::Waiting;
        action.started_at = Some(at);
        action.ended_at = None;
        action.reason.clear();
        action.message.clear();
        action.exit_code = 0;
        action.outputs.clear();
    }
    start(&mut workflow.head, at);
    Some(())
}

/// The action of an attempt and its execution, where that attempt is the one under way.
fn under_way<'a>(
    workflow: &'a mut Workflow,
    attempt: &AttemptId,
) -> Option<(StepState, &'a mut ActionState)> {
    if attempt.workflow != workflow.head.id {
        return None;
    }
    let execution = open(workflow, attempt.execution)?;
    let state = execution.state;
    let action = execution.actions.get_mut(attempt.action)?;
    (action.is_under_way() && action.attempts == attempt.attempt).then_some((state, action))
}

fn reported(workflow: &mut Workflow, attempt: &AttemptId, outcome: &Outcome, at: UnixMillis) -> Option<()> {
    let id = attempt.execution;
    under_way(workflow, attempt)?;
    let leaving_is_enough =
        matches!(outcome, Outcome::Leaving { .. }) && is_last_on_machine(workflow, attempt);
    let cleanup = cleanup_of(workflow, attempt, outcome);
    let (_, action) = under_way(workflow, attempt)?;
    if action.cleanup == Some(Cleanup::UnderWay) {
        // The extra run changes nothing of how the action ended.
        if *outcome != Outcome::Started {
            action.cleanup = Some(Cleanup::Done);
            action.stopping = None;
        }
    } else {
        match outcome {
            Outcome::Started => {
                action.state = StepState::Running;
                action.started_at = Some(at);
            }
            Outcome::Leaving { how } => {
                action.state = StepState::Running;
                action.leaving = true;
                action.message = how.clone();
                if leaving_is_enough {
                    succeed(action, at);
                }
            }
            Outcome::Succeeded {
                message,
                bytes,
                outputs,
                ..
            } => {
                action.message = message.clone();
                action.bytes = *bytes;
                action.outputs = outputs.clone();
                succeed(action, at);
            }
            Outcome::Failed {
                reason,
                message,
                exit_code,
            } => {
                action.exit_code = *exit_code;
                fail(action, StepState::Failed, reason, message, at);
            }
            Outcome::TimedOut { message } => fail(action, StepState::Timeout, "Timeout", message, at),
            Outcome::Stopped { message } => fail(action, StepState::Cancelled, "Stopped", message, at),
        }
        action.cleanup = cleanup;
    }
    if let Outcome::Succeeded {
        outputs,
        data_version,
        ..
    } = outcome
    {
        if let Some(version) = data_version {
            workflow.head.data_version = workflow.head.data_version.max(*version);
        }
        let execution = open(workflow, id)?;
        for (name, value) in outputs {
            execution.outputs.insert(name.clone(), value.clone());
        }
        count(&mut workflow.head, outputs);
    }
    let execution = open(workflow, id)?;
    if matches!(outcome, Outcome::Started | Outcome::Leaving { .. }) {
        execution.state = StepState::Running;
    }
    next_action(workflow, id);
    Some(())
}

/// Notes how much there is in outputs.
fn count(head: &mut Head, outputs: &Map<String, Value>) {
    if !outputs.is_empty() {
        head.outputs_bytes = head.outputs_bytes.saturating_add(json_bytes(outputs));
    }
}

fn succeed(action: &mut ActionState, at: UnixMillis) {
    action.state = StepState::Success;
    action.leaving = false;
    action.stopping = None;
    action.ended_at = Some(at);
}

fn fail(action: &mut ActionState, state: StepState, reason: &str, message: &str, at: UnixMillis) {
    let asked = action.stopping.take();
    action.state = asked.unwrap_or(state);
    action.reason = match asked {
        Some(StepState::Timeout) => "Timeout".into(),
        Some(_) => "Stopped".into(),
        None => reason.to_owned(),
    };
    action.message = message.to_owned();
    action.leaving = false;
    action.ended_at = Some(at);
}

/// Ready for its machine again, where an action is left, or the extra run of a failed one.
fn next_action(workflow: &mut Workflow, id: ExecutionId) {
    let wanted = wanted(&workflow.head);
    let is_stopping = workflow.head.ending.is_some();
    let Some(execution) = open(workflow, id) else {
        return;
    };
    let has_begun = |action: &ActionState| action.state == StepState::Success;
    if execution.waiting.is_some() || execution.actions.iter().any(ActionState::is_under_way) {
        return;
    }
    if execution.actions.iter().any(has_begun) {
        execution.state = StepState::Running;
    }
    let is_ready = execution
        .next_action()
        .and_then(|action| execution.actions.get(action))
        .is_some_and(|action| action.state == StepState::Idle || action.cleanup == Some(Cleanup::Due));
    if is_ready && !is_stopping {
        execution.waiting = Some(Waiting::Machine);
        execution.wanted = wanted;
    }
}

/// Whether an outcome leads to an extra run: not once the attempt is being stopped.
fn cleanup_of(workflow: &Workflow, attempt: &AttemptId, outcome: &Outcome) -> Option<Cleanup> {
    let execution = workflow.execution(attempt.execution)?;
    let progress = execution.actions.get(attempt.action)?;
    let defined = workflow.definition.tasks.get(attempt.execution.task)?;
    let action = defined.actions.get(attempt.action)?;
    let command = match outcome {
        Outcome::Failed { .. } => &action.on_failure,
        Outcome::TimedOut { .. } => &action.on_timeout,
        _ => return None,
    };
    let is_stopping = workflow.head.ending.is_some() || progress.stopping.is_some();
    (!command.is_empty() && !is_stopping).then_some(Cleanup::Due)
}

fn lost(workflow: &mut Workflow, attempt: &AttemptId, why: &Loss, at: UnixMillis) -> Option<()> {
    let is_stopping = workflow.head.ending.is_some();
    let (_, action) = under_way(workflow, attempt)?;
    action.leaving = false;
    action.boot_id = None;
    if action.cleanup == Some(Cleanup::UnderWay) {
        action.cleanup = Some(Cleanup::Done);
        return Some(());
    }
    let asked = action.stopping.take();
    action.ended_at = Some(at);
    action.reason = "Lost".into();
    action.message = why.to_string();
    action.state = match asked {
        Some(state) => state,
        None if is_stopping => StepState::Cancelled,
        None => StepState::Failed,
    };
    Some(())
}

fn delayed(
    workflow: &mut Workflow,
    id: ExecutionId,
    action: Option<usize>,
    due: UnixMillis,
    at: UnixMillis,
) -> Option<()> {
    let wanted = wanted(&workflow.head);
    let execution = open(workflow, id)?;
    // A machine that leaves has stopped: its attempt does not count any more.
    let runs = |action: &ActionState| action.is_under_way() && !action.leaving;
    if execution.actions.iter().any(runs) || action.is_some_and(|action| action >= execution.actions.len()) {
        return None;
    }
    let reset = |state: &mut ActionState| {
        state.state = StepState::Idle;
        state.cleanup = None;
        state.leaving = false;
        state.stopping = None;
        state.boot_id = None;
        state.outputs.clear();
    };
    match action {
        Some(action) => reset(execution.actions.get_mut(action)?),
        None => {
            for state in &mut execution.actions {
                reset(state);
                state.tries = 0;
            }
            execution.tries = execution.tries.saturating_add(1);
            execution.started_at = None;
            execution.outputs.clear();
        }
    }
    if due <= at && !execution.actions.is_empty() {
        execution.state = if execution.actions.iter().any(|a| a.state == StepState::Success) {
            StepState::Running
        } else {
            StepState::Waiting
        };
        execution.waiting = Some(Waiting::Machine);
        execution.wanted = wanted;
        execution.due = None;
    } else {
        execution.state = StepState::Delayed;
        execution.waiting = None;
        execution.due = Some(due);
    }
    Some(())
}

/// A new try of an execution that has failed, in a task that goes on.
fn reopened(workflow: &mut Workflow, id: ExecutionId, at: UnixMillis) -> Option<()> {
    let task = workflow.head.tasks.get_mut(id.task)?;
    let is_open = task.instance == id.instance && task.state != StepState::Idle && !task.state.is_final();
    let execution = workflow.executions.get_mut(&id)?;
    if !is_open || !matches!(execution.state, StepState::Failed | StepState::Timeout) {
        return None;
    }
    task.ended = task.ended.saturating_sub(1);
    task.failed = task.failed.saturating_sub(1);
    let execution = Arc::make_mut(execution);
    for action in &mut execution.actions {
        *action = ActionState {
            attempts: action.attempts,
            ..ActionState::idle()
        };
    }
    execution.state = StepState::Delayed;
    execution.due = Some(at);
    execution.tries = execution.tries.saturating_add(1);
    execution.decision = execution.decision.take().filter(|said| said.approved);
    execution.unanswered.clear();
    execution.unanswered_times = 0;
    execution.error = None;
    execution.outputs.clear();
    execution.started_at = None;
    execution.ended_at = None;
    Some(())
}

fn ended(workflow: &mut Workflow, kind: &EventKind, at: UnixMillis) -> Option<()> {
    let EventKind::ExecutionEnded {
        execution: id,
        state,
        error,
        outputs,
    } = kind
    else {
        return None;
    };
    if !state.is_final() {
        return None;
    }
    let records = *state == StepState::Success && is_set(workflow, id.task);
    let execution = open(workflow, *id)?;
    execution.state = *state;
    execution.error = error.clone();
    execution.waiting = None;
    execution.due = None;
    execution.stopping = None;
    execution.pause = None;
    execution.asks = None;
    execution.stopped_clock = None;
    execution.ended_at = Some(at);
    for (name, value) in outputs {
        execution.outputs.insert(name.clone(), value.clone());
    }
    for action in &mut execution.actions {
        if matches!(action.state, StepState::Waiting | StepState::Running) {
            action.state = StepState::Cancelled;
            action.ended_at = Some(at);
        }
        action.leaving = false;
        action.stopping = None;
        action.cleanup = action.cleanup.map(|_| Cleanup::Done);
    }
    count(&mut workflow.head, outputs);
    let task = workflow.head.tasks.get_mut(id.task)?;
    task.ended = task.ended.saturating_add(1);
    match state {
        StepState::Skipped => task.skipped = task.skipped.saturating_add(1),
        StepState::Success => {}
        _ => task.failed = task.failed.saturating_add(1),
    }
    if records {
        for (name, value) in outputs {
            let value: Value = value.clone();
            workflow.head.vars.insert(name.clone(), value);
        }
    }
    Some(())
}
