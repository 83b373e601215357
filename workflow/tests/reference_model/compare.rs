//! Where the model and the engine have to agree.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use workflow::engine::{AttemptId, StepState, Workflow, WorkflowState, next_due};

use crate::Both;
use crate::choices::is_stopped;
use crate::definition;
use crate::model::{At, End, Flow, Model, ROOT};
use crate::outbox::read_outputs;
use crate::plan::{MACHINES, Work, machine_name};

impl Both {
    /// What has happened, for a message.
    pub(crate) fn told(&self) -> String {
        let mut told = format!(
            "after {:?} of {:?}, where last\n",
            self.history,
            self.family.root().plan
        );
        for (name, one) in &self.driver.workflows {
            for event in one.events.iter().rev().take(10).rev() {
                told += &format!("  {name} {} {}\n", event.kind.name(), event.kind);
            }
        }
        told
    }

    /// After each thing that happens.
    pub(crate) fn compare(&self) {
        assert_eq!(
            self.driver.letters(),
            self.family.letters,
            "under way between workflows: engine, model {}",
            self.told()
        );
        assert_eq!(self.driver.workflows.len(), self.family.models.len());
        for model in &self.family.models {
            self.compare_workflow(model);
        }
        self.compare_machines();
    }

    fn engine(&self, model: &Model) -> &Workflow {
        &self.driver.workflows[&model.name].state
    }

    fn compare_workflow(&self, model: &Model) {
        let workflow = self.engine(model);
        let (name, state) = (&model.name, workflow.head.state);
        let told = || self.told();
        assert_eq!(workflow.head.labels, model.labels, "labels of {name} {}", told());
        match model.flow {
            Flow::Over(end) => {
                let message = &workflow.head.message;
                assert_eq!(state, workflow_state(end), "{name} {} ({message})", told());
                return;
            }
            Flow::Stopping(End::Cancelled) => {
                assert_eq!(state, WorkflowState::Cancelling, "{name} {}", told());
            }
            Flow::Stopping(_) => assert_eq!(state, WorkflowState::Ending, "{name} {}", told()),
            Flow::Paused if model.away().is_empty() => {
                assert_eq!(state, WorkflowState::Paused, "{name} {}", told());
            }
            Flow::Paused => assert_eq!(state, WorkflowState::Pausing, "{name} {}", told()),
            Flow::Running => {
                let running = [WorkflowState::Pending, WorkflowState::Running];
                assert!(running.contains(&state), "{name} {state} {}", told());
            }
        }
        if model.flow == Flow::Running {
            let due = next_due(workflow).map(|due| due / 1000);
            assert_eq!(due, model.next_due(), "{name} due: engine, model {}", told());
            self.compare_tasks(model);
        }
    }

    fn compare_machines(&self) {
        let told = || self.told();
        for machine in (0..MACHINES).filter(|&machine| self.driver.is_told_all(machine)) {
            self.compare_queue(machine);
        }
        for machine in 0..MACHINES {
            let current = self
                .driver
                .current(machine)
                .filter(|attempt| self.is_awaited(attempt));
            let current = current.map(|attempt| {
                let of = self.family.named(self.driver.name_of(&attempt.workflow));
                let of = of.expect("a workflow of the family");
                (of, attempt.execution.task, attempt.execution.item)
            });
            let here = self.on(machine);
            assert_eq!(current, here, "on machine {machine}: engine, model {}", told());
            let Some((of, task, item)) = here else {
                continue;
            };
            let model = &self.family.models[of];
            if model.tasks[task].items[item].at == At::Away && self.driver.is_told_all(machine) {
                assert_eq!(
                    self.driver.is_asked_to_stop(machine),
                    is_stopped(model, task, item),
                    "machine {machine} is to stop it: engine, model {}",
                    told()
                );
            }
        }
    }

    /// What is ready for a machine, and who holds it.
    fn compare_queue(&self, machine: usize) {
        let queue = &self.driver.machines[&machine_name(machine)];
        let wants = queue.wants.iter().map(|want| {
            let name = self.driver.name_of(&want.workflow);
            (name, want.execution.task, want.execution.item)
        });
        let mut wants: Vec<(&str, usize, usize)> = wants.collect();
        let mut ready: Vec<(&str, usize, usize)> = Vec::new();
        for model in &self.family.models {
            let here = model.ready().into_iter().filter(|(of, ..)| *of == machine);
            ready.extend(here.map(|(_, task, item)| (model.name.as_str(), task, item)));
        }
        wants.sort_unstable();
        if self.driver.late > 0 {
            // One that was said late may be stale: it is refused, and forgotten then.
            wants.retain(|want| ready.contains(want));
            wants.dedup();
        }
        ready.sort_unstable();
        let told = || self.told();
        assert_eq!(
            wants,
            ready,
            "ready for machine {machine}: engine, model {}",
            told()
        );
        // What a stop leaves is given back at the end.
        if matches!(self.family.root().flow, Flow::Stopping(_)) {
            return;
        }
        let roots: Vec<&str> = queue.claims.iter().map(|claim| claim.root.as_str()).collect();
        let held = self.family.claimed.contains(&machine).then_some(ROOT);
        assert_eq!(
            roots,
            held.as_slice(),
            "machine {machine} is held: engine, model {}",
            told()
        );
    }

