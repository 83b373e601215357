//! Workflows as a list shows them, in order of creation: those in the store and those in archives.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use workflow::engine::Head;
use workflow::language::Definition;

use crate::control::ControlPlane;
use crate::within::Within;
use coordinator::Error;
use coordinator::archive::{self, Archived};
use coordinator::database::View;
use coordinator::machines;
use coordinator::namespaces::Reach;
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
    /// namespace also that of those which lie between them.
    pub(crate) async fn workflows(&self, list: WorkflowList) -> Result<Vec<Listed>, Error> {
        self.inner
            .db
            .with(move |view| match list.machine.as_str() {
                "" => of_all(view, &list.within.list(view)?, &list),
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
            if (list.unfinished && head.state.is_final()) || !reach.has(&head.namespace) {
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
                if reach.has(&one.head.namespace) {
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
    let mut ids = std::collections::BTreeSet::new();
    for name in names {
        let of = view.list::<IgnoredAny>(&format!("of/{name}/"))?;
        ids.extend(of.into_iter().map(|(id, _)| id).filter(|id| *id > list.after));
    }
    let mut found = Vec::new();
    for id in ids {
        if found.len() == list.limit {
            break;
        }
        if let Some(head) = view.get::<Head>(&rows::head(&id))? {
            let is_over = list.unfinished && head.value.state.is_final();
            // It may be of before the machine moved.
            if reach.has(&head.value.namespace) && !is_over {
                found.extend(with_definition(view, head.value)?);
            }
        } else if !list.unfinished {
            let archived = view.get::<Archived>(&archive::key(&id))?;
            let archived = archived.filter(|archived| reach.has(&archived.value.head.namespace));
            found.extend(archived.map(|archived| Listed::Archived(Box::new(archived.value))));
        }
    }
    Ok(found)
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
