//! `farrier serve` as a process: when it is ready, how it stops, what it finds again, and how a server that does not
//! answer looks to those who ask it.

mod servers;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use servers::{Serve, command as ask, serve as command};

const MACHINE: &str = "machine: node1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";

#[test]
fn stops_cleanly_on_a_signal_and_keeps_what_it_was_told() {
    let dir = tempfile::TempDir::new().expect("directory");
    let file = dir.path().join("m.yaml");
    std::fs::write(&file, MACHINE).expect("write");
    let serve = Serve::start(dir.path());
    serve.run(&["machine", "apply", "-f", file.to_str().expect("text")]);
    let (code, said) = serve.signal(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    let serve = Serve::start(dir.path());
    assert!(serve.run(&["machine", "list"]).contains("node1"));
    let (code, said) = serve.signal(Signal::SIGINT);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn finds_everything_again_after_a_kill() {
    let dir = tempfile::TempDir::new().expect("directory");
    let file = dir.path().join("m.yaml");
    std::fs::write(&file, MACHINE).expect("write");
    let serve = Serve::start(dir.path());
    serve.run(&["machine", "apply", "-f", file.to_str().expect("text")]);
    assert_eq!(serve.signal(Signal::SIGKILL).0, None);
    let serve = Serve::start(dir.path());
    assert!(serve.run(&["machine", "list"]).contains("node1"));
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let dir = tempfile::TempDir::new().expect("directory");
    let _first = Serve::start(dir.path());
    let second = command(dir.path()).output().expect("farrier runs");
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    let want = format!(
        "farrier: store {}/farrier.redb is in use by another process",
        dir.path().display()
    );
    assert!(stderr.contains(&want), "{stderr}");
}

#[test]
fn settings_come_from_variables_too_and_a_bad_one_is_named() {
    for (variable, value, words) in [
        (
            "FARRIER_LOST_AFTER",
            "5s",
            "error: invalid value '5s' for '--lost-after <TIME>': 5s is too short: a machine that is well may be silent for so \
             long; write 30s or more",
        ),
        (
            "FARRIER_KEEP_ENDED",
            "0",
            "error: invalid value '0' for '--keep-ended <TIME>': 0 would delete every workflow as it ends: leave it out to keep \
             them for ever, or write 1s or more",
        ),
        (
            "FARRIER_STOP_GRACE",
            "2h",
            "error: invalid value '2h' for '--stop-grace <TIME>': 2h is no grace: write whole seconds, from 1s to 1h",
        ),
    ] {
        let dir = tempfile::TempDir::new().expect("directory");
        let output = command(dir.path())
            .env(variable, value)
            .output()
            .expect("farrier runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().next(), Some(words));
    }
}

/// Takes connections, as the kernel does for whoever listens, and never says a word.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    (listener, address)
}

/// Its exit code and what it said, when it has ended.
fn ended(mut child: Child, what: &str) -> (Option<i32>, String) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("it runs");
            panic!("{what} still waits");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut said)
        .expect("text");
    (status.code(), said.trim_end().to_owned())
}

#[test]
fn a_port_that_answers_nothing_is_told_of_when_its_time_is_over() {
    let (_listener, address) = silent();
    let words = format!(
        "farrier: something at {address} took the connection and has not answered for 1s\nlook whether that is a well \
         `farrier serve` and its port for people (42115), name another with --server HOST:PORT, or wait longer with \
         --request-timeout TIME"
    );
    let flag = ask(&address, &["machine", "list", "--request-timeout", "1s"]).spawn();
    let before = ask(&address, &["--request-timeout", "1", "workflow", "logs", "ID"]).spawn();
    let variable = ask(&address, &["template", "list"])
        .env("FARRIER_REQUEST_TIMEOUT", "1s")
        .spawn();
    for (child, what) in [
        (flag, "a flag"),
        (before, "an earlier flag"),
        (variable, "a variable"),
    ] {
        let said = ended(child.expect("farrier runs"), what);
        assert_eq!(said, (Some(4), words.clone()), "{what}");
    }
}

