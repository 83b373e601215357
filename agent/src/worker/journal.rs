//! The reports of this boot, in a file that outlives a worker but not the machine.
//!
//! Appended before a report is sent and before an action starts. Lives on a tmpfs: what the next worker of the
//! same boot needs to know is never needed by another boot.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use prost::Message;
use proto::v1::Report;

pub(super) struct Journal {
    file: Option<File>,
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
        Ok((Journal { file: Some(file) }, reports))
    }

    /// A journal that remembers nothing, where no file can be had.
    pub(super) fn none() -> Journal {
        Journal { file: None }
    }

    /// Appends one report.
    pub(super) fn record(&mut self, report: &Report) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(&report.encode_length_delimited_to_vec()),
            None => Ok(()),
        }
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
}
