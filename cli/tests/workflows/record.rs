//! The record of a workflow as people and programs are shown it: who meddled, when and why, and what it was made from.

use serde_json::Value;
use store::Digest;
use tokio::runtime::Runtime;

use crate::harness::*;

const TEMPLATE: &str = "\
version: \"1\"
name: noted
policy: [ask writes=disk, deny action=wipe]
tasks:
  - name: ask
    approve: {message: go on?}
";

fn ok(address: &str, args: &[&str]) -> String {
    text(&farrier(address, args))
}

fn json(address: &str, args: &[&str]) -> Value {
    serde_json::from_str(&ok(address, &[args, &["-o", "json"]].concat())).expect("JSON")
}

/// As somebody else than the admin.
fn ok_as(address: &str, name: &str, args: &[&str]) -> String {
    let token = ok(address, &["token", "create", name, "--group", "ops"]);
    let mut command = command(address, args);
    command.env("FARRIER_TOKEN", token.trim());
    text(&command.output().expect("farrier runs"))
}

/// What stands behind a word of `workflow get`.
fn field<'a>(shown: &'a str, word: &str) -> Option<&'a str> {
    let word = format!("{word}:");
    let line = shown.lines().find(|line| line.starts_with(&word))?;
    line.strip_prefix(&word).map(str::trim)
}

#[test]
fn who_meddled_when_and_why_and_what_it_was_made_from_is_shown() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(TEMPLATE));
    let address = address.as_str();
    let id = ok(address, &["workflow", "create", "-t", "noted", "-q"]);
    let id = id.trim();
    let fresh = ok(address, &["workflow", "get", id]);
    for word in ["Paused", "Resumed", "Cancelled"] {
        assert_eq!(field(&fresh, word), None, "{fresh}");
    }
    assert_eq!(field(&fresh, "Template"), Some("noted, version 1"), "{fresh}");
    // Every rule on a line of its own.
    let both = "Policy:    ask writes=disk\n           deny action=wipe\n";
    assert!(fresh.contains(both), "{fresh}");

    ok_as(
        address,
        "ann",
        &["workflow", "pause", id, "--reason", "power work"],
    );
    let paused = json(address, &["workflow", "get", id]);
    assert_eq!(paused["paused_at"], paused["paused"]["at"]);
    ok_as(address, "bob", &["workflow", "resume", id]);
    ok_as(
        address,
        "eve",
        &["workflow", "cancel", id, "--reason", "wrong rack"],
    );

    let shown = ok(address, &["workflow", "get", id]);
    for (word, ends) in [
        ("Paused", " by ann: power work"),
        ("Resumed", " by bob"),
        ("Cancelled", " by eve: wrong rack"),
    ] {
        let line = field(&shown, word).unwrap_or_default();
        assert!(line.ends_with(ends) && line.starts_with("20"), "{word}: {shown}");
    }
    let workflow = json(address, &["workflow", "get", id]);
    let events: Vec<Value> = ok(address, &["workflow", "events", id, "-o", "json"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let at = |kind: &str| {
        let event = events.iter().find(|event| event["kind"] == kind);
        event.map(|event| event["at"].clone()).unwrap_or_default()
    };
    for (field, by, reason, kind) in [
        ("paused", "ann", Value::from("power work"), "pause_asked"),
        ("resumed", "bob", Value::Null, "unpaused"),
        ("cancelled", "eve", Value::from("wrong rack"), "cancel_asked"),
    ] {
        let said = &workflow[field];
        assert_eq!((&said["by"], &said["reason"]), (&by.into(), &reason), "{field}");
        assert_eq!(said["at"], at(kind), "{field}");
    }
    assert_eq!(workflow["paused_at"], Value::Null);
    let last = events.last().expect("events");
    assert_eq!(
        (
            &workflow["updated_at"],
            &workflow["stamp"],
            &workflow["last_event"]
        ),
        (&last["at"], &last["stamp"], &last["number"])
    );
    let stamps: Vec<&str> = events
        .iter()
        .map(|event| event["stamp"].as_str().expect("text"))
        .collect();
    assert!(stamps.is_sorted_by(|one, next| one < next), "{stamps:?}");

    // The template goes on; the workflow is of the version that it was made from.
    let digest = Digest::of(TEMPLATE.as_bytes()).to_string();
    assert_eq!(
        (
            &workflow["template"],
            &workflow["template_version"],
            &workflow["template_sha256"]
        ),
        (
            &"noted".into(),
            &1.into(),
            &digest.trim_start_matches("sha256:").into()
        )
    );
    let template = json(address, &["template", "get", "noted"]);
    assert_eq!(workflow["template_id"], template["id"]);
    // A retry opens a run of its own: nobody has meddled with that.
    let retried = json(address, &["workflow", "retry", id]);
    for field in ["paused", "resumed", "cancelled"] {
        assert_eq!(retried[field], Value::Null, "{field}");
    }
    assert_eq!(retried["template_version"], 1);
}
