//! Actions that are images, by the real agent as a process and a containerd of Debian's. As root.
#![allow(dead_code, reason = "what other tests have of their own is not used here")]

mod debian;
mod fake;
#[path = "../../containerd/tests/runtime/machine.rs"]
mod machine;
#[path = "../../containerd/tests/runtime/registry.rs"]
mod registry;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use debian::Registry;
use fake::{Agent, FakeServer, Stream};
use machine::Machine;
use proto::v1::report::Outcome;
use proto::v1::{self, RunAction};
// What is shared with the tests of `containerd` uses it.
use rustix as _;

struct World {
    folder: tempfile::TempDir,
    machine: Machine,
    image: String,
}

impl World {
    fn new() -> World {
        let folder = tempfile::Builder::new()
            .prefix("runtime.")
            .tempdir()
            .expect("folder");
        let layer = folder.path().join("layer");
        for inner in ["bin", "etc"] {
            fs::create_dir_all(layer.join(inner)).expect("layer");
        }
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("Debian's busybox-static");
        for applet in ["sh", "cat", "id", "sleep", "touch", "tr", "grep"] {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).expect(applet);
        }
        fs::write(layer.join("etc/passwd"), "web:x:33:34::/srv:/bin/sh\n").expect("passwd");
        let machine = Machine::start();
        let image = registry::push(
            &machine,
            &container::Image {
                layers: vec![layer],
                ..container::Image::default()
            },
        );
        fs::create_dir(folder.path().join("state")).expect("state");
        World {
            folder,
            machine,
            image,
        }
    }

    async fn attached(&self, more: &[&str]) -> (FakeServer, Stream, Agent) {
        let mut server = FakeServer::start().await;
        let socket = self.machine.socket();
        let mut arguments = vec!["--containerd-address", socket.to_str().expect("path")];
        arguments.extend(more);
        let agent = Agent::start_with(&server, &self.state(), &arguments);
        let (stream, _) = server.accept().await;
        stream.welcome_of(5).await;
        (server, stream, agent)
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn action(&self, attempt_id: &str, script: &str) -> RunAction {
        RunAction {
            attempt_id: attempt_id.to_owned(),
            workflow_id: "w".to_owned(),
            action: "a".to_owned(),
            image: self.image.clone(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            ..RunAction::default()
        }
    }

    /// What there is in the agent's namespace.
    fn ctr(&self, words: &str) -> String {
        let ran = Command::new("ctr")
            .arg("-a")
            .arg(self.machine.socket())
            .args(["-n", containerd::NAMESPACE])
            .args(words.split(' '))
            .output()
            .expect("ctr");
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stdout).expect("text")
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert_eq!(self.ctr("tasks ls -q") + &self.ctr("containers ls -q"), "");
        let snapshots = self.ctr("snapshots ls");
        assert!(!snapshots.contains("Active"), "{snapshots}");
        let mounts = fs::read_dir(self.state().join("mounts"))
            .into_iter()
            .flatten()
            .flatten();
        assert_eq!(
            mounts.map(|entry| entry.path()).collect::<Vec<_>>(),
            Vec::<PathBuf>::new()
        );
        let mounted = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let state = self.machine.socket().with_file_name("state");
        assert!(!mounted.contains(state.to_str().expect("path")), "{mounted}");
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
fn failed(outcome: Outcome) -> v1::Failed {
    match outcome {
        Outcome::Failed(failed) => failed,
        other => panic!("no failure: {other:?}"),
    }
}

/// Of whoever is process 1 of the action: its parent, by its name.
const BY_CONTAINERD: &str = "grep -q containerd-shim /proc/$PPID/cmdline && echo shim || echo keeper";

#[tokio::test]
async fn who_runs_an_action_is_what_its_template_says_or_the_agent_was_told() {
    let world = World::new();
    for (told, said, want) in [
        (&[][..], "", "keeper"),
        (&[][..], "containerd", "shim"),
        (&["--runtime", "containerd"][..], "", "shim"),
        (&["--runtime", "containerd"][..], "namespaces", "keeper"),
    ] {
        let (_server, mut stream, _agent) = world.attached(told).await;
        let action = RunAction {
            pid: "host".to_owned(),
            runtime: said.to_owned(),
            ..world.action("w/1", BY_CONTAINERD)
        };
        let done = succeeded(stream.end_of(&action).await);
        assert_eq!(done.message, want, "{told:?} {said:?}: {:?}", stream.lines);
        drop((stream, _agent, _server));
        fs::remove_dir_all(world.state()).expect("state");
        fs::create_dir(world.state()).expect("state");
    }
}

#[tokio::test]
async fn it_is_given_what_every_action_is_and_leaves_nothing() {
    let world = World::new();
    let (_server, mut stream, _agent) = world.attached(&["--runtime", "containerd"]).await;
    let action = RunAction {
        input_json: r#"{"disk": "/dev/vda"}"#.to_owned(),
        ..world.action(
            "w/1",
            "cat $FARRIER_INPUT; echo; echo oops >&2; echo data >/workflow/file; echo '{\"uid\": 0}' >$FARRIER_OUTPUT; tr -d '\\n' </proc/cmdline; printf end",
        )
    };
    let done = succeeded(stream.end_of(&action).await);
    assert_eq!(done.outputs_json, "{\"uid\": 0}\n");
    assert_eq!(done.data_changes.expect("changes").put[0].path, "file");
    for line in [r#"{"disk": "/dev/vda"}"#, "oops", "end"] {
        assert!(
            stream.lines.iter().any(|told| told.ends_with(line)),
            "{line}: {:?}",
            stream.lines
        );
    }
    let told = failed(stream.end_of(&world.action("w/2", "echo so; exit 3")).await);
    assert_eq!((told.reason.as_str(), told.exit_code), ("ExitCode", 3));
    assert_eq!(
        told.message,
        "the command exited with code 3; its last lines:\nso"
    );
    let missing = RunAction {
        command: vec!["/bin/none".to_owned()],
        ..world.action("w/3", "")
    };
    let told = failed(stream.end_of(&missing).await);
    assert_eq!((told.reason.as_str(), told.exit_code), ("StartFailed", 127));
    assert!(
        told.message.contains("/bin/none was not found in the image"),
        "{}",
        told.message
    );
    let none = RunAction {
        image: world.image.replace("suite/box", "suite/none"),
        ..world.action("w/4", "")
    };
    assert_eq!(failed(stream.end_of(&none).await).reason, "NoSuchImage");
    let limited = RunAction {
        resources: Some(v1::Resources {
            memory_bytes: 64 << 20,
            ..v1::Resources::default()
        }),
        ..world.action("w/5", "echo within")
    };
    // As where the agent runs it by itself: by what this machine's cgroups are.
    match stream.end_of(&limited).await {
        Outcome::Failed(failed) => assert_eq!(failed.reason, "NoLimits", "{failed:?}"),
        other => assert_eq!(succeeded(other).message, "within"),
    }
    world.assert_nothing_left();
}

#[tokio::test]
async fn one_that_does_not_hear_is_stopped_when_its_grace_is_over() {
    let world = World::new();
    let (_server, mut stream, _agent) = world.attached(&["--runtime", "containerd"]).await;
    let script = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    let action = RunAction {
        timeout_s: 1,
        ..world.action(
            "w/1",
            "trap 'echo tidied; exit 0' TERM; while :; do sleep 0.02; done",
        )
    };
    let late = stream.end_of(&action).await;
    assert!(matches!(&late, Outcome::TimedOut(_)), "{late:?}");
    assert!(
        stream.lines.iter().any(|line| line.ends_with("tidied")),
        "{:?}",
        stream.lines
    );
    stream.run(&world.action("w/2", script)).await;
    stream.line("ready").await;
    stream.stop("w/2").await;
    let mut reports = Vec::new();
    while !matches!(reports.last(), Some(Some(Outcome::Stopped(_)))) {
        reports.push(stream.report().await.outcome);
        assert!(reports.len() < 3, "{reports:?}");
    }
    world.assert_nothing_left();
}

#[tokio::test]
async fn what_a_killed_agent_left_running_is_ended_by_the_next() {
    let world = World::new();
    let marker = format!("{}.3", 600_000 + std::process::id());
    let (server, mut stream, agent) = world.attached(&["--runtime", "containerd"]).await;
    stream
        .run(&world.action("w/1", &format!("echo ready; sleep {marker}")))
        .await;
    stream.line("ready").await;
    drop((stream, agent, server));
    assert_ne!(world.ctr("tasks ls -q"), "", "it runs on");
    let (_server, mut stream, _agent) = world.attached(&["--runtime", "containerd"]).await;
    assert_eq!(
        succeeded(stream.end_of(&world.action("w/2", "echo next")).await).message,
        "next"
    );
    world.assert_nothing_left();
}

#[tokio::test]
async fn a_machine_without_containerd_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let mut server = FakeServer::start().await;
    let agent = Agent::start_with(
        &server,
        folder.path(),
        &["--containerd-address", "/nonexistent/c.sock"],
    );
    let (mut stream, _) = server.accept().await;
    stream.welcome_of(5).await;
    let action = RunAction {
        attempt_id: "w/1".to_owned(),
        workflow_id: "w".to_owned(),
        image: "127.0.0.1:1/none".to_owned(),
        runtime: "containerd".to_owned(),
        ..RunAction::default()
    };
    let told = failed(stream.end_of(&action).await);
    assert_eq!(told.reason, "ContainerdAway");
    assert!(
        told.message.contains("containerd at /nonexistent/c.sock is away")
            && told.message.contains("--containerd-address"),
        "{}",
        told.message
    );
    drop(agent);
}

/// What containerd writes down of an image that was pulled with a login, and of its action. The agent's memory is looked through in
/// `logins.rs`: whoever runs actions, the pull is the same.
#[tokio::test]
async fn containerd_keeps_nothing_of_a_login() {
    let world = World::new();
    let (server, mut stream, _agent) = world.attached(&["--runtime", "containerd"]).await;
    let folder = tempfile::Builder::new()
        .prefix("runtime.")
        .tempdir()
        .expect("folder");
    let registry = Registry::with_login(folder.path());
    registry.push_image_of("");
    server.data().pull_settings = v1::PullSettings {
        user: debian::USER.to_owned(),
        password: debian::password(),
        ..v1::PullSettings::default()
    };
    let action = RunAction {
        image: format!("{}/tools/box:v1", registry.host),
        command: vec!["echo started; sleep 600".to_owned()],
        pid: "host".to_owned(),
        has_pull_settings: true,
        ..world.action("w/1", "")
    };
    stream.run(&action).await;
    stream.line("started").await;
    let kept = world.machine.socket();
    let kept = kept.parent().expect("containerd's folder");
    let finds = |text: &str| {
        let mut look = Command::new("grep");
        look.args(["-r", "-a", "-q", "-F", "-e", text]).arg(kept);
        let looked = look.stderr(std::process::Stdio::null()).status().expect("grep");
        looked.success()
    };
    assert!(
        finds("tools/box:v1"),
        "it has the image, and so there is something to look through"
    );
    for secret in [debian::password(), "YWxpOm9wZW4gc2VzYW1l".to_owned()] {
        assert!(!finds(&secret), "containerd has {secret:?}");
    }
    // It ends here: without its agent it would run on.
    stream.stop("w/1").await;
    let ended = stream.report().await.outcome.expect("an outcome");
    assert!(matches!(ended, Outcome::Stopped(_)), "{ended:?}");
    world.assert_nothing_left();
}
