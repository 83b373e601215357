//! What an attempt is given to work with beside its environment: `/workflow`, its input, and a place for its outputs.
//!
//! They lie on a small tmpfs of the attempt's own, which goes with it: an action that fills it harms nobody else,
//! and nothing in it is a link to somewhere else.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ephemeral::{Changes, Manifest};
use proto::v1;

use super::target::{Mounted, blocking};
use super::{Failure, Feed, Halt, Place, output};
use crate::data::tree::{self, Tree};
use crate::data::{DataError, DataServer, SecondName, transfer};

/// Room for the data, the input, the outputs and what is written beside them on the way.
const TMPFS: &str = "mode=0755,size=32m,nr_inodes=8k";
/// Contents that travel in the report.
const MAX_INLINE_BYTES: u64 = 256 << 10;
/// Where an action finds the ephemeral data, and the folder of its input and output files, in a root of its own.
pub(super) const WORKFLOW: &str = "/workflow";
pub(super) const RUN: &str = "/run/farrier";
const OUTPUT: &str = "output";
const METADATA: &str = "metadata.json";
const INPUT: &str = "input";

/// What an action that ended well gives.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Gives {
    /// Empty: none.
    pub(super) outputs_json: String,
    pub(super) data_changes: Option<v1::DataChanges>,
}

pub(super) struct Scratch {
    mounted: Mounted,
    attempt_id: String,
    version: u64,
    given: Manifest,
    /// The one that lies in the folder.
    second_name: Option<SecondName>,
    server: DataServer,
}

impl Scratch {
    /// Makes it, with the ephemeral data and the input in it that the attempt is given.
    ///
    /// # Errors
    /// `MountFailed`, `DataRefused`, `DataDamaged`, `DataBadName`; `Stopped` when that was asked for meanwhile.
    pub(super) async fn make(run: &v1::RunAction, place: &Place, halt: &Halt) -> Result<Scratch, Failure> {
        let second_name = SecondName::of(&run.workflow_id)?;
        let given = match run.data_version {
            0 => Tree::default(),
            version => {
                tokio::select! {
                    tree = place.data.get(&run.attempt_id, version) => tree?,
                    () = halt.asked() => return Err(Failure::stopped()),
                }
            }
        };
        let manifest = given.manifest();
        let mounts = place.mounts.clone();
        let metadata = metadata(run);
        let input = run.input_json.clone();
        let (mounted, second_name) = blocking(move || {
            let mounted = Mounted::mount_with(&mounts, Path::new("tmpfs"), "tmpfs", Some(TMPFS))?;
            let workflow = mounted.path().join("workflow");
            let made = ["workflow", "run"]
                .iter()
                .try_for_each(|name| std::fs::create_dir(mounted.path().join(name)))
                .and_then(|()| given.write(&workflow))
                .and_then(|()| match &second_name {
                    Some(own) => own.make(&workflow, &given),
                    None => Ok(false),
                })
                .and_then(|is_there| {
                    std::fs::write(mounted.path().join("run").join(METADATA), metadata).map(|()| is_there)
                });
            let is_there =
                made.map_err(|e| Failure::new("MountFailed", format!("/workflow cannot be filled: {e}")))?;
            if !input.is_empty() {
                write_input(&mounted.path().join("run").join(INPUT), &input)
                    .map_err(|e| Failure::new("MountFailed", format!("the input cannot be written: {e}")))?;
            }
            Ok((mounted, second_name.filter(|_| is_there)))
        })
        .await?;
        Ok(Scratch {
            mounted,
            attempt_id: run.attempt_id.clone(),
            version: run.data_version,
            given: manifest,
            second_name,
            server: place.data.clone(),
        })
    }

    /// What the action sees as `/workflow`.
    pub(super) fn workflow(&self) -> PathBuf {
        self.mounted.path().join("workflow")
    }

    /// What the action sees as `/run/farrier`.
    pub(super) fn run(&self) -> PathBuf {
        self.mounted.path().join("run")
    }

    /// Takes what an action that succeeded leaves.
    ///
    /// # Errors
    /// `BadOutput`; `DataTooLarge`, `DataNotRegular`, `DataBadName`: the data stay as they were;
    /// `Stopped` when that was asked for before large contents were stored.
    pub(super) async fn take(self, halt: &Halt) -> Result<Gives, Failure> {
        let Scratch {
            mounted,
            attempt_id,
            version,
            given,
            second_name,
            server,
        } = self;
        let (outputs, left) = blocking(move || {
            let outputs = output::outputs(&mounted.path().join("run"), OUTPUT)?;
            let left = Tree::read(&mounted.path().join("workflow"), second_name.as_ref())?;
            mounted.unmount()?;
            Ok((outputs, left))
        })
        .await?;
        let changes = given.changes_to(&left.manifest());
        let data_changes = if changes.is_empty() {
            None
        } else {
            let (message, large) = split(version, &changes, left);
            if !large.files.is_empty() {
                tokio::select! {
                    put = server.put(&attempt_id, &large.files) => put?,
                    () = halt.asked() => return Err(Failure::stopped()),
                }
            }
            Some(message)
        };
        Ok(Gives {
            outputs_json: outputs.unwrap_or_default(),
            data_changes,
        })
    }

