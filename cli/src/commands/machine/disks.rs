//! `farrier machine disks`: from what their agents told last.

use proto::v1::{BlockDevice, GetMachineRequest};
use serde::Serialize;

use super::super::{Asking, last_of};
use crate::failure::Failure;
use crate::output::{self, Rows};
use crate::terminal::say;
use crate::views::inventory::{bytes, on_it};
use crate::views::{Machine, dash, when};

/// A disk of a machine.
#[derive(Serialize)]
struct Disk {
    machine: String,
    #[serde(flatten)]
    disk: BlockDevice,
}

impl Rows for Disk {
    const HEADER: &'static [&'static str] =
        &["MACHINE", "DISK", "SIZE", "TRANSPORT", "MODEL", "SERIAL", "ON IT"];
    const NONE: &'static str = "No disks.";

    fn row(&self) -> Vec<String> {
        let disk = &self.disk;
        let on_it = match disk.health.as_str() {
            "failing" => format!("FAILING: {}; {}", disk.health_warnings, on_it(disk)),
            _ => on_it(disk),
        };
        vec![
            self.machine.clone(),
            disk.name.clone(),
            bytes(disk.size_bytes),
            dash(&disk.transport),
            dash(&disk.model),
            dash(&disk.serial),
            on_it,
        ]
    }
}

/// One table of all; a machine of which nothing is known keeps no other from being shown.
pub(super) async fn disks(names: Vec<String>, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let (mut disks, mut failed) = (Vec::new(), Vec::new());
    for name_or_mac in names {
        let answer = client
            .control
            .get_machine(GetMachineRequest { name_or_mac })
            .await;
        let machine = match client.answer(answer) {
            Ok(machine) => Machine::from(machine),
            Err(failure) => {
                failed.push(failure);
                continue;
            }
        };
        let Some(inventory) = &machine.inventory else {
            failed.push(Failure::Failed(format!(
                "no agent of machine {0} has told what it is made of: netboot it once, as `farrier run {0} exec true` does when it is switched on",
                machine.name
            )));
            continue;
        };
        if asking.output.is_text() {
            let now = if machine.attached {
                ""
            } else {
                ", and no agent is attached now"
            };
            say(format_args!(
                "machine {}: as told {}{now}",
                machine.name,
                when(machine.inventory_at.as_deref())
            ));
        }
        disks.extend(inventory.disks.iter().map(|disk| Disk {
            machine: machine.name.clone(),
            disk: disk.clone(),
        }));
    }
    output::list(asking.out, asking.output, &disks)?;
    last_of(failed)
}
