//! The machine as an aggregate of its own: who holds it, what runs on it, and the fence around that.
//!
//! Stored as one value, committed together with the workflow that a step is about. Pure: callers tell it what happened.
//!
//! - It runs one attempt at a time. The next goes out only to a new boot, or when the agent has said that the one before
//!   has stopped. An attempt that is given up as lost stays here as `current` until then: that is the fence.
//! - Roots hold it one after the other, in the order of their claims. Only the holder's executions are handed out.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Stamp;
use super::disks::Disks;
use super::ids::{AttemptId, ExecutionId};
use crate::Shared;

/// Who holds a machine, and what it runs.
///
/// What it is written as does not have its [`Queue`]: that is as long as there are workflows for the machine and changes
/// seldom, the rest changes with every report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Raised by every attach.
    pub epoch: u64,
    /// Of the boot that attached last; empty before the first.
    pub boot_id: String,
    /// This boot said that it reboots or powers off: it gets nothing more.
    pub leaving: bool,
    /// The last report of this boot that was applied.
    pub sequence: u64,
    /// What was handed to it and has not provably stopped.
    pub current: Option<Current>,
    /// What was written to its disks, and by whom.
    #[serde(default, skip_serializing_if = "Disks::is_empty")]
    pub disks: Disks,
    /// Above the stamps of all that has been decided about it.
    #[serde(default, skip_serializing_if = "is_none")]
    pub stamp: Stamp,
    /// Roots in order; the first holds it.
    #[serde(skip)]
    pub claims: Line<Claim>,
    /// Executions that are ready for it, in the order in which they became so.
    #[serde(skip)]
    pub wants: Line<Want>,
}

fn is_none(stamp: &Stamp) -> bool {
    *stamp == Stamp::default()
}

/// In their order. A clone shares them.
pub type Line<T> = Shared<VecDeque<Shared<T>>>;

/// Who waits for a machine, as it is written beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    pub claims: Line<Claim>,
    pub wants: Line<Want>,
}

/// An attempt on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    pub attempt: AttemptId,
    pub boot_id: String,
    /// The agent is to stop it, and why.
    pub stop: Option<String>,
    /// The workflow has given it up: only the fence is left.
    pub lost: bool,
    /// The agent said that the machine leaves with it.
    pub leaving: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub root: String,
    /// Something of the root has been handed out here: nobody is put before it any more.
    pub held: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    pub root: String,
    pub workflow: String,
    pub execution: ExecutionId,
}

/// What an attach means for the attempt that was on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Nothing was under way, or it still is.
    Unchanged,
    /// It left as it had said, and is back: the attempt is done.
    Returned(AttemptId),
    /// Another boot without having said that it leaves.
    OtherBoot(AttemptId),
    /// The workflow had given it up before; now the machine is free.
    FenceDown,
}

impl Machine {
    pub fn queue(&self) -> Queue {
        Queue {
            claims: self.claims.clone(),
            wants: self.wants.clone(),
        }
    }

    pub fn set_queue(&mut self, queue: Queue) {
        self.claims = queue.claims;
        self.wants = queue.wants;
    }

    /// Whether the root has it, or is in its queue.
    pub fn is_claimed_by(&self, root: &str) -> bool {
        self.claims.iter().any(|claim| claim.root == root)
    }

    /// Queues a root, in order of creation (root ids are time-ordered), behind one that holds the machine already.
    pub fn claim(&mut self, root: &str) {
        if self.is_claimed_by(root) {
            return;
        }
        let at = self
            .claims
            .iter()
            .position(|claim| !claim.held && claim.root.as_str() > root)
            .unwrap_or(self.claims.len());
        let claim = Claim {
            root: root.to_owned(),
            held: false,
        };
        self.claims.insert(at, claim.into());
    }

    /// The root needs it no more. What of it still runs here keeps the fence, not the claim.
    pub fn release(&mut self, root: &str) {
        if self.is_claimed_by(root) {
            self.claims.retain(|claim| claim.root != root);
        }
        if self.wants.iter().any(|want| want.root == root) {
            self.wants.retain(|want| want.root != root);
        }
    }

    pub fn want(&mut self, root: &str, workflow: &str, execution: ExecutionId) {
        self.claim(root);
        if !self
            .wants
            .iter()
            .any(|want| want.workflow == workflow && want.execution == execution)
        {
            let (root, workflow) = (root.to_owned(), workflow.to_owned());
            let want = Want {
                root,
                workflow,
                execution,
            };
            self.wants.push_back(want.into());
        }
    }

