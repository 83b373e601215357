//! Rows that have ids of workflows in their keys, read from several places in one order.

use std::collections::{BTreeSet, VecDeque};

use serde::de::IgnoredAny;
use workflow::engine::Head;

use coordinator::Error;
use coordinator::archive::Archived;
use coordinator::database::View;

/// Rows that are read in one go: as many as are wanted, within these bounds.
const PAGE: std::ops::RangeInclusive<usize> = 16..=500;

/// In which order workflows are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    NewestFirst,
    #[default]
    OldestFirst,
}

/// Ids, from one on and before another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) from: String,
    /// `None`: to the end.
    pub(super) before: Option<String>,
    pub(super) order: Order,
}

/// What a row says of its workflow.
pub(super) enum Row {
    Archived(Box<Archived>),
    /// That there is one of this id.
    Id,
    Stored(Box<Head>),
}

/// Which rows there are in a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Archived,
    Ids,
    Stored,
}

/// The rows of one place.
pub(super) struct Walk {
    kind: Kind,
    prefix: String,
    page: VecDeque<(String, Row)>,
    /// Where the next page begins, once there was one.
    left: Option<Span>,
    is_over: bool,
}

/// Several, as one.
pub(super) struct Walks(Vec<Walk>);

impl Span {
    pub(super) fn has(&self, id: &str) -> bool {
        id >= self.from.as_str() && self.before.as_deref().is_none_or(|before| id < before)
    }

    /// What is behind this one, in its order.
    pub(super) fn behind(mut self, id: &str) -> Self {
        match self.order {
            Order::NewestFirst => {
                if self.before.as_deref().is_none_or(|before| id < before) {
                    self.before = Some(id.to_owned());
                }
            }
            // The smallest key that is larger.
            Order::OldestFirst => self.from = self.from.max(format!("{id}\0")),
        }
        self
    }
}

impl Walk {
    /// Over all rows below a prefix.
    pub(super) fn over(kind: Kind, prefix: String) -> Self {
        Self {
            kind,
            prefix,
            page: VecDeque::new(),
            left: None,
            is_over: false,
        }
    }

    /// Over ids that are known.
    pub(super) fn of(ids: BTreeSet<String>, order: Order) -> Self {
        let rows = ids.into_iter().map(|id| (id, Row::Id));
        Self {
            kind: Kind::Ids,
            prefix: String::new(),
            page: match order {
                Order::NewestFirst => rows.rev().collect(),
                Order::OldestFirst => rows.collect(),
            },
            left: None,
            is_over: true,
        }
    }

    fn fill(&mut self, view: &View, span: &Span, limit: usize) -> Result<(), Error> {
        if !self.page.is_empty() || self.is_over {
            return Ok(());
        }
        let left = self.left.clone().unwrap_or_else(|| span.clone());
        let limit = limit.clamp(*PAGE.start(), *PAGE.end());
        self.page = match self.kind {
            Kind::Archived => page(view, &self.prefix, &left, limit, |row| {
                Row::Archived(Box::new(row))
            })?,
            Kind::Ids => page(view, &self.prefix, &left, limit, |_: IgnoredAny| Row::Id)?,
            Kind::Stored => page(view, &self.prefix, &left, limit, |row| Row::Stored(Box::new(row)))?,
        };
        self.is_over = self.page.len() < limit;
        if let Some((last, _)) = self.page.back() {
            self.left = Some(left.behind(last));
        }
        Ok(())
    }
}

impl Walks {
    /// The next id of all places, once, with the row of the first place that has it.
    pub(super) fn next(
        &mut self,
        view: &View,
        span: &Span,
        limit: usize,
    ) -> Result<Option<(String, Row)>, Error> {
        for walk in &mut self.0 {
            walk.fill(view, span, limit)?;
        }
        let ids = self.0.iter().filter_map(|walk| walk.page.front());
        let ids = ids.map(|(id, _)| id);
        let next = match span.order {
            Order::NewestFirst => ids.max(),
            Order::OldestFirst => ids.min(),
        };
        let Some(next) = next.cloned() else {
            return Ok(None);
        };
        let mut found = None;
        for walk in &mut self.0 {
            if walk.page.front().is_some_and(|(id, _)| *id == next) {
                let row = walk.page.pop_front();
                found = found.or(row);
            }
        }
        Ok(found)
    }
}

impl FromIterator<Walk> for Walks {
    fn from_iter<I: IntoIterator<Item = Walk>>(walks: I) -> Self {
        Self(walks.into_iter().collect())
    }
}

fn page<T: serde::de::DeserializeOwned>(
    view: &View,
    prefix: &str,
    span: &Span,
    limit: usize,
    row: impl Fn(T) -> Row,
) -> Result<VecDeque<(String, Row)>, Error> {
    let from = format!("{prefix}{}", span.from);
    // `~` is behind all that ids have.
    let before = format!("{prefix}{}", span.before.as_deref().unwrap_or("~"));
    let rows = match span.order {
        Order::NewestFirst => view.page_back(prefix, &from, &before, limit)?,
        Order::OldestFirst => view.page_between(prefix, &from, &before, limit)?,
    };
    Ok(rows.into_iter().map(|(id, value)| (id, row(value))).collect())
}

#[cfg(test)]
mod tests {
    use coordinator::database::Batch;
    use store::{MemoryStore, Store};

    use super::*;

    fn ids(span: &Span, limit: usize) -> String {
        let store = MemoryStore::new();
        let mut batch = Batch::default();
        // `c` is in both places.
        for key in ["x/a", "x/c", "x/e", "y/b", "y/c", "y/d"] {
            batch.put(key, &());
        }
        store.commit(&batch.into_commit()).expect("committed");
        let view = View::now(&store).expect("a view");
        let places = ["x/", "y/"].map(|prefix| Walk::over(Kind::Ids, prefix.to_owned()));
        let mut walks: Walks = places.into_iter().collect();
        let mut all = String::new();
        while let Some((id, _)) = walks.next(&view, span, limit).expect("read") {
            all.push_str(&id);
        }
        all
    }

    #[test]
    fn several_places_are_one_in_either_order() {
        let span = |from: &str, before: Option<&str>, order| Span {
            from: from.to_owned(),
            before: before.map(str::to_owned),
            order,
        };
        for (from, before, oldest, newest) in [
            ("", None, "abcde", "edcba"),
            ("b", None, "bcde", "edcb"),
            ("", Some("d"), "abc", "cba"),
            ("b", Some("d"), "bc", "cb"),
            ("x", None, "", ""),
        ] {
            assert_eq!(ids(&span(from, before, Order::OldestFirst), 1), oldest);
            assert_eq!(ids(&span(from, before, Order::NewestFirst), 1), newest);
        }
        let all = Span::default();
        assert_eq!(ids(&all.clone().behind("c"), 500), "de");
        let back = Span {
            order: Order::NewestFirst,
            ..all
        };
        assert_eq!(ids(&back.behind("c"), 500), "ba");
    }
}
