//! What people do to a workflow that runs: every answer, exit code and error as somebody at a terminal sees it.

use proto::v1::{DataChanges, DataFile, Succeeded};
use store::Digest;
use tokio::runtime::Runtime;

use crate::harness::*;

const TEMPLATE: &str = "\
version: \"1\"
name: wipe-it
outputs: {serial: tasks.look.outputs.serial}
tasks:
  - name: ask
    approve: {message: \"Wipe this machine?\", by: [ops]}
  - name: look
    worker: \"{{.device_1}}\"
    actions:
      - {name: inventory, image: cexec, timeout: 60}
";

struct Story {
    runtime: Runtime,
    address: String,
    agent: Agent,
}

impl Story {
    fn begin(template: &str) -> Self {
        let runtime = Runtime::new().expect("runtime");
        let (address, agent) = runtime.block_on(prepared(template));
        Self {
            runtime,
            address,
            agent,
        }
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        text(&farrier(&self.address, args))
    }

    /// As somebody of the group `ops`.
    #[track_caller]
    fn ok_as(&self, name: &str, args: &[&str]) -> String {
        let token = self.ok(&["token", "create", name, "--group", "ops"]);
        let mut command = command(&self.address, args);
        command.env("FARRIER_TOKEN", token.trim());
        text(&command.output().expect("farrier runs"))
    }

    #[track_caller]
    fn fails(&self, args: &[&str], code: i32, words: &str) {
        let output = farrier(&self.address, args);
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.trim_end()), (Some(code), words));
    }

    fn create(&self) -> String {
        let id = self.ok(&["workflow", "create", "-t", "wipe-it", "-q", "-r", DEVICE]);
        id.trim().to_owned()
    }
}

fn gave(serial: &str) -> Succeeded {
    let content = b"rack 7\n".to_vec();
    let file = DataFile {
        path: "where/it-is".into(),
        size_bytes: content.len() as u64,
        sha256: Digest::of(&content).to_string(),
        executable: false,
        content,
    };
    Succeeded {
        outputs_json: format!("{{\"serial\":\"{serial}\"}}"),
        data_changes: Some(DataChanges {
            base_version: 0,
            put: vec![file],
            deleted: Vec::new(),
        }),
        ..Succeeded::default()
    }
}

#[test]
fn a_no_a_retry_and_a_yes_lead_to_outputs_and_data() {
    let mut story = Story::begin(TEMPLATE);
    let id = story.create();
    let id = id.as_str();
    assert_eq!(
        story.ok(&["workflow", "explain", id]),
        format!(
            "workflow wipe-it ({id}) is PENDING\n\
             task \"ask\" waits for approval by ops (farrier workflow approve {id} ask): Wipe this machine?\n\
             task \"look\" waits for \"ask\"\n"
        )
    );
    story.fails(
        &["workflow", "reject", id],
        1,
        "farrier: task \"ask\" is decided by one of the groups ops, and \"admin\" is in none of them",
    );
    let no = ["workflow", "reject", id, "--comment", "not today"];
    assert_eq!(story.ok_as("ann", &no), format!("workflow {id} is FAILED\n"));
    let waited = farrier(&story.address, &["workflow", "wait", id]);
    assert_eq!(waited.status.code(), Some(1));
    let waited = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert!(waited.contains("not today"), "{waited}");

    assert_eq!(
        story.ok(&["workflow", "retry", id]),
        format!("workflow {id} is PENDING\n")
    );
    let yes = ["workflow", "approve", id, "ask", "-o", "json"];
    let approved: serde_json::Value = serde_json::from_str(&story.ok_as("bob", &yes)).expect("JSON");
    assert_eq!(
        (&approved["state"], &approved["run"]),
        (&"RUNNING".into(), &2.into())
    );
    let run = story.runtime.block_on(story.agent.run());
    // Whoever comes too late is told who was first.
    story.fails(
        &["workflow", "reject", id, "ask"],
        1,
        "farrier: task \"ask\" was approved by bob already",
    );
    story.runtime.block_on(story.agent.succeeds(&run, gave("X1")));
    let waited = story.ok(&["workflow", "wait", id, "--timeout", "20s"]);
    assert_eq!(waited, format!("workflow {id} is SUCCESS\n"));

    let shown: serde_json::Value =
        serde_json::from_str(&story.ok(&["workflow", "get", id, "-o", "json"])).expect("JSON");
    assert_eq!(shown["outputs"]["serial"], "X1");
    let data = story.ok(&["workflow", "data", id]);
    assert!(data.contains("where/it-is"), "{data}");
    assert_eq!(story.ok(&["workflow", "data", id, "where/it-is"]), "rack 7\n");
    let words = format!(
        "farrier: there is no file \"nothing\" in version 1 of the data of workflow {id}: see `farrier workflow data {id}`"
    );
    story.fails(&["workflow", "data", id, "nothing"], 3, &words);
    let graph = story.ok(&["workflow", "graph", id]);
    assert!(
        graph.contains("t0 --> t1") && graph.contains("SUCCESS"),
        "{graph}"
    );
    let events = story.ok(&["workflow", "events", id]);
    assert!(
        events.contains("rejected by ann")
            && events.contains("approved by bob")
            && events.contains("run_opened"),
        "{events}"
    );
    let words = format!(
        "farrier: workflow {id} is SUCCESS: nothing of it failed; create a new workflow to do it again"
    );
    story.fails(&["workflow", "retry", id], 1, &words);
}

