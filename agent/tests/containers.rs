//! Actions that are images, run by the agent's own code and binary with images that lie here. As root.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use farrier_agent::actions::{
    self, Feed, Halt, Held, Images, NoImage, Place, Runtime, Runtimes, Surroundings, Told,
};
use farrier_agent::cmdline::RegistryParameters;
use farrier_agent::data::DataServer;
use farrier_agent::setting::Setting;
use farrier_agent::tools::Tools;
use nix::sched::{CloneFlags, setns, unshare};
use proto::v1::report::Outcome;
use proto::v1::{self, RunAction};
use redaction::Secrets;
use tokio::sync::mpsc;

/// Images of one layer with busybox.
struct Busybox {
    layer: PathBuf,
    user: String,
}

#[tonic::async_trait]
impl Images for Busybox {
    async fn image(&self, action: &RunAction, _: &DataServer, _: &Feed, _: &Halt) -> Result<Held, NoImage> {
        let reference = action.image.as_str();
        if reference != "busybox" {
            return Err(NoImage {
                reason: "NoSuchImage".to_owned(),
                message: format!("there is no image {reference}"),
            });
        }
        let image = container::Image {
            layers: vec![self.layer.clone()],
            entrypoint: ["/bin/busybox", "sh", "-c"].map(str::to_owned).to_vec(),
            user: self.user.clone(),
            ..container::Image::default()
        };
        Ok(Held {
            image,
            by: Runtime::Namespaces { keeps: Box::new(()) },
        })
    }
}

struct World {
    folder: tempfile::TempDir,
    user: String,
    halt: Halt,
}

/// What an action told and how it ended.
struct Ran {
    lines: Vec<String>,
    outcome: Outcome,
}

impl World {
    fn new() -> World {
        let folder = tempfile::Builder::new()
            .prefix("runtime.")
            .tempdir()
            .expect("folder");
        let bin = folder.path().join("layer/bin");
        fs::create_dir_all(&bin).expect("layer");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("Debian's busybox-static");
        let list = Command::new("/bin/busybox")
            .arg("--list")
            .output()
            .expect("applets")
            .stdout;
        for applet in String::from_utf8(list)
            .expect("applets")
            .lines()
            .filter(|name| *name != "busybox")
        {
            symlink("busybox", bin.join(applet)).expect(applet);
        }
        World {
            folder,
            user: String::new(),
            halt: Halt::default(),
        }
    }

    fn place(&self) -> Place {
        Place {
            setting: Setting::Host,
            mounts: self.folder.path().join("mounts"),
            data: DataServer::default(),
            surroundings: Surroundings::default(),
            registries: RegistryParameters::default(),
            runtimes: Runtimes {
                namespaces: Some(Arc::new(Busybox {
                    layer: self.folder.path().join("layer"),
                    user: self.user.clone(),
                })),
                ..Runtimes::default()
            },
            tools: Tools::default(),
            own: env!("CARGO_BIN_EXE_farrier-agent").into(),
            last: actions::Last::default(),
        }
    }

    async fn run(&self, action: RunAction) -> Ran {
        let (sender, mut told) = mpsc::channel(64);
        let feed = Feed::new(
            action.attempt_id.clone(),
            sender,
            Arc::new(Secrets::new(["hunter22"])),
        );
        let lines = tokio::spawn(async move {
            let mut lines = Vec::new();
            while let Some(told) = told.recv().await {
                if let Told::Line(line) = told {
                    lines.push(line);
                }
            }
            lines
        });
        let ran = actions::run(Arc::new(action), self.place(), feed, self.halt.clone());
        let outcome = tokio::time::timeout(Duration::from_secs(60), ran)
            .await
            .expect("it ends");
        Ran {
            lines: lines.await.expect("lines"),
            outcome,
        }
    }
}

impl Drop for World {
    /// Whatever happened: nothing of an attempt is left.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(
            !mounts.contains(self.folder.path().to_str().expect("path")),
            "{mounts}"
        );
        let left: Vec<_> = fs::read_dir(self.folder.path().join("mounts"))
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn script(text: &str) -> RunAction {
    RunAction {
        attempt_id: "w/0/0/1".to_owned(),
        workflow_id: "w".to_owned(),
        workflow_name: "install".to_owned(),
        action: "a".to_owned(),
        image: "busybox".to_owned(),
        command: vec![text.to_owned()],
        ..RunAction::default()
    }
}

#[track_caller]
fn succeeded(ran: Ran) -> (v1::Succeeded, Vec<String>) {
    match ran.outcome {
        Outcome::Succeeded(succeeded) => (succeeded, ran.lines),
        other => panic!("no success: {other:?}; it printed {:?}", ran.lines),
    }
}

#[track_caller]
fn failed(ran: Ran) -> v1::Failed {
    match ran.outcome {
        Outcome::Failed(failed) => failed,
        other => panic!("no failure: {other:?}; it printed {:?}", ran.lines),
    }
}

