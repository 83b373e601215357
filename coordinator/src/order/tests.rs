//! The order over a store: what is read of it, from where, and what is said when that is not possible.

use store::{MemoryStore, Store};

use super::trim::{Counted, Kept, trim};
use super::*;
use crate::database::Batch;

fn row(at: UnixMillis, runs: &[(&str, u64, &[&str])]) -> Row {
    let run = |(workflow, first, kinds): &(&str, u64, &[&str])| Run {
        workflow: (*workflow).to_owned(),
        root: None,
        namespace: "default".to_owned(),
        first: *first,
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
    };
    Row {
        at,
        runs: runs.iter().map(run).collect(),
    }
}

fn append(store: &MemoryStore, row: &Row) -> Revision {
    let mut batch = Batch::default();
    batch.append(LOG, row);
    store.commit(&batch.into_commit()).unwrap()
}

fn other(store: &MemoryStore) {
    let mut batch = Batch::default();
    batch.put("other", &1);
    store.commit(&batch.into_commit()).unwrap();
}

fn view(store: &MemoryStore) -> View {
    View::now(store).unwrap()
}

/// `workflow/number kind`, of a page.
fn words(page: &Page) -> Vec<String> {
    let word = |place: &Place| format!("{}/{} {}", place.workflow, place.number, place.kind);
    page.events.iter().map(word).collect()
}

fn three() -> MemoryStore {
    let store = MemoryStore::new();
    append(
        &store,
        &row(1, &[("a", 1, &["created", "task_started"]), ("b", 4, &["ended"])]),
    );
    other(&store);
    append(&store, &row(2, &[("a", 3, &["ended"])]));
    append(&store, &row(3, &[("c", 1, &["created"])]));
    store
}

const ALL: [&str; 5] = [
    "a/1 created",
    "a/2 task_started",
    "b/4 ended",
    "a/3 ended",
    "c/1 created",
];

#[test]
fn from_any_token_comes_what_is_behind_it() {
    let store = three();
    let view = view(&store);
    let begin = oldest(&view).unwrap();
    let all = page(&view, &begin, 10).unwrap();
    assert_eq!(words(&all), ALL);
    assert!(all.is_last);
    for (taken, place) in all.events.iter().enumerate() {
        let token: ResumeToken = place.token.to_string().parse().unwrap();
        let rest = page(&view, &token, 10).unwrap();
        assert_eq!(words(&rest), ALL[taken + 1..], "{token}");
        assert_eq!(rest.token, all.token);
    }
    // In pages, the token of each leads to the next.
    let (mut token, mut seen, mut is_last) = (begin, Vec::new(), false);
    while !is_last {
        let one = page(&view, &token, 1).unwrap();
        seen.extend(words(&one));
        (token, is_last) = (one.token, one.is_last);
    }
    assert_eq!(seen, ALL);
    let now = newest(&view).unwrap();
    assert!(page(&view, &now, 10).unwrap().events.is_empty());
    append(&store, &row(4, &[("c", 2, &["ended"])]));
    assert_eq!(
        words(&page(&self::view(&store), &now, 10).unwrap()),
        ["c/2 ended"]
    );
}

#[test]
fn what_is_not_kept_any_more_is_said_and_not_passed_over() {
    let store = three();
    let all = page(&view(&store), &oldest(&view(&store)).unwrap(), 10).unwrap();
    let mut counted = Counted::default();
    assert!(!counted.count(&view(&store)).unwrap());
    let nothing = trim(&view(&store), &counted, 100, Kept { for_ms: 99, rows: 3 }).unwrap();
    assert!(nothing.is_none());
    // One too many.
    let (batch, rows) = trim(&view(&store), &counted, 100, Kept { for_ms: 99, rows: 2 })
        .unwrap()
        .unwrap();
    assert_eq!(rows, 1);
    store.commit(&batch.into_commit()).unwrap();
    counted.gone(rows);
    let view = view(&store);
    let said = |token: &ResumeToken| {
        page(&view, token, 10)
            .map(|page| words(&page))
            .map_err(|error| error.to_string())
    };
    // Who has taken all of what is gone goes on; who has not is told.
    assert_eq!(said(&all.events[2].token).unwrap(), ALL[3..]);
    for behind in [&all.events[0].token, &all.events[1].token, &ResumeToken::at(0)] {
        let told = said(behind).unwrap_err();
        assert!(
            told.contains("older than what is kept of the events (since 1970-01-01T00:00:00.001Z)"),
            "{told}"
        );
    }
    assert_eq!(said(&oldest(&view).unwrap()).unwrap(), ALL[3..]);
    // Too old.
    let (batch, rows) = trim(&view, &counted, 103, Kept { for_ms: 100, rows: 2 })
        .unwrap()
        .unwrap();
    assert_eq!(rows, 1);
    store.commit(&batch.into_commit()).unwrap();
    assert_eq!(
        words(&page(&self::view(&store), &all.events[3].token, 10).unwrap()),
        ALL[4..]
    );
}

#[test]
fn a_token_of_another_store_is_refused() {
    let store = three();
    let token = page(&view(&store), &ResumeToken::at(0), 10).unwrap().events[3].token;
    // The same revision, with something else.
    let restored = MemoryStore::new();
    for at in 1..=4 {
        append(&restored, &row(at, &[("d", at, &["ended"])]));
    }
    for token in [token, ResumeToken::at(99), ResumeToken::within(99, 1, 0)] {
        let told = page(&view(&restored), &token, 10).unwrap_err().to_string();
        assert!(told.contains("was a backup put in place?"), "{told}");
    }
}

#[test]
fn events_of_a_commit_stand_in_the_order_of_their_stamps() {
    let head = |id: &str| -> Head {
        let text = format!(
            r#"{{"id":"{id}","name":"w","template":"","state":"RUNNING","run":1,"tasks":[],"created_at":0,
            "started_at":null,"ended_at":null,"last_event":1,"last_at":1}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    let event = |number: u64, at: u64, tick: u32| -> Event {
        serde_json::from_str(&format!(
            r#"{{"number":{number},"at":{at},"tick":{tick},"kind":"paused"}}"#
        ))
        .unwrap()
    };
    let (a, b) = (head("a"), head("b"));
    let of_a = [event(1, 5, 0), event(2, 5, 1), event(3, 6, 1)];
    let of_b = [event(9, 6, 0)];
    let row = Row::of([(&a, &of_a[..]), (&b, &of_b[..])].into_iter()).unwrap();
    let runs: Vec<_> = row
        .runs
        .iter()
        .map(|run| (run.workflow.as_str(), run.first, run.kinds.len()))
        .collect();
    assert_eq!(runs, [("a", 1, 2), ("b", 9, 1), ("a", 3, 1)]);
    assert_eq!(row.at, 6);
    assert_eq!(Row::of(std::iter::empty()), None);
}
