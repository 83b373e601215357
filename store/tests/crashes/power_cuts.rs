//! The power goes after each write, each sync and each change of size, and takes what was not synced: all of it, none,
//! all but a beginning, or any of it; and the write that was under way may be half done.

use crate::disk::{Happened, Image};
use crate::workload::{Coin, Workload};

/// Which of the unsynced writes reached the disk all the same.
#[derive(Clone, Copy, Debug)]
enum Survives {
    All,
    Beginning,
    Nothing,
    /// Any, each by a coin; the last one in part.
    Some,
}

const SECTOR_BYTES: usize = 512;

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_every_write() {
    let workload = Workload::busy();
    let happened = workload.run();
    let writes = happened
        .iter()
        .filter(|happened| matches!(happened, Happened::Written(..)));
    assert!(writes.count() > 500, "that is no busy run");
    std::thread::scope(|scope| {
        for odd in [0, 1] {
            let (workload, happened) = (&workload, &happened);
            scope.spawn(move || cut_everywhere(workload, happened, |cut| cut % 2 == odd));
        }
    });
}

fn cut_everywhere(workload: &Workload, happened: &[Happened], mine: impl Fn(usize) -> bool) {
    let mut synced = Image::new();
    let mut unsynced: Vec<&Happened> = Vec::new();
    let mut acknowledged = None;
    for (cut, next) in happened.iter().enumerate() {
        match next {
            Happened::Acknowledged(groups) => acknowledged = Some(*groups),
            Happened::Synced => unsynced.drain(..).for_each(|earlier| earlier.apply(&mut synced)),
            Happened::Written(..) | Happened::Resized(_) => unsynced.push(next),
        }
        // Before the store was opened for the first time there is no store that could be damaged: its file gets its
        // name only after that.
        let Some(groups) = acknowledged else { continue };
        // The group that was being written may have made it.
        let may_be_there = [groups, (groups + 1).min(workload.groups.len())];
        if !mine(cut) {
            continue;
        }
        for survives in [
            Survives::Nothing,
            Survives::All,
            Survives::Beginning,
            Survives::Some,
        ] {
            let when = format!(
                "power cut after {cut} of {}, {survives:?} survives",
                happened.len()
            );
            let mut image = synced.clone();
            after_cut(&mut image, &unsynced, survives, &mut Coin(cut as u64));
            crate::workload::check_sound(&image, &when);
            workload.check(image, &may_be_there, &when);
            if unsynced.is_empty() {
                break;
            }
        }
    }
}

fn after_cut(image: &mut Image, unsynced: &[&Happened], survives: Survives, coin: &mut Coin) {
    let beginning = coin.below(unsynced.len() + 1);
    for (at, happened) in unsynced.iter().enumerate() {
        let is_last = at + 1 == unsynced.len();
        match (survives, happened) {
            (Survives::Some, Happened::Written(offset, data)) if is_last => {
                let sectors = coin.below(data.len().div_ceil(SECTOR_BYTES) + 1);
                let torn = &data[..data.len().min(sectors * SECTOR_BYTES)];
                crate::disk::write(image, *offset, torn);
            }
            (Survives::All, _) => happened.apply(image),
            (Survives::Beginning, _) if at < beginning => happened.apply(image),
            (Survives::Some, _) if coin.below(2) == 0 => happened.apply(image),
            _ => {}
        }
    }
}
