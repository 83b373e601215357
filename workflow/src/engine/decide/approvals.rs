//! Saying yes or no.

use serde_json::Map;

use super::super::command::Refusal;
use super::super::event::{EventKind, Failure};
use super::super::ids::ExecutionId;
use super::super::state::{StepState, Waiting};
use super::draft::{Draft, open_executions};

impl Draft<'_> {
    pub(super) fn decided(
        &mut self,
        task: &str,
        item: Option<usize>,
        approved: bool,
        (by, groups, comment): (&str, &[String], &str),
    ) -> Result<(), Refusal> {
        self.refuse_ended()?;
        if self.is_stopping() {
            return Err(self.wrong_state("it ends as soon as what is under way has stopped"));
        }
        let definition = self.workflow.definition.clone();
        let index = definition.task_named(task);
        let Some((index, defined)) = index.and_then(|index| Some((index, definition.tasks.get(index)?)))
        else {
            return Err(self.nothing_to_approve(task, item));
        };
        let instance = self
            .workflow
            .head
            .tasks
            .get(index)
            .map_or(0, |state| state.instance);
        let id = ExecutionId {
            task: index,
            instance,
            item: item.unwrap_or(0),
        };
        let execution = self
            .workflow
            .execution(id)
            .filter(|_| item.is_some() == defined.for_each.is_some());
        let Some(execution) = execution else {
            return Err(self.nothing_to_approve(task, item));
        };
        if let Some(asks) = execution.asks.clone() {
            self.refuse_others(task, &asks.rule.by, groups, by)?;
            self.released(id, asks.action, approved, (by, comment));
            return Ok(());
        }
        let next = execution
            .next_action()
            .and_then(|index| execution.actions.get(index));
        let released = next.and_then(|action| action.released.as_ref());
        let said = released.or(execution.decision.as_ref());
        if said.is_some_and(|said| said.approved == approved && said.by == by) {
            return Ok(());
        }
        if let Some(said) = said {
            return Err(Refusal::Decided {
                task: named(task, item),
                how: if said.approved { "approved" } else { "rejected" },
                by: said.by.clone(),
            });
        }
        if execution.waiting != Some(Waiting::Approval) {
            return Err(self.nothing_to_approve(task, item));
        }
        let wanted = defined.approve.as_ref().map_or(&[][..], |approve| &approve.by);
        self.refuse_others(task, wanted, groups, by)?;
        let filled = execution.filled.clone();
        let is_held = self.is_paused() || execution.pause.is_some();
        let kind = |waiting, due, child| EventKind::Decided {
            execution: id,
            approved,
            by: by.to_owned(),
            comment: comment.to_owned(),
            waiting,
            due,
            child,
        };
        if !approved {
            self.push(kind(None, None, None));
            let colon = if comment.is_empty() { "" } else { ": " };
            let failure = Failure::new("Rejected", format!("{by} rejected it{colon}{comment}"));
            self.end_execution(id, StepState::Failed, Some(failure), Map::new());
        } else if is_held {
            self.push(kind(None, None, None));
        } else {
            match self.plan(id, defined, filled.as_deref()) {
                Ok(plan) => {
                    self.push(kind(Some(plan.waiting()), plan.due(), plan.child()));
                    self.carry_out(id, plan);
                }
                Err(failure) => {
                    self.push(kind(None, None, None));
                    self.end_execution(id, StepState::Failed, Some(failure), Map::new());
                }
            }
        }
        Ok(())
    }

    /// Refuses whoever is in none of the groups that decide; where there are none anybody does.
    fn refuse_others(
        &self,
        task: &str,
        wanted: &[String],
        groups: &[String],
        who: &str,
    ) -> Result<(), Refusal> {
        if wanted.is_empty() || wanted.iter().any(|group| groups.contains(group)) {
            return Ok(());
        }
        Err(Refusal::NotYours {
            task: task.to_owned(),
            by: wanted.join(", "),
            who: who.to_owned(),
        })
    }

    fn nothing_to_approve(&self, task: &str, item: Option<usize>) -> Refusal {
        let name = |id: ExecutionId| {
            let defined = self.workflow.definition.tasks.get(id.task)?;
            Some(match defined.for_each {
                Some(_) => format!("{}[{}]", defined.name, id.item),
                None => defined.name.clone(),
            })
        };
        let waiting: Vec<String> = open_executions(&self.workflow)
            .filter(|execution| execution.is_asked())
            .filter_map(|execution| name(execution.id))
            .take(10)
            .collect();
        Refusal::NothingToApprove {
            id: self.workflow.head.id.clone(),
            task: named(task, item),
            there_are: match &waiting[..] {
                [] => ": none of its tasks does".into(),
                waiting => format!(": these do: {}", waiting.join(", ")),
            },
        }
    }
}

pub(super) fn named(task: &str, item: Option<usize>) -> String {
    item.map_or(task.to_owned(), |item| format!("{task}[{item}]"))
}
