//! Workflows as rows of a list: short for a screen, or wide; sub-workflows below the one that they are part of.

use std::collections::{BTreeMap, BTreeSet};

use super::short::ShortIds;
use super::workflow::Execution;
use super::{Task, Workflow, dash, first_line, short_age, when};
use workflow::labels::in_one_line;

/// Columns that a list has beside its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) namespace: bool,
    pub(crate) labels: bool,
    pub(crate) wide: bool,
}

/// Names of machines that a row has room for.
const MACHINES: usize = 3;

impl Listed {
    pub(crate) fn header(self) -> Vec<&'static str> {
        let mut header = match self.wide {
            true => vec![
                "ID", "NAME", "TEMPLATE", "STATE", "CREATED", "ENDED", "MACHINES", "PART OF", "MESSAGE",
            ],
            false => vec!["ID", "NAME", "STATE", "AGE", "MACHINES", "MESSAGE"],
        };
        if self.namespace {
            header.insert(0, "NAMESPACE");
        }
        if self.labels {
            header.push("LABELS");
        }
        header
    }

    /// Which column has the state.
    pub(crate) fn state(self) -> usize {
        let header = self.header();
        header
            .iter()
            .position(|name| *name == "STATE")
            .unwrap_or_default()
    }

    /// A row for each, in this order, set in so far as a tree has them.
    pub(crate) fn rows(self, all: &[(usize, &Workflow)]) -> Vec<Vec<String>> {
        let short = ShortIds::of(all.iter().map(|(_, workflow)| workflow.id.as_str()));
        let row = |(depth, workflow): &(usize, &Workflow)| {
            let name = match depth {
                0 => workflow.name.clone(),
                depth => format!("{:width$}└ {}", "", workflow.name, width = (depth - 1) * 2),
            };
            let message = dash(&first_line(&workflow.summary()));
            let mut row = match self.wide {
                true => vec![
                    workflow.id.clone(),
                    name,
                    workflow.made_from(),
                    workflow.state.clone(),
                    when(workflow.created_at.as_deref()),
                    when(workflow.ended_at.as_deref()),
                    dash(&workflow.machines(true).join(",")),
                    dash(workflow.parent.as_deref().unwrap_or_default()),
                    message,
                ],
                false => vec![
                    short.short(&workflow.id).to_owned(),
                    name,
                    workflow.state.clone(),
                    short_age(workflow.created_at.as_deref()),
                    dash(&few(&workflow.machines(false))),
                    message,
                ],
            };
            if self.namespace {
                row.insert(0, workflow.namespace.clone());
            }
            if self.labels {
                row.push(dash(&in_one_line(&workflow.labels)));
            }
            row
        };
        all.iter().map(row).collect()
    }
}

fn few(names: &[String]) -> String {
    match names.len().saturating_sub(MACHINES) {
        0 => names.join(","),
        more => format!("{},+{more}", names.get(..MACHINES).unwrap_or_default().join(",")),
    }
}

/// In the order of a list, but each sub-workflow below the one that it is part of, the oldest first, with how deep it is.
pub(crate) fn folded(all: &[Workflow]) -> Vec<(usize, &Workflow)> {
    let ids: BTreeSet<&str> = all.iter().map(|workflow| workflow.id.as_str()).collect();
    let mut below: BTreeMap<&str, Vec<&Workflow>> = BTreeMap::new();
    let mut top = Vec::new();
    for workflow in all {
        match workflow.parent.as_deref().filter(|parent| ids.contains(parent)) {
            Some(parent) => below.entry(parent).or_default().push(workflow),
            None => top.push(workflow),
        }
    }
    let mut open: Vec<(usize, &Workflow)> = top.into_iter().rev().map(|workflow| (0, workflow)).collect();
    let mut rows = Vec::new();
    while let Some((depth, workflow)) = open.pop() {
        rows.push((depth, workflow));
        let mut children = below.remove(workflow.id.as_str()).unwrap_or_default();
        children.sort_by(|one, other| other.id.cmp(&one.id));
        open.extend(children.into_iter().map(|child| (depth + 1, child)));
    }
    rows
}

impl Workflow {
    /// `debian v3`
    fn made_from(&self) -> String {
        let name = dash(self.template.as_deref().unwrap_or_default());
        match self.template_version {
            Some(version) => format!("{name} v{version}"),
            None => name,
        }
    }

