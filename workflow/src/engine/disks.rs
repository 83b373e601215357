//! What workflows have done to the disks of a machine, as far as what it boots next depends on it.
//!
//! A disk that an action has begun to write, and of which it is not known that it is whole, is *held*: the machine boots
//! the agent and not from it. The hold belongs to the root whose action wrote. It is lifted by the end of that root with
//! SUCCESS, by that of another which wrote the whole disk, or by a person; not by workflows that wrote nothing.

use serde::{Deserialize, Serialize};

use super::ids::AttemptId;
use super::state::{Execution, Workflow, WorkflowState};
use crate::language::Writes;

/// See the module. Kept with the machine, as the reports of one attempt after the other say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disks {
    /// The root that ended last of those that wrote to a disk and succeeded, or [`BY_HAND`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_by: Option<String>,
    /// What the attempt that is on the machine may be writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writing: Option<Writing>,
    /// One for each root and disk, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    marks: Vec<Mark>,
}

/// In place of a root: a person says that the machine is to boot its disk.
pub const BY_HAND: &str = "-";

/// Disks of which something is remembered. Beyond that the oldest two become one of which no name is known.
const MAX_MARKS: usize = 16;

/// What an action may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// As the template names it; empty: it is not said.
    pub disk: String,
    /// All of it, not only files on it.
    pub whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Writing {
    root: String,
    attempt: AttemptId,
    /// A person has skipped it: what it leaves half written nobody else answers for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    skipped: bool,
    #[serde(flatten)]
    to: DiskUse,
}

/// What a root wrote to a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    root: String,
    disk: String,
    /// Its last attempt to write there did not end well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    broken: bool,
    /// A person has skipped what came to that: the end of the root does not make it good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    skipped: bool,
    /// How the root ended, other than with SUCCESS: the disk is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<WorkflowState>,
}

/// Why a machine is not to boot from its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold<'a> {
    /// The root that wrote.
    pub root: &'a str,
    /// How that ended.
    pub state: WorkflowState,
    /// As the template names it; empty: it is not said.
    pub disk: &'a str,
}

impl DiskUse {
    /// What an attempt of this workflow may write; `None`: nothing.
    pub fn of(workflow: &Workflow, attempt: &AttemptId) -> Option<Self> {
        Self::of_action(workflow, workflow.execution(attempt.execution)?, attempt.action)
    }

    /// The same of an action of an execution.
    pub(super) fn of_action(workflow: &Workflow, execution: &Execution, index: usize) -> Option<Self> {
        let task = workflow.definition.tasks.get(execution.id.task)?;
        let filled = execution.filled.as_ref();
        let action = filled.and_then(|filled| filled.actions.get(index));
        let action = action.or_else(|| task.actions.get(index))?;
        let of_task = filled.map_or(&task.environment, |filled| &filled.environment);
        let of_input = action.set_by_input();
        let variable = |name: &str| {
            let of_environment = || action.environment.get(name).or_else(|| of_task.get(name));
            of_input.get(name).or_else(of_environment).cloned()
        };
        let native = action.native();
        let (disk, whole) = match native.map(|native| native.writes) {
            Some(Writes::Nothing) => return None,
            Some(Writes::Anything { switch }) => {
                match variable(switch).is_some_and(|value| is_switched_on(&value)) {
                    true => (String::new(), false),
                    false => return None,
                }
            }
            Some(Writes::Files { disk }) => (variable(disk)?, false),
            Some(Writes::WholeDisk { disk }) => (variable(disk)?, true),
            // What an image of somebody else's does, nobody knows.
            None => (variable("DEST_DISK").unwrap_or_default(), false),
        };
        let disk = match native.is_some_and(|native| native.lists_disks()) {
            true => listed(&disk).join(", "),
            false => disk,
        };
        Some(Self { disk, whole })
    }
}

/// What an array of JSON has, as an action reads it; what is none, as it stands.
pub fn listed(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| vec![text.to_owned()])
}

