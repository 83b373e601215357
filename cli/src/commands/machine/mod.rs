//! `farrier machine`.

mod apply;
mod disks;
mod edit;
mod label;
mod listing;
mod look;
mod release;

use std::collections::BTreeSet;
use std::process::ExitCode;

use coordinator::machines::File;
use proto::v1::{self, BootLogRequest, BootMachineDiskRequest, DeleteMachineRequest, GetMachineRequest};
use std::io::Write;
use tonic::{Response, Status, Streaming};

use super::{Asking, given, last_of};
use crate::failure::Failure;
use crate::following::{Control, Following, Source};
use crate::once::{Key, ask_once};
use crate::output;
use crate::terminal::Out;
use crate::views::{self, BootLogEntry, dash};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum MachineCommand {
    /// Create or update machines from YAML files
    #[command(after_help = APPLY_EXAMPLES)]
    Apply {
        #[command(flatten)]
        args: apply::ApplyArgs,
        /// Check everything, write nothing, and say what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Show how files of machines differ from what is stored
    #[command(after_help = "\
Exit codes: 0 they do not differ, 1 they do, 2 and greater: it failed.

Examples:
  farrier machine diff -f machines.yaml
  farrier machine diff -f racks/ || farrier machine apply -f racks/")]
    Diff(apply::ApplyArgs),
    /// Show machines and what they boot next
    #[command(after_help = "\
Examples:
  farrier machine get 52:54:00:77:00:0b
  farrier machine get node1 node2 -o yaml > machines.yaml   what `farrier machine apply -f` takes")]
    Get {
        /// Its name, MAC or address; several are shown one by one
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
    },
    /// Show the disks of machines, and what is on them, as their agents told last
    #[command(after_help = "\
Examples:
  farrier machine disks node1
  farrier machine disks node1 node2 -o json | jq -r '.[] | select(.health == \"failing\") | .machine + \" \" + .serial'")]
    Disks {
        /// Its name, MAC or address; several are shown one by one
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
    },
    /// Show the kernel's log of a machine that runs the agent, also while an action runs
    #[command(after_help = "\
Tokens and passwords of the kernel command line are hidden.

Example:
  farrier machine dmesg node1 --tail 50")]
    Dmesg {
        /// Its name, MAC or address
        machine: String,
        /// The last NUMBER lines only
        #[arg(long, value_name = "NUMBER")]
        tail: Option<usize>,
    },
    /// Show what a person in front of a machine sees that runs the agent, also while an action runs
    #[command(after_help = "\
What the agent draws, 80 columns wide. It is shown as well where the machine has no screen.

Example:
  watch farrier machine screen node1")]
    Screen {
        /// Its name, MAC or address
        machine: String,
    },
    /// Give a machine back: stop what uses its disks, erase them, read back that it was done, and record it
    Release(Box<release::ReleaseArgs>),
    /// List machines
    #[command(after_help = "\
Examples:
  farrier machine list -l 'rack=r7,!gpu'
  farrier machine list --hardware
  farrier machine list --name rack7- --state silent,away
  farrier machine list --sort-by seen --limit 20
  farrier machine list -l 'has(inventory.cpus) && inventory.cpus >= 64'
  farrier machine list -o json | jq -r '.[] | select(.attached) | .name'")]
    List(Box<listing::ListArgs>),
    /// Set labels of machines, or take them away
    #[command(after_help = "\
Examples:
  farrier machine label node1 rack=r7 burnt-in-      sets one, takes another away
  farrier machine label node1 node2 owner=ann
  farrier machine label -l rack=r7 maintenance=yes   all that have this label

What somebody else changes of a record meanwhile stays. A machine whose name ends with - is meant by its MAC.")]
    Label(label::LabelArgs),
    /// Change the record of a machine in your editor
    #[command(after_help = "\
Example:
  EDITOR=nano farrier machine edit node1

The editor is that of VISUAL, else of EDITOR, else vi. Saved, the record is applied; what is wrong with it is said above it in
the editor, which opens again. Left as it is, nothing is. If somebody else has changed the record meanwhile, nothing is written.")]
    Edit {
        /// Its name, MAC or address
        machine: String,
    },
    /// Forget a machine, or several
    #[command(after_help = "\
Examples:
  farrier machine delete node1 node2
  farrier machine delete -f machines.yaml   those that the file has")]
    Delete {
        /// Its name, MAC or address; several are forgotten one by one
        #[arg(
            required_unless_present = "files",
            conflicts_with = "files",
            value_name = "MACHINE"
        )]
        machines: Vec<String>,
        /// Those that a file has, or the *.yaml and *.yml of a folder; more than once; - for standard input
        #[arg(short, long = "file", value_name = "FILE")]
        files: Vec<String>,
        #[command(flatten)]
        key: Key,
    },
    /// Let a machine boot its disk, although a workflow may have left it half written
    #[command(after_help = "\
