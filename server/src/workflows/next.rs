//! What a machine boots next: by its workflows, then by its own policy.
//!
//! Read from the index that the coordinator's commits keep: a workflow's end on a machine and what the machine boots next
//! can never be seen apart.

use macaddr::MacAddr6;
use workflow::engine::{self, BootsNext, Head, Seen, WorkflowState};

use super::last::Last;
use crate::control::ControlPlane;
use crate::database::View;
use crate::error::Error;
use crate::machines::{self, Interface, Machine, Policy, Script, mac_text};

/// What a machine boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The in-memory agent.
    Agent,
    /// Its own disk.
    LocalDisk,
    /// An address, and no boot file.
    Nothing,
    /// The operator's own iPXE script.
    Script(Script),
}

/// All that netboot needs to know of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Netboot {
    /// The whole record.
    pub machine: Machine,
    /// The interface that was asked about.
    pub interface: Interface,
    /// What it boots now.
    pub next: Next,
    /// Why, in words.
    pub reason: String,
}

impl Next {
    /// As it is on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            Next::Agent => "agent",
            Next::LocalDisk => "local-disk",
            Next::Nothing => "ignore",
            Next::Script(_) => "script",
        }
    }
}

impl ControlPlane {
    /// Who has this MAC, and what it boots; `None` for a stranger.
    pub async fn netboot(&self, mac: MacAddr6) -> Result<Option<Netboot>, Error> {
        self.inner.db.with(move |view| netboot(view, mac)).await
    }

    /// What the machine with this MAC boots next, and why.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a stranger.
    pub async fn boots_next(&self, mac: MacAddr6) -> Result<(Next, String), Error> {
        let netboot = self.netboot(mac).await?;
        let netboot =
            netboot.ok_or_else(|| Error::NotFound(format!("no machine has MAC {}", mac_text(mac))))?;
        Ok((netboot.next, netboot.reason))
    }
}

pub(crate) fn netboot(view: &View, mac: MacAddr6) -> Result<Option<Netboot>, Error> {
    let Some(machine) = machines::with_mac(view, mac)? else {
        return Ok(None);
    };
    let Some(interface) = machine.interface(mac).cloned() else {
        return Ok(None);
    };
    let (next, reason) = decide(view, &machine, &interface)?;
    Ok(Some(Netboot {
        machine,
        interface,
        next,
        reason,
    }))
}

/// The first workflow, in order of creation, that has not ended.
pub(crate) fn open(view: &View, workers: &[String]) -> Result<Option<String>, Error> {
    let mut first: Option<String> = None;
    for worker in workers {
        let found = view.first(&format!("open/{worker}/"))?;
        first = first.into_iter().chain(found).min();
    }
    Ok(first)
}

/// The workflow that ended last.
pub(crate) fn last(view: &View, workers: &[String]) -> Result<Option<Last>, Error> {
    let mut last: Option<Last> = None;
    for worker in workers {
        let found = view
            .get::<Last>(&format!("last/{worker}"))?
            .map(|found| found.value);
        last = last
            .into_iter()
            .chain(found)
            .max_by(|one, other| one.id.cmp(&other.id));
    }
    Ok(last)
}

fn decide(view: &View, machine: &Machine, interface: &Interface) -> Result<(Next, String), Error> {
    if !interface.may_netboot {
        return Ok((
            Next::LocalDisk,
            "its record says that it never netboots (netboot: never, or allowPXE: false)".into(),
        ));
    }
    let agent = || interface.script.clone().map_or(Next::Agent, Next::Script);
    let workers = machine.index_names();
    let open = match open(view, &workers)? {
        Some(id) => {
            let state = view.get::<Head>(&format!("workflow/{id}"))?;
            Some((
                id,
                state.map_or(WorkflowState::Pending, |state| state.value.state),
            ))
        }
        None => None,
    };
    let last = last(view, &workers)?;
    let (next, reason) = engine::boots_next(
        open.as_ref().map(|(id, state)| Seen { id, state: *state }),
        last.as_ref().map(|last| Seen {
            id: &last.id,
            state: last.state,
        }),
    );
    match next {
        BootsNext::Agent => return Ok((agent(), reason)),
        BootsNext::LocalDisk => return Ok((Next::LocalDisk, reason)),
        BootsNext::Policy => {}
    }
    Ok(match (machine.policy, &interface.script) {
        (_, Some(script)) => (
            Next::Script(script.clone()),
            "no workflow, and its record has an iPXE script".into(),
        ),
        (Policy::Agent, None) => (Next::Agent, "no workflow, and its netboot policy is agent".into()),
        (Policy::Ignore, None) => (
            Next::Nothing,
            "no workflow, and its netboot policy is ignore".into(),
        ),
        (Policy::Local, None) => (
            Next::LocalDisk,
            "no workflow, and its netboot policy is local".into(),
        ),
    })
}
