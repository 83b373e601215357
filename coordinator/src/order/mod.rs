//! The order of all events of all workflows: a row for each commit that wrote some.
//!
//! ```text
//! order/<revision:020>     the events that the commit of this revision wrote
//! meta/order               what is not kept any more
//! ```
//!
//! A row is appended by the commit that writes its events ([`store::Operation::Append`]): the store gives it its place. So whoever
//! has read up to one revision never finds something before it later, however many commits are under way and whichever server makes
//! them. Rows say of their events whose they are and of which kind, so that most are passed over without being read; the events
//! themselves stand with their workflow, in the store or in its archive.
//!
//! A [`ResumeToken`] says where somebody is. Rows are kept for a time and up to a number ([`trim`]); who comes back later than that
//! is told so, and so is somebody whose token is of another store.

mod token;
pub mod trim;

use serde::{Deserialize, Serialize};
use store::{Digest, Revision, appended_key};
use workflow::engine::{Event, Head, UnixMillis, time_of};

use crate::database::View;
use crate::error::Error;
pub use token::{BadToken, ResumeToken};

/// Below which the rows are.
pub const LOG: &str = "order/";
const TRIMMED: &str = "meta/order";

/// What a commit wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Of its last event.
    pub at: UnixMillis,
    /// Events in the order of their stamps; those that follow each other in one workflow are together.
    pub runs: Vec<Run>,
}

/// Events of one workflow that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub workflow: String,
    /// Of a sub-workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    pub namespace: String,
    /// The number of the first.
    pub first: u64,
    /// Of each, in their order.
    pub kinds: Vec<String>,
}

/// What is gone of the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Trimmed {
    /// Rows up to this revision are gone.
    to: Revision,
    /// What tells whether somebody has read all of them: of the last row, how many events it had, and its mark.
    events: u32,
    mark: u32,
    /// When the last of them was written.
    at: UnixMillis,
}

/// An event in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub workflow: String,
    /// The workflow that it is a part of, or itself.
    pub root: String,
    pub namespace: String,
    pub number: u64,
    pub kind: String,
    /// For who has taken this one and all before it.
    pub token: ResumeToken,
}

/// Some of the order, in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub events: Vec<Place>,
    /// For who has taken all of the page.
    pub token: ResumeToken,
    /// There was nothing behind it.
    pub is_last: bool,
}

impl Row {
    /// What stands in the order for these events of a commit; `None`: there are none.
    pub fn of<'a>(written: impl Iterator<Item = (&'a Head, &'a [Event])>) -> Option<Row> {
        let mut events: Vec<(&Head, &Event)> = written
            .flat_map(|(head, events)| events.iter().map(move |event| (head, event)))
            .collect();
        // A commit's stamps are each above the one before, whosever events they are of.
        events.sort_by_key(|(_, event)| event.stamp());
        let at = events.last()?.1.at;
        let mut runs: Vec<Run> = Vec::new();
        for (head, event) in events {
            let kind = event.kind.told_as().to_owned();
            match runs.last_mut() {
                Some(run) if run.workflow == head.id && run.next() == event.number => run.kinds.push(kind),
                _ => runs.push(Run {
                    workflow: head.id.clone(),
                    root: head.parent.as_ref().map(|parent| parent.root.clone()),
                    namespace: head.namespace.clone(),
                    first: event.number,
                    kinds: vec![kind],
                }),
            }
        }
        Some(Row { at, runs })
    }

    fn len(&self) -> u32 {
        let events: usize = self.runs.iter().map(|run| run.kinds.len()).sum();
        u32::try_from(events).unwrap_or(u32::MAX)
    }
}

impl Run {
    fn next(&self) -> u64 {
        self.first.saturating_add(self.kinds.len() as u64)
    }
}

/// Behind all that is there.
///
/// # Errors
/// When the store cannot be read.
pub fn newest(view: &View) -> Result<ResumeToken, Error> {
    Ok(ResumeToken::at(view.rows().revision()?))
}

/// Before the oldest that is kept.
///
/// # Errors
/// When the store cannot be read.
pub fn oldest(view: &View) -> Result<ResumeToken, Error> {
    let trimmed = trimmed(view)?;
    Ok(match trimmed.to {
        0 => ResumeToken::at(0),
        to => ResumeToken::within(to, trimmed.events, trimmed.mark),
    })
}