#[tokio::test]
async fn lines_of_both_streams_come_in_order_and_hide_secrets() {
    let (done, lines) = succeeded(
        World::new()
            .run(script("echo 1; echo 2 >&2; echo say hunter22; printf end"))
            .await,
    );
    assert_eq!(lines, ["1", "2", "say ***", "end"]);
    assert_eq!(done.message, "end");
}

#[tokio::test]
async fn it_is_given_its_input_and_its_data_and_gives_outputs_and_data() {
    for user in ["", "4711:4712"] {
        let mut world = World::new();
        world.user = user.to_owned();
        let action = RunAction {
            input_json: r#"{"disk": "/dev/vda"}"#.to_owned(),
            environment: HashMap::from([("NAME".to_owned(), "value".to_owned())]),
            labels: HashMap::from([("rack".to_owned(), "r7".to_owned())]),
            ..script(
                "echo $NAME $FARRIER_LABELS; cat $FARRIER_INPUT; echo; mkdir $FARRIER_WORKFLOW_DIR/d; echo data > /workflow/d/file; \
                 echo '{\"uid\": '$(id -u)'}' > $FARRIER_OUTPUT; grep -o '\"attempt\":\"[^\"]*\"' $FARRIER_METADATA",
            )
        };
        let (done, lines) = succeeded(world.run(action).await);
        assert_eq!(
            lines,
            [
                "value rack=r7",
                r#"{"disk": "/dev/vda"}"#,
                r#""attempt":"w/0/0/1""#
            ]
        );
        let uid = if user.is_empty() { 0 } else { 4711 };
        assert_eq!(done.outputs_json, format!("{{\"uid\": {uid}}}\n"));
        let put = done.data_changes.expect("changes").put;
        assert_eq!(
            put.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
            ["d/file"]
        );
    }
}

#[tokio::test]
async fn how_it_fails_is_told() {
    let world = World::new();
    let told = failed(world.run(script("echo so; exit 3")).await);
    assert_eq!((told.reason.as_str(), told.exit_code), ("ExitCode", 3));
    assert_eq!(
        told.message,
        "the command exited with code 3; its last lines:\nso"
    );
    let own = r#"echo '{"reason": "NoLicence", "message": "buy one"}' > $FARRIER_OUTPUT; exit 4"#;
    let told = failed(world.run(script(own)).await);
    assert_eq!(
        (told.reason.as_str(), told.message.as_str(), told.exit_code),
        ("NoLicence", "buy one", 4)
    );
    let told = failed(
        world
            .run(RunAction {
                image: "none".to_owned(),
                ..script("x")
            })
            .await,
    );
    assert_eq!(
        (told.reason.as_str(), told.message.as_str()),
        ("NoSuchImage", "there is no image none")
    );
    let named = RunAction {
        volumes: vec!["data:/data".to_owned()],
        ..script("x")
    };
    let told = failed(world.run(named).await);
    assert!(
        told.reason == "BadAction" && told.message.contains("no named volumes"),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_containerd_is_to_run_is_refused_where_there_is_none() {
    let mut action = script("true");
    action.runtime = "containerd".to_owned();
    let failed = failed(World::new().run(action).await);
    assert_eq!(failed.reason, "ContainerdAway");
    assert!(
        failed
            .message
            .contains("farrier image build --profile containerd"),
        "{}",
        failed.message
    );
}

/// A machine in a network of its own, and beside it one that is outside: there every address is that of the machine's card.
struct Networks {
    outside: File,
}

impl Networks {
    /// This thread's, and those of threads that it starts, is the machine's from here on.
    fn take() -> Networks {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network");
        let outside = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network");
            File::open("/proc/thread-self/ns/net").expect("it")
        });
        let networks = Networks {
            outside: outside.join().expect("a thread"),
        };
        let outside = format!("/proc/{}/fd/{}", std::process::id(), networks.outside.as_raw_fd());
        ip(&format!("link add card type veth peer name far netns {outside}"));
        ip("addr add 198.51.100.2/24 dev card");
        ip("link set card up");
        ip("link set lo up");
        networks.outside(|| {
            ip("addr add 198.51.100.1/24 dev far");
            ip("link set far up");
        });
        networks
    }

    fn outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(&self.outside, CloneFlags::CLONE_NEWNET).expect("outside");
                work()
            });
            there.join().expect("a thread")
        })
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("ip");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// A thread of its own, as its network is another one.
#[test]
fn a_network_of_its_own_reaches_out_as_the_machine_and_leaves_nothing() {
    let tested = std::thread::spawn(|| {
        let networks = Networks::take();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(reaches_out(&networks));
    });
    tested.join().expect("a test that passes");
}