    /// The failure, in the words of the action where it left some, and with a hint where `/workflow` was full.
    pub(super) async fn explain(self, failure: Failure) -> Failure {
        let explained = blocking(move || {
            let mut failure = output::explained(failure, &self.run(), OUTPUT);
            if let Some(excess) = tree::excess(&self.workflow(), self.second_name.as_ref()) {
                failure.message = format!("{}; note: {excess}", failure.message);
            }
            Ok(failure)
        });
        explained.await.unwrap_or_else(|failure| failure)
    }
}

/// What an action can read of what it is part of.
fn metadata(run: &v1::RunAction) -> String {
    let labels: BTreeMap<&String, &String> = run.labels.iter().collect();
    let metadata = serde_json::json!({
        "workflow": {"id": run.workflow_id, "name": run.workflow_name, "namespace": run.namespace, "labels": labels},
        "task": run.task,
        "action": run.action,
        "attempt": run.attempt_id,
    });
    format!("{metadata}\n")
}

/// What names all of it to the action, which sees [`Scratch::workflow`] and [`Scratch::run`] there.
pub(super) fn variables(action: &v1::RunAction, workflow: &Path, run: &Path) -> Vec<(String, String)> {
    let mut named = vec![
        ("FARRIER_WORKFLOW_DIR", workflow.to_owned()),
        ("FARRIER_METADATA", run.join(METADATA)),
    ];
    // One after which the machine reboots gives nothing.
    named.extend((!action.reboots).then(|| ("FARRIER_OUTPUT", run.join(OUTPUT))));
    named.extend((!action.input_json.is_empty()).then(|| ("FARRIER_INPUT", run.join(INPUT))));
    named
        .into_iter()
        .map(|(name, path)| (name.to_owned(), path.display().to_string()))
        .collect()
}

/// The workflow's labels in one line, in order of their keys: `owner=ann,rack=r7`. None has a comma, a space or a quote.
pub(super) fn labels(run: &v1::RunAction) -> String {
    let mut labels: Vec<String> = run
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.sort();
    labels.join(",")
}

/// Values of secrets may stand in it: it is for whoever runs the action.
fn write_input(path: &Path, json: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(json.as_bytes())
}

/// What goes into the report, and what has to be stored before: small files first into the report.
fn split(base_version: u64, changes: &Changes, left: Tree) -> (v1::DataChanges, Tree) {
    let mut contents = left.files;
    let mut by_size: Vec<_> = changes.put.iter().collect();
    by_size.sort_by_key(|(_, file)| file.size_bytes);
    let mut message = v1::DataChanges {
        base_version,
        put: Vec::new(),
        deleted: changes.deleted.iter().map(ToString::to_string).collect(),
    };
    let mut large = Tree::default();
    let mut inline_bytes = 0;
    for (path, file) in by_size {
        let Some(content) = contents.remove(path) else {
            continue;
        };
        let mut named = transfer::named(path, file);
        inline_bytes += file.size_bytes;
        if inline_bytes <= MAX_INLINE_BYTES {
            named.content = content.bytes;
        } else {
            large.files.insert(path.clone(), content);
        }
        message.put.push(named);
    }
    message.put.sort_by(|a, b| a.path.cmp(&b.path));
    (message, large)
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Failure {
        Failure::new(error.reason, error.message)
    }
}

/// Says where there is nothing to give.
pub(super) async fn none(feed: &Feed, why: &str) {
    feed.line(format!("farrier: no /workflow and no $FARRIER_OUTPUT: {why}"))
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tree::Content;

    #[test]
    fn small_files_go_into_the_report_and_large_ones_before_it() {
        let sizes = [
            ("a", MAX_INLINE_BYTES as usize),
            ("b", 0),
            ("c", 10),
            ("same", 10),
        ];
        let left = Tree {
            files: sizes
                .iter()
                .map(|(path, size)| (path.parse().expect("path"), Content::new(vec![1; *size], false)))
                .collect(),
        };
        let given = Manifest::of([
            (
                "same".parse().expect("path"),
                Content::new(vec![1; 10], false).file,
            ),
            ("gone".parse().expect("path"), Content::new(vec![], false).file),
        ]);
        let changes = given.changes_to(&left.manifest());
        let (message, large) = split(7, &changes, left);
        assert_eq!(
            (message.base_version, message.deleted),
            (7, vec!["gone".to_owned()])
        );
        let put: Vec<(&str, u64, usize)> = message
            .put
            .iter()
            .map(|file| (file.path.as_str(), file.size_bytes, file.content.len()))
            .collect();
        assert_eq!(put, [("a", MAX_INLINE_BYTES, 0), ("b", 0, 0), ("c", 10, 10)]);
        assert_eq!(
            large.files.keys().map(ToString::to_string).collect::<Vec<_>>(),
            ["a"]
        );
    }
}
