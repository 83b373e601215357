//! What lists and single things look like: on a terminal of 80 columns, on a broad one, in a pipe, and as JSON.
//!
//! Snapshots lie in `snapshots/`; `INSTA_UPDATE=always cargo test -p farrier --test workflows snapshots` writes them anew. What differs from run to
//! run (ids, times, ages) is replaced by letters of the same length, so that columns stay where they are.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use proto::v1::Succeeded;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::harness::*;
use crate::servers::command;

/// What a command shows on a terminal so wide.
fn on_terminal(address: &str, args: &[&str], columns: u16) -> String {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).expect("a pty");
    let mut command = command(address, args);
    command
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::from(pty.slave));
    let mut child = command.spawn().expect("farrier runs");
    drop(command);
    let (mut terminal, mut shown, mut chunk) = (File::from(pty.master), Vec::new(), [0; 4096]);
    // EIO is the end: nobody has the terminal open any more.
    while let Ok(length @ 1..) = terminal.read(&mut chunk) {
        shown.extend_from_slice(&chunk[..length]);
    }
    assert!(child.wait().expect("its end").success(), "{args:?}");
    let shown = String::from_utf8(shown).expect("UTF-8").replace("\r\n", "\n");
    // What is told of one thing is told whole, and the terminal breaks it.
    for line in shown.lines().filter(|_| args.contains(&"list")) {
        let width = line.chars().count();
        assert!(
            width <= usize::from(columns),
            "{width} of {columns} columns: {line}"
        );
    }
    steady(&shown)
}

/// How long something took is 0.
fn timeless(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| match name.as_str() {
                "seconds" => (name, Value::from(0)),
                _ => (name, timeless(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(timeless).collect(),
        other => other,
    }
}

/// Ids, moments and ages as letters.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = volatile(rest, steady.chars().last());
        match length {
            0 => {
                steady.push(first);
                rest = &rest[first.len_utf8()..];
            }
            length => {
                let shape = rest[..length].chars();
                match &rest[..length] {
                    _ if steady.ends_with('(') => steady.push_str("x ago"),
                    // Of one width, whatever there is.
                    age if age == "now" || age.ends_with('s') => {
                        steady.push_str(&format!("{:length$}", "xs"))
                    }
                    _ => steady.extend(shape.map(|letter| match letter.is_ascii_hexdigit() {
                        true => 'x',
                        false => letter,
                    })),
                }
                rest = &rest[length..];
            }
        }
    }
    steady
}

/// How much of the beginning differs from run to run.
fn volatile(text: &str, before: Option<char>) -> usize {
    if before.is_some_and(|letter| letter.is_ascii_alphanumeric()) {
        return 0;
    }
    let run = |is: fn(char) -> bool| text.find(|letter| !is(letter)).unwrap_or(text.len());
    // 01a22c78-dc97-…, whole or its beginning.
    let hex = run(|letter| letter.is_ascii_hexdigit() || letter == '-');
    if hex >= 8 && text.starts_with("01") {
        return hex;
    }
    // 2026-11-30T12:00:00.123Z, 2026-11-30 12:00:00
    let moment = run(|letter| letter.is_ascii_digit() || "-:.TZ ".contains(letter));
    let moment = text[..moment].trim_end().len();
    if text.starts_with("20") && moment >= 16 && text.as_bytes().get(4) == Some(&b'-') {
        return moment;
    }
    // Of an event: milliseconds since 1970, and a count.
    let stamp = run(|letter| letter.is_ascii_digit() || letter == '.');
    if stamp > 20 {
        return stamp;
    }
    // now, (now), (3s ago)
    let inside = text.find(')').map(|end| &text[..end]).unwrap_or_default();
    if before == Some('(') && (inside == "now" || inside.ends_with(" ago")) {
        return inside.len();
    }
    if text.starts_with("now") && !text[3..].starts_with(char::is_alphanumeric) {
        return 3;
    }
    // 1s
    let digits = run(|letter| letter.is_ascii_digit());
    if digits > 0 && text[digits..].starts_with('s') && !text[digits + 1..].starts_with(char::is_alphanumeric)
    {
        return digits;
    }
    // 0 s, 12 s, 0.1 s
    let digits = run(|letter| letter.is_ascii_digit() || letter == '.');
    if digits > 0
        && text[digits..].starts_with(" s")
        && !text[digits + 2..].starts_with(char::is_alphanumeric)
    {
        return digits;
    }
    0
}