async fn reaches_out(networks: &Networks) {
    let world = World::new();
    let server = networks.outside(|| TcpListener::bind("198.51.100.1:80").expect("port 80"));
    let served = std::thread::spawn(move || {
        let (mut stream, from) = server.accept().expect("somebody");
        let mut asked = [0; 64];
        let _ = stream.read(&mut asked).expect("a request");
        stream
            .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
            .expect("an answer");
        from.ip()
    });
    let links = ip("-o link");
    let forwards = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("forwarding");
    assert_eq!(forwards(), "0\n");
    let bridge = |text: &str| RunAction {
        network: "bridge".to_owned(),
        ..script(text)
    };
    let asks = "ls /sys/class/net | tr '\\n' ' '; ip -o -4 addr show eth0 | cut -d ' ' -f 7; wget -q -O - http://198.51.100.1/";
    let (done, lines) = succeeded(world.run(bridge(asks)).await);
    assert_eq!(done.message, "hello", "{lines:?}");
    assert_eq!(
        lines[..2],
        ["eth0 lo 172.31.255.254/30".to_owned(), "hello".to_owned()]
    );
    assert_eq!(served.join().expect("a server").to_string(), "198.51.100.2");
    let nothing_is_left = || {
        assert_eq!(ip("-o link"), links);
        assert_eq!(forwards(), "0\n");
        let tables = Command::new("nft")
            .args(["list", "tables"])
            .output()
            .expect("nft");
        assert_eq!(String::from_utf8_lossy(&tables.stdout), "", "{tables:?}");
    };
    nothing_is_left();
    // A process that outlives the action holds on to nothing.
    let stays = bridge("setsid sleep 60 >/dev/null 2>&1 & exit 3");
    assert_eq!(failed(world.run(stays).await).exit_code, 3);
    nothing_is_left();
    // Every network that it might have is somebody's already.
    ip("route add 172.16.0.0/12 via 198.51.100.1");
    ip("route add 10.0.0.0/8 via 198.51.100.1");
    ip("route add 192.168.0.0/16 via 198.51.100.1");
    ip("route add 100.64.0.0/10 via 198.51.100.1");
    let refused = failed(world.run(bridge("true")).await);
    assert_eq!(refused.reason, "NoNetwork");
    assert!(
        refused.message.contains("172.31.255.252/30"),
        "{}",
        refused.message
    );
    nothing_is_left();
}

#[tokio::test]
async fn who_may_have_touched_a_disk_is_told() {
    let world = World::new();
    let confined = RunAction {
        confined: true,
        ..script("exit 1")
    };
    assert!(failed(world.run(confined.clone()).await).disks_untouched);
    assert!(!failed(world.run(script("exit 1")).await).disks_untouched);
    let volume = RunAction {
        volumes: vec![format!("{}:/v", world.folder.path().display())],
        ..confined
    };
    assert!(!failed(world.run(volume).await).disks_untouched);
}

#[tokio::test]
async fn one_that_does_not_hear_is_stopped_when_its_grace_is_over() {
    let marker = format!("{}.77", 300_000 + std::process::id());
    let world = World::new();
    let ready = world.folder.path().join("ready");
    let action = RunAction {
        volumes: vec![format!("{}:/v", world.folder.path().display())],
        ..script(&format!(
            "trap '' TERM INT QUIT; (setsid sleep {marker} >/dev/null 2>&1 &); touch /v/ready; while :; do sleep 0.01; done"
        ))
    };
    let halt = world.halt.clone();
    let (ran, ()) = tokio::join!(world.run(action), async move {
        while !ready.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        halt.ask(Duration::ZERO, "cancelled");
    });
    assert!(
        matches!(&ran.outcome, Outcome::Stopped(stopped) if stopped.message.contains("cancelled")),
        "{:?}",
        ran.outcome
    );
    let left = fs::read_dir("/proc").expect("proc").flatten().filter(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&marker)
    });
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn one_that_is_asked_ends_by_itself() {
    let world = World::new();
    let ready = world.folder.path().join("ready");
    let action = RunAction {
        volumes: vec![format!("{}:/v", world.folder.path().display())],
        ..script("trap 'echo tidied; exit 0' TERM; touch /v/ready; while :; do sleep 0.01; done")
    };
    let halt = world.halt.clone();
    let (ran, ()) = tokio::join!(world.run(action), async move {
        while !ready.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        halt.ask(Duration::from_secs(3600), "cancelled");
    });
    assert_eq!(ran.lines, ["tidied"]);
}

#[tokio::test]
async fn what_a_worker_that_was_killed_left_is_cleared() {
    let world = World::new();
    let mounts = world.folder.path().join("mounts");
    let name = format!("container-test-{}", std::process::id());
    fs::create_dir_all(mounts.join(&name)).expect("folder");
    fs::write(mounts.join(format!("{name}.status")), "").expect("status");
    let group = container::Group::make(&name, &container::group::Limits::default()).expect("group");
    let path = group.as_ref().map(|group| group.path().to_owned());
    // As one that nobody drops.
    std::mem::forget(group);
    actions::clear_mounts(&mounts);
    assert_eq!(fs::read_dir(&mounts).expect("mounts").count(), 0);
    assert!(!path.is_some_and(|path| Path::new(&path).exists()));
}
