//! What people mean by a task's name, or `NAME[item]`, and why nothing can be done with it.

use super::super::MAX_REASON_BYTES;
use super::super::command::Refusal;
use super::super::ids::ExecutionId;
use super::super::state::StepState;
use super::approvals::named;
use super::draft::Draft;

pub(super) enum Thing {
    Execution(ExecutionId),
    /// No execution was made for it, or it is over.
    Ahead {
        task: usize,
        item: Option<usize>,
    },
    /// A `forEach` that goes over so many items.
    Begun {
        task: usize,
        items: usize,
    },
}

impl Draft<'_> {
    /// `verb`: what somebody wants of it.
    pub(super) fn thing(&self, task: &str, item: Option<usize>, verb: &str) -> Result<Thing, Refusal> {
        let definition = &self.workflow.definition;
        let Some(index) = definition.task_named(task) else {
            let names = definition.tasks.iter().map(|task| task.name.as_str());
            return Err(Refusal::NoSuchTask {
                id: self.workflow.head.id.clone(),
                task: task.to_owned(),
                there_are: names.collect::<Vec<_>>().join(", "),
            });
        };
        let (Some(defined), Some(state)) = (definition.tasks.get(index), self.workflow.head.tasks.get(index))
        else {
            return Ok(Thing::Ahead { task: index, item });
        };
        let refused = |why: String| Err(self.not_of_task(task, None, why));
        let is_idle = state.state == StepState::Idle;
        if defined.for_each.is_none() && item.is_some() {
            return refused(format!("has no forEach, so that it has no items: say {task}"));
        }
        if defined.for_each.is_some() && !is_idle {
            let Some(item) = item else {
                let items = state.items;
                return Ok(match state.state.is_final() {
                    true => Thing::Ahead { task: index, item },
                    false => Thing::Begun { task: index, items },
                });
            };
            if item >= state.items {
                return refused(match state.items {
                    0 => "has no items".to_owned(),
                    items => format!(
                        "has {items} items, 0 to {}, and no item {item}",
                        items.saturating_sub(1)
                    ),
                });
            }
        }
        if is_idle && item.is_some() {
            return refused(format!(
                "has not begun, so that its items are not known: {verb} all of it ({task}), or wait until it has begun"
            ));
        }
        let id = ExecutionId {
            task: index,
            instance: state.instance,
            item: item.unwrap_or(0),
        };
        // One that is to run again has executions of an earlier instance.
        match self.workflow.execution(id).filter(|_| !is_idle) {
            Some(_) => Ok(Thing::Execution(id)),
            None => Ok(Thing::Ahead { task: index, item }),
        }
    }

    /// Of what is over: nothing of it is left for anybody to `verb`.
    pub(super) fn nothing_left(
        &self,
        task: &str,
        item: Option<usize>,
        state: StepState,
        verb: &str,
    ) -> Refusal {
        let cure = match state {
            StepState::Failed | StepState::Timeout | StepState::Cancelled => {
                "; when the workflow has ended, farrier workflow retry does it again"
            }
            _ => "",
        };
        let why = format!("is {state} already: nothing of it is left to {verb}{cure}");
        self.not_of_task(task, item, why)
    }

    pub(super) fn not_of_task(&self, task: &str, item: Option<usize>, why: String) -> Refusal {
        Refusal::NotOfTask {
            id: self.workflow.head.id.clone(),
            task: named(task, item),
            why,
        }
    }

    /// Nothing is wanted any more of a workflow that has ended, or is being ended.
    pub(super) fn refuse_over(&self) -> Result<(), Refusal> {
        self.refuse_ended()?;
        match self.is_stopping() {
            true => Err(self.wrong_state("it ends as soon as what is under way has stopped")),
            false => Ok(()),
        }
    }
}

pub(super) fn refuse_long(reason: &str) -> Result<(), Refusal> {
    let (bytes, most) = (reason.len(), MAX_REASON_BYTES);
    match bytes > most {
        true => Err(Refusal::LongReason { bytes, most }),
        false => Ok(()),
    }
}
