//! Paths with slashes: sprig's "File Path Functions", as Go's package `path` has them.

use super::arguments::{Arguments, string};
use super::{Answer, Entry};
use gotmpl::Value;

pub(super) const TABLE: &[Entry] = &[
    ("base", |a| string(base(one(a)?))),
    ("dir", |a| string(clean(dir(one(a)?)))),
    ("clean", |a| string(clean(one(a)?))),
    ("ext", |a| string(ext(one(a)?))),
    ("isAbs", is_absolute),
    ("osBase", |a| string(base(one(a)?))),
    ("osDir", |a| string(clean(dir(one(a)?)))),
    ("osClean", |a| string(clean(one(a)?))),
    ("osExt", |a| string(ext(one(a)?))),
    ("osIsAbs", is_absolute),
];

fn one<'a>(arguments: &Arguments<'a>) -> Result<&'a str, gotmpl::TemplateError> {
    let [path] = arguments.exactly()?;
    arguments.text(path)
}

fn is_absolute(arguments: &Arguments<'_>) -> Answer {
    Ok(Value::Bool(one(arguments)?.starts_with('/')))
}

fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        None | Some("") => "/",
        Some(name) => name,
    }
}

fn dir(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..=slash])
}

fn ext(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rfind('.').map_or("", |dot| &name[dot..])
}

/// The shortest path that means the same by its letters.
fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (is_absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}