#[test]
fn a_task_is_skipped_and_the_rest_goes_on() {
    let rest = "  - name: last\n    worker: \"{{.device_1}}\"\n    actions: [{name: run, image: cexec}]\n";
    let text = TEMPLATE.replace("outputs: {serial: tasks.look.outputs.serial}\n", "");
    let mut story = Story::begin(&format!("{text}{rest}"));
    let id = story.create();
    let id = id.as_str();
    let words = format!("farrier: workflow {id} has no task \"lok\"; it has ask, look, last");
    story.fails(&["workflow", "skip", id, "lok"], 3, &words);
    let words =
        format!("farrier: task \"look\" of workflow {id} has no forEach, so that it has no items: say look");
    story.fails(&["workflow", "skip", id, "look[0]"], 1, &words);
    // Before its turn.
    let skip = ["workflow", "skip", id, "look", "--reason", "dead fan"];
    assert_eq!(story.ok_as("ann", &skip), format!("workflow {id} is PENDING\n"));
    assert_eq!(
        story.ok(&["workflow", "explain", id, "look"]),
        "task \"look\" waits for \"ask\"; skipped by ann: dead fan; it is SKIPPED when its turn comes\n"
    );
    // Not in words alone.
    let state = story.ok(&["workflow", "state", id]);
    let words = "skipped by ann: dead fan; it is SKIPPED when its turn comes";
    assert!(state.contains(words), "{state}");
    let shown: serde_json::Value =
        serde_json::from_str(&story.ok(&["workflow", "get", id, "-o", "json"])).expect("JSON");
    let skip = &shown["tasks"][1]["skip"];
    assert_eq!(
        (&skip["by"], &skip["reason"]),
        (&"ann".into(), &"dead fan".into())
    );
    story.ok_as("bob", &["workflow", "approve", id]);
    let run = story.runtime.block_on(story.agent.run());
    assert_eq!(run.action, "run");
    story
        .runtime
        .block_on(story.agent.succeeds(&run, Succeeded::default()));
    let waited = story.ok(&["workflow", "wait", id, "--timeout", "20s"]);
    assert_eq!(waited, format!("workflow {id} is SUCCESS\n"));
    let events = story.ok(&["workflow", "events", id]);
    assert!(
        events.contains("skipped by ann: dead fan")
            && events.contains("SKIPPED: Skipped: ann skipped it: dead fan"),
        "{events}"
    );
    let words = format!("farrier: workflow {id} has ended: it is SUCCESS");
    story.fails(&["workflow", "skip", id, "last"], 1, &words);
}

