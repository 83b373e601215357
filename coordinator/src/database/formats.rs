//! The format of what rows have in them: which this version reads and writes, and how rows of an older one become current.
//! [014](../../../docs/decisions/014-row-formats.md) says when there is a new one, and what neighbouring versions promise.
//!
//! A store says in `meta/rows` which formats it may have ([`store::formats`]). [`Formats::prepare`] reads that before anything
//! else, refuses what is too new, and brings older rows up to date. Rows that come out of archives later, made by an older
//! version, are brought up to date as they are read. A row says by itself what it is: a change finds what it changes, or
//! nothing.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;
use store::formats::{KEY, Migrating, Reader, RowFormats};
use store::{Commit, Revision, Store};

use super::{Batch, View, after, detached, read};
use crate::error::Error;
use crate::steps::Limits;

/// What this version of Farrier reads and writes.
pub static CURRENT: Formats = Formats {
    writes: 1,
    reads: 1,
    version: env!("CARGO_PKG_VERSION"),
    changes: &[],
};

/// First segments of keys: all kinds of rows that there are.
pub const KINDS: &[&str] = &[
    "address",
    "agent",
    "agent-id",
    "archived",
    "boot",
    "boot-log",
    "boot-ring",
    "data",
    "data-version",
    "detached",
    "event",
    "execution",
    "idempotency",
    "image",
    "inventory",
    "items",
    "label",
    "last",
    "log",
    "log-total",
    "mac",
    "machine",
    "machine-queue",
    "machine-work",
    "meta",
    "namespace",
    "of",
    "once",
    "once-until",
    "open",
    "order",
    "outbox",
    "secret",
    "sub",
    "template",
    "template-id",
    "template-version",
    "timer",
    "token",
    "token-secret",
    "webhook",
    "webhook-delivery",
    "webhook-progress",
    "workflow",
    "workflow-definition",
    "workflow-text",
];

/// A version's formats.
#[derive(Debug)]
pub struct Formats {
    /// Rows are written in this one.
    pub writes: u32,
    /// The newest that is read: `writes`, or the one after it.
    pub reads: u32,
    /// Of Farrier.
    pub version: &'static str,
    /// In the order of [`Change::to`], up to `writes`; none is ever taken away, as archives keep rows of every format.
    pub changes: &'static [Change],
}

/// What makes a row of the format before be one of the format `to`.
#[derive(Debug)]
pub struct Change {
    pub to: u32,
    /// The first segment of its key.
    pub kind: &'static str,
    /// Changes the value; false: there was nothing to change, as it is of that format already.
    pub value: fn(&mut Value) -> bool,
}

/// Rows that are changed in one commit. Each may come with the removal of its old pieces.
const MOST_ROWS: usize = 48;
/// Bytes of values in one commit, unless one is larger.
const MOST_BYTES: usize = 512 << 10;
/// Rows read in one go.
const PAGE: usize = 200;

impl Formats {
    pub fn reader(&self) -> Reader {
        Reader {
            version: self.version,
            reads: self.reads,
        }
    }

    /// Makes the rows of a store be what this version writes. Blocks; to be done before anything else reads or writes.
    ///
    /// May be broken off anywhere, and is begun again then where it was. Every commit of it leaves a store that the
    /// neighbouring version, which reads this format, can be started on.
    ///
    /// # Errors
    /// [`store::StoreError::NewerRows`] when a later version wrote what this one cannot read: nothing was changed then. When the
    /// store fails, or a row that is to be changed cannot be read.
    pub fn prepare(&self, store: &dyn Store) -> Result<(), Error> {
        let mut known = self.begin(store)?;
        if known.formats.migrating.is_none() {
            return Ok(());
        }
        let RowFormats { oldest, .. } = known.formats;
        tracing::info!(
            from = oldest,
            to = self.writes,
            "the rows of the store are brought up to date"
        );
        let mut changed = 0;
        while let Some(migrating) = known.formats.migrating.clone() {
            let done;
            (known, done) = self.change_some(store, known, migrating)?;
            changed += done;
        }
        tracing::info!(to = self.writes, changed, "the rows of the store are up to date");
        Ok(())
    }

    /// A value as this version writes it.
    ///
    /// # Errors
    /// When it is to be looked at, and is no JSON.
    pub fn up_to_date(&self, key: &[u8], value: Bytes) -> Result<Bytes, serde_json::Error> {
        let mut changes = self.changes_of(key).peekable();
        if changes.peek().is_none() {
            return Ok(value);
        }
        let mut json: Value = serde_json::from_slice(&value)?;
        let changed = changes.fold(false, |changed, change| (change.value)(&mut json) | changed);
        match changed {
            true => Ok(serde_json::to_vec(&json)?.into()),
            false => Ok(value),
        }
    }

