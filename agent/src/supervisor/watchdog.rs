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
        let device = OpenOptions::new().write(true).open("/dev/watchdog").ok();
        Watchdog {
            device,
            fed: Instant::now(),
        }
    }

    /// Feeds it every few seconds (the common timeout is 30 s or more).
    pub(super) fn feed(&mut self) {
        let due = self.fed.elapsed() >= Duration::from_secs(5);
        if let Some(device) = self.device.as_mut().filter(|_| due) {
            let _ = device.write_all(b"\0");
            self.fed = Instant::now();
        }
    }
}