#[test]
fn whoever_waits_or_follows_notices_a_server_that_is_gone() {
    let dir = tempfile::TempDir::new().expect("directory");
    let stopped = Serve::start(dir.path());
    let machine = dir.path().join("m.yaml");
    std::fs::write(&machine, MACHINE).expect("write");
    stopped.run(&["machine", "apply", "-f", machine.to_str().expect("text")]);
    let template = dir.path().join("t.yaml");
    std::fs::write(
        &template,
        "version: '1'\nname: later\ntasks: [{name: later, wait: 1d}]\n",
    )
    .expect("write");
    let template = template.to_str().expect("text");
    let id = stopped.run(&["workflow", "create", "-q", "-f", template]);
    let id = id.trim();

    let follow = || {
        let mut follows = stopped
            .command(&["workflow", "events", id, "-f"])
            .spawn()
            .expect("farrier runs");
        let mut first = String::new();
        let mut events = BufReader::new(follows.stdout.take().expect("piped"));
        events.read_line(&mut first).expect("text");
        assert!(first.contains("created"), "{first}");
        // What comes later is nobody's to read: its pipe stays open.
        (follows, events)
    };
    let (follows, _events) = follow();
    let waits = stopped
        .command(&["workflow", "wait", id])
        .spawn()
        .expect("farrier runs");
    // Both have been heard when one that came later is answered.
    stopped.has_clients(2);
    stopped.run(&["machine", "list"]);
    let (_listener, address) = silent();
    let waits_at_nobody = ask(&address, &["workflow", "wait", id, "--request-timeout", "3s"])
        .spawn()
        .expect("farrier runs");
    // Its connections stay, and nobody is there: as with a host that has lost its power.
    let pid = stopped.pid();
    kill(pid, Signal::SIGSTOP).expect("it runs");
    for (child, server, what) in [
        (follows, &stopped.api, "a stream"),
        (waits, &stopped.api, "a wait"),
    ] {
        let (code, said) = ended(child, what);
        assert_eq!(code, Some(4), "{what}: {said}");
        assert!(
            said.starts_with(&format!("farrier: the server at {server} is gone: ")),
            "{what}: {said}"
        );
        assert!(
            said.ends_with("\nwhat it was told goes on when it is back; look whether `farrier serve` runs there, and ask again"),
            "{what}: {said}"
        );
    }
    let (code, said) = ended(waits_at_nobody, "a wait at nobody");
    assert_eq!(code, Some(4), "{said}");
    assert!(
        said.starts_with(&format!(
            "farrier: something at {address} took the connection and has not answered for 3s\n"
        )),
        "{said}"
    );
    kill(pid, Signal::SIGCONT).expect("it is there");
    let (follows, _events) = follow();
    kill(pid, Signal::SIGKILL).expect("it runs");
    let (code, said) = ended(follows, "a stream of a server that was killed");
    assert_eq!(code, Some(4), "{said}");
    assert!(
        said.starts_with(&format!("farrier: the server at {} is gone: ", stopped.api)),
        "{said}"
    );
}

#[test]
fn does_not_start_on_a_damaged_store_and_without_the_check_gives_an_error_for_what_is_damaged() {
    let dir = tempfile::TempDir::new().expect("directory");
    let second = MACHINE
        .replace("node1", "node2")
        .replace("0b", "0c")
        .replace(".11", ".12");
    let serve = Serve::start(dir.path());
    for (name, text) in [("1.yaml", MACHINE), ("2.yaml", &second)] {
        let file = dir.path().join(name);
        std::fs::write(&file, text).expect("write");
        serve.run(&["machine", "apply", "-f", file.to_str().expect("text")]);
    }
    let (code, said) = serve.signal(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");

    // One bit of the address, wherever it stands in a record.
    let store = dir.path().join("farrier.redb");
    let mut bytes = std::fs::read(&store).expect("read");
    let address = b"10.77.0.11/24";
    let found: Vec<usize> = (0..bytes.len() - address.len())
        .filter(|at| bytes[*at..].starts_with(address))
        .collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at] ^= 2;
    }
    std::fs::write(&store, &bytes).expect("write");

    let output = command(dir.path()).output().expect("farrier runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("ready"), "{said}");
    let want = format!("farrier: store {} cannot be read: ", store.display());
    assert!(
        said.contains(&want) && said.contains("put a backup in its place"),
        "{said}"
    );
    assert!(
        std::fs::read(&store).expect("read") == bytes,
        "the file was changed"
    );

    let mut unchecked = command(dir.path());
    unchecked.arg("--no-store-check");
    let serve = Serve::started(unchecked, dir.path());
    assert!(serve.run(&["machine", "get", "node2"]).contains("10.77.0.12/24"));
    let output = serve
        .command(&["machine", "get", "node1"])
        .output()
        .expect("farrier runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("key machine/node1 in store ") && said.contains("`farrier store check`"),
        "{said}"
    );
}

