//! What is kept of the order: so long, and so many rows.

use std::ops::Range;

use store::{Revision, appended_key};
use workflow::engine::UnixMillis;

use super::{LOG, TRIMMED, Trimmed, read};
use crate::database::{Batch, View};
use crate::error::Error;

/// Rows that are read in one go, and that go in one commit.
const PAGE: usize = 500;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub for_ms: u64,
    pub rows: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            for_ms: 7 * 24 * 3_600_000,
            rows: 250_000,
        }
    }
}

/// Rows that were counted, so that none is counted twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    rows: u64,
    to: Revision,
}

impl Counted {
    /// Counts what has come since the last time, a page of it; true: there is more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn count(&mut self, view: &View) -> Result<bool, Error> {
        let Range { start, end } = after(self.to);
        let found = view.rows().range(&start, &end, PAGE)?;
        if let Some(last) = found.last() {
            self.to = read(&last.key, &last.value)?.0;
        }
        self.rows += found.len() as u64;
        Ok(found.len() == PAGE)
    }

    /// The commit of [`trim`] is durable.
    pub fn gone(&mut self, rows: u64) {
        self.rows = self.rows.saturating_sub(rows);
    }
}

/// Takes away what is too old or too much, as much as goes in one commit; and how many rows that are. `None`: nothing.
///
/// # Errors
/// When the store cannot be read.
pub fn trim(
    view: &View,
    counted: &Counted,
    now: UnixMillis,
    kept: Kept,
) -> Result<Option<(Batch, u64)>, Error> {
    let before = view.get::<Trimmed>(TRIMMED)?;
    let from = before.as_ref().map_or(0, |before| before.value.to);
    let Range { start, end } = after(from);
    let mut trimmed: Option<Trimmed> = None;
    let mut rows = 0;
    for entry in view.rows().range(&start, &end, PAGE)? {
        let (revision, row, mark) = read(&entry.key, &entry.value)?;
        let is_old = row.at.saturating_add(kept.for_ms) < now;
        let is_too_much = counted.rows.saturating_sub(rows) > kept.rows;
        if !is_old && !is_too_much {
            break;
        }
        rows += 1;
        trimmed = Some(Trimmed {
            to: revision,
            events: row.len(),
            mark,
            at: row.at,
        });
    }
    let Some(trimmed) = trimmed else { return Ok(None) };
    let mut batch = Batch::default();
    batch.expect(TRIMMED, before.map(|before| before.modified));
    batch.put(TRIMMED, &trimmed);
    let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    batch.delete_range(text(&start), text(&after(trimmed.to).start));
    Ok(Some((batch, rows)))
}

/// Keys of rows that come after this revision.
fn after(revision: Revision) -> Range<bytes::Bytes> {
    let start = appended_key(LOG.as_bytes(), revision.saturating_add(1));
    start..store::prefix_end(LOG.as_bytes())
}
