//! Sub-workflows.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::super::event::{EventKind, Failure};
use super::super::ids::ExecutionId;
use super::super::state::{StepState, Waiting, WorkflowState};
use super::draft::Draft;

impl Draft<'_> {
    /// The id of the sub-workflow that an execution has next, and whether it is the one of the run before.
    pub(super) fn child_of(&self, id: ExecutionId) -> (String, bool) {
        let earlier = self.workflow.earlier_with_child(id);
        let tries = self.workflow.execution(id).map_or(1, |execution| execution.tries);
        // One that could not be made has no run that ended.
        let earlier = earlier.filter(|earlier| tries == 1 && earlier.child_run.is_some());
        match earlier.and_then(|earlier| earlier.child.clone()) {
            Some(child) => (child, true),
            None => (child_id(&self.workflow.head.id, id, tries, self.now), false),
        }
    }

    pub(super) fn child_ended(
        &mut self,
        execution: ExecutionId,
        child: &str,
        run: Option<u32>,
        (state, message, outputs): (WorkflowState, &str, &Map<String, Value>),
        workers: &[String],
    ) {
        let instance = self
            .workflow
            .head
            .tasks
            .get(execution.task)
            .map_or(0, |task| task.instance);
        let id = ExecutionId {
            instance,
            ..execution
        };
        let Some(waiting) = self.workflow.execution(id).filter(|waiting| {
            self.is_latest(id)
                && waiting.waiting == Some(Waiting::Children)
                && waiting.child.as_deref() == Some(child)
                && (run.is_none() || waiting.child_run.is_none_or(|before| run > Some(before)))
        }) else {
            return;
        };
        let (asked, is_skipped) = (waiting.stopping, waiting.skip.is_some());
        self.push(EventKind::ChildEnded {
            execution: id,
            run,
            workers: workers.to_vec(),
        });
        if is_skipped && state != WorkflowState::Success {
            self.tell_of_skip(id.task, Some(id.item));
        }
        let failure = |reason: &str| {
            let colon = if message.is_empty() { "" } else { ": " };
            Failure::new(reason, format!("sub-workflow {child} is {state}{colon}{message}"))
        };
        match state {
            WorkflowState::Success => self.succeed_with(id, outputs.clone()),
            _ if asked.is_some() => self.stopped(id, asked.unwrap_or(StepState::Cancelled)),
            WorkflowState::Cancelled if self.workflow.head.ending.is_some() => {
                self.end_execution(id, StepState::Cancelled, None, Map::new());
            }
            state => {
                let (end, failure) = match state {
                    WorkflowState::Timeout => (StepState::Timeout, failure("Timeout")),
                    WorkflowState::Cancelled => (StepState::Failed, failure("Cancelled")),
                    _ => (StepState::Failed, failure("Workflow")),
                };
                let is_ending = self.workflow.head.ending.is_some();
                if is_ending || !self.try_task_again(id, end, &failure) {
                    self.end_execution(id, end, Some(failure), Map::new());
                }
            }
        }
    }
}

/// A UUIDv7 of the time that it is made at; the rest follows from whose it is, so that a decision that is made again
/// gives the same.
fn child_id(workflow: &str, execution: ExecutionId, tries: u32, now: u64) -> String {
    let mut id = [0; 16];
    let digest = Sha256::digest(format!("{workflow}/{execution}/{tries}"));
    id.copy_from_slice(&digest[..16]);
    id[..6].copy_from_slice(&now.to_be_bytes()[2..]);
    id[6] = id[6] & 0x0f | 0x70;
    id[8] = id[8] & 0x3f | 0x80;
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("{a}-{b}-{c}-{d}-{e}")
}