/// Started with a soft limit that is lower than the hard one, and a hard one that is too low for its machines.
#[test]
fn descriptors_are_as_many_as_may_be_and_too_few_are_said() {
    let dir = tempfile::TempDir::new().expect("directory");
    let file = dir.path().join("m.yaml");
    std::fs::write(&file, MACHINE).expect("write");
    let limited = |hard: u64| {
        let mut limited = std::process::Command::new("prlimit");
        limited.arg(format!("--nofile=64:{hard}")).arg("--");
        let serve = command(dir.path());
        limited.arg(serve.get_program()).args(serve.get_args());
        limited.env_clear().stderr(std::process::Stdio::piped());
        for (name, value) in serve.get_envs() {
            limited.env(name, value.unwrap_or_default());
        }
        limited
    };
    let serve = Serve::started(limited(1_024), dir.path());
    serve.run(&["machine", "apply", "-f", file.to_str().expect("text")]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serve.pid())).expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let numbers: Vec<&str> = line
        .unwrap_or_default()
        .split_whitespace()
        .skip(3)
        .take(2)
        .collect();
    assert_eq!(numbers, ["1024", "1024"]);
    let (_, said) = serve.signal(Signal::SIGTERM);
    assert!(!said.contains("are too few"), "{said}");
    let serve = Serve::started(limited(512), dir.path());
    let (code, said) = serve.signal(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    let want = "512 file descriptors are too few for 1 machines at once, which take 516";
    assert!(said.contains(want), "{said}");
}

#[test]
fn the_log_tells_what_begins_what_ends_and_who_is_not_known() {
    let dir = tempfile::TempDir::new().expect("directory");
    let file = dir.path().join("t.yaml");
    let template = "version: '1'\nname: a \"note\"\ntasks: [{name: go, approve: {message: go on?}}]\n";
    std::fs::write(&file, template).expect("write");
    let serve = Serve::start(dir.path());
    let id = serve.run(&["workflow", "create", "-q", "-f", file.to_str().expect("text")]);
    serve.run(&["workflow", "cancel", id.trim()]);
    let ready = serve.ready.clone();
    let http = ready
        .split(' ')
        .find_map(|word| word.strip_prefix("http="))
        .expect("http=");
    for _ in 0..2 {
        let mut stream = std::net::TcpStream::connect(http).expect("HTTP");
        let request =
            "GET /ipxe/script/52-54-00-99-99-99/auto.ipxe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, request.as_bytes()).expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !serve
        .run(&["machine", "boot-log", "--strangers"])
        .contains("52:54:00:99:99:99")
    {
        assert!(Instant::now() < deadline);
    }
    let (_, said) = serve.signal(Signal::SIGTERM);
    let lines = |words: &str| {
        said.lines()
            .filter(|line| line.contains(words))
            .collect::<Vec<_>>()
    };
    let begins = lines("farrier begins");
    let data = dir.path().display().to_string();
    assert!(
        begins.len() == 1 && begins[0].contains(env!("CARGO_PKG_VERSION")) && begins[0].contains(&data),
        "{said}"
    );
    for (words, state) in [
        ("a workflow is made", "PENDING"),
        ("a workflow has ended", "CANCELLED"),
    ] {
        let told = lines(words);
        assert_eq!(told.len(), 1, "{said}");
        for word in [id.trim(), state, r#"a \"note\""#] {
            assert!(told[0].contains(word), "{word}: {said}");
        }
    }
    // Once, however often it asks.
    assert_eq!(lines("a stranger asks").len(), 1, "{said}");
    assert!(
        lines("a stranger asks")[0].contains("52:54:00:99:99:99"),
        "{said}"
    );
}

#[test]
fn a_log_in_json_is_json_to_its_last_line() {
    let dir = tempfile::TempDir::new().expect("directory");
    let mut server = command(dir.path());
    let mut server = server
        .args(["--log-format", "json"])
        .spawn()
        .expect("farrier runs");
    let mut said = Vec::new();
    let lines = BufReader::new(server.stderr.take().expect("stderr")).lines();
    for line in lines.map_while(Result::ok) {
        let line: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        let is_ready = line["fields"]["message"] == "ready";
        if is_ready {
            assert!(
                line["fields"]["api"]
                    .as_str()
                    .is_some_and(|api| api.starts_with("127.0.0.1:")),
                "{line}"
            );
            let pid = nix::unistd::Pid::from_raw(i32::try_from(server.id()).expect("pid"));
            kill(pid, Signal::SIGTERM).expect("it lives");
        }
        said.push((is_ready, line));
    }
    assert!(server.wait().expect("it ends").success());
    assert!(said.iter().any(|(is_ready, _)| *is_ready), "{said:?}");
}
