//! The one way to standard output and standard error: what is printed neither steers a terminal nor shows a credential.
//!
//! Texts come from machines, from people's documents and from the network. Whatever is written to an [`Out`] or said by
//! [`say`] has its control characters made visible (`^[`, `\u{9b}`) and the credentials of its URLs hidden; JSON has
//! its own escapes. Lints of this crate forbid every other way, so that no command can forget it.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use redaction::redacted;

use crate::screen::{Colour, Size};

/// Standard output, for text that is made safe line by line.
pub(crate) struct Out {
    to: Box<dyn Write>,
    /// A line that has no end yet.
    begun: Vec<u8>,
    is_terminal: bool,
    has_colours: bool,
}

impl Out {
    #[allow(clippy::disallowed_methods, reason = "the one place")]
    pub(crate) fn stdout() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|said| !said.is_empty());
        Self {
            is_terminal,
            has_colours: is_terminal && !is_dumb() && !no_colour,
            to: Box::new(out.lock()),
            begun: Vec::new(),
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether it can be drawn on: a terminal that moves its cursor.
    pub(crate) fn is_screen(&self) -> bool {
        self.is_terminal && !is_dumb()
    }

    /// How large the terminal is; `None`: it is none, or does not say.
    pub(crate) fn size(&self) -> Option<Size> {
        if !self.is_terminal {
            return None;
        }
        let mut size = nix::libc::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the request writes one `winsize` to where the pointer points, which lives across the call (tty_ioctl(4)).
        let done = unsafe { window_size(nix::libc::STDOUT_FILENO, &raw mut size) };
        let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
        (done.is_ok() && columns > 0 && rows > 0).then_some(Size { columns, rows })
    }

    /// Writes a line, made safe as all are, in a colour where the terminal has some.
    pub(crate) fn line(&mut self, text: &str, colour: Option<Colour>) -> io::Result<()> {
        self.end_line()?;
        let text = safe(text);
        match colour.filter(|_| self.has_colours) {
            Some(colour) => writeln!(self.to, "{}{text}\x1b[0m", colour.sgr()),
            None => writeln!(self.to, "{text}"),
        }
    }

    /// What follows is written as it is: for formats with escapes of their own, and for whoever asks for the bytes.
    pub(crate) fn as_it_is(&mut self) -> io::Result<&mut dyn Write> {
        self.end_line()?;
        Ok(&mut *self.to)
    }

    /// A document that was stored: its bytes for a file or a pipe, so that it can be given back; made safe for a terminal.
    pub(crate) fn document(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.is_terminal {
            true => self.write_all(bytes),
            false => self.as_it_is()?.write_all(bytes),
        }
    }

    fn end_line(&mut self) -> io::Result<()> {
        let begun = std::mem::take(&mut self.begun);
        self.to
            .write_all(safe(&String::from_utf8_lossy(&begun)).as_bytes())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(line);
            if line.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end_line()?;
        self.to.flush()
    }
}

nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

/// A terminal that only prints.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Prints a line on standard error.
#[allow(clippy::print_stderr, reason = "the one place")]
pub(crate) fn say(text: impl fmt::Display) {
    eprintln!("{}", safe(&text.to_string()));
}

/// Whether standard error is a terminal.
#[allow(clippy::disallowed_methods, reason = "nothing is written")]
pub(crate) fn is_shown_to_a_person() -> bool {
    io::stderr().is_terminal()
}

/// The log's way to standard error. Its own colours go through; JSON is escaped as JSON.
pub(crate) struct LogWriter {
    pub(crate) is_json: bool,
    pub(crate) has_colours: bool,
}

impl LogWriter {
    fn shown(&self, entry: &str) -> String {
        let entry = redacted(entry);
        match (self.is_json, self.has_colours) {
            (true, _) => json_safe(&entry).into_owned(),
            (false, true) => entry.split_inclusive('m').map(coloured).collect(),
            (false, false) => visible(&entry).into_owned(),
        }
    }
}

impl Write for LogWriter {
    #[allow(clippy::disallowed_methods, reason = "the one place")]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The log formats a whole entry before it writes.
        let entry = self.shown(&String::from_utf8_lossy(bytes));
        io::stderr().write_all(entry.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A piece of text that may end in a colour (ECMA-48 SGR).
fn coloured(piece: &str) -> String {
    let sgr = piece.rfind("\x1b[").filter(|at| {
        let rest = &piece[at + 2..];
        let numbers = rest.trim_end_matches('m');
        rest.len() == numbers.len() + 1 && numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')
    });
    match sgr {
        Some(at) => format!("{}{}", visible(&piece[..at]), &piece[at..]),
        None => visible(piece).into_owned(),
    }
}

/// Fit to be shown: no control characters, no credentials.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    match redacted(text) {
        Cow::Borrowed(text) => visible(text),
        Cow::Owned(text) => Cow::Owned(visible(&text).into_owned()),
    }
}

