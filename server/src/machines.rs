//! Machines, as people apply, look up and delete them.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use coordinator::machines::{self, Applied, Machine};
use coordinator::{Error, Input};
use macaddr::MacAddr6;

use crate::clock;
use crate::control::ControlPlane;
use crate::timeline::{Entry, Outcome, Stage};

impl ControlPlane {
    /// Creates and updates the machines of a file.
    ///
    /// Nothing is changed when anything is wrong. Files of many machines are committed in several steps.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem, line and column.
    pub(crate) async fn apply_machines(&self, file: machines::File) -> Result<Applied, Error> {
        let served = self.inner.config.served.clone();
        let _alone = self.inner.machines_turn.write().await;
        let now = clock::wall();
        let apply = self
            .inner
            .db
            .with(move |view| machines::apply(view, &file, &served, now));
        let mut applied = apply.await?;
        for step in applied.steps.drain(..) {
            self.inner.db.commit(step).await?;
        }
        Ok(applied)
    }

    /// The machine of this name, or with this MAC.
    pub(crate) async fn machine(&self, name_or_mac: &str) -> Result<Machine, Error> {
        let asked = name_or_mac.to_owned();
        self.inner
            .db
            .with(move |view| Ok(machines::find(view, &asked)?.value))
            .await
    }

    pub(crate) async fn machines(&self) -> Result<Vec<Machine>, Error> {
        self.inner.db.with(machines::all).await
    }

    /// How many machines there are.
    pub async fn machine_count(&self) -> Result<u64, Error> {
        Ok(self.machines().await?.len() as u64)
    }

    /// Every interface that has an address reserved.
    pub async fn reservations(&self) -> Result<Vec<(MacAddr6, Ipv4Addr)>, Error> {
        let all = self.machines().await?;
        let interfaces = all.into_iter().flat_map(|machine| machine.interfaces);
        Ok(interfaces
            .filter_map(|interface| Some((interface.mac, interface.lease?.address)))
            .collect())
    }

    /// The machine with this MAC; `None` for a stranger.
    pub async fn machine_with_mac(&self, mac: MacAddr6) -> Result<Option<Machine>, Error> {
        self.inner
            .db
            .with(move |view| machines::with_mac(view, mac))
            .await
    }

    /// Forgets a machine. Its ended workflows stay.
    ///
    /// # Errors
    /// [`Error::Refused`] while it has a workflow that has not ended.
    pub(crate) async fn delete_machine(&self, name_or_mac: &str) -> Result<(), Error> {
        let _alone = self.inner.machines_turn.write().await;
        let asked = name_or_mac.to_owned();
        let steps = self.inner.db.with(move |view| machines::deletion(view, &asked));
        for step in steps.await? {
            self.inner.db.commit(step).await?;
        }
        Ok(())
    }

    /// Lets a machine boot its disk, whatever workflows have left on it: a person says that it is good.
    ///
    /// # Errors
    /// [`Error::Refused`] while it has a workflow that has not ended.
    pub(crate) async fn boot_machine_disk(&self, name_or_mac: &str) -> Result<Machine, Error> {
        let machine = self.machine(name_or_mac).await?;
        let input = Input::BootDisk {
            machine: machine.name.clone(),
        };
        self.step(&input).await?;
        self.record(Entry {
            at: SystemTime::now(),
            mac: machine.interfaces.first().map(|interface| interface.mac),
            boot: None,
            stage: Stage::Netboot,
            what: "DISK".into(),
            detail: "somebody said that the disk is good: the machine boots it".into(),
            bytes: 0,
            outcome: Outcome::Note,
        });
        Ok(machine)
    }
}
