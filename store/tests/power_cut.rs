//! Power cuts: the disk forgets every write that was not synced, at every single write of a busy run.
//!
//! What was acknowledged must be there after reopening, in whole commits, in order.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redb::StorageBackend;
use store::{Commit, Operation, RedbStore, Store};

const COMMITS: u64 = 8;
const KEYS_PER_COMMIT: u64 = 5;

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_every_write() {
    let all = run_until_cut(u64::MAX, Tear::None);
    assert_eq!(all.acknowledged, COMMITS);
    assert!(all.writes > 100, "a run of {} writes is no busy run", all.writes);
    std::thread::scope(|scope| {
        for odd in [0, 1] {
            scope.spawn(move || {
                for cut_at in (1..=all.writes).filter(|cut_at| cut_at % 2 == odd) {
                    for tear in [Tear::None, Tear::Some(cut_at)] {
                        check_after_cut(&run_until_cut(cut_at, tear), cut_at);
                    }
                }
            });
        }
    });
}

/// Which of the unsynced writes reached the disk all the same.
#[derive(Clone, Copy, Debug)]
enum Tear {
    None,
    /// Each one by a coin that this seeds.
    Some(u64),
}

struct Cut {
    /// What is on the disk afterwards.
    synced: Vec<u8>,
    acknowledged: u64,
    writes: u64,
}

fn run_until_cut(cut_at: u64, tear: Tear) -> Cut {
    let disk = Disk::default();
    disk.0.lock().unwrap().cut_at = cut_at;
    let mut acknowledged = 0;
    if let Ok(store) = RedbStore::with_backend(disk.clone()) {
        for number in 0..COMMITS {
            if store.commit(&numbered(number)).is_err() {
                break;
            }
            acknowledged = number + 1;
        }
        let mut platter = disk.0.lock().unwrap();
        // Closing cleanly would sync: the power goes before that.
        platter.cut_at = platter.cut_at.min(platter.writes);
    }
    let platter = disk.0.lock().unwrap();
    Cut {
        synced: platter.after_power_cut(tear),
        acknowledged,
        writes: platter.writes,
    }
}

fn numbered(number: u64) -> Commit {
    let put = |at: u64| Operation::Put {
        key: format!("{number:03}/{at}").into(),
        value: vec![u8::try_from(number).unwrap(); 700].into(),
    };
    let mut operations: Vec<Operation> = (0..KEYS_PER_COMMIT).map(put).collect();
    operations.push(Operation::Put {
        key: Bytes::from_static(b"last"),
        value: number.to_string().into(),
    });
    if let Some(old) = number.checked_sub(4) {
        operations.push(Operation::Delete {
            key: format!("{old:03}/0").into(),
        });
    }
    Commit {
        operations,
        ..Commit::default()
    }
}

#[track_caller]
fn check_after_cut(cut: &Cut, cut_at: u64) {
    let disk = Disk::default();
    {
        let mut platter = disk.0.lock().unwrap();
        (platter.now, platter.synced) = (cut.synced.clone(), cut.synced.clone());
    }
    let store = match RedbStore::with_backend(disk) {
        Ok(store) => store,
        Err(error) => {
            // A file that was never finished being made held nothing yet.
            assert_eq!(cut.acknowledged, 0, "cut at write {cut_at}: {error:?}");
            return;
        }
    };
    let last = store.get(b"last").unwrap().map_or(0, |row| {
        let number: u64 = std::str::from_utf8(&row.value).unwrap().parse().unwrap();
        number + 1
    });
    // The commit that was being written may have made it.
    assert!(
        last == cut.acknowledged || last == cut.acknowledged + 1,
        "cut at write {cut_at}: {} acknowledged, {last} there",
        cut.acknowledged
    );
    for number in 0..COMMITS {
        let prefix = format!("{number:03}/");
        let rows = store
            .range(prefix.as_bytes(), &store::prefix_end(prefix.as_bytes()), 100)
            .unwrap();
        let first_deleted = u64::from(number + 4 < last);
        let want = if number < last {
            KEYS_PER_COMMIT - first_deleted
        } else {
            0
        };
        assert_eq!(
            rows.len() as u64,
            want,
            "cut at write {cut_at}: commit {number} of {last}"
        );
    }
    assert_eq!(store.commit(&numbered(COMMITS)).unwrap(), last + 1);
}

/// A disk that forgets unsynced writes.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    writes: u64,
    cut_at: u64,
}

impl Platter {
    fn count(&mut self) -> io::Result<()> {
        if self.cut_at > 0 && self.writes >= self.cut_at {
            return Err(io::Error::other("power cut"));
        }
        self.writes += 1;
        Ok(())
    }

    fn after_power_cut(&self, tear: Tear) -> Vec<u8> {
        let mut disk = self.synced.clone();
        let Tear::Some(seed) = tear else { return disk };
        let mut coin = seed | 1;
        for (offset, data) in &self.unsynced {
            coin = coin
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let end = usize::try_from(*offset).unwrap() + data.len();
            if coin >> 63 == 1 && end <= disk.len() {
                disk[end - data.len()..end].copy_from_slice(data);
            }
        }
        disk
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let bytes = platter
            .now
            .get(offset..offset + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.count()?;
        platter.now.resize(usize::try_from(len).unwrap(), 0);
        // Journalling filesystems keep the size with the metadata; what a file grows by reads as zeros.
        let kept = platter.now.len();
        platter.synced.resize(kept, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.count()?;
        for (offset, data) in std::mem::take(&mut platter.unsynced) {
            let start = usize::try_from(offset).unwrap();
            // A write behind a truncation that came after it is gone.
            if let Some(place) = platter.synced.get_mut(start..start + data.len()) {
                place.copy_from_slice(&data);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.count()?;
        let start = usize::try_from(offset).unwrap();
        platter.now[start..start + data.len()].copy_from_slice(data);
        platter.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}
