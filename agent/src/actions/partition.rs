//! `partition`: the partition table that a template declares, onto a disk that has another one or none.
//!
//! A disk that has it already is not written to, so that the action may be run again at any time.

use std::collections::BTreeMap;
use std::path::Path;

use disk::partition::{self, Layout, PartitionRequest, Partitioned};
use disk::probe::{self, Include, System};
use disk::publish::KernelView;
use proto::v1;
use serde::Serialize;

use super::environment::Environment;
use super::target::{self, blocking};
use super::{Done, Failure, Feed, Halt};

pub(super) const VARIABLES: [&str; 5] = ["DEST_DISK", "ONLY_EMPTY", "PARTITIONS", "STOP_USERS", "TABLE"];

/// What later actions find in the task's outputs.
#[derive(Serialize)]
struct Outputs<'a> {
    disk: String,
    table: &'static str,
    table_uuid: &'a str,
    /// Whether anything was written.
    changed: bool,
    /// In /dev, by the name of the partition.
    paths: BTreeMap<&'a str, String>,
    partitions: Vec<Partition<'a>>,
    /// What was on the disk: the kind as blkid calls it, and where.
    removed: Vec<Removed>,
}

#[derive(Serialize)]
struct Partition<'a> {
    number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    start_bytes: u64,
    size_bytes: u64,
    uuid: &'a str,
}

#[derive(Serialize)]
struct Removed {
    kind: &'static str,
    at_byte: u64,
}

pub(super) async fn run(
    action: &v1::RunAction,
    env: &Environment<'_>,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let hint = env.required("DEST_DISK")?;
    let layout = layout(env)?;
    let table = layout.scheme.name();
    let path = target::resolve(hint).await?;
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    let seed = [
        action.workflow_id.as_str(),
        action.task.as_str(),
        action.action.as_str(),
    ]
    .join("\0");
    let only_empty = env.is_on("ONLY_EMPTY");
    let touched = feed.touched();
    let disk = path.clone();
    let done = blocking(move || {
        let seed = format!("{seed}\0{}", identity(&disk));
        let request = PartitionRequest {
            disk,
            layout,
            seed,
            only_empty,
            touched,
        };
        partition::partition(&request).map_err(|e| Failure::new(e.reason(), e.to_string()))
    })
    .await?;
    say(&done, feed).await;
    let message = match done.changed {
        true => format!(
            "{} has a new {table} table with {} now",
            path.display(),
            count(&done)
        ),
        false => format!(
            "{} has this {table} table with {} already: nothing was written",
            path.display(),
            count(&done)
        ),
    };
    feed.line(message.as_str()).await;
    Done::with_outputs(message, &outputs(&path, table, &done))
}

fn layout(env: &Environment<'_>) -> Result<Layout, Failure> {
    let partitions = env.required("PARTITIONS")?;
    Layout::parse(env.optional("TABLE"), partitions).map_err(Failure::bad_variables)
}

/// What tells this disk from those of other machines, as far as it says so.
fn identity(path: &Path) -> String {
    let disks = probe::list(&System::default(), Include::Everything).unwrap_or_default();
    let disk = disks.into_iter().find(|disk| disk.path == path);
    let identity = disk.and_then(|disk| disk.wwn.or(disk.serial));
    identity.unwrap_or_default()
}

fn count(done: &Partitioned) -> String {
    match done.partitions.len() {
        1 => "1 partition".to_owned(),
        many => format!("{many} partitions"),
    }
}

async fn say(done: &Partitioned, feed: &Feed) {
    target::say_removed(&done.removed, feed).await;
    for one in &done.partitions {
        let name = one.name.as_ref().map(|name| format!(" ({name})"));
        let at = match &one.path {
            Some(path) => path.display().to_string(),
            None => "the kernel shows no partitions of this disk".to_owned(),
        };
        feed.line(format!(
            "partition {}{}: {} B from byte {}, PARTUUID {}, {at}",
            one.number,
            name.unwrap_or_default(),
            one.size_bytes,
            one.start_bytes,
            one.uuid,
        ))
        .await;
    }
    if done.kernel == KernelView::Never {
        feed.line("note: no path is among the outputs, as the kernel shows no partitions of this disk")
            .await;
    }
}

fn outputs<'a>(path: &Path, table: &'static str, done: &'a Partitioned) -> Outputs<'a> {
    let shown = |path: &Path| path.display().to_string();
    Outputs {
        disk: shown(path),
        table,
        table_uuid: &done.table_uuid,
        changed: done.changed,
        paths: done
            .partitions
            .iter()
            .filter_map(|one| Some((one.name.as_deref()?, shown(one.path.as_deref()?))))
            .collect(),
        partitions: done
            .partitions
            .iter()
            .map(|one| Partition {
                number: one.number,
                name: one.name.as_deref(),
                path: one.path.as_deref().map(shown),
                start_bytes: one.start_bytes,
                size_bytes: one.size_bytes,
                uuid: &one.uuid,
            })
            .collect(),
        removed: done
            .removed
            .iter()
            .map(|one| Removed {
                kind: one.kind,
                at_byte: one.at,
            })
            .collect(),
    }
}
