//! What is to be written so that the boot entries are as they are wanted. Pure.
//!
//! INVARIANT: what is there already is not written: NVRAM wears out, and some firmware hangs when it is full. In whatever place the writes
//! are cut off, the order names no entry that is gone, and the same request again writes the rest.
//! Source: UEFI specification 2.10, sections 3.1.1 (`BootOrder`, `BootNext`) and 3.3.

use std::collections::BTreeMap;

use partitions::BootOrder;

use super::load_option::LoadOption;

/// The boot entries of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// By number; `None`: the variable is no load option.
    pub options: BTreeMap<u16, Option<LoadOption>>,
    /// As firmware tries them.
    pub order: Vec<u16>,
    /// Once, at the next boot.
    pub next: Option<u16>,
    /// By which the machine was booted.
    pub current: Option<u16>,
}

/// What is wanted of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The one that is to be there, by its label.
    pub entry: Option<LoadOption>,
    pub order: BootOrder,
    /// A label.
    pub next: Option<String>,
    /// Labels.
    pub remove: Vec<String>,
}

/// A variable that is to be written, or taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Entry(u16, LoadOption),
    Gone(u16),
    Next(u16),
    NoNext,
    Order(Vec<u16>),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub writes: Vec<Write>,
    /// The number of the wanted entry.
    pub entry: Option<u16>,
    pub removed: Vec<u16>,
    /// Other entries with the wanted one's label, which stay.
    pub namesakes: Vec<u16>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("there is no boot entry {label:?}: there are {there}; nothing was written")]
    NoSuchEntry { label: String, there: String },
    #[error("all 65536 boot entries are taken: name some that are to go (REMOVE); nothing was written")]
    NoNumber,
}

impl Entries {
    fn of_label(&self, label: &str) -> impl Iterator<Item = u16> {
        let is_meant =
            move |option: &Option<LoadOption>| option.as_ref().is_some_and(|one| one.description == label);
        let found = self.options.iter().filter(move |(_, option)| is_meant(option));
        found.map(|(number, _)| *number)
    }

    /// The first of this label in the order, or else the one with the lowest number.
    fn named(&self, label: &str) -> Option<u16> {
        let first = self.order.iter().copied().find(|number| {
            let option = self.options.get(number);
            option.is_some_and(|option| option.as_ref().is_some_and(|one| one.description == label))
        });
        first.or_else(|| self.of_label(label).next())
    }

    /// The labels that there are, for people.
    pub fn labels(&self) -> String {
        let labels: Vec<String> = self
            .options
            .values()
            .flatten()
            .map(|option| format!("{:?}", option.description))
            .collect();
        match labels.is_empty() {
            true => "none".to_owned(),
            false => labels.join(", "),
        }
    }

    /// As they are after a plan was carried out.
    pub fn after(mut self, writes: &[Write]) -> Entries {
        for write in writes {
            match write {
                Write::Entry(number, option) => {
                    self.options.insert(*number, Some(option.clone()));
                }
                Write::Gone(number) => {
                    self.options.remove(number);
                }
                Write::Next(number) => self.next = Some(*number),
                Write::NoNext => self.next = None,
                Write::Order(order) => self.order.clone_from(order),
            }
        }
        self
    }
}

