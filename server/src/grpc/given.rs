//! What requests of people carry as text, read: selectors, inputs, rules, and which task is meant.

use std::sync::Arc;

use coordinator::Error;
use workflow::engine::Execution;
use workflow::expression::{Selector, check_selector};
use workflow::language::{self, PolicyRule};

/// What a client selects by; `None`: all are meant.
pub(super) fn selected(text: &str) -> Result<Option<Selector>, Error> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let selector = Selector::parse(text).map_err(|error| {
        Error::Invalid(format!(
            "{error}; a selector is labels, such as rack=r7,disk!=hdd,!gpu, or an expression, such as rack == 'r7' || gpu != ''"
        ))
    });
    let selector = selector?;
    match check_selector(text) {
        Ok(()) => Ok(Some(selector)),
        Err(problems) => {
            let problems: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
            Err(Error::Invalid(format!("`{text}`: {}", problems.join("; "))))
        }
    }
}

/// The object that a client gave.
pub(super) fn inputs(json: &str) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
    if json.is_empty() {
        return Ok(serde_json::Map::new());
    }
    yaml::json_object(json).map_err(|found| {
        Error::Invalid(format!(
            "inputs are no JSON object: {}; write {{\"NAME\": VALUE}}",
            found.message
        ))
    })
}

/// The rules that a client gave.
pub(super) fn policy(rules: &[String]) -> Result<Vec<PolicyRule>, Error> {
    language::policy(rules.iter().map(String::as_str)).map_err(Error::Invalid)
}

/// `NAME`, or `NAME[item]`.
pub(super) fn of_item(task: &str) -> (String, Option<usize>) {
    let parts = task.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    match parts.and_then(|(name, item)| Some((name, item.parse().ok()?))) {
        Some((name, item)) => (name.to_owned(), Some(item)),
        None => (task.to_owned(), None),
    }
}

/// # Errors
/// [`Error::NotFound`], with the names that there are, for a task that it has not.
pub(super) fn has_task(workflow: &workflow::engine::Workflow, task: &str) -> Result<(), Error> {
    if workflow.definition.task_named(task).is_some() {
        return Ok(());
    }
    let names = workflow.definition.tasks.iter().map(|task| task.name.as_str());
    Err(Error::NotFound(format!(
        "workflow {} has no task {task:?}: it has {}",
        workflow.head.id,
        names.collect::<Vec<_>>().join(", ")
    )))
}

/// The only execution that waits for approval.
pub(super) fn the_one_that_waits(
    workflow: &workflow::engine::Workflow,
) -> Result<(String, Option<usize>), Error> {
    let waits = |execution: &&Arc<Execution>| execution.is_asked();
    let waiting: Vec<_> = workflow.executions.values().filter(waits).collect();
    let name = |execution: &Execution| {
        let task = workflow.definition.tasks.get(execution.id.task);
        let name = task.map(|task| task.name.clone()).unwrap_or_default();
        let item = execution.item.as_ref().map(|_| execution.id.item);
        (name, item)
    };
    match waiting.as_slice() {
        [only] => Ok(name(only)),
        [] => Err(Error::Refused(format!(
            "workflow {} has no task that waits for approval",
            workflow.head.id
        ))),
        several => {
            let names = several.iter().map(|execution| match name(execution) {
                (name, Some(item)) => format!("{name}[{item}]"),
                (name, None) => name,
            });
            Err(Error::Refused(format!(
                "several tasks of workflow {} wait for approval: say which, of {}",
                workflow.head.id,
                names.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}
