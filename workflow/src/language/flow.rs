//! Which task comes after which: `needs`, `recovers` and `goto`, from names to indexes.
//!
//! The tasks of a group stand one after the other and are its branches: where they say nothing of `needs`, they need what the
//! first of them needs, and the task behind them needs them all. In `needs` and `recovers` a group's name stands for its tasks.
//!
//! A `goto` makes a loop of the tasks from its target to itself. The loop must be entered by the target and left by the
//! task with the `goto` only, so that running it again concerns no other branch:
//!
//! - the target is that task itself, or one that it needs (directly or not);
//! - whatever needs the target either is needed by that task or needs it: no branch leaves the loop in its middle;
//! - whatever the tasks between need is in the loop, or before the target: no branch comes into it in its middle;
//! - neither end has a `forEach`. A task between may have one: all its items run again.

use std::collections::BTreeMap;

use yaml::{Fields, Kind, Node, Place, meant};

use super::expressions::Standing;
use super::fields::{Check, Known};
use super::{Goto, Task};
use crate::expression;

const GOTO: Known = Known {
    whose: "goto",
    old: &["when", "task", "max"],
    new: &[],
};
/// Bytes of a group's name, as of a task's.
const MAX_NAME_BYTES: usize = 199;
/// Task executions of a workflow.
const MOST_TIMES: u32 = 10_000;

