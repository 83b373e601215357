//! Dictionaries: sprig's "Dictionaries and Dict Functions". `set`, `unset`, `merge` and `mergeOverwrite` change the dict
//! that they are given first, and give it back.

use std::sync::Arc;

use gotmpl::Value;

use super::arguments::{Arguments, as_text, list};
use super::dicts::Map;
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
    ("mustMerge", |a| merged(a, false)),
    ("mustMergeOverwrite", |a| merged(a, true)),
    ("dig", dig),
];

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
    let found = arguments.map(from)?.get(arguments.text(key)?).cloned();
    Ok(found.unwrap_or_else(|| Value::String("".into())))
}

fn set(arguments: &Arguments<'_>) -> Answer {
    let [dict, key, value] = arguments.exactly()?;
    let (key, value) = (arguments.text(key)?, value.clone());
    changed(arguments, dict, |map| drop(map.insert(key.into(), value)))
}

fn unset(arguments: &Arguments<'_>) -> Answer {
    let [dict, key] = arguments.exactly()?;
    let key = arguments.text(key)?;
    changed(arguments, dict, |map| drop(map.remove(key)))
}

/// The dict itself, changed.
fn changed(arguments: &Arguments<'_>, dict: &Value, change: impl FnOnce(&mut Map)) -> Answer {
    arguments.map(dict)?;
    if arguments.dicts.change(dict, change) {
        return Ok(dict.clone());
    }
    // Of `or`, `and`, `if` and `with` an empty one comes as a copy.
    Err(arguments
        .error("this empty dict cannot be changed here: put it into a variable first, {{ $d := dict }}"))
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
    let from = arguments.map(from)?;
    let entries = from.iter().filter(|(key, _)| names.contains(&&***key) == named);
    map(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// The first dict, with what the others have: it wins, or with `overwrite` they do. Dicts within are merged too.
fn merged(arguments: &Arguments<'_>, overwrite: bool) -> Answer {
    let (into, others) = arguments.first_and_rest()?;
    arguments.map(into)?;
    for other in others {
        merge_into(arguments, into, other, overwrite)?;
    }
    Ok(into.clone())
}

// The depth of arguments is bounded before a function is called.
fn merge_into(
    arguments: &Arguments<'_>,
    into: &Value,
    from: &Value,
    overwrite: bool,
) -> Result<(), gotmpl::TemplateError> {
    let is_dict = |value: &Value| matches!(value, Value::Map(_));
    for (key, value) in arguments.map(from)?.iter() {
        let there = arguments.map(into)?.get(key).cloned();
        match there {
            Some(inner) if is_dict(&inner) && is_dict(value) && arguments.is_true(&inner) => {
                merge_into(arguments, &inner, value, overwrite)?;
            }
            // What is empty is filled in either way.
            Some(there) if !overwrite && arguments.is_true(&there) => {}
            // As sprig's library: an empty list does not take the place of one.
            Some(Value::List(there))
                if !there.is_empty() && matches!(value, Value::List(from) if from.is_empty()) => {}
            _ => drop(changed(arguments, into, |map| {
                drop(map.insert(key.clone(), value.clone()))
            })?),
        }
    }
    Ok(())
}

/// `dig "a" "b" default dict`.
fn dig(arguments: &Arguments<'_>) -> Answer {
    let (from, rest) = arguments.last_and_rest()?;
    let (default, path) = match rest.split_last() {
        Some((default, path)) if !path.is_empty() => (default, path),
        _ => return Err(arguments.wrong_count("at least 3")),
    };
    let mut at = from.clone();
    for key in path {
        match arguments.map(&at)?.get(arguments.text(key)?) {
            Some(next) => at = next.clone(),
            None => return Ok(default.clone()),
        }
    }
    Ok(at)
}
