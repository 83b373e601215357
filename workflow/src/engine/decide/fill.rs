//! Filling the texts of a task in, once, when an execution of it is made.

use serde_json::{Map, Value};

use super::super::secrets::{SecretHole, SecretText};
use super::super::state::Filled;
use crate::expression::{EvaluationError, Scope, fill_handed, fill_handed_value, fill_text, fill_value};
use crate::language::{Control, Definition, Task};

/// Whether any text of the task (its worker apart) holds an expression.
pub(super) fn has_texts(definition: &Definition, task: &Task) -> bool {
    let mentions = |text: &str| text.contains("${{");
    let all = |texts: &[String]| texts.iter().any(|text| mentions(text));
    if !definition.has_expressions() {
        return false;
    }
    let in_actions = task.actions.iter().any(|action| {
        mentions(&action.image)
            || all(&action.command)
            || all(&action.on_timeout)
            || all(&action.on_failure)
            || action.environment.values().any(|text| mentions(text))
            || action.input.values().any(mentioned)
    });
    let in_control = match &task.control {
        Some(Control::Wait(text) | Control::Until(text)) => mentions(text),
        Some(Control::Fail { reason, message }) => mentions(reason) || mentions(message),
        Some(Control::Workflow { template, inputs }) => mentions(template) || inputs.values().any(mentioned),
        // Whose address that is has to be found.
        Some(Control::Answers(_)) => true,
        Some(Control::Set(_) | Control::Succeed) | None => false,
    };
    in_actions
        || in_control
        || task.environment.values().any(|text| mentions(text))
        || task
            .approve
            .as_ref()
            .is_some_and(|approve| mentions(&approve.message))
}

fn mentioned(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${{"),
        Value::Array(values) => values.iter().any(mentioned),
        Value::Object(values) => values.values().any(mentioned),
        _ => false,
    }
}

/// The task's texts with every expression's value in its place.
pub(super) fn fill(task: &Task, scope: &Scope) -> Result<Filled, EvaluationError> {
    let text = |text: &String| fill_text(text, scope);
    let texts = |texts: &[String]| texts.iter().map(text).collect::<Result<Vec<_>, _>>();
    let mut filled = Filled::default();
    let mut secrets = Vec::new();
    let handed = |secrets: &mut Vec<SecretHole>,
                  text: &str,
                  action: Option<usize>,
                  of: SecretText|
     -> Result<String, EvaluationError> {
        let (text, found) = fill_handed(text, scope)?;
        secrets.extend(found.into_iter().map(|(at, name)| SecretHole {
            name,
            action,
            text: of.clone(),
            at,
        }));
        Ok(text)
    };
    for (name, value) in &task.environment {
        let value = handed(&mut secrets, value, None, SecretText::Environment(name.clone()))?;
        filled.environment.insert(name.clone(), value);
    }
    for (index, action) in task.actions.iter().enumerate() {
        let mut action = action.clone();
        action.image = text(&action.image)?;
        for (number, word) in action.command.iter_mut().enumerate() {
            *word = handed(&mut secrets, word, Some(index), SecretText::Command(number))?;
        }
        action.on_timeout = texts(&action.on_timeout)?;
        action.on_failure = texts(&action.on_failure)?;
        for (name, value) in &mut action.environment {
            *value = handed(
                &mut secrets,
                value,
                Some(index),
                SecretText::Environment(name.clone()),
            )?;
        }
        for (name, value) in &mut action.input {
            let (filled, found) = fill_handed_value(value, scope)?;
            *value = filled;
            let pointer = name.replace('~', "~0").replace('/', "~1");
            secrets.extend(found.into_iter().map(|(within, at, secret)| SecretHole {
                name: secret,
                action: Some(index),
                text: SecretText::Input(format!("/{pointer}{within}")),
                at,
            }));
        }
        filled.actions.push(action);
    }
    filled.secrets = secrets;
    if let Some(approve) = &task.approve {
        filled.message = text(&approve.message)?;
    }
    match &task.control {
        Some(Control::Wait(time) | Control::Until(time)) => filled.time = text(time)?,
        Some(Control::Fail { reason, message }) => {
            filled.reason = text(reason)?;
            filled.fail_message = text(message)?;
        }
        Some(Control::Workflow { template, inputs }) => {
            filled.template = text(template)?;
            filled.inputs = fill_inputs(inputs.iter(), scope)?;
        }
        Some(Control::Answers(answers)) => {
            filled.address = text(&answers.address)?.trim().to_owned();
            filled.path = text(&answers.path)?;
        }
        Some(Control::Set(_) | Control::Succeed) | None => {}
    }
    Ok(filled)
}

fn fill_inputs<'a>(
    inputs: impl Iterator<Item = (&'a String, &'a Value)>,
    scope: &Scope,
) -> Result<Map<String, Value>, EvaluationError> {
    inputs
        .map(|(name, value)| Ok((name.clone(), fill_value(value, scope)?)))
        .collect()
}

/// A worker as machines are named: MACs in lower case with colons.
pub(super) fn worker(text: &str) -> String {
    let text = text.trim();
    let is_mac = text.len() == 17
        && text.bytes().enumerate().all(|(at, byte)| match at % 3 {
            2 => matches!(byte, b':' | b'-'),
            _ => byte.is_ascii_hexdigit(),
        });
    if is_mac {
        text.to_ascii_lowercase().replace('-', ":")
    } else {
        text.to_owned()
    }
}
