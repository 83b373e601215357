//! What the person in the machine room sees: who this machine is, whom it asks, what it does, what is wrong.
//!
//! [`State`] is what is known, [`render`] makes lines of it, [`panel`] puts them on a virtual terminal. Serial lines get plain
//! lines instead ([`crate::console`] in both cases keeps the last ones): there a panel would be a flood.

pub mod panel;
pub mod render;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Lines that are kept for the panel: more than any text console shows.
const MAX_LINES: usize = 100;
/// Letters of a line that are kept.
const MAX_LINE: usize = 400;

/// What is known of the machine and of what it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The name in its record; empty until the server has said it.
    pub name: String,
    pub mac: String,
    pub product: String,
    pub serial: String,
    /// `eth0 10.0.0.5/24`
    pub network: String,
    /// `host:port`
    pub server: String,
    pub is_attached: bool,
    pub doing: Doing,
    pub trouble: Option<Trouble>,
    /// The newest last.
    pub lines: VecDeque<String>,
}

/// What it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Doing {
    #[default]
    Starting,
    /// It has nothing to do before this.
    WaitsFor(String),
    Runs {
        /// `2/5`
        place: String,
        action: String,
        image: String,
        progress: Option<Progress>,
    },
    /// `reboot`, `poweroff`, `kexec`
    Leaves(String),
}

/// How far an action is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    pub stage: String,
    pub done_bytes: u64,
    /// 0: not known.
    pub total_bytes: u64,
    pub bytes_per_s: u64,
}

/// What is wrong, and what somebody can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    pub what: String,
    pub cure: String,
}

impl Trouble {
    pub fn new(what: impl Into<String>, cure: impl Into<String>) -> Trouble {
        Trouble {
            what: what.into(),
            cure: cure.into(),
        }
    }
}

impl State {
    /// Keeps a line, fit for a terminal already.
    pub fn push_line(&mut self, line: &str) {
        self.lines.push_back(line.chars().take(MAX_LINE).collect());
        while self.lines.len() > MAX_LINES {
            self.lines.pop_front();
        }
    }
}

/// The process's screen: its state, and whether it was drawn as it is.
static SCREEN: Mutex<(Option<State>, bool)> = Mutex::new((None, false));
static CHANGED: Condvar = Condvar::new();

/// Changes what is known, to be drawn by whoever draws.
pub fn change(change: impl FnOnce(&mut State)) {
    // Whoever panicked while holding it has left a state like any other.
    let mut screen = SCREEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (state, is_drawn) = &mut *screen;
    change(state.get_or_insert_default());
    *is_drawn = false;
    CHANGED.notify_all();
}

/// What is known now.
pub fn now() -> State {
    let screen = SCREEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    screen.0.clone().unwrap_or_default()
}

/// What is known, if it has changed since the last time; waits so long for that.
fn changed(at_most: Duration) -> Option<State> {
    let screen = SCREEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let waited = CHANGED.wait_timeout_while(screen, at_most, |(_, is_drawn)| *is_drawn);
    let (mut screen, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
    let (state, is_drawn) = &mut *screen;
    match std::mem::replace(is_drawn, true) {
        true => None,
        false => Some(state.clone().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_up_to_a_bound() {
        let mut state = State::default();
        for number in 0..MAX_LINES + 3 {
            state.push_line(&format!("{number} {}", "ü".repeat(2 * MAX_LINE)));
        }
        assert_eq!(state.lines.len(), MAX_LINES);
        assert!(state.lines[0].starts_with("3 ") && state.lines[0].chars().count() == MAX_LINE);
    }
}
