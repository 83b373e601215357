//! Writes the timeline: a bounded queue, one task, many entries a commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};

use super::{Entry, MAX_TEXT_BYTES, Outcome, STRANGERS, Stage};
use crate::bounds::cut;
use crate::control::Change;
use crate::database::Database;
use crate::tasks::caught;
use coordinator::Error;
use coordinator::database::Batch;
use coordinator::machines::mac_text;

/// Entries that may wait to be written.
const QUEUE: usize = 4096;
/// Entries in one commit: each is a write, and so is each ring and what falls out of it.
const BATCH: usize = 40;

/// Where entries go in.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// Where they come out.
pub(crate) struct Queue {
    entries: mpsc::Receiver<Entry>,
    dropped: Arc<AtomicU64>,
}

/// The numbers of a ring's entries: `first..next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ring {
    pub(crate) first: u64,
    pub(crate) next: u64,
}

pub(crate) fn channel() -> (Recorder, Queue) {
    let (queue, entries) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    (
        Recorder {
            queue,
            dropped: dropped.clone(),
        },
        Queue { entries, dropped },
    )
}

impl Recorder {
    pub(crate) fn record(&self, mut entry: Entry) {
        for text in [&mut entry.what, &mut entry.detail] {
            cut(text, MAX_TEXT_BYTES, "…");
        }
        if self.queue.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes until `stopped`, and then what is still queued.
pub(crate) async fn write(
    db: Database,
    mut queue: Queue,
    limit: u64,
    changes: broadcast::Sender<Change>,
    stopped: impl Future<Output = ()> + Send,
) {
    tokio::pin!(stopped);
    let mut open = true;
    let mut rings = HashMap::new();
    let mut strangers = Strangers::default();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = tokio::select! {
            biased;
            received = queue.entries.recv_many(&mut batch, BATCH) => received,
            () = &mut stopped, if open => {
                open = false;
                queue.entries.close();
                queue.entries.recv_many(&mut batch, BATCH).await
            }
        };
        if received == 0 {
            return;
        }
        let dropped = queue.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            batch.push(lost(dropped));
        }
        let appended = append(&db, &mut rings, &mut strangers, std::mem::take(&mut batch), limit);
        match caught("writing the boot timeline", appended).await {
            // What the rings hold is read again.
            None => rings.clear(),
            Some(Ok(written)) => {
                // Nobody may be following.
                written
                    .into_iter()
                    .for_each(|ring| drop(changes.send(Change::BootLog(ring))));
            }
            Some(Err(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "boot timeline cannot be written"
                );
                rings.clear();
            }
        }
    }
}

async fn append(
    db: &Database,
    rings: &mut HashMap<String, Ring>,
    strangers: &mut Strangers,
    entries: Vec<Entry>,
    limit: u64,
) -> Result<Vec<String>, Error> {
    let mut batch = Batch::default();
    let mut touched: HashMap<String, Ring> = HashMap::new();
    for entry in entries {
        let name = ring_of(db, strangers, &entry).await?;
        if !rings.contains_key(&name) {
            let stored = db.get::<Ring>(format!("boot-ring/{name}")).await?;
            rings.insert(
                name.clone(),
                stored.map(|stored| stored.value).unwrap_or_default(),
            );
        }
        let known = rings.get(&name).copied().unwrap_or_default();
        let ring = touched.entry(name.clone()).or_insert(known);
        batch.put(key(&name, ring.next), &entry.into_written());
        ring.next += 1;
    }
    for (name, ring) in &mut touched {
        let first = ring.next.saturating_sub(limit);
        if first > ring.first {
            batch.delete_range(key(name, ring.first), key(name, first));
            ring.first = first;
        }
        batch.put(format!("boot-ring/{name}"), ring);
    }
    db.commit(batch).await?;
    let names = touched.keys().cloned().collect();
    rings.extend(touched);
    Ok(names)
}

/// A machine's own ring, or the one of strangers.
async fn ring_of(db: &Database, strangers: &mut Strangers, entry: &Entry) -> Result<String, Error> {
    let Some(mac) = entry.mac.map(mac_text) else {
        return Ok(STRANGERS.to_owned());
    };
    let known = db.get::<String>(format!("mac/{mac}")).await?.is_some();
    if !known && strangers.is_new(&mac) {
        tracing::info!(
            mac,
            "a stranger asks: give it a record with `farrier machine apply`, and it is served"
        );
    }
    Ok(if known { mac } else { STRANGERS.to_owned() })
}

/// Strangers that the log has told of: each once an hour, as many as are on a network.
#[derive(Default)]
struct Strangers(HashMap<String, Instant>);

