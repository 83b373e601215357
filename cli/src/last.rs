//! The workflow that somebody made last on each server: what `@last` means. It lies beside the logins.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::logins;
use crate::terminal::say;

/// How it is written.
pub(crate) const LAST: &str = "@last";
const FILE: &str = "last.toml";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Last {
    /// Ids, by `HOST:PORT`.
    #[serde(default)]
    workflows: BTreeMap<String, String>,
}

/// Keeps it. Where there is no place for it, or it cannot be written, the workflow is made all the same.
pub(crate) fn keep(server: &str, id: &str) {
    let Some(path) = logins::beside(FILE) else {
        return;
    };
    let kept = read().and_then(|mut last| {
        last.workflows.insert(server.to_owned(), id.to_owned());
        let text = toml::to_string(&last).map_err(|error| error.to_string())?;
        logins::replace(&path, &text).map_err(|error| error.to_string())
    });
    if let Err(why) = kept {
        say(format_args!(
            "warning: {LAST} is not this workflow, as {} cannot be written: {why}",
            path.display()
        ));
    }
}

/// The last one on this server.
pub(crate) fn of(server: &str) -> Result<String, Failure> {
    let last = read().map_err(|why| Failure::Failed(format!("{LAST} is not known: {why}")))?;
    last.workflows.get(server).cloned().ok_or_else(|| {
        Failure::NotFound(format!(
            "{LAST} is the workflow that you made last on {server}, and there is none: see `farrier workflow list`"
        ))
    })
}

fn read() -> Result<Last, String> {
    let Some(path) = logins::beside(FILE) else {
        return Ok(Last::default());
    };
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| format!("{}: {}; delete it", path.display(), error.to_string().trim_end())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Last::default()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}
