//! `bootentry`: entries in the boot menu of UEFI firmware: listed, made, ordered, taken away.
//!
//! What is there already is not written, so that the action may be run again at any time. It writes no disk.

use std::path::Path;

use disk::efi::device_path;
use disk::efi::entries::{self, Entries, Plan, Wanted};
use disk::efi::load_option::LoadOption;
use disk::efi::loader::{self, Place as At};
use disk::efi::variables::{VariableError, Variables};
use disk::efi::{BootEntry, BootEntryFields, BootOrder};
use disk::filesystem::{self, Kind};
use disk::mount::MsFlags;
use disk::probe::System;
use serde::Serialize;

use super::environment::Environment;
use super::target::{self, Mounted, blocking};
use super::{Done, Failure, Feed, Halt, Place};

pub(super) const VARIABLES: [&str; 8] = [
    "ARGUMENTS",
    "DEST_DISK",
    "LABEL",
    "LOADER",
    "NEXT",
    "ORDER",
    "PARTITION",
    "REMOVE",
];

/// What later actions find in the task's outputs.
#[derive(Serialize)]
struct Outputs {
    /// Whether anything was written.
    changed: bool,
    /// By which the machine was booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    entries: Vec<Listed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Of the entry that was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    order: Vec<String>,
    removed: Vec<String>,
}

#[derive(Serialize)]
struct Listed {
    number: String,
    label: String,
    active: bool,
    path: String,
}

pub(super) async fn run(
    env: &Environment<'_>,
    place: &Place,
    feed: &Feed,
    halt: &Halt,
) -> Result<Done, Failure> {
    let declared = declared(env)?;
    let variables = blocking(|| Variables::of(&System::default()).map_err(|e| failure(&e))).await?;
    let entry = match &declared.label {
        None => None,
        Some(label) => {
            let device = target::resolve(env.required("DEST_DISK")?).await?;
            let file = declared.loader.clone().unwrap_or_default();
            let (number, mounts) = (declared.partition, place.mounts.clone());
            let (at, file) = blocking(move || {
                let at =
                    loader::place(&device, number).map_err(|e| Failure::new(e.reason(), e.to_string()))?;
                starts(&at, &mounts, &file)?;
                Ok((at, file))
            })
            .await?;
            if !at.is_efi {
                let disk = at.disk.display();
                feed.line(format!(
                    "note: partition {} of {disk} is not of type efi: some firmware does not look there",
                    at.drive.partition
                ))
                .await;
            }
            let arguments = declared.arguments.as_deref().unwrap_or_default();
            Some(LoadOption::of_loader(label, &at.drive, &file, arguments))
        }
    };
    let wanted = Wanted {
        entry,
        order: declared.order,
        next: declared.next,
        remove: declared.remove,
    };
    if halt.is_asked() {
        return Err(Failure::stopped());
    }
    let (plan, after) = blocking(move || change(&variables, &wanted)).await?;
    for line in said(&plan, &after) {
        feed.line(line).await;
    }
    let message = message(&plan, &after);
    feed.line(message.as_str()).await;
    Done::with_outputs(message, &outputs(&plan, &after))
}

fn declared(env: &Environment<'_>) -> Result<BootEntry, Failure> {
    let of = |name| env.optional(name);
    let fields = BootEntryFields {
        arguments: of("ARGUMENTS"),
        label: of("LABEL"),
        loader: of("LOADER"),
        next: of("NEXT"),
        order: of("ORDER"),
        partition: of("PARTITION"),
        remove: of("REMOVE"),
    };
    let declared = BootEntry::parse(&fields).map_err(Failure::bad_variables)?;
    match declared.label {
        Some(_) => {
            for needed in ["DEST_DISK", "LOADER"] {
                env.required(needed)?;
            }
        }
        None => {
            let of_an_entry = ["ARGUMENTS", "DEST_DISK", "LOADER", "PARTITION"];
            let mut useless: Vec<&str> = of_an_entry
                .into_iter()
                .filter(|name| of(name).is_some())
                .collect();
            if matches!(declared.order, BootOrder::First | BootOrder::Last) {
                useless.push("ORDER");
            }
            if !useless.is_empty() {
                return Err(Failure::new(
                    "MissingVariable",
                    format!(
                        "environment variable LABEL is not set, and {} say of an entry what it is: give its LABEL, or leave them out",
                        useless.join(", ")
                    ),
                ));
            }
        }
    }
    Ok(declared)
}

