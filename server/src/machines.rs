//! Machines, as people apply, look up and delete them.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use coordinator::database::View;
use coordinator::machines::{self, Applied, Machine};
use coordinator::namespaces::Reach;
use coordinator::once::Once;
use coordinator::{Error, Input};
use macaddr::MacAddr6;
use proto::v1::DeleteMachineResponse;

use crate::clock;
use crate::control::ControlPlane;
use crate::once::note;
use crate::timeline::{Entry, Outcome, Stage};
use crate::within::Within;

impl ControlPlane {
    /// Creates and updates the machines of files.
    ///
    /// Nothing is changed when anything is wrong. Files of many machines are committed in several steps.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem, line and column; [`Error::Changed`].
    pub(crate) async fn apply_machines(
        &self,
        within: Within,
        files: Vec<machines::File>,
        terms: machines::Terms,
    ) -> Result<Applied, Error> {
        let terms = machines::Terms {
            served: self.inner.config.served.clone(),
            shown: redaction::redacted,
            ..terms
        };
        let _alone = self.inner.machines_turn.write().await;
        let now = clock::wall();
        let apply = self
            .inner
            .db
            .with(move |view| machines::apply_all(view, &within.scope(view)?, &files, &terms, now));
        let mut applied = apply.await?;
        let mut committed = Ok(());
        for step in applied.steps.drain(..) {
            committed = self.inner.db.commit(step).await.map(drop);
            if committed.is_err() {
                break;
            }
        }
        // What failed may have happened.
        for machine in &applied.moved {
            self.inner.agents.poke(machine);
        }
        committed.map(|()| applied)
    }

    /// The machine of this name, or with this MAC, within reach.
    pub(crate) async fn machine(&self, reach: &Reach, name_or_mac: &str) -> Result<Machine, Error> {
        let (reach, asked) = (reach.clone(), name_or_mac.to_owned());
        self.inner
            .db
            .with(move |view| Ok(machines::find(view, &reach, &asked)?.value))
            .await
    }

    /// Every machine: for what the server does for machines.
    async fn every_machine(&self) -> Result<Vec<Machine>, Error> {
        let all = |view: &View| machines::all(view, &Reach::everything());
        self.inner.db.with(all).await
    }

    /// How many machines there are.
    pub async fn machine_count(&self) -> Result<u64, Error> {
        Ok(self.every_machine().await?.len() as u64)
    }

    /// Every interface that has an address reserved.
    pub async fn reservations(&self) -> Result<Vec<(MacAddr6, Ipv4Addr)>, Error> {
        let all = self.every_machine().await?;
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
    pub(crate) async fn delete_machine(
        &self,
        reach: Reach,
        asked: String,
        once: Option<Once>,
    ) -> Result<DeleteMachineResponse, Error> {
        let _alone = self.inner.machines_turn.write().await;
        let steps = self
            .inner
            .db
            .with(move |view| machines::deletion(view, &reach, &asked));
        let mut steps = steps.await?;
        // The last one makes the machine be gone.
        if let Some(last) = steps.last_mut() {
            note(once.as_ref(), last, &DeleteMachineResponse {});
        }
        for step in steps {
            self.inner.db.commit(step).await?;
        }
        Ok(DeleteMachineResponse {})
    }

    /// Lets a machine boot its disk, whatever workflows have left on it: a person says that it is good.
    ///
    /// # Errors
    /// [`Error::Refused`] while it has a workflow that has not ended.
    pub(crate) async fn boot_machine_disk(&self, reach: &Reach, name_or_mac: &str) -> Result<Machine, Error> {
        let machine = self.machine(reach, name_or_mac).await?;
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
