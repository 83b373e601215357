//! What is kept of a run that failed: serial logs, boot timelines, wires and the server's log.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::lab::api::Api;
use crate::lab::machine::Machine;
use crate::lab::run_dir::RunDir;
use crate::lab::serial::SerialLog;

/// A directory for one run's evidence.
#[derive(Clone, Debug)]
pub struct Artifacts(PathBuf);

impl Artifacts {
    /// A new directory below `parent`: `name`, or `name-2` and so on where that is taken. What lies there stays.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(parent: &Path, name: &str) -> anyhow::Result<Artifacts> {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let mut path = parent.join(name);
        for number in 2_u32.. {
            match fs::create_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    path = parent.join(format!("{name}-{number}"));
                }
                made => {
                    made.with_context(|| format!("making {}", path.display()))?;
                    break;
                }
            }
        }
        Ok(Artifacts(path))
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps a machine's serial log, QEMU's words and its wires.
    pub fn keep_machine(&self, machine: &Machine) {
        self.keep_machine_directory(machine.directory(), machine.name());
    }

    /// Keeps what [`Artifacts::keep_machine`] keeps of every machine that has a directory in `run_dir`, and gives
    /// the last `lines` of each serial line.
    pub fn keep_machines(&self, run_dir: &RunDir, lines: usize) -> String {
        let mut said = String::new();
        for entry in fs::read_dir(run_dir.path()).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let serial = SerialLog::new(path.join("serial.log"));
            if serial.path().is_file() {
                self.keep_machine_directory(&path, &name);
                let last = serial.last_lines(lines).join("\n  ");
                said.push_str(&format!(
                    "The last lines of machine {name}'s serial line:\n  {last}\n"
                ));
            }
        }
        said
    }

    fn keep_machine_directory(&self, directory: &Path, machine: &str) {
        let Ok(files) = fs::read_dir(directory) else {
            return;
        };
        for file in files
            .flatten()
            .filter(|file| file.file_type().is_ok_and(|kind| kind.is_file()))
        {
            let name = file.file_name();
            if name != "variables.fd" {
                self.keep(&file.path(), &format!("{machine}-{}", name.to_string_lossy()));
            }
        }
    }

    /// Keeps a file under another name; evidence that cannot be kept is not worth another failure.
    pub fn keep(&self, file: &Path, name: &str) {
        let _ = fs::copy(file, self.0.join(name));
    }

    /// Keeps the boot timeline of a machine (of strangers when `name` is empty).
    pub fn keep_boot_log(&self, api: &Api, name: &str) {
        let text = match api.boot_log(name) {
            Ok(entries) => boot_log_text(&entries),
            Err(error) => format!("the server did not give it: {error:#}\n"),
        };
        let file = if name.is_empty() { "strangers" } else { name };
        let _ = fs::write(self.0.join(format!("{file}-boot-timeline.txt")), text);
    }
}

/// One line an entry, the time since the first one in front.
pub fn boot_log_text(entries: &[proto::v1::BootLogEntry]) -> String {
    let at = |entry: &proto::v1::BootLogEntry| {
        entry
            .at
            .as_ref()
            .map_or(0, |at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000)
    };
    let first = entries.first().map_or(0, at);
    entries
        .iter()
        .map(|entry| {
            let since = at(entry) - first;
            let boot: String = entry.boot.chars().take(8).collect();
            format!(
                "{:>6}.{:03} {boot:<8} {:<5} {:<8} {} -> {} ({} B)\n",
                since / 1000,
                since % 1000,
                entry.stage().word(),
                entry.outcome().word(),
                entry.what,
                entry.detail,
                entry.bytes
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{BootLogEntry, BootStage};

    #[test]
    fn a_timeline_reads_as_text() {
        let at = |seconds, nanos| Some(prost_timestamp(seconds, nanos));
        let entries = [
            BootLogEntry {
                at: at(10, 0),
                stage: BootStage::Dhcp.into(),
                what: "DISCOVER".into(),
                ..Default::default()
            },
            BootLogEntry {
                at: at(12, 45_000_000),
                stage: BootStage::Http.into(),
                bytes: 7,
                ..Default::default()
            },
        ];
        let text = boot_log_text(&entries);
        assert!(text.starts_with("     0.000"), "{text}");
        assert!(text.contains("     2.045") && text.contains("(7 B)"), "{text}");
    }

    fn prost_timestamp(seconds: i64, nanos: i32) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos }
    }
}
