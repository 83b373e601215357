//! Why an earlier agent died: what the worker said last, and what the kernel kept of its own end (pstore).
//!
//! PID 1 gives each worker a file without a name for its standard error. When the worker dies, what stands at its end goes to the
//! next worker with how it died, and from there to the server.
//! Source: Documentation/admin-guide/pstore-blk.rst and ABI/testing/pstore.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// Where the kernel shows what it kept.
pub(crate) const PSTORE: &str = "/sys/fs/pstore";
/// Bytes of a worker's words that are looked at.
const MAX_WORDS: u64 = 4 << 10;
/// Letters of a whole account.
const MAX_TEXT: usize = 1000;
/// A worker's words take no more memory than this for long.
const MAX_KEPT: u64 = 64 << 10;
/// A record of the kernel's is a page or some; they come in numbered parts.
const MAX_RECORD: u64 = 64 << 10;
const MAX_RECORDS: usize = 64;

/// A place for the words of a worker.
#[derive(Debug)]
pub(crate) struct Words(File);

impl Words {
    /// # Errors
    /// The kernel's.
    pub(crate) fn place() -> io::Result<Words> {
        Ok(Words(File::from(memfd_create(c"words", MFdFlags::MFD_CLOEXEC)?)))
    }

    /// Where the worker writes to.
    pub(crate) fn end(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// Forgets what a worker that talks a lot has said.
    pub(crate) fn keep_short(&self) {
        if self.0.metadata().is_ok_and(|file| file.len() > MAX_KEPT) {
            let _ = self.0.set_len(0);
        }
    }

    /// What it said last, which is forgotten then.
    pub(crate) fn take(&self) -> String {
        let len = self.0.metadata().map_or(0, |file| file.len());
        let mut bytes = vec![0; usize::try_from(len.min(MAX_WORDS)).unwrap_or(0)];
        let read = self.0.read_exact_at(&mut bytes, len.saturating_sub(MAX_WORDS));
        let _ = self.0.set_len(0);
        match read {
            Ok(()) => in_one_line(&String::from_utf8_lossy(&bytes)),
            Err(_) => String::new(),
        }
    }
}

/// `the worker was killed by SIGSEGV; its last words: …`
pub(crate) fn account(how: &str, words: &str) -> String {
    let account = match words {
        "" => format!("the worker {how}, without a word"),
        words => format!("the worker {how}; its last words: {words}"),
    };
    account.chars().take(MAX_TEXT).collect()
}

/// What the kernel kept of its end in an earlier boot; empty: nothing. Records of other kinds are left where they are.
pub(crate) fn of_the_kernel(pstore: &Path) -> String {
    let (mut text, mut parts) = (String::new(), Vec::new());
    for name in records(pstore) {
        let Ok(file) = File::open(pstore.join(name)) else {
            continue;
        };
        let mut bytes = Vec::new();
        let _ = file.take(MAX_RECORD).read_to_end(&mut bytes);
        let record = String::from_utf8_lossy(&bytes);
        parts.push(part(&record));
        text.push_str(&record);
        text.push('\n');
    }
    // Its newest part comes first, and was told and taken away in an earlier boot: the firmware was too slow for the rest.
    let is_left_over = !parts.is_empty() && parts.iter().all(|part| part.is_some_and(|part| part > 1));
    if is_left_over {
        forget_the_kernels(pstore);
        return String::new();
    }
    match reason(&text) {
        "" => String::new(),
        reason => {
            let account = format!("the kernel died in an earlier boot: {}", in_one_line(reason));
            account.chars().take(MAX_TEXT).collect()
        }
    }
}

/// Takes away what was told, so that there is room for the next. What the firmware does not give up is tried once more.
pub(crate) fn forget_the_kernels(pstore: &Path) {
    for _ in 0..2 {
        for name in records(pstore) {
            let _ = std::fs::remove_file(pstore.join(name));
        }
    }
}

/// Which part of a death a record is: 1 is the newest. `None`: it does not say.
///
/// Source: Linux fs/pstore/platform.c, `pstore_dump`: `Panic#1 Part2`.
fn part(record: &str) -> Option<u32> {
    let (_, part) = record.lines().next()?.split_once("#")?.1.split_once(" Part")?;
    part.trim().parse().ok()
}

/// Of the kernel's log, oldest part last, as the numbers are.
fn records(pstore: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(pstore).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with("dmesg-"))
        .take(MAX_RECORDS)
        .collect();
    names.sort();
    names
}

