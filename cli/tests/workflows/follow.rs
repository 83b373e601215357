//! How a workflow that runs looks to whoever watches it: state, events, logs and the machine, while an agent reports.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use proto::v1::report::Outcome;
use proto::v1::{Failed, Started, Succeeded};
use tokio::runtime::Runtime;

use crate::harness::{DEVICE, TEMPLATE, WITHIN, command, farrier, prepared, text, wait_until};

#[test]
fn a_workflow_that_runs_and_fails_can_be_followed() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let id = text(&farrier(
        &address,
        &["workflow", "create", "-t", "debian", "-q", "-r", DEVICE],
    ));
    let id = id.trim();

    let first = runtime.block_on(agent.run());
    runtime.block_on(agent.report(&first, Outcome::Started(Started {})));
    wait_until(&address, &["workflow", "state", id], |state| {
        state.contains(" so far")
    });
    let state = text(&farrier(&address, &["workflow", "state", id]));
    assert!(
        state.starts_with("RUNNING\n\nTASK     MACHINE  ACTION       STATE    TRIES  TIME        MESSAGE\n"),
        "{state}"
    );
    assert!(
        state.contains("install  node1    configure    IDLE     0      -"),
        "{state}"
    );
    let machine = text(&farrier(&address, &["machine", "get", "node1"]));
    assert!(machine.contains("Agent:       attached, last seen "), "{machine}");
    assert!(machine.contains("Boots next:  agent (workflow "), "{machine}");

    runtime.block_on(agent.log(&first, &["downloaded 1 B", "written"]));
    let done = Succeeded {
        message: "wrote it".into(),
        bytes: 445_321,
        ..Succeeded::default()
    };
    runtime.block_on(agent.report(&first, Outcome::Succeeded(done)));
    let second = runtime.block_on(agent.run());
    runtime.block_on(agent.report(&second, Outcome::Started(Started {})));
    let failed = Failed {
        disks_untouched: false,
        reason: "ExitCode".into(),
        message: "the command exited with code 3; its last lines:\none\ntwo".into(),
        exit_code: 3,
    };
    runtime.block_on(agent.report(&second, Outcome::Failed(failed)));

    let waited = farrier(&address, &["workflow", "wait", id, "--timeout", "20s"]);
    assert_eq!(waited.status.code(), Some(1));
    let said = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert!(
        said.starts_with(&format!(
            "workflow {id} is FAILED: action \"configure\" of task \"install\" failed (ExitCode): the command exited \
             with code 3; its last lines:\n"
        )),
        "{said}"
    );
    let state = text(&farrier(&address, &["workflow", "state", id]));
    let rows: Vec<&str> = state.lines().filter(|line| line.starts_with("install")).collect();
    assert_eq!(rows.len(), 2, "{state}");
    assert!(rows[0].ends_with("wrote it"), "{state}");
    assert!(
        rows[1].ends_with("the command exited with code 3; its last lines: …"),
        "{state}"
    );
    let list = text(&farrier(&address, &["workflow", "list"]));
    assert_eq!(list.lines().count(), 2, "{list}");

    let events = text(&farrier(&address, &["workflow", "events", id, "-f"]));
    let kinds: Vec<&str> = events
        .lines()
        .filter(|line| !line.starts_with("    "))
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();
    let want = [
        "created",
        "task_started",
        "execution_made",
        "dispatched",
        "started",
        "succeeded",
        "dispatched",
        "started",
        "failed",
        "execution_ended",
        "task_ended",
        "ended",
    ];
    // Lines of a message that follow the first are indented: they are no events.
    let kinds: Vec<&str> = if kinds.len() == want.len() {
        kinds
    } else {
        panic!("{events}")
    };
    assert_eq!(kinds, want, "{events}");
    assert!(
        events.contains("succeeded        install/write-image     wrote it (445321 B)"),
        "{events}"
    );
    assert_eq!(
        text(&farrier(&address, &["workflow", "logs", id, "-f"])),
        "--- install/write-image on node1\ndownloaded 1 B\nwritten\n"
    );
}

#[test]
fn who_waits_at_a_terminal_sees_the_image_being_written() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let create = ["workflow", "create", "-t", "debian", "-q", "-r", DEVICE];
    let id = text(&farrier(&address, &create));
    let id = id.trim();
    let first = runtime.block_on(agent.run());
    runtime.block_on(agent.report(&first, Outcome::Started(Started {})));

    let size = Winsize {
        ws_row: 24,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).expect("a pty");
    let wait = |stderr: Stdio| {
        let mut command = command(&address, &["workflow", "wait", id, "--timeout", "20s"]);
        command.env("TERM", "xterm").stdout(Stdio::piped()).stderr(stderr);
        command.spawn().expect("it starts")
    };
    let watching = wait(Stdio::from(pty.slave));
    let piped = wait(Stdio::piped());
    let mut terminal = File::from(pty.master);
    let (shown, shows) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        let mut all = String::new();
        // EIO is the end: nobody has the terminal open any more.
        while let Ok(length @ 1..) = terminal.read(&mut chunk) {
            all.push_str(&String::from_utf8_lossy(&chunk[..length]));
            let _ = shown.send(all.clone());
        }
        all
    });
    // Progress is not kept for whoever comes later, so it is told until it was seen.
    let deadline = Instant::now() + WITHIN;
    let wanted = "install/write-image download  [===============>              ]";
    let mut seen = String::new();
    while !seen.contains(wanted) {
        assert!(Instant::now() < deadline, "the terminal shows at last: {seen:?}");
        runtime.block_on(agent.progress(&first, 50 << 20, 100 << 20));
        while let Ok(now) = shows.recv_timeout(Duration::from_millis(100)) {
            seen = now;
        }
    }
    assert!(seen.contains("50.00 MiB/100.00 MiB"), "{seen:?}");

    let failed = Failed {
        disks_untouched: false,
        reason: "DiskTooSmall".into(),
        message: "too small".into(),
        exit_code: 0,
    };
    runtime.block_on(agent.report(&first, Outcome::Failed(failed)));
    for waited in [watching, piped] {
        let output = waited.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.starts_with(&format!("workflow {id} is FAILED:")) && said.lines().count() == 1,
            "{said}"
        );
        assert!(output.stderr.is_empty(), "a pipe shows no bars: {output:?}");
    }
    let all = reader.join().expect("the reader");
    assert!(
        all.trim_end_matches('\r').ends_with("\u{1b}[2K"),
        "the bar is wiped away: {all:?}"
    );
}