/// Whether firmware can read the loader there. Writes nothing. Blocks.
fn starts(at: &At, mounts: &Path, file: &str) -> Result<(), Failure> {
    let (number, disk) = (at.drive.partition, at.disk.display());
    let Some(path) = &at.path else {
        return Err(Failure::new(
            "NoLoader",
            format!(
                "the kernel shows no partition {number} of {disk}: what is in it is not known; nothing was written"
            ),
        ));
    };
    let shown = path.display();
    let found = filesystem::detect_on(path).map_err(|e| Failure::new("NoLoader", e.to_string()))?;
    let kind = found.map(|found| found.kind);
    if kind != Some(Kind::Vfat) {
        return Err(Failure::new(
            "NoLoader",
            format!(
                "{shown} has {}, and firmware reads FAT alone: name the partition with the loader; nothing was written",
                kind.map_or("no filesystem that is known", Kind::name)
            ),
        ));
    }
    // Where it is mounted for writing, the kernel takes it for no other way.
    let read_only = Mounted::mount_flags(mounts, path, "vfat", MsFlags::MS_RDONLY);
    let mounted = read_only.or_else(|_| Mounted::mount(mounts, path, "vfat"))?;
    let inside = file.trim_start_matches('\\').replace('\\', "/");
    let is_file =
        std::fs::metadata(mounted.path().join(&inside)).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
    mounted.unmount()?;
    match is_file {
        true => Ok(()),
        false => Err(Failure::new(
            "NoLoader",
            format!(
                "{shown} has no file /{inside}, so firmware would find nothing to start; nothing was written"
            ),
        )),
    }
}

/// Makes the entries as they are wanted; what was done, and how they are now. Blocks.
fn change(variables: &Variables, wanted: &Wanted) -> Result<(Plan, Entries), Failure> {
    let there = variables.entries().map_err(|e| failure(&e))?;
    let plan = entries::plan(&there, wanted).map_err(|e| Failure::new("NoSuchEntry", e.to_string()))?;
    variables.apply(&plan.writes).map_err(|e| failure(&e))?;
    let after = match plan.writes.is_empty() {
        true => there,
        false => variables.entries().map_err(|e| failure(&e))?,
    };
    Ok((plan, after))
}

fn failure(error: &VariableError) -> Failure {
    Failure::new(error.reason(), error.to_string())
}

fn shown(number: u16) -> String {
    format!("{number:04X}")
}

fn listed(entries: &Entries) -> Vec<Listed> {
    let one = |(number, option): (&u16, &Option<LoadOption>)| Listed {
        number: shown(*number),
        label: match option {
            Some(option) => printable(&option.description),
            None => String::new(),
        },
        active: option.as_ref().is_some_and(LoadOption::is_active),
        path: match option {
            Some(option) => device_path::shown(&option.paths),
            None => "no load option".to_owned(),
        },
    };
    entries.options.iter().map(one).collect()
}

