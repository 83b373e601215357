//! What a boot image says of its drivers, in three texts: which overlay a network card needs ([`Overlays`]), which modules and which
//! firmware there are, with the digest of each ([`Catalogue`]), and which of those lists, and which archive of programs, belong to the
//! image ([`Seals`]). Beside them, a reader of the format of its archives ([`newc`]).
//!
//! The build writes them, the boot server reads the first, the agent the others. Pure: opens no file and takes no digest.

#![forbid(unsafe_code)]

mod catalogue;
pub mod newc;
mod overlays;
mod pattern;
mod pci;
mod seals;

pub use catalogue::{Catalogue, Entry, FILE as CATALOGUE_FILE};
pub use overlays::{BASE, Card, FILE as OVERLAYS_FILE, Overlays, archive_of, is_name};
pub use pattern::Patterns;
pub use pci::{NoPciId, PciId};
pub use seals::{FILE as SEALS_FILE, Seal, Seals, Tools};

/// The archive that modules and firmware are fetched from, one by one: cpio, each file in it packed for itself.
pub const ARCHIVE_FILE: &str = "modules.cpio";

/// The archive of programs that actions may ask for, with the libraries that they link: packed cpio, fetched as a whole.
pub const TOOLS_FILE: &str = "tools.img";
/// containerd, runc and the libraries that they link, for images that have them; a packed cpio archive as [`TOOLS_FILE`] is.
pub const CONTAINERD_FILE: &str = "containerd.img";

/// A text of the image is not as its build writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of {text}: {what}")]
pub struct TextError {
    /// Which one.
    pub text: &'static str,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, in words.
    pub what: String,
}

/// No list of an image is near this size: Debian's, with all modules of the profile `server`, has 0.7 MB.
pub const MOST_BYTES: usize = 16 << 20;

/// The lines of a text with their numbers; the first has to be `head`.
fn lines<'a>(
    name: &'static str,
    head: &str,
    text: &'a str,
) -> Result<impl Iterator<Item = (usize, &'a str)>, TextError> {
    let error = |line, what: &str| TextError {
        text: name,
        line,
        what: what.to_owned(),
    };
    if text.len() > MOST_BYTES {
        return Err(error(1, "it is longer than any list of an image"));
    }
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    match lines.next() {
        Some((_, first)) if first == head => Ok(lines),
        _ => Err(error(
            1,
            &format!("it does not begin with {head:?}: it is of another version, or damaged"),
        )),
    }
}

/// A SHA-256, as it is written everywhere: 64 small hexadecimal digits.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a path stays below where it begins.
fn is_inside(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
