//! Rows of other versions of Farrier: brought up to date, refused, and exchanged with a neighbour.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coordinator::database::View;
use coordinator::database::formats::{Change, Formats};
use coordinator::{Error, Limits};
use serde_json::{Value, json};
use store::formats::{KEY, RowFormats};
use store::{Commit, KeyValue, MemoryStore, Operation, Revision, Snapshot, Store, StoreError};

/// Releases, one after the other. The second knows what the third will write.
static FIRST: Formats = Formats {
    writes: 1,
    reads: 1,
    version: "0.1.0",
    changes: &[],
};
static SECOND: Formats = Formats {
    writes: 1,
    reads: 2,
    version: "0.2.0",
    changes: &[],
};
static THIRD: Formats = Formats {
    writes: 2,
    reads: 2,
    version: "0.3.0",
    changes: &[RENAMED, COUNTED],
};
/// After some more.
static FIFTH: Formats = Formats {
    writes: 3,
    reads: 3,
    version: "0.5.0",
    changes: &[RENAMED, COUNTED, DOUBLED],
};

const RENAMED: Change = Change {
    to: 2,
    kind: "machine",
    value: |machine| match machine.as_object_mut().and_then(|fields| fields.remove("mac")) {
        Some(mac) => {
            machine["macs"] = json!([mac]);
            true
        }
        None => false,
    },
};
const COUNTED: Change = Change {
    to: 2,
    kind: "event",
    value: |event| {
        let len = event["text"].as_str().map(str::len);
        let is_old = event.get("len").is_none();
        if is_old {
            event["len"] = json!(len);
        }
        is_old
    },
};
const DOUBLED: Change = Change {
    to: 3,
    kind: "machine",
    value: |machine| {
        let is_old = machine.get("twice").is_none();
        if is_old {
            machine["twice"] = machine["macs"].clone();
        }
        is_old
    },
};

/// Fails one commit, which may have happened.
struct Interrupted {
    store: Arc<MemoryStore>,
    left: AtomicU64,
    happens: bool,
}

impl Store for Interrupted {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.store.range(from, to, limit)
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.store.snapshot()
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            if self.happens {
                self.store.commit(commit)?;
            }
            return Err(StoreError::Backend {
                message: "the power went".into(),
                source: None,
            });
        }
        self.store.commit(commit)
    }
}

fn put(store: &dyn Store, key: &str, value: &Value) {
    let mut commit = Commit {
        operations: vec![Operation::Put {
            key: key.to_owned().into(),
            value: value.to_string().into(),
        }],
        ..Commit::default()
    };
    let first = coordinator::database::detached::detach(store, &mut commit, &Limits::default());
    for piece in first.expect("readable") {
        store.commit(&piece).expect("a commit");
    }
    store.commit(&commit).expect("a commit");
}

/// As the first release leaves it: machines, events, one of them in pieces, and rows that nobody changes.
fn of_first() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    FIRST.prepare(&*store).expect("a new store");
    for n in 0..110 {
        put(
            &*store,
            &format!("machine/n{n:03}"),
            &json!({"mac": n, "labels": {}}),
        );
        put(&*store, &format!("mac/{n}"), &json!(format!("n{n:03}")));
    }
    for n in 0..20 {
        let text = match n {
            7 => "x".repeat(store::MAX_COMMIT_BYTES),
            n => "y".repeat(60_000 + n),
        };
        put(&*store, &format!("event/w/{n:010}"), &json!({ "text": text }));
    }
    store
}

fn formats(store: &dyn Store) -> RowFormats {
    RowFormats::read(store.get(KEY.as_bytes()).expect("readable").as_ref()).expect("sense")
}

/// All values, in one piece, by their keys.
fn values(store: &dyn Store) -> Vec<(String, Value)> {
    let view = View::now(store).expect("a snapshot");
    ["event/", "mac/", "machine/"]
        .into_iter()
        .flat_map(|prefix| {
            let rows = view.list::<Value>(prefix).expect("rows");
            rows.into_iter()
                .map(move |(key, value)| (format!("{prefix}{key}"), value))
        })
        .collect()
}

fn is_refused(done: Result<(), Error>) -> bool {
    matches!(done, Err(Error::Store(StoreError::NewerRows { .. })))
}

#[test]
fn a_new_store_is_what_this_version_writes_and_starts_write_nothing_more() {
    let store = MemoryStore::default();
    THIRD.prepare(&store).expect("a new store");
    assert_eq!(formats(&store), RowFormats::only(2, "0.3.0"));
    let before = store.revision().expect("a revision");
    THIRD.prepare(&store).expect("a store of its own");
    assert_eq!(store.revision().expect("a revision"), before);
}

#[test]
fn a_store_from_before_formats_were_said_is_of_the_first() {
    let store = MemoryStore::default();
    put(&store, "machine/n1", &json!({"mac": 1}));
    SECOND.prepare(&store).expect("it reads that");
    assert_eq!(formats(&store), RowFormats::only(1, "0.2.0"));
}

