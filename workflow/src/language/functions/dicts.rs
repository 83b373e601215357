//! Dictionaries that a template changes in place, as sprig's manual has it: `{{ $_ := set $d "k" 1 }}` is seen by
//! whoever holds the same dict.
//!
//! The library's maps are values. In a template that calls one of [`CHANGING`] every dict is therefore kept here, and what
//! the template holds is its number, in a map of its own; [`super::super::references`] has the template ask here wherever
//! it looks into one. Any other template is left as it is, and nothing is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use gotmpl::{TemplateError, Value};

/// Functions that change the dict that they are given first.
pub(in crate::language) const CHANGING: [&str; 6] = [
    "set",
    "unset",
    "merge",
    "mergeOverwrite",
    "mustMerge",
    "mustMergeOverwrite",
];

pub(super) type Map = BTreeMap<Arc<str>, Value>;

/// The key of a number; no template writes it by chance.
const NUMBER: &str = "\0dict";
/// Dicts and lists within each other.
const MAX_DEPTH: usize = 32;
/// Bytes that a dict comes to when it is taken whole; four times what a whole template may come to.
const MAX_BYTES: usize = 1024 * 1024;

/// The dicts of one rendering.
#[derive(Clone, Debug, Default)]
pub(in crate::language) struct Dicts(Option<Arc<Mutex<Vec<Arc<Map>>>>>);

impl Dicts {
    /// For a template that changes some.
    pub(in crate::language) fn changing() -> Dicts {
        Dicts(Some(Arc::default()))
    }

    pub(in crate::language) fn is_changing(&self) -> bool {
        self.0.is_some()
    }

    /// `value` with every dict in it kept here, as far as it is not.
    pub(in crate::language) fn kept(&self, value: Value) -> Value {
        match (&self.0, &value) {
            (None, _) => value,
            (Some(_), Value::List(items)) if items.iter().any(|item| self.has_new(item)) => {
                Value::List(items.iter().map(|item| self.kept(item.clone())).collect())
            }
            (Some(dicts), Value::Map(map)) if self.number(&value).is_none() => {
                let map: Map = map
                    .iter()
                    .map(|(key, value)| (key.clone(), self.kept(value.clone())))
                    .collect();
                let mut dicts = dicts.lock().unwrap_or_else(PoisonError::into_inner);
                dicts.push(Arc::new(map));
                let number = i64::try_from(dicts.len() - 1).unwrap_or(i64::MAX);
                Value::from_entries([(NUMBER.into(), Value::Int(number))])
            }
            _ => value,
        }
    }

    /// Whether a dict is in it that is not kept here. What is kept has none.
    fn has_new(&self, value: &Value) -> bool {
        match value {
            Value::List(items) => items.iter().any(|item| self.has_new(item)),
            Value::Map(_) => self.number(value).is_none(),
            _ => false,
        }
    }

    fn number(&self, value: &Value) -> Option<usize> {
        let Value::Map(map) = value else { return None };
        let dicts = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let number = map.get(NUMBER).filter(|_| map.len() == 1)?.as_int()?;
        usize::try_from(number)
            .ok()
            .filter(|number| *number < dicts.len())
    }

    /// What is in a dict now; `None` for what is no dict.
    pub(super) fn content(&self, value: &Value) -> Option<Arc<Map>> {
        let Value::Map(map) = value else { return None };
        let number = self.number(value);
        let kept = self.0.as_ref().zip(number).and_then(|(dicts, number)| {
            let dicts = dicts.lock().unwrap_or_else(PoisonError::into_inner);
            dicts.get(number).cloned()
        });
        Some(kept.unwrap_or_else(|| map.clone()))
    }

    /// The value with what is in it now, where it is a dict itself.
    pub(in crate::language) fn plain(&self, value: &Value) -> Value {
        match self.content(value) {
            Some(content) => Value::Map(content),
            None => value.clone(),
        }
    }

    /// The value, but an empty dict as it is for Go: not true.
    pub(in crate::language) fn truth(&self, value: &Value) -> Value {
        match self.content(value) {
            Some(content) if content.is_empty() => Value::Map(content),
            _ => value.clone(),
        }
    }

    /// The value with what is in all dicts in it now.
    ///
    /// # Errors
    /// Too large, or too deep: a dict may be in itself.
    pub(in crate::language) fn whole(&self, value: &Value) -> Result<Value, TemplateError> {
        if !self.is_changing() {
            return Ok(value.clone());
        }
        let mut left = MAX_BYTES;
        self.copied(value, &mut left, MAX_DEPTH)
            .ok_or_else(|| TemplateError::Exec("a dict is too large, too deep, or in itself".into()))
    }

    fn copied(&self, value: &Value, left: &mut usize, depth: usize) -> Option<Value> {
        const ITEM_BYTES: usize = 16;
        *left = left.checked_sub(ITEM_BYTES)?;
        Some(match value {
            Value::String(text) => {
                *left = left.checked_sub(text.len())?;
                value.clone()
            }
            Value::List(items) => {
                let depth = depth.checked_sub(1)?;
                let items = items.iter().map(|item| self.copied(item, left, depth));
                Value::List(items.collect::<Option<Vec<_>>>()?.into())
            }
            Value::Map(_) => {
                let depth = depth.checked_sub(1)?;
                let mut copy = Map::new();
                for (key, value) in self.content(value)?.iter() {
                    *left = left.checked_sub(key.len())?;
                    copy.insert(key.clone(), self.copied(value, left, depth)?);
                }
                Value::Map(Arc::new(copy))
            }
            other => other.clone(),
        })
    }

    /// Changes a dict; false where it is none that is kept here.
    pub(super) fn change(&self, dict: &Value, change: impl FnOnce(&mut Map)) -> bool {
        let (Some(dicts), Some(number)) = (&self.0, self.number(dict)) else {
            return false;
        };
        let mut dicts = dicts.lock().unwrap_or_else(PoisonError::into_inner);
        match dicts.get_mut(number) {
            Some(map) => {
                change(Arc::make_mut(map));
                true
            }
            None => false,
        }
    }

    /// `.a.b`, as the library walks it.
    pub(in crate::language) fn field(&self, names: &[Value], value: &Value) -> Result<Value, TemplateError> {
        let mut at = value.clone();
        for name in names.iter().filter_map(Value::as_str) {
            at = match (self.content(&at), at) {
                (Some(content), _) => content
                    .get(name)
                    .cloned()
                    .ok_or_else(|| TemplateError::MissingKey { key: name.to_owned() })?,
                (None, Value::Nil) => Value::Nil,
                (None, other) => {
                    let kind = other.type_name();
                    return Err(TemplateError::Exec(format!(
                        "can't evaluate field {name} in type {kind}"
                    )));
                }
            };
        }
        Ok(at)
    }

    /// Go's `index`.
    pub(in crate::language) fn index(&self, arguments: &[Value]) -> Result<Value, TemplateError> {
        let Some((value, places)) = arguments.split_first().filter(|(_, places)| !places.is_empty()) else {
            return Err(TemplateError::ArgCount {
                name: "index".into(),
                expected: 2,
                got: arguments.len(),
            });
        };
        places
            .iter()
            .try_fold(value.clone(), |at, place| self.plain(&at).index(place))
    }
}