#[test]
fn a_task_is_held_shown_and_resumed() {
    let text = TEMPLATE.replace("outputs: {serial: tasks.look.outputs.serial}\n", "");
    let mut story = Story::begin(&text);
    let id = story.create();
    let id = id.as_str();
    let words = format!("farrier: task \"look\" of workflow {id} is not paused");
    story.fails(&["workflow", "resume", id, "look"], 1, &words);
    let pause = ["workflow", "pause", id, "look", "--reason", "look first"];
    assert_eq!(story.ok_as("ann", &pause), format!("workflow {id} is PENDING\n"));
    let state = story.ok(&["workflow", "state", id]);
    assert!(state.contains("paused by ann: look first"), "{state}");
    story.ok_as("bob", &["workflow", "approve", id]);
    let explained = story.ok(&["workflow", "explain", id, "look"]);
    assert_eq!(
        explained,
        format!(
            "task \"look\" has its turn next; paused by ann: look first (farrier workflow resume {id} look)\n"
        )
    );
    let shown: serde_json::Value =
        serde_json::from_str(&story.ok(&["workflow", "get", id, "-o", "json"])).expect("JSON");
    let look = &shown["tasks"][1];
    assert_eq!(
        (
            &shown["state"],
            &look["state"],
            &look["pause"]["by"],
            &look["pause"]["reason"]
        ),
        (
            &"RUNNING".into(),
            &"IDLE".into(),
            &"ann".into(),
            &"look first".into()
        )
    );
    story.ok_as("eve", &["workflow", "resume", id, "look"]);
    let run = story.runtime.block_on(story.agent.run());
    story
        .runtime
        .block_on(story.agent.succeeds(&run, Succeeded::default()));
    let waited = story.ok(&["workflow", "wait", id, "--timeout", "20s"]);
    assert_eq!(waited, format!("workflow {id} is SUCCESS\n"));
    let events = story.ok(&["workflow", "events", id]);
    assert!(
        events.contains("it is paused by ann: look first") && events.contains("it is resumed by eve"),
        "{events}"
    );
}

#[test]
fn actions_are_released_one_by_one_until_somebody_says_otherwise() {
    let rest = "  - name: last\n    worker: \"{{.device_1}}\"\n    actions: [{name: run, image: cexec}]\n";
    let text = TEMPLATE.replace("outputs: {serial: tasks.look.outputs.serial}\n", "");
    let mut story = Story::begin(&format!("{text}{rest}"));
    let create = [
        "workflow", "create", "-t", "wipe-it", "-q", "-r", DEVICE, "--policy",
    ];
    let bad = farrier(&story.address, &[&create[..], &["ask disk"]].concat());
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(
        said.contains(
            "policy \"ask disk\" says \"disk\", which is none of action=NAME, image=IMAGE and writes=disk"
        ),
        "{said}"
    );
    let id = story.ok(&[&create[..], &["step by=ops"]].concat());
    let id = id.trim();
    story.ok_as("bob", &["workflow", "approve", id]);
    let explained = story.ok(&["workflow", "explain", id, "look"]);
    assert_eq!(
        explained,
        format!(
            "task \"look\" waits for approval of action \"inventory\" by ops (farrier workflow approve {id} look): the policy \
             says step by=ops\n"
        )
    );
    let state = story.ok(&["workflow", "state", id]);
    assert!(
        state.contains("waits for approval: action \"inventory\" (the policy says step by=ops)"),
        "{state}"
    );
    story.ok_as("ann", &["workflow", "approve", id, "look"]);
    let run = story.runtime.block_on(story.agent.run());
    story
        .runtime
        .block_on(story.agent.succeeds(&run, Succeeded::default()));
    let usage = farrier(&story.address, &["workflow", "policy", id]);
    assert_eq!(usage.status.code(), Some(2));
    let set = ["workflow", "policy", id, "--none", "-o", "json"];
    let shown: serde_json::Value = serde_json::from_str(&story.ok_as("eve", &set)).expect("JSON");
    assert_eq!(shown["policy"], serde_json::json!([]));
    assert_eq!(shown["tasks"][1]["actions"][0]["released"]["by"], "ann");
    let run = story.runtime.block_on(story.agent.run());
    assert_eq!(run.action, "run");
    story
        .runtime
        .block_on(story.agent.succeeds(&run, Succeeded::default()));
    story.ok(&["workflow", "wait", id, "--timeout", "20s"]);
    let events = story.ok(&["workflow", "events", id]);
    assert!(
        events.contains("waits for approval of its action 1: step by=ops")
            && events.contains("nothing is asked for or refused from here on, says eve"),
        "{events}"
    );
}

