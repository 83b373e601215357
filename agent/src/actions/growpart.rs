//! `growpart`: a partition is grown up to the end of its disk or to the next one, and the filesystem in it with it.
//!
//! One that is as large as it can be is left alone, so that the action may be run again at any time.

use disk::growpart::{self, Filesystem, Grown, GrowpartRequest};
use serde::Serialize;

use super::environment::Environment;
use super::target::{self, blocking};
use super::{Done, Failure, Feed, Halt};

pub(super) const VARIABLES: [&str; 3] = ["DEST_DISK", "PARTITION", "PARTITION_ONLY"];

/// What later actions find in the task's outputs.
#[derive(Serialize)]
struct Outputs {
    disk: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    partition: u32,
    size_bytes: u64,
    added_bytes: u64,
    /// Of the filesystem now; left out where there is none that was to grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    filesystem_bytes: Option<u64>,
    /// Whether anything was written.
    changed: bool,
}

pub(super) async fn run(env: &Environment<'_>, feed: &Feed, halt: &Halt) -> Result<Done, Failure> {
    let hint = env.required("DEST_DISK")?;
    let number = growpart::partition_number(env.optional("PARTITION")).map_err(Failure::bad_variables)?;
    let device = target::resolve(hint).await?;
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    let request = GrowpartRequest {
        device,
        number,
        partition_only: env.is_on("PARTITION_ONLY"),
        touched: feed.touched(),
    };
    let grown =
        blocking(move || growpart::growpart(&request).map_err(|e| Failure::new(e.reason(), e.to_string())))
            .await?;
    let message = message(&grown);
    feed.line(message.as_str()).await;
    let filesystem_bytes = match &grown.filesystem {
        Filesystem::Filling(resized) => Some(resized.after_bytes),
        Filesystem::Left(why) => {
            feed.line(format!("note: no filesystem was grown: {why}")).await;
            None
        }
    };
    let outputs = Outputs {
        disk: grown.disk.display().to_string(),
        path: grown.path.as_ref().map(|path| path.display().to_string()),
        partition: grown.number,
        size_bytes: grown.size_bytes,
        added_bytes: grown.added_bytes,
        filesystem_bytes,
        changed: grown.changed,
    };
    Done::with_outputs(message, &outputs)
}

fn message(grown: &Grown) -> String {
    let (disk, number, size) = (grown.disk.display(), grown.number, grown.size_bytes);
    match (&grown.filesystem, grown.changed) {
        (_, false) => {
            format!(
                "partition {number} of {disk} is as large as it can be already, {size} B: nothing was written"
            )
        }
        (Filesystem::Filling(resized), true) => format!(
            "partition {number} of {disk} has {size} B now, {} B more, and its filesystem {} B",
            grown.added_bytes, resized.after_bytes
        ),
        (Filesystem::Left(_), true) => format!(
            "partition {number} of {disk} has {size} B now, {} B more",
            grown.added_bytes
        ),
    }
}