A disk that a workflow has begun to write and not finished is held: the machine
boots the agent until a workflow has written the whole disk, or you say that it
is good. `farrier machine get` says what holds it.

Example:
  farrier machine boot node1 disk")]
    Boot {
        /// Its name, MAC or address
        machine: String,
        /// What it boots from now on
        #[arg(value_enum)]
        what: BootWhat,
    },
    /// Show how a machine booted: every packet and request, what was answered and why
    #[command(after_help = "\
Examples:
  farrier machine boot-log node1 -f      follow a boot as it happens
  farrier machine boot-log --strangers   who asked and is not known")]
    BootLog {
        /// Its name, MAC or address
        #[arg(required_unless_present_any = ["strangers", "all"], conflicts_with_all = ["strangers", "all"])]
        machine: Option<String>,
        /// Keep printing what comes
        #[arg(short, long)]
        follow: bool,
        /// Machines that are not known
        #[arg(long)]
        strangers: bool,
        /// Every machine, and strangers
        #[arg(long, conflicts_with = "strangers")]
        all: bool,
    },
}

/// What a person may have a machine boot.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum BootWhat {
    /// Its own disk.
    Disk,
}

const APPLY_EXAMPLES: &str = "\
Example, short form:
  machine: node1
  mac: 52:54:00:77:00:0b
  address: 10.77.0.11/24
  gateway: 10.77.0.1
  dns: [10.77.0.1]
  disks: [/dev/vda]
  netboot: local        # while it has no workflow: local (its disk), agent or ignore

Also: namespace, macs, hostname, domain, ntp, lease_time, vlan, bond, labels,
kernel_params, consoles, metadata, user_data, agent_id. Tinkerbell's Hardware
(tinkerbell.org/v1alpha1) is read too, and lists of it, as `kubectl get
hardware -o yaml` prints them. Several documents a file, split by ---; what is
no machine is named and passed over. What `farrier machine get -o yaml` shows is
taken back. A machine of the same name is replaced; one that is stored so already
is unchanged, and nothing is written. Nothing changes when one is refused.

  farrier machine apply -f racks/ -f more.yaml   every *.yaml and *.yml of the folder
  farrier machine apply -f racks/ --dry-run      what would change, line by line";

