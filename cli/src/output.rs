//! How answers are printed: tables for people, JSON and YAML for programs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use comfy_table::{ContentArrangement, Table};
use redaction::redacted;
use serde::Serialize;
use serde_json::Value;
use workflow::labels::in_one_line;

use crate::failure::Failure;
use crate::screen::{Colour, cut};
use crate::terminal::{Out, acts, is_shown_to_a_person, json_safe, safe_line, say, set_in};
use crate::views::dash;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    /// A table with more columns, ids in full and lines as long as they are
    Wide,
    /// Names alone, of workflows their ids, one a line
    Name,
    Json,
    Yaml,
}

impl Format {
    /// For people.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }
}

/// Something with a table form.
pub(crate) trait Rows {
    const HEADER: &'static [&'static str];
    /// Said to a person instead of nothing.
    const NONE: &'static str;
    fn row(&self) -> Vec<String>;
}

/// Prints a list.
pub(crate) fn list<T: Rows + Serialize>(out: &mut Out, format: Format, items: &[T]) -> Result<(), Failure> {
    if !format.is_text() {
        return value(out, format, items);
    }
    if items.is_empty() && is_shown_to_a_person() {
        say(T::NONE);
    }
    table(out, T::HEADER, items.iter().map(Rows::row))
}

/// What is of a namespace.
pub(crate) trait InNamespace {
    fn namespace(&self) -> &str;
}

/// What has labels.
pub(crate) trait Labelled {
    fn labels(&self) -> &BTreeMap<String, String>;
}

/// Columns that a table has beside those of its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) namespace: bool,
    pub(crate) labels: bool,
}

/// Prints a list with more columns for a person; programs get everything anyway.
pub(crate) fn list_with<T: Rows + InNamespace + Labelled + Serialize>(
    out: &mut Out,
    format: Format,
    items: &[T],
    columns: Columns,
) -> Result<(), Failure> {
    list_with_more(out, format, items, columns, (&[], |_| Vec::new()))
}

/// Columns that only things of one kind have: their names, and what gives the cells.
pub(crate) type More<T> = (&'static [&'static str], fn(&T) -> Vec<String>);

/// The same with such columns.
pub(crate) fn list_with_more<T: Rows + InNamespace + Labelled + Serialize>(
    out: &mut Out,
    format: Format,
    items: &[T],
    columns: Columns,
    (names, cells): More<T>,
) -> Result<(), Failure> {
    if !format.is_text() || items.is_empty() {
        return list(out, format, items);
    }
    let mut header = [T::HEADER, names].concat();
    if columns.namespace {
        header.insert(0, "NAMESPACE");
    }
    if columns.labels {
        header.push("LABELS");
    }
    let row = |item: &T| {
        let mut row = item.row();
        row.extend(cells(item));
        if columns.namespace {
            row.insert(0, item.namespace().to_owned());
        }
        if columns.labels {
            row.push(dash(&in_one_line(item.labels())));
        }
        row
    };
    table(out, &header, items.iter().map(row))
}

/// Prints a list of what is in several namespaces: a person sees of each in which.
pub(crate) fn list_of_all<T: Rows + InNamespace + Serialize>(
    out: &mut Out,
    format: Format,
    items: &[T],
) -> Result<(), Failure> {
    if !format.is_text() || items.is_empty() {
        return list(out, format, items);
    }
    let header = [&["NAMESPACE"], T::HEADER].concat();
    let row = |item: &T| {
        let mut row = item.row();
        row.insert(0, item.namespace().to_owned());
        row
    };
    table(out, &header, items.iter().map(row))
}

/// Prints one thing; `text` is its form for people.
pub(crate) fn one<T: Serialize>(
    out: &mut Out,
    format: Format,
    item: &T,
    text: impl FnOnce(&mut Out) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if format == Format::Name {
        let item = shown(item)?;
        // What has no name is done all the same, and says so.
        return match called(&item) {
            Some(called) => Ok(writeln!(out, "{}", safe_line(called))?),
            None => text(out),
        };
    }
    match format.is_text() {
        true => text(out),
        false => value(out, format, item),
    }
}

/// Refuses `-o name` where the name alone would lose what is shown once.
pub(crate) fn refuse_name(format: Format) -> Result<(), Failure> {
    match format {
        Format::Name => Err(Failure::Usage(
            "-o name would not show what is shown this once: leave it out".into(),
        )),
        _ => Ok(()),
    }
}

/// The same for a document that is given back as it was stored, credentials and all.
pub(crate) fn stored<T: Serialize>(
    out: &mut Out,
    format: Format,
    item: &T,
    text: &str,
) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => Ok(out.document(text.as_bytes())?),
        format => document(out, format, &serde_json::to_value(item).map_err(unprintable)?),
    }
}

#[derive(Serialize)]
struct Deleted<'a> {
    deleted: &'a str,
}

/// Prints that something is gone.
pub(crate) fn deleted(out: &mut Out, format: Format, kind: &str, name: &str) -> Result<(), Failure> {
    one(out, format, &Deleted { deleted: name }, |out| {
        Ok(writeln!(out, "{kind} {name} deleted")?)
    })
}