    /// A machine that has left keeps what it left with until it boots.
    fn is_awaited(&self, attempt: &AttemptId) -> bool {
        let workflow = &self.driver.workflows[self.driver.name_of(&attempt.workflow)].state;
        let execution = workflow.execution(attempt.execution);
        let is_open = execution.is_some_and(|execution| !execution.state.is_final());
        let action = self.driver.action(attempt);
        is_open && action.attempts == attempt.attempt && action.is_under_way()
    }

    fn compare_tasks(&self, model: &Model) {
        let workflow = self.engine(model);
        let (name, told) = (&model.name, || self.told());
        let asking: Vec<(usize, usize)> = workflow
            .executions
            .values()
            .filter(|execution| !execution.state.is_final() && execution.is_asked())
            .map(|execution| (execution.id.task, execution.id.item))
            .collect();
        assert_eq!(asking, model.asking(), "{name} asks: engine, model {}", told());
        for (index, task) in model.tasks.iter().enumerate() {
            let state = workflow.head.tasks[index].state;
            match task.end {
                Some(end) => assert_eq!(state, step_state(end), "{name} task {index} {}", told()),
                None => assert!(!state.is_final(), "{name} task {index} is {state} {}", told()),
            }
        }
    }

    /// The root is over.
    pub(crate) fn compare_end(&self) {
        for model in &self.family.models {
            assert!(model.is_over(), "{} is not over {}", model.name, self.told());
            // What a stop leaves of single tasks is the engine's to say.
            if !model.was_stopped {
                self.compare_tasks(model);
                self.compare_items(model);
                self.compare_vars(model);
            }
            self.compare_attempts(model);
        }
        for machine in self.driver.machines.values() {
            assert!(
                machine.claims.is_empty() && machine.wants.is_empty(),
                "{machine:?} is kept {}",
                self.told()
            );
        }
        self.driver.check_replay();
    }

    fn compare_items(&self, model: &Model) {
        let workflow = self.engine(model);
        for (index, task) in model.tasks.iter().enumerate() {
            let step = &model.plan.tasks[index];
            let is_sub = matches!(step.work, Work::Workflow { .. });
            if step.each.is_none() && !is_sub {
                continue;
            }
            for (item, one) in task.items.iter().enumerate() {
                let execution = workflow
                    .executions_of(index)
                    .find(|execution| execution.id.item == item);
                let place = || format!("{} task {index} item {item} {}", model.name, self.told());
                let state = execution.map(|execution| execution.state);
                if step.each.is_some() {
                    assert_eq!(state, one.end().map(step_state), "{}", place());
                }
                if is_sub && one.end() == Some(End::Success) {
                    let outputs = execution.map(|execution| &execution.outputs);
                    assert_eq!(outputs.and_then(read_outputs), one.outputs, "{}", place());
                }
            }
        }
    }

    /// What tasks recorded: in which rounds, and going on from what.
    fn compare_vars(&self, model: &Model) {
        let mut want = Map::new();
        for (task, (rounds, counted)) in &model.vars {
            want.insert(definition::rounds(*task), json!(rounds));
            want.insert(definition::count(*task), json!(counted));
        }
        let vars = Map::clone(&self.engine(model).head.vars);
        assert_eq!(
            Value::Object(vars),
            Value::Object(want),
            "{} recorded: engine, model {}",
            model.name,
            self.told()
        );
    }

    fn compare_attempts(&self, model: &Model) {
        let mut attempts: BTreeMap<(usize, usize, usize), u32> = BTreeMap::new();
        for execution in self.engine(model).executions.values() {
            for (action, state) in execution.actions.iter().enumerate() {
                if state.attempts > 0 {
                    *attempts
                        .entry((execution.id.task, execution.id.item, action))
                        .or_default() += state.attempts;
                }
            }
        }
        assert_eq!(
            attempts,
            model.attempts,
            "{} attempts: engine, model {}",
            model.name,
            self.told()
        );
    }
}

fn workflow_state(end: End) -> WorkflowState {
    match end {
        End::Cancelled => WorkflowState::Cancelled,
        End::Failed => WorkflowState::Failed,
        End::Success => WorkflowState::Success,
        End::Timeout => WorkflowState::Timeout,
        End::Skipped => panic!("no workflow is skipped"),
    }
}

fn step_state(end: End) -> StepState {
    match end {
        End::Cancelled => StepState::Cancelled,
        End::Failed => StepState::Failed,
        End::Skipped => StepState::Skipped,
        End::Success => StepState::Success,
        End::Timeout => StepState::Timeout,
    }
}
