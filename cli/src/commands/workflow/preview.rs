//! `farrier workflow create --dry-run`: what a workflow would do to which disk.

use std::io::Write;

use proto::v1::{BlockDevice, CreateWorkflowRequest, DiskWrite, PreviewWorkflowResponse};
use serde::Serialize;

use super::super::{Asking, warn};
use crate::failure::Failure;
use crate::output;
use crate::terminal::Out;
use crate::views::inventory::{bytes, on_it, partition_in_words};
use crate::views::{time, when};

#[derive(Serialize)]
struct Preview {
    name: String,
    writes: Vec<PlannedWrite>,
}

/// An action that may write a disk.
#[derive(Serialize)]
struct PlannedWrite {
    task: String,
    action: String,
    machine: String,
    disk: String,
    effect: String,
    provided: String,
    device: Option<BlockDevice>,
    partition: u32,
    unknown: String,
    told_at: Option<String>,
}

impl From<DiskWrite> for PlannedWrite {
    fn from(write: DiskWrite) -> Self {
        PlannedWrite {
            task: write.task,
            action: write.action,
            machine: write.machine,
            disk: write.disk,
            effect: write.effect,
            provided: write.provided,
            device: write.device,
            partition: write.partition,
            unknown: write.unknown,
            told_at: time(write.told_at),
        }
    }
}

/// Asks what it would do; nothing is made.
pub(super) async fn preview(request: CreateWorkflowRequest, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.preview_workflow(request).await;
    let PreviewWorkflowResponse {
        name,
        warnings,
        writes,
    } = client.answer(answer)?;
    warn(&warnings);
    let preview = Preview {
        name,
        writes: writes.into_iter().map(PlannedWrite::from).collect(),
    };
    output::one(asking.out, asking.output, &preview, |out| shown(&preview, out))
}

fn shown(preview: &Preview, out: &mut Out) -> Result<(), Failure> {
    if preview.writes.is_empty() {
        writeln!(
            out,
            "workflow {} would write no disk; nothing was made",
            preview.name
        )?;
        return Ok(());
    }
    writeln!(out, "workflow {} would do this; nothing was made", preview.name)?;
    for write in &preview.writes {
        for line in lines(write) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

/// What is done, to which disk, and what is on that now.
fn lines(write: &PlannedWrite) -> Vec<String> {
    let mut place = write.task.clone();
    for (before, text) in [
        (" / ", &write.action),
        (" on ", &write.machine),
        (": ", &write.disk),
    ] {
        if !text.is_empty() {
            place.push_str(before);
            place.push_str(text);
        }
    }
    let mut lines = vec![String::new(), place, format!("  {}", write.effect)];
    if !write.provided.is_empty() {
        lines.push(format!("  done only: {}", write.provided));
    }
    match &write.device {
        None => lines.push(format!("  not known: {}", write.unknown)),
        Some(device) => {
            let facts = [
                device.name.clone(),
                bytes(device.size_bytes),
                device.transport.clone(),
                device.model.clone(),
                match device.serial.as_str() {
                    "" => "no serial number".to_owned(),
                    serial => format!("serial {serial}"),
                },
            ];
            let facts: Vec<&str> = facts
                .iter()
                .map(String::as_str)
                .filter(|fact| !fact.is_empty())
                .collect();
            lines.push(format!("  disk: {}", facts.join(", ")));
            let now = match write.partition {
                0 => on_it(device),
                number => partition_in_words(device, number),
            };
            lines.push(format!(
                "  on it now: {now} (told {})",
                when(write.told_at.as_deref())
            ));
        }
    }
    lines
}