/// What is to be written. An entry of the wanted label is made anew in its place; with several of that label one that is as wanted is left
/// alone, and else the first of them is taken.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(there: &Entries, wanted: &Wanted) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let removed = wanted.remove.iter().flat_map(|label| there.of_label(label));
    plan.removed = removed.collect();
    plan.removed.sort_unstable();
    plan.removed.dedup();
    if let Some(option) = &wanted.entry {
        let equal = there
            .of_label(&option.description)
            .find(|number| there.options.get(number) == Some(&Some(option.clone())));
        let number = equal.or_else(|| there.named(&option.description));
        let number = match number {
            Some(number) => number,
            None => free(there).ok_or(PlanError::NoNumber)?,
        };
        if equal.is_none() {
            plan.writes.push(Write::Entry(number, option.clone()));
        }
        plan.namesakes = there
            .of_label(&option.description)
            .filter(|other| *other != number)
            .collect();
        plan.entry = Some(number);
    }
    let made = there.clone().after(&plan.writes);
    let number_of = |label: &String| match plan.entry.filter(|entry| is_labelled(&made, *entry, label)) {
        Some(entry) => Ok(entry),
        None => made.named(label).ok_or_else(|| PlanError::NoSuchEntry {
            label: label.clone(),
            there: made.labels(),
        }),
    };
    let order = ordered(there, wanted, &plan, number_of)?;
    if order != there.order {
        plan.writes.push(Write::Order(order));
    }
    let next = wanted.next.as_ref().map(number_of).transpose()?;
    if next.is_none() && there.next.is_some_and(|next| plan.removed.contains(&next)) {
        plan.writes.push(Write::NoNext);
    }
    plan.writes
        .extend(plan.removed.iter().map(|number| Write::Gone(*number)));
    if let Some(next) = next.filter(|next| there.next != Some(*next)) {
        plan.writes.push(Write::Next(next));
    }
    Ok(plan)
}

fn is_labelled(entries: &Entries, number: u16, label: &str) -> bool {
    let option = entries.options.get(&number).and_then(Option::as_ref);
    option.is_some_and(|option| option.description == label)
}

/// One that no entry has, and that the order does not name either.
fn free(there: &Entries) -> Option<u16> {
    (0..=u16::MAX).find(|number| !there.options.contains_key(number) && !there.order.contains(number))
}