#[test]
fn whoever_watches_sees_it_change_until_it_ends() {
    let mut story = Story::begin(TEMPLATE);
    let id = story.create();
    let mut watch = command(&story.address, &["workflow", "watch", &id]);
    let watching = watch.spawn().expect("it starts");
    story.ok_as("bob", &["workflow", "approve", &id]);
    let run = story.runtime.block_on(story.agent.run());
    story.runtime.block_on(story.agent.succeeds(&run, gave("X1")));
    let output = watching.wait_with_output().expect("it ends");
    let shown = text(&output);
    assert!(shown.trim_end().contains("SUCCESS"), "{shown}");
}

#[test]
fn one_action_is_run_now_and_its_output_is_the_output() {
    let mut story = Story::begin(TEMPLATE);
    let mut command_line = command(&story.address, &["run", "node1", "cexec", "-e", "CMD_LINE=uname"]);
    let running = command_line.spawn().expect("it starts");
    let run = story.runtime.block_on(story.agent.run());
    assert_eq!(run.environment.get("CMD_LINE").map(String::as_str), Some("uname"));
    story.runtime.block_on(story.agent.log(&run, &["Linux"]));
    story
        .runtime
        .block_on(story.agent.succeeds(&run, Succeeded::default()));
    let output = running.wait_with_output().expect("it ends");
    assert_eq!(text(&output), "Linux\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.ends_with(" is SUCCESS\n"), "{said}");

    let running = command_line.spawn().expect("it starts");
    let run = story.runtime.block_on(story.agent.run());
    story.runtime.block_on(
        story
            .agent
            .fails(&run, "ExitCode", "the command exited with code 3"),
    );
    let output = running.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("is FAILED") && said.contains("exited with code 3"),
        "{said}"
    );

    let id = story.ok(&["run", "-d", "node1", "reboot"]);
    let explained = story.ok(&["workflow", "explain", id.trim()]);
    assert!(!explained.is_empty());
    let words = "farrier: no machine is named \"node9\"; did you mean \"node1\"?";
    story.fails(&["run", "node9", "reboot"], 3, words);
}

/// Later than any test of it runs, and within what is allowed.
fn in_days(days: i64) -> jiff::Timestamp {
    let ahead = jiff::SignedDuration::from_hours(24 * days);
    let at = jiff::Timestamp::now() + ahead;
    at.round(jiff::Unit::Second).expect("a second")
}

