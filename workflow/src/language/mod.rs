//! The workflow language: Tinkerbell's template, version 0.1, and what version 1 adds to it.
//!
//! A text is rendered as a Go `text/template`, parsed as YAML, validated. A file of its own for each step: `render`
//! (text and devices to YAML text, with `functions` and `context`; `holes` keeps `${{ CEL }}` out of it), the crate `yaml` (YAML
//! text to a tree with places), `validate` (that to a [`Definition`], with `fields`, `steps`, `flow`, `inputs`, `bounds`, `answers`, `action_input`,
//! `expressions`, `expression_types`, `image_reference`, `resources`). Problems of a step are found all at once; a later step is not reached when an
//! earlier one has some.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use yaml::{Finding, Kind, Limits, Node, Place, What};

mod action_input;
mod answers;
mod archives;
mod blocks;
mod bounds;
mod carrier;
mod context;
mod conversion;
mod definition;
mod duration;
mod expression_types;
mod expressions;
mod fields;
mod filesystems;
mod flow;
mod functions;
mod holes;
mod image_policy;
mod image_reference;
mod inputs;
mod made_up;
mod native;
mod native_lines;
mod partitions;
mod policy;
mod problem;
mod references;
mod render;
mod resources;
mod retired;
mod secrets;
mod steps;
mod validate;
mod waitdaemon;

pub(crate) use action_input::too_large as input_too_large;
pub use action_input::{MAX_INPUT_BYTES, UselessField};
pub(crate) use answers::{is_host, is_path, not_a_host};
pub use carrier::{Carried, CarriedTemplate, CarriedWorkflow, carried};
pub use definition::{
    Action, Amount, Answers, AnswersBy, Approve, Boots, Control, Definition, ForEach, Goto, Input, InputType,
    Resources, Retry, Runtime, Task,
};
pub use duration::{duration_ms, time_ms, until_ms};
pub use image_policy::{
    AllowedImages, ImagePolicy, ImageRefused, NativeImages, NotAllowedImages, complete_image_name,
    in_words as refused_in_words,
};
pub use image_reference::{ReferenceError, check as check_image_reference};
pub use inputs::{inputs, typed_inputs};
pub use native::{NATIVE, Native, Writes, native};
pub use policy::{MAX_POLICY_RULES, MAX_RULE_BYTES, PolicyError, PolicyOf, PolicyRule, PolicyThen, policy};
pub use problem::{Problem, Text};
pub use render::MAX_RENDERED_BYTES;
pub use secrets::{SecretUse, secrets, secrets_in};
pub use waitdaemon::{BadWait, Wrapped};

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
    /// Numbers or times of the definition come from inputs: [`Rendered::made_with`] gives the one of a workflow.
    pub has_bounds_of_inputs: bool,
}

impl Rendered {
    /// The definition of a workflow with these inputs, which are all that it has: what they bound is worked out, and checked as if it were
    /// written out.
    ///
    /// # Errors
    /// Everything that is wrong with it, at its place in the rendered text.
    pub fn made_with(&self, inputs: &Map<String, Value>) -> Result<Definition, Vec<Problem>> {
        if !self.has_bounds_of_inputs {
            return Ok(self.definition.clone());
        }
        let validated =
            document(&self.yaml).and_then(|(node, _)| validate::validate(&node, &self.yaml, Some(inputs)));
        validated
            .map(|validated| validated.definition)
            .map_err(|found| Problem::all(Text::Rendered, &self.yaml, found))
    }
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

/// What is wrong with a template for every machine, as far as that can be said before there is one: in lines into which nothing is
/// filled, where what is filled into the others is a plain value.
pub fn certain(text: &str) -> Vec<Problem> {
    made_up::certain(text)
}

/// Renders, parses and validates.
///
/// # Errors
/// Everything that is wrong with it.
pub fn render(text: &str, devices: &Devices) -> Result<Rendered, Vec<Problem>> {
    rendering(text, devices).map_err(|failed| failed.problems)
}

/// Why a template gives no definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub problems: Vec<Problem>,
    /// What it was rendered to, as far as that went: places in the rendered text are of this.
    pub yaml: String,
}

/// As [`render()`], with what was rendered whatever is wrong with it.
///
/// # Errors
/// Everything that is wrong with it, and the text that it is wrong in.
pub fn rendering(text: &str, devices: &Devices) -> Result<Rendered, Failed> {
    let of_template = |problems| Failed {
        problems,
        yaml: String::new(),
    };
    let template = render::Template::parse(text).map_err(of_template)?;
    let yaml = template.render(devices)?;
    let in_yaml = |found| Problem::all(Text::Rendered, &yaml, found);
    let validated = document(&yaml)
        .and_then(|(node, passed_over)| {
            let mut validated = validate::validate(&node, &yaml, None)?;
            validated.warnings.extend(passed_over);
            Ok(validated)
        })
        .map_err(in_yaml)
        .and_then(|validated| {
            template.check_version(&validated.definition)?;
            Ok(validated)
        });
    match validated {
        Ok(validated) => Ok(Rendered {
            definition: validated.definition,
            warnings: in_yaml(validated.warnings),
            undone: in_yaml(validated.undone),
            secrets: secrets::uses(validated.secrets, in_yaml),
            has_bounds_of_inputs: validated.has_bounds_of_inputs,
            yaml,
        }),
        Err(problems) => Err(Failed { problems, yaml }),
    }
}

/// YAML values of a workflow; ten times what 256 KiB of reasonable text come to.
const LIMITS: Limits = Limits {
    nodes: 50_000,
    bytes: 4 << 20,
};

/// The first document that has something in it, and what is said of those behind it: upstream reads the first only.
fn document(yaml: &str) -> Result<(Node, Vec<Finding>), Vec<Finding>> {
    let mut documents = yaml::parse(yaml, LIMITS).into_iter();
    let is_empty = |document: &yaml::Document| document.node.is_nothing() && document.problems.is_empty();
    let Some(first) = documents.find(|document| !is_empty(document)) else {
        let nothing = Node {
            at: Place::default(),
            what: What::Nothing,
        };
        return Ok((nothing, Vec::new()));
    };
    if !first.problems.is_empty() {
        return Err(first.problems);
    }
    let passed_over = documents.map(|document| {
        let message = if is_empty(&document) {
            "nothing stands behind this ---: leave it out"
        } else {
            "a second document begins here and is not read: the first one is the template"
        };
        Finding::new(document.at, Kind::Odd, message)
    });
    Ok((first.node, passed_over.collect()))
}

/// What no agent will do of a template that can't be rendered yet, as far as its lines tell: actions whose image stands
/// there as it is and is not built in.
pub fn undone(text: &str) -> Vec<Problem> {
    native_lines::undone(text)
}

/// The images that a template's text names and that are pulled, as far as its lines tell: not those that it puts together.
pub fn pulled_images(text: &str) -> Vec<&str> {
    native_lines::pulled(text)
}
