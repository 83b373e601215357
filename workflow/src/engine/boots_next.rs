//! What a machine boots next, as its workflows have it.

use super::disks::{BY_HAND, Disks, Hold};
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

/// What a machine boots next, and why. `open` is the first of its workflows that need it, in order of creation, and its
/// state.
///
/// A workflow that needs the machine needs the agent. When there is none, the disks say: the agent holds the machine while
/// one may be half written, and otherwise it boots its disk when a workflow has written it. Workflows that wrote nothing
/// change nothing.
pub fn boots_next(open: Option<(&str, WorkflowState)>, disks: &Disks) -> (BootsNext, String) {
    if let Some((id, state)) = open {
        return (BootsNext::Agent, format!("workflow {id} is {state}"));
    }
    if let Some(Hold { root, state, disk }) = disks.hold() {
        let disk = match disk {
            "" => "a disk",
            disk => disk,
        };
        return (
            BootsNext::Agent,
            format!("workflow {root} is {state} and may have left {disk} half written"),
        );
    }
    match disks.written_by.as_deref() {
        None => (BootsNext::Policy, "no workflow has written to its disk".into()),
        Some(BY_HAND) => (BootsNext::LocalDisk, "somebody said that its disk is good".into()),
        Some(root) => (
            BootsNext::LocalDisk,
            format!("workflow {root} has written its disk"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{AttemptId, DiskUse};

    #[test]
    fn follows_the_table() {
        use WorkflowState::*;
        let attempt: AttemptId = "w1/0/1/0/0/1".parse().expect("an id");
        let written = |well, ended| {
            let mut disks = Disks::default();
            let to = DiskUse {
                disk: "/dev/sda".into(),
                whole: true,
            };
            disks.begin("w1", &attempt, to);
            disks.end(&attempt, well, false);
            disks.release("w1", ended, true);
            disks
        };
        let mut by_hand = written(false, Failed);
        by_hand.boot_by_hand();
        let half = |state| format!("workflow w1 is {state} and may have left /dev/sda half written");
        let table = [
            (
                None,
                Disks::default(),
                BootsNext::Policy,
                "no workflow has written to its disk".to_owned(),
            ),
            (
                Some(Pending),
                Disks::default(),
                BootsNext::Agent,
                "workflow w2 is PENDING".into(),
            ),
            (
                Some(Running),
                written(true, Success),
                BootsNext::Agent,
                "workflow w2 is RUNNING".into(),
            ),
            (
                Some(Cancelling),
                by_hand.clone(),
                BootsNext::Agent,
                "workflow w2 is CANCELLING".into(),
            ),
            (
                None,
                written(true, Success),
                BootsNext::LocalDisk,
                "workflow w1 has written its disk".into(),
            ),
            (None, written(false, Failed), BootsNext::Agent, half(Failed)),
            (None, written(true, Timeout), BootsNext::Agent, half(Timeout)),
            (None, written(true, Cancelled), BootsNext::Agent, half(Cancelled)),
            (
                None,
                by_hand,
                BootsNext::LocalDisk,
                "somebody said that its disk is good".into(),
            ),
        ];
        for (open, disks, next, why) in table {
            let open = open.map(|state| ("w2", state));
            assert_eq!(boots_next(open, &disks), (next, why), "{open:?} {disks:?}");
        }
    }
}