/// What a task says of other tasks, and where.
pub(super) struct Links<'a> {
    name_at: Place,
    group_at: Place,
    /// `None`: left out.
    needs: Option<Vec<(&'a str, Place)>>,
    recovers: Vec<(&'a str, Place)>,
    goto: Option<&'a Node>,
}

/// For each task, which ones come before it.
pub(super) struct Ancestors {
    rows: Vec<Vec<u64>>,
}

impl Ancestors {
    fn new(tasks: usize) -> Ancestors {
        Ancestors {
            rows: vec![vec![0; tasks.div_ceil(64)]; tasks],
        }
    }

    /// Whether `task` runs after `other` is final.
    pub(super) fn has(&self, task: usize, other: usize) -> bool {
        let word = self.rows.get(task).and_then(|row| row.get(other / 64));
        word.is_some_and(|word| word >> (other % 64) & 1 == 1)
    }

    /// How many come before a task; more than before any of them.
    pub(super) fn count(&self, task: usize) -> u32 {
        let row = self.rows.get(task).map(Vec::as_slice).unwrap_or_default();
        row.iter().map(|word| word.count_ones()).sum()
    }

    fn add(&mut self, task: usize, need: usize) {
        let of_need = self.rows[need].clone();
        let row = &mut self.rows[task];
        for (word, more) in row.iter_mut().zip(of_need) {
            *word |= more;
        }
        row[need / 64] |= 1 << (need % 64);
    }
}

impl<'a> Check<'a> {
    pub(super) fn links(&mut self, fields: &Fields<'a>) -> Links<'a> {
        Links {
            name_at: fields.at("name"),
            group_at: fields.at("group"),
            needs: fields.get("needs").map(|_| self.words(fields, "needs")),
            recovers: self.words(fields, "recovers"),
            goto: fields.get("goto"),
        }
    }

    /// Fills in what tasks say of each other. Gives which come before which; nothing when they go in a circle.
    pub(super) fn link(&mut self, tasks: &mut [Task], links: &[Links<'a>]) -> Option<Ancestors> {
        let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
        for (index, task) in tasks.iter().enumerate() {
            by_name.entry(task.name.clone()).or_insert(index);
        }
        let groups = self.groups(tasks, links, &by_name);
        for (index, link) in links.iter().enumerate() {
            tasks[index].needs = match &link.needs {
                Some(names) => self.resolve(index, names, "needs", (&by_name, &groups), tasks),
                None => needs_left_out(index, tasks, &groups),
            };
        }
        let ancestors = self.ancestors(tasks, links)?;
        for (index, link) in links.iter().enumerate() {
            let recovers = self.resolve(index, &link.recovers, "recovers", (&by_name, &groups), tasks);
            self.check_recovers(index, &recovers, link, tasks, &ancestors);
            tasks[index].recovers = recovers;
            tasks[index].goto = link
                .goto
                .and_then(|node| self.goto(index, node, &by_name, tasks, &ancestors));
        }
        Some(ancestors)
    }

    /// The tasks of each group.
    fn groups(
        &mut self,
        tasks: &[Task],
        links: &[Links<'a>],
        by_name: &BTreeMap<String, usize>,
    ) -> BTreeMap<String, Vec<usize>> {
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, (task, link)) in tasks.iter().zip(links).enumerate() {
            let group = &task.group;
            if group.is_empty() {
                continue;
            }
            if by_name.contains_key(group) {
                let message = format!("group {group:?} is called as a task is: names must differ");
                self.problem(link.group_at, Kind::Twice, message);
            }
            if group.len() > MAX_NAME_BYTES {
                let message = format!("group has {} bytes: {MAX_NAME_BYTES} is the most", group.len());
                self.problem(link.group_at, Kind::TooMuch, message);
            }
            let members = groups.entry(group.clone()).or_default();
            if let Some(&last) = members.last().filter(|last| **last + 1 != index) {
                let message = format!(
                    "task {:?} is of group {group:?} and stands apart from {:?}: the tasks of a group stand one after the other",
                    task.name, tasks[last].name
                );
                self.problem(link.group_at, Kind::Conflict, message);
            }
            members.push(index);
        }
        groups
    }

    fn resolve(
        &mut self,
        index: usize,
        names: &[(&'a str, Place)],
        verb: &str,
        (by_name, groups): (&BTreeMap<String, usize>, &BTreeMap<String, Vec<usize>>),
        tasks: &[Task],
    ) -> Vec<usize> {
        let name = &tasks[index].name;
        let mut found = Vec::new();
        for (other, at) in names {
            if let Some(members) = groups.get(*other).filter(|_| !by_name.contains_key(*other)) {
                if members.contains(&index) {
                    let message = format!("task {name:?} {verb} its own group {other:?}: take it out");
                    self.problem(*at, Kind::Conflict, message);
                } else if members.iter().any(|member| found.contains(member)) {
                    let message =
                        format!("task {name:?} {verb} a task of group {other:?} twice: take one out");
                    self.problem(*at, Kind::Twice, message);
                } else {
                    found.extend(members);
                }
                continue;
            }
            match by_name.get(*other) {
                Some(&other_index) if other_index == index => {
                    let message = format!("task {name:?} {verb} itself: take it out");
                    self.problem(*at, Kind::Conflict, message);
                }
                Some(other_index) if found.contains(other_index) => {
                    let message = format!("task {name:?} {verb} {other:?} twice: take one out");
                    self.problem(*at, Kind::Twice, message);
                }
                Some(&other_index) => found.push(other_index),
                None => {
                    let names = by_name.keys().chain(groups.keys()).map(String::as_str);
                    let meant = meant(other, names, &all_of(by_name));
                    let message = format!("task {name:?} {verb} {other:?}, which is no task{meant}");
                    self.problem(*at, Kind::NoSuchName, message);
                }
            }
        }
        found
    }

    /// Which tasks come before which; `None`, and a problem, when they go in a circle.
    fn ancestors(&mut self, tasks: &[Task], links: &[Links<'a>]) -> Option<Ancestors> {
        let mut ancestors = Ancestors::new(tasks.len());
        let mut waits: Vec<usize> = tasks.iter().map(|task| task.needs.len()).collect();
        let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
        for (index, task) in tasks.iter().enumerate() {
            for &need in &task.needs {
                needed_by[need].push(index);
            }
        }
        let mut ready: Vec<usize> = (0..tasks.len()).filter(|&index| waits[index] == 0).collect();
        while let Some(index) = ready.pop() {
            for &need in &tasks[index].needs {
                ancestors.add(index, need);
            }
            for &next in &needed_by[index] {
                waits[next] -= 1;
                if waits[next] == 0 {
                    ready.push(next);
                }
            }
        }
        let is_stuck = |index: usize| waits[index] > 0;
        let mut seen = vec![false; tasks.len()];
        let mut has_circle = false;
        for start in (0..tasks.len()).filter(|&index| is_stuck(index)) {
            let mut path = Vec::new();
            let mut at = Some(start);
            while let Some(index) = at.filter(|&index| !seen[index]) {
                seen[index] = true;
                path.push(index);
                at = tasks[index].needs.iter().copied().find(|&need| is_stuck(need));
            }
            if let Some(first) = at.and_then(|again| path.iter().position(|&index| index == again)) {
                has_circle = true;
                self.circle(&path[first..], tasks, links);
            }
        }
        (!has_circle).then_some(ancestors)
    }

    fn circle(&mut self, circle: &[usize], tasks: &[Task], links: &[Links<'a>]) {
        // It begins with the task that stands first.
        let first = (0..circle.len()).min_by_key(|&at| circle[at]).unwrap_or(0);
        let round: Vec<usize> = circle[first..].iter().chain(&circle[..first]).copied().collect();
        let steps: Vec<String> = round
            .iter()
            .zip(round.iter().cycle().skip(1))
            .map(|(&index, &need)| {
                let left_out = if links[index].needs.is_none() {
                    " (the task before it)"
                } else {
                    ""
                };
                format!("{:?} needs {:?}{left_out}", tasks[index].name, tasks[need].name)
            })
            .collect();
        let message = format!(
            "tasks wait for each other in a circle: {}: take one of these needs out",
            steps.join(", ")
        );
        self.problem(links[round[0]].name_at, Kind::Conflict, message);
    }

    fn check_recovers(
        &mut self,
        index: usize,
        recovers: &[usize],
        link: &Links<'a>,
        tasks: &[Task],
        ancestors: &Ancestors,
    ) {
        let task = &tasks[index];
        let at = |other: usize| {
            let place = link.recovers.iter().find(|(name, _)| *name == tasks[other].name);
            place.map_or(link.name_at, |(_, at)| *at)
        };
        for &other in recovers.iter().filter(|&&other| !ancestors.has(index, other)) {
            let (name, other_name) = (&task.name, &tasks[other].name);
            let message = format!(
                "task {name:?} recovers {other_name:?}, but does not come after it: add it to its needs"
            );
            self.problem(at(other), Kind::Conflict, message);
        }
        // Without one of the three a task runs only after success.
        let is_gated = task.when.as_deref().is_some_and(expression::has_gate);
        if let Some(&other) = recovers
            .iter()
            .find(|&&other| ancestors.has(index, other) && !is_gated)
        {
            let (name, other_name) = (&task.name, &tasks[other].name);
            let message = format!(
                "task {name:?} recovers {other_name:?}, but is skipped when that fails: write when: failure(), or always()"
            );
            self.problem(at(other), Kind::Conflict, message);
        }
    }

    fn goto(
        &mut self,
        index: usize,
        node: &'a Node,
        by_name: &BTreeMap<String, usize>,
        tasks: &[Task],
        ancestors: &Ancestors,
    ) -> Option<Goto> {
        let fields = self.fields(node, &GOTO);
        let when = match fields.get("when") {
            Some(node) => self.cel(node, "when", Some(index), Standing::Goto),
            None => {
                self.problem(
                    fields.at,
                    Kind::Missing,
                    "goto has no when: write the condition for going back",
                );
                String::new()
            }
        };
        let max = match fields.get("max") {
            Some(node) => self.count(node, ("max", Some(index)), 1, MOST_TIMES),
            None => {
                self.problem(
                    fields.at,
                    Kind::Missing,
                    "goto has no max: write how often it may go back",
                );
                1
            }
        };
        let target = self.plain(fields.get("task"), "task");
        let at = fields.at("task");
        let Some(&task) = by_name.get(target) else {
            let message = if target.is_empty() {
                "goto has no task: write the name of the task to go back to".to_owned()
            } else {
                let meant = meant(target, by_name.keys().map(String::as_str), &all_of(by_name));
                format!("goto {target:?} is no task{meant}")
            };
            self.problem(at, Kind::NoSuchName, message);
            return None;
        };
        if let Some(message) = no_loop(index, task, tasks, ancestors) {
            self.problem(at, Kind::Conflict, message);
        }
        Some(Goto { when, task, max })
    }
}

/// What a task needs that does not say: the task before it, or all of the group before it; in a group what the one before it needs.
fn needs_left_out(index: usize, tasks: &[Task], groups: &BTreeMap<String, Vec<usize>>) -> Vec<usize> {
    let Some(before) = index.checked_sub(1) else {
        return Vec::new();
    };
    let group = &tasks[before].group;
    if group.is_empty() {
        return vec![before];
    }
    if tasks[index].group == *group {
        return tasks[before].needs.clone();
    }
    let members = groups.get(group).map(Vec::as_slice).unwrap_or_default();
    members.iter().copied().filter(|member| *member < index).collect()
}

/// Why going back from `from` to `to` is no loop of its own.
fn no_loop(from: usize, to: usize, tasks: &[Task], ancestors: &Ancestors) -> Option<String> {
    let name = |index: usize| &tasks[index].name;
    let (from_name, to_name) = (name(from), name(to));
    let comes_after = |task: usize, other: usize| task == other || ancestors.has(task, other);
    if !comes_after(from, to) {
        return Some(format!(
            "task {from_name:?} cannot go to {to_name:?}: it goes back only to a task that it needs, directly or not"
        ));
    }
    if to != from && tasks[to].for_each.is_some() {
        return Some(format!(
            "task {from_name:?} cannot go back to {to_name:?}, which has a forEach: go back to a task before it"
        ));
    }
    for (other, task) in tasks.iter().enumerate() {
        if ancestors.has(other, to) && !comes_after(from, other) && !ancestors.has(other, from) {
            return Some(format!(
                "task {from_name:?} cannot go back to {to_name:?}: {:?} needs that too, and is on another branch",
                name(other)
            ));
        }
        let is_between = ancestors.has(other, to) && comes_after(from, other);
        let foreign = |need: &&usize| !comes_after(**need, to) && !ancestors.has(to, **need);
        if let Some(&need) = task.needs.iter().find(foreign).filter(|_| is_between) {
            return Some(format!(
                "task {from_name:?} cannot go back to {to_name:?}: {:?} on the way needs {:?}, which is on another branch",
                name(other),
                name(need)
            ));
        }
    }
    None
}

/// `: the tasks are …`, unless there are many.
fn all_of(by_name: &BTreeMap<String, usize>) -> String {
    const MOST: usize = 12;
    let names: Vec<String> = by_name
        .keys()
        .filter(|name| !name.is_empty())
        .map(|name| format!("{name:?}"))
        .collect();
    if names.is_empty() || names.len() > MOST {
        ": write the name of one".into()
    } else {
        format!(": the tasks are {}", names.join(", "))
    }
}
