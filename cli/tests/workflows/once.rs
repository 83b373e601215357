//! A command whose answer is lost on its way asks again by itself, and is done once; several workflows are waited for at once.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;

use tokio::runtime::Runtime;

use crate::harness::*;

const ASKS: &str = "\
version: \"1\"
name: asks
tasks:
  - name: gate
    approve: {message: go on?}
";

/// Somebody between a command and the server, who passes on what they say. Of the first connection nothing is passed on that the
/// server sends once something is so: it is cut then.
fn cut_when(server: String, is_so: impl Fn() -> bool + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        let mut is_so = Some(is_so);
        while let Ok((client, _)) = listener.accept() {
            let upstream = TcpStream::connect(&server).expect("the server");
            let (mut from, mut to) = (
                client.try_clone().expect("a socket"),
                upstream.try_clone().expect("a socket"),
            );
            thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
            let cut = is_so.take();
            thread::spawn(move || pass_on(upstream, client, cut));
        }
    });
    address
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, cut: Option<impl Fn() -> bool>) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut chunk) {
        if cut.as_ref().is_some_and(|is_so| is_so()) || to.write_all(&chunk[..bytes]).is_err() {
            break;
        }
    }
    // Neither need be open any more.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn a_command_whose_answer_is_lost_is_done_once_and_answered() {
    let runtime = Runtime::new().expect("runtime");
    let (server, _agent) = runtime.block_on(prepared(ASKS));
    let id = text(&farrier(&server, &["workflow", "create", "-t", "asks", "-q"]));
    let id = id.trim().to_owned();
    let events = ["workflow", "events", &id].map(str::to_owned);
    let decided = {
        let server = server.clone();
        move || {
            let events: Vec<&str> = events.iter().map(String::as_str).collect();
            text(&farrier(&server, &events)).matches("decided").count()
        }
    };
    let is_decided = decided.clone();
    let between = cut_when(server.clone(), move || is_decided() > 0);
    let mut approve = command(&server, &["workflow", "approve", &id]);
    let answer = approve
        .env("FARRIER_SERVER", &between)
        .output()
        .expect("farrier runs");
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(answer.status.success(), "{said}");
    assert_eq!(text(&answer), format!("workflow {id} is SUCCESS\n"));
    assert!(
        said.starts_with(&format!("farrier: the server at {between} is gone: "))
            && said.trim_end().ends_with("; asking again"),
        "{said}"
    );
    assert_eq!(decided(), 1);
    // Without its key it would have been refused.
    let again = farrier(&server, &["workflow", "approve", &id]);
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn a_key_that_is_given_is_the_same_request_or_is_refused() {
    let runtime = Runtime::new().expect("runtime");
    let (server, _agent) = runtime.block_on(prepared(ASKS));
    let create = ["workflow", "create", "-t", "asks", "-q", "--idempotency-key", "k"];
    let id = text(&farrier(&server, &create));
    assert_eq!(text(&farrier(&server, &create)), id);
    let id = id.trim();
    let pause = ["workflow", "pause", id, "--idempotency-key", "k"];
    text(&farrier(&server, &pause));
    text(&farrier(&server, &["workflow", "resume", id]));
    assert_eq!(
        text(&farrier(&server, &pause)),
        format!("workflow {id} is PENDING\n"),
        "nobody has paused it since"
    );
    let said = farrier(&server, &["workflow", "resume", id, "--idempotency-key", "k"]);
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.starts_with(
            "farrier: idempotency key \"k\" of admin was used for something else, PauseWorkflow, and this is"
        ),
        "{said}"
    );
}

#[test]
fn several_workflows_are_waited_for_and_watched_by_their_labels() {
    let runtime = Runtime::new().expect("runtime");
    let (server, _agent) = runtime.block_on(prepared(ASKS));
    let create = |label: &str| {
        let args = ["workflow", "create", "-t", "asks", "-q", "-l", label];
        text(&farrier(&server, &args)).trim().to_owned()
    };
    let (one, two, other) = (create("change=1"), create("change=1"), create("change=2"));
    let wait = ["workflow", "wait", "-l", "change=1", "--timeout", "1s"];
    let answer = farrier(&server, &wait);
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert_eq!(answer.status.code(), Some(1));
    assert_eq!(
        said,
        format!("farrier: workflows that -l \"change=1\" means still go on after 1s: {one}, {two}\n")
    );
    let mut watches = command(&server, &["workflow", "watch", "-l", "change=1", "-o", "json"]);
    let watches = watches.stdin(Stdio::null()).spawn().expect("farrier runs");
    let mut waits = command(&server, &["workflow", "wait", "-l", "change=1"]);
    let waits = waits.stdin(Stdio::null()).spawn().expect("farrier runs");
    text(&farrier(&server, &["workflow", "approve", &one]));
    text(&farrier(&server, &["workflow", "approve", &two]));
    let waited = text(&waits.wait_with_output().expect("it ends"));
    let rows: Vec<&str> = waited.lines().skip(1).collect();
    assert!(
        rows.len() == 2 && rows[0].starts_with(&one[..13]) && rows.iter().all(|row| row.contains("SUCCESS")),
        "{waited}"
    );
    let watched = text(&watches.wait_with_output().expect("it ends"));
    let watched: serde_json::Value = serde_json::from_str(&watched).expect("JSON");
    let ids: Vec<&str> = watched
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["id"].as_str())
        .collect();
    assert_eq!(ids, [&one, &two]);
    // One that fails is enough for the exit code.
    text(&farrier(&server, &["workflow", "label", &other, "change=1"]));
    text(&farrier(&server, &["workflow", "cancel", &other]));
    assert_eq!(
        farrier(&server, &["workflow", "wait", "-l", "change=1"])
            .status
            .code(),
        Some(1)
    );
    let none = farrier(&server, &["workflow", "wait", "-l", "change=3"]);
    assert_eq!(
        (
            none.status.code(),
            String::from_utf8_lossy(&none.stderr).trim_end()
        ),
        (
            Some(3),
            "farrier: -l \"change=3\" means no workflow: see `farrier workflow list --show-labels`"
        )
    );
    for args in [
        &["workflow", "wait"][..],
        &["workflow", "watch", &one, "-l", "change=1"],
    ] {
        assert_eq!(farrier(&server, args).status.code(), Some(2), "{args:?}");
    }
}
