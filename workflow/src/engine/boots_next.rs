//! What a machine boots next, as its workflows have it.

use super::state::{Workflow, WorkflowState};

/// What a machine boots next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootsNext {
    /// The in-memory agent.
    Agent,
    /// Its own disk.
    LocalDisk,
    /// It has no workflow: the machine's own netboot policy says.
    Policy,
}

/// What a machine boots next, and why. `workflows` are all those with a task on it, in order of creation.
///
/// A workflow that has not ended needs the agent. When all have ended the last one says: after a SUCCESS the disk is
/// good; after anything else the agent holds the machine and shows why, since the disk may be half written.
pub fn boots_next<'a>(workflows: impl IntoIterator<Item = &'a Workflow>) -> (BootsNext, String) {
    let mut last = None;
    for workflow in workflows {
        if !workflow.state.is_final() {
            return (
                BootsNext::Agent,
                format!("workflow {} is {}", workflow.id, workflow.state),
            );
        }
        last = Some(workflow);
    }
    let Some(last) = last else {
        return (BootsNext::Policy, "no workflow".into());
    };
    let next = if last.state == WorkflowState::Success {
        BootsNext::LocalDisk
    } else {
        BootsNext::Agent
    };
    (next, format!("the last workflow {} is {}", last.id, last.state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Definition;

    fn workflow(id: &str, state: WorkflowState) -> Workflow {
        let definition = Definition {
            version: "0.1".into(),
            name: "n".into(),
            id: String::new(),
            global_timeout_s: 0,
            tasks: vec![],
        };
        Workflow {
            state,
            ..Workflow::created(id, "n", "t", &definition, 1)
        }
    }

    #[test]
    fn follows_the_table() {
        use WorkflowState::*;
        let table: &[(&[WorkflowState], BootsNext, &str)] = &[
            (&[], BootsNext::Policy, "no workflow"),
            (&[Pending], BootsNext::Agent, "workflow w0 is PENDING"),
            (&[Running], BootsNext::Agent, "workflow w0 is RUNNING"),
            (&[Cancelling], BootsNext::Agent, "workflow w0 is CANCELLING"),
            (&[Ending], BootsNext::Agent, "workflow w0 is ENDING"),
            (
                &[Success],
                BootsNext::LocalDisk,
                "the last workflow w0 is SUCCESS",
            ),
            (&[Failed], BootsNext::Agent, "the last workflow w0 is FAILED"),
            (&[Timeout], BootsNext::Agent, "the last workflow w0 is TIMEOUT"),
            (
                &[Cancelled],
                BootsNext::Agent,
                "the last workflow w0 is CANCELLED",
            ),
            (
                &[Failed, Success],
                BootsNext::LocalDisk,
                "the last workflow w1 is SUCCESS",
            ),
            (
                &[Success, Failed],
                BootsNext::Agent,
                "the last workflow w1 is FAILED",
            ),
            (&[Pending, Success], BootsNext::Agent, "workflow w0 is PENDING"),
            (&[Success, Pending], BootsNext::Agent, "workflow w1 is PENDING"),
        ];
        for (states, next, why) in table {
            let workflows: Vec<Workflow> = states
                .iter()
                .enumerate()
                .map(|(at, state)| workflow(&format!("w{at}"), *state))
                .collect();
            assert_eq!(boots_next(&workflows), (*next, why.to_string()), "{states:?}");
        }
    }
}
