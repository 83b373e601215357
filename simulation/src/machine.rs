//! A machine: its power, its boots, and the production agent's core in each of them.
//!
//! What the agent's shell does is done here and in [`crate::world`]: the journal is a list that lives as long as the boot
//! (a tmpfs), the action is an attempt that ends some time.

use std::time::{Duration, SystemTime};

use agent::worker::core::{Core, Event, Order};
use proto::v1;

use crate::network::StreamId;

pub(crate) struct Machine {
    pub(crate) name: String,
    /// What tasks call it.
    pub(crate) mac: String,
    pub(crate) power: Power,
    pub(crate) boot: Option<Boot>,
    boots: u32,
    /// No server can be reached before this.
    pub(crate) cut_off_until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    Off,
    Starting,
    On,
}

/// From power-on (or reboot) to the next.
pub(crate) struct Boot {
    pub(crate) id: String,
    pub(crate) core: Core,
    journal: Vec<v1::Report>,
    pub(crate) running: Option<Running>,
    pub(crate) stream: Option<StreamId>,
    /// Tries to open a stream, and actions begun: what was scheduled for an earlier one is void.
    pub(crate) connections: u64,
    pub(crate) runs: u64,
}

/// An action under way.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) attempt: String,
    pub(crate) run: u64,
    pub(crate) stopping: bool,
    pub(crate) reboots: bool,
    pub(crate) image: String,
    /// Of the ephemeral data that it was given.
    pub(crate) data_version: u64,
    /// What it prints of what it was handed, and says at its end.
    pub(crate) says: String,
    /// Its time limit ends it.
    pub(crate) outlasts_limit: bool,
}

/// What is wrong with an agent that has been broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flaws {
    /// The worker that is started again finds no journal.
    pub(crate) forgets_journal: bool,
    /// A reboot does not change the boot id.
    pub(crate) keeps_boot_id: bool,
}

impl Machine {
    pub(crate) fn new(number: usize) -> Machine {
        Machine {
            name: format!("m{number}"),
            mac: format!("02:00:00:00:{:02x}:{:02x}", number / 256, number % 256),
            power: Power::Off,
            boot: None,
            boots: 0,
            cut_off_until: 0,
        }
    }

    /// The agent is up: a new boot, an empty journal.
    pub(crate) fn start(&mut self, flaws: Flaws) {
        self.boots += 1;
        let number = if flaws.keeps_boot_id { 1 } else { self.boots };
        let (core, _) = Core::resume(Vec::new(), SystemTime::UNIX_EPOCH);
        self.power = Power::On;
        self.boot = Some(Boot {
            id: format!("{}-boot-{number}", self.name),
            core,
            journal: Vec::new(),
            running: None,
            stream: None,
            connections: 0,
            runs: 0,
        });
    }

    /// Power is gone: nothing of the boot is left.
    pub(crate) fn stop(&mut self) -> Option<Boot> {
        self.power = Power::Off;
        self.boot.take()
    }
}

impl Boot {
    pub(crate) fn handle(&mut self, now: u64, event: Event) -> Vec<Order> {
        let orders = self.core.handle(at(now), event);
        self.record(&orders);
        orders
    }

    /// The worker died, and with it the action; the next one takes up the journal.
    pub(crate) fn restart_worker(&mut self, now: u64, flaws: Flaws) -> Vec<Order> {
        if flaws.forgets_journal {
            self.journal.clear();
        }
        let (core, orders) = Core::resume(self.journal.clone(), at(now));
        self.core = core;
        self.running = None;
        self.stream = None;
        self.record(&orders);
        orders
    }

    fn record(&mut self, orders: &[Order]) {
        for order in orders {
            if let Order::Record(report) = order {
                self.journal.push(report.clone());
            }
        }
    }

    /// Everything that this boot has ever reported, by sequence.
    pub(crate) fn journal(&self) -> &[v1::Report] {
        &self.journal
    }
}

fn at(now: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(now)
}
