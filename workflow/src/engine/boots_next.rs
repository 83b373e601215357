//! What a machine boots next, as its workflows have it.

use super::state::WorkflowState;

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

/// A workflow with a task on the machine, as far as what boots next depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    pub id: &'a str,
    pub state: WorkflowState,
}

/// What a machine boots next, and why. `open` is the first of its workflows that has not ended, in order of creation;
/// `last` the one that ended last.
///
/// A workflow that has not ended needs the agent. When all have ended the last one says: after a SUCCESS the disk is
/// good; after anything else the agent holds the machine and shows why, since the disk may be half written.
pub fn boots_next(open: Option<Seen<'_>>, last: Option<Seen<'_>>) -> (BootsNext, String) {
    if let Some(Seen { id, state }) = open {
        return (BootsNext::Agent, format!("workflow {id} is {state}"));
    }
    let Some(Seen { id, state }) = last else {
        return (BootsNext::Policy, "no workflow".into());
    };
    let next = if state == WorkflowState::Success {
        BootsNext::LocalDisk
    } else {
        BootsNext::Agent
    };
    (next, format!("the last workflow {id} is {state}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_table() {
        use WorkflowState::*;
        let table: &[(Option<WorkflowState>, Option<WorkflowState>, BootsNext, &str)] = &[
            (None, None, BootsNext::Policy, "no workflow"),
            (Some(Pending), None, BootsNext::Agent, "workflow w2 is PENDING"),
            (Some(Running), None, BootsNext::Agent, "workflow w2 is RUNNING"),
            (
                Some(Cancelling),
                None,
                BootsNext::Agent,
                "workflow w2 is CANCELLING",
            ),
            (Some(Ending), None, BootsNext::Agent, "workflow w2 is ENDING"),
            (
                None,
                Some(Success),
                BootsNext::LocalDisk,
                "the last workflow w1 is SUCCESS",
            ),
            (
                None,
                Some(Failed),
                BootsNext::Agent,
                "the last workflow w1 is FAILED",
            ),
            (
                None,
                Some(Timeout),
                BootsNext::Agent,
                "the last workflow w1 is TIMEOUT",
            ),
            (
                None,
                Some(Cancelled),
                BootsNext::Agent,
                "the last workflow w1 is CANCELLED",
            ),
            (
                Some(Pending),
                Some(Success),
                BootsNext::Agent,
                "workflow w2 is PENDING",
            ),
        ];
        for (open, last, next, why) in table {
            let seen = |id, state: &Option<WorkflowState>| state.map(|state| Seen { id, state });
            assert_eq!(
                boots_next(seen("w2", open), seen("w1", last)),
                (*next, why.to_string()),
                "{open:?} {last:?}"
            );
        }
    }
}
