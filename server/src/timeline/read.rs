//! Reads and follows the timeline.

use std::collections::BTreeMap;

use tokio::sync::{broadcast, mpsc};

use super::writer::Ring;
use super::{Placed, STRANGERS, Written};
use crate::control::{Change, ControlPlane};
use coordinator::Error;
use coordinator::database::View;
use coordinator::machines::mac_text;

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
        whose: Whose,
        follow: bool,
        known: impl IntoIterator<Item = (String, u64)>,
        to: mpsc::Sender<Placed>,
    ) -> Result<(), Error> {
        // Before the first read, so that nothing falls between.
        let mut changes = self.inner.changes.subscribe();
        let mut rings = self.rings(&whose).await?;
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
                (Whose::Everybody, Some(ring)) => vec![ring],
                (Whose::Everybody, None) => self.rings(&whose).await?,
                _ => rings,
            };
        }
    }

    async fn rings(&self, whose: &Whose) -> Result<Vec<String>, Error> {
        match whose {
            Whose::Everybody => {
                let all = self.inner.db.list::<Ring>("boot-ring/".into()).await?;
                Ok(all.into_iter().map(|(name, _)| name).collect())
            }
            Whose::Machine(name_or_mac) => {
                let machine = self.machine(name_or_mac).await?;
                Ok(machine
                    .interfaces
                    .iter()
                    .map(|interface| mac_text(interface.mac))
                    .collect())
            }
            Whose::Strangers => Ok(vec![STRANGERS.to_owned()]),
        }
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
