//! What people see: short lines on every console of the machine, each with the kernel's uptime.
//!
//! As PID 1 and as its worker, lines go to each active console (`/sys/class/tty/console/active`); as an
//! ordinary process they go to standard error. Stage lines have a fixed form that the lab reads.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

use crate::screen::{self, panel};

static SINKS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// The active consoles, as the kernel lists them; `/dev/console` alone is only the last of them.
pub fn active() -> String {
    std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default()
}

/// Opens every active console; until it is called, and where none opens, lines go to standard error. Of virtual terminals it
/// is the one with lines: another has the panel.
pub fn open_all() {
    let active = active();
    let path = |name: &str| match panel::is_virtual(name) {
        true => panel::LINES.to_owned(),
        false => format!("/dev/{name}"),
    };
    let mut sinks: Vec<File> = active
        .split_whitespace()
        .take(8)
        .filter_map(|name| open(&path(name)))
        .collect();
    if sinks.is_empty() {
        sinks.extend(open("/dev/console"));
    }
    if let Ok(mut held) = SINKS.lock() {
        *held = sinks;
    }
}

fn open(path: &str) -> Option<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path)
        .ok()
}

/// Prints one line for people: `[  1.93] text`.
pub fn say(text: &str) {
    let line = format!("[{:>6.2}] {}", uptime_s(), printable(text));
    screen::change(|state| state.push_line(&line));
    print(&line);
}

/// Ends whatever line somebody else began.
pub fn blank_line() {
    print("");
}

/// Prints a stage line of the fixed form `farrier: stage=<name> uptime=<seconds>[ <key>=<value>]...`.
///
/// Values never hold white space, so that a line splits at blanks.
pub fn stage(name: &str, fields: &[(&str, &str)]) {
    print(&stage_line(name, uptime_s(), fields));
}

fn stage_line(name: &str, uptime_s: f64, fields: &[(&str, &str)]) -> String {
    let mut line = format!("farrier: stage={name} uptime={uptime_s:.3}");
    for (key, value) in fields {
        let value: String = value
            .chars()
            .map(|c| {
                if c.is_whitespace() || c.is_control() {
                    '_'
                } else {
                    c
                }
            })
            .collect();
        line.push_str(&format!(" {key}={value}"));
    }
    line
}

/// Seconds since the kernel started, suspended time included.
pub fn uptime_s() -> f64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map(|time| std::time::Duration::from(time).as_secs_f64())
        .unwrap_or(0.0)
}

/// The text without control characters and credentials of URLs: what a server or a child printed must not steer a
/// terminal, and whoever passes by reads the console.
pub fn printable(text: &str) -> String {
    redaction::redacted(text)
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '·' } else { c })
        .collect()
}

fn has_consoles() -> bool {
    SINKS.try_lock().is_ok_and(|sinks| !sinks.is_empty())
}

fn print(line: &str) {
    // Serial consoles want the carriage return; a terminal does not mind it.
    let Ok(mut sinks) = SINKS.lock() else { return };
    if sinks.is_empty() {
        let _ = writeln!(std::io::stderr(), "{line}");
        return;
    }
    let bytes = format!("{line}\r\n");
    for sink in sinks.iter_mut() {
        // A console that is gone or blocked must not stop the machine.
        let _ = sink.write_all(bytes.as_bytes());
    }
}

/// Makes a panic readable on the console; PID 1 then reboots, the worker is restarted by PID 1.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        // The lock may be held by the line that panicked.
        if SINKS.try_lock().is_ok() {
            let text = format!("farrier-agent panicked: {text}");
            say(&text);
            // Of a worker, standard error is what PID 1 tells the next one of.
            if std::process::id() != 1 && has_consoles() {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        } else {
            let _ = writeln!(std::io::stderr(), "farrier-agent panicked: {text}");
        }
        if std::process::id() == 1 {
            std::thread::sleep(std::time::Duration::from_secs(10));
            nix::unistd::sync();
            let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_lines_have_the_form_that_the_lab_reads() {
        assert_eq!(stage_line("nic", 2.5, &[]), "farrier: stage=nic uptime=2.500");
        assert_eq!(
            stage_line(
                "action-end",
                12.0,
                &[("action", "write a\nfile"), ("outcome", "failed")]
            ),
            "farrier: stage=action-end uptime=12.000 action=write_a_file outcome=failed"
        );
    }

    #[test]
    fn control_characters_never_reach_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r"), "a·[2Jb·");
    }

    #[test]
    fn credentials_never_reach_a_console() {
        assert_eq!(printable("proxy=http://u:p@h"), "proxy=http://***@h");
    }
}
