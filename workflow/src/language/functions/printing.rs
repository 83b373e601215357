//! Go's own printing and escaping functions, with their arguments bounded like everybody else's.

use gotmpl::{Template, Value};

use super::arguments::{Arguments, string};
use super::bounds::MAX_TEXT_BYTES;
use super::{Answer, Entry};

pub(super) const TABLE: &[Entry] = &[
    ("print", |a| string(sprint(a.values))),
    ("println", |a| {
        let texts: Vec<String> = a.values.iter().map(Value::to_string).collect();
        string(texts.join(" ") + "\n")
    }),
    ("printf", printf),
    ("html", |a| string(gotmpl::html_escape(&sprint(a.values)))),
    ("js", |a| string(gotmpl::js_escape(&sprint(a.values)))),
    ("urlquery", |a| string(gotmpl::url_encode(&sprint(a.values)))),
];

/// As Go's `fmt.Sprint`: a space between two operands when neither is a string.
fn sprint(values: &[Value]) -> String {
    let mut text = String::new();
    let mut after_string = true;
    for value in values {
        let is_string = matches!(value, Value::String(_));
        if !after_string && !is_string {
            text.push(' ');
        }
        after_string = is_string;
        text.push_str(&value.to_string());
    }
    text
}

/// The library's own, called through a template of one action.
fn printf(arguments: &Arguments<'_>) -> Answer {
    const MAX_ARGUMENTS: usize = 64;
    let (format, values) = arguments.first_and_rest()?;
    let format = arguments.text(format)?;
    if values.len() > MAX_ARGUMENTS {
        return Err(arguments.error(format!("wants at most {MAX_ARGUMENTS} arguments")));
    }
    // A verb prints one argument (any, with %[n]v) in a field of at most its width.
    let longest = values
        .iter()
        .map(|value| value.to_string().len())
        .max()
        .unwrap_or(0)
        .saturating_mul(6);
    let verbs = format.matches('%').count();
    let widest = format
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| {
            if digits.is_empty() {
                0
            } else {
                digits.parse().unwrap_or(usize::MAX)
            }
        })
        .chain(if format.contains('*') {
            values.iter().filter_map(width).max()
        } else {
            None
        })
        .max()
        .unwrap_or(0);
    if longest.max(widest).saturating_mul(verbs) > 16 * MAX_TEXT_BYTES || widest > MAX_TEXT_BYTES {
        return Err(arguments.error(format!("would give more than {MAX_TEXT_BYTES} B")));
    }
    let operands: String = (0..values.len())
        .map(|at| format!(" (index .values {at})"))
        .collect();
    let template = Template::new("printf").parse(&format!("{{{{printf .format{operands}}}}}"))?;
    let data = Value::from_entries([
        ("format".into(), Value::String(format.into())),
        ("values".into(), Value::List(values.into())),
    ]);
    string(template.execute_to_string(&data)?)
}

fn width(value: &Value) -> Option<usize> {
    value
        .as_int()
        .map(|number| usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX))
}
