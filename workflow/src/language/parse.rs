//! Rendered YAML to what stands there: every value at its place, every scalar as the text that it is.
//!
//! YAML's own types are not asked for: `0644`, `true` and `n` stay what the operator wrote, as in upstream's string
//! fields. Fields that 0.1 does not know are kept apart, with the nearest one that it knows.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::problem::{Problem, Text};

/// A value and its place; `None` inside: null.
pub(super) type Placed<T> = Option<Spanned<Option<T>>>;

/// A field that 0.1 does not know.
pub(super) struct Unknown {
    pub(super) name: Spanned<String>,
    /// Of what it was found in.
    pub(super) known: &'static [&'static str],
}

/// Defines a struct that is read from a mapping and notes unknown keys.
macro_rules! mapping {
    ($name:ident: $what:literal { $($key:literal => $field:ident: $type:ty,)* }) => {
        #[derive(Default)]
        pub(super) struct $name {
            $(pub(super) $field: Placed<$type>,)*
            pub(super) unknown: Vec<Unknown>,
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Fields;

                impl<'de> Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($what)
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut found = $name::default();
                        while let Some(key) = map.next_key::<Spanned<String>>()? {
                            match key.value.as_str() {
                                $($key => found.$field = Some(map.next_value()?),)*
                                _ => {
                                    map.next_value::<IgnoredAny>()?;
                                    found.unknown.push(Unknown { name: key, known: &[$($key),*] });
                                }
                            }
                        }
                        Ok(found)
                    }
                }

                deserializer.deserialize_map(Fields)
            }
        }
    };
}

mapping!(Definition: "a workflow: a mapping with version, name, global_timeout and tasks" {
    "version" => version: String,
    "name" => name: String,
    "id" => id: String,
    "global_timeout" => global_timeout: String,
    "tasks" => tasks: Vec<Spanned<Option<Task>>>,
});

mapping!(Task: "a task: a mapping with name, worker and actions" {
    "name" => name: String,
    "worker" => worker: String,
    "actions" => actions: Vec<Spanned<Option<Action>>>,
    "volumes" => volumes: Vec<Spanned<Option<String>>>,
    "environment" => environment: BTreeMap<String, Option<String>>,
});

mapping!(Action: "an action: a mapping with name, image, timeout, command" {
    "name" => name: String,
    "image" => image: String,
    "timeout" => timeout: String,
    "command" => command: Vec<Option<String>>,
    "on-timeout" => on_timeout: Vec<Option<String>>,
    "on-failure" => on_failure: Vec<Option<String>>,
    "volumes" => volumes: Vec<Spanned<Option<String>>>,
    "environment" => environment: BTreeMap<String, Option<String>>,
    "pid" => pid: String,
    "namespaces" => namespaces: Namespaces,
});

mapping!(Namespaces: "namespaces: a mapping with network and pid" {
    "network" => network: String,
    "pid" => pid: String,
});

/// YAML nodes of a workflow, aliases resolved; ten times what 256 KiB of reasonable text come to.
const MAX_NODES: usize = 50_000;

/// What stands in `yaml`.
pub(super) fn parse(yaml: &str) -> Result<Spanned<Option<Definition>>, Problem> {
    let options = serde_saphyr::options! { budget: serde_saphyr::budget! { max_nodes: MAX_NODES } };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
        let error = error.without_snippet();
        let location = error.location().unwrap_or(Location::UNKNOWN);
        let (line, column) = line_and_column(&location);
        Problem::at(Text::Rendered, yaml, line, column, in_words(error))
    })
}

fn in_words(error: &serde_saphyr::Error) -> String {
    let message = UserMessageFormatter.format_message(error);
    match message.trim_end_matches('.') {
        "expected sequence start" => "a list is wanted here".into(),
        "expected mapping start" => "a mapping (key: value) is wanted here".into(),
        "expected string scalar" => "a text is wanted here, not a list or a mapping".into(),
        message => format!("bad YAML: {message}"),
    }
}

pub(super) fn line_and_column(location: &Location) -> (usize, usize) {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    (number(location.line()), number(location.column()))
}
