//! `farrier machine dmesg` and `screen`: what its agent sees there now.

use std::io::Write;

use proto::v1::{LookAtMachineRequest, LookAtMachineResponse, Sight};
use serde::Serialize;

use super::super::Asking;
use crate::failure::Failure;
use crate::output;
use crate::terminal::{safe_line, say};
use crate::views;

/// What was seen.
#[derive(Serialize)]
struct Look {
    name: String,
    at: Option<String>,
    lines: Vec<String>,
    /// There were more before them.
    is_cut: bool,
}

impl From<LookAtMachineResponse> for Look {
    fn from(answer: LookAtMachineResponse) -> Self {
        Look {
            name: answer.machine,
            at: views::time(answer.at),
            lines: answer.text.lines().map(str::to_owned).collect(),
            is_cut: answer.is_cut,
        }
    }
}

/// The kernel's log, or its last lines.
pub(super) async fn kernel_log(
    machine: String,
    tail: Option<usize>,
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let mut look = look(machine, Sight::KernelLog, &asking).await?;
    if let Some(tail) = tail {
        let before = look.lines.len().saturating_sub(tail);
        look.lines.drain(..before);
        look.is_cut |= before > 0;
    } else if look.is_cut && asking.output.is_text() {
        say("the log is longer than 1 MiB: the newest of it follows");
    }
    shown(&look, asking)
}

/// What is on its screen.
pub(super) async fn screen(machine: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut look = look(machine, Sight::Screen, &asking).await?;
    for line in &mut look.lines {
        line.truncate(line.trim_end().len());
    }
    while look.lines.last().is_some_and(String::is_empty) {
        look.lines.pop();
    }
    shown(&look, asking)
}

async fn look(name_or_mac: String, sight: Sight, asking: &Asking<'_>) -> Result<Look, Failure> {
    let mut client = asking.connect().await?;
    let request = LookAtMachineRequest {
        name_or_mac,
        sight: sight.into(),
    };
    let answer = client.control.look_at_machine(request).await;
    Ok(Look::from(client.answer(answer)?))
}

fn shown(look: &Look, asking: Asking<'_>) -> Result<(), Failure> {
    output::one(asking.out, asking.output, look, |out| {
        for line in &look.lines {
            writeln!(out, "{}", safe_line(line))?;
        }
        Ok(())
    })
}
