//! The workflow language: Tinkerbell's template, version 0.1, and what version 1 adds to it.
//!
//! A text is rendered as a Go `text/template`, parsed as YAML, validated. A file of its own for each step: `render`
//! (text and devices to YAML text, with `functions` and `context`; `holes` keeps `${{ CEL }}` out of it), `node` (YAML
//! text to a tree with places), `validate` (that to a [`Definition`], with `fields`, `steps`, `flow`, `inputs`,
//! `expressions`, `expression_types`, `image_reference`). Problems of a step are found all at once; a later step is not reached when an
//! earlier one has some.

use std::collections::BTreeMap;

mod blocks;
mod context;
mod definition;
mod duration;
mod expression_types;
mod expressions;
mod fields;
mod flow;
mod functions;
mod holes;
mod image_reference;
mod inputs;
mod native;
mod native_lines;
mod nearest;
mod node;
mod problem;
mod references;
mod render;
mod secrets;
mod steps;
mod validate;

pub use definition::{
    Action, Amount, Approve, Control, Definition, ForEach, Goto, Input, InputType, Retry, Runtime, Task,
};
pub use duration::{duration_ms, time_ms};
pub use image_reference::{ReferenceError, check as check_image_reference};
pub use inputs::{inputs, typed_inputs};
pub use native::{NATIVE, Native, Writes, native};
pub use nearest::nearest;
pub use problem::{Problem, Text};
pub use render::MAX_RENDERED_BYTES;
pub use secrets::{SecretUse, secrets, secrets_in};

/// What a template is rendered with.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// `{{.device_1}}` → "08:00:27:00:00:01".
    pub devices: BTreeMap<String, String>,
    /// `.hardware`: the machine's record with JSON keys (`spec.metadata.instance.id`); null when unknown.
    pub hardware: serde_json::Value,
}

/// A definition, and what was odd about the text without making it wrong (unknown fields in 0.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub definition: Definition,
    pub yaml: String,
    pub warnings: Vec<Problem>,
    /// What no agent does: actions that are not built in, fields that those which are do not read.
    pub undone: Vec<Problem>,
    /// Every secret that an action is handed.
    pub secrets: Vec<SecretUse>,
}

/// Checks what can be checked of a template before there are devices: its syntax, the functions and templates that it
/// names; and all of it when it fills nothing in. Gives warnings.
pub fn check(text: &str) -> Result<Vec<Problem>, Vec<Problem>> {
    let template = render::Template::parse(text)?;
    if !template.is_plain() {
        return Ok(Vec::new());
    }
    render(text, &Devices::default()).map(|rendered| rendered.warnings)
}

/// Renders, parses and validates.
pub fn render(text: &str, devices: &Devices) -> Result<Rendered, Vec<Problem>> {
    let template = render::Template::parse(text)?;
    let yaml = template.render(devices)?;
    let tree = node::parse(&yaml).map_err(|problem| vec![problem])?;
    let validated = validate::validate(&tree, &yaml)?;
    template.check_version(&validated.definition)?;
    Ok(Rendered {
        definition: validated.definition,
        yaml,
        warnings: validated.warnings,
        undone: validated.undone,
        secrets: validated.secrets,
    })
}

/// What no agent will do of a template that can't be rendered yet, as far as its lines tell: actions whose image stands
/// there as it is and is not built in.
pub fn undone(text: &str) -> Vec<Problem> {
    native_lines::undone(text)
}
