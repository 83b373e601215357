//! The reports of this boot, in a file that outlives a worker but not the machine.
//!
//! Appended before a report is sent and before an action starts. Lives on a tmpfs: what the next worker of the
//! same boot needs to know is never needed by another boot.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use proto::v1::Report;

/// A longer journal is to be written anew: it lies in memory.
const LONG_BYTES: u64 = 16 << 20;

pub(super) struct Journal {
    file: Option<File>,
    path: PathBuf,
    bytes: u64,
    /// [`Journal::is_long`] from here on.
    long_from: u64,
}

impl Journal {
    /// Opens the journal of this boot in `folder` and reads what is in it; a torn last record is cut off.
    ///
    /// # Errors
    /// The folder or file cannot be made; without a journal a dead worker's attempt might run twice.
    pub(super) fn open(folder: &Path, boot_id: &str) -> io::Result<(Journal, Vec<Report>)> {
        std::fs::create_dir_all(folder)?;
        let safe: String = boot_id
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .take(64)
            .collect();
        let path = folder.join(format!("reports-{safe}"));
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut rest = bytes.as_slice();
        let mut reports = Vec::new();
        let mut whole = 0;
        while let Ok(report) = Report::decode_length_delimited(&mut rest) {
            if bytes.len() - rest.len() == whole {
                break;
            }
            whole = bytes.len() - rest.len();
            reports.push(report);
        }
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.set_len(whole as u64)?;
        let journal = Journal {
            file: Some(file),
            path,
            bytes: whole as u64,
            long_from: LONG_BYTES,
        };
        Ok((journal, reports))
    }

    /// A journal that remembers nothing, where no file can be had.
    pub(super) fn none() -> Journal {
        Journal {
            file: None,
            path: PathBuf::new(),
            bytes: 0,
            long_from: u64::MAX,
        }
    }

    /// Appends one report.
    pub(super) fn record(&mut self, report: &Report) -> io::Result<()> {
        let bytes = report.encode_length_delimited_to_vec();
        self.bytes += bytes.len() as u64;
        match &mut self.file {
            Some(file) => file.write_all(&bytes),
            None => Ok(()),
        }
    }

    /// Whether there is much in it that nobody needs any more.
    pub(super) fn is_long(&self) -> bool {
        self.bytes > self.long_from
    }

    /// Replaces everything in it, or nothing.
    pub(super) fn replace(&mut self, reports: &[Report]) -> io::Result<()> {
        let all: Vec<u8> = reports
            .iter()
            .flat_map(Message::encode_length_delimited_to_vec)
            .collect();
        // Whatever comes of it, it is not tried again at every report.
        self.bytes = all.len() as u64;
        self.long_from = self.bytes + LONG_BYTES;
        let new = self.path.with_extension("new");
        std::fs::write(&new, all)?;
        std::fs::rename(&new, &self.path)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_record_is_cut_off_and_the_rest_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let report = |sequence| Report {
            sequence,
            attempt_id: "w/0/0/1".to_owned(),
            ..Report::default()
        };
        let (mut journal, none) = Journal::open(folder.path(), "boot-1").expect("opens");
        assert!(none.is_empty());
        journal.record(&report(1)).expect("records");
        journal.record(&report(2)).expect("records");
        let path = folder.path().join("reports-boot-1");
        let bytes = std::fs::read(&path).expect("bytes");
        std::fs::write(&path, &bytes[..bytes.len() - 3]).expect("torn");
        let (mut journal, kept) = Journal::open(folder.path(), "boot-1").expect("opens");
        assert_eq!(kept, [report(1)]);
        journal.record(&report(3)).expect("records");
        assert_eq!(
            Journal::open(folder.path(), "boot-1").expect("opens").1,
            [report(1), report(3)]
        );
        assert!(
            Journal::open(folder.path(), "boot-2")
                .expect("opens")
                .1
                .is_empty()
        );
    }

    #[test]
    fn a_long_journal_is_replaced_and_goes_on() {
        let folder = tempfile::tempdir().expect("folder");
        let report = |sequence| Report {
            sequence,
            attempt_id: "x".repeat(1 << 20),
            ..Report::default()
        };
        let (mut journal, _) = Journal::open(folder.path(), "boot").expect("opens");
        let mut sequence = 0;
        while !journal.is_long() {
            sequence += 1;
            assert!(sequence < 100, "it never gets long");
            journal.record(&report(sequence)).expect("records");
        }
        journal.replace(&[report(sequence)]).expect("replaced");
        assert!(!journal.is_long());
        journal.record(&report(sequence + 1)).expect("records");
        assert_eq!(
            Journal::open(folder.path(), "boot").expect("opens").1,
            [report(sequence), report(sequence + 1)]
        );
    }
}
