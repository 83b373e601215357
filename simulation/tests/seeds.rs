//! A few hundred small worlds: nothing breaks in any, and everything that can happen happens in some.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulation::coverage::{Coverage, EVENTS, FAULTS};
use simulation::{Settings, run};
use workflow::engine::Event;

const SEEDS: u64 = 300;

#[test]
fn nothing_breaks_and_everything_happens() {
    let next = AtomicU64::new(1);
    let total = Mutex::new(Coverage::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS {
                        return;
                    }
                    match run(Settings::new(seed)) {
                        Ok(coverage) => total.lock().expect("nobody panicked").add(&coverage),
                        Err(failure) => panic!("{failure}see it again: {}", failure.again()),
                    }
                }
            });
        }
    });
    let total = total.into_inner().expect("nobody panicked");
    let events = Coverage::missing(&total.events, EVENTS);
    let faults = Coverage::missing(&total.faults, FAULTS);
    assert_eq!((events, faults), (vec![], vec![]), "never seen in\n{total}");
}

#[test]
fn a_seed_gives_the_same_world_again() {
    let first = run(Settings::new(7)).expect("nothing breaks");
    let again = run(Settings::new(7)).expect("nothing breaks");
    assert_eq!(first, again);
}

/// A kind of event that the worlds do not know of would be missed by nobody. The golden file has them all.
#[test]
fn every_kind_of_event_is_looked_for() {
    let golden = include_str!("../../workflow/tests/golden/events-1.jsonl");
    let written: BTreeSet<&str> = golden
        .lines()
        .map(|line| serde_json::from_str::<Event>(line).expect("an event").kind.name())
        .collect();
    let known: BTreeSet<&str> = EVENTS.iter().copied().collect();
    assert_eq!(known, written, "left: looked for; right: there are");
}
