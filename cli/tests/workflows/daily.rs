//! What people ask all day: which workflows there are, one of them by a short word, and how far it is.

use std::io::Read;
use std::process::Output;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::v1::report::Outcome;
use proto::v1::{Started, Succeeded};
use tokio::runtime::Runtime;

use crate::harness::*;
use crate::terminal::Terminal;

const ASKS: &str = "\
version: '1'
name: asks
tasks: [{name: go, approve: {message: go on?}}]
";

fn create(address: &str, more: &[&str]) -> String {
    let args = [&["workflow", "create", "-t", "debian", "-q", "-r", DEVICE], more].concat();
    text(&farrier(address, &args)).trim().to_owned()
}

fn file(name: &str, content: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::TempDir::new().expect("directory");
    let path = dir.path().join(name);
    std::fs::write(&path, content).expect("write");
    let path = path.display().to_string();
    (dir, path)
}

/// What it says on standard error; it must have failed with this code.
#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

#[test]
fn a_list_has_the_newest_first_and_says_when_it_is_cut() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(TEMPLATE));
    let (_dir, asks) = file("asks.yaml", ASKS);
    let ask = ["workflow", "create", "-f", &asks, "-q", "--name", "question"];
    let one = create(&address, &["--name", "one"]);
    let asked = text(&farrier(&address, &ask)).trim().to_owned();
    let two = create(&address, &["--name", "two"]);
    let list = |more: &[&str]| farrier(&address, &[&["workflow", "list"], more].concat());
    let names = |more: &[&str]| {
        let shown = text(&list(more));
        let second = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
        shown.lines().skip(1).map(second).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["two", "question", "one"]);
    let shown = text(&list(&[]));
    let row = shown.lines().nth(1).expect("a row");
    assert!(
        row.starts_with(&format!("{}  two", &two[..13])) && row.contains("  node1"),
        "{shown}"
    );
    assert!(!shown.contains(MAC) && !shown.contains(&two), "short: {shown}");
    let wide = text(&list(&["-o", "wide"]));
    assert!(
        wide.contains(&two) && wide.contains(&format!("node1 ({MAC})")) && wide.contains("  debian v1  "),
        "{wide}"
    );
    assert_eq!(text(&list(&["-o", "name"])), format!("{two}\n{asked}\n{one}\n"));
    assert_eq!(
        names(&["--template", "debian", "--sort-by", "name"]),
        ["one", "two"]
    );
    assert_eq!(names(&["--sort-by", "created"]), ["one", "question", "two"]);
    assert_eq!(names(&["--waiting"]), ["question"]);
    let waits = text(&list(&["--waiting"]));
    assert!(
        waits.trim_end().ends_with("go: waits for approval: go on?"),
        "{waits}"
    );
    assert!(text(&list(&[])).contains("  go: waits for approval\n"), "{shown}");
    text(&farrier(&address, &["workflow", "cancel", &two]));
    assert_eq!(names(&["--state", "cancelled,failed"]), ["two"]);
    assert_eq!(names(&["--since", "1h"]), ["two", "question", "one"]);
    assert_eq!(names(&["--since", "2999-01-01 00:00"]), [""; 0]);
    let cut = list(&["--limit", "2"]);
    assert_eq!(text(&cut).lines().count(), 3);
    assert_eq!(
        String::from_utf8_lossy(&cut.stderr),
        "the newest 2 are listed, and there are more: --limit NUMBER has so many, --limit 0 all\n"
    );
    assert!(list(&["--limit", "3"]).stderr.is_empty());
    let said = refused(&list(&["--state", "runing"]), 1);
    assert_eq!(
        said,
        "farrier: \"runing\" is no state of a workflow; did you mean \"RUNNING\"?"
    );
}

#[test]
fn sub_workflows_are_folded_below_what_they_are_part_of() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(ASKS));
    let parent = "version: '1'\nname: rollout\ntasks: [{name: each, workflow: asks}]\n";
    let (_dir, path) = file("p.yaml", parent);
    let id = text(&farrier(&address, &["workflow", "create", "-q", "-f", &path]));
    let list = ["workflow", "list"];
    wait_until(&address, &["workflow", "list", "--children"], |all| {
        all.lines().count() == 3
    });
    let roots = text(&farrier(&address, &list));
    assert_eq!(roots.lines().count(), 2, "{roots}");
    let all = text(&farrier(&address, &["workflow", "list", "--children"]));
    let rows: Vec<&str> = all.lines().skip(1).collect();
    assert!(
        rows[0].contains("  rollout") && rows[1].contains("  └ rollout-each"),
        "{all}"
    );
    // What waits for somebody is told wherever it is.
    let waits = text(&farrier(&address, &["workflow", "list", "--waiting"]));
    assert!(
        waits.lines().count() == 2 && waits.contains("  rollout-each"),
        "{waits}"
    );
    assert!(!id.is_empty());
}

