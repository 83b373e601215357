//! Dictionaries: sprig's "Dictionaries and Dict Functions". Values are not changed in place here: `set` and `unset`
//! give a changed copy, which is what templates use (`$d := set $d "k" "v"`).

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::arguments::{Arguments, as_text, list};
use super::{Answer, Entry};

pub(super) const TABLE: &[Entry] = &[
    ("dict", dict),
    ("get", get),
    ("set", set),
    ("unset", unset),
    ("hasKey", has_key),
    ("keys", keys),
    ("values", values),
    ("pluck", pluck),
    ("pick", |a| chosen(a, true)),
    ("omit", |a| chosen(a, false)),
    ("merge", |a| merged(a, false)),
    ("mergeOverwrite", |a| merged(a, true)),
    ("dig", dig),
];

type Map = BTreeMap<Arc<str>, Value>;

fn map(map: Map) -> Answer {
    Ok(Value::Map(Arc::new(map)))
}

/// `dict "key" value ...`; a key without a value gets the empty string.
fn dict(arguments: &Arguments<'_>) -> Answer {
    let pairs = arguments.values.chunks(2).map(|pair| {
        let value = pair.get(1).cloned().unwrap_or_else(|| Value::String("".into()));
        (as_text(&pair[0]).into(), value)
    });
    map(pairs.collect())
}

fn get(arguments: &Arguments<'_>) -> Answer {
    let [from, key] = arguments.exactly()?;
    let found = arguments.map(from)?.get(arguments.text(key)?);
    Ok(found.cloned().unwrap_or_else(|| Value::String("".into())))
}

fn set(arguments: &Arguments<'_>) -> Answer {
    let [from, key, value] = arguments.exactly()?;
    let mut changed = arguments.map(from)?.clone();
    changed.insert(arguments.text(key)?.into(), value.clone());
    map(changed)
}

fn unset(arguments: &Arguments<'_>) -> Answer {
    let [from, key] = arguments.exactly()?;
    let mut changed = arguments.map(from)?.clone();
    changed.remove(arguments.text(key)?);
    map(changed)
}

fn has_key(arguments: &Arguments<'_>) -> Answer {
    let [from, key] = arguments.exactly()?;
    Ok(Value::Bool(
        arguments.map(from)?.contains_key(arguments.text(key)?),
    ))
}

fn keys(arguments: &Arguments<'_>) -> Answer {
    let mut all = Vec::new();
    for from in arguments.values {
        all.extend(arguments.map(from)?.keys().map(|key| Value::String(key.clone())));
    }
    list(all)
}

fn values(arguments: &Arguments<'_>) -> Answer {
    let [from] = arguments.exactly()?;
    list(arguments.map(from)?.values().cloned().collect())
}

fn pluck(arguments: &Arguments<'_>) -> Answer {
    let (key, maps) = arguments.first_and_rest()?;
    let key = arguments.text(key)?;
    let mut found = Vec::new();
    for from in maps {
        found.extend(arguments.map(from)?.get(key).cloned());
    }
    list(found)
}

fn chosen(arguments: &Arguments<'_>, named: bool) -> Answer {
    let (from, names) = arguments.first_and_rest()?;
    let names = names
        .iter()
        .map(|name| arguments.text(name))
        .collect::<Result<Vec<_>, _>>()?;
    let entries = arguments
        .map(from)?
        .iter()
        .filter(|(key, _)| names.contains(&&***key) == named);
    map(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// The first dict wins, or with `overwrite` the last; dicts within are merged too.
fn merged(arguments: &Arguments<'_>, overwrite: bool) -> Answer {
    let (first, others) = arguments.first_and_rest()?;
    let mut all = arguments.map(first)?.clone();
    for other in others {
        merge_into(&mut all, arguments.map(other)?, overwrite);
    }
    map(all)
}

// The depth of arguments is bounded before a function is called.
fn merge_into(into: &mut Map, from: &Map, overwrite: bool) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Map(inner)), Value::Map(from)) => merge_into(Arc::make_mut(inner), from, overwrite),
            // sprig's merge fills what is empty, too.
            (Some(there), _) if !overwrite && there.is_truthy() => {}
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// `dig "a" "b" default dict`.
fn dig(arguments: &Arguments<'_>) -> Answer {
    let (from, rest) = arguments.last_and_rest()?;
    let (default, path) = match rest.split_last() {
        Some((default, path)) if !path.is_empty() => (default, path),
        _ => return Err(arguments.wrong_count("at least 3")),
    };
    let mut at = from;
    for key in path {
        match arguments.map(at)?.get(arguments.text(key)?) {
            Some(next) => at = next,
            None => return Ok(default.clone()),
        }
    }
    Ok(at.clone())
}
