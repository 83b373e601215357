//! How far a build is: one bar for the step that runs on a terminal, lines elsewhere.

use image::Progress;
use indicatif::ProgressBar;

use crate::screen::transfer_bar;
use crate::terminal::{is_shown_to_a_person, safe_line, say};

/// One bar for the step that runs; lines where there is no terminal.
#[derive(Default)]
pub(super) struct Bars {
    bar: Option<ProgressBar>,
    /// Where there is no terminal: bytes of the step that runs, in all and done, and the quarters that were said.
    bytes: Option<u64>,
    done: u64,
    said: u64,
}

impl Bars {
    pub(super) fn show(&mut self, progress: Progress<'_>) {
        let terminal = is_shown_to_a_person();
        match progress {
            Progress::Began { step, bytes } if terminal => {
                let bar = match bytes {
                    Some(bytes) => ProgressBar::new(bytes).with_style(transfer_bar()),
                    None => ProgressBar::new_spinner(),
                };
                self.bar = Some(bar.with_message(step.to_owned()));
            }
            Progress::Began { step, bytes } => {
                (self.bytes, self.done, self.said) = (bytes, 0, 0);
                say(step);
            }
            Progress::Advanced { bytes } => match &self.bar {
                Some(bar) => bar.inc(bytes),
                None => self.advance(bytes),
            },
            Progress::Noted { text } => match &self.bar {
                Some(bar) => bar.println(format!("  {}", safe_line(text))),
                None => say(format_args!("  {text}")),
            },
            Progress::Ended { step } => {
                if let Some(bar) = self.bar.take() {
                    let elapsed = bar.elapsed();
                    bar.finish_and_clear();
                    say(format_args!("{step}  {:.1} s", elapsed.as_secs_f64()));
                }
            }
        }
    }

    /// Says each quarter that is done of what takes long.
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        let Some(all) = self.bytes.filter(|all| *all >= LARGE_BYTES) else {
            return;
        };
        let quarters = (self.done.saturating_mul(4) / all).min(3);
        if quarters > self.said {
            self.said = quarters;
            say(format_args!(
                "  {} of {} MB",
                self.done / 1_000_000,
                all.div_ceil(1_000_000)
            ));
        }
    }

    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Smaller steps are done before anybody asks.
const LARGE_BYTES: u64 = 10_000_000;