#[test]
fn a_workflow_is_meant_by_a_beginning_a_name_or_as_the_last_one() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(TEMPLATE));
    let home = tempfile::TempDir::new().expect("home");
    let at_home = |args: &[&str]| {
        let mut command = command(&address, args);
        command.env("HOME", home.path()).output().expect("farrier runs")
    };
    let first = create(&address, &["--name", "first"]);
    wait_until(&address, &["workflow", "list"], |list| list.contains("RUNNING"));
    let none = refused(&at_home(&["workflow", "get", "@last"]), 3);
    assert_eq!(
        none,
        format!(
            "farrier: @last is the workflow that you made last on {address}, and there is none: see `farrier workflow list`"
        )
    );
    let made = at_home(&[
        "workflow", "create", "-t", "debian", "-q", "-r", DEVICE, "--name", "second",
    ]);
    let second = text(&made).trim().to_owned();
    let meant = |word: &str| {
        let shown: serde_json::Value =
            serde_json::from_str(&text(&at_home(&["workflow", "get", word, "-o", "json"]))).expect("JSON");
        shown["id"].as_str().expect("an id").to_owned()
    };
    assert_eq!(meant("@last"), second);
    assert_eq!(meant(&first[..23]), first);
    assert_eq!(meant("first"), first);
    let said = refused(&at_home(&["workflow", "cancel", &first[..4]]), 1);
    assert_eq!(
        said,
        format!(
            "farrier: several workflows have ids that begin with \"{}\": say which\n  {second}  PENDING  second\n  {first}  RUNNING  first",
            &first[..4]
        )
    );
    let said = refused(&at_home(&["workflow", "logs", "secnd"]), 3);
    assert_eq!(
        said,
        "farrier: no workflow has the id or the name \"secnd\"; did you mean \"second\"?"
    );
    // Of a name the one that goes on is meant, and of several that do none.
    text(&at_home(&["workflow", "cancel", "second"]));
    assert_eq!(meant("second"), second);
    let again = create(&address, &["--name", "second"]);
    assert_eq!(meant("second"), again);
    create(&address, &["--name", "second"]);
    let said = refused(&at_home(&["workflow", "state", "second"]), 1);
    assert!(
        said.starts_with("farrier: several workflows have the name \"second\": say which\n"),
        "{said}"
    );
    assert_eq!(
        text(&at_home(&[
            "events",
            "--workflow",
            "first",
            "--kind",
            "created",
            "-o",
            "json"
        ]))
        .lines()
        .count(),
        1
    );
    let kept = home.path().join(".config/farrier/last.toml");
    let text_of_it = std::fs::read_to_string(&kept).expect("it is kept");
    // Another server at the same address.
    let gone = "01a22ce9-9b47-70ef-961b-7c63bfd5d359";
    std::fs::write(&kept, text_of_it.replace(&meant("@last"), gone)).expect("it is ours");
    let said = refused(&at_home(&["workflow", "state", "@last"]), 3);
    assert_eq!(
        said,
        format!(
            "farrier: @last is workflow {gone}, which the server at {address} does not have (any more): see `farrier workflow list`"
        )
    );
}