    /// Its machines by their names, each once; with their workers beside them for a wide row.
    fn machines(&self, wide: bool) -> Vec<String> {
        let mut machines: Vec<String> = Vec::new();
        for machine in self.tasks.iter().flat_map(|task| task.machines(wide)) {
            if !machines.contains(&machine) {
                machines.push(machine);
            }
        }
        machines
    }

    /// Names of the tasks and items that wait for approval, of one task if that is named.
    pub(crate) fn waiting_for_approval(&self, task: &str) -> impl Iterator<Item = String> {
        self.asked(task).map(|(name, _)| name)
    }

    /// With what is asked.
    fn asked(&self, named: &str) -> impl Iterator<Item = (String, String)> {
        let tasks = self
            .tasks
            .iter()
            .filter(move |task| named.is_empty() || task.name == named);
        tasks.flat_map(|task| {
            let waits = |execution: &&Execution| execution.waiting.as_deref() == Some("approval");
            let asked = task.executions.iter().filter(waits);
            asked.map(move |execution| (task.name_of(execution), execution.message()))
        })
    }

    /// Why it is in its state; else how far it is.
    fn summary(&self) -> String {
        let why = self.why();
        if !why.is_empty() {
            return why;
        }
        let asked = self.asked("");
        let asked: Vec<String> = asked.map(|(name, waits)| format!("{name}: {waits}")).collect();
        if let Some(first) = asked.first() {
            return match asked.len() {
                1 => first.clone(),
                count => format!("{first} (and {} more)", count - 1),
            };
        }
        // A list has no executions.
        let waits =
            |task: &&Task| task.kind == "approve" && task.state == "WAITING" && task.executions.is_empty();
        if let Some(task) = self.tasks.iter().find(waits) {
            return format!("{}: waits for approval", task.name);
        }
        match self.progress.as_slice() {
            [] => String::new(),
            [one] => format!("{} {}", one.action, one.line()),
            [one, more @ ..] => format!("{} {} (and {} more)", one.action, one.line(), more.len()),
        }
    }
}

impl Task {
    fn machines(&self, wide: bool) -> Vec<String> {
        let of = |worker: Option<&String>, machine: Option<&String>| match (worker, machine) {
            (Some(worker), Some(machine)) if wide => Some(format!("{machine} ({worker})")),
            (_, Some(machine)) => Some(machine.clone()),
            // What an expression gives is not known yet.
            (Some(worker), None) => Some(worker.clone()).filter(|worker| !worker.contains("${{")),
            (None, None) => None,
        };
        if !self.executions.is_empty() {
            let each = self.executions.iter();
            return each
                .filter_map(|execution| of(execution.worker.as_ref(), execution.machine.as_ref()))
                .collect();
        }
        of(self.worker.as_ref(), self.machine.as_ref())
            .or_else(|| (self.for_each && self.items > 0).then(|| format!("{} items", self.items)))
            .into_iter()
            .collect()
    }

    fn name_of(&self, execution: &Execution) -> String {
        match self.for_each {
            true => format!("{}[{}]", self.name, execution.item_number),
            false => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    fn workflow(id: &str, parent: &str, machine: &str) -> Workflow {
        Workflow::from(v1::Workflow {
            id: id.into(),
            name: format!("n{id}"),
            parent: parent.into(),
            root: "a".into(),
            state: "RUNNING".into(),
            tasks: vec![v1::TaskState {
                worker: "52:54:00:77:00:0b".into(),
                machine: machine.into(),
                ..v1::TaskState::default()
            }],
            ..v1::Workflow::default()
        })
    }

    #[test]
    fn sub_workflows_are_below_what_they_are_part_of() {
        // The newest first, as a list has them.
        let all = [
            workflow("d", "b", ""),
            workflow("c", "a", ""),
            workflow("b", "a", ""),
            workflow("9", "", ""),
            workflow("a", "", "node1"),
        ];
        let shown: Vec<String> = Listed::default()
            .rows(&folded(&all))
            .into_iter()
            .map(|row| format!("{}|{}|{}", row[0], row[1], row[4]))
            .collect();
        assert_eq!(
            shown,
            [
                "9|n9|52:54:00:77:00:0b",
                "a|na|node1",
                "b|└ nb|52:54:00:77:00:0b",
                "d|  └ nd|52:54:00:77:00:0b",
                "c|└ nc|52:54:00:77:00:0b",
            ]
        );
    }

    #[test]
    fn few_machines_are_named_and_the_rest_is_counted() {
        let names = |count: usize| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
        assert_eq!(few(&names(3)), "n0,n1,n2");
        assert_eq!(few(&names(9)), "n0,n1,n2,+6");
    }
}
