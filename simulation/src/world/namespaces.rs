//! Two namespaces in some worlds: of which a machine is, by its record, and people who move it to the other one.

use coordinator::database::View;
use coordinator::machines::{self, File};
use coordinator::namespaces::{DEFAULT, Reach, Scope};
use serde_json::{Value, json};
use store::{Commit, Operation, Snapshot, Store};
use workflow::engine::{Waiting, Workflow};

use super::World;
use crate::Breakage;
use crate::dice::Dice;

/// The other one.
pub(super) const BLUE: &str = "blue";

impl World {
    /// Of which namespace a machine is when the world begins.
    pub(super) fn first_namespace(&self, machine: usize) -> &'static str {
        match self.divided && machine % 3 == 2 {
            true => BLUE,
            false => DEFAULT,
        }
    }

    /// Of which namespace a machine is now.
    pub(super) fn namespace_of(&self, machine: usize) -> String {
        let key = format!("machine/{}", self.machines[machine].name);
        let row = self.disk.as_it_is().get(key.as_bytes()).ok().flatten();
        let record = row.and_then(|row| serde_json::from_slice::<Value>(&row.value).ok());
        let namespace = record.as_ref().and_then(|record| record["namespace"].as_str());
        namespace.unwrap_or(DEFAULT).to_owned()
    }

    /// A namespace, and the workers that somebody writes who works in it: now and then one of the other, by mistake.
    pub(super) fn somewhere(&mut self) -> (String, Vec<String>) {
        let mac = |world: &World, machine: usize| world.machines[machine].mac.clone();
        let all = 0..self.machines.len();
        if !self.divided {
            return (
                DEFAULT.to_owned(),
                all.map(|machine| mac(self, machine)).collect(),
            );
        }
        let namespace = if self.dice.one_in(3) { BLUE } else { DEFAULT };
        let by_mistake = self.dice.percent(10);
        let own: Vec<String> = all
            .clone()
            .filter(|machine| by_mistake || self.namespace_of(*machine) == namespace)
            .map(|machine| mac(self, machine))
            .collect();
        match own.is_empty() {
            false => (namespace.to_owned(), own),
            // One machine is of one namespace.
            true => (self.namespace_of(0), vec![mac(self, 0)]),
        }
    }

    /// Somebody applies a machine's record with the other namespace in it. It is refused while a workflow needs the machine.
    pub(super) fn move_machine(&mut self) {
        let machine = pick(&mut self.dice, self.machines.len());
        let to = match self.namespace_of(machine).as_str() {
            DEFAULT => BLUE,
            _ => DEFAULT,
        };
        let (name, mac) = (&self.machines[machine].name, &self.machines[machine].mac);
        let file = File {
            text: format!(
                "machine: {name}\nnamespace: {to}\nmac: {mac}\ndisks: [/dev/vda]\nlabels: {{rack: r{}}}\nnetboot: agent\n",
                machine % 3
            ),
            ..File::default()
        };
        let (name, now) = (name.clone(), self.server_clock(0));
        let applied = coordinator::database::read(&*self.disk, |view: &View| {
            let scope = Scope::within(view, &Reach::everything(), "")?;
            machines::apply(view, &scope, &file, &[], now)
        });
        let said = match applied {
            Ok(applied) => {
                let moved = applied.moved;
                let steps = applied.steps.into_iter().map(|step| step.into_commit());
                let done: Result<Vec<_>, _> = steps.map(|commit| self.disk.commit(&commit)).collect();
                // What failed may have happened.
                for server in 0..self.servers.len() {
                    for machine in &moved {
                        self.wake(server, machine);
                    }
                }
                self.coverage
                    .command(if done.is_ok() { "move" } else { "move failed" });
                format!("machine {name} moves to {to}: {:?}", done.map(|_| ()))
            }
            Err(error) => {
                self.coverage.command("move refused");
                format!("machine {name} does not move to {to}: {error}")
            }
        };
        self.say(said);
    }

    /// The broken way: the record alone is changed, while an attempt is on its way to the machine.
    pub(super) fn may_move_unasked(&mut self, machine: usize) {
        let is_broken = self.settings.breakage == Some(Breakage::MachinesMoveUnasked);
        if !is_broken || !self.dice.one_in(4) {
            return;
        }
        let name = self.machines[machine].name.clone();
        let to = match self.namespace_of(machine).as_str() {
            DEFAULT => BLUE,
            _ => DEFAULT,
        };
        let key = format!("machine/{name}");
        let Some(row) = self.disk.as_it_is().get(key.as_bytes()).ok().flatten() else {
            return;
        };
        let Ok(mut record) = serde_json::from_slice::<Value>(&row.value) else {
            return;
        };
        record["namespace"] = to.into();
        let commit = Commit {
            operations: vec![Operation::Put {
                key: key.into(),
                value: record.to_string().into(),
            }],
            ..Commit::default()
        };
        // It may fail; then somebody tries again some time.
        let _ = self.disk.commit(&commit);
        self.say(format!("machine {name} is of {to}, and nobody was asked"));
    }

    /// Whether something of a workflow waits for a machine that is of the other namespace.
    pub(super) fn waits_in_vain(&self, workflow: &Workflow) -> bool {
        let waits = |worker: &str| {
            let machine = self.machines.iter().position(|machine| machine.mac == worker);
            machine.is_some_and(|machine| self.namespace_of(machine) != workflow.head.namespace)
        };
        let mut open = workflow.executions.values();
        self.divided
            && open.any(|execution| {
                execution.waiting == Some(Waiting::Machine)
                    && !execution.state.is_final()
                    && waits(&execution.worker)
            })
    }
}

/// What the store has of the namespaces.
pub(super) fn row() -> (String, Value) {
    (
        format!("namespace/{BLUE}"),
        json!({"created_at": 0, "created_by": "somebody"}),
    )
}

fn pick(dice: &mut Dice, count: usize) -> usize {
    let numbers: Vec<usize> = (0..count).collect();
    *dice.pick(&numbers)
}
