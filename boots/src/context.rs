//! What all services share: who knows the machines, who hears what happened, which boots and leases there are.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mac::mac_text;
use macaddr::MacAddr6;

use crate::inventory::{BootId, Inventory, InventoryError, Machine, NextBoot};
use crate::leases::Leases;
use crate::overlays::{self, Asked, Drivers};
use crate::scripts::{self, ScriptError, Server};
use crate::sessions::{Began, BootSessions};
use crate::timeline::{Entry, Outcome, Stage, Timeline};

/// Shared by every service.
pub(crate) struct Context {
    pub(crate) server: Server,
    boot_dir: PathBuf,
    pub(crate) inventory: Arc<dyn Inventory>,
    timeline: Arc<dyn Timeline>,
    leases: Mutex<Leases>,
    sessions: Mutex<BootSessions>,
}

/// A script that was made, and what there is to say about it.
pub(crate) struct MadeScript {
    pub(crate) text: String,
    pub(crate) why: String,
}

/// Why a machine's script was not handed out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScriptRefusal {
    #[error("no machine has the MAC {0}")]
    Stranger(String),
    #[error("asked for {name}'s script from {from}, whose address is {expected}")]
    WrongAddress {
        name: String,
        from: IpAddr,
        expected: Ipv4Addr,
    },
    #[error("{}", without_address(name))]
    NoAddress { name: String },
    #[error("{name} is to be left alone: {reason}")]
    NothingToBoot { name: String, reason: String },
    #[error("{0}")]
    BootImage(String),
    #[error("{name}'s script cannot be made: {source}")]
    BadValue { name: String, source: ScriptError },
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

impl Context {
    pub(crate) fn new(
        server: Server,
        boot_dir: PathBuf,
        inventory: Arc<dyn Inventory>,
        timeline: Arc<dyn Timeline>,
    ) -> Self {
        Self {
            server,
            boot_dir,
            inventory,
            timeline,
            leases: Mutex::default(),
            sessions: Mutex::default(),
        }
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, BootSessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns whose the reserved addresses are: a server that comes back knows its machines before they ask.
    pub(crate) async fn take_reservations(&self) -> Result<(), InventoryError> {
        for (mac, address) in self.inventory.reservations().await? {
            self.leases().reserve(mac, address);
        }
        Ok(())
    }

    /// Whose address this is: acknowledged since the start, or reserved at the start.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<MacAddr6> {
        match address.to_canonical() {
            IpAddr::V4(address) => self.leases().owner(address),
            IpAddr::V6(_) => None,
        }
    }

    /// Tells the timeline; the boot is the machine's current one.
    pub(crate) fn record(&self, stage: Stage, mac: Option<MacAddr6>, what: impl Into<String>, told: Told) {
        let at = SystemTime::now();
        let boot = mac.and_then(|mac| self.sessions().on_activity(at, mac));
        self.record_in(boot, stage, mac, what, told);
    }

    /// As [`Context::record`], for a boot that is known.
    pub(crate) fn record_in(
        &self,
        boot: Option<BootId>,
        stage: Stage,
        mac: Option<MacAddr6>,
        what: impl Into<String>,
        told: Told,
    ) {
        let Told {
            detail,
            bytes,
            outcome,
        } = told;
        let at = SystemTime::now();
        self.timeline.record(Entry {
            at,
            mac,
            boot,
            stage,
            what: what.into(),
            detail,
            bytes,
            outcome,
        });
    }