/// As the agent reads switches: Go's `strconv.ParseBool`, anything else is off.
pub fn is_switched_on(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

impl Disks {
    /// Nothing was ever written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// An attempt was handed out that may write.
    pub fn begin(&mut self, root: &str, attempt: &AttemptId, to: DiskUse) {
        self.settle(false);
        self.writing = Some(Writing {
            root: root.to_owned(),
            attempt: attempt.clone(),
            skipped: false,
            to,
        });
    }

    /// The attempt has ended. `untouched`: the agent says that it changed no disk.
    pub fn end(&mut self, attempt: &AttemptId, well: bool, untouched: bool) {
        if self
            .writing
            .as_ref()
            .is_some_and(|writing| writing.attempt == *attempt)
        {
            if untouched {
                self.writing = None;
            } else {
                self.settle(well);
            }
        }
    }

    /// A person has skipped what this root has begun here.
    pub fn skipped(&mut self, root: &str) {
        let writing = self.writing.iter_mut();
        writing
            .filter(|writing| writing.root == root)
            .for_each(|writing| writing.skipped = true);
        let marks = self.marks.iter_mut();
        marks
            .filter(|mark| mark.root == root && mark.broken)
            .for_each(|mark| mark.skipped = true);
    }

    /// The root needs the machine no more. `ended`: how it ended; of one that goes on elsewhere, its part on this machine.
    pub fn release(&mut self, root: &str, ended: WorkflowState, is_over: bool) {
        if self.writing.as_ref().is_some_and(|writing| writing.root == root) {
            self.settle(false);
        }
        let own = |mark: &Mark| mark.root == root;
        if !self.marks.iter().any(own) {
            return;
        }
        // Who made a workflow that is over decided what of it may fail. Of one that is not, and whose sub-workflows are not
        // seen from here, what they wrote says it. What a person skipped meanwhile nobody had decided before.
        let is_skipped = self.marks.iter().any(|mark| own(mark) && mark.skipped);
        let is_broken = is_skipped || !is_over && self.marks.iter().any(|mark| own(mark) && mark.broken);
        if ended == WorkflowState::Success && !is_broken {
            self.marks.retain(|mark| !own(mark));
            self.written_by = Some(root.to_owned());
            return;
        }
        let state = match ended {
            WorkflowState::Success if !(is_skipped && is_over) => WorkflowState::Failed,
            other => other,
        };
        let marks = self.marks.iter_mut().filter(|mark| mark.root == root);
        marks.for_each(|mark| mark.held = Some(state));
    }

    /// A person says that the disk is good.
    pub fn boot_by_hand(&mut self) {
        *self = Self {
            written_by: Some(BY_HAND.to_owned()),
            ..Self::default()
        };
    }

    /// The newest of the reasons why the machine is not to boot from its disk.
    pub fn hold(&self) -> Option<Hold<'_>> {
        let mark = self.marks.last()?;
        Some(Hold {
            root: &mark.root,
            state: mark.held.unwrap_or(WorkflowState::Running),
            disk: &mark.disk,
        })
    }

    /// What may have been written becomes what was, well or not.
    fn settle(&mut self, well: bool) {
        let Some(Writing {
            root, to, skipped, ..
        }) = self.writing.take()
        else {
            return;
        };
        let DiskUse { disk, whole } = to;
        if whole {
            // What others left there is gone.
            self.marks.retain(|mark| !is_on(&mark.disk, &disk));
        } else {
            self.marks.retain(|mark| mark.root != root || mark.disk != disk);
        }
        self.marks.push(Mark {
            root,
            disk,
            broken: !well,
            skipped: skipped && !well,
            held: None,
        });
        if self.marks.len() > MAX_MARKS {
            self.marks.remove(0);
            if let Some(oldest) = self.marks.first_mut() {
                oldest.disk.clear();
            }
        }
    }
}

