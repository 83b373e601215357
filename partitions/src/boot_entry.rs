//! Boot entries of UEFI firmware as templates declare them: one that is made, some that go, and which comes when.

use serde_json::Value;

use crate::{FieldProblem, partition_number};

/// Of a label: what firmware shows in its menu.
const MAX_BOOT_LABEL_UNITS: usize = 64;
/// Of the path of a loader on its partition.
const MAX_LOADER_UNITS: usize = 255;
/// Of what a loader is given.
const MAX_ARGUMENTS_UNITS: usize = 2048;
/// Labels in a list.
const MAX_LABELS: usize = 64;

/// The words of a template; `None`: left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootEntryFields<'a> {
    pub arguments: Option<&'a str>,
    pub label: Option<&'a str>,
    pub loader: Option<&'a str>,
    pub next: Option<&'a str>,
    pub order: Option<&'a str>,
    pub partition: Option<&'a str>,
    pub remove: Option<&'a str>,
}

/// What is wanted of the boot entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootEntry {
    pub label: Option<String>,
    /// As firmware writes paths: `\EFI\debian\shimx64.efi`.
    pub loader: Option<String>,
    pub arguments: Option<String>,
    /// The number of the loader's partition, where a disk is named.
    pub partition: Option<u32>,
    pub order: BootOrder,
    /// The label of the entry that is started once, at the next boot.
    pub next: Option<String>,
    /// Labels of entries that are to go.
    pub remove: Vec<String>,
}

/// Where entries stand in the order in which firmware tries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootOrder {
    /// The entry before all others.
    First,
    /// The entry where it is, and one that is new behind all others.
    Keep,
    /// Entries of these labels before all others, in this order.
    Labels(Vec<String>),
    /// The entry behind all others.
    Last,
}

impl BootEntry {
    /// From the words of a template; `remove` and a list in `order` are JSON lists of texts.
    ///
    /// # Errors
    /// Every problem.
    pub fn parse(fields: &BootEntryFields<'_>) -> Result<BootEntry, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |variable, message| problems.push(FieldProblem { variable, message });
        for (variable, label) in [("LABEL", fields.label), ("NEXT", fields.next)] {
            if let Some(wrong) = label.and_then(|label| wrong_label(&variable.to_lowercase(), label)) {
                say(variable, wrong);
            }
        }
        let loader = fields.loader.map(|text| text.replace('/', "\\"));
        if let Some(wrong) = loader.as_deref().and_then(wrong_loader) {
            say("LOADER", wrong);
        }
        if let Some(text) = fields.arguments
            && (text.encode_utf16().count() > MAX_ARGUMENTS_UNITS || text.contains('\0'))
        {
            say(
                "ARGUMENTS",
                format!("arguments have {MAX_ARGUMENTS_UNITS} letters at most, and no zero"),
            );
        }
        let order = match fields.order {
            None | Some("keep") => BootOrder::Keep,
            Some("first") => BootOrder::First,
            Some("last") => BootOrder::Last,
            Some(text) => match labels("order", text) {
                Ok(labels) => BootOrder::Labels(labels),
                Err(_) if !text.trim_start().starts_with('[') => {
                    let short: String = text.chars().take(64).collect();
                    say(
                        "ORDER",
                        format!("order {short:?} is not known: it is first, keep, last, or a list of labels"),
                    );
                    BootOrder::Keep
                }
                Err(wrong) => {
                    say("ORDER", wrong);
                    BootOrder::Keep
                }
            },
        };
        let remove = match fields.remove.map(|text| labels("remove", text)) {
            None => Vec::new(),
            Some(Ok(labels)) => labels,
            Some(Err(wrong)) => {
                say("REMOVE", wrong);
                Vec::new()
            }
        };
        if let Some(label) = [fields.label, fields.next]
            .into_iter()
            .flatten()
            .find(|label| remove.iter().any(|gone| gone == label))
        {
            say(
                "REMOVE",
                format!("entry {label:?} is to go and to be there: name it once"),
            );
        }
        let partition = partition_number(fields.partition).unwrap_or_else(|mut wrong| {
            for problem in wrong.drain(..) {
                say(problem.variable, problem.message);
            }
            None
        });
        let own = |text: Option<&str>| text.map(str::to_owned);
        match problems.is_empty() {
            true => Ok(BootEntry {
                label: own(fields.label),
                loader,
                arguments: own(fields.arguments),
                partition,
                order,
                next: own(fields.next),
                remove,
            }),
            false => Err(problems),
        }
    }
}

fn wrong_label(field: &str, label: &str) -> Option<String> {
    let short: String = label.chars().take(80).collect();
    let is_wrong = label.encode_utf16().count() > MAX_BOOT_LABEL_UNITS || label.chars().any(char::is_control);
    (is_wrong || label.trim() != label).then(|| {
        format!(
            "{field} {short:?} is none: write {MAX_BOOT_LABEL_UNITS} letters at most, no control characters, no space at an end"
        )
    })
}

