//! What a machine boots next: by its workflows, then by its own policy.
//!
//! Read from the index that the coordinator's commits keep: a workflow's end on a machine and what the machine boots next
//! can never be seen apart.

use macaddr::MacAddr6;
use workflow::engine::{self, BootsNext, Disks, Head, WorkflowState};
use workflow::language::Boots;

use crate::database::View;
use crate::error::Error;
use crate::last::Last;
use crate::machines::{self, Interface, Machine, Policy, Script};
use crate::steps::rows;

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
    /// The first workflow that needs it.
    pub needed_by: Option<String>,
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

/// Who has this MAC, and what it boots; `None` for a stranger.
///
/// # Errors
/// When the store cannot be read.
pub fn of(view: &View, mac: MacAddr6) -> Result<Option<Netboot>, Error> {
    let Some(machine) = machines::with_mac(view, mac)? else {
        return Ok(None);
    };
    let Some(interface) = machine.interface(mac).cloned() else {
        return Ok(None);
    };
    let needed_by = open(view, &machine.index_names())?;
    let disks = disks(view, &machine)?;
    let (next, reason) = of_machine(view, &machine, &interface, &disks, needed_by.as_deref())?;
    Ok(Some(Netboot {
        machine,
        interface,
        next,
        reason,
        needed_by,
    }))
}

/// The first workflow, in order of creation, that has not ended.
pub fn open(view: &View, workers: &[String]) -> Result<Option<String>, Error> {
    let mut first: Option<String> = None;
    for worker in workers {
        let found = machines::first_open(view, worker)?;
        first = first.into_iter().chain(found).min();
    }
    Ok(first)
}

/// The workflow that ended last.
pub fn last(view: &View, workers: &[String]) -> Result<Option<Last>, Error> {
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

fn disks(view: &View, machine: &Machine) -> Result<Disks, Error> {
    let work = view.get::<engine::Machine>(&rows::machine_work(&machine.name))?;
    Ok(work.map(|work| work.value.disks).unwrap_or_default())
}

/// What `interface` of `machine` boots, and why, where its disks and the first workflow that needs it (see [`open`]) are known.
///
/// # Errors
/// When the store cannot be read.
pub fn of_machine(
    view: &View,
    machine: &Machine,
    interface: &Interface,
    disks: &Disks,
    needed_by: Option<&str>,
) -> Result<(Next, String), Error> {
    if !interface.may_netboot {
        return Ok((
            Next::LocalDisk,
            "its record says that it never netboots (netboot: never, or allowPXE: false)".into(),
        ));
    }
    let agent = || interface.script.clone().map_or(Next::Agent, Next::Script);
    let open = match needed_by {
        Some(id) => {
            let head = view.get::<Head>(&rows::head(id))?;
            let state = head.map_or(WorkflowState::Pending, |head| head.value.state);
            Some((id, state))
        }
        None => None,
    };
    let (next, mut reason) = match last(view, &machine.index_names())? {
        Some(last) if open.is_none() && disks.is_empty() && last.is_of_older_version() => {
            let next = match last.state {
                WorkflowState::Success => BootsNext::LocalDisk,
                _ => BootsNext::Agent,
            };
            (next, format!("the last workflow {} is {}", last.id, last.state))
        }
        // A disk that may be half written is not booted, whatever a template says.
        Some(last) if open.is_none() && disks.hold().is_none() && last.boots().is_some() => {
            let (next, what) = match last.boots() {
                Some(Boots::Agent) => (BootsNext::Agent, "the agent"),
                _ => (BootsNext::LocalDisk, "its disk"),
            };
            (
                next,
                format!(
                    "workflow {} has succeeded, and its template says that the machine boots {what}",
                    last.id
                ),
            )
        }
        _ => engine::boots_next(open, disks),
    };
    if open.is_none() && next == BootsNext::Agent {
        let name = &machine.name;
        reason = format!("{reason}; `farrier machine boot {name} disk` boots it all the same");
    }
    match next {
        BootsNext::Agent => return Ok((agent(), reason)),
        BootsNext::LocalDisk => return Ok((Next::LocalDisk, reason)),
        BootsNext::Policy => {}
    }
    Ok(match (machine.policy, &interface.script) {
        (_, Some(script)) => (
            Next::Script(script.clone()),
            "no workflow has written to its disk, and its record has an iPXE script".into(),
        ),
        (Policy::Agent, None) => (
            Next::Agent,
            "no workflow has written to its disk, and its netboot policy is agent".into(),
        ),
        (Policy::Ignore, None) => (
            Next::Nothing,
            "no workflow has written to its disk, and its netboot policy is ignore".into(),
        ),
        (Policy::Local, None) => (
            Next::LocalDisk,
            "no workflow has written to its disk, and its netboot policy is local".into(),
        ),
    })
}