#[test]
fn a_workflow_is_made_to_begin_later_moved_and_begun() {
    let mut story = Story::begin(TEMPLATE);
    let at = in_days(30);
    let create = ["workflow", "create", "-t", "wipe-it", "-r", DEVICE];
    let made = story.ok(&[&create[..], &["--at", &at.to_string()]].concat());
    let words = at
        .to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S %Z")
        .to_string();
    let id = made.split(' ').nth(1).expect("an id").to_owned();
    assert_eq!(made, format!("workflow {id} is PENDING, begins at {words}\n"));
    for command in ["list", "state", "get"] {
        let args = ["workflow", command, &id];
        let shown = story.ok(if command == "list" { &args[..2] } else { &args });
        assert!(shown.contains(&words), "{command}: {shown}");
    }
    let explained = story.ok(&["workflow", "explain", &id]);
    assert!(explained.contains(&format!("it begins at {at};")), "{explained}");
    let json: serde_json::Value =
        serde_json::from_str(&story.ok(&["workflow", "state", &id, "-o", "json"])).expect("JSON");
    let begins: jiff::Timestamp = json["starts_at"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    assert_eq!(begins, at);

    let moved = story.ok(&["workflow", "start", &id, "--in", "2h"]);
    assert!(
        moved.contains("is PENDING, begins at ") && !moved.contains(&words),
        "{moved}"
    );
    let begun = story.ok(&["workflow", "start", &id, "--now"]);
    assert_eq!(begun, format!("workflow {id} is PENDING\n"));
    story.ok_as("ann", &["workflow", "approve", &id]);
    let run = story.runtime.block_on(story.agent.run());
    assert!(run.attempt_id.starts_with(&id), "{run:?}");
    story.fails(
        &["workflow", "start", &id, "--now"],
        1,
        &format!("farrier: workflow {id} is RUNNING: it has begun already; farrier workflow pause holds it"),
    );
}

#[test]
fn a_time_to_begin_is_refused_with_what_would_be_one() {
    let story = Story::begin(TEMPLATE);
    let create = ["workflow", "create", "-t", "wipe-it", "-r", DEVICE];
    for (more, code, words) in [
        (
            &["--at", "soon"][..],
            2,
            "\"soon\" is no time: write one such as 2026-11-29T02:00:00Z",
        ),
        (
            &["--in", "soon"],
            2,
            "\"soon\" is no time: write one such as 90s, 30m, 2h or 90d",
        ),
        (
            &["--in", "2h", "--at", "2099-01-01T00:00:00Z"],
            2,
            "cannot be used with",
        ),
        (
            &["--at", "2020-01-01T00:00:00Z"],
            1,
            "so that has passed; leave the time out to begin at once",
        ),
        (&["--in", "400d"], 1, "it may begin 366 days ahead at most"),
    ] {
        let output = farrier(&story.address, &[&create[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{more:?}: {said}");
    }
    let output = farrier(&story.address, &["workflow", "start", "0192"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(story.ok(&["workflow", "list", "-o", "json"]).trim(), "[]");
}

#[test]
fn labels_are_given_changed_shown_and_found_by() {
    let story = Story::begin(TEMPLATE);
    let id = story.ok(&[
        "workflow",
        "create",
        "-t",
        "wipe-it",
        "-q",
        "-r",
        DEVICE,
        "-l",
        "change=4711",
        "--label",
        "owner=ann",
    ]);
    let (id, other) = (id.trim().to_owned(), story.create());
    assert_eq!(
        story.ok(&[
            "workflow",
            "label",
            &id,
            "owner=bob",
            "rack=r7",
            "change-",
            "absent-"
        ]),
        format!("workflow {id} has the labels owner=bob,rack=r7\n")
    );
    let list = |selector: &str| {
        let listed = story.ok(&[
            "workflow",
            "list",
            "-l",
            selector,
            "--show-labels",
            "-o",
            "wide",
            "--sort-by",
            "created",
        ]);
        let rows = listed.lines().skip(1).map(|line| {
            let mut words = line.split_whitespace();
            (
                words.next().unwrap_or_default().to_owned(),
                words.last().unwrap_or_default().to_owned(),
            )
        });
        rows.collect::<Vec<_>>()
    };
    let of_first = (id.clone(), "owner=bob,rack=r7".to_owned());
    assert_eq!(list("owner=bob,rack"), std::slice::from_ref(&of_first));
    assert_eq!(list("!owner"), [(other.clone(), "-".to_owned())]);
    assert_eq!(list("rack!=r8"), [of_first, (other, "-".to_owned())]);
    let json: serde_json::Value =
        serde_json::from_str(&story.ok(&["workflow", "get", &id, "-o", "json"])).expect("JSON");
    assert_eq!(json["labels"], serde_json::json!({"owner": "bob", "rack": "r7"}));
    let shown = story.ok(&["workflow", "get", &id]);
    assert!(shown.contains("Labels:    owner=bob,rack=r7\n"), "{shown}");
    let events = story.ok(&["workflow", "events", &id]);
    assert!(
        events.contains("labelled by admin: owner=bob,rack=r7,change-"),
        "{events}"
    );
    story.fails(
        &["workflow", "label", &id, "owner"],
        2,
        "farrier: bad label \"owner\": expected KEY=VALUE, such as rack=r7",
    );
    story.fails(
        &["workflow", "list", "-l", "rack = 'r7'"],
        1,
        "farrier: `rack = 'r7'`: a single =: equality is ==; a selector is labels, such as rack=r7,disk!=hdd,!gpu, or an \
         expression, such as rack == 'r7' || gpu != ''",
    );
}