/// What comes after a token, in its order: of `most` rows.
///
/// # Errors
/// [`Error::OutOfRange`] when something after the token is not kept any more, or the token is of another store.
pub fn page(view: &View, after: &ResumeToken, most: usize) -> Result<Page, Error> {
    let begun = begun(view, after)?;
    let mut page = Page {
        events: Vec::new(),
        token: *after,
        is_last: false,
    };
    if let Some((revision, row, mark)) = begun {
        page.take(revision, &row, mark, after.taken());
    }
    let from = appended_key(LOG.as_bytes(), after.revision().saturating_add(1));
    let found = view
        .rows()
        .range(&from, &store::prefix_end(LOG.as_bytes()), most)?;
    page.is_last = found.len() < most;
    for entry in &found {
        let (revision, row, mark) = read(&entry.key, &entry.value)?;
        page.take(revision, &row, mark, 0);
    }
    Ok(page)
}

impl Page {
    fn take(&mut self, revision: Revision, row: &Row, mark: u32, taken: u32) {
        let mut number_in_row = 0;
        for run in &row.runs {
            for (number, kind) in (run.first..).zip(&run.kinds) {
                number_in_row += 1;
                if number_in_row <= taken {
                    continue;
                }
                self.token = ResumeToken::within(revision, number_in_row, mark);
                self.events.push(Place {
                    workflow: run.workflow.clone(),
                    root: run.root.clone().unwrap_or_else(|| run.workflow.clone()),
                    namespace: run.namespace.clone(),
                    number,
                    kind: kind.clone(),
                    token: self.token,
                });
            }
        }
    }
}

/// The row that a token is in, if it has some that were not taken.
fn begun(view: &View, after: &ResumeToken) -> Result<Option<(Revision, Row, u32)>, Error> {
    let trimmed = trimmed(view)?;
    let revision = after.revision();
    if revision < trimmed.to {
        return Err(too_old(&trimmed));
    }
    let Some(mark) = after.mark() else {
        return match revision <= view.rows().revision()? {
            true => Ok(None),
            false => Err(of_another_store()),
        };
    };
    if revision == trimmed.to {
        return match (mark == trimmed.mark, after.taken() == trimmed.events) {
            (true, true) => Ok(None),
            (true, false) => Err(too_old(&trimmed)),
            (false, _) => Err(of_another_store()),
        };
    }
    let key = appended_key(LOG.as_bytes(), revision);
    let Some(found) = view.rows().get(&key)? else {
        return Err(of_another_store());
    };
    let (revision, row, found) = read(&key, &found.value)?;
    if found != mark || after.taken() > row.len() {
        return Err(of_another_store());
    }
    Ok((after.taken() < row.len()).then_some((revision, row, mark)))
}

fn too_old(trimmed: &Trimmed) -> Error {
    Error::OutOfRange(format!(
        "that token is older than what is kept of the events (since {}): look at the workflows (`farrier workflow list`), then \
         follow from now on",
        time_of(trimmed.at)
    ))
}

/// A backup was put in its place, or the token is of another server.
fn of_another_store() -> Error {
    Error::OutOfRange(
        "that token is not of what this server has (is it of another server, or was a backup put in place?): look at the workflows \
         (`farrier workflow list`), then follow from now on"
            .to_owned(),
    )
}

fn trimmed(view: &View) -> Result<Trimmed, Error> {
    let row = view.get::<Trimmed>(TRIMMED)?;
    Ok(row.map(|row| row.value).unwrap_or_default())
}

/// The revision of a row, the row, and what tells it from one of another store.
fn read(key: &[u8], value: &[u8]) -> Result<(Revision, Row, u32), Error> {
    let damaged = |source| Error::Damaged {
        key: String::from_utf8_lossy(key).into_owned(),
        source,
    };
    let row: Row = serde_json::from_slice(value).map_err(damaged)?;
    let number = key
        .get(LOG.len()..)
        .and_then(|number| std::str::from_utf8(number).ok());
    let revision = number.and_then(|number| number.parse().ok()).ok_or_else(|| {
        let no_number = <serde_json::Error as serde::de::Error>::custom("its key has no revision");
        damaged(no_number)
    })?;
    Ok((revision, row, mark(value)))
}

/// Of a row's bytes: rows of two stores that have the same revision are not the same.
fn mark(value: &[u8]) -> u32 {
    let digest = Digest::of(value).to_string();
    let first = digest.get(..8).unwrap_or_default();
    u32::from_str_radix(first, 16).unwrap_or_default()
}

#[cfg(test)]
mod tests;
