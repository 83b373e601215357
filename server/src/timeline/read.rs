//! Reads and follows the timeline.

use std::collections::BTreeMap;

use tokio::sync::{broadcast, mpsc};

use super::writer::Ring;
use super::{Placed, STRANGERS, Written};
use crate::control::{Change, ControlPlane};
use coordinator::Error;
use coordinator::database::View;
use coordinator::machines::{self, mac_text, parse_mac};
use coordinator::namespaces::Reach;

/// Entries read in one go.
const PAGE: usize = 200;

/// Whose timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Everybody,
    /// A machine, by name or MAC.
    Machine(String),
    Strangers,
}

impl ControlPlane {
    /// Sends what there is, oldest first, and with `follow` what comes, until the receiver is gone or we stop. What is
    /// `known` already, as the number of a ring's last entry, is left out.
    pub(crate) async fn boot_log(
        &self,
        reach: &Reach,
        whose: Whose,
        follow: bool,
        known: impl IntoIterator<Item = (String, u64)>,
        to: mpsc::Sender<Placed>,
    ) -> Result<(), Error> {
        // Before the first read, so that nothing falls between.
        let mut changes = self.inner.changes.subscribe();
        let mut rings = self.rings(reach, &whose).await?;
        let mut seen: BTreeMap<String, u64> = known
            .into_iter()
            .map(|(ring, number)| (ring, number.saturating_add(1)))
            .collect();
        loop {
            let mut found = Vec::new();
            for ring in &rings {
                found.extend(self.unseen(ring, &mut seen).await?);
            }
            found.sort_by_key(|placed: &Placed| placed.entry.at);
            for entry in found {
                if to.send(entry).await.is_err() {
                    return Ok(());
                }
            }
            if !follow {
                return Ok(());
            }
            let wanted = |ring: &String| whose == Whose::Everybody || rings.contains(ring);
            let changed = tokio::select! {
                changed = changed(&mut changes, wanted) => changed,
                () = to.closed() => return Ok(()),
                () = self.stopped() => return Err(Error::Stopping),
            };
            rings = match (&whose, changed) {
                (Whose::Everybody, Some(ring)) => self.reached(reach, vec![ring]).await?,
                (Whose::Everybody, None) => self.rings(reach, &whose).await?,
                _ => rings,
            };
        }
    }

    async fn rings(&self, reach: &Reach, whose: &Whose) -> Result<Vec<String>, Error> {
        match whose {
            Whose::Everybody => {
                let all = self.inner.db.list::<Ring>("boot-ring/".into()).await?;
                let all = all.into_iter().map(|(name, _)| name).collect();
                self.reached(reach, all).await
            }
            Whose::Machine(name_or_mac) => {
                let machine = self.machine(reach, name_or_mac).await?;
                Ok(machine
                    .interfaces
                    .iter()
                    .map(|interface| mac_text(interface.mac))
                    .collect())
            }
            Whose::Strangers => self.reached(reach, vec![STRANGERS.to_owned()]).await,
        }
    }

    /// Of these rings those of machines within reach. Strangers are nobody's: they are for who reaches everything.
    async fn reached(&self, reach: &Reach, rings: Vec<String>) -> Result<Vec<String>, Error> {
        if reach.is_everything() {
            return Ok(rings);
        }
        let reach = reach.clone();
        let found = self.inner.db.with(move |view| {
            let mut found = Vec::new();
            for ring in rings.clone() {
                let machine = match parse_mac(&ring) {
                    Some(mac) => machines::with_mac(view, mac)?,
                    None => None,
                };
                if machine.is_some_and(|machine| reach.has(&machine.namespace)) {
                    found.push(ring);
                }
            }
            Ok(found)
        });
        found.await
    }

    /// What a ring holds from the number in `seen` on, which is moved to its end; all of it from one snapshot.
    async fn unseen(&self, ring: &str, seen: &mut BTreeMap<String, u64>) -> Result<Vec<Placed>, Error> {
        let from = seen.get(ring).copied().unwrap_or(0);
        let name = ring.to_owned();
        let all = self.inner.db.with(move |view| entries(view, &name, from)).await?;
        let end = all.last().map_or(from, |last| last.number.saturating_add(1));
        seen.insert(ring.to_owned(), end);
        Ok(all)
    }
}

/// What a ring holds from this number on.
fn entries(view: &View, ring: &str, from: u64) -> Result<Vec<Placed>, Error> {
    let mut from = from;
    let mut all = Vec::new();
    let prefix = format!("boot-log/{ring}/");
    loop {
        let page = view.page::<Written>(&prefix, &format!("{prefix}{from:020}"), PAGE)?;
        let full = page.len() == PAGE;
        for (number, entry) in page {
            let number = number.parse().unwrap_or(from);
            from = number.saturating_add(1);
            all.push(Placed {
                ring: ring.to_owned(),
                number,
                entry,
            });
        }
        if !full {
            return Ok(all);
        }
    }
}

/// The ring that changed; `None` when changes were missed.
async fn changed(
    changes: &mut broadcast::Receiver<Change>,
    wanted: impl Fn(&String) -> bool,
) -> Option<String> {
    loop {
        match changes.recv().await {
            Ok(Change::BootLog(ring)) if wanted(&ring) => return Some(ring),
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return None,
            // Only when we stop, which the caller sees too.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
