//! What happened last, in words: the end of the story that a failing seed tells.

use std::collections::VecDeque;

/// Steps that are remembered.
const KEPT: usize = 50;

/// The last steps.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    steps: VecDeque<Vec<String>>,
    step: u64,
    all: bool,
}

impl Trace {
    /// With `all` every line is printed, too, as it comes.
    pub(crate) fn new(all: bool) -> Trace {
        Trace {
            all,
            ..Trace::default()
        }
    }

    pub(crate) fn begin(&mut self, step: u64) {
        self.step = step;
        if self.steps.back().is_none_or(|lines| !lines.is_empty()) {
            self.steps.push_back(Vec::new());
        }
        if self.steps.len() > KEPT {
            self.steps.pop_front();
        }
    }

    pub(crate) fn say(&mut self, now: u64, text: impl AsRef<str>) {
        let (seconds, millis) = (now / 1000, now % 1000);
        let line = format!(
            "step {:>6} {seconds:>7}.{millis:03} s  {}",
            self.step,
            text.as_ref()
        );
        if self.all {
            println!("{line}");
        }
        match self.steps.back_mut() {
            Some(lines) => lines.push(line),
            None => self.steps.push_back(vec![line]),
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.steps.iter().flatten().cloned().collect()
    }
}