pub(crate) async fn run(command: MachineCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    match command {
        MachineCommand::Apply { args, dry_run } => apply::apply(args, dry_run, asking).await?,
        MachineCommand::Diff(args) => return apply::diff(args, asking).await,
        MachineCommand::Get { machines } => get(machines, asking).await?,
        MachineCommand::Disks { machines } => disks::disks(machines, asking).await?,
        MachineCommand::Dmesg { machine, tail } => look::kernel_log(machine, tail, asking).await?,
        MachineCommand::Screen { machine } => look::screen(machine, asking).await?,
        MachineCommand::Release(args) => return release::release(*args, asking).await,
        MachineCommand::List(args) => listing::list(*args, asking).await?,
        MachineCommand::Label(args) => label::label(args, asking).await?,
        MachineCommand::Edit { machine } => edit::edit(machine, asking).await?,
        MachineCommand::Delete { machines, files, key } => {
            let machines = match files.is_empty() {
                true => machines,
                false => named_in(&files)?,
            };
            delete(&machines, key, asking).await?;
        }
        MachineCommand::Boot {
            machine,
            what: BootWhat::Disk,
        } => boot_disk(machine, asking).await?,
        MachineCommand::BootLog {
            machine, follow, all, ..
        } => {
            let request = BootLogRequest {
                name_or_mac: machine.unwrap_or_default(),
                follow,
                all,
                ..BootLogRequest::default()
            };
            boot_log(request, asking).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of the machines that files have; all files are checked first.
fn named_in(files: &[String]) -> Result<Vec<String>, Failure> {
    let files = given::read(files)?.into_iter().map(|file| File {
        text: file.text,
        source: file.source,
        ..File::default()
    });
    let files: Vec<File> = files.collect();
    coordinator::machines::names_in(&files).map_err(|wrong| Failure::Failed(wrong.join("\n")))
}

/// One by one; one that there is not keeps none of the others from being shown.
async fn get(names: Vec<String>, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let (mut machines, mut failed) = (Vec::new(), Vec::new());
    let is_one = names.len() == 1;
    let mut seen = BTreeSet::new();
    for name_or_mac in names {
        let answer = client
            .control
            .get_machine(GetMachineRequest { name_or_mac })
            .await;
        match client.answer(answer) {
            // Two words may mean the same one.
            Ok(machine) if !seen.insert(machine.name.clone()) => {}
            Ok(machine) => machines.push(views::Machine::from(machine)),
            Err(failure) => failed.push(failure),
        }
    }
    match (machines.as_slice(), asking.output.is_text()) {
        ([machine], _) if is_one => {
            output::one(asking.out, asking.output, machine, |out| shown(machine, out))?;
        }
        (machines, true) => {
            for (number, machine) in machines.iter().enumerate() {
                if number > 0 {
                    writeln!(asking.out)?;
                }
                shown(machine, asking.out)?;
            }
        }
        (machines, false) => output::values(asking.out, asking.output, machines)?,
    }
    last_of(failed)
}

fn shown(machine: &views::Machine, out: &mut Out) -> Result<(), Failure> {
    let mut line = |what: &str, value: &str| output::field(out, 13, what, value);
    line("Name", &machine.name)?;
    line("Namespace", &machine.namespace)?;
    line("MAC", &machine.macs.join(", "))?;
    line("Address", &dash(&machine.addresses.join(", ")))?;
    let seen = machine
        .last_seen
        .as_deref()
        .map(|seen| format!(", last seen {}", views::when(Some(seen))))
        .unwrap_or_default();
    line("Agent", &format!("{}{seen}", machine.agent()))?;
    if let Some(death) = &machine.last_death {
        let told = views::when(machine.last_death_at.as_deref());
        line("Last death", &format!("{death} (told {told})"))?;
    }
    line(
        "Boots next",
        &match (&machine.boots_next, &machine.boots_next_reason) {
            (Some(next), Some(reason)) => format!("{next} ({reason})"),
            (next, _) => dash(next.as_deref().unwrap_or_default()),
        },
    )?;
    line("Workflow", &dash(machine.workflow.as_deref().unwrap_or_default()))?;
    if let Some(attempt) = &machine.attempt {
        let fence = if machine.attempt_lost {
            " (given up as lost; nothing else runs here before it has provably stopped)"
        } else {
            ""
        };
        line("Attempt", &format!("{attempt}{fence}"))?;
    }
    if let Some(progress) = &machine.progress {
        line("Progress", &format!("{} {}", progress.action, progress.line()))?;
    }
    if machine.queue.len() > 1 {
        line("Queue", &machine.queue.join(", "))?;
    }
    if let Some(inventory) = &machine.inventory {
        let told = views::inventory::fields(inventory, machine.inventory_at.as_deref());
        for (what, value) in told {
            line(what, &value)?;
        }
    }
    for (key, value) in &machine.labels {
        line("Label", &format!("{key}={value}"))?;
    }
    writeln!(out, "\n{}", machine.document.0.trim_end())?;
    Ok(())
}

/// One by one; one that cannot be forgotten keeps none of the others from it.
async fn delete(machines: &[String], key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    key.check_for(machines.len())?;
    let client = asking.connect().await?;
    let mut failed = Vec::new();
    for machine in machines {
        let request = DeleteMachineRequest {
            name_or_mac: machine.clone(),
            idempotency_key: key.clone().text(),
        };
        match ask_once!(client, delete_machine(request)) {
            Ok(_) => output::deleted(asking.out, asking.output, "machine", machine)?,
            Err(failure) => failed.push(failure),
        }
    }
    last_of(failed)
}

async fn boot_disk(name_or_mac: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let request = BootMachineDiskRequest { name_or_mac };
    let answer = client.control.boot_machine_disk(request).await;
    let machine = views::Machine::from(client.answer(answer)?);
    output::one(asking.out, asking.output, &machine, |out| {
        let next = machine.boots_next.as_deref().unwrap_or("-");
        let why = machine.boots_next_reason.as_deref().unwrap_or("-");
        writeln!(out, "machine {} boots {next} next ({why})", machine.name)?;
        Ok(())
    })
}

/// Of the timeline, from the last number of each ring on.
struct Entries(BootLogRequest);

impl Source for Entries {
    type Item = v1::BootLogEntry;

    async fn open(&self, mut control: Control) -> Result<Response<Streaming<Self::Item>>, Status> {
        control.boot_log(self.0.clone()).await
    }

    fn take(&mut self, entry: &Self::Item) -> bool {
        self.0.after.insert(entry.ring.clone(), entry.number);
        true
    }

    fn is_followed(&self) -> bool {
        self.0.follow
    }
}

async fn boot_log(request: BootLogRequest, asking: Asking<'_>) -> Result<(), Failure> {
    let mixed = request.all || request.name_or_mac.is_empty();
    let client = asking.connect().await?;
    let mut entries = Following::new(&client, None).stream(Entries(request));
    while let Some(entry) = entries.next().await? {
        let entry = BootLogEntry::from(entry);
        output::streamed(asking.out, asking.output, &entry, || entry.line(mixed))?;
    }
    Ok(())
}
