//! The parts of a run, and the minutes that each may take.

use super::choice::Choice;
use super::tally::Tally;
use super::{long, ordinary};

/// How much is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Length {
    /// What CI runs.
    #[default]
    Ordinary,
    /// `--all`: the same, with what takes hours.
    All,
}

/// A part of a run.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// What it is, for the help.
    pub(super) what: &'static str,
    /// Minutes on a fresh clone with two cores; `None`: only a part of `--all`.
    minutes: Option<u32>,
    /// The same within `--all`.
    minutes_of_all: u32,
    /// How many steps `--from` may choose from, in words.
    pub(super) steps: &'static str,
    pub(super) run: fn(&Choice, &mut Tally),
}

impl Part {
    pub(super) fn share(&self, length: Length) -> Option<u32> {
        match length {
            Length::Ordinary => self.minutes,
            Length::All => Some(self.minutes_of_all),
        }
    }
}

/// Minutes of all parts together, on a fresh clone with two cores.
pub(super) const MOST_MINUTES: u32 = 45;
/// The same of `--all`.
pub(super) const MOST_MINUTES_OF_ALL: u32 = 180;

/// In the order in which they run: what tells most in the shortest time comes first.
pub(super) const PARTS: [Part; 11] = [
    Part {
        name: "formatting",
        what: "cargo fmt --check",
        minutes: Some(1),
        minutes_of_all: 1,
        steps: "",
        run: ordinary::formatting,
    },
    Part {
        name: "clippy",
        what: "clippy, warnings denied",
        minutes: Some(5),
        minutes_of_all: 5,
        steps: "",
        run: ordinary::clippy,
    },
    Part {
        name: "documentation",
        what: "cargo doc, warnings denied",
        minutes: Some(2),
        minutes_of_all: 2,
        steps: "",
        run: ordinary::documentation,
    },
    Part {
        name: "tests",
        what: "unit and integration tests",
        minutes: Some(14),
        minutes_of_all: 14,
        steps: "",
        run: ordinary::tests,
    },
    Part {
        name: "fuzz",
        what: "every fuzz target for 5 s; with --all for 60 s, with the address sanitizer",
        minutes: Some(4),
        minutes_of_all: 25,
        steps: "targets, by name",
        run: ordinary::fuzz,
    },
    Part {
        name: "e2e",
        what: "binaries, boot and disk image, end-to-end tests in QEMU",
        minutes: Some(19),
        minutes_of_all: 19,
        steps: "tests, by name",
        run: ordinary::end_to_end,
    },
    Part {
        name: "machines",
        what: "other network cards, disk controllers, bonds, kernels and firmware: images built, machines booted",
        minutes: None,
        minutes_of_all: 26,
        steps: "tests, by name",
        run: long::machines,
    },
    Part {
        name: "simulation",
        what: "10,000 simulated worlds, large ones",
        minutes: None,
        minutes_of_all: 50,
        steps: "times 500 seeds",
        run: long::simulation,
    },
    Part {
        name: "model",
        what: "the engine beside its reference model, 20,000 plans",
        minutes: None,
        minutes_of_all: 6,
        steps: "times 2,000 plans",
        run: long::model,
    },
    Part {
        name: "kills",
        what: "a server that is killed 2,000 times under load",
        minutes: None,
        minutes_of_all: 20,
        steps: "times 400 kills",
        run: long::kills,
    },
    Part {
        name: "benches",
        what: "each bench, small: that it measures, not what",
        minutes: None,
        minutes_of_all: 12,
        steps: "benches",
        run: long::benches,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_within_what_a_run_may_take() {
        let sum = |length| PARTS.iter().filter_map(|part| part.share(length)).sum::<u32>();
        assert_eq!(sum(Length::Ordinary), MOST_MINUTES);
        assert!(sum(Length::All) <= MOST_MINUTES_OF_ALL, "{}", sum(Length::All));
    }
}
