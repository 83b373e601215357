//! A terminal that a test looks at, and types at.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

use crate::harness::WITHIN;

/// A command at a terminal of 80 columns and 24 rows, and what that shows.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    keyboard: File,
    shows: std::sync::mpsc::Receiver<String>,
    pub(crate) seen: String,
}

impl Terminal {
    pub(crate) fn run(command: Command) -> Self {
        Self::start(command, false)
    }

    /// As [`Self::run`], and what is typed there is its input.
    pub(crate) fn with_keyboard(command: Command) -> Self {
        Self::start(command, true)
    }

    fn start(mut command: Command, has_keyboard: bool) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).expect("a pty");
        command.stdin(Stdio::null());
        if has_keyboard {
            let slave = || Stdio::from(pty.slave.try_clone().expect("a file"));
            // Shells print what is typed on standard error.
            command.stdin(slave()).stderr(slave());
        }
        command.stdout(Stdio::from(pty.slave));
        let child = command.spawn().expect("farrier runs");
        drop(command);
        let mut terminal = File::from(pty.master);
        let keyboard = terminal.try_clone().expect("a file");
        let (shown, shows) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            let mut all = Vec::new();
            // EIO is the end: nobody has the terminal open any more.
            while let Ok(length @ 1..) = terminal.read(&mut chunk) {
                all.extend_from_slice(&chunk[..length]);
                if shown.send(String::from_utf8_lossy(&all).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keyboard,
            shows,
            seen: String::new(),
        }
    }

    /// Until it has shown this; with what is done again and again meanwhile.
    #[track_caller]
    pub(crate) fn shows(&mut self, wanted: impl Fn(&str) -> bool, mut meanwhile: impl FnMut()) {
        let deadline = Instant::now() + WITHIN;
        while !wanted(&self.seen) {
            assert!(Instant::now() < deadline, "it shows at last: {:?}", self.seen);
            meanwhile();
            while let Ok(now) = self.shows.recv_timeout(Duration::from_millis(100)) {
                self.seen = now;
            }
        }
    }

    /// Presses these keys.
    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a terminal");
    }

    pub(crate) fn screens(&self) -> Vec<&str> {
        self.seen.split("\x1b[H\x1b[J").skip(1).collect()
    }
}