fn ordered(
    there: &Entries,
    wanted: &Wanted,
    plan: &Plan,
    number_of: impl Fn(&String) -> Result<u16, PlanError>,
) -> Result<Vec<u16>, PlanError> {
    let mut order: Vec<u16> = Vec::new();
    let kept = there.order.iter().filter(|number| !plan.removed.contains(number));
    for number in kept {
        // Twice in it is once too often.
        if !order.contains(number) {
            order.push(*number);
        }
    }
    let mut first = Vec::new();
    match (&wanted.order, plan.entry) {
        (BootOrder::First, Some(entry)) => first.push(entry),
        (BootOrder::Last, Some(entry)) => {
            order.retain(|number| *number != entry);
            order.push(entry);
        }
        (BootOrder::Labels(labels), _) => {
            for label in labels {
                first.push(number_of(label)?);
            }
        }
        _ => {}
    }
    if let Some(entry) = plan.entry.filter(|entry| !order.contains(entry)) {
        order.push(entry);
    }
    order.retain(|number| !first.contains(number));
    let mut all: Vec<u16> = Vec::new();
    for number in first.into_iter().chain(order) {
        if !all.contains(&number) {
            all.push(number);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::efi::device_path::HardDrive;

    fn option(label: &str, partition: u32) -> LoadOption {
        let drive = HardDrive {
            partition,
            start: 2048,
            sectors: 4096,
            guid: partitions::Guid([7; 16]),
        };
        LoadOption::of_loader(label, &drive, "\\EFI\\x.efi", "")
    }

    /// 0: PXE, 1: disk, 3: debian of partition 1; 5 is in the order, and no more.
    fn there() -> Entries {
        Entries {
            options: BTreeMap::from([
                (0, Some(option("PXE", 9))),
                (1, Some(option("disk", 9))),
                (2, None),
                (3, Some(option("debian", 1))),
            ]),
            order: vec![0, 1, 3, 5],
            next: None,
            current: Some(0),
        }
    }

    fn wanted(entry: Option<LoadOption>, order: BootOrder) -> Wanted {
        Wanted {
            entry,
            order,
            next: None,
            remove: Vec::new(),
        }
    }

    #[track_caller]
    fn check(wanted: &Wanted, want: &[Write]) {
        let plan = plan(&there(), wanted).unwrap();
        assert_eq!(plan.writes, want);
        // Cut off anywhere, the order names nothing that has gone, and a second run does the rest.
        let whole = there().after(&plan.writes);
        for cut in 0..=plan.writes.len() {
            let half = there().after(&plan.writes[..cut]);
            let missing: Vec<&u16> = half
                .order
                .iter()
                .filter(|one| !half.options.contains_key(one))
                .collect();
            assert!(missing.iter().all(|one| **one == 5), "{missing:?}");
            let again = super::plan(&half, wanted).unwrap();
            assert_eq!(half.after(&again.writes), whole, "after {cut}");
        }
        assert_eq!(super::plan(&whole, wanted).unwrap().writes, []);
    }

    #[test]
    fn an_entry_that_is_there_is_left_alone() {
        check(&wanted(Some(option("debian", 1)), BootOrder::Keep), &[]);
        check(&wanted(None, BootOrder::Keep), &[]);
    }

    #[test]
    fn a_new_entry_takes_a_free_number_and_its_place_in_the_order() {
        let new = option("ubuntu", 1);
        // 5 is none that has gone for good: the order still names it.
        let entry = Write::Entry(4, new.clone());
        for (order, numbers) in [
            (BootOrder::Keep, vec![0, 1, 3, 5, 4]),
            (BootOrder::Last, vec![0, 1, 3, 5, 4]),
            (BootOrder::First, vec![4, 0, 1, 3, 5]),
            (
                BootOrder::Labels(vec!["disk".into(), "ubuntu".into()]),
                vec![1, 4, 0, 3, 5],
            ),
        ] {
            let order_written = Write::Order(numbers);
            check(&wanted(Some(new.clone()), order), &[entry.clone(), order_written]);
        }
    }

    #[test]
    fn another_content_of_the_same_label_is_written_in_its_place() {
        let other = option("debian", 2);
        check(
            &wanted(Some(other.clone()), BootOrder::Keep),
            &[Write::Entry(3, other)],
        );
        check(
            &wanted(Some(option("debian", 1)), BootOrder::Last),
            &[Write::Order(vec![0, 1, 5, 3])],
        );
        check(
            &wanted(Some(option("debian", 1)), BootOrder::First),
            &[Write::Order(vec![3, 0, 1, 5])],
        );
    }

    #[test]
    fn what_goes_leaves_the_order_first_and_the_next_boot_with_it() {
        let mut entries = there();
        entries.next = Some(1);
        let wanted = Wanted {
            remove: vec!["disk".into(), "not there".into()],
            ..wanted(None, BootOrder::Keep)
        };
        let plan = plan(&entries, &wanted).unwrap();
        assert_eq!(
            plan.writes,
            [Write::Order(vec![0, 3, 5]), Write::NoNext, Write::Gone(1)]
        );
        assert_eq!(plan.removed, [1]);
        check(&wanted, &[Write::Order(vec![0, 3, 5]), Write::Gone(1)]);
    }

    #[test]
    fn the_next_boot_is_of_an_entry_that_is_there() {
        let next = |label: &str, entry| Wanted {
            next: Some(label.to_owned()),
            ..wanted(entry, BootOrder::Keep)
        };
        check(&next("disk", None), &[Write::Next(1)]);
        let new = option("ubuntu", 1);
        check(
            &next("ubuntu", Some(new.clone())),
            &[
                Write::Entry(4, new),
                Write::Order(vec![0, 1, 3, 5, 4]),
                Write::Next(4),
            ],
        );
        let error = plan(&there(), &next("windows", None)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no boot entry \"windows\": there are \"PXE\", \"disk\", \"debian\"; nothing was written"
        );
        let order = BootOrder::Labels(vec!["windows".into()]);
        assert!(plan(&there(), &wanted(None, order)).is_err());
    }

    #[test]
    fn of_several_of_a_label_the_right_one_is_left_and_the_others_are_told() {
        let mut entries = there();
        entries.options.insert(4, Some(option("debian", 2)));
        let plan = plan(&entries, &wanted(Some(option("debian", 2)), BootOrder::Keep)).unwrap();
        assert_eq!((plan.entry, plan.namesakes), (Some(4), vec![3]));
        assert_eq!(plan.writes, [Write::Order(vec![0, 1, 3, 5, 4])]);
    }
}
