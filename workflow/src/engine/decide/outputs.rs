//! What a workflow may have in outputs, values and texts: all of it is in memory, and goes to everybody who looks.

use serde_json::{Map, Value};

use super::super::event::{Failure, Outcome};
use super::super::size::json_bytes;
use super::super::state::Filled;
use super::super::{MAX_FILLED_BYTES, MAX_OUTPUTS_BYTES};
use super::draft::Draft;
use crate::language::{Action, MAX_INPUT_BYTES, input_too_large};

impl Draft<'_> {
    /// What the agent said; a failure, where its outputs are too many for the workflow.
    pub(super) fn with_room(&self, outcome: &Outcome) -> Outcome {
        let Outcome::Succeeded { outputs, .. } = outcome else {
            return outcome.clone();
        };
        match self.too_many(outputs) {
            None => outcome.clone(),
            Some(Failure { reason, message }) => Outcome::Failed {
                reason,
                message,
                exit_code: 0,
            },
        }
    }

    /// Why outputs, or values of a `set`, cannot be recorded.
    pub(super) fn too_many(&self, outputs: &Map<String, Value>) -> Option<Failure> {
        if outputs.is_empty() {
            return None;
        }
        let bytes = json_bytes(outputs);
        let all = self.workflow.head.outputs_bytes.saturating_add(bytes);
        (all > MAX_OUTPUTS_BYTES).then(|| {
            let message = format!(
                "with these {bytes} B the outputs and values of the workflow come to {all} B, {MAX_OUTPUTS_BYTES} B at \
                 most: hand larger results on in /workflow"
            );
            Failure::new("TooManyOutputs", message)
        })
    }
}

/// Why a workflow cannot end with these outputs.
pub(super) fn too_many_of_workflow(outputs: &Map<String, Value>) -> Option<String> {
    let bytes = json_bytes(outputs);
    (bytes > MAX_OUTPUTS_BYTES)
        .then(|| format!("the outputs of the workflow come to {bytes} B, {MAX_OUTPUTS_BYTES} B at most"))
}

/// Why an action cannot be given its input: it is too large, or the action is built in and has no use for a field of it.
pub(super) fn bad_input(filled: &Filled) -> Option<Failure> {
    let given = filled.actions.iter().filter(|action| !action.input.is_empty());
    given.into_iter().find_map(bad_input_of)
}

fn bad_input_of(action: &Action) -> Option<Failure> {
    let bytes = json_bytes(&action.input);
    if bytes > MAX_INPUT_BYTES {
        return Some(Failure::new("BadInput", input_too_large(&action.name, bytes)));
    }
    let useless = action.native()?.set_by(&action.input).err()?;
    let words: Vec<&str> = useless.iter().map(|useless| useless.message.as_str()).collect();
    let message = format!(
        "the input of action {:?} is of no use: {}",
        action.name,
        words.join("; ")
    );
    Some(Failure::new("BadInput", message))
}

/// Why a task cannot have these texts.
pub(super) fn too_long(filled: &Filled) -> Option<Failure> {
    let bytes = json_bytes(filled);
    (bytes > MAX_FILLED_BYTES).then(|| {
        let message = format!(
            "the task's texts come to {bytes} B with the expressions filled in, {MAX_FILLED_BYTES} B at most: hand \
             larger ones on in /workflow"
        );
        Failure::new("Expression", message)
    })
}
