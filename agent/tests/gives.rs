//! What an action is given and what it gives: outputs, the workflow's data, stops, reboots. By the real agent.

mod fake;

use ephemeral::Digest;
use fake::{Agent, Data, FakeServer, Stream, action, shell};
use proto::v1::report::Outcome;
use proto::v1::{self, DataChunk, DataFile};

struct World {
    server: FakeServer,
    stream: Stream,
    folder: tempfile::TempDir,
    _agent: Agent,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().expect("folder");
        let mut server = FakeServer::start().await;
        let agent = Agent::start(&server, folder.path());
        let (stream, _) = server.accept().await;
        stream.welcome_of(5).await;
        World {
            server,
            stream,
            folder,
            _agent: agent,
        }
    }

    async fn end_of(&mut self, run: &v1::RunAction) -> Outcome {
        self.stream.end_of(run).await
    }
}

impl Drop for World {
    /// Whatever happened: nothing of an attempt is left.
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let ours = self.folder.path().to_str().expect("path");
        assert!(
            std::thread::panicking() || !mounts.contains(ours),
            "left mounted: {mounts}"
        );
    }
}

#[track_caller]
fn succeeded(outcome: Outcome) -> v1::Succeeded {
    match outcome {
        Outcome::Succeeded(succeeded) => succeeded,
        other => panic!("no success: {other:?}"),
    }
}

#[track_caller]
fn failed(outcome: Outcome, reason: &str) -> v1::Failed {
    match outcome {
        Outcome::Failed(failed) if failed.reason == reason => failed,
        other => panic!("no {reason}: {other:?}"),
    }
}

fn chunk(path: &str, content: &[u8], executable: bool) -> DataChunk {
    let file = DataFile {
        path: path.to_owned(),
        size_bytes: content.len() as u64,
        sha256: Digest::of(content).to_string(),
        executable,
        content: Vec::new(),
    };
    DataChunk {
        file: Some(file),
        content: content.to_vec(),
    }
}

