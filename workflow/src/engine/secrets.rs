//! Secrets: where their values go in what an action is handed, and how they get there.
//!
//! A text that is recorded has `${{ secrets.NAME }}` in it, and beside the texts stands where. That is noted when the
//! definition's text is filled in, from the definition alone: what an expression gave may have the same characters in it,
//! and stays a text. Nobody looks through a recorded text again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Dispatch;
use super::ids::AttemptId;
use super::size::json_bytes;
use super::state::Workflow;
use crate::expression::secret_hole;

/// A place where a secret's value is put in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHole {
    pub name: String,
    /// From 0, within the task; `None`: of the task itself, for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<usize>,
    pub text: SecretText,
    /// The byte of the text at which `${{ secrets.NAME }}` begins.
    pub at: usize,
}

/// The text that a hole is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretText {
    /// A word of the command, from 0.
    Command(usize),
    /// The value of a variable.
    Environment(String),
    /// A text of the input, as a JSON pointer (RFC 6901).
    Input(String),
}

/// Why an action cannot be handed out. Never says a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    #[error("there is no value for the secret {name:?}")]
    Missing { name: String },
    #[error("what is recorded of the action has no ${{{{ secrets.{name} }}}} at byte {at} of {text:?}")]
    Misplaced {
        name: String,
        text: SecretText,
        at: usize,
    },
    #[error(
        "command, environment and input come to {bytes} B with their secrets, {MAX_HANDED_BYTES} B at most: hand larger \
         ones on as files"
    )]
    TooLong { bytes: usize },
}

/// Command, environment and input of an action with the values of its secrets, together.
pub const MAX_HANDED_BYTES: usize = 3 << 19;

/// What an action is handed, its secrets put in. Has no `Debug`: nobody prints it.
pub struct Handed {
    pub command: Vec<String>,
    /// With the variables that the input of a built-in action sets.
    pub environment: BTreeMap<String, String>,
    /// The input as JSON; empty: it has none.
    pub input_json: String,
}

impl Dispatch {
    /// Names of the secrets that it needs.
    pub fn secret_names(&self) -> BTreeSet<&str> {
        self.secrets.iter().map(|hole| hole.name.as_str()).collect()
    }

    /// Command, environment and input with the values of the secrets in their places.
    ///
    /// # Errors
    /// [`SecretProblem`]: a value is missing, or all together are too long.
    pub fn hand_out(&self, values: &BTreeMap<String, impl AsRef<str>>) -> Result<Handed, SecretProblem> {
        let mut handed = Handed {
            command: self.command.clone(),
            environment: self.environment.clone(),
            input_json: String::new(),
        };
        let mut input = Value::Object(self.input.clone());
        let mut holes: Vec<&SecretHole> = self.secrets.iter().collect();
        // From behind, so that the places that are left stay where they are.
        holes.sort_by_key(|hole| std::cmp::Reverse(hole.at));
        let words = handed.command.iter().map(String::len);
        let variables = handed.environment.iter();
        let mut bytes = words.sum::<usize>()
            + variables
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
            + if self.input.is_empty() {
                0
            } else {
                json_bytes(&self.input)
            };
        for hole in holes {
            let value = values.get(&hole.name).ok_or_else(|| SecretProblem::Missing {
                name: hole.name.clone(),
            })?;
            bytes = bytes.saturating_add(value.as_ref().len());
            if bytes > MAX_HANDED_BYTES {
                return Err(SecretProblem::TooLong { bytes });
            }
            let text = match &hole.text {
                SecretText::Command(word) => handed.command.get_mut(*word),
                SecretText::Environment(variable) => handed.environment.get_mut(variable),
                SecretText::Input(pointer) => match input.pointer_mut(pointer) {
                    Some(Value::String(text)) => Some(text),
                    _ => None,
                },
            };
            let written = secret_hole(&hole.name);
            let text = text.filter(|text| text.get(hole.at..).is_some_and(|rest| rest.starts_with(&written)));
            let Some(text) = text else {
                return Err(SecretProblem::Misplaced {
                    name: hole.name.clone(),
                    text: hole.text.clone(),
                    at: hole.at,
                });
            };
            text.replace_range(hole.at..hole.at + written.len(), value.as_ref());
        }
        if let Value::Object(input) = &input
            && !input.is_empty()
        {
            let set = self.native.and_then(|native| native.set_by(input).ok());
            for (name, value) in set.unwrap_or_default() {
                // Proxies have two spellings, and the action's input goes before its task's environment in both.
                handed
                    .environment
                    .retain(|other, _| !other.eq_ignore_ascii_case(name));
                handed.environment.insert(name.to_owned(), value);
            }
            handed.input_json = serde_json::to_string(input).unwrap_or_default();
        }
        match handed.bytes() {
            bytes if bytes > MAX_HANDED_BYTES => Err(SecretProblem::TooLong { bytes }),
            _ => Ok(handed),
        }
    }
}

impl Handed {
    fn bytes(&self) -> usize {
        let variables = self.environment.iter();
        self.command.iter().map(String::len).sum::<usize>()
            + variables
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
            + self.input_json.len()
    }
}

/// Names of the secrets that an attempt's task execution was given: what is to be hidden in what comes from it.
pub fn secret_names(workflow: &Workflow, attempt: &AttemptId) -> BTreeSet<String> {
    let execution = workflow
        .execution(attempt.execution)
        .filter(|_| attempt.workflow == workflow.head.id);
    let filled = execution.and_then(|execution| execution.filled.as_ref());
    let holes = filled.map(|filled| filled.secrets.as_slice()).unwrap_or_default();
    holes.iter().map(|hole| hole.name.clone()).collect()
}