fn wrong_loader(loader: &str) -> Option<String> {
    let short: String = loader.chars().take(80).collect();
    let bad = |why: &str| {
        Some(format!(
            "loader {short:?} {why}: write a path such as /EFI/debian/shimx64.efi"
        ))
    };
    let mut names = loader.split('\\');
    if names.next() != Some("") {
        return bad("does not begin at the top of its partition");
    }
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..") && !name.chars().any(|c| c.is_control() || "\"*:<>?|".contains(c))
    };
    if !names.all(is_name) {
        return bad("has a name that no FAT has");
    }
    if loader.encode_utf16().count() > MAX_LOADER_UNITS {
        return bad("is longer than 255 letters");
    }
    match loader.to_lowercase().ends_with(".efi") {
        true => None,
        false => bad("is no program of UEFI, whose names end in .efi"),
    }
}

fn labels(field: &str, text: &str) -> Result<Vec<String>, String> {
    let no_list = || {
        format!("{field} is no list of labels: write one, such as [\"debian\"]; in an environment, as JSON")
    };
    if text.len() > MAX_LABELS * MAX_BOOT_LABEL_UNITS * 4 {
        return Err(format!(
            "{field} has {} B, which no list of {MAX_LABELS} labels has",
            text.len()
        ));
    }
    let items: Vec<Value> = serde_json::from_str(text).map_err(|_| no_list())?;
    let word = |item: Value| match item {
        Value::String(word) if !word.is_empty() => match wrong_label(field, &word) {
            Some(wrong) => Err(wrong),
            None => Ok(word),
        },
        _ => Err(no_list()),
    };
    let labels: Vec<String> = items.into_iter().map(word).collect::<Result<_, _>>()?;
    match labels.len() {
        0..=MAX_LABELS => Ok(labels),
        many => Err(format!("{field} has {many} labels, {MAX_LABELS} at most")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>() -> BootEntryFields<'a> {
        BootEntryFields {
            label: Some("debian"),
            loader: Some("/EFI/debian/shimx64.efi"),
            ..BootEntryFields::default()
        }
    }

    #[track_caller]
    fn refused(fields: &BootEntryFields<'_>, want: &[(&str, &str)]) {
        let problems = BootEntry::parse(fields).expect_err("refused");
        assert_eq!(problems.len(), want.len(), "{problems:?}");
        for (problem, (variable, words)) in problems.iter().zip(want) {
            assert_eq!(problem.variable, *variable, "{problems:?}");
            assert!(problem.message.contains(words), "{words}: {problems:?}");
        }
    }

    #[test]
    fn a_path_is_firmware_s_and_the_order_a_word_or_a_list() {
        let read = BootEntry::parse(&fields()).expect("good");
        assert_eq!(read.loader.as_deref(), Some("\\EFI\\debian\\shimx64.efi"));
        assert_eq!(read.order, BootOrder::Keep);
        let of = |order| {
            let order = Some(order);
            BootEntry::parse(&BootEntryFields { order, ..fields() }).map(|read| read.order)
        };
        assert_eq!(of("first"), Ok(BootOrder::First));
        assert_eq!(of("last"), Ok(BootOrder::Last));
        let labels = vec!["debian".to_owned(), "UEFI PXEv4".to_owned()];
        assert_eq!(of(r#"["debian", "UEFI PXEv4"]"#), Ok(BootOrder::Labels(labels)));
    }

    #[test]
    fn what_no_firmware_starts_is_refused_with_every_problem() {
        for (loader, words) in [
            ("EFI/BOOT/BOOTX64.EFI", "does not begin at the top"),
            ("/EFI/../x.efi", "a name that no FAT has"),
            ("/EFI//x.efi", "a name that no FAT has"),
            ("/vmlinuz", "end in .efi"),
        ] {
            let loader = Some(loader);
            refused(&BootEntryFields { loader, ..fields() }, &[("LOADER", words)]);
        }
        let long = "x".repeat(MAX_BOOT_LABEL_UNITS + 1);
        let many = serde_json::to_string(&vec!["a"; MAX_LABELS + 1]).expect("JSON");
        refused(
            &BootEntryFields {
                label: Some(&long),
                next: Some("a\nb"),
                arguments: Some("\0"),
                order: Some("soon"),
                partition: Some("0"),
                remove: Some(&many),
                ..fields()
            },
            &[
                ("LABEL", "64 letters at most"),
                ("NEXT", "64 letters at most"),
                ("ARGUMENTS", "no zero"),
                ("ORDER", "it is first, keep, last, or a list of labels"),
                ("REMOVE", "has 65 labels, 64 at most"),
                ("PARTITION", "write its number"),
            ],
        );
        refused(
            &BootEntryFields {
                remove: Some(r#"["debian"]"#),
                ..fields()
            },
            &[("REMOVE", "to go and to be there")],
        );
        for bad in ["debian", "[1]", "[\"\"]", "{}"] {
            let remove = Some(bad);
            refused(
                &BootEntryFields { remove, ..fields() },
                &[("REMOVE", "no list of labels")],
            );
        }
    }
}