    fn changes_of(&self, key: &[u8]) -> impl Iterator<Item = &Change> {
        let kind = key.split(|byte| *byte == b'/').next().unwrap_or_default();
        self.changes
            .iter()
            .filter(move |change| change.kind.as_bytes() == kind)
    }

    /// Says durably what rows there may be from now on, before there are any.
    fn begin(&self, store: &dyn Store) -> Result<Known, Error> {
        let (row, is_empty) = read(store, |view| {
            let row = view.rows().get(KEY.as_bytes())?;
            Ok((row, view.rows().range(b"\0", b"\xff", 1)?.is_empty()))
        })?;
        let found = match is_empty {
            true => RowFormats::only(self.writes, self.version),
            false => RowFormats::read(row.as_ref())?,
        };
        found.check(self.reader())?;
        let mut formats = found.clone();
        if formats.newest < self.writes || formats.by.is_empty() {
            formats.newest = formats.newest.max(self.writes);
            self.version.clone_into(&mut formats.by);
        }
        if formats.oldest < self.writes {
            let goes_on = |migrating: &Migrating| migrating.to == self.writes;
            formats.migrating = formats.migrating.filter(goes_on).or(Some(Migrating {
                to: self.writes,
                after: String::new(),
            }));
        } else {
            // What a later version has done of its way is to be done again: rows of this format come in between.
            formats.oldest = self.writes;
            formats.migrating = None;
        }
        let modified = row.as_ref().map(|row| row.modified);
        match modified {
            Some(modified) if formats == found => Ok(Known { formats, modified }),
            _ => {
                let mut batch = Batch::default();
                batch.expect(KEY, modified);
                batch.put(KEY, &formats);
                let modified = store.commit(&batch.into_commit())?;
                Ok(Known { formats, modified })
            }
        }
    }

    /// Changes the next rows, in one commit; says how many.
    fn change_some(
        &self,
        store: &dyn Store,
        known: Known,
        migrating: Migrating,
    ) -> Result<(Known, usize), Error> {
        let Found {
            mut batch,
            after,
            is_all,
            rows,
        } = read(store, |view| self.next(view, &migrating.after))?;
        let mut formats = known.formats;
        if is_all {
            formats.oldest = self.writes;
            formats.migrating = None;
        } else {
            formats.migrating = Some(Migrating { after, ..migrating });
        }
        batch.unchanged(KEY, known.modified);
        batch.put(KEY, &formats);
        let mut commit: Commit = batch.into_commit();
        for piece in detached::detach(store, &mut commit, &Limits::default())? {
            store.commit(&piece)?;
        }
        let modified = store.commit(&commit)?;
        Ok((Known { formats, modified }, rows))
    }

    /// The rows after this key that are to be changed, as many as fit into a commit.
    fn next(&self, view: &View, done: &str) -> Result<Found, Error> {
        let mut found = Found {
            batch: Batch::default(),
            after: done.to_owned(),
            is_all: false,
            rows: 0,
        };
        let mut bytes = 0;
        let kinds: BTreeSet<String> = self
            .changes
            .iter()
            .map(|change| format!("{}/", change.kind))
            .collect();
        for prefix in kinds {
            let end = after(&prefix);
            let mut from = prefix.max(format!("{}\0", found.after));
            loop {
                let page = view.rows().range(from.as_bytes(), end.as_bytes(), PAGE)?;
                let is_last = page.len() < PAGE;
                for row in page {
                    let (key, modified) = (row.key.clone(), row.modified);
                    let whole = detached::whole(view.rows(), row)?;
                    let text = || String::from_utf8_lossy(&key).into_owned();
                    let value = self
                        .up_to_date(&key, whole.value.clone())
                        .map_err(|source| Error::Damaged { key: text(), source })?;
                    if value != whole.value {
                        if found.rows == MOST_ROWS || (bytes > 0 && bytes + value.len() > MOST_BYTES) {
                            return Ok(found);
                        }
                        bytes += value.len();
                        found.rows += 1;
                        found.batch.unchanged(text(), modified);
                        found.batch.put_as_it_is(key.clone(), value);
                    }
                    found.after = text();
                }
                if is_last {
                    break;
                }
                from = format!("{}\0", found.after);
            }
        }
        found.is_all = true;
        Ok(found)
    }
}

/// What the store says, and since when.
struct Known {
    formats: RowFormats,
    modified: Revision,
}

struct Found {
    batch: Batch,
    /// The last key that was looked at.
    after: String,
    /// There are no others.
    is_all: bool,
    rows: usize,
}
