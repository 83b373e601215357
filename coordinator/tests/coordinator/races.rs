//! Whoever reads while others write sees what was there at one moment, and begins again when that is no longer kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::database::View;
use coordinator::{Coordinator, Error, Input, Plan};
use store::{BetweenReads, Commit, MemoryStore, Operation, Store, StoreError};
use workflow::engine::{AttemptId, Command, Machine, Workflow};

use super::harness::{Server, creation, limits, succeeded};

const TEXT: &str = r#"
version: "1"
name: w
tasks:
  - name: first
    worker: m1
    actions:
      - {name: a, image: cexec}
  - name: second
    worker: m2
    needs: [first]
    actions:
      - {name: a, image: cexec}
"#;

/// A workflow that runs, a second one that waits for its machine, and what the end of its first task commits: always the
/// same.
struct Scene {
    store: Arc<MemoryStore>,
    now: u64,
    report: Input,
}

impl Scene {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let mut server = Server::over(store.clone(), limits());
        server.create(TEXT);
        server.attach("m1", "boot");
        let attempt: AttemptId = server.run("m1");
        server.create(TEXT);
        let report = coordinator::Report {
            machine: "m1".into(),
            boot_id: "boot".into(),
            epoch: server.machine("m1").epoch,
            sequence: 1,
            attempt,
            outcome: Some(succeeded()),
            data: None,
            untouched: false,
        };
        Scene {
            store,
            now: server.now + 1,
            report: Input::Report(Box::new(report)),
        }
    }

    fn plan(&self, store: Arc<dyn Store>) -> Result<Plan, Error> {
        Coordinator::new(store, limits()).prepare(self.now, &self.report)
    }

    /// What the report, and then the creation of one more workflow, commit.
    fn commits(&self) -> Vec<Commit> {
        let report = self.plan(self.store.clone()).expect("a plan").commit;
        // Decided on a store of its own.
        let other = Scene::new();
        other.store.commit(&report).expect("a commit");
        let new = coordinator::NewWorkflow {
            creation: creation("w3", TEXT),
            extra: Commit::default(),
        };
        let creation = Coordinator::new(other.store.clone(), limits())
            .prepare(other.now, &Input::Create(Box::new(new)))
            .expect("a plan");
        vec![report, creation.commit]
    }

    /// The store, in which all commits happen between two reads of whoever reads: after so many of them.
    fn racing(self, after: u64) -> BetweenReads {
        let commits = self.commits();
        BetweenReads::new(self.store, move |store, before| {
            if before == after {
                commits
                    .iter()
                    .try_for_each(|commit| store.commit(commit).map(drop))?;
            }
            Ok(())
        })
    }
}

/// Reads with the commits before each read in turn; gives the different things that were read.
fn read_while_it_changes<T>(read: impl Fn(&Coordinator) -> Result<T, Error>) -> Vec<(u64, T)> {
    let mut all = Vec::new();
    for after in 0.. {
        let racing = Scene::new().racing(after);
        let coordinator = Coordinator::new(Arc::new(racing.clone()), limits());
        all.push((after, read(&coordinator).expect("what can be read")));
        if racing.reads() <= after {
            assert!(after > 1, "one read cannot be raced with");
            return all;
        }
    }
    unreachable!("it reads for ever")
}

/// As it is before the commits, and after them.
fn before_and_after<T>(read: impl Fn(&Coordinator) -> Result<T, Error>) -> [T; 2] {
    let scene = Scene::new();
    let at = |store: &Arc<MemoryStore>| {
        read(&Coordinator::new(store.clone(), limits())).expect("what can be read")
    };
    let before = at(&scene.store);
    for commit in scene.commits() {
        scene.store.commit(&commit).expect("a commit");
    }
    [before, at(&scene.store)]
}

#[test]
fn a_workflow_that_changes_while_it_is_loaded_is_whole() {
    let read = |coordinator: &Coordinator| -> Result<Arc<Workflow>, Error> {
        Ok(coordinator.workflow("w1")?.expect("a workflow"))
    };
    let [before, after] = before_and_after(read);
    assert_ne!(before, after);
    for (reads, found) in read_while_it_changes(read) {
        assert!(
            found == before || found == after,
            "after {reads} reads: {found:?}"
        );
    }
}

#[test]
fn a_machine_that_changes_while_it_is_loaded_is_whole() {
    let read = |coordinator: &Coordinator| -> Result<Machine, Error> { coordinator.machine("m1") };
    let [before, after] = before_and_after(read);
    assert_ne!(before.queue(), after.queue());
    for (reads, found) in read_while_it_changes(read) {
        assert!(
            found == before || found == after,
            "after {reads} reads: {found:?}"
        );
    }
}

