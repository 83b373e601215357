//! Machine records in both forms and as they are shown, as they are applied: what is taken can be applied again, and what is
//! refused is said at a place that there is.

use std::collections::BTreeSet;

use coordinator::Error;
use coordinator::database::View;
use coordinator::machines::{File, all, apply};
use coordinator::namespaces::{DEFAULT, Reach, Scope};
use store::{MemoryStore, Store};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let file = File {
        text: text.to_owned(),
        ..File::default()
    };
    let store = MemoryStore::default();
    let view = || View::now(&store).expect("a store in memory");
    let scope = Scope::inside(DEFAULT);
    let applied = match apply(&view(), &scope, &file, &[], 1) {
        Ok(applied) => applied,
        Err(Error::Invalid(said)) => {
            assert!(!said.is_empty());
            return;
        }
        // It is for another namespace.
        Err(Error::NotFound(said)) => {
            assert!(said.contains("namespace"), "{said}");
            return;
        }
        Err(other) => panic!("an empty store refuses: {other}"),
    };
    assert!(applied.updated.is_empty());
    let created: BTreeSet<&String> = applied.created.iter().collect();
    assert_eq!(created.len(), applied.created.len(), "names are unique");
    for step in applied.steps {
        store
            .commit(&step.into_commit())
            .expect("a step fits into a commit");
    }
    let stored = all(&view(), &Reach::everything()).expect("what was written is read");
    let names: BTreeSet<&String> = stored.iter().map(|machine| &machine.name).collect();
    assert_eq!(names, created);
    let macs: Vec<_> = stored
        .iter()
        .flat_map(|machine| &machine.interfaces)
        .map(|interface| interface.mac)
        .collect();
    assert_eq!(
        macs.iter().collect::<BTreeSet<_>>().len(),
        macs.len(),
        "MACs are unique"
    );
    let again = apply(&view(), &scope, &file, &[], 2).expect("what was taken is taken again");
    // A float may come out of the store a little different.
    assert!(again.created.is_empty() && again.updated.len() + again.unchanged.len() == stored.len());
}