/// Whether `place` names `disk` or a partition of it: `/dev/sda` and `/dev/sda3`, `/dev/nvme0n1` and `/dev/nvme0n1p3`,
/// `…/by-id/x` and `…/by-id/x-part3`.
///
/// Source: `disk_name` in the Linux kernel's block/partitions/core.c; 60-persistent-storage.rules of udev.
fn is_on(place: &str, disk: &str) -> bool {
    let Some(rest) = place.strip_prefix(disk).filter(|_| !disk.is_empty()) else {
        return false;
    };
    let number = if disk.ends_with(|last: char| last.is_ascii_digit()) {
        rest.strip_prefix("-part").or_else(|| rest.strip_prefix('p'))
    } else {
        Some(rest.strip_prefix("-part").unwrap_or(rest))
    };
    rest.is_empty()
        || number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use WorkflowState::*;

    use super::*;

    #[test]
    fn a_list_of_disks_is_several() {
        assert_eq!(
            listed(r#"["/dev/sda1", "/dev/sdb1"]"#),
            ["/dev/sda1", "/dev/sdb1"]
        );
        for one in ["/dev/sda1", "[x", "${{ tasks.a.outputs.path }}"] {
            assert_eq!(listed(one), [one]);
        }
    }

    fn attempt(root: &str, number: u32) -> AttemptId {
        format!("{root}/0/1/0/0/{number}").parse().expect("an id")
    }

    fn to(disk: &str, whole: bool) -> DiskUse {
        DiskUse {
            disk: disk.to_owned(),
            whole,
        }
    }

    /// Writes in `root`'s name, one after the other.
    fn write(disks: &mut Disks, root: &str, all: &[(&str, bool, bool)]) {
        for (number, (disk, whole, well)) in (1..).zip(all) {
            let attempt = attempt(root, number);
            disks.begin(root, &attempt, to(disk, *whole));
            disks.end(&attempt, *well, false);
        }
    }

    fn held_by(disks: &Disks) -> Option<(&str, WorkflowState)> {
        disks.hold().map(|hold| (hold.root, hold.state))
    }

    fn failed() -> Disks {
        let mut disks = Disks::default();
        write(&mut disks, "w1", &[("/dev/sda", true, false)]);
        disks.release("w1", Failed, true);
        assert_eq!(held_by(&disks), Some(("w1", Failed)));
        disks
    }

    #[test]
    fn a_success_that_wrote_nothing_lifts_no_hold() {
        let mut disks = failed();
        disks.release("w2", Success, true);
        assert_eq!(held_by(&disks), Some(("w1", Failed)));
        assert_eq!(disks.written_by, None);
    }

    #[test]
    fn a_success_that_wrote_files_lifts_no_other_hold() {
        let mut disks = failed();
        write(&mut disks, "w2", &[("/dev/sda3", false, true)]);
        disks.release("w2", Success, true);
        assert_eq!(held_by(&disks), Some(("w1", Failed)));
    }

    #[test]
    fn a_success_that_wrote_the_whole_disk_lifts_the_hold_on_it_and_on_its_partitions() {
        let mut disks = failed();
        write(&mut disks, "w2", &[("/dev/sda3", false, false)]);
        disks.release("w2", Timeout, true);
        write(
            &mut disks,
            "w3",
            &[("/dev/sda", true, true), ("/dev/sda1", false, true)],
        );
        assert_eq!(held_by(&disks), Some(("w3", Running)));
        disks.release("w3", Success, true);
        assert_eq!(disks.hold(), None);
        assert_eq!(disks.written_by.as_deref(), Some("w3"));
    }

    #[test]
    fn another_disk_is_another_matter() {
        let mut disks = failed();
        for other in ["/dev/sdb", "/dev/sd", "/dev/sdaa", ""] {
            write(&mut disks, "w2", &[(other, true, true)]);
            disks.release("w2", Success, true);
            assert_eq!(held_by(&disks), Some(("w1", Failed)), "{other:?}");
        }
    }

    #[test]
    fn the_next_run_of_what_failed_lifts_its_own_hold() {
        let mut disks = Disks::default();
        write(
            &mut disks,
            "w1",
            &[("/dev/sda", true, true), ("/dev/sda1", false, false)],
        );
        disks.release("w1", Failed, true);
        assert_eq!(held_by(&disks), Some(("w1", Failed)));
        write(&mut disks, "w1", &[("/dev/sda1", false, true)]);
        disks.release("w1", Success, true);
        assert_eq!(disks.hold(), None);
    }

    #[test]
    fn what_a_person_skipped_half_way_is_held_whatever_the_end_of_its_root() {
        // While it writes, and after a try that broke off; what was written well is not meant.
        let mut writing = Disks::default();
        writing.begin("w1", &attempt("w1", 1), to("/dev/sda", true));
        writing.skipped("w1");
        writing.end(&attempt("w1", 1), false, false);
        let mut broken = Disks::default();
        write(&mut broken, "w1", &[("/dev/sda", true, false)]);
        broken.skipped("w1");
        for mut disks in [writing, broken] {
            disks.release("w1", Success, true);
            assert_eq!(held_by(&disks), Some(("w1", Success)));
            write(&mut disks, "w2", &[("/dev/sda", true, true)]);
            disks.release("w2", Success, true);
            assert_eq!(disks.hold(), None);
        }
        let mut done = Disks::default();
        write(&mut done, "w1", &[("/dev/sda", true, true)]);
        done.skipped("w1");
        done.skipped("w2");
        done.release("w1", Success, true);
        assert_eq!(done.hold(), None);
        // One that was to be stopped, and was done before.
        let mut late = Disks::default();
        late.begin("w1", &attempt("w1", 1), to("/dev/sda", true));
        late.skipped("w1");
        late.end(&attempt("w1", 1), true, false);
        late.release("w1", Success, true);
        assert_eq!(late.hold(), None);
    }

    #[test]
    fn what_the_agent_left_untouched_changes_nothing() {
        let mut disks = Disks::default();
        write(&mut disks, "w1", &[("/dev/sda", true, true)]);
        disks.release("w1", Success, true);
        let good = disks.clone();
        disks.begin("w2", &attempt("w2", 1), to("/dev/sda", true));
        disks.end(&attempt("w2", 1), false, true);
        disks.release("w2", Failed, true);
        assert_eq!(disks, good);
    }

    #[test]
    fn what_was_handed_out_and_never_heard_of_may_have_been_written() {
        let mut disks = Disks::default();
        disks.begin("w1", &attempt("w1", 1), to("/dev/sda", true));
        // An end of another attempt says nothing of this one.
        disks.end(&attempt("w1", 2), true, false);
        disks.release("w1", Cancelled, true);
        assert_eq!(held_by(&disks), Some(("w1", Cancelled)));
    }

    /// The task that failed was made good by another.
    #[test]
    fn a_workflow_that_is_over_says_how_its_disks_are() {
        let mut disks = Disks::default();
        write(
            &mut disks,
            "w1",
            &[("/dev/sda", true, true), ("/dev/sda1", false, false)],
        );
        let mut goes_on = disks.clone();
        disks.release("w1", Success, true);
        assert_eq!(disks.hold(), None);
        goes_on.release("w1", Success, false);
        assert_eq!(held_by(&goes_on), Some(("w1", Failed)));
    }

    #[test]
    fn a_person_lifts_every_hold() {
        let mut disks = failed();
        write(&mut disks, "w2", &[("", false, false)]);
        disks.release("w2", Failed, true);
        disks.boot_by_hand();
        assert_eq!(disks.hold(), None);
        assert_eq!(disks.written_by.as_deref(), Some(BY_HAND));
    }

    #[test]
    fn many_holds_take_little_room_and_none_is_lost() {
        let mut disks = failed();
        for number in 0..100 {
            let root = format!("x{number}");
            write(&mut disks, &root, &[(&format!("/dev/sdb{number}"), false, false)]);
            disks.release(&root, Failed, true);
        }
        assert_eq!(disks.marks.len(), MAX_MARKS);
        write(
            &mut disks,
            "w2",
            &[("/dev/sda", true, true), ("/dev/sdb", true, true)],
        );
        disks.release("w2", Success, true);
        assert!(disks.hold().is_some(), "the one without a name");
    }

    #[test]
    fn partitions_are_told_from_other_disks() {
        for (place, disk, is) in [
            ("/dev/sda", "/dev/sda", true),
            ("/dev/sda12", "/dev/sda", true),
            ("/dev/sdaa", "/dev/sda", false),
            ("/dev/nvme0n1p2", "/dev/nvme0n1", true),
            ("/dev/nvme0n12", "/dev/nvme0n1", false),
            ("/dev/disk/by-id/x-part3", "/dev/disk/by-id/x", true),
            ("/dev/disk/by-id/x1-part3", "/dev/disk/by-id/x1", true),
            ("/dev/disk/by-id/x13", "/dev/disk/by-id/x1", false),
            ("/dev/sda", "/dev/sda1", false),
            ("/dev/sda", "", false),
        ] {
            assert_eq!(is_on(place, disk), is, "{place} {disk}");
        }
    }
}
