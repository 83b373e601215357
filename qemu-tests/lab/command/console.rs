//! The terminal as a machine's serial console.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{io, thread};

use anyhow::Context;
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};

/// The terminal's modes, to be restored whatever happens to whoever changes them.
#[derive(Debug)]
pub(super) struct Terminal(Option<Termios>);

impl Terminal {
    /// The modes that stdin has now; nothing when it is no terminal.
    pub(super) fn remember() -> Terminal {
        Terminal(termios::tcgetattr(io::stdin()).ok())
    }

    /// Puts them back.
    pub(super) fn restore(&self) {
        if let Some(modes) = &self.0 {
            // A terminal that is gone needs nothing.
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, modes);
        }
    }
}

/// Connects stdin and stdout to a machine's serial line until the machine or the person ends it.
///
/// Ctrl-] ends the process, and with it the lab.
///
/// # Errors
/// When the serial line's socket cannot be reached.
pub(super) fn attach(socket: &Path) -> anyhow::Result<()> {
    let mut line = UnixStream::connect(socket).context("connecting to the machine's serial line")?;
    let mut typed_to = line.try_clone()?;
    eprintln!("The machine's console; Ctrl-] ends the lab.");
    if let Ok(mut modes) = termios::tcgetattr(io::stdin()) {
        termios::cfmakeraw(&mut modes);
        // The lab's own lines go to this terminal too.
        modes.output_flags |= OutputFlags::OPOST;
        termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &modes)
            .context("putting the terminal in raw mode")?;
    }
    thread::spawn(move || {
        let mut stdin = io::stdin();
        let mut typed = [0; 256];
        while let Ok(length @ 1..) = stdin.read(&mut typed) {
            let typed = typed.get(..length).unwrap_or_default();
            if typed.contains(&ESCAPE) {
                // The process outside puts the terminal back; everything in the namespaces goes with us.
                std::process::exit(130);
            }
            if typed_to.write_all(typed).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut said = [0; 4096];
        let mut stdout = io::stdout();
        while let Ok(length @ 1..) = line.read(&mut said) {
            let _ = stdout.write_all(said.get(..length).unwrap_or_default());
            let _ = stdout.flush();
        }
    });
    Ok(())
}

/// Ctrl-], as in telnet.
const ESCAPE: u8 = 0x1d;