/// Firmware may have anything in a label.
fn printable(text: &str) -> String {
    let shown = text.chars().take(128);
    shown.map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn said(plan: &Plan, after: &Entries) -> Vec<String> {
    let mut lines: Vec<String> = listed(after)
        .iter()
        .map(|one| {
            let off = if one.active { "" } else { " (switched off)" };
            format!("Boot{} {:?}{off} {}", one.number, one.label, one.path)
        })
        .collect();
    let order: Vec<String> = after.order.iter().copied().map(shown).collect();
    lines.push(format!("BootOrder {}", order.join(",")));
    if let Some(next) = after.next {
        lines.push(format!("BootNext {}", shown(next)));
    }
    if !plan.namesakes.is_empty() {
        let others: Vec<String> = plan.namesakes.iter().copied().map(shown).collect();
        lines.push(format!(
            "note: entries {} have the same label, and stay: give labels that differ, or take all of them away with REMOVE first",
            others.join(", ")
        ));
    }
    lines
}

fn message(plan: &Plan, after: &Entries) -> String {
    let count = after.options.len();
    match (plan.writes.is_empty(), plan.entry) {
        (true, Some(number)) => format!(
            "the firmware has entry {} as it is to be already: nothing was written",
            shown(number)
        ),
        (true, None) => format!("the firmware has {count} boot entries: nothing was written"),
        (false, Some(number)) => format!("the firmware has entry {} now, one of {count}", shown(number)),
        (false, None) => format!(
            "the firmware has {count} boot entries now, {} of them gone",
            plan.removed.len()
        ),
    }
}

fn outputs(plan: &Plan, after: &Entries) -> Outputs {
    Outputs {
        changed: !plan.writes.is_empty(),
        current: after.current.map(shown),
        entries: listed(after),
        next: after.next.map(shown),
        number: plan.entry.map(shown),
        order: after.order.iter().copied().map(shown).collect(),
        removed: plan.removed.iter().copied().map(shown).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn refused(pairs: &[(&str, &str)]) -> Failure {
        let variables: HashMap<String, String> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        declared(&Environment::of(&variables)).expect_err("refused")
    }

    #[test]
    fn an_entry_has_a_label_a_disk_and_a_loader() {
        let label = ("LABEL", "debian");
        for (pairs, words) in [
            (vec![label], "DEST_DISK is not set"),
            (vec![label, ("DEST_DISK", "/dev/vda")], "LOADER is not set"),
            (
                vec![("LOADER", "/x.efi"), ("ORDER", "first")],
                "LABEL is not set, and LOADER, ORDER say",
            ),
        ] {
            let failure = refused(&pairs);
            assert_eq!(failure.reason, "MissingVariable");
            assert!(failure.message.contains(words), "{}", failure.message);
        }
        assert_eq!(refused(&[("ORDER", "soon")]).reason, "BadVariable");
    }

    #[test]
    fn what_is_there_is_listed_and_an_entry_that_is_gone_is_told() {
        let folder = tempfile::tempdir().expect("folder");
        let efivars = folder.path().join("firmware/efi/efivars");
        std::fs::create_dir_all(&efivars).expect("folder");
        let global = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
        // Active, one path of no node, label "A\n".
        let entry = [
            7, 0, 0, 0, 1, 0, 0, 0, 4, 0, b'A', 0, b'\n', 0, 0, 0, 0x7f, 0xff, 4, 0,
        ];
        std::fs::write(efivars.join(format!("Boot0000-{global}")), entry).expect("file");
        std::fs::write(efivars.join(format!("Boot00FF-{global}")), [7, 0, 0, 0, 1]).expect("file");
        std::fs::write(efivars.join(format!("BootOrder-{global}")), [7, 0, 0, 0, 0, 0]).expect("file");
        let system = System {
            sys: folder.path().to_owned(),
            ..System::default()
        };
        let variables = Variables::of(&system).expect("UEFI");
        let mut wanted = Wanted {
            entry: None,
            order: BootOrder::Keep,
            next: None,
            remove: Vec::new(),
        };
        let (plan, after) = change(&variables, &wanted).expect("listed");
        assert_eq!(
            said(&plan, &after),
            [
                "Boot0000 \"A?\" ",
                "Boot00FF \"\" (switched off) no load option",
                "BootOrder 0000"
            ]
        );
        assert_eq!(
            message(&plan, &after),
            "the firmware has 2 boot entries: nothing was written"
        );
        wanted.remove = vec!["A\n".into()];
        let (plan, after) = change(&variables, &wanted).expect("removed");
        let outputs = serde_json::to_value(outputs(&plan, &after)).expect("JSON");
        assert_eq!(outputs["removed"], serde_json::json!(["0000"]));
        assert_eq!(
            (&outputs["changed"], &outputs["order"]),
            (&true.into(), &serde_json::json!([]))
        );
        wanted.next = Some("gone".into());
        let failure = change(&variables, &wanted).expect_err("refused");
        assert_eq!(failure.reason, "NoSuchEntry");
    }
}