#[test]
fn what_differs_from_run_to_run_is_replaced_and_nothing_else() {
    for (text, want) in [
        (
            "01a22c78-dc97-7608-958c-b30a31b9e6c3 is PENDING",
            "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx is PENDING",
        ),
        ("at 2026-11-30T12:00:01.5Z,", "at xxxx-xx-xxTxx:xx:xx.xZ,"),
        ("2026-11-30 12:00:01  node1", "xxxx-xx-xx xx:xx:xx  node1"),
        ("1796043262779.0000000004", "xxxxxxxxxxxxx.xxxxxxxxxx"),
        ("(now) (3s ago)", "(x ago) (x ago)"),
        (
            "FAILED  now  node1\nFAILED  1s   node1",
            "FAILED  xs   node1\nFAILED  xs   node1",
        ),
        ("12 s  3 steps, 4.5 s", "xx s  3 steps, x.x s"),
        (
            "52:54:00:77:00:0b 10.77.0.11/24",
            "52:54:00:77:00:0b 10.77.0.11/24",
        ),
    ] {
        assert_eq!(steady(text), want);
    }
}

#[test]
fn lists_and_single_things_look_as_they_did() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let create = |name: &str| {
        let args = [
            "workflow", "create", "-t", "debian", "-q", "-r", DEVICE, "--name", name,
        ];
        text(&farrier(&address, &args)).trim().to_owned()
    };
    let failed = create("first-install");
    runtime.block_on(async {
        let run = agent.run().await;
        agent
            .log(&run, &["writing http://images/debian.raw to /dev/sda"])
            .await;
        agent
            .fails(
                &run,
                "ImageNotFound",
                "image http://images/debian.raw not found: the server answers 404",
            )
            .await;
    });
    wait_until(&address, &["workflow", "get", &failed, "-o", "json"], |said| {
        said.contains("FAILED")
    });
    let done = create("second-install-with-a-name-that-is-long");
    runtime.block_on(async {
        for _ in 0..2 {
            let run = agent.run().await;
            agent.succeeds(&run, Succeeded::default()).await;
        }
    });
    wait_until(&address, &["workflow", "get", &done, "-o", "json"], |said| {
        said.contains("SUCCESS")
    });
    let views: [(&str, Vec<&str>); 6] = [
        ("machine-list", vec!["machine", "list"]),
        ("machine-get", vec!["machine", "get", "node1"]),
        ("workflow-list", vec!["workflow", "list"]),
        ("workflow-get", vec!["workflow", "get", &failed]),
        ("workflow-state", vec!["workflow", "state", &failed]),
        ("template-list", vec!["template", "list"]),
    ];
    for (name, args) in &views {
        for (size, columns) in [("broad", 160), ("narrow", 80)] {
            insta::assert_snapshot!(format!("{name}-{size}"), on_terminal(&address, args, columns));
        }
        let piped = text(&farrier(&address, args));
        insta::assert_snapshot!(format!("{name}-piped"), steady(&piped));
        if *name == "workflow-state" {
            continue;
        }
        let json = text(&farrier(&address, &[args, ["-o", "json"].as_slice()].concat()));
        let json: Value = serde_json::from_str(&json).expect("JSON");
        insta::assert_snapshot!(format!("{name}-json"), steady(&format!("{:#}", timeless(json))));
    }
}
