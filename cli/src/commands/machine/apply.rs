//! `farrier machine apply` and `farrier machine diff`.

use std::io::Write;
use std::process::ExitCode;

use proto::v1::{ApplyMachinesRequest, ApplyMachinesResponse, MachineChange, MachineFile};
use serde::Serialize;

use super::super::{Asking, difference, given, warn};
use crate::failure::Failure;
use crate::output;

/// What an application came to, or would.
#[derive(Debug, Serialize)]
struct Applied {
    created: Vec<String>,
    updated: Vec<String>,
    unchanged: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Change>>,
}

#[derive(Debug, Serialize)]
struct Change {
    name: String,
    namespace: String,
    change: String,
    /// As diff(1) says it with -u; empty: none.
    diff: String,
}

impl From<MachineChange> for Change {
    fn from(change: MachineChange) -> Self {
        let names = (
            format!("{} (stored)", change.name),
            format!("{} (given)", change.name),
        );
        Self {
            diff: difference::unified(&change.before_yaml, &change.after_yaml, (&names.0, &names.1)),
            name: change.name,
            namespace: change.namespace,
            change: change.change,
        }
    }
}

/// What is applied, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// A file, or a folder: its *.yaml and *.yml, by name; more than once, applied together; - for standard input
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Refuse a file in which something is no machine, instead of passing that over
    #[arg(long)]
    strict: bool,
}

pub(super) async fn apply(args: ApplyArgs, dry_run: bool, asking: Asking<'_>) -> Result<(), Failure> {
    let answer = asked(&args, dry_run, &asking).await?;
    let applied = Applied {
        created: answer.created,
        updated: answer.updated,
        unchanged: answer.unchanged,
        dry_run,
        changes: dry_run.then(|| answer.changes.into_iter().map(Change::from).collect()),
    };
    output::one(asking.out, asking.output, &applied, |out| {
        if let Some(changes) = &applied.changes {
            for change in changes {
                writeln!(out, "machine {} {} (dry run)", change.name, change.change)?;
                difference::print(out, &change.diff)?;
            }
            return Ok(());
        }
        for (what, names) in [
            ("created", &applied.created),
            ("updated", &applied.updated),
            ("unchanged", &applied.unchanged),
        ] {
            for name in names {
                writeln!(out, "machine {name} {what}")?;
            }
        }
        Ok(())
    })
}

/// Exit code 0: nothing would change; 1: something would; greater: it is not known, as diff(1) has it.
pub(super) async fn diff(args: ApplyArgs, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    let answer = asked(&args, true, &asking).await;
    let answer = answer.map_err(Failure::of_comparison)?;
    let changes = answer.changes.into_iter().map(Change::from);
    let changes: Vec<Change> = changes.filter(|change| change.change != "unchanged").collect();
    match asking.output {
        output::Format::Table | output::Format::Wide => {
            for change in &changes {
                difference::print(asking.out, &change.diff)?;
            }
        }
        format => output::values(asking.out, format, &changes)?,
    }
    Ok(match changes.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn asked(
    args: &ApplyArgs,
    dry_run: bool,
    asking: &Asking<'_>,
) -> Result<ApplyMachinesResponse, Failure> {
    let files = given::read(&args.files)?.into_iter().map(|file| MachineFile {
        yaml: file.text,
        source: file.source,
    });
    let mut client = asking.connect().await?;
    let request = ApplyMachinesRequest {
        files: files.collect(),
        strict: args.strict,
        namespace: asking.namespace.clone(),
        dry_run,
        ..ApplyMachinesRequest::default()
    };
    let answer = client.control.apply_machines(request).await;
    let answer = client.answer(answer)?;
    warn(&answer.warnings);
    Ok(answer)
}