    /// The script of the machine with this MAC, for a request that came from `from`.
    ///
    /// A script holds the boot's token, so only the address acknowledged to that MAC may have it; in reservation mode
    /// that is the reserved address when no ACK was seen since the start. `asked` is what the machine says of its network card.
    pub(crate) async fn script(
        &self,
        mac: MacAddr6,
        from: IpAddr,
        stage: Stage,
        asked: Asked<'_>,
    ) -> Result<MadeScript, ScriptRefusal> {
        let machine = self
            .inventory
            .machine(mac)
            .await?
            .ok_or_else(|| ScriptRefusal::Stranger(mac_text(mac)))?;
        let name = machine.name.clone();
        let reserved = machine.lease.as_ref().map(|lease| lease.address);
        let Some(expected) = self.leases().expected(mac, reserved) else {
            return Err(ScriptRefusal::NoAddress { name });
        };
        let from = from.to_canonical();
        if from != IpAddr::V4(expected) {
            return Err(ScriptRefusal::WrongAddress { name, from, expected });
        }
        self.leases().seen(mac, expected);
        if let NextBoot::Nothing { reason } = &machine.next {
            return Err(ScriptRefusal::NothingToBoot {
                name,
                reason: reason.clone(),
            });
        }
        let (boot, began) = self.sessions().on_script(SystemTime::now(), mac);
        if began == Began::Here {
            let told = Told::note(
                "its boot was not seen to begin: the server was restarted, or its address is not from here",
            );
            self.record_in(Some(boot.clone()), stage, Some(mac), "boot", told);
        }
        let token = match machine.next {
            NextBoot::Agent { .. } => self.inventory.boot_token(mac, &boot).await?,
            _ => String::new(),
        };
        let drivers = match machine.next {
            NextBoot::Agent { .. } => self.drivers(asked, has_bond(&machine)).await?,
            _ => Drivers::InBase,
        };
        if let Some(note) = drivers.note() {
            self.record_in(Some(boot), stage, Some(mac), "drivers", Told::note(note));
        }
        let why = why(&machine.next) + &drivers.in_words();
        match scripts::for_machine(&self.server, &machine, &token, &drivers) {
            Ok(Some(text)) => Ok(MadeScript { text, why }),
            Ok(None) => Err(ScriptRefusal::NothingToBoot { name, reason: why }),
            Err(source) => Err(ScriptRefusal::BadValue { name, source }),
        }
    }
}

impl Context {
    async fn drivers(&self, asked: Asked<'_>, has_bond: bool) -> Result<Drivers, ScriptRefusal> {
        let boot_dir = self.boot_dir.clone();
        let said = match asked {
            Asked::Anew => None,
            Asked::With(said) => Some(said.to_owned()),
        };
        let found = tokio::task::spawn_blocking(move || {
            let asked = said.as_deref().map_or(Asked::Anew, Asked::With);
            let drivers = overlays::for_card(&boot_dir, asked)?;
            Ok(match has_bond {
                true => drivers.with(overlays::BONDING, &overlays::names(&boot_dir)),
                false => drivers,
            })
        });
        let found = found.await.unwrap_or_else(|panic| Err(panic.to_string()));
        found.map_err(ScriptRefusal::BootImage)
    }
}

/// Whether the agent is told to make a bond, whoever wrote the word.
fn has_bond(machine: &Machine) -> bool {
    let words = machine.kernel_params.iter();
    words
        .flat_map(|words| words.split(' '))
        .any(|word| word.starts_with("bond="))
}

/// What is said of a machine that is not to have an address from here.
pub(crate) fn without_address(name: &str) -> String {
    format!("machine {name:?} has no address for this interface: give it one with `farrier machine apply`")
}

/// What a machine boots, in words for the timeline.
pub(crate) fn why(next: &NextBoot) -> String {
    match next {
        NextBoot::Agent { reason } => format!("boots the agent: {reason}"),
        NextBoot::LocalDisk { reason } => format!("boots its own disk: {reason}"),
        NextBoot::Nothing { reason } => format!("is to be left alone: {reason}"),
        NextBoot::Script { .. } => "boots the operator's own script".to_owned(),
    }
}

/// What the timeline is told about how a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    detail: String,
    bytes: u64,
    outcome: Outcome,
}

impl Told {
    fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            bytes: 0,
            outcome,
        }
    }

    pub(crate) fn answered(detail: impl Into<String>) -> Self {
        Self::new(Outcome::Answered, detail)
    }

    pub(crate) fn failed(detail: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, detail)
    }

    pub(crate) fn ignored(detail: impl Into<String>) -> Self {
        Self::new(Outcome::Ignored, detail)
    }

    pub(crate) fn note(detail: impl Into<String>) -> Self {
        Self::new(Outcome::Note, detail)
    }

    pub(crate) fn refused(detail: impl Into<String>) -> Self {
        Self::new(Outcome::Refused, detail)
    }

    pub(crate) fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }
}
