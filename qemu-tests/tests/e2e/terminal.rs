//! A terminal (pty) with a program on it: what it shows is collected, and keys can be typed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::termios::{self, LocalFlags, Termios};
use qemu_tests::lab::wait::{Look, wait_until};

pub(crate) struct Terminal {
    master: File,
    shown: Arc<Mutex<Shown>>,
}

#[derive(Default)]
struct Shown {
    text: String,
    ended: bool,
}

impl Terminal {
    /// Starts `command` with all of its streams on a new terminal; `leads` makes it the terminal's own session, as
    /// a login shell would be.
    pub(crate) fn start(command: &mut Command, leads: bool) -> (Terminal, Child) {
        let pty = openpty(None, None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(slave()).stdout(slave()).stderr(slave());
        if leads {
            // SAFETY: between fork and exec only setsid and ioctl are called, which are async-signal-safe.
            unsafe {
                command.pre_exec(|| {
                    nix::unistd::setsid()?;
                    match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                        0 => Ok(()),
                        _ => Err(std::io::Error::last_os_error()),
                    }
                });
            }
        }
        let child = command.spawn().unwrap();
        // The command holds the terminal's other end as well, and reading ends only when nobody holds it.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        drop(pty.slave);
        (Terminal::collect(pty.master), child)
    }

    fn collect(master: OwnedFd) -> Terminal {
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(Shown::default()));
        let (mut reader, place) = (master.try_clone().unwrap(), shown.clone());
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // EIO is the end: nobody has the terminal open any more.
            while let Ok(length @ 1..) = reader.read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..length]).into_owned();
                place.lock().unwrap().text.push_str(&text);
            }
            place.lock().unwrap().ended = true;
        });
        Terminal { master, shown }
    }

    /// Waits until these words are shown, and gives all that was shown so far.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str, deadline: Duration) -> String {
        wait_until(&format!("{words:?} on the terminal"), deadline, || {
            let shown = self.shown.lock().unwrap();
            if shown.text.contains(words) {
                return Look::Done(shown.text.clone());
            }
            let tail: String = shown.text.chars().rev().take(2000).collect();
            let tail: String = tail.chars().rev().collect();
            match shown.ended {
                true => Look::never(format!("the program has ended; it showed: …{tail}")),
                false => Look::not_yet(format!("…{tail}")),
            }
        })
        .unwrap()
    }

    /// Types keys.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether keys reach the program as they are: no line editing, no echo, no signals.
    pub(crate) fn is_raw(&self) -> bool {
        let cooked = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        !self.modes().local_flags.intersects(cooked)
    }

    pub(crate) fn modes(&self) -> Termios {
        termios::tcgetattr(self.master.as_fd()).unwrap()
    }
}
