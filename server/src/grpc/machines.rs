//! Machines as people are shown them: the record, the agent, the work, and what is booted next.

use proto::v1;
use serde_json::Value;
use workflow::engine::{self, UnixMillis};

use super::convert::{self, Live};
use crate::agents::{Agent, agent_key};
use crate::control::ControlPlane;
use coordinator::database::View;
use coordinator::machines::{self, Inventory, Machine};
use coordinator::namespaces::Reach;
use coordinator::steps::load;
use coordinator::{Error, netboot};

impl ControlPlane {
    pub(super) async fn shown(&self, reach: Reach, name_or_mac: String) -> Result<v1::Machine, Error> {
        let around = self.inner.db.with(move |view| {
            let found = machines::find(view, &reach, &name_or_mac)?;
            Ok((found.modified, Around::of(view, found.value)?))
        });
        let (version, around) = around.await?;
        Ok(v1::Machine {
            version,
            ..self.live(around)
        })
    }

    pub(super) fn live(&self, around: Around) -> v1::Machine {
        let Around {
            machine,
            mut agent,
            work,
            boots_next,
            open,
            told,
            is_listed,
        } = around;
        let heard = self.inner.agents.heard(&machine.name);
        if let (Some(agent), Some(heard)) = (&mut agent, heard) {
            agent.last_seen = heard;
        }
        let silence = self.inner.silence.of(&machine.name);
        let live = Live {
            progress: self.inner.agents.progress_on(&machine.name),
            attached: heard.is_some(),
            agent,
            boots_next,
            running_workflow: work.holder().map(str::to_owned).or(open).unwrap_or_default(),
            silent: work.current.is_some() && silence >= self.inner.config.silent_after,
            work,
            told,
            is_listed,
        };
        convert::machine(machine, live)
    }
}

/// A machine with what the store has about it, as of one snapshot.
pub(super) struct Around {
    machine: Machine,
    /// That of its interfaces which was heard last.
    agent: Option<Agent>,
    work: engine::Machine,
    /// What it boots next, and why.
    boots_next: (String, String),
    /// The first workflow that needs it.
    open: Option<String>,
    /// What it told of itself, and when.
    told: Option<(v1::HardwareInventory, UnixMillis)>,
    /// One of many.
    is_listed: bool,
}

impl Around {
    pub(super) fn of(view: &View, machine: Machine) -> Result<Around, Error> {
        Around::with(view, machine, false)
    }

    /// With so much of what it told as there is room for in a list.
    pub(super) fn listed(view: &View, machine: Machine) -> Result<Around, Error> {
        Around::with(view, machine, true)
    }

    fn with(view: &View, machine: Machine, is_listed: bool) -> Result<Around, Error> {
        let told = Inventory::of(view, &machine)?.map(|told| {
            let at = told.at;
            let shown = match is_listed {
                true => told.short(),
                false => Value::Object(told.hardware),
            };
            // Fields of a later version are left out.
            (serde_json::from_value(shown).unwrap_or_default(), at)
        });
        let mut agent: Option<Agent> = None;
        for interface in &machine.interfaces {
            let known = view.get::<Agent>(&agent_key(interface.mac))?;
            let known = known.map(|known| known.value);
            agent = agent.into_iter().chain(known).max_by_key(|agent| agent.last_seen);
        }
        let work = load::machine(view, &machine.name)?;
        let open = netboot::open(view, &machine.index_names())?;
        let boots_next = match machine.interface(machine.mac()) {
            Some(interface) => {
                let of = netboot::of_machine(view, &machine, interface, &work.disks, open.as_deref())?;
                (of.0.as_str().to_owned(), of.1)
            }
            None => Default::default(),
        };
        Ok(Around {
            agent,
            work,
            boots_next,
            open,
            told,
            machine,
            is_listed,
        })
    }
}
