//! What is in the store, read by nothing but its documented keys.

use bytes::Bytes;
use serde::Serialize;
use store::{KeyValue, Snapshot};
use workflow::engine::{Event, Head, replay};

use super::all;
use crate::disk::Disk;

/// The workflow that a key is an event of.
pub(super) fn event_of(key: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(key).ok()?;
    let (id, _) = key.strip_prefix("event/")?.split_once('/')?;
    Some(id.to_owned())
}

pub(super) fn event(value: &[u8]) -> Result<Event, String> {
    serde_json::from_slice(value).map_err(|error| format!("an event cannot be read: {error}"))
}

/// Of a row that was just written.
pub(super) fn event_in(disk: &Disk, key: &Bytes, value: &Bytes) -> Result<Event, String> {
    let row = KeyValue {
        key: key.clone(),
        value: value.clone(),
        modified: 0,
    };
    let whole = coordinator::database::detached::whole(&disk.as_it_is(), row);
    event(&whole.map_err(|error| error.to_string())?.value)
}

pub(super) fn events(disk: &Disk, id: &str) -> Result<Vec<Event>, String> {
    all(disk, &format!("event/{id}/"))?
        .iter()
        .map(|row| event(&row.value))
        .collect()
}

/// Events that may have come since a workflow's head was written.
const UNWRITTEN_EVENTS: usize = 32;

/// Whether the events up to the stored head give the state that is stored, byte for byte, and those after it change nothing
/// of the head.
pub(super) fn replays(disk: &Disk, id: &str, events: &[Event]) -> Result<(), String> {
    let wrong = |what: String| format!("workflow {id}: {what}");
    if events.is_empty() {
        return Ok(());
    }
    let now = replay(events).map_err(|error| wrong(format!("its events are no history: {error}")))?;
    let head = head(disk, id).map_err(wrong)?;
    let written = usize::try_from(head.last_event).unwrap_or(usize::MAX);
    let (before, since) = events
        .split_at_checked(written)
        .ok_or_else(|| wrong(format!("its head is of event {written}, which there is not")))?;
    if since.len() > UNWRITTEN_EVENTS || !now.head.differs_in_last_event_only(&head) {
        return Err(wrong(format!(
            "its head is of event {written} of {}: {head:?}, and now it is {:?}",
            events.len(),
            now.head
        )));
    }
    let state = replay(before).map_err(|error| wrong(format!("its events are no history: {error}")))?;
    same(disk, &format!("workflow/{id}"), &state.head).map_err(wrong)?;
    let mut keys = Vec::new();
    for (id_of, execution) in &state.executions {
        let key = format!(
            "execution/{id}/{:05}/{:05}/{:05}",
            id_of.task, id_of.instance, id_of.item
        );
        same(disk, &key, &**execution).map_err(wrong)?;
        keys.push(key);
    }
    let stored = all(disk, &format!("execution/{id}/"))?;
    if stored.len() != keys.len() {
        return Err(wrong(format!(
            "{} executions are stored, its events give {}",
            stored.len(),
            keys.len()
        )));
    }
    for ((task, instance), items) in &state.items {
        same(disk, &format!("items/{id}/{task:05}/{instance:05}"), &**items).map_err(wrong)?;
    }
    Ok(())
}

/// Whether there is a row for each label of a workflow, and no other; none for one that is not there.
pub(super) fn is_found_by_its_labels(disk: &Disk, id: &str, events: &[Event]) -> Result<(), String> {
    let mut want: Vec<String> = match replay(events) {
        Ok(workflow) => {
            let head = &workflow.head;
            let row =
                |(key, value): (&String, &String)| format!("label/{}/{key}/{value}/{id}", head.namespace);
            head.labels.iter().map(row).collect()
        }
        Err(_) => Vec::new(),
    };
    want.sort();
    let rows = all(disk, "label/")?;
    let rows = rows
        .iter()
        .map(|row| String::from_utf8_lossy(&row.key).into_owned());
    let there: Vec<String> = rows.filter(|row| row.ends_with(&format!("/{id}"))).collect();
    match there == want {
        true => Ok(()),
        false => Err(format!(
            "workflow {id} is found by {there:?}, and its labels are {want:?}"
        )),
    }
}

fn head(disk: &Disk, id: &str) -> Result<Head, String> {
    let stored = get(disk, &format!("workflow/{id}"))?.ok_or_else(|| "its head is not stored".to_owned())?;
    serde_json::from_slice(&stored.value).map_err(|error| format!("its head cannot be read: {error}"))
}

fn get(disk: &Disk, key: &str) -> Result<Option<KeyValue>, String> {
    let rows = disk.as_it_is();
    let read = rows.get(key.as_bytes()).and_then(|row| {
        let whole = |row| coordinator::database::detached::whole(&rows, row);
        row.map(whole).transpose()
    });
    read.map_err(|error| error.to_string())
}

fn same(disk: &Disk, key: &str, value: &impl Serialize) -> Result<(), String> {
    let Some(stored) = get(disk, key)? else {
        return Err(format!("{key} is not stored"));
    };
    let replayed = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    match stored.value == replayed {
        true => Ok(()),
        false => Err(format!(
            "{key} is stored as {} and replayed as {}",
            String::from_utf8_lossy(&stored.value),
            String::from_utf8_lossy(&replayed)
        )),
    }
}
