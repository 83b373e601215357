//! The policy of a run: which actions wait for a person's yes, and which are refused.

use serde_json::Map;

use super::super::command::Refusal;
use super::super::disks::DiskUse;
use super::super::event::{EventKind, Failure};
use super::super::ids::ExecutionId;
use super::super::state::{Execution, StepState, Waiting};
use super::draft::{Draft, open_executions};
use crate::language::{PolicyRule, PolicyThen};

impl Draft<'_> {
    pub(super) fn set_policy(&mut self, policy: &[PolicyRule], by: &str) -> Result<(), Refusal> {
        self.refuse_over()?;
        if **self.workflow.head.policy != *policy {
            self.push(EventKind::PolicySet {
                policy: policy.to_vec(),
                by: by.to_owned(),
            });
        }
        Ok(())
    }

    /// The rule that keeps the next action of an execution from being handed out; None: nothing does.
    pub(super) fn held_by_policy(&self, execution: &Execution) -> Option<&PolicyRule> {
        let policy = &self.workflow.head.policy;
        if policy.is_empty() {
            return None;
        }
        let index = execution.next_action()?;
        let progress = execution.actions.get(index)?;
        // The extra run of an action that has failed cleans up after it.
        if progress.cleanup.is_some() {
            return None;
        }
        let task = self.workflow.definition.tasks.get(execution.id.task)?;
        let filled = execution.filled.as_ref();
        let action = filled.and_then(|filled| filled.actions.get(index));
        let action = action.or_else(|| task.actions.get(index))?;
        let writes_disk = DiskUse::of_action(&self.workflow, execution, index).is_some();
        let rule = policy.iter().find(|rule| rule.fits(action, writes_disk))?;
        let is_released = progress.released.as_ref().is_some_and(|said| said.approved);
        match rule.then {
            PolicyThen::Auto => None,
            PolicyThen::Ask if is_released => None,
            PolicyThen::Ask | PolicyThen::Deny => Some(rule),
        }
    }

    /// Asks for what is ready and is not to be done unasked, refuses what is not to be done, and lets go what nobody is to be
    /// asked for any more. True: something went on.
    pub(super) fn police(&mut self) -> bool {
        if self.workflow.head.policies == 0 || !self.is_going() {
            return false;
        }
        let judged: Vec<(ExecutionId, Option<PolicyRule>)> = open_executions(&self.workflow)
            .filter(|execution| execution.pause.is_none())
            .filter_map(|execution| {
                let rule = self.held_by_policy(execution);
                let is_other = match (execution.waiting, &execution.asks) {
                    (Some(Waiting::Machine), _) => rule.is_some(),
                    (Some(Waiting::Approval), Some(asks)) => rule != Some(&asks.rule),
                    _ => false,
                };
                is_other.then(|| (execution.id, rule.cloned()))
            })
            .collect();
        let mut went_on = false;
        for (id, rule) in judged {
            if !self.is_going() || !self.takes_a_step() {
                break;
            }
            went_on = true;
            self.judge(id, rule);
        }
        went_on
    }

    fn judge(&mut self, id: ExecutionId, rule: Option<PolicyRule>) {
        let Some(execution) = self.workflow.execution(id) else {
            return;
        };
        let Some(index) = execution.next_action() else {
            return;
        };
        let is_ready = |execution: &Execution| execution.waiting == Some(Waiting::Machine);
        let before = self.before.and_then(|before| before.execution(id));
        // Its machine may have been told.
        if is_ready(execution) && before.is_some_and(is_ready) {
            self.unwant(id);
        }
        match rule {
            None => {
                self.push(EventKind::Resumed {
                    execution: id,
                    waiting: Waiting::Machine,
                    due: None,
                    child: None,
                });
                self.want(id);
            }
            Some(rule) if rule.then == PolicyThen::Deny => {
                let name = self.action_name(id, index);
                let message =
                    format!("the policy of this workflow does not let action {name:?} be done: {rule}");
                let failure = Failure::new("Denied", message);
                self.end_execution(id, StepState::Failed, Some(failure), Map::new());
            }
            Some(rule) => self.push(EventKind::ActionAsked {
                execution: id,
                action: index,
                rule,
            }),
        }
    }

    /// Somebody decided on the action that an execution asks for.
    pub(super) fn released(
        &mut self,
        id: ExecutionId,
        index: usize,
        approved: bool,
        (by, comment): (&str, &str),
    ) {
        self.push(EventKind::Decided {
            execution: id,
            approved,
            by: by.to_owned(),
            comment: comment.to_owned(),
            waiting: approved.then_some(Waiting::Machine),
            due: None,
            child: None,
        });
        if approved {
            self.want(id);
        } else {
            let name = self.action_name(id, index);
            let colon = if comment.is_empty() { "" } else { ": " };
            let message = format!("{by} rejected action {name:?}{colon}{comment}");
            self.end_execution(
                id,
                StepState::Failed,
                Some(Failure::new("Rejected", message)),
                Map::new(),
            );
        }
    }

    fn action_name(&self, id: ExecutionId, index: usize) -> String {
        let task = self.workflow.definition.tasks.get(id.task);
        let action = task.and_then(|task| task.actions.get(index));
        action.map(|action| action.name.clone()).unwrap_or_default()
    }
}
