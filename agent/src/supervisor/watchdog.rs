//! The hardware watchdog: fed while PID 1 runs, so that a machine that hangs is reset.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

pub(super) struct Watchdog {
    device: Option<File>,
    fed: Instant,
}

impl Watchdog {
    /// Opens `/dev/watchdog` where there is one; opening it starts it.
    pub(super) fn open() -> Watchdog {
        Watchdog {
            device: open(),
            fed: Instant::now(),
        }
    }

    /// Feeds it every few seconds (the common timeout is 30 s or more). Its driver may come later than PID 1.
    pub(super) fn feed(&mut self) {
        if self.fed.elapsed() < Duration::from_secs(5) {
            return;
        }
        self.fed = Instant::now();
        match self.device.as_mut() {
            Some(device) => drop(device.write_all(b"\0")),
            None => self.device = open(),
        }
    }
}

fn open() -> Option<File> {
    OpenOptions::new().write(true).open("/dev/watchdog").ok()
}