    pub fn unwant(&mut self, workflow: &str, execution: ExecutionId) {
        let is_it = |want: &Want| want.workflow == workflow && want.execution == execution;
        if self.wants.iter().any(|want| is_it(want)) {
            self.wants.retain(|want| !is_it(want));
        }
    }

    /// The root that holds it.
    pub fn holder(&self) -> Option<&str> {
        self.claims.front().map(|claim| claim.root.as_str())
    }

    /// What to hand out next to an attached agent; None while something is under way, the machine is leaving, or its
    /// holder has nothing ready.
    pub fn next(&self) -> Option<&Want> {
        if self.current.is_some() || self.leaving || self.boot_id.is_empty() {
            return None;
        }
        let holder = self.holder()?;
        self.wants
            .iter()
            .map(|want| &**want)
            .find(|want| want.root == holder)
    }

    /// An attempt was handed out.
    pub fn dispatched(&mut self, root: &str, attempt: AttemptId) {
        self.unwant(&attempt.workflow, attempt.execution);
        let claim = self
            .claims
            .iter()
            .position(|claim| claim.root == root && !claim.held);
        if let Some(claim) = claim.and_then(|at| self.claims.get_mut(at)) {
            claim.held = true;
        }
        self.current = Some(Current {
            attempt,
            boot_id: self.boot_id.clone(),
            stop: None,
            lost: false,
            leaving: false,
        });
    }

    /// Asks for a stop. False: it is not under way here.
    pub fn stop(&mut self, attempt: &AttemptId, reason: &str) -> bool {
        match &mut self.current {
            Some(current) if current.attempt == *attempt => {
                current.stop.get_or_insert_with(|| reason.to_owned());
                true
            }
            _ => false,
        }
    }

    /// The agent of this boot said that the attempt is over.
    pub fn ended(&mut self, attempt: &AttemptId) {
        self.current.take_if(|current| current.attempt == *attempt);
    }

    /// The agent said that the machine leaves; `done`: with that the attempt is over.
    pub fn left(&mut self, attempt: &AttemptId, done: bool) {
        self.leaving = true;
        if done {
            self.ended(attempt);
        } else if let Some(current) = self
            .current
            .as_mut()
            .filter(|current| current.attempt == *attempt)
        {
            current.leaving = true;
        }
    }

    /// The workflow has given the attempt up; the fence stays.
    pub fn lost(&mut self, attempt: &AttemptId) {
        if let Some(current) = self
            .current
            .as_mut()
            .filter(|current| current.attempt == *attempt)
        {
            current.lost = true;
        }
    }

    /// An agent attached. Raises the epoch.
    pub fn attach(&mut self, boot_id: &str) -> Attached {
        self.epoch = self.epoch.saturating_add(1);
        if self.boot_id == boot_id {
            return Attached::Unchanged;
        }
        self.boot_id = boot_id.to_owned();
        self.leaving = false;
        self.sequence = 0;
        match self.current.take() {
            None => Attached::Unchanged,
            Some(current) if current.lost => Attached::FenceDown,
            Some(current) if current.leaving => Attached::Returned(current.attempt),
            Some(current) => Attached::OtherBoot(current.attempt),
        }
    }

    /// Who holds it, who waits, what it runs, in lines that a person reads.
    pub fn explain(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut claims = self.claims.iter().map(|claim| claim.root.as_str());
        match claims.next() {
            None => lines.push("no workflow needs it".into()),
            Some(holder) => {
                let behind: Vec<&str> = claims.collect();
                let then = if behind.is_empty() {
                    String::new()
                } else {
                    format!("; then, in this order: {}", behind.join(", "))
                };
                lines.push(format!("held by workflow {holder}{then}"));
            }
        }
        if let Some(current) = &self.current {
            let what = match current {
                Current { lost: true, .. } => {
                    "was given up and may still run there; nothing is handed out until the machine has another boot or says that it has stopped"
                }
                Current { leaving: true, .. } => "waits for the machine to come back",
                Current { stop: Some(_), .. } => "is being stopped",
                _ => "is under way",
            };
            lines.push(format!("attempt {} {what}", current.attempt));
        } else if self.boot_id.is_empty() {
            lines.push("it has never attached".into());
        } else if self.leaving {
            lines.push("it said that it leaves: nothing is handed out before it is back".into());
        }
        lines
    }
}
