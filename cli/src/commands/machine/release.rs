//! `farrier machine release`: a machine is given back. Its disks are erased, whatever uses them, and the erasure is recorded.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use proto::v1::{BlockDevice, CreateWorkflowRequest, GetMachineRequest, Machine};
use serde_json::{Value, json};

use super::super::workflow::run::{carried_out, seconds, written_out};
use super::super::{Asking, labels};
use crate::duration::duration;
use crate::failure::Failure;
use crate::following::Following;
use crate::output::laid_out;
use crate::terminal::{safe_line, say};
use crate::views::bytes;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every disk that is built in is erased: mounts, arrays, volumes and encryption on it are stopped first. What was done is read back, and
stands in the workflow's outputs: disk, serial number, method, standard. With UEFI, entries of the firmware's boot menu that start something
from a disk go too. After it the machine boots the agent. Disks that can be unplugged (removable) are left.

Examples:
  farrier machine release node1
  farrier machine release node1 --yes --method overwrite --timeout 24h
  farrier machine release node1 --yes -o json | jq .outputs.disks     as a record

Exit code 0 for SUCCESS only. Interrupting it (Ctrl-C) leaves it running: `farrier workflow cancel ID` stops it.")]
pub(crate) struct ReleaseArgs {
    /// Its name, MAC or address
    machine: String,
    /// By which method: auto takes the best that each disk has; see `wipe` in the reference of templates
    #[arg(long, default_value = "auto", value_name = "METHOD")]
    method: String,
    /// How long each disk may take, such as 90m or 24h; 0: as long as it takes
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "12h")]
    timeout: Duration,
    /// A label to find its workflow by; may be given more than once
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Print its id and do not wait
    #[arg(short, long)]
    detach: bool,
}

pub(super) async fn release(args: ReleaseArgs, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let client = asking.connect().await?;
    let mut asks = Following::new(&client, None);
    let answer = asks.ask(|mut control| {
        let name_or_mac = args.machine.clone();
        async move { control.get_machine(GetMachineRequest { name_or_mac }).await }
    });
    let machine = answer.await?;
    let disks = of(&machine)?;
    let request = CreateWorkflowRequest {
        text: definition(&machine, &disks, &args.method, args.timeout)?,
        name: format!("release {}", machine.name),
        namespace: machine.namespace.clone(),
        labels: labels(&args.labels)?.into_iter().collect(),
        ..CreateWorkflowRequest::default()
    };
    if !args.yes {
        asked(&machine, &disks)?;
    }
    carried_out(request, "release", &machine, args.detach, &client, asking).await
}

/// The disks that are erased.
fn of(machine: &Machine) -> Result<Vec<&BlockDevice>, Failure> {
    let Some(inventory) = &machine.inventory else {
        return Err(Failure::Failed(format!(
            "no agent of machine {} has told of its disks yet: switch it on, and it netboots the agent",
            machine.name
        )));
    };
    let (left, disks): (Vec<&BlockDevice>, Vec<&BlockDevice>) =
        inventory.disks.iter().partition(|disk| disk.removable);
    if !left.is_empty() {
        let names: Vec<&str> = left.iter().map(|disk| disk.name.as_str()).collect();
        say(format_args!(
            "left, as they can be unplugged: {}",
            safe_line(&names.join(", "))
        ));
    }
    match disks.is_empty() {
        true => Err(Failure::Failed(format!(
            "machine {} has no disk that is built in",
            machine.name
        ))),
        false => Ok(disks),
    }
}

/// Asks the person, who types the machine's name.
fn asked(machine: &Machine, disks: &[&BlockDevice]) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(
            "nobody can be asked here, and all that is on the disks is lost: say --yes".into(),
        ));
    }
    say(format_args!(
        "machine {} loses all that is on these disks:\n",
        machine.name
    ));
    let rows = disks.iter().map(|disk| {
        vec![
            disk.name.clone(),
            bytes(disk.size_bytes),
            disk.serial.clone(),
            disk.model.clone(),
        ]
    });
    for line in laid_out(&["DISK", "SIZE", "SERIAL", "MODEL"], rows) {
        say(format_args!("{line}"));
    }
    say("\nType the machine's name to erase them:");
    let mut typed = String::new();
    stdin.lock().read_line(&mut typed)?;
    match typed.trim() == machine.name {
        true => Ok(()),
        false => Err(Failure::Failed("that is not its name: nothing was done".into())),
    }
}

