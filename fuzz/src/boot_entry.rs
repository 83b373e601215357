//! Boot entries of firmware: load options and device paths, and how entries become as they are wanted.

use std::collections::BTreeMap;

use disk::efi::device_path;
use disk::efi::entries::{Entries, Wanted, plan};
use disk::efi::load_option::LoadOption;
use disk::efi::{BootEntry, BootEntryFields, BootOrder};

/// Variables, with a zero byte and a line break between them; of the last one the first bytes are the order.
pub(crate) fn run(bytes: &[u8]) {
    let _ = device_path::shown(bytes);
    let variables: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for variable in variables.iter().copied().chain([bytes]) {
        let Some(read) = LoadOption::parse(variable) else {
            continue;
        };
        // What stands behind a zero in its paths is no part of them, and stays.
        let again = LoadOption::parse(&read.encode());
        if !read.description.contains(char::REPLACEMENT_CHARACTER) {
            assert_eq!(again.as_ref(), Some(&read));
        }
    }
    let numbered = variables.iter().map(|variable| LoadOption::parse(variable));
    let options: BTreeMap<u16, Option<LoadOption>> = (0..).zip(numbered).collect();
    let last = variables.last().copied().unwrap_or_default();
    let order: Vec<u16> = last.iter().map(|byte| u16::from(*byte)).take(64).collect();
    let there = Entries {
        options,
        next: order.first().copied(),
        order,
        current: None,
    };
    let text = String::from_utf8_lossy(last);
    let fields = BootEntryFields {
        label: Some("x"),
        remove: Some(&text),
        order: Some(&text),
        loader: Some(&text),
        ..BootEntryFields::default()
    };
    let declared = BootEntry::parse(&fields);
    let mut remove = declared.map(|declared| declared.remove).unwrap_or_default();
    let entry = there.options.values().flatten().next().cloned();
    // Both would be refused before.
    remove.retain(|label| entry.as_ref().is_none_or(|entry| entry.description != *label));
    let wanted = Wanted {
        entry,
        order: BootOrder::First,
        next: None,
        remove,
    };
    let Ok(first) = plan(&there, &wanted) else { return };
    let after = there.after(&first.writes);
    let again = plan(&after, &wanted).map(|plan| plan.writes);
    assert_eq!(again, Ok(Vec::new()), "{wanted:?}");
}
