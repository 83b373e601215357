//! How answers are printed: tables for people, JSON and YAML for programs.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::failure::Failure;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// Something with a table form.
pub(crate) trait Rows {
    const HEADER: &'static [&'static str];
    /// Said to a person instead of nothing.
    const NONE: &'static str;
    fn row(&self) -> Vec<String>;
}

/// Prints a list.
pub(crate) fn list<T: Rows + Serialize>(
    out: &mut dyn Write,
    format: Format,
    items: &[T],
) -> Result<(), Failure> {
    match format {
        Format::Table => {
            if items.is_empty() && std::io::stderr().is_terminal() {
                eprintln!("{}", T::NONE);
            }
            table(out, T::HEADER, items.iter().map(Rows::row))
        }
        format => value(out, format, items),
    }
}

/// Prints one thing; `text` is its form for people.
pub(crate) fn one<T: Serialize>(
    out: &mut dyn Write,
    format: Format,
    item: &T,
    text: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match format {
        Format::Table => text(out),
        format => value(out, format, item),
    }
}

#[derive(Serialize)]
struct Deleted<'a> {
    deleted: &'a str,
}

/// Prints that something is gone.
pub(crate) fn deleted(out: &mut dyn Write, format: Format, kind: &str, name: &str) -> Result<(), Failure> {
    one(out, format, &Deleted { deleted: name }, |out| {
        Ok(writeln!(out, "{kind} {name} deleted")?)
    })
}

/// Prints one of a stream: a JSON text a line, a YAML document each.
pub(crate) fn streamed<T: Serialize>(
    out: &mut dyn Write,
    format: Format,
    item: &T,
    line: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => writeln!(out, "{}", line())?,
        Format::Json => writeln!(out, "{}", serde_json::to_string(item).map_err(unprintable)?)?,
        Format::Yaml => write!(out, "---\n{}", yaml(item)?)?,
    }
    out.flush()?;
    Ok(())
}

pub(crate) fn table(
    out: &mut dyn Write,
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<(), Failure> {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn value<T: Serialize + ?Sized>(out: &mut dyn Write, format: Format, item: &T) -> Result<(), Failure> {
    match format {
        Format::Yaml => write!(out, "{}", yaml(item)?)?,
        _ => writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(item).map_err(unprintable)?
        )?,
    }
    Ok(())
}

fn yaml<T: Serialize>(item: T) -> Result<String, Failure> {
    let mut text = serde_saphyr::to_string(&item).map_err(unprintable)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn unprintable(error: impl std::error::Error) -> Failure {
    Failure::Failed(format!("the answer cannot be printed: {error}"))
}