/// Prints one of a stream: a JSON text a line, a YAML document each.
pub(crate) fn streamed<T: Serialize>(
    out: &mut Out,
    format: Format,
    item: &T,
    line: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => writeln!(out, "{}", line())?,
        Format::Name => {
            return Err(Failure::Usage(
                "-o name is for what has a name: leave it out".into(),
            ));
        }
        Format::Json => writeln!(out.as_it_is()?, "{}", json(&shown(item)?, false)?)?,
        Format::Yaml => write!(out.as_it_is()?, "---\n{}", yaml(&shown(item)?)?)?,
    }
    out.flush()?;
    Ok(())
}

/// Prints a table; a cell is one line.
pub(crate) fn table(
    out: &mut Out,
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<(), Failure> {
    for line in laid_out(header, rows) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Prints a table of things that have a state, in this column: no wider than the terminal, and with the state's colour.
pub(crate) fn table_of_states(
    out: &mut Out,
    header: &[&str],
    rows: &[Vec<String>],
    state: usize,
) -> Result<(), Failure> {
    let columns = out.size().map_or(usize::MAX, |size| size.columns);
    let lines = laid_out(header, rows.iter().cloned());
    let states = rows.iter().map(|row| row.get(state).map(String::as_str));
    for (line, state) in lines.iter().zip(std::iter::once(None).chain(states)) {
        out.line(&cut(line, columns), state.and_then(Colour::of))?;
    }
    Ok(())
}

/// The lines of a table: the header's, and one for each row.
pub(crate) fn laid_out(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    // Before it is laid out, so that columns stand below each other.
    table.add_rows(rows.map(|row| row.iter().map(|cell| safe_line(cell)).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Prints `What:     value`; lines of the value that follow the first stand below it.
pub(crate) fn field(out: &mut Out, width: usize, what: &str, value: &str) -> Result<(), Failure> {
    let what = format!("{what}:");
    Ok(writeln!(out, "{what:<width$}{}", set_in(value, width))?)
}

/// The text of a document that somebody changes and gives back, without its credentials.
pub(crate) fn given_back(document: &Value) -> Result<String, Failure> {
    yaml(&shown(document)?)
}

/// Prints things in a format for programs.
pub(crate) fn values<T: Serialize>(out: &mut Out, format: Format, items: &[T]) -> Result<(), Failure> {
    value(out, format, items)
}

fn value<T: Serialize + ?Sized>(out: &mut Out, format: Format, item: &T) -> Result<(), Failure> {
    let value = shown(item)?;
    document(out, format, &value)
}

fn document(out: &mut Out, format: Format, value: &Value) -> Result<(), Failure> {
    match format {
        Format::Yaml => write!(out.as_it_is()?, "{}", yaml(value)?)?,
        Format::Name => names(out, value)?,
        _ => writeln!(out.as_it_is()?, "{}", json(value, true)?)?,
    }
    Ok(())
}

/// What things are called, one a line.
fn names(out: &mut Out, value: &Value) -> Result<(), Failure> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    for item in items {
        let Some(called) = called(item) else {
            return Err(Failure::Usage(
                "-o name is for what has a name: leave it out".into(),
            ));
        };
        writeln!(out, "{}", safe_line(called))?;
    }
    Ok(())
}

/// A workflow's id, as two may have one name; the name of anything else.
fn called(item: &Value) -> Option<&str> {
    let is_workflow = item.get("tasks").is_some();
    let fields = if is_workflow { ["id", "id"] } else { ["name", "id"] };
    fields.iter().find_map(|field| item.get(field)?.as_str())
}

/// What programs get has no credentials either; control characters are escaped as the format escapes them.
fn shown<T: Serialize + ?Sized>(item: &T) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(item).map_err(unprintable)?;
    redact(&mut value);
    Ok(value)
}

fn redact(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => fields.values_mut().for_each(redact),
        Value::String(text) => {
            if let Cow::Owned(clean) = redacted(text) {
                *text = clean;
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) => {}
    }
}

fn json(value: &Value, pretty: bool) -> Result<String, Failure> {
    let text = match pretty {
        true => serde_json::to_string_pretty(value),
        false => serde_json::to_string(value),
    };
    Ok(json_safe(&text.map_err(unprintable)?).into_owned())
}

/// JSON, which is YAML (1.2, section 1.3), where the other forms of YAML would let a character through.
fn yaml(value: &Value) -> Result<String, Failure> {
    let mut text = serde_saphyr::to_string(value).map_err(unprintable)?;
    if text.chars().any(acts) {
        text = json(value, true)?;
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn unprintable(error: impl std::error::Error) -> Failure {
    Failure::Failed(format!("the answer cannot be printed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_keeps_its_value_and_lets_nothing_through() {
        for text in [
            "plain",
            "\u{1b}[2J",
            "a\u{9b}b",
            "\u{202e}",
            "\u{7f}",
            "a\nb",
            "tab\there",
        ] {
            let value = serde_json::json!({"a": [text], "b": 1.5, "c": null});
            let written = yaml(&value).unwrap();
            assert!(!written.chars().any(acts), "{written:?}");
            assert_eq!(
                serde_saphyr::from_str::<Value>(&written).unwrap(),
                value,
                "{written:?}"
            );
        }
    }

    #[test]
    fn values_have_no_credentials_at_any_depth() {
        let item = serde_json::json!({"a": [{"b": "get http://u:p@h"}], "c": "x"});
        assert_eq!(
            shown(&item).unwrap(),
            serde_json::json!({"a": [{"b": "get http://***@h"}], "c": "x"})
        );
    }
}