impl Strangers {
    const EVERY: Duration = Duration::from_secs(3600);
    const MOST: usize = 1024;

    fn is_new(&mut self, mac: &str) -> bool {
        if self.0.get(mac).is_some_and(|told| told.elapsed() < Self::EVERY) {
            return false;
        }
        if self.0.len() >= Self::MOST {
            self.0.retain(|_, told| told.elapsed() < Self::EVERY);
        }
        // Whoever makes up MACs is told of by the boot timeline alone.
        if self.0.len() >= Self::MOST {
            return false;
        }
        self.0.insert(mac.to_owned(), Instant::now());
        true
    }
}

fn key(ring: &str, number: u64) -> String {
    format!("boot-log/{ring}/{number:020}")
}

fn lost(entries: u64) -> Entry {
    Entry {
        at: SystemTime::now(),
        mac: None,
        boot: None,
        stage: Stage::Agent,
        what: STRANGERS.into(),
        detail: format!(
            "{entries} entries of the boot timeline came faster than they could be written, and are lost"
        ),
        bytes: 0,
        outcome: Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use store::{MemoryStore, StoreHandle};

    use super::*;
    use crate::timeline::Written;

    fn entry(number: u64) -> Entry {
        Entry {
            mac: Some("52:54:00:77:00:0b".parse().expect("MAC")),
            what: format!("{number}"),
            ..lost(0)
        }
    }

    async fn kept(db: &Database) -> Vec<String> {
        let all = db
            .list::<Written>("boot-log/52:54:00:77:00:0b/".into())
            .await
            .expect("list");
        all.into_iter().map(|(_, entry)| entry.what).collect()
    }

    #[test]
    fn a_stranger_is_told_of_once_and_made_up_ones_have_a_bound() {
        let mut strangers = Strangers::default();
        assert!(strangers.is_new("52:54:00:99:99:99"));
        assert!(!strangers.is_new("52:54:00:99:99:99"));
        let told = (0..5_000)
            .filter(|mac| strangers.is_new(&mac.to_string()))
            .count();
        assert_eq!((told, strangers.0.len()), (1_023, 1_024));
    }

    #[tokio::test]
    async fn keeps_the_last_entries_also_over_a_restart() {
        let db = Database::new(StoreHandle::new(MemoryStore::new()));
        let mut machine = Batch::default();
        machine.put("mac/52:54:00:77:00:0b", &"node1");
        db.commit(machine).await.expect("commit");
        for numbers in [0..2, 2..5, 5..6] {
            // Empty, as after a restart.
            let mut rings = HashMap::new();
            let mut strangers = Strangers::default();
            append(&db, &mut rings, &mut strangers, numbers.map(entry).collect(), 3)
                .await
                .expect("append");
        }
        assert_eq!(kept(&db).await, ["3", "4", "5"]);
    }

    /// One commit holds the entries of many: they must not be lost for the length of one.
    #[tokio::test]
    async fn an_entry_of_any_length_is_kept_within_bounds_beside_the_others() {
        let db = Database::new(StoreHandle::new(MemoryStore::new()));
        let mut machine = Batch::default();
        machine.put("mac/52:54:00:77:00:0b", &"node1");
        db.commit(machine).await.expect("commit");
        let (recorder, queue) = channel();
        recorder.record(entry(1));
        recorder.record(Entry {
            detail: "\u{1}é".repeat(1_000_000),
            ..entry(2)
        });
        write(
            db.clone(),
            queue,
            u64::MAX,
            broadcast::channel(1).0,
            std::future::ready(()),
        )
        .await;
        assert_eq!(kept(&db).await, ["1", "2"]);
    }

    #[tokio::test]
    async fn writes_what_is_queued_when_it_stops_and_counts_what_was_too_much() {
        let db = Database::new(StoreHandle::new(MemoryStore::new()));
        let mut machine = Batch::default();
        machine.put("mac/52:54:00:77:00:0b", &"node1");
        db.commit(machine).await.expect("commit");
        let (recorder, queue) = channel();
        (0..QUEUE as u64 + 7).for_each(|number| recorder.record(entry(number)));
        write(
            db.clone(),
            queue,
            u64::MAX,
            broadcast::channel(1).0,
            std::future::ready(()),
        )
        .await;
        assert_eq!(kept(&db).await.len(), QUEUE);
        let strangers = db
            .list::<Written>("boot-log/strangers/".into())
            .await
            .expect("list");
        assert!(strangers[0].1.detail.starts_with("7 entries"), "{strangers:?}");
    }
}