/// The line that says why; where none does, the last.
fn reason(text: &str) -> &str {
    const SAY_WHY: [&str; 5] = [
        "Kernel panic - not syncing",
        "BUG:",
        "Oops:",
        "Unable to handle kernel",
        "general protection fault",
    ];
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let why = SAY_WHY
        .iter()
        .find_map(|words| lines().find(|line| line.contains(words)));
    why.or_else(|| lines().next_back()).unwrap_or_default()
}

/// The last lines, with blanks between them, fit for a person.
fn in_one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let last = lines.len().saturating_sub(5);
    crate::console::printable(&lines.get(last..).unwrap_or_default().join(" "))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_a_worker_said_last_is_taken_once_and_has_a_bound() {
        let words = Words::place().expect("a file");
        let mut end = File::from(words.end().expect("an end"));
        for number in 0..3000 {
            writeln!(end, "line {number}").expect("written");
        }
        writeln!(end, "farrier-agent panicked: \u{1b}[2Jindex http://u:p@h").expect("written");
        let taken = words.take();
        assert!(taken.starts_with("line 2996 line 2997"), "{taken}");
        assert!(taken.ends_with("panicked: ·[2Jindex http://***@h"), "{taken}");
        assert_eq!(words.take(), "");
        let account = account("was killed by SIGSEGV", &"x".repeat(5000));
        assert_eq!(account.len(), MAX_TEXT);
        assert_eq!(
            super::account("exited with code 1", ""),
            "the worker exited with code 1, without a word"
        );
    }

    #[test]
    fn a_worker_that_talks_a_lot_is_not_kept_whole() {
        let words = Words::place().expect("a file");
        let mut end = File::from(words.end().expect("an end"));
        end.write_all(&vec![b'x'; MAX_KEPT as usize + 1])
            .expect("written");
        words.keep_short();
        assert_eq!(words.take(), "");
    }

    #[test]
    fn the_kernels_end_is_told_by_the_line_that_says_why_and_then_forgotten() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        assert_eq!(of_the_kernel(folder.path()), "");
        write(
            "dmesg-efi_pstore-2",
            "Panic#1 Part2\n<6>[ 1.0] usb 1-1: new device\n",
        );
        write(
            "dmesg-efi_pstore-1",
            "Panic#1 Part1\n<0>[    9.12] Kernel panic - not syncing: Attempted to kill init!\n<0>[ 9.13] CPU: 0\n",
        );
        write("console-ramoops-0", "BUG: of another kind\n");
        assert_eq!(
            of_the_kernel(folder.path()),
            "the kernel died in an earlier boot: <0>[    9.12] Kernel panic - not syncing: Attempted to kill init!"
        );
        forget_the_kernels(folder.path());
        assert_eq!(of_the_kernel(folder.path()), "");
        assert!(folder.path().join("console-ramoops-0").exists());
        // What an earlier boot has told of, and could not take away.
        write("dmesg-efi_pstore-11", "Panic#1 Part11\n<6>[ 0.0] On node 0\n");
        assert_eq!(of_the_kernel(folder.path()), "");
        assert!(!folder.path().join("dmesg-efi_pstore-11").exists());
        write("dmesg-erst-1", &"\n<6>[ 7.0] the last line\n".repeat(20_000));
        // The record is cut somewhere.
        assert!(of_the_kernel(folder.path()).starts_with("the kernel died in an earlier boot: <6>["));
    }
}
