//! `${{ secrets.NAME }}` in records: for the actions of templates that are rendered with a record, and for nothing else.

use std::collections::BTreeSet;

use serde_json::Value;
use workflow::language::secrets_in;
use yaml::Kind;

use super::Machine;
use super::document::{Draft, Found};
use crate::database::View;
use crate::error::Error;
use crate::namespaces::Scope;
use crate::secrets::is_set;

/// Finds secrets where Farrier itself would use the text, which puts none in, and names those that there are not.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn check(view: &View, drafts: &[Draft], found: &Found) -> Result<(), Error> {
    for draft in drafts {
        let findings = found.of(draft);
        let machine = &draft.machine;
        let mut named = BTreeSet::new();
        each_text(&machine.hardware, &mut |text| named.extend(secrets_in(text)));
        if named.is_empty() {
            continue;
        }
        let mut used = BTreeSet::new();
        each_text(&used_by_us(machine), &mut |text| used.extend(secrets_in(text)));
        for name in used {
            findings.problem(
                draft.place,
                Kind::Value,
                format!(
                    "machine {:?} has ${{{{ secrets.{name} }}}} in a field that the server itself uses, and it puts secrets \
                     into actions only: have it in userData, vendorData or metadata, for a template to hand on",
                    machine.name
                ),
            );
        }
        for name in named {
            let scope = Scope::inside(&machine.namespace);
            if !is_set(view, &scope, &name)? {
                findings.warn(
                    draft.place,
                    Kind::Missing,
                    format!(
                        "machine {:?} names the secret {name}, and there is none: set it with `farrier secret set{} {name}`",
                        machine.name,
                        scope.option()
                    ),
                );
            }
        }
    }
    Ok(())
}

/// All of a machine but what templates see of it, and what was written.
fn used_by_us(machine: &Machine) -> Value {
    let mut all = serde_json::to_value(machine).unwrap_or_default();
    if let Value::Object(fields) = &mut all {
        fields.retain(|field, _| !matches!(field.as_str(), "hardware" | "document"));
    }
    all
}

fn each_text<'v>(value: &'v Value, see: &mut impl FnMut(&'v str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, see)),
        Value::Object(fields) => {
            for (name, field) in fields {
                see(name);
                each_text(field, see);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