/// The same for a place that is one line: an end of line is shown, too.
pub(crate) fn safe_line(text: &str) -> String {
    safe(text).replace('\n', "^J")
}

/// Lines that follow the first are set in, so that none is taken for another thing that is said.
pub(crate) fn set_in(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:by$}", ""))
}

/// Control characters as `cat -v` shows them; those beyond ASCII, and what turns or hides text, as `\u{202e}`.
fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '\x7f' => shown.push_str("^?"),
            _ if letter.is_ascii() && acts(letter) => {
                shown.push('^');
                shown.push(char::from(letter as u8 ^ 0x40));
            }
            _ if acts(letter) => shown.push_str(&format!("\\u{{{:x}}}", u32::from(letter))),
            _ => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

/// JSON text in which no character acts: within strings, the only place that has any, they become `\u009b`.
pub(crate) fn json_safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if acts(letter) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// Whether a terminal does something else with it than to show it: C0 but tab and end of line, DEL, C1 (ECMA-48), the
/// bidirectional formatting characters (UAX #9 section 2) and what has no width.
pub(crate) fn acts(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        letter => letter.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown() {
        assert_eq!(safe("\x1b]0;owned\x07\r\x00\x7f"), "^[]0;owned^G^M^@^?");
        assert_eq!(safe("a\tb\n"), "a\tb\n");
        assert_eq!(
            safe("\u{9b}2J \u{202e}cod.exe\u{2066} \u{200b}"),
            "\\u{9b}2J \\u{202e}cod.exe\\u{2066} \\u{200b}"
        );
        assert_eq!(safe("grün 漢字 🙂"), "grün 漢字 🙂");
        assert_eq!(safe_line("a\nb"), "a^Jb");
        assert_eq!(set_in("a\nb\n", 2), "a\n  b");
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!("\x1b\x7f\u{9b}\u{202e}\u{e0041}\n");
        let text = value.to_string();
        let safe = json_safe(&text);
        assert_eq!(safe, "\"\\u001b\\u007f\\u009b\\u202e\\udb40\\udc41\\n\"");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }

    #[test]
    fn colours_of_the_log_are_its_own() {
        let text = "\x1b[2m12:00\x1b[0m \x1b[32m INFO\x1b[0m term \x1b[2Jm \x1bm\u{9b}1m";
        let shown: String = text.split_inclusive('m').map(coloured).collect();
        assert_eq!(
            shown,
            "\x1b[2m12:00\x1b[0m \x1b[32m INFO\x1b[0m term ^[[2Jm ^[m\\u{9b}1m"
        );
    }

    #[test]
    fn the_log_has_no_credentials_and_steers_nothing() {
        let shown = |is_json, has_colours, text: &str| LogWriter { is_json, has_colours }.shown(text);
        assert_eq!(
            shown(false, false, "INFO get http://u:p@h/?sig=1 \x1b[2J\u{9b}\n"),
            "INFO get http://***@h/?sig=*** ^[[2J\\u{9b}\n"
        );
        let entry = serde_json::json!({"message": "get http://u:p@h/?sig=1\n\u{9b}"}).to_string();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown(true, false, &entry)).unwrap()["message"],
            "get http://***@h/?sig=***\u{9b}"
        );
        assert_eq!(
            shown(false, true, "\x1b[32mINFO\x1b[0m http://u:p@h\n"),
            "\x1b[32mINFO\x1b[0m http://***@h\n"
        );
    }

    #[test]
    fn lines_are_made_safe_however_they_are_written() {
        struct Kept(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.borrow_mut().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let kept = std::rc::Rc::default();
        let mut out = Out {
            to: Box::new(Kept(std::rc::Rc::clone(&kept))),
            begun: Vec::new(),
            is_terminal: false,
            has_colours: false,
        };
        // A URL and a letter in two pieces.
        for piece in [&b"http://u:pa"[..], b"ss@h \xc3", b"\xbc\n\x1b", b"["] {
            out.write_all(piece).unwrap();
        }
        out.as_it_is().unwrap().write_all(b"\x1b[J").unwrap();
        out.write_all(b"\x9b\xff").unwrap();
        out.flush().unwrap();
        assert_eq!(
            String::from_utf8(kept.take()).unwrap(),
            "http://***@h ü\n^[[\x1b[J\u{fffd}\u{fffd}"
        );
    }
}
