//! Workflows as a list shows them, in order of creation: those in the store and those in archives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::json;
use workflow::engine::Head;
use workflow::expression::Selector;
use workflow::language::Definition;

use crate::control::ControlPlane;
use crate::within::Within;
use coordinator::Error;
use coordinator::archive::{self, Archived};
use coordinator::database::View;
use coordinator::machines;
use coordinator::namespaces::{self, Reach};
use coordinator::steps::rows;

/// Which are to be listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkflowList {
    /// Name or MAC of the machine that they have something for; empty: any.
    pub(crate) machine: String,
    /// Only those made after this one; empty: from the first on.
    pub(crate) after: String,
    pub(crate) limit: usize,
    /// Leaves out those that have ended.
    pub(crate) unfinished: bool,
    /// Leaves out those that it does not mean; `None`: all are meant.
    pub(crate) selector: Option<Arc<Selector>>,
    pub(crate) within: Within,
}

/// What a workflow is as a whole.
pub(crate) enum Listed {
    Archived(Box<Archived>),
    Stored(Box<Head>, Box<Definition>),
}

impl Listed {
    pub(crate) fn id(&self) -> &str {
        match self {
            Listed::Archived(archived) => &archived.head.id,
            Listed::Stored(head, _) => &head.id,
        }
    }
}

impl ControlPlane {
    /// Lists workflows; the cost is that of those that are given, and of those of the machine; of one
    /// namespace also that of those which lie between them. With a selector it is that of those which have the label that it needs; with
    /// one that needs none, that of all that lie between.
    pub(crate) async fn workflows(&self, list: WorkflowList) -> Result<Vec<Listed>, Error> {
        self.inner
            .db
            .with(move |view| match list.machine.as_str() {
                "" => {
                    let reach = list.within.list(view)?;
                    match list.selector.as_ref().and_then(|selector| selector.needs()) {
                        Some(needs) => of_label(view, &reach, needs, &list),
                        None => of_all(view, &reach, &list),
                    }
                }
                machine => {
                    let machine = machines::find(view, list.within.reach(), machine)?.value;
                    of_machine(view, list.within.reach(), &machine.index_names(), &list)
                }
            })
            .await
    }
}

fn of_all(view: &View, reach: &Reach, list: &WorkflowList) -> Result<Vec<Listed>, Error> {
    let mut found: BTreeMap<String, Listed> = BTreeMap::new();
    let mut from = after("workflow/", &list.after);
    let mut stored = 0;
    while stored < list.limit {
        let page = view.page::<Head>("workflow/", &from, list.limit)?;
        let Some((last, _)) = page.last() else { break };
        from = after("workflow/", last);
        for (id, head) in page {
            if !reach.has(&head.namespace) || !list.is_for(&head)? {
                continue;
            }
            if let Some(listed) = with_definition(view, head)? {
                stored += 1;
                found.insert(id, listed);
            }
        }
    }
    if !list.unfinished {
        let mut from = after("archived/", &list.after);
        let mut archived = 0;
        while archived < list.limit {
            let page = view.page::<Archived>("archived/", &from, list.limit)?;
            let Some((last, _)) = page.last() else { break };
            from = after("archived/", last);
            for (id, one) in page {
                if reach.has(&one.head.namespace) && list.is_for(&one.head)? {
                    archived += 1;
                    found.insert(id, Listed::Archived(Box::new(one)));
                }
            }
        }
    }
    Ok(found.into_values().take(list.limit).collect())
}

fn of_machine(
    view: &View,
    reach: &Reach,
    names: &[String],
    list: &WorkflowList,
) -> Result<Vec<Listed>, Error> {
    let mut ids = BTreeSet::new();
    for name in names {
        let of = view.list::<IgnoredAny>(&format!("of/{name}/"))?;
        ids.extend(of.into_iter().map(|(id, _)| id).filter(|id| *id > list.after));
    }
    let mut found = Vec::new();
    for id in ids {
        if found.len() == list.limit {
            break;
        }
        // It may be of before the machine moved.
        found.extend(one(view, reach, &id, list)?);
    }
    Ok(found)
}

/// Values of a label by which workflows are looked for one by one.
const MOST_VALUES: usize = 16;

/// Those that have a label; with one of the values, if there are some.
fn of_label(
    view: &View,
    reach: &Reach,
    (key, values): (&str, Vec<&str>),
    list: &WorkflowList,
) -> Result<Vec<Listed>, Error> {
    let namespaces: Vec<String> = namespaces::all(view, reach)?
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let mut found = Vec::new();
    if values.is_empty() || values.len() > MOST_VALUES {
        let mut ids = BTreeSet::new();
        for namespace in &namespaces {
            let rows = view.list::<IgnoredAny>(&rows::labelled(namespace, key))?;
            let all = rows.iter().filter_map(|(row, _)| Some(row.rsplit_once('/')?.1));
            ids.extend(all.filter(|id| **id > *list.after).map(str::to_owned));
        }
        for id in ids {
            if found.len() == list.limit {
                break;
            }
            found.extend(one(view, reach, &id, list)?);
        }
        return Ok(found);
    }
    let prefixes: Vec<String> = namespaces
        .iter()
        .flat_map(|namespace| {
            values
                .iter()
                .map(|value| rows::labelled_with(namespace, key, value))
        })
        .collect();
    let mut last = list.after.clone();
    loop {
        // The first of all are among the first of each.
        let mut ids = BTreeSet::new();
        for prefix in &prefixes {
            let page = view.page::<IgnoredAny>(prefix, &after(prefix, &last), list.limit)?;
            ids.extend(page.into_iter().map(|(id, _)| id));
        }
        let is_cut = ids.len() >= list.limit;
        for id in ids.into_iter().take(list.limit) {
            if found.len() == list.limit {
                return Ok(found);
            }
            found.extend(one(view, reach, &id, list)?);
            last = id;
        }
        if !is_cut {
            return Ok(found);
        }
    }
}

/// The workflow of this id, if it is to be listed.
fn one(view: &View, reach: &Reach, id: &str, list: &WorkflowList) -> Result<Option<Listed>, Error> {
    if let Some(head) = view.get::<Head>(&rows::head(id))? {
        let head = head.value;
        return match reach.has(&head.namespace) && list.is_for(&head)? {
            true => with_definition(view, head),
            false => Ok(None),
        };
    }
    let archived = view.get::<Archived>(&archive::key(id))?;
    let Some(archived) = archived.map(|archived| archived.value) else {
        return Ok(None);
    };
    let is_listed = reach.has(&archived.head.namespace) && list.is_for(&archived.head)?;
    Ok(is_listed.then(|| Listed::Archived(Box::new(archived))))
}

impl WorkflowList {
    /// # Errors
    /// [`Error::Invalid`] when the selector has no value for it.
    fn is_for(&self, head: &Head) -> Result<bool, Error> {
        if self.unfinished && head.state.is_final() {
            return Ok(false);
        }
        let Some(selector) = &self.selector else {
            return Ok(true);
        };
        let known = json!({"name": head.name, "labels": *head.labels});
        let said = selector.matches(&known);
        said.map_err(|error| Error::Invalid(format!("workflow {}: {error}", head.id)))
    }
}

fn with_definition(view: &View, head: Head) -> Result<Option<Listed>, Error> {
    let definition = view.get::<Definition>(&rows::definition(&head.id))?;
    Ok(definition.map(|definition| Listed::Stored(Box::new(head), Box::new(definition.value))))
}

/// The first key after that of this id.
fn after(prefix: &str, id: &str) -> String {
    match id {
        "" => prefix.to_owned(),
        id => format!("{prefix}{id}\0"),
    }
}