#[tokio::test]
async fn what_an_action_writes_to_its_output_file_is_in_the_report() {
    let mut world = World::new().await;
    let given = shell("w/1", r#"echo '{"disk": "/dev/vda", "n": 1}' > $FARRIER_OUTPUT"#);
    let done = succeeded(world.end_of(&given).await);
    assert_eq!(done.outputs_json, "{\"disk\": \"/dev/vda\", \"n\": 1}\n");
    assert_eq!(done.data_changes, None);
    // The next one does not see it.
    let done = succeeded(world.end_of(&shell("w/2", "test ! -e $FARRIER_OUTPUT")).await);
    assert_eq!(done.outputs_json, "");
    let bad = failed(
        world.end_of(&shell("w/3", "echo oops > $FARRIER_OUTPUT")).await,
        "BadOutput",
    );
    assert!(bad.message.contains("is not one JSON object"), "{}", bad.message);
    let large = shell("w/4", "head -c 300000 /dev/zero > $FARRIER_OUTPUT");
    let bad = failed(world.end_of(&large).await, "BadOutput");
    assert!(
        bad.message.contains("has 300000 B; at most 262144 B"),
        "{}",
        bad.message
    );
}

#[tokio::test]
async fn an_action_sees_the_labels_of_its_workflow_and_what_it_is_part_of() {
    let mut world = World::new().await;
    let labels = [("rack", "r7"), ("example.com/owner", "ann")];
    let told = v1::RunAction {
        workflow_id: "w".into(),
        workflow_name: "install".into(),
        namespace: "blue".into(),
        task: "write".into(),
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..shell(
            "w/1",
            r#"test "$FARRIER_LABELS" = example.com/owner=ann,rack=r7 && cat "$FARRIER_METADATA" > "$FARRIER_OUTPUT""#,
        )
    };
    let done = succeeded(world.end_of(&told).await);
    let metadata: serde_json::Value = serde_json::from_str(&done.outputs_json).expect("JSON");
    let labels = serde_json::json!({"rack": "r7", "example.com/owner": "ann"});
    let workflow = serde_json::json!({"id": "w", "name": "install", "namespace": "blue", "labels": labels});
    assert_eq!(metadata["workflow"], workflow);
    assert_eq!(
        (metadata["task"].as_str(), metadata["attempt"].as_str()),
        (Some("write"), Some("w/1"))
    );
    // It is no data of the workflow, and without labels the variable is there, and empty.
    assert_eq!(done.data_changes, None);
    succeeded(
        world
            .end_of(&shell("w/2", r#"test "${FARRIER_LABELS-unset}" = """#))
            .await,
    );
}

#[tokio::test]
async fn the_input_is_a_file_that_only_its_owner_reads() {
    let mut world = World::new().await;
    let with = |attempt_id: &str, input: &str, text: &str| v1::RunAction {
        input_json: input.to_owned(),
        ..shell(attempt_id, text)
    };
    let input = r#"{"users":["ann","bob"],"count":2,"pw":"it's \"mine\""}"#;
    let text = "cat $FARRIER_INPUT > $FARRIER_OUTPUT; stat -c %a $FARRIER_INPUT";
    let done = succeeded(world.end_of(&with("w/1", input, text)).await);
    assert_eq!(
        (done.outputs_json.as_str(), done.message.as_str()),
        (input, "600")
    );
    // Without one there is neither a file nor the variable, whatever the attempt before had.
    let text = "test -z \"$FARRIER_INPUT\" && ! ls $(dirname $FARRIER_OUTPUT) | grep -vx metadata.json";
    succeeded(world.end_of(&shell("w/2", text)).await);
    // What is written into it is no output and no file of the workflow's.
    let done = succeeded(
        world
            .end_of(&with("w/3", input, "echo '{}' > $FARRIER_INPUT"))
            .await,
    );
    assert_eq!((done.outputs_json.as_str(), done.data_changes), ("", None));
}

#[tokio::test]
async fn an_action_after_which_the_machine_reboots_has_its_input_too() {
    let mut world = World::new().await;
    let run = v1::RunAction {
        input_json: r#"{"n":1}"#.to_owned(),
        reboots: true,
        ..shell(
            "w/1",
            "test -z \"$FARRIER_OUTPUT\" && grep -q '\"n\":1' $FARRIER_INPUT && ! touch $FARRIER_INPUT.2",
        )
    };
    let outcome = world.end_of(&run).await;
    assert!(
        matches!(&outcome, Outcome::Leaving(leaving) if leaving.how == "reboot"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn an_action_that_fails_may_say_why_in_its_own_words() {
    let mut world = World::new().await;
    let text = r#"echo '{"reason": "NoLicence", "message": "buy one"}' > $FARRIER_OUTPUT; exit 3"#;
    let why = failed(world.end_of(&shell("w/1", text)).await, "NoLicence");
    assert_eq!((why.message.as_str(), why.exit_code), ("buy one", 3));
    // Outputs of an action that fails are nothing but that.
    let text = r#"echo '{"disk": "/dev/vda"}' > $FARRIER_OUTPUT; echo said; exit 3"#;
    let why = failed(world.end_of(&shell("w/2", text)).await, "ExitCode");
    assert!(why.message.ends_with("said"), "{}", why.message);
}

#[tokio::test]
async fn the_data_are_given_at_a_version_and_what_changed_is_in_the_report() {
    let mut world = World::new().await;
    let chunks = vec![
        chunk("keys/old", b"1", false),
        chunk("keys/same", b"2", false),
        chunk("run", b"#!/bin/sh\necho ran > $FARRIER_WORKFLOW_DIR/new\n", true),
        chunk("other", b"3", false),
    ];
    world.server.data().versions.insert(7, chunks);
    world.server.data().away = 2;
    let text = "cd $FARRIER_WORKFLOW_DIR && ./run && rm keys/old && printf 33 > other && touch keys/same && \
                mkdir empty";
    let run = v1::RunAction {
        data_version: 7,
        ..shell("w/1", text)
    };
    let changes = succeeded(world.end_of(&run).await).data_changes.expect("changes");
    assert_eq!(
        (changes.base_version, changes.deleted.as_slice()),
        (7, &["keys/old".to_owned()][..])
    );
    let put: Vec<(&str, &[u8], bool)> = changes
        .put
        .iter()
        .map(|file| (file.path.as_str(), file.content.as_slice(), file.executable))
        .collect();
    assert_eq!(put, [("new", &b"ran\n"[..], false), ("other", b"33", false)]);
    assert_eq!(changes.put[1].sha256, Digest::of(b"33").to_string());
    let access = world.server.data().accesses.last().cloned().expect("asked");
    assert_eq!(
        (
            access.attempt_id.as_str(),
            access.mac.as_str(),
            access.boot_token.as_str(),
            access.epoch
        ),
        ("w/1", "52:54:00:77:00:0b", "secret", 5)
    );
    assert_eq!(access.boot_id.len(), 36);
    // A failure changes nothing, whatever it wrote.
    let run = v1::RunAction {
        data_version: 7,
        ..shell("w/2", "rm -r $FARRIER_WORKFLOW_DIR/*; exit 1")
    };
    failed(world.end_of(&run).await, "ExitCode");
    // A version that the server does not have is its word against the action's.
    let run = v1::RunAction {
        data_version: 8,
        ..shell("w/3", "true")
    };
    let refused = failed(world.end_of(&run).await, "DataRefused");
    assert!(
        refused.message.contains("version 8 is not kept"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn large_files_are_stored_before_the_report_names_them() {
    let mut world = World::new().await;
    world.server.data().away = 1;
    let text = "cd $FARRIER_WORKFLOW_DIR; head -c 3000000 /dev/zero > large; echo small > small; : > empty";
    let changes = succeeded(world.end_of(&shell("w/1", text)).await)
        .data_changes
        .expect("changes");
    let contents: Vec<(&str, u64, usize)> = changes
        .put
        .iter()
        .map(|file| (file.path.as_str(), file.size_bytes, file.content.len()))
        .collect();
    assert_eq!(
        contents,
        [("empty", 0, 0), ("large", 3_000_000, 0), ("small", 6, 6)]
    );
    let Data { stored, .. } = &*world.server.data();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored.get(&changes.put[1].sha256), Some(&vec![0; 3_000_000]));
}

#[tokio::test]
async fn too_much_data_fails_the_action_and_names_size_and_limit() {
    let mut world = World::new().await;
    let text = "head -c 10485761 /dev/zero > $FARRIER_WORKFLOW_DIR/x";
    let large = failed(world.end_of(&shell("w/1", text)).await, "DataTooLarge");
    assert!(
        large
            .message
            .contains("would be 10485761 B in 1 files; at most 10485760 B are kept"),
        "{}",
        large.message
    );
    // An action that goes on and on runs into a wall of its own; the journal is not on that file system.
    let text = "cat /dev/zero > $FARRIER_WORKFLOW_DIR/x";
    let full = failed(world.end_of(&shell("w/2", text)).await, "ExitCode");
    assert!(
        full.message.contains("No space left on device") && full.message.contains("at most 10485760 B"),
        "{}",
        full.message
    );
    let text = "ln -s /etc/passwd $FARRIER_WORKFLOW_DIR/passwd";
    let link = failed(world.end_of(&shell("w/3", text)).await, "DataNotRegular");
    assert!(
        link.message.contains("/workflow/passwd is a symbolic link"),
        "{}",
        link.message
    );
}

#[tokio::test]
async fn writefile_without_a_disk_writes_the_data() {
    let mut world = World::new().await;
    world
        .server
        .data()
        .versions
        .insert(1, vec![chunk("token", b"old", false)]);
    let file = |environment: &[(&str, &str)]| v1::RunAction {
        data_version: 1,
        ..action("w/x", "writefile", environment)
    };
    let run = v1::RunAction {
        attempt_id: "w/1".to_owned(),
        ..file(&[("DEST_PATH", "/workflow/a/token"), ("CONTENTS", "new")])
    };
    let done = succeeded(world.end_of(&run).await);
    assert_eq!(
        (done.message.as_str(), done.bytes),
        ("wrote 3 B to /workflow/a/token", 3)
    );
    let changes = done.data_changes.expect("changes");
    assert_eq!((changes.put.len(), changes.put[0].path.as_str()), (1, "a/token"));
    let run = v1::RunAction {
        attempt_id: "w/2".to_owned(),
        ..file(&[
            ("DEST_PATH", "/workflow/token"),
            ("CONTENTS", "old"),
            ("MODE", "0700"),
        ])
    };
    let changes = succeeded(world.end_of(&run).await).data_changes.expect("changes");
    assert!(changes.put[0].executable, "{changes:?}");
    for (n, path) in ["/etc/hosts", "/workflow", "/workflowx/y"].iter().enumerate() {
        let run = v1::RunAction {
            attempt_id: format!("w/3/{n}"),
            ..file(&[("DEST_PATH", path), ("CONTENTS", "x")])
        };
        let missing = failed(world.end_of(&run).await, "MissingVariable");
        assert!(missing.message.contains("DEST_DISK"), "{}", missing.message);
    }
}

#[tokio::test]
async fn a_stop_ends_a_command_in_its_own_time_or_by_force() {
    let mut world = World::new().await;
    // It tidies up and says that all is well: it was stopped nevertheless, and its data are not kept.
    let text = "trap 'echo tidied; exit 0' TERM; echo x > $FARRIER_WORKFLOW_DIR/x; echo ready; \
                while :; do sleep 0.05; done";
    world.stream.run(&shell("w/1", text)).await;
    world.stream.report().await;
    world.stream.line("ready").await;
    world.stream.stop("w/1").await;
    let stopped = world.stream.report().await.outcome;
    assert!(
        matches!(&stopped, Some(Outcome::Stopped(s)) if s.message.ends_with("was stopped: a test")),
        "{stopped:?}"
    );
    world.stream.line("tidied").await;
    // It will not end: after the grace it is made to.
    let text = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    world.stream.run(&shell("w/2", text)).await;
    world.stream.report().await;
    world.stream.lines.clear();
    world.stream.line("ready").await;
    world.stream.stop("w/2").await;
    let stopped = world.stream.report().await;
    assert!(
        matches!(stopped.outcome, Some(Outcome::Stopped(_))),
        "{stopped:?}"
    );
    // Asked again it says so again; one that never started is not started any more.
    world.stream.stop("w/2").await;
    assert_eq!(world.stream.report().await, stopped);
    world.stream.stop("w/3").await;
    let never = world.stream.report().await;
    assert!(
        matches!(&never.outcome, Some(Outcome::Stopped(s)) if s.message.starts_with("never started")),
        "{never:?}"
    );
    world.stream.run(&shell("w/3", "true")).await;
    assert_eq!(world.stream.report().await, never);
}

#[tokio::test]
async fn an_action_that_reboots_leaves_once_it_has_succeeded_and_cannot_give() {
    let mut world = World::new().await;
    world
        .server
        .data()
        .versions
        .insert(1, vec![chunk("firmware", b"1", false)]);
    let text = "cat $FARRIER_WORKFLOW_DIR/firmware; echo; test -z \"$FARRIER_OUTPUT\" && \
                ! touch $FARRIER_WORKFLOW_DIR/x && ! rm $FARRIER_WORKFLOW_DIR/firmware";
    let run = v1::RunAction {
        reboots: true,
        data_version: 1,
        ..shell("w/1", text)
    };
    let left = world.end_of(&run).await;
    assert!(
        matches!(&left, Outcome::Leaving(l) if l.how == "reboot"),
        "{left:?}"
    );
    assert_eq!(world.stream.lines.first().map(String::as_str), Some("0 1"));
}

#[tokio::test]
async fn a_stale_server_is_left_for_the_next() {
    let mut world = World::new().await;
    world.stream.close();
    let (stale, _) = world.server.accept().await;
    stale.welcome_of(4).await;
    stale.run(&shell("w/1", "true")).await;
    // The stale one keeps its end open.
    let (stream, hello) = world.server.accept().await;
    assert_eq!((hello.last_epoch, hello.journal.len()), (5, 0));
    stream.welcome_of(6).await;
    world.stream = stream;
    world.stream.run(&shell("w/1", "true")).await;
    let started = world.stream.report().await;
    assert_eq!((started.sequence, started.epoch), (1, 6));
    let ended = world.stream.report().await;
    assert!(matches!(ended.outcome, Some(Outcome::Succeeded(_))), "{ended:?}");
}

#[tokio::test]
async fn secrets_leave_the_machine_in_nothing_that_an_action_says() {
    const SECRET: &str = "correct \"horse\" battery";
    let mut world = World::new().await;
    let with = |id: &str, text: &str| {
        let mut run = shell(id, text);
        run.environment.insert("PW".to_owned(), SECRET.to_owned());
        run.secrets = vec![SECRET.to_owned()];
        run
    };
    let text = r#"
        echo "it is $PW"
        printf %s "$PW" | head -c 9; sleep 0.2; printf %s "$PW" | tail -c +10; echo
        head -c 16380 /dev/zero | tr '\0' y; printf %s "$PW" | head -c 9; sleep 0.2; printf %s "$PW" | tail -c +10; echo
        printf '{"said": "correct \\"horse\\" b\\u0061ttery"}' > $FARRIER_OUTPUT
        echo "$PW"
    "#;
    let done = succeeded(world.end_of(&with("w/1", text)).await);
    assert_eq!(
        (done.message.as_str(), done.outputs_json.as_str()),
        ("***", r#"{"said":"***"}"#)
    );
    let lines = std::mem::take(&mut world.stream.lines);
    assert_eq!(lines[..2], ["0 it is ***", "1 ***"]);
    assert!(
        lines[2].starts_with("2 yyyy") && lines.len() >= 4,
        "{}",
        lines.len()
    );
    for part in ["horse", "correct", "battery"] {
        lines_have_no(&lines, part);
    }
    let text =
        r#"echo '{"reason": "Bad", "message": "no correct \"horse\" battery"}' > $FARRIER_OUTPUT; exit 3"#;
    let why = failed(world.end_of(&with("w/2", text)).await, "Bad");
    assert_eq!(why.message, "no ***");
    let why = failed(world.end_of(&with("w/3", "echo $PW; exit 3")).await, "ExitCode");
    assert!(why.message.ends_with("its last lines:\n***"), "{}", why.message);
    let mut run = action("w/4", "image2disk", &[("IMG_URL", SECRET), ("DEST_DISK", SECRET)]);
    run.secrets = vec![SECRET.to_owned()];
    let Outcome::Failed(why) = world.end_of(&run).await else {
        panic!("an image was written")
    };
    lines_have_no(&world.stream.lines, "horse");
    assert!(
        why.message.contains("***") && !why.message.contains("horse"),
        "{}",
        why.message
    );
    let stderr = std::fs::read_to_string(world.folder.path().join("stderr")).expect("stderr");
    assert!(
        stderr.contains("it is ***") && !stderr.contains("horse"),
        "{stderr}"
    );
}

#[track_caller]
fn lines_have_no(lines: &[String], word: &str) {
    let told = lines.iter().find(|line| line.contains(word));
    assert_eq!(told, None);
}
