//! How a workflow ended on a machine: what the machine boots next goes by it.

use serde::{Deserialize, Serialize};
use workflow::engine::{Head, StepState, Workflow, WorkflowState};
use workflow::language::Boots;

/// The workflow that ended last on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    pub id: String,
    pub state: WorkflowState,
    pub message: String,
    /// Whether the workflow was over, or only its part on the worker. None: an older version wrote it.
    #[serde(default)]
    over: Option<bool>,
    /// What the machine boots, as the workflow's template says, when this is SUCCESS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boots: Option<Boots>,
}

impl Last {
    /// Of a workflow that has ended; or, of one that goes on elsewhere, its part on this worker.
    pub fn of(workflow: &Workflow, worker: &str) -> Self {
        let head = &workflow.head;
        if head.state.is_final() && head.parent.is_none() {
            let boots = workflow.definition.boots;
            return Self {
                boots,
                ..Self::of_head(head)
            };
        }
        let failed = workflow.executions.values().find(|execution| {
            use StepState::*;
            let instance = head.tasks.get(execution.id.task).map(|task| task.instance);
            execution.worker == worker
                && instance == Some(execution.id.instance)
                && matches!(execution.state, Failed | Timeout | Cancelled)
        });
        let (state, message) = match failed {
            None => (WorkflowState::Success, String::new()),
            Some(execution) => {
                let state = match execution.state {
                    StepState::Timeout => WorkflowState::Timeout,
                    StepState::Cancelled => WorkflowState::Cancelled,
                    _ => WorkflowState::Failed,
                };
                let message = execution.error.as_ref().map(|error| error.message.clone());
                (state, message.unwrap_or_default())
            }
        };
        Self {
            id: workflow.root().to_owned(),
            state,
            message,
            over: Some(false),
            boots: workflow.definition.boots,
        }
    }

    /// What the template of the workflow says that the machine boots, now that it has succeeded there.
    pub fn boots(&self) -> Option<Boots> {
        self.boots.filter(|_| self.state == WorkflowState::Success)
    }

    /// The same, and somebody has said since what the machine boots.
    pub fn without_boots(self) -> Self {
        Self { boots: None, ..self }
    }

    pub fn is_over(&self) -> bool {
        self.over == Some(true)
    }

    /// The version that wrote it kept no note of what was written to the machine's disks.
    pub fn is_of_older_version(&self) -> bool {
        self.over.is_none()
    }

    /// Of a root that has ended.
    pub fn of_head(head: &Head) -> Self {
        Self {
            id: head.id.clone(),
            state: head.state,
            message: head.message.clone(),
            over: Some(true),
            boots: None,
        }
    }
}
