//! What an action is given as data: its `input`. A built-in action takes its variables from it, too.
//!
//! A field sets the variable of its name, written as that is or in small letters: `dest_disk` and `DEST_DISK` are one. What is
//! not a variable is for the command of `cexec`; other built-in actions have no use for it, and it is refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use yaml::{Entry, Fields, Kind, Node, What, meant};

use super::fields::Check;
use super::native::names_disk;
use super::{Action, Native};

/// Bytes of an action's input, as JSON.
pub const MAX_INPUT_BYTES: usize = 256 << 10;

/// A field of an input that is of no use to a built-in action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UselessField {
    pub field: String,
    /// What is wrong with it, and the cure.
    pub message: String,
    is_unknown: bool,
}

impl Native {
    /// The variables that an input sets. `false` makes an empty variable, which counts as none; `null` none at all.
    ///
    /// # Errors
    /// Every field that is of no use.
    pub fn set_by(
        &self,
        input: &Map<String, Value>,
    ) -> Result<BTreeMap<&'static str, String>, Vec<UselessField>> {
        let mut set: BTreeMap<&'static str, (&str, String)> = BTreeMap::new();
        let mut useless = Vec::new();
        let mut say = |field: &str, is_unknown: bool, message: String| {
            useless.push(UselessField {
                field: field.to_owned(),
                message,
                is_unknown,
            });
        };
        for (field, value) in input {
            let Some(variable) = self.variable(field) else {
                if !self.has_command() {
                    say(field, true, self.unknown(field));
                }
                continue;
            };
            let text = match value {
                Value::Null => continue,
                Value::Bool(false) => String::new(),
                Value::String(text) => text.clone(),
                Value::Bool(true) | Value::Number(_) => value.to_string(),
                Value::Array(_) if self.lists.contains(&variable) => value.to_string(),
                Value::Array(_) | Value::Object(_) => {
                    let kind = if value.is_array() { "a list" } else { "a map" };
                    let takes = match self.lists.contains(&variable) {
                        true => "a list",
                        false => "a text, a number, true or false",
                    };
                    let message = format!("{field} is {kind}: {} takes {takes} there", self.name);
                    say(field, false, message);
                    continue;
                }
            };
            if let Some((before, _)) = set.insert(variable, (field, text)) {
                let message = format!(
                    "{before} and {field} are the same for {}: leave one out",
                    self.name
                );
                say(field, false, message);
            }
        }
        if useless.is_empty() {
            Ok(set.into_iter().map(|(name, (_, text))| (name, text)).collect())
        } else {
            Err(useless)
        }
    }

    /// The variable that a field sets.
    fn variable(&self, field: &str) -> Option<&'static str> {
        let is_meant = |name: &&&str| **name == field || name.to_ascii_lowercase() == field;
        self.variables.iter().find(is_meant).copied()
    }

    /// It runs a command that reads its input.
    fn has_command(&self) -> bool {
        matches!(self.name, "cexec" | "exec")
    }

    fn unknown(&self, field: &str) -> String {
        let small: Vec<String> = self
            .variables
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        let all = if small.is_empty() {
            ", which takes none: leave it out".to_owned()
        } else {
            format!(": they are {}", small.join(", "))
        };
        let meant = meant(field, small.iter().map(String::as_str), &all);
        format!("{field:?} is no variable of {}{meant}", self.name)
    }
}

impl Action {
    /// What a variable of it says, as the template has it: its input goes before its environment, and that before its task's. May hold `${{ }}`.
    pub fn variable(&self, of_task: &BTreeMap<String, String>, name: &str) -> Option<String> {
        let of_environment = || self.environment.get(name).or_else(|| of_task.get(name));
        self.set_by_input().get(name).or_else(of_environment).cloned()
    }

    /// The variables that its input sets, where it is built into the agent.
    pub(crate) fn set_by_input(&self) -> BTreeMap<&'static str, String> {
        let native = self.native().filter(|_| !self.input.is_empty());
        native
            .and_then(|native| native.set_by(&self.input).ok())
            .unwrap_or_default()
    }
}

impl<'a> Check<'a> {
    /// The `input` of an action. `native`: what it is, where its image stands there as it is.
    pub(super) fn action_input(
        &mut self,
        fields: &Fields<'a>,
        (action, task): (&str, usize),
        native: Option<&'static Native>,
        environment: &BTreeMap<String, String>,
    ) -> Map<String, Value> {
        let entries = fields.map("input");
        let mut input = Map::new();
        for entry in entries {
            self.key(entry);
            if names_disk(&entry.name) && entry.node.text().is_some() {
                self.recorded(Some(&entry.node), task, &entry.name);
            } else {
                self.handed_within(&entry.node, &entry.name, task);
            }
            input.insert(entry.name.clone(), entry.node.json());
        }
        let bytes = json_bytes(&input);
        if bytes > MAX_INPUT_BYTES {
            self.problem(fields.at("input"), Kind::TooMuch, too_large(action, bytes));
        }
        let Some(native) = native else { return input };
        let place = |field: &str| {
            let entry = entries.iter().find(|entry| entry.name == field);
            entry.map_or_else(|| fields.at("input"), |entry| entry.at)
        };
        for useless in native.set_by(&input).err().into_iter().flatten() {
            let kind = if useless.is_unknown {
                Kind::UnknownField
            } else {
                Kind::Value
            };
            self.problem(place(&useless.field), kind, useless.message);
        }
        for entry in entries {
            let Some(variable) = native.variable(&entry.name) else {
                continue;
            };
            self.written_otherwise(entry, native);
            let is_same = |name: &&String| name.eq_ignore_ascii_case(variable);
            if let Some(other) = environment.keys().find(is_same) {
                let message = format!(
                    "{} stands in the input of action {action:?} and, as {other}, in its environment: leave one out",
                    entry.name
                );
                self.problem(entry.at, Kind::Twice, message);
            }
        }
        self.partitions(fields, native, &input, environment);
        self.conversion(fields, native, &input, environment);
        self.archive(fields, native, &input, environment);
        self.filesystem(fields, native, &input, environment);
        input
    }