#[test]
fn who_watches_sees_how_far_it_is_within_the_screen() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let id = create(&address, &[]);
    let run = runtime.block_on(agent.run());
    runtime.block_on(agent.report(&run, Outcome::Started(Started {})));
    let watch = |term: &str, more: &[(&str, &str)]| {
        let mut command = command(&address, &["workflow", "watch", &id]);
        command.env("TERM", term).envs(more.iter().copied());
        Terminal::run(command)
    };
    let mut drawn = watch("xterm", &[]);
    let mut plain = watch("xterm", &[("NO_COLOR", "1")]);
    let mut dumb = watch("dumb", &[]);
    let tells = || runtime.block_on(agent.progress(&run, 50 << 20, 100 << 20));
    drawn.shows(|all| all.contains("50 %, 5 s left, 10."), tells);
    // It moves although nothing happens.
    let screens = drawn.screens().len();
    drawn.shows(|all| all.split("\x1b[H\x1b[J").count() > screens + 3, || ());
    let state = text(&farrier(&address, &["workflow", "state", &id]));
    assert!(
        state.contains("write-image  RUNNING  1")
            && state.contains("50 %, 5 s left, 10.0 MiB/s, 50.0 of 100.0 MiB (download)"),
        "{state}"
    );
    let list = text(&farrier(&address, &["workflow", "list"]));
    assert!(list.contains("write-image 50 %"), "{list}");
    let machine = text(&farrier(&address, &["machine", "get", "node1"]));
    assert!(machine.contains("Progress:    write-image 50 %"), "{machine}");
    let json: serde_json::Value =
        serde_json::from_str(&text(&farrier(&address, &["workflow", "get", &id, "-o", "json"])))
            .expect("JSON");
    assert_eq!(
        (
            &json["progress"][0]["percent"],
            &json["progress"][0]["done_bytes"]
        ),
        (&50.into(), &(50 << 20).into())
    );
    runtime.block_on(agent.fails(&run, "ExitCode", &"a very long message ".repeat(20)));
    for (terminal, red) in [(&mut drawn, true), (&mut plain, false)] {
        terminal.shows(|all| all.contains(" FAILED "), || ());
        assert_eq!(terminal.child.wait().expect("it ends").code(), Some(1));
        let screens = terminal.screens();
        let last = screens.last().expect("a screen");
        assert_eq!(last.contains("\x1b[31minstall"), red, "{last:?}");
        // The reason is there whole, and what to do next.
        assert!(last.matches("very long").count() > 5, "{last}");
        assert!(
            last.contains(&format!("\r\nfarrier workflow explain {}\r\n", &id[..13])),
            "{last:?}"
        );
        for screen in screens {
            let lines: Vec<&str> = screen.lines().collect();
            assert!(lines.len() < 24, "{screen}");
            for line in lines {
                let line = line.replace("\x1b[31m", "").replace("\x1b[0m", "");
                assert!(line.chars().count() <= 80, "{line:?}");
            }
        }
    }
    dumb.shows(|all| all.contains("  install  write-image  FAILED"), || ());
    dumb.child.wait().expect("it ends");
    assert!(
        dumb.seen.contains("  install  write-image  RUNNING\r\n"),
        "{:?}",
        dumb.seen
    );
    assert!(!dumb.seen.contains('\x1b'), "{:?}", dumb.seen);
}

#[test]
fn many_rows_fit_a_small_screen_with_what_went_wrong_first() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let tasks: String = (0..30)
        .map(|n| format!("  - {{name: w{n:02}, wait: 1h, needs: []}}\n"))
        .collect();
    let many = format!(
        "version: '1'\nname: many\ntasks:\n{tasks}  - {{name: last, needs: [], worker: '{MAC}', actions: [{{name: a, image: cexec, timeout: 60}}]}}\n"
    );
    let (_dir, path) = file("many.yaml", &many);
    let id = text(&farrier(&address, &["workflow", "create", "-q", "-f", &path]));
    let run = runtime.block_on(agent.run());
    let mut command = command(&address, &["workflow", "watch", id.trim()]);
    command.env("TERM", "xterm");
    let mut drawn = Terminal::run(command);
    runtime.block_on(agent.fails(&run, "ExitCode", "no"));
    drawn.shows(|all| all.contains("last") && all.contains(" FAILED "), || ());
    for screen in drawn.screens() {
        assert!(screen.lines().count() < 24, "{screen}");
    }
    let shown = drawn.screens();
    let failed = shown
        .iter()
        .find(|screen| screen.contains(" FAILED "))
        .expect("a screen");
    assert!(failed.contains("… "), "{failed}");
    let _ = drawn.child.kill();
    drawn.child.wait().expect("it ends");
}

