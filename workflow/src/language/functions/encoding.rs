//! Encodings and digests: sprig's "Encoding Functions", and `sha256sum`, `toJson`, `fromJson`.

use data_encoding::{BASE32, BASE64};
use gotmpl::{TemplateError, Value};
use sha2::{Digest, Sha256, Sha512};

use super::arguments::{Arguments, string};
use super::{Answer, Entry};

pub(super) const TABLE: &[Entry] = &[
    ("b64enc", |a| string(BASE64.encode(text(a)?.as_bytes()))),
    ("b64dec", |a| decoded(a, BASE64.decode(text(a)?.as_bytes()))),
    ("b32enc", |a| string(BASE32.encode(text(a)?.as_bytes()))),
    ("b32dec", |a| decoded(a, BASE32.decode(text(a)?.as_bytes()))),
    ("sha256sum", |a| {
        string(data_encoding::HEXLOWER.encode(&Sha256::digest(text(a)?.as_bytes())))
    }),
    ("toJson", |a| string(escaped(&json(a)?.to_string()))),
    ("toPrettyJson", |a| {
        let text = serde_json::to_string_pretty(&json(a)?).map_err(|error| a.error(error))?;
        string(escaped(&text))
    }),
    ("toRawJson", |a| string(json(a)?.to_string())),
    ("mustToJson", |a| string(escaped(&json(a)?.to_string()))),
    ("mustToPrettyJson", |a| {
        let text = serde_json::to_string_pretty(&json(a)?).map_err(|error| a.error(error))?;
        string(escaped(&text))
    }),
    ("mustToRawJson", |a| string(json(a)?.to_string())),
    ("mustFromJson", from_json),
    ("sha512sum", |a| {
        string(data_encoding::HEXLOWER.encode(&Sha512::digest(text(a)?.as_bytes())))
    }),
    ("adler32sum", |a| {
        let (mut low, mut high) = (1_u32, 0_u32);
        for byte in text(a)?.bytes() {
            low = (low + u32::from(byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        string((high << 16 | low).to_string())
    }),
    ("fromJson", from_json),
];

fn from_json(arguments: &Arguments<'_>) -> Answer {
    let parsed: serde_json::Value =
        serde_json::from_str(text(arguments)?).map_err(|error| arguments.error(error))?;
    gotmpl::to_value(&parsed)
}

fn text<'a>(arguments: &Arguments<'a>) -> Result<&'a str, TemplateError> {
    let [only] = arguments.exactly()?;
    arguments.text(only)
}

fn decoded(arguments: &Arguments<'_>, bytes: Result<Vec<u8>, data_encoding::DecodeError>) -> Answer {
    let bytes = bytes.map_err(|error| arguments.error(error))?;
    string(String::from_utf8(bytes).map_err(|_| arguments.error("what was encoded is no text"))?)
}

fn json(arguments: &Arguments<'_>) -> Result<serde_json::Value, TemplateError> {
    let [only] = arguments.exactly()?;
    to_json(only).ok_or_else(|| arguments.error("a function has no JSON form"))
}

/// Go's `json.Marshal` writes JSON that may stand in HTML.
fn escaped(json: &str) -> String {
    json.replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
}

/// A value as JSON, keys sorted. The depth of arguments is bounded before a function is called.
pub(super) fn to_json(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => (**text).into(),
        Value::List(items) => serde_json::Value::Array(items.iter().map(to_json).collect::<Option<_>>()?),
        Value::Map(map) => serde_json::Value::Object(
            map.iter()
                .map(|(key, value)| Some((key.to_string(), to_json(value)?)))
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}
