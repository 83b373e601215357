//! What the lab shows while it runs: progress bars on a terminal, one line per event elsewhere.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{
    HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use crate::lab::table;

/// Where progress is shown.
#[derive(Debug)]
pub struct Display {
    kind: Kind,
    started: Instant,
}

#[derive(Debug)]
enum Kind {
    Bars(MultiProgress),
    Lines,
    Silent,
}

impl Display {
    /// Bars when stderr is a terminal, else lines.
    pub fn new() -> Display {
        let kind = match std::io::stderr().is_terminal() {
            true => Kind::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            false => Kind::Lines,
        };
        Display {
            kind,
            started: Instant::now(),
        }
    }

    /// Shows nothing: the terminal belongs to a machine's console.
    pub fn silent() -> Display {
        Display {
            kind: Kind::Silent,
            started: Instant::now(),
        }
    }

    /// Times are counted from here on.
    pub fn restart_clock(&mut self) {
        self.started = Instant::now();
    }

    /// One line that stays, with the time since the start in front.
    pub fn line(&self, text: &str) {
        let line = format!("{:>7.1} s  {text}", self.started.elapsed().as_secs_f64());
        match &self.kind {
            Kind::Bars(bars) => {
                // A terminal that is gone is found out by the process group, not here.
                let _ = bars.println(line);
            }
            Kind::Lines => eprintln!("{line}"),
            Kind::Silent => {}
        }
    }

    /// Something that takes a while: a spinner, a bar once its size is known.
    pub fn task(&self, name: &str) -> Task<'_> {
        let bar = match &self.kind {
            Kind::Bars(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(spinner());
                bar.set_prefix(name.to_owned());
                bar.enable_steady_tick(Duration::from_millis(120));
                Some(bar)
            }
            Kind::Lines | Kind::Silent => None,
        };
        Task {
            display: self,
            name: name.to_owned(),
            bar,
            seen: Mutex::default(),
        }
    }
}

impl Default for Display {
    fn default() -> Self {
        Display::new()
    }
}

/// Something that takes a while. Its bar goes when it is dropped.
#[derive(Debug)]
pub struct Task<'a> {
    display: &'a Display,
    name: String,
    bar: Option<ProgressBar>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    total: u64,
    done: u64,
    /// Quarters of the total that a line was printed for.
    quarters: u64,
}

impl Task<'_> {
    /// What it is at, shown beside the bar.
    pub fn at(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.chars().take(70).collect::<String>());
        }
    }

    /// So many bytes of `total` are done; 0 for an unknown total.
    pub fn bytes(&self, done: u64, total: u64) {
        let mut seen = self
            .seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bar) = &self.bar {
            if total != seen.total {
                bar.set_style(if total == 0 { spinner() } else { byte_bar() });
                bar.set_length(total);
            }
            bar.set_position(done);
        }
        let quarters = (done * 4).checked_div(total).unwrap_or(0);
        if self.bar.is_none() && quarters > seen.quarters && quarters < 4 {
            let (done, total) = (table::bytes(done), table::bytes(total));
            self.display.line(&format!("{}: {done} of {total}", self.name));
        }
        *seen = Seen {
            total,
            done,
            quarters: quarters.max(seen.quarters),
        };
    }

    /// So many more bytes are done.
    pub fn advance(&self, more: u64, total: u64) {
        let done = self
            .seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .done
            + more;
        self.bytes(done, total);
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix} {elapsed} {msg:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn byte_bar() -> ProgressStyle {
    ProgressStyle::with_template(
        "{spinner} {prefix} [{wide_bar}] {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}{time_left}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .with_key("time_left", |state: &ProgressState, shown: &mut dyn fmt::Write| {
        // Before the first byte nobody knows.
        if state.per_sec() >= 1.0 {
            let _ = write!(shown, ", {:#} left", HumanDuration(state.eta()));
        }
    })
}