    /// A number reaches the action as JSON writes it: `0o644` would be 420.
    fn written_otherwise(&self, entry: &Entry, native: &Native) {
        let What::Scalar(scalar) = &entry.node.what else {
            return;
        };
        let number = scalar.value.to_string();
        if scalar.value.is_number() && number != scalar.text {
            let message = format!(
                "{} {} is the number {number}, and {} is told that: put it in quotes to have it as it is written",
                entry.name, scalar.text, native.name
            );
            self.problem(entry.node.at, Kind::Value, message);
        }
    }

    /// Every text within a value may hold `${{ }}`, secrets too.
    fn handed_within(&mut self, node: &'a Node, what: &str, task: usize) {
        match &node.what {
            What::Nothing => {}
            What::Scalar(_) => {
                self.handed(Some(node), what, task);
            }
            What::List(items) => items.iter().for_each(|item| self.handed_within(item, what, task)),
            What::Map(entries) => entries.iter().for_each(|entry| {
                self.key(entry);
                self.handed_within(&entry.node, &entry.name, task);
            }),
        }
    }

    fn key(&self, entry: &Entry) {
        if entry.name.contains("${{") {
            let message = format!(
                "the key {:?} is not looked through for ${{{{ }}}}: write it out",
                entry.name
            );
            self.problem(entry.at, Kind::Expression, message);
        }
    }
}

/// What is said of an input that is larger than it may be.
pub(crate) fn too_large(action: &str, bytes: usize) -> String {
    format!(
        "the input of action {action:?} comes to {bytes} B as JSON, {MAX_INPUT_BYTES} B at most: hand larger data on in /workflow"
    )
}

fn json_bytes(input: &Map<String, Value>) -> usize {
    serde_json::to_vec(input).map_or(usize::MAX, |json| json.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::language::native;

    #[track_caller]
    fn set(image: &str, input: Value) -> Result<Vec<String>, Vec<String>> {
        let native = native(image).expect("built in");
        let input = input.as_object().cloned().expect("a map");
        match native.set_by(&input) {
            Ok(set) => Ok(set
                .into_iter()
                .map(|(name, text)| format!("{name}={text}"))
                .collect()),
            Err(useless) => Err(useless.into_iter().map(|useless| useless.message).collect()),
        }
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_field_sets_the_variable_of_its_name_as_text() {
        let input = json!({
            "IMG_URL": "http://h/a", "dest_disk": "/dev/vda", "grow_root": true, "retry_enabled": false,
            "retry_duration_minutes": 5, "sha256": null,
        });
        let want = [
            "DEST_DISK=/dev/vda",
            "GROW_ROOT=true",
            "IMG_URL=http://h/a",
            "RETRY_DURATION_MINUTES=5",
            "RETRY_ENABLED=",
        ];
        assert_eq!(set("image2disk", input), Ok(owned(&want)));
    }

    #[test]
    fn what_is_no_variable_is_for_a_command_and_for_nobody_else() {
        let input = json!({"chroot": false, "users": ["ann"], "Chroot": "y"});
        assert_eq!(set("cexec", input), Ok(owned(&["CHROOT="])));
        assert_eq!(
            set("writefile", json!({"Mode": 1, "dest_pth": "/a"})),
            Err(owned(&[
                "\"Mode\" is no variable of writefile; did you mean \"mode\"?",
                "\"dest_pth\" is no variable of writefile; did you mean \"dest_path\"?",
            ]))
        );
        assert_eq!(
            set("reboot", json!({"when": "now"})),
            Err(owned(&[
                "\"when\" is no variable of reboot, which takes none: leave it out"
            ]))
        );
    }

    #[test]
    fn a_list_is_no_text_and_two_spellings_are_one_variable() {
        assert_eq!(
            set(
                "writefile",
                json!({"contents": ["a"], "mode": {}, "uid": 1, "UID": 1})
            ),
            Err(owned(&[
                "contents is a list: writefile takes a text, a number, true or false there",
                "mode is a map: writefile takes a text, a number, true or false there",
                "uid and UID are the same for writefile: leave one out",
            ]))
        );
    }
}