#[test]
fn an_interrupted_run_goes_on_and_says_so() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let mut running = command(&address, &["run", "node1", "cexec", "-e", "CMD_LINE=uname"])
        .spawn()
        .expect("it starts");
    let run = runtime.block_on(agent.run());
    runtime.block_on(agent.report(&run, Outcome::Started(Started {})));
    runtime.block_on(agent.log(&run, &["Linux"]));
    let id = run.workflow_id.clone();
    // What it prints it follows, and hears signals meanwhile.
    let mut printed = [0; 6];
    let mut stdout = running.stdout.take().expect("a pipe");
    stdout.read_exact(&mut printed).expect("it prints");
    assert_eq!(&printed, b"Linux\n");
    kill(
        Pid::from_raw(i32::try_from(running.id()).expect("a pid")),
        Signal::SIGINT,
    )
    .expect("a signal");
    let output = running.wait_with_output().expect("it ends");
    let said = refused(&output, 130);
    let mut lines = said.lines();
    assert_eq!(
        lines.next(),
        Some(format!("workflow {id} is for machine node1").as_str())
    );
    assert!(
        said.contains(&format!(
            "workflow {id} goes on; `farrier workflow cancel {id}` stops it"
        )),
        "{said}"
    );
    runtime.block_on(agent.report(&run, Outcome::Succeeded(Succeeded::default())));
    let waited = farrier(&address, &["workflow", "wait", &id, "--timeout", "20s"]);
    assert_eq!(text(&waited), format!("workflow {id} is SUCCESS\n"));
}

#[test]
fn lines_are_found_by_task_and_from_the_end() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(TEMPLATE));
    let id = create(&address, &[]);
    let run = runtime.block_on(agent.run());
    runtime.block_on(agent.report(&run, Outcome::Started(Started {})));
    runtime.block_on(agent.log(&run, &["one", "two", "three"]));
    wait_until(&address, &["workflow", "logs", &id], |logs| {
        logs.contains("three")
    });
    let logs = |more: &[&str]| farrier(&address, &[&["workflow", "logs", &id], more].concat());
    assert_eq!(
        text(&logs(&["install", "--tail", "2"])),
        "--- install/write-image on node1\ntwo\nthree\n"
    );
    assert_eq!(text(&logs(&["--since", "2999-01-01 00:00"])), "");
    let timed = text(&logs(&["-t", "--machine", "node1", "--tail", "1"]));
    let line = timed.lines().nth(1).expect("a line");
    assert!(
        line.len() == "00:00:00.000  three".len() && line.ends_with("  three"),
        "{timed}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&text(&logs(&["--tail", "1", "-o", "json"]))).expect("JSON");
    assert_eq!(
        (&json["machine"], &json["text"]),
        (&"node1".into(), &"three".into())
    );
    assert!(json["at"].is_string(), "{json}");
    assert!(refused(&logs(&["instal"]), 3).contains("has no task \"instal\""));
}

#[test]
fn several_are_cancelled_and_deleted_one_by_one() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(TEMPLATE));
    let (_dir, asks) = file("asks.yaml", ASKS);
    let ask = |name: &str| {
        let made = farrier(
            &address,
            &["workflow", "create", "-q", "-f", &asks, "--name", name],
        );
        text(&made).trim().to_owned()
    };
    let (one, two) = (ask("one"), ask("two"));
    let paused = ["workflow", "pause", "two", "--reason", "power work"];
    text(&farrier(&address, &paused));
    let list = text(&farrier(&address, &["workflow", "list", "--state", "paused"]));
    assert!(list.contains("by admin: power work"), "{list}");
    let state = text(&farrier(&address, &["workflow", "state", "two"]));
    assert!(state.starts_with("PAUSED: by admin: power work\n"), "{state}");
    let key = farrier(
        &address,
        &["workflow", "cancel", "one", "two", "--idempotency-key", "k"],
    );
    assert_eq!(
        refused(&key, 2),
        "farrier: --idempotency-key is for one request, and 2 are named: give it with one of them"
    );
    assert_eq!(
        text(&farrier(&address, &["workflow", "cancel", "one", "two"])),
        format!("workflow {one} is CANCELLED\nworkflow {two} is CANCELLED\n")
    );
    // What can be done is done.
    let gone = farrier(
        &address,
        &[
            "workflow",
            "delete",
            &one,
            "01980000-0000-7000-8000-000000000000",
            &two,
        ],
    );
    assert_eq!(gone.status.code(), Some(3));
    assert_eq!(
        String::from_utf8_lossy(&gone.stdout),
        format!("workflow {one} deleted\nworkflow {two} deleted\n")
    );
}

