//! What people want to see of a machine now: asked of its agent in its session, and answered there.
//!
//! Nothing of it is stored. A look ends with the session, with its answer, or when nobody waits for it any more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator::namespaces::Reach;
use proto::v1::{Look, LookAtMachineRequest, LookAtMachineResponse, Seen, Sight};
use tokio::sync::{Notify, oneshot};
use tonic::Status;

use super::{Agent, agent_key};
use crate::bounds::cut;
use crate::clock;
use crate::control::ControlPlane;
use crate::grpc::status;

/// Looks at one machine that wait for its agent.
const MAX_WAITING: usize = 8;
/// An agent has nothing to wait for before it answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// As an agent sends at most.
const MAX_TEXT_BYTES: usize = 1 << 20;
const MAX_PROBLEM_BYTES: usize = 1000;

/// Of one session.
#[derive(Default)]
pub(crate) struct Looks {
    inner: Mutex<Waiting>,
    asked: Notify,
}

#[derive(Default)]
struct Waiting {
    last_id: u64,
    /// Not sent yet.
    unsent: VecDeque<Look>,
    askers: HashMap<u64, oneshot::Sender<Seen>>,
}

impl Looks {
    /// Asks for a look; `None` when too many wait already.
    fn ask(&self, sight: Sight) -> Option<oneshot::Receiver<Seen>> {
        let mut waiting = self.lock();
        // Whoever has gone away makes room.
        waiting.askers.retain(|_, asker| !asker.is_closed());
        if waiting.askers.len() >= MAX_WAITING {
            return None;
        }
        waiting.last_id += 1;
        let id = waiting.last_id;
        let (answer, answered) = oneshot::channel();
        waiting.askers.insert(id, answer);
        waiting.unsent.push_back(Look {
            id,
            sight: sight.into(),
        });
        drop(waiting);
        self.asked.notify_one();
        Some(answered)
    }

    /// Waits for the next to be sent. Cancel safe.
    pub(super) async fn next(&self) -> Look {
        loop {
            if let Some(look) = self.take() {
                return look;
            }
            self.asked.notified().await;
        }
    }

    /// One that somebody still waits for.
    fn take(&self) -> Option<Look> {
        let mut waiting = self.lock();
        while let Some(look) = waiting.unsent.pop_front() {
            if waiting
                .askers
                .get(&look.id)
                .is_some_and(|asker| !asker.is_closed())
            {
                return Some(look);
            }
        }
        None
    }

    /// What nobody has asked for, or waits for no more, is passed over.
    pub(super) fn answered(&self, seen: Seen) {
        let asker = self.lock().askers.remove(&seen.id);
        if let Some(asker) = asker {
            let _ = asker.send(seen);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ControlPlane {
    /// What the agent of a machine sees there now.
    ///
    /// # Errors
    /// NOT_FOUND; INVALID_ARGUMENT; FAILED_PRECONDITION: no agent is attached, or it cannot see that; RESOURCE_EXHAUSTED;
    /// DEADLINE_EXCEEDED: it does not answer.
    pub(crate) async fn look_at(
        &self,
        reach: &Reach,
        request: LookAtMachineRequest,
    ) -> Result<LookAtMachineResponse, Status> {
        let machine = self.machine(reach, &request.name_or_mac).await.map_err(status)?;
        let name = machine.name.clone();
        let sight = request.sight();
        if sight == Sight::Unspecified {
            return Err(Status::invalid_argument(
                "sight says nothing that this server knows: name SIGHT_KERNEL_LOG or SIGHT_SCREEN",
            ));
        }
        let Some(session) = self.inner.agents.session(&name) else {
            let macs = machine.interfaces.iter().map(|interface| interface.mac);
            return Err(self.no_agent(&name, macs.collect()).await);
        };
        let Some(answered) = session.looks.ask(sight) else {
            return Err(Status::resource_exhausted(format!(
                "{MAX_WAITING} looks at machine {name} wait for its agent already: try again in some seconds"
            )));
        };
        drop(session);
        match tokio::time::timeout(ANSWERS_WITHIN, answered).await {
            Ok(Ok(seen)) => told(name, seen),
            Ok(Err(_)) => Err(Status::failed_precondition(format!(
                "the agent of machine {name} went away before it answered: ask again when it is attached"
            ))),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "the agent of machine {name} is attached and did not answer within {} s: it is older than this server and does not know \
                 what to look at (netboot the machine again with the server's boot image), or it hangs (see `farrier machine get {name}`)",
                ANSWERS_WITHIN.as_secs()
            ))),
        }
    }