/// A label goes from the first machine to the last; both have it in no moment, and there is none in which nobody has it.
#[test]
fn a_list_of_many_pages_is_of_one_moment() {
    const MACHINES: usize = 1_200;
    let name = |n: usize| format!("machine/{n:04}");
    let put = |n: usize, label: &str| Operation::Put {
        key: name(n).into(),
        value: format!("{label:?}").into(),
    };
    for after in 0..4 {
        let store = Arc::new(MemoryStore::default());
        for chunk in (0..MACHINES).collect::<Vec<_>>().chunks(100) {
            let operations = chunk.iter().map(|n| put(*n, if *n == 0 { "gpu" } else { "" }));
            let commit = Commit {
                operations: operations.collect(),
                ..Commit::default()
            };
            store.commit(&commit).expect("a commit");
        }
        let change = Commit {
            operations: vec![put(0, ""), put(MACHINES - 1, "gpu")],
            ..Commit::default()
        };
        let racing = BetweenReads::new(store, move |store, before| match before == after {
            true => store.commit(&change).map(drop),
            false => Ok(()),
        });
        let view = View::now(&racing).expect("a snapshot");
        let all = view.list::<String>("machine/").expect("rows");
        assert_eq!(all.len(), MACHINES);
        let labelled: BTreeSet<&str> = all
            .iter()
            .filter(|(_, label)| label == "gpu")
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(labelled, BTreeSet::from(["0000"]), "after {after} reads");
        assert!(racing.reads() >= 3);
    }
}

fn expiring(store: Arc<MemoryStore>, at: impl Fn(u64) -> bool + Send + Sync + 'static) -> BetweenReads {
    BetweenReads::new(store, move |_, before| match at(before) {
        true => Err(StoreError::SnapshotExpired),
        false => Ok(()),
    })
}

#[test]
fn what_an_expired_snapshot_was_for_is_done_from_its_beginning() {
    let scene = Scene::new();
    let want = scene.plan(scene.store.clone()).expect("a plan");
    for at in 0.. {
        let store = expiring(scene.store.clone(), move |read| read == at);
        let plan = scene.plan(Arc::new(store.clone())).expect("a plan");
        assert_eq!(plan.commit, want.commit, "it expired at read {at}");
        assert_eq!(plan.then, want.then);
        if store.reads() <= at {
            assert!(at > 5, "only {at} reads");
            break;
        }
        let coordinator = Coordinator::new(Arc::new(store), limits());
        assert!(coordinator.workflow("w1").expect("it can be read").is_some());
        assert!(coordinator.recover().expect("it can be read").is_empty());
        assert_eq!(coordinator.busy(), ["m1"]);
    }
}

#[test]
fn snapshots_that_always_expire_are_given_up() {
    let scene = Scene::new();
    let store = expiring(scene.store.clone(), |_| true);
    let error = scene
        .plan(Arc::new(store.clone()))
        .expect_err("no snapshot holds");
    assert!(
        matches!(&error, Error::Store(error) if error.is_expired()),
        "{error}"
    );
    assert_eq!(store.reads(), 8);
}

/// A commit is durable before it is seen in memory: a workflow that is loaded in between is newer than the machine that is there.
#[test]
fn a_stop_that_finds_nothing_on_an_older_machine_is_decided_again() {
    let store = Arc::new(MemoryStore::default());
    let mut server = Server::over(store.clone(), limits());
    server.attach("m1", "boot");
    let behind = Coordinator::new(store.clone(), limits());
    assert_eq!(behind.machine("m1").expect("a machine").current, None);

    let workflow = server.create(TEXT);
    let attempt = server.run("m1");
    let command = Command::Cancel {
        by: "ann".into(),
        reason: "enough".into(),
    };
    let cancel = Input::Command { workflow, command };
    let plan = behind.prepare(server.now + 1, &cancel).expect("a plan");
    let error = store
        .commit(&plan.commit)
        .expect_err("it was decided beside an older machine");
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    assert!(cancel.may_try_again(&error, 1));

    behind.forget(&plan);
    let plan = behind.prepare(server.now + 1, &cancel).expect("a plan");
    store.commit(&plan.commit).expect("a commit");
    let current = Coordinator::new(store, limits())
        .machine("m1")
        .expect("a machine")
        .current;
    let current = current.expect("what it runs");
    assert_eq!(
        (current.attempt, current.stop.as_deref()),
        (attempt, Some("enough"))
    );
}
