//! Tinkerbell's workflow template, version 0.1: rendered as a Go `text/template`, parsed as YAML, validated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A rendered, validated workflow definition. Immutable once a workflow was made from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub version: String,
    pub name: String,
    #[serde(default)]
    pub id: String,
    /// Seconds; 0: none.
    #[serde(default)]
    pub global_timeout_s: u64,
    pub tasks: Vec<Task>,
}

/// A task: actions that run in order on one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub name: String,
    /// A MAC (lower case, colons), or an operator's agent id.
    pub worker: String,
    #[serde(default)]
    pub volumes: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub actions: Vec<Action>,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub name: String,
    pub image: String,
    /// Seconds; 0: none.
    #[serde(default)]
    pub timeout_s: u64,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub on_timeout: Vec<String>,
    #[serde(default)]
    pub on_failure: Vec<String>,
    #[serde(default)]
    pub volumes: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// `host` or empty.
    #[serde(default)]
    pub pid: String,
    /// `host` or empty.
    #[serde(default)]
    pub network: String,
}

/// What a template is rendered with.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// `{{.device_1}}` → "08:00:27:00:00:01".
    pub devices: BTreeMap<String, String>,
    /// `.hardware`: the machine's record with JSON keys (`spec.metadata.instance.id`); null when unknown.
    pub hardware: serde_json::Value,
}

/// A problem in a template. Several are reported at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// 1-based; of the template's text for rendering problems, of the rendered text for YAML ones. 0: unknown.
    pub line: u32,
    pub column: u32,
    /// What is wrong, with the value, and what would be right.
    pub message: String,
    /// The line that it is in, quoted.
    pub quoted: String,
}

/// A definition, and what was odd about the text without making it wrong (unknown fields in 0.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub definition: Definition,
    pub yaml: String,
    pub warnings: Vec<Problem>,
}

/// Checks what can be checked of a template before there are devices: the template syntax.
pub fn check(text: &str) -> Result<Vec<Problem>, Vec<Problem>> {
    let _ = text;
    Err(Vec::new())
}

/// Renders, parses and validates.
pub fn render(text: &str, devices: &Devices) -> Result<Rendered, Vec<Problem>> {
    let _ = (text, devices);
    Err(Vec::new())
}