#[test]
fn rows_of_older_versions_are_brought_up_to_date_in_bounded_commits() {
    for (release, writes) in [(&THIRD, 2), (&FIFTH, 3)] {
        let store = of_first();
        let before = store.revision().expect("a revision");
        release.prepare(&*store).expect("it is brought up to date");
        // What is too large is refused by the store.
        assert!(store.revision().expect("a revision") - before > 5);
        assert_eq!(formats(&*store), RowFormats::only(writes, release.version));
        for (key, value) in values(&*store) {
            let is_current = match key.split('/').next() {
                Some("machine") => {
                    value["macs"][0].is_number()
                        && value.get("mac").is_none()
                        && value.get("twice").is_some() == (writes == 3)
                }
                Some("event") => value["len"] == json!(value["text"].as_str().map(str::len)),
                _ => value.is_string(),
            };
            assert!(is_current, "{key}: {value:.100}");
        }
        let last = store.revision().expect("a revision");
        release.prepare(&*store).expect("nothing is left to be done");
        assert_eq!(store.revision().expect("a revision"), last);
    }
}

/// The server is killed at each commit, before it or after it, and started again, perhaps as the release before.
#[test]
fn wherever_it_is_broken_off_it_goes_on_and_the_release_before_can_be_started_meanwhile() {
    let want = {
        let store = of_first();
        THIRD.prepare(&*store).expect("it is brought up to date");
        values(&*store)
    };
    for happens in [false, true] {
        for at in 0.. {
            let store = of_first();
            let interrupted = Interrupted {
                store: store.clone(),
                left: AtomicU64::new(at),
                happens,
            };
            if THIRD.prepare(&interrupted).is_ok() {
                assert!(at > 5, "only {at} commits");
                break;
            }
            // Something of the new format may be there, or not yet.
            let first = FIRST.prepare(&*store);
            assert!(first.is_ok() || is_refused(first));
            if at % 2 == 1 {
                SECOND.prepare(&*store).expect("a neighbour reads both");
                let machine = json!({"mac": "of the neighbour"});
                put(&*store, "machine/a", &machine);
                THIRD.prepare(&*store).expect("it begins again");
                let now = View::now(&*store).expect("a snapshot");
                let machine = now.get::<Value>("machine/a").expect("readable").expect("there");
                assert_eq!(machine.value, json!({"macs": ["of the neighbour"]}));
                continue;
            }
            THIRD.prepare(&*store).expect("it goes on");
            assert_eq!(values(&*store), want, "broken off at commit {at}");
            assert_eq!(formats(&*store), RowFormats::only(2, "0.3.0"));
        }
    }
}

#[test]
fn neighbours_are_exchanged_both_ways_and_others_are_refused_in_words() {
    let store = of_first();
    SECOND.prepare(&*store).expect("up");
    FIRST.prepare(&*store).expect("and down: nothing new was written");
    SECOND.prepare(&*store).expect("up");
    THIRD.prepare(&*store).expect("up");
    let before = values(&*store);
    SECOND.prepare(&*store).expect("down: it reads both");
    assert_eq!(values(&*store), before);
    // What it writes is found by the third.
    put(&*store, "machine/n000", &json!({"mac": "new"}));
    assert_eq!(formats(&*store).oldest, 1);
    THIRD.prepare(&*store).expect("up");
    let now = View::now(&*store).expect("a snapshot");
    let machine = now
        .get::<Value>("machine/n000")
        .expect("readable")
        .expect("there");
    assert_eq!(machine.value, json!({"macs": ["new"]}));

    let revision = store.revision().expect("a revision");
    let refused = FIRST
        .prepare(&*store)
        .expect_err("it cannot read that")
        .to_string();
    assert_eq!(
        refused,
        "the rows of the store are of format 2, which Farrier 0.3.0 wrote first, and this is Farrier 0.1.0, which reads \
         formats up to 1: use Farrier 0.3.0, or a later one, or import an export that was made before"
    );
    assert_eq!(
        store.revision().expect("a revision"),
        revision,
        "nothing was written"
    );
}

/// What an old archive brings back, long after all rows were brought up to date.
#[test]
fn a_row_of_an_older_format_is_current_as_it_is_read() {
    let old = json!({"mac": 7}).to_string();
    let current = FIFTH.up_to_date(b"machine/n1", old.clone().into()).expect("JSON");
    let current: Value = serde_json::from_slice(&current).expect("JSON");
    assert_eq!(current, json!({"macs": [7], "twice": [7]}));
    let again = FIFTH
        .up_to_date(b"machine/n1", current.to_string().into())
        .expect("JSON");
    assert_eq!(again, current.to_string());
    // Of other kinds nothing is looked at.
    assert_eq!(
        FIFTH.up_to_date(b"mac/1", "no JSON".into()).expect("as it is"),
        "no JSON"
    );
    assert!(FIFTH.up_to_date(b"machine/n1", "no JSON".into()).is_err());
}
