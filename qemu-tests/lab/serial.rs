//! What a machine says on its serial line: the log that QEMU writes, read while it grows.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::wait::{Look, WaitError, wait_until};

/// A machine's serial log, over all of its boots.
#[derive(Clone, Debug)]
pub struct SerialLog(PathBuf);

impl SerialLog {
    /// The log in this file, which need not be there yet.
    pub fn new(path: PathBuf) -> SerialLog {
        SerialLog(path)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A place in the log: what comes after it is from now on.
    pub fn mark(&self) -> Mark {
        Mark(fs::metadata(&self.0).map_or(0, |metadata| metadata.len()))
    }

    /// Everything since `mark`, without terminal control sequences.
    pub fn since(&self, mark: Mark) -> String {
        let bytes = fs::read(&self.0).unwrap_or_default();
        let start = usize::try_from(mark.0).unwrap_or(usize::MAX);
        plain(&String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()))
    }

    /// Everything, without terminal control sequences.
    pub fn text(&self) -> String {
        self.since(Mark(0))
    }

    /// The last `count` lines that are not empty.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        last_lines(&self.text(), count)
    }

    /// Waits until `wanted` is on the line after `mark`, and gives the line.
    ///
    /// # Errors
    /// After `deadline`, with the last line that was there.
    pub fn wait_for(&self, wanted: &str, mark: Mark, deadline: Duration) -> Result<String, WaitError> {
        wait_until(&format!("{wanted:?} on the serial line"), deadline, || {
            let text = self.since(mark);
            match text.lines().find(|line| line.contains(wanted)) {
                Some(line) => Look::Done(line.to_owned()),
                None => Look::not_yet(
                    last_lines(&text, 1)
                        .pop()
                        .map_or("nothing said yet".to_owned(), |line| format!("{line:?}")),
                ),
            }
        })
    }
}

/// A place in a [`SerialLog`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark(u64);

fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(count))
        .map(|&line| line.to_owned())
        .collect()
}

/// Leaves out ECMA-48 control sequences, which firmware and boot loaders paint their screens with, and makes
/// carriage returns into line ends.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => match rest.next() {
                // A cursor movement may begin a new line of the screen; other sequences are colours.
                Some('[') => {
                    if let Some('H' | 'f') = rest.by_ref().find(|c| ('\x40'..='\x7e').contains(c)) {
                        plain.push('\n');
                    }
                }
                Some('(' | ')') => {
                    rest.next();
                }
                _ => {}
            },
            '\r' => {
                if rest.peek() != Some(&'\n') {
                    plain.push('\n');
                }
            }
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn control_sequences_are_left_out() {
        assert_eq!(
            plain("\x1b[2J\x1b[01;01HiPXE\x1b[0m 1.0\r\nnext\rover\x07\n"),
            "\niPXE 1.0\nnext\nover\n"
        );
    }

    #[test]
    fn waits_only_for_what_comes_after_the_mark() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let log = SerialLog::new(file.path().to_owned());
        writeln!(file, "m1 login: \nrebooting").unwrap();
        let mark = log.mark();
        let early = log
            .wait_for("login:", mark, Duration::ZERO)
            .unwrap_err()
            .to_string();
        assert!(early.ends_with("last status: nothing said yet"), "{early}");
        writeln!(file, "Debian GNU/Linux 12 m1 ttyS0\n\nm1 login: ").unwrap();
        assert_eq!(
            log.wait_for("login:", mark, Duration::ZERO).unwrap(),
            "m1 login: "
        );
        assert_eq!(log.last_lines(2), ["Debian GNU/Linux 12 m1 ttyS0", "m1 login:"]);
    }
}