    /// That there is nobody to ask, and since when.
    async fn no_agent(&self, name: &str, macs: Vec<macaddr::MacAddr6>) -> Status {
        let agents = self.inner.db.with(move |view| {
            let agents = macs.iter().map(|mac| view.get::<Agent>(&agent_key(*mac)));
            agents.collect::<Result<Vec<_>, _>>()
        });
        let agents = match agents.await {
            Ok(agents) => agents,
            Err(error) => return status(error),
        };
        let seen = agents
            .into_iter()
            .flatten()
            .map(|agent| agent.value.last_seen)
            .max();
        let since = match seen {
            Some(seen) => format!("; the last was heard at {}", clock::timestamp(seen)),
            None => "; none ever was".to_owned(),
        };
        Status::failed_precondition(format!(
            "no agent of machine {name} is attached{since}. It can be looked at while it runs the agent: see what it boots with `farrier \
             machine get {name}`, and how it booted with `farrier machine boot-log {name}`"
        ))
    }
}

/// The agent's words, within bounds.
fn told(machine: String, seen: Seen) -> Result<LookAtMachineResponse, Status> {
    let Seen {
        mut text,
        mut is_cut,
        mut problem,
        ..
    } = seen;
    if !problem.is_empty() {
        cut(&mut problem, MAX_PROBLEM_BYTES, " [farrier: cut]");
        let problem = redaction::redacted(&problem);
        return Err(Status::failed_precondition(format!(
            "machine {machine}: {problem}"
        )));
    }
    is_cut |= text.len() > MAX_TEXT_BYTES;
    cut(&mut text, MAX_TEXT_BYTES, "");
    Ok(LookAtMachineResponse {
        machine,
        at: Some(clock::timestamp(clock::wall())),
        text: redaction::redacted(&text).into_owned(),
        is_cut,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn looks_have_a_bound_and_who_has_gone_makes_room() {
        let looks = Looks::default();
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| looks.ask(Sight::Screen)).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(looks.ask(Sight::Screen).is_none(), "one too many");
        waiting.remove(0);
        let last = looks.ask(Sight::KernelLog).expect("room again");
        // Of the one that has gone nobody is asked.
        assert_eq!(looks.next().await.id, 2);
        looks.answered(Seen {
            id: 9,
            text: "a line".into(),
            ..Seen::default()
        });
        assert_eq!(last.await.map(|seen| seen.text), Ok("a line".to_owned()));
        // Nobody asked for it.
        looks.answered(Seen {
            id: 99,
            ..Seen::default()
        });
    }

    #[test]
    fn what_an_agent_says_has_a_bound_and_no_credentials() {
        let seen = |text: &str, problem: &str| Seen {
            text: text.into(),
            problem: problem.into(),
            ..Seen::default()
        };
        let long = told("m".into(), seen(&"x".repeat(2 << 20), "")).expect("text");
        assert!(long.is_cut && long.text.len() == MAX_TEXT_BYTES);
        let short = told("m".into(), seen("http://u:p@h", "")).expect("text");
        assert_eq!((short.text.as_str(), short.is_cut), ("http://***@h", false));
        let failed = told("m".into(), seen("", "not root")).expect_err("a problem");
        assert_eq!(failed.message(), "machine m: not root");
    }
}
