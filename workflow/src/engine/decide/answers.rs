//! Tasks that wait until a system answers: whom somebody else is to ask, and what comes of it.

use super::super::MAX_UNANSWERED;
use super::super::command::Seen;
use super::super::event::EventKind;
use super::super::ids::ExecutionId;
use super::super::state::{Execution, Waiting, Workflow};
use super::draft::{Draft, open_executions};
use super::timers::has_clocks;
use crate::engine::Question;
use crate::language::{Answers, Control};

/// See [`questions`](super::super::questions).
pub(in super::super) fn questions_of(workflow: &Workflow) -> Vec<Question> {
    if !has_clocks(&workflow.head) {
        return Vec::new();
    }
    open_executions(workflow)
        .filter(|execution| is_asked_for(execution))
        .filter_map(|execution| question(workflow, execution))
        .collect()
}

/// See [`waits_for_answers`](super::super::waits_for_answers).
pub(in super::super) fn waits_for_answers(workflow: &Workflow) -> bool {
    !workflow.head.state.is_final()
        && workflow.definition.asks_systems()
        && open_executions(workflow).any(|execution| execution.waiting == Some(Waiting::Answer))
}

fn is_asked_for(execution: &Execution) -> bool {
    execution.waiting == Some(Waiting::Answer) && execution.pause.is_none()
}

fn question(workflow: &Workflow, execution: &Execution) -> Option<Question> {
    let answers = answers_of(workflow, execution)?;
    let filled = execution.filled.as_ref()?;
    Some(Question {
        execution: execution.id,
        by: answers.by,
        address: filled.address.clone(),
        port: answers.port,
        path: match filled.path.as_str() {
            "" => "/".to_owned(),
            path => path.to_owned(),
        },
        status: answers.status,
        seen: execution.unanswered.clone(),
        is_noted: execution.unanswered_times < MAX_UNANSWERED,
    })
}

fn answers_of<'w>(workflow: &'w Workflow, execution: &Execution) -> Option<&'w Answers> {
    match &workflow.definition.tasks.get(execution.id.task)?.control {
        Some(Control::Answers(answers)) => Some(answers),
        _ => None,
    }
}

/// Who is asked, and what came last: `SSH at 10.77.0.11:22: connection refused`.
pub(in super::super) fn told_of_answers(workflow: &Workflow, execution: &Execution) -> String {
    let (Some(answers), Some(filled)) = (answers_of(workflow, execution), &execution.filled) else {
        return String::new();
    };
    let address = match filled.address.contains(':') {
        true => format!("[{}]", filled.address),
        false => filled.address.clone(),
    };
    let seen = match execution.unanswered.as_str() {
        "" => "not asked yet",
        seen => seen,
    };
    format!("{} at {address}:{}: {seen}", answers.by.name(), answers.port)
}

impl Draft<'_> {
    /// Of one that is not waited for any more, nothing comes.
    pub(super) fn answered(&mut self, id: ExecutionId, seen: &Seen) {
        let is_going = has_clocks(&self.workflow.head) && !self.is_before_its_time();
        let Some(execution) = self.workflow.execution(id).filter(|_| is_going) else {
            return;
        };
        if !is_asked_for(execution) {
            return;
        }
        match seen {
            Seen::Answer(outputs) => self.succeed_with(id, outputs.clone()),
            Seen::Else(seen) => {
                let is_news = execution.unanswered != *seen && execution.unanswered_times < MAX_UNANSWERED;
                if is_news {
                    self.push(EventKind::Unanswered {
                        execution: id,
                        seen: seen.clone(),
                    });
                }
            }
        }
    }
}