#[test]
fn all_items_that_wait_are_approved_at_once() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(TEMPLATE));
    let many = "version: '1'\nname: many\ntasks:\n  - {name: image, forEach: '[1, 2, 3]', approve: {message: this one?}}\n  \
                - {name: other, needs: [], approve: {message: and this?}}\n";
    let (_dir, path) = file("many.yaml", many);
    let id = text(&farrier(&address, &["workflow", "create", "-q", "-f", &path]));
    let id = id.trim();
    wait_until(&address, &["workflow", "state", id], |state| {
        state.matches("waits for approval").count() == 4
    });
    let approve = ["workflow", "approve", id, "image", "--all"];
    text(&farrier(&address, &approve));
    let state = text(&farrier(&address, &["workflow", "state", id]));
    assert_eq!(state.matches("waits for approval").count(), 1, "{state}");
    let said = refused(&farrier(&address, &approve), 1);
    assert_eq!(
        said,
        format!("farrier: nothing of task \"image\" of workflow {id} waits for approval")
    );
    let all = text(&farrier(&address, &["workflow", "approve", id, "--all"]));
    assert_eq!(all, format!("workflow {id} is SUCCESS\n"));
}

#[test]
fn a_name_is_not_printed_in_place_of_what_is_shown_once() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(TEMPLATE));
    let made = farrier(&address, &["token", "create", "ann", "-o", "name"]);
    assert_eq!(
        refused(&made, 2),
        "farrier: -o name would not show what is shown this once: leave it out"
    );
    let tokens = text(&farrier(&address, &["token", "list", "-o", "name"]));
    assert_eq!(tokens, "admin\n");
    assert_eq!(
        text(&farrier(&address, &["machine", "list", "-o", "name"])),
        "node1\n"
    );
    assert_eq!(
        text(&farrier(&address, &["template", "list", "-o", "name"])),
        "debian\n"
    );
    // What has no name of its own is done, and says so.
    let (_dir, path) = file("m.yaml", "machine: node2\nmac: 52:54:00:77:00:0c\n");
    let applied = farrier(&address, &["machine", "apply", "-f", &path, "-o", "name"]);
    assert_eq!(text(&applied), "machine node2 created\n");
}

#[test]
fn several_workflows_are_paused_resumed_labelled_and_decided_in_one_call() {
    const ASKS: &str = "version: '1'\nname: asks\ntasks: [{name: go, approve: {message: go on?}}]\n";
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(TEMPLATE));
    let dir = tempfile::TempDir::new().expect("directory");
    let file = dir.path().join("asks.yaml").display().to_string();
    std::fs::write(&file, ASKS).expect("write");
    let make = || {
        let args = ["workflow", "create", "-f", &file, "-q"];
        text(&farrier(&address, &args)).trim().to_owned()
    };
    let (one, two, three) = (make(), make(), make());
    let of_all = |args: &[&str]| text(&farrier(&address, &[&["workflow"], args].concat()));
    let said = |id: &str, rest: &str| format!("workflow {id} {rest}\n");
    assert_eq!(
        of_all(&["label", &one, &two, "change=7", "x=1"]),
        said(&one, "has the labels change=7,x=1") + &said(&two, "has the labels change=7,x=1")
    );
    let paused = of_all(&["pause", &one, &two, "--reason", "look"]);
    assert_eq!(paused.lines().count(), 2, "{paused}");
    assert!(paused.lines().all(|line| line.contains(" is PAUSED")), "{paused}");
    let both: serde_json::Value =
        serde_json::from_str(&of_all(&["resume", &one, &two, "-o", "json"])).expect("JSON");
    assert_eq!(both.as_array().map(Vec::len), Some(2), "{both}");
    // A task is of one.
    let output = farrier(&address, &["workflow", "pause", &one, &two, "go"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("\"go\" is no id"),
        "{output:?}"
    );
    // One in which nothing waits keeps the others from nothing.
    of_all(&["approve", &two]);
    let output = farrier(&address, &["workflow", "approve", &two, &one, "--comment", "yes"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with(&format!("workflow {one} is ")),
        "{output:?}"
    );
    wait_until(
        &address,
        &["workflow", "list", "-l", "change=7", "-o", "json"],
        |said| said.matches("\"SUCCESS\"").count() >= 2,
    );
    of_all(&["reject", &three, "go"]);
    wait_until(&address, &["workflow", "get", &three], |said| {
        said.contains("FAILED")
    });
    assert!(of_all(&["retry", &three]).starts_with(&format!("workflow {three} is ")));
}
