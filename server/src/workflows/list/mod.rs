//! Workflows as a list shows them, in order of creation: those in the store and those in archives.
//!
//! What a list costs is that of those that it looks at, and one answer looks at [`MOST_LOOKED`] at most. Ids are made of the time
//! of creation, so a list from either end, of some time on, or of a beginning of an id looks at no others. Those that have ended
//! and were archived are looked at only where ended ones are asked for.

mod walk;
mod wanted;

use serde::de::IgnoredAny;
use std::collections::BTreeSet;
use workflow::engine::Head;
use workflow::language::Definition;

use crate::control::ControlPlane;
use crate::within::Within;
use coordinator::Error;
use coordinator::archive::{self, Archived};
use coordinator::database::View;
use coordinator::machines;
use coordinator::namespaces::{self, Reach};
use coordinator::steps::rows;

use walk::{Kind, Row, Walk, Walks};
pub(crate) use walk::{Order, Span};
pub(crate) use wanted::Wanted;

/// Workflows that one answer looks at.
pub(crate) const MOST_LOOKED: usize = 5_000;
/// Values of a label by which workflows are looked for one by one.
const MOST_VALUES: usize = 16;

/// Which are to be listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkflowList {
    /// Name or MAC of the machine that they have something for; empty: any.
    pub(crate) machine: String,
    /// Only those behind this one, in the list's order; empty: from its beginning on.
    pub(crate) after: String,
    pub(crate) limit: usize,
    pub(crate) order: Order,
    pub(crate) wanted: Wanted,
    pub(crate) within: Within,
}

/// A page of a list.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) workflows: Vec<Listed>,
    /// The last one that was looked at, where there may be more behind it.
    pub(crate) next: Option<String>,
}

/// What a workflow is as a whole.
pub(crate) enum Listed {
    Archived(Box<Archived>),
    Stored(Box<Head>, Box<Definition>),
}

impl Listed {
    pub(crate) fn id(&self) -> &str {
        &self.head().id
    }

    fn head(&self) -> &Head {
        match self {
            Listed::Archived(archived) => &archived.head,
            Listed::Stored(head, _) => head,
        }
    }
}

impl ControlPlane {
    /// Lists workflows. With a machine, or a selector that needs a label, only those are looked at which have something for that
    /// machine, or that label.
    pub(crate) async fn workflows(&self, list: WorkflowList) -> Result<Found, Error> {
        self.inner.db.with(move |view| found(view, &list)).await
    }
}

fn found(view: &View, list: &WorkflowList) -> Result<Found, Error> {
    let (reach, mut walks) = match list.machine.as_str() {
        "" => {
            let reach = list.within.list(view)?;
            let needs = list
                .wanted
                .selector
                .as_ref()
                .and_then(|selector| selector.needs());
            let walks = match needs {
                Some(needs) => of_label(view, &reach, needs, list)?,
                None => of_all(list),
            };
            (reach, walks)
        }
        machine => {
            let machine = machines::find(view, list.within.reach(), machine)?.value;
            let of = |name: String| Walk::over(Kind::Ids, format!("of/{name}/"));
            let walks = machine.index_names().into_iter().map(of).collect();
            // A workflow may be of before the machine moved.
            (list.within.reach().clone(), walks)
        }
    };
    let mut found = Found::default();
    let mut looked = 0;
    let mut last = None;
    let span = list.wanted.span(&list.after, list.order);
    while let Some((id, row)) = walks.next(view, &span, list.limit)? {
        if found.workflows.len() == list.limit || looked == MOST_LOOKED {
            found.next = last;
            break;
        }
        looked += 1;
        found.workflows.extend(listed(view, &reach, &id, row, list)?);
        last = Some(id);
    }
    Ok(found)
}

fn of_all(list: &WorkflowList) -> Walks {
    let stored = Walk::over(Kind::Stored, "workflow/".to_owned());
    let archived = Walk::over(Kind::Archived, "archived/".to_owned());
    match list.wanted.has_ended_ones() {
        true => [stored, archived].into_iter().collect(),
        false => [stored].into_iter().collect(),
    }
}

/// Those that have a label; with one of the values, if there are some.
fn of_label(
    view: &View,
    reach: &Reach,
    (key, values): (&str, Vec<&str>),
    list: &WorkflowList,
) -> Result<Walks, Error> {
    let namespaces: Vec<String> = namespaces::all(view, reach)?
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    if values.is_empty() || values.len() > MOST_VALUES {
        // Its rows are in the order of the values.
        let mut ids = BTreeSet::new();
        for namespace in &namespaces {
            let rows = view.list::<IgnoredAny>(&rows::labelled(namespace, key))?;
            let all = rows.iter().filter_map(|(row, _)| Some(row.rsplit_once('/')?.1));
            ids.extend(all.map(str::to_owned));
        }
        let span = list.wanted.span(&list.after, list.order);
        ids.retain(|id| span.has(id));
        return Ok([Walk::of(ids, list.order)].into_iter().collect());
    }
    let prefixes = namespaces.iter().flat_map(|namespace| {
        let of = move |value: &&str| rows::labelled_with(namespace, key, value);
        values.iter().map(of).collect::<Vec<_>>()
    });
    Ok(prefixes.map(|prefix| Walk::over(Kind::Ids, prefix)).collect())
}

/// The workflow of this row, if it is to be listed.
fn listed(
    view: &View,
    reach: &Reach,
    id: &str,
    row: Row,
    list: &WorkflowList,
) -> Result<Option<Listed>, Error> {
    let is_listed =
        |head: &Head| -> Result<bool, Error> { Ok(reach.has(&head.namespace) && list.wanted.is_for(head)?) };
    let head = match row {
        Row::Stored(head) => head,
        Row::Archived(archived) => {
            return Ok(is_listed(&archived.head)?.then_some(Listed::Archived(archived)));
        }
        Row::Id => match view.get::<Head>(&rows::head(id))? {
            Some(head) => Box::new(head.value),
            None if !list.wanted.has_ended_ones() => return Ok(None),
            None => {
                let Some(archived) = view.get::<Archived>(&archive::key(id))? else {
                    return Ok(None);
                };
                return listed(view, reach, id, Row::Archived(Box::new(archived.value)), list);
            }
        },
    };
    if !is_listed(&head)? || !list.wanted.is_asked(view, &head)? {
        return Ok(None);
    }
    let definition = view.get::<Definition>(&rows::definition(id))?;
    Ok(definition.map(|definition| Listed::Stored(head, Box::new(definition.value))))
}
