//! What somebody far away wants to see of this machine: the kernel's log, and what stands on the screen.
//!
//! Nothing that has to be waited for, so that it can be told while an action runs. Tokens and passwords of the kernel command line, which
//! the kernel has written into its log, are hidden.
//! Source: syslog(2).

use std::io;

use proto::v1;
use redaction::Secrets;

use crate::cmdline::Cmdline;
use crate::screen::panel::uptime_s;
use crate::screen::{self, render::render};

/// What is told, the newest of it; a message to the server has 4 MiB.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// No kernel has a larger log than one of 2^25 B (`CONFIG_LOG_BUF_SHIFT`).
const MAX_LOG_BYTES: usize = 32 << 20;
/// Of the screen that is shown far away: what a terminal has everywhere.
const COLUMNS: usize = 80;
const ROWS: usize = 24;
/// Actions of syslog(2).
const READ_ALL: libc::c_int = 3;
const SIZE_BUFFER: libc::c_int = 10;

/// What is seen there now, or why it cannot be seen.
pub(crate) fn answer(look: &v1::Look) -> v1::Seen {
    let (text, is_cut, problem) = match look.sight() {
        v1::Sight::KernelLog => match kernel_log() {
            Ok(log) => {
                let (text, is_cut) = shown(&String::from_utf8_lossy(&log), &Cmdline::of_this_boot());
                (text, is_cut, String::new())
            }
            Err(e) => {
                let problem = format!("the kernel's log cannot be read: {e}; the agent has to run as root");
                (String::new(), false, problem)
            }
        },
        v1::Sight::Screen => {
            let lines = render(&screen::now(), COLUMNS, ROWS, uptime_s());
            (lines.join("\n"), false, String::new())
        }
        v1::Sight::Unspecified => {
            let problem = "this agent does not know what is to be looked at: netboot the machine with an agent as new as the server";
            (String::new(), false, problem.to_owned())
        }
    };
    v1::Seen {
        id: look.id,
        text,
        is_cut,
        problem,
    }
}

/// What the kernel's log has, with levels.
fn kernel_log() -> io::Result<Vec<u8>> {
    // SAFETY: this action takes no buffer.
    let size = unsafe { libc::klogctl(SIZE_BUFFER, std::ptr::null_mut(), 0) };
    let size = usize::try_from(size).map_err(|_| io::Error::last_os_error())?;
    let mut log = vec![0_u8; size.min(MAX_LOG_BYTES)];
    let room = libc::c_int::try_from(log.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel writes at most `room` bytes into the buffer, which is at least so large.
    let read = unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), room) };
    log.truncate(usize::try_from(read).map_err(|_| io::Error::last_os_error())?);
    Ok(log)
}

/// The newest lines without their levels and without secrets, and whether there were more.
fn shown(log: &str, cmdline: &Cmdline) -> (String, bool) {
    let secrets = Secrets::new(cmdline.secrets());
    let (mut lines, mut bytes, mut is_cut) = (Vec::new(), 0, false);
    for line in log.lines().rev() {
        let line = secrets.hidden(without_level(line));
        let line = redaction::redacted(&line).into_owned();
        bytes += line.len() + 1;
        if bytes > MAX_TEXT_BYTES {
            is_cut = true;
            break;
        }
        lines.push(line);
    }
    lines.reverse();
    (lines.join("\n"), is_cut)
}

/// `<6>[    1.0] text` → `[    1.0] text`
fn without_level(line: &str) -> &str {
    let rest = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match rest {
        Some((level, rest)) if level.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_log_is_shown_without_levels_and_without_what_is_secret() {
        let cmdline = Cmdline::parse("console=ttyS0 farrier.token=0123abcd registry_password=hunter22");
        let log = "<5>[    0.000000] Command line: console=ttyS0 farrier.token=0123abcd registry_password=hunter22\n\
                   <6>[    1.5] x: http://u:p@h\n<notalevel> y\n";
        let (text, is_cut) = shown(log, &cmdline);
        let want = "[    0.000000] Command line: console=ttyS0 farrier.token=*** registry_password=***\n\
                    [    1.5] x: http://***@h\n<notalevel> y";
        assert_eq!((text.as_str(), is_cut), (want, false));
    }

    #[test]
    fn of_a_long_log_the_newest_is_told() {
        let log: String = (0..40_000)
            .map(|number| format!("<6>line {number} {}\n", "x".repeat(40)))
            .collect();
        let (text, is_cut) = shown(&log, &Cmdline::default());
        assert!(is_cut && text.len() <= MAX_TEXT_BYTES, "{}", text.len());
        assert!(
            text.lines()
                .last()
                .is_some_and(|line| line.starts_with("line 39999 "))
        );
        assert!(text.lines().all(|line| line.starts_with("line ")));
    }

    #[test]
    fn the_screen_is_what_the_panel_draws_and_what_is_unknown_says_so() {
        let look = |sight: i32| answer(&v1::Look { id: 7, sight });
        let seen = look(v1::Sight::Screen as i32);
        assert_eq!((seen.id, seen.problem.as_str()), (7, ""));
        assert!(seen.text.starts_with("Farrier "), "{}", seen.text);
        assert_eq!(seen.text.split('\n').count(), ROWS);
        assert!(seen.text.lines().all(|line| line.len() <= COLUMNS));
        assert!(look(99).problem.contains("as new as the server"));
    }
}
