//! The panel on a virtual terminal of its own, beside the one with the agent's lines (Alt+F1, Alt+F2).
//!
//! Redrawn when something has changed, four times a second at most, and every ten seconds as the time goes on.
//! Source: console_codes(4), ioctl_console(2).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use super::render::render;
use super::{State, changed};

/// Where lines go.
pub const LINES: &str = "/dev/tty1";
const PANEL: &str = "/dev/tty2";
const PANEL_NUMBER: libc::c_int = 2;
const BETWEEN: Duration = Duration::from_millis(250);
const CLOCK: Duration = Duration::from_secs(10);
/// No text console is larger.
const MAX_WIDTH: u16 = 512;
const MAX_HEIGHT: u16 = 256;

const VT_ACTIVATE: libc::Ioctl = 0x5606;

/// A terminal that is drawn on.
#[derive(Debug)]
pub struct Panel {
    terminal: File,
    state: State,
    drawn: Option<Instant>,
}

impl Panel {
    /// Where the kernel has a virtual terminal among its consoles; `active` is what it says of them.
    pub fn open(active: &str) -> Option<Panel> {
        if !active.split_whitespace().any(is_virtual) {
            return None;
        }
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC)
            .open(PANEL);
        Some(Panel {
            terminal: terminal.ok()?,
            state: State::default(),
            drawn: None,
        })
    }

    /// Puts it before the person's eyes. Once in a boot: who has chosen another terminal since keeps it.
    ///
    /// The kernel prints to whatever terminal is shown, so its panic is seen; the next drawing covers other lines of its own.
    pub fn show(&self) {
        // SAFETY: the descriptor is open; the argument is a number.
        unsafe { libc::ioctl(self.terminal.as_raw_fd(), VT_ACTIVATE, PANEL_NUMBER) };
    }

    /// Draws what has changed, at once if the last time is long enough ago; waits for it no longer than `at_most`.
    pub fn draw_changes(&mut self, at_most: Duration) {
        let now = Instant::now();
        let since = |drawn: Instant| now.saturating_duration_since(drawn);
        if let Some(left) = self.drawn.and_then(|drawn| BETWEEN.checked_sub(since(drawn)))
            && !left.is_zero()
        {
            if at_most < left {
                return;
            }
            std::thread::sleep(left);
        }
        match changed(at_most) {
            Some(state) => self.state = state,
            None if self.drawn.is_some_and(|drawn| since(drawn) < CLOCK) => return,
            None => {}
        }
        self.draw();
        self.drawn = Some(Instant::now());
    }

    fn draw(&mut self) {
        let (width, height) = size(&self.terminal);
        let text = escaped(&render(&self.state, width, height, uptime_s()));
        // A terminal that is gone must not stop the machine.
        let _ = self.terminal.write_all(text.as_bytes());
    }
}

/// Draws until the process ends, on a thread of its own.
pub fn keep(active: &str) {
    let Some(mut panel) = Panel::open(active) else {
        return;
    };
    let draw = move || {
        loop {
            panel.draw_changes(CLOCK);
        }
    };
    // Without it the lines are there still.
    let _ = std::thread::Builder::new().name("screen".to_owned()).spawn(draw);
}

/// `tty0`, `tty1`: a serial line has other letters before its number.
pub fn is_virtual(console: &str) -> bool {
    let number = console.strip_prefix("tty");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// From the first place on, each line to its end, without a line feed that would scroll. The cursor is hidden, and the screen
/// does not go dark.
fn escaped(lines: &[String]) -> String {
    let mut text = "\x1b[?25l\x1b[9;0]".to_owned();
    for (row, line) in lines.iter().enumerate() {
        text.push_str(&format!("\x1b[{};1H{line}\x1b[K", row + 1));
    }
    text
}

/// Whole seconds since the kernel started.
pub fn uptime_s() -> u64 {
    let uptime = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    uptime.map_or(0, |time| Duration::from(time).as_secs())
}

/// Columns and rows.
fn size(terminal: &File) -> (usize, usize) {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open, and the kernel writes a winsize, which this is.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    match (done, size.ws_col, size.ws_row) {
        (0, columns, rows) if columns > 0 && rows > 0 => (
            usize::from(columns.min(MAX_WIDTH)),
            usize::from(rows.min(MAX_HEIGHT)),
        ),
        _ => (80, 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_virtual_terminals_have_a_panel() {
        for console in ["tty0", "tty1", "tty63"] {
            assert!(is_virtual(console), "{console}");
        }
        for console in ["ttyS0", "hvc0", "tty", "ttyAMA0", "ttyUSB0", ""] {
            assert!(!is_virtual(console), "{console}");
        }
        assert!(Panel::open("ttyS0").is_none());
    }

    #[test]
    fn a_line_is_put_in_its_place_and_nothing_scrolls() {
        let text = escaped(&["one".into(), "two".into()]);
        assert_eq!(text, "\x1b[?25l\x1b[9;0]\x1b[1;1Hone\x1b[K\x1b[2;1Htwo\x1b[K");
        assert!(!text.contains('\n'));
    }
}
