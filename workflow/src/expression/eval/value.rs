//! Values of expressions. What comes from the scope or stands in the source is borrowed; what is made is shared, so that a
//! value is copied by its handle whatever its size.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use serde_json::{Map as JsonMap, Number, Value as Json};

/// Bytes of a result, as JSON.
pub const MAX_RESULT_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    List(List<'a>),
    Map(Map<'a>),
}

#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Given(&'a str),
    Made(Rc<String>),
}

#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    Given(&'a [Json]),
    Made(Rc<Vec<Value<'a>>>),
}

#[derive(Clone, Debug)]
pub(super) enum Map<'a> {
    Given(&'a JsonMap<String, Json>),
    Made(Rc<BTreeMap<Key<'a>, Value<'a>>>),
}

/// A map's key. The order is the one in which loops go over them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'a> {
    Int(i64),
    Uint(u64),
    Bool(bool),
    Text(Text<'a>),
}

impl<'a> Value<'a> {
    pub(super) fn of(json: &'a Json) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Value::Int(value),
                (_, Some(value)) => Value::Uint(value),
                _ => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(Text::Given(text)),
            Json::Array(values) => Value::List(List::Given(values)),
            Json::Object(entries) => Value::Map(Map::Given(entries)),
        }
    }

    pub(super) fn text(made: String) -> Value<'a> {
        Value::Text(Text::Made(Rc::new(made)))
    }

    pub(super) fn list(made: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Made(Rc::new(made)))
    }

    /// The type's name, as people read it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }

    /// JSON, with the keys of maps in order; or what there is no JSON for, in words.
    pub(super) fn to_json(&self) -> Result<Json, String> {
        let mut left = MAX_RESULT_BYTES;
        self.converted(&mut left)
    }

    fn converted(&self, left: &mut usize) -> Result<Json, String> {
        let mut take = |bytes: usize| {
            *left = left
                .checked_sub(bytes)
                .ok_or_else(|| format!("the result is larger than {MAX_RESULT_BYTES} bytes"))?;
            Ok::<(), String>(())
        };
        take(2)?;
        Ok(match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => Json::from(*value),
            Value::Uint(value) => Json::from(*value),
            Value::Double(value) => match Number::from_f64(*value) {
                Some(number) => Json::Number(number),
                None => return Err(format!("the result is {value}, which JSON has no number for")),
            },
            Value::Text(text) => {
                take(text.as_str().len())?;
                Json::String(text.as_str().to_owned())
            }
            Value::List(list) => {
                let values: Result<Vec<Json>, String> =
                    list.iter().map(|value| value.converted(left)).collect();
                Json::Array(values?)
            }
            Value::Map(map) => {
                let mut object = JsonMap::new();
                for key in map.keys() {
                    let Key::Text(name) = &key else {
                        return Err(format!(
                            "the result has a map with the key {key}: keys are texts, so write string(…)"
                        ));
                    };
                    *left = left
                        .checked_sub(name.as_str().len())
                        .ok_or_else(|| format!("the result is larger than {MAX_RESULT_BYTES} bytes"))?;
                    let value = map.find(&key).unwrap_or(Value::Null).converted(left)?;
                    object.insert(name.as_str().to_owned(), value);
                }
                Json::Object(object)
            }
        })
    }
}

impl<'a> Text<'a> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Text::Given(text) => text,
            Text::Made(text) => text,
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text<'_> {}

impl PartialOrd for Text<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// That of code points, which is that of UTF-8's bytes.
impl Ord for Text<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            List::Given(values) => values.len(),
            List::Made(values) => values.len(),
        }
    }

    pub(super) fn at(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Given(values) => values.get(index).map(Value::of),
            List::Made(values) => values.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.at(index))
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Map::Given(entries) => entries.len(),
            Map::Made(entries) => entries.len(),
        }
    }

    /// In order.
    pub(super) fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Map::Given(entries) => {
                let mut keys: Vec<&'a str> = entries.keys().map(String::as_str).collect();
                keys.sort_unstable();
                keys.into_iter().map(|key| Key::Text(Text::Given(key))).collect()
            }
            Map::Made(entries) => entries.keys().cloned().collect(),
        }
    }

    /// The value of exactly this key.
    pub(super) fn find(&self, key: &Key<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Given(entries), Key::Text(name)) => entries.get(name.as_str()).map(Value::of),
            (Map::Given(_), _) => None,
            (Map::Made(entries), key) => entries.get(key).cloned(),
        }
    }

    pub(super) fn field(&self, name: &'a str) -> Option<Value<'a>> {
        self.find(&Key::Text(Text::Given(name)))
    }

    /// Bytes of the names of the keys.
    pub(super) fn bytes_of_keys(&self) -> usize {
        match self {
            Map::Given(entries) => entries.keys().map(String::len).sum(),
            Map::Made(entries) => entries.keys().map(Key::len).sum(),
        }
    }
}

impl<'a> Key<'a> {
    /// The key that a value is; none: it can be no key.
    pub(super) fn of(value: &Value<'a>) -> Option<Key<'a>> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Uint(value) => Key::Uint(*value),
            Value::Text(text) => Key::Text(text.clone()),
            _ => return None,
        })
    }

    /// The keys that a value finds: numbers of all kinds find a key of the same value. None: it is nothing that could
    /// be a key.
    ///
    /// Source: cel-spec, "Equality": keys of maps are compared as numbers are.
    pub(super) fn sought(value: &Value<'a>) -> Option<Vec<Key<'a>>> {
        let (int, uint) = match value {
            Value::Int(value) => (Some(*value), u64::try_from(*value).ok()),
            Value::Uint(value) => (i64::try_from(*value).ok(), Some(*value)),
            Value::Double(value) => (whole_int(*value), whole_uint(*value)),
            other => return Key::of(other).map(|key| vec![key]),
        };
        Some(int.map(Key::Int).into_iter().chain(uint.map(Key::Uint)).collect())
    }

    pub(super) fn value(self) -> Value<'a> {
        match self {
            Key::Bool(value) => Value::Bool(value),
            Key::Int(value) => Value::Int(value),
            Key::Uint(value) => Value::Uint(value),
            Key::Text(text) => Value::Text(text),
        }
    }

    fn len(&self) -> usize {
        match self {
            Key::Text(text) => text.as_str().len(),
            _ => 8,
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Bool(value) => value.fmt(formatter),
            Key::Int(value) => value.fmt(formatter),
            Key::Uint(value) => value.fmt(formatter),
            Key::Text(text) => formatter.write_str(text.as_str()),
        }
    }
}

/// Without loss, and not the lowest int: a double of that value may have been another number.
pub(super) fn whole_int(value: f64) -> Option<i64> {
    let fits = value > i64::MIN as f64 && value < i64::MAX as f64 && value.fract() == 0.0;
    fits.then_some(value as i64)
}

pub(super) fn whole_uint(value: f64) -> Option<u64> {
    let fits = value >= 0.0 && value < u64::MAX as f64 && value.fract() == 0.0;
    fits.then_some(value as u64)
}
