//! Going back to an earlier task.

use serde_json::Value;

use super::super::event::{EventKind, Failure};
use super::super::graph;
use super::super::state::StepState;
use super::draft::Draft;
use super::scope::{scope, seen};
use super::tasks::truth;

impl Draft<'_> {
    /// What a task's `goto` makes of its end: the end itself (an expression that fails, fails it), and the way back.
    pub(super) fn goto(
        &self,
        task: usize,
        state: StepState,
        error: Option<Failure>,
        outputs: &Value,
    ) -> (StepState, Option<Failure>, Option<EventKind>) {
        use StepState::*;
        let defined = self.workflow.definition.tasks.get(task);
        let Some((defined, goto)) = defined.and_then(|task| Some((task, task.goto.as_ref()?))) else {
            return (state, error, None);
        };
        let went_back = self
            .workflow
            .head
            .tasks
            .get(task)
            .map_or(0, |task| task.went_back);
        if !matches!(state, Success | Failed | Timeout)
            || went_back >= goto.max
            || self.workflow.head.ending.is_some()
        {
            return (state, error, None);
        }
        let mut scope = scope(&self.workflow, Some(task));
        if let Some(Value::Object(tasks)) = scope.variables.get_mut("tasks") {
            let outputs = if outputs.is_null() {
                Value::Object(Default::default())
            } else {
                outputs.clone()
            };
            let outputs = match (&defined.for_each, tasks.get(&defined.name)) {
                (Some(_), Some(seen)) => seen.get("outputs").cloned().unwrap_or_default(),
                _ => outputs,
            };
            tasks.insert(defined.name.clone(), seen(state, outputs, error.as_ref()));
        }
        scope.success = state == Success;
        scope.failure = state != Success;
        match truth(&goto.when, &scope) {
            Ok(condition) if condition.result == Value::Bool(true) => {
                let tasks = graph::between(&self.workflow.definition, goto.task, task);
                let back = EventKind::WentBack {
                    from: task,
                    condition,
                    tasks,
                };
                (state, error, Some(back))
            }
            Ok(_) => (state, error, None),
            Err(failure) => match state {
                Success => (Failed, Some(failure), None),
                _ => (state, error, None),
            },
        }
    }
}
