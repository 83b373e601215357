//! `/workflow/<workflow id>` beside `/workflow`: one folder under two names, and no part of the data. By the real agent.

mod fake;

use ephemeral::Digest;
use fake::{Agent, FakeServer, Stream, action, shell};
use proto::v1::report::Outcome;
use proto::v1::{self, DataChunk, DataFile};

const ID: &str = "0199c0de-7a11-7b22-8c33-0242ac120002";

struct World {
    server: FakeServer,
    stream: Stream,
    _folder: tempfile::TempDir,
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
            _folder: folder,
            _agent: agent,
        }
    }

    /// What the command comes to; `$own` is the second name.
    async fn end_of(&mut self, n: u32, text: &str) -> Outcome {
        let text = format!("own=$FARRIER_WORKFLOW_DIR/{ID}; {text}");
        self.end(of(ID, shell(&format!("{ID}/{n}"), &text))).await
    }

    async fn end(&mut self, run: v1::RunAction) -> Outcome {
        self.stream.end_of(&run).await
    }
}

fn of(workflow_id: &str, run: v1::RunAction) -> v1::RunAction {
    v1::RunAction {
        workflow_id: workflow_id.to_owned(),
        ..run
    }
}

/// The files that came into the report, with their contents.
#[track_caller]
fn put(outcome: Outcome) -> Vec<(String, String)> {
    let Outcome::Succeeded(done) = outcome else {
        panic!("no success: {outcome:?}")
    };
    let put = done.data_changes.map(|changes| changes.put).unwrap_or_default();
    put.into_iter()
        .map(|file| (file.path, String::from_utf8_lossy(&file.content).into_owned()))
        .collect()
}

fn file(path: &str, content: &str) -> (String, String) {
    (path.to_owned(), content.to_owned())
}

#[track_caller]
fn failed(outcome: Outcome, reason: &str) -> String {
    match outcome {
        Outcome::Failed(failed) if failed.reason == reason => failed.message,
        other => panic!("no {reason}: {other:?}"),
    }
}

#[tokio::test]
async fn a_file_has_two_names_and_is_handed_over_once() {
    let mut world = World::new().await;
    let text = "test -d $own && echo 1 > $own/a && echo 2 >> $FARRIER_WORKFLOW_DIR/a && mkdir $own/b && echo 3 > $own/b/c && \
                test \"$(cat $own/a $FARRIER_WORKFLOW_DIR/b/c | tr -d '\\n')\" = 123 && \
                test $(find $FARRIER_WORKFLOW_DIR -type f | wc -l) = 2";
    let given = put(world.end_of(1, text).await);
    assert_eq!(given, [file("a", "1\n2\n"), file("b/c", "3\n")]);
    // `writefile` takes it, too, and a folder on the way is made in the data.
    let write = action(
        "w/2",
        "writefile",
        &[
            ("DEST_PATH", &format!("/workflow/{ID}/d/token")),
            ("CONTENTS", "abc"),
        ],
    );
    assert_eq!(put(world.end(of(ID, write)).await), [file("d/token", "abc")]);
    // One that only looks has changed nothing, and one that clears all meets no error.
    assert_eq!(put(world.end_of(3, "ls $own/").await), []);
    assert_eq!(put(world.end_of(4, "rm -rf $FARRIER_WORKFLOW_DIR/*").await), []);
    // Where the machine reboots after it, it is read-only under both names.
    let mut run = shell("w/5", &format!("! touch $FARRIER_WORKFLOW_DIR/{ID}/x"));
    run.reboots = true;
    let left = world.end(of(ID, run)).await;
    assert!(matches!(left, Outcome::Leaving(_)), "{left:?}");
}

#[tokio::test]
async fn what_an_action_makes_in_its_place_is_refused_and_never_followed() {
    let mut world = World::new().await;
    let makes = [
        "rm $own && echo mine > $own",
        "rm $own && mkdir $own && echo mine > $own/x",
        "rm $own && ln -s /etc $own",
        "rm $own && ln -s .. $own",
        "rm $own && mkfifo $own",
    ];
    for (n, text) in (1..).zip(makes) {
        let why = failed(world.end_of(n, text).await, "DataBadName");
        assert!(
            why.contains(&format!("/workflow/{ID}")) && why.contains("another name"),
            "{text}: {why}"
        );
    }
    // A link of another name is what it always was.
    let why = failed(
        world.end_of(9, "ln -s . $FARRIER_WORKFLOW_DIR/other").await,
        "DataNotRegular",
    );
    assert!(why.contains("/workflow/other is a symbolic link"), "{why}");
    // `writefile` makes no file of that name.
    let write = action(
        "w/10",
        "writefile",
        &[("DEST_PATH", &format!("/workflow/{ID}")), ("CONTENTS", "x")],
    );
    failed(world.end(of(ID, write)).await, "WriteFailed");
}

#[tokio::test]
async fn what_is_mounted_there_is_no_part_of_the_data() {
    let mut world = World::new().await;
    // Over the link, and so over the folder; then one within.
    let text = "cd $FARRIER_WORKFLOW_DIR && echo 1 > $own/a && mount -t tmpfs none $own && test ! -e $own && \
                cd $FARRIER_WORKFLOW_DIR && echo hidden > b && mkdir c && mount -t tmpfs none c && echo deeper > c/d";
    assert_eq!(put(world.end_of(1, text).await), [file("a", "1\n")]);
    let text = "rm $own && mkdir $own && mount -t tmpfs none $own && echo hidden > $own/b";
    failed(world.end_of(2, text).await, "DataBadName");
    // Nothing of it is left for the next.
    assert_eq!(
        put(world.end_of(3, "test ! -e $own/b && test ! -e $own/c").await),
        []
    );
}

#[tokio::test]
async fn data_of_that_name_go_before_it() {
    let mut world = World::new().await;
    let content = b"theirs";
    let chunk = DataChunk {
        file: Some(DataFile {
            path: format!("{ID}/x"),
            size_bytes: content.len() as u64,
            sha256: Digest::of(content).to_string(),
            executable: false,
            content: Vec::new(),
        }),
        content: content.to_vec(),
    };
    world.server.data().versions.insert(1, vec![chunk]);
    let text = format!(
        "test $(cat $FARRIER_WORKFLOW_DIR/{ID}/x) = theirs && echo mine > $FARRIER_WORKFLOW_DIR/{ID}/y"
    );
    let run = v1::RunAction {
        data_version: 1,
        ..of(ID, shell("w/1", &text))
    };
    assert_eq!(put(world.end(run).await), [file(&format!("{ID}/y"), "mine\n")]);
}

#[tokio::test]
async fn an_id_that_is_no_name_makes_no_file_anywhere() {
    let mut world = World::new().await;
    for (n, id) in ["..", "../x", "/etc/x", "a/b", "."].into_iter().enumerate() {
        let why = failed(
            world.end(of(id, shell(&format!("w/{n}"), "true"))).await,
            "DataBadName",
        );
        assert!(why.contains("is no name of a file"), "{id}: {why}");
    }
    // A server that says none has no second name.
    let text = "test -z \"$(ls -A $FARRIER_WORKFLOW_DIR)\"";
    assert_eq!(put(world.end(of("", shell("w/9", text))).await), []);
}