/// A task for each disk, so that each says in its outputs how it was erased.
fn definition(
    machine: &Machine,
    disks: &[&BlockDevice],
    method: &str,
    timeout: Duration,
) -> Result<String, Failure> {
    let Some(worker) = machine.macs.first() else {
        return Err(Failure::Failed(format!("machine {} has no MAC", machine.name)));
    };
    let mut tasks: Vec<String> = disks
        .iter()
        .enumerate()
        .map(|(number, disk)| {
            let wipe = json!({
                "name": "wipe",
                "image": "wipe",
                "timeout": seconds(timeout),
                "input": {"dest_disk": meant(disk, disks), "method": method, "stop_users": true},
            });
            // What looks like an expression there is none.
            written_out(
                &task(&format!("disk{}", number + 1), worker, wipe).to_string(),
                true,
            )
        })
        .collect();
    let outputs: Vec<String> = (1..=disks.len())
        .map(|number| format!("tasks.disk{number}.outputs"))
        .collect();
    let mut outputs = json!({"disks": format!("[{}]", outputs.join(", "))});
    let is_uefi = machine
        .inventory
        .as_ref()
        .is_some_and(|inventory| inventory.firmware == "uefi");
    if is_uefi && let Some(outputs) = outputs.as_object_mut() {
        let entries = json!({"name": "entries", "image": "bootentry", "timeout": BOOT_ENTRIES_S});
        let remove = json!({
            "name": "remove",
            "image": "bootentry",
            "timeout": BOOT_ENTRIES_S,
            "input": {"remove": OF_DISKS},
        });
        tasks.push(task("entries", worker, entries).to_string());
        tasks.push(task("boot", worker, remove).to_string());
        outputs.insert("boot_entries_removed".into(), "tasks.boot.outputs.removed".into());
    }
    Ok(format!(
        r#"{{"version":"1","name":"release","boots":"agent","tasks":[{}],"outputs":{outputs}}}"#,
        tasks.join(",")
    ))
}

/// The firmware's variables are read and written in seconds.
const BOOT_ENTRIES_S: u64 = 120;
/// Labels of entries that start something from a disk: the nodes of their path begin with the partition's.
const OF_DISKS: &str = "${{ tasks.entries.outputs.entries.filter(entry, entry.path.startsWith('HD(')).map(entry, entry.label) }}";

fn task(name: &str, worker: &str, action: Value) -> Value {
    json!({"name": name, "worker": worker, "actions": [action]})
}

/// What says which disk it is, also when the kernel names them in another order after a boot.
fn meant(disk: &BlockDevice, all: &[&BlockDevice]) -> String {
    let is_plain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let is_only = |of: fn(&BlockDevice) -> &str| {
        let same = |other: &&&BlockDevice| of(other).eq_ignore_ascii_case(of(disk));
        is_plain(of(disk)) && all.iter().filter(same).count() == 1
    };
    if is_only(|disk| &disk.serial) {
        return format!("serial={}", disk.serial);
    }
    if is_only(|disk| &disk.wwn) {
        return format!("wwn={}", disk.wwn);
    }
    disk.name.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, serial: &str, wwn: &str) -> BlockDevice {
        BlockDevice {
            name: name.into(),
            serial: serial.into(),
            wwn: wwn.into(),
            ..BlockDevice::default()
        }
    }

    #[test]
    fn a_disk_is_meant_by_what_no_other_one_has() {
        let disks = [
            disk("/dev/sda", "A1", "0x5001"),
            disk("/dev/sdb", "B,2", "0x5002"),
            disk("/dev/sdc", "c3", "0x5003"),
            disk("/dev/sdd", "C3", "0x5003"),
            disk("/dev/sde", "", ""),
        ];
        let all: Vec<&BlockDevice> = disks.iter().collect();
        let said: Vec<String> = all.iter().map(|disk| meant(disk, &all)).collect();
        assert_eq!(
            said,
            ["serial=A1", "wwn=0x5002", "/dev/sdc", "/dev/sdd", "/dev/sde"]
        );
    }

    #[test]
    fn each_disk_has_a_task_and_its_outputs_are_the_workflows() {
        let machine = Machine {
            macs: vec!["52:54:00:77:00:0b".into()],
            ..Machine::default()
        };
        let disks = [disk("/dev/vda", "a1", ""), disk("/dev/vdb", "{{", "")];
        let all: Vec<&BlockDevice> = disks.iter().collect();
        let text = definition(&machine, &all, "auto", Duration::from_secs(60)).unwrap();
        assert_eq!(
            text,
            r#"{"version":"1","name":"release","boots":"agent","tasks":[{"name":"disk1","worker":"52:54:00:77:00:0b","actions":[{"name":"wipe","image":"wipe","timeout":60,"input":{"dest_disk":"serial=a1","method":"auto","stop_users":true}}]},{"name":"disk2","worker":"52:54:00:77:00:0b","actions":[{"name":"wipe","image":"wipe","timeout":60,"input":{"dest_disk":"/dev/vdb","method":"auto","stop_users":true}}]}],"outputs":{"disks":"[tasks.disk1.outputs, tasks.disk2.outputs]"}}"#
        );
    }
}
