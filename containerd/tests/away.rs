//! A containerd that is away, comes back, is full; and what an agent that was killed has left. As root.
#![allow(dead_code, reason = "what the suite has of its own is not used here")]

#[path = "runtime/machine.rs"]
mod machine;
#[path = "runtime/registry.rs"]
mod registry;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use container::{Ended, Place, Plan, Request, plan};
use containerd::{Containerd, Error, Image, Output, Task};
use machine::Machine;
use oci::Pull;
use oci::registry::{Progress, PullError, Registries};
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

const WITHIN: Duration = Duration::from_secs(60);

/// A folder with busybox as a layer, and what its actions are given.
struct World {
    folder: tempfile::TempDir,
    image: container::Image,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("folder");
        let layer = folder.path().join("layer");
        fs::create_dir_all(layer.join("bin")).expect("layer");
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("Debian's busybox-static");
        let image = container::Image {
            layers: vec![layer],
            entrypoint: ["/bin/busybox", "sh", "-c"].map(str::to_owned).to_vec(),
            ..container::Image::default()
        };
        World { folder, image }
    }

    fn plan(&self, script: &str) -> Plan {
        let root = self.folder.path().join("root");
        fs::create_dir_all(&root).expect("folder");
        let request = Request {
            command: vec![script.to_owned()],
            volumes: vec![format!("{}:/v", self.folder.path().display())],
            ..Request::default()
        };
        let place = Place {
            folder: root,
            hostname: "m".to_owned(),
            ..Place::default()
        };
        plan(&self.image, &request, &place).expect("plan")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Whichever containerd asks for it, runc knows containers of the whole machine by their names.
fn id(name: &str) -> String {
    format!("away-{}-{name}", std::process::id())
}

async fn pulled(containerd: &Containerd, reference: &str) -> Result<(Image, Progress), PullError> {
    let progress = Progress::default();
    let reference = reference.parse().expect("reference");
    let image = Pull::default()
        .run(containerd, &reference, &Registries::default(), &progress)
        .await?;
    Ok((image, progress))
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = timeout(WITHIN, async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not come"));
}

async fn printed(output: &mut Output) -> String {
    let mut text = String::new();
    let read = timeout(WITHIN, output.stdout.read_to_string(&mut text)).await;
    read.expect("its output ends").expect("read");
    text
}

async fn code(task: &Task) -> i32 {
    match timeout(WITHIN, task.wait())
        .await
        .expect("it ends")
        .expect("told")
    {
        Some(Ended::Exited { code }) => code,
        other => panic!("it did not end by itself: {other:?}"),
    }
}

/// What there is in our namespace, by containerd's own tool.
fn ctr(machine: &Machine, words: &str) -> Vec<String> {
    let ran = Command::new("ctr")
        .arg("-a")
        .arg(machine.socket())
        .args(["-n", containerd::NAMESPACE])
        .args(words.split(' ').map(|word| word.replace('\u{a0}', " ")))
        .output()
        .expect("ctr");
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn one_that_is_away_is_named_with_its_cure() {
    let containerd = Containerd::at(Path::new("/nonexistent/containerd.sock"), "nobody").expect("socket");
    let away = containerd.version().await.expect_err("away");
    assert!(matches!(away, Error::Away { .. }), "{away:?}");
    let said = away.to_string();
    assert!(
        said.contains("/nonexistent/containerd.sock is away")
            && said.contains("No such file")
            && said.contains("systemctl"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_here_is_not_pulled_again_and_is_kept() {
    let world = World::new();
    let mut machine = Machine::start();
    let containerd = Containerd::at(&machine.socket(), "a").expect("socket");
    containerd.prepare().await.expect("prepared");
    let base = registry::archive(&world.image.layers[0]);
    let top = world.path("top");
    fs::create_dir(&top).expect("top");
    fs::write(top.join("hello"), "hello").expect("file");
    let top = registry::archive(&top);
    let first = registry::push_archives(&machine, std::slice::from_ref(&base));
    let second = registry::push_archives(&machine, &[base.clone(), top.clone()]);
    pulled(&containerd, &first).await.expect("pulled");
    let (image, progress) = pulled(&containerd, &second).await.expect("pulled");
    let seen = progress.seen();
    assert_eq!((seen.bytes, seen.layers), ((base.len() + top.len()) as u64, 2));
    assert_eq!(ctr(&machine, "images ls -q").len(), 2);
    // A layer that both have is unpacked once.
    assert_eq!(ctr(&machine, "snapshots ls").len(), 1 + 2);
    assert_eq!(ctr(&machine, "leases ls").len(), 1, "a heading, and no lease");
    // containerd's garbage collector takes what no name leads to, with the lease that it is told of: all of this stays.
    ctr(&machine, "leases create --id collect");
    ctr(&machine, "leases rm --sync collect");
    // By its digest, with nobody to ask.
    machine.tell("no-registry");
    let (again, progress) = pulled(&containerd, &second).await.expect("here");
    assert_eq!((again.digest, progress.seen().bytes), (image.digest.clone(), 0));
    let (task, mut output) = containerd
        .start(&image, &world.plan("/bin/busybox cat /hello"), &id("hello"))
        .await
        .expect("runs");
    assert_eq!(code(&task).await, 0);
    task.remove().await.expect("removed");
    assert_eq!(printed(&mut output).await, "hello");
    assert_eq!(fs::read_dir(world.path("root")).expect("folder").count(), 0);
    assert_eq!(
        ctr(&machine, "containers ls -q").len() + ctr(&machine, "tasks ls -q").len(),
        0
    );
    assert_eq!(ctr(&machine, "snapshots ls").len(), 1 + 2);
}

#[tokio::test]
async fn an_action_runs_on_when_containerd_is_restarted() {
    let world = World::new();
    let mut machine = Machine::start();
    let containerd = Containerd::at(&machine.socket(), "a").expect("socket");
    containerd.prepare().await.expect("prepared");
    let name = registry::push(&machine, &world.image);
    let (image, _) = pulled(&containerd, &name).await.expect("pulled");
    let script = "echo before; : >/v/ready; while ! test -e /v/go; do /bin/busybox sleep 0.02; done; echo after; exit 7";
    let (task, mut output) = containerd
        .start(&image, &world.plan(script), &id("restarted"))
        .await
        .expect("runs");
    until("the action", || world.path("ready").exists()).await;
    let waiting = tokio::spawn(async move { (code(&task).await, task) });
    // It waits for an answer when the connection breaks.
    tokio::task::yield_now().await;
    machine.tell("stop");
    fs::write(world.path("go"), "").expect("go");
    machine.tell("start");
    let (code, task) = waiting.await.expect("waited");
    assert_eq!(code, 7);
    task.remove().await.expect("removed");
    assert_eq!(printed(&mut output).await, "before\nafter\n");
}

#[tokio::test]
async fn what_an_agent_that_was_killed_left_is_removed_and_nobody_elses() {
    let world = World::new();
    let machine = Machine::start();
    let name = registry::push(&machine, &world.image);
    let marker = format!("{}.9", 500_000 + std::process::id());
    let (one, two) = (id("one"), id("two"));
    for (owner, id) in [("killed", &one), ("other", &two)] {
        let containerd = Containerd::at(&machine.socket(), owner).expect("socket");
        containerd.prepare().await.expect("prepared");
        let (image, _) = pulled(&containerd, &name).await.expect("pulled");
        let other = World::new();
        let mut plan = world.plan(&format!("trap '' TERM; /bin/busybox sleep {marker}; echo"));
        plan.folder = other.path("");
        let (task, _) = containerd.start(&image, &plan, id).await.expect("runs");
        // As by one that is killed.
        std::mem::forget((task, other));
    }
    ctr(&machine, "leases create --id left");
    let mut tasks = ctr(&machine, "tasks ls -q");
    tasks.sort();
    assert_eq!(tasks, [one.as_str(), two.as_str()]);
    let next = Containerd::at(&machine.socket(), "killed").expect("socket");
    next.prepare().await.expect("prepared");
    assert_eq!(ctr(&machine, "tasks ls -q"), [two.as_str()]);
    assert_eq!(ctr(&machine, "containers ls -q"), [two.as_str()]);
    let snapshots = ctr(&machine, "snapshots ls").join("\n");
    assert!(
        !snapshots.contains(&one) && snapshots.contains(&two),
        "{snapshots}"
    );
    let others = Containerd::at(&machine.socket(), "other").expect("socket");
    others.prepare().await.expect("prepared");
    assert_eq!(ctr(&machine, "tasks ls -q"), Vec::<String>::new());
}

#[tokio::test]
async fn stores_that_are_full_are_told_and_take_what_fits_afterwards() {
    let world = World::new();
    let machine = Machine::with_room(Some(24));
    let containerd = Containerd::at(&machine.socket(), "a").expect("socket");
    containerd.prepare().await.expect("prepared");
    let large = world.path("large");
    fs::create_dir(&large).expect("folder");
    fs::write(large.join("file"), vec![7; 64 << 20]).expect("file");
    let large = registry::push_archives(&machine, &[registry::archive(&large)]);
    let full = pulled(&containerd, &large).await.expect_err("full");
    assert_eq!(full.reason(), "ImageTooLarge", "{full}");
    let said = full.to_string();
    assert!(
        said.contains("no space left on device") && said.contains("more room"),
        "{said}"
    );
    let small = registry::push(&machine, &world.image);
    pulled(&containerd, &small).await.expect("what fits is pulled");
}

#[tokio::test]
async fn a_layer_that_is_not_what_its_image_says_is_refused() {
    let world = World::new();
    let machine = Machine::start();
    let containerd = Containerd::at(&machine.socket(), "a").expect("socket");
    containerd.prepare().await.expect("prepared");
    let archive = registry::archive(&world.image.layers[0]);
    let name = registry::push_as(&machine, &[archive], &[format!("sha256:{}", "0".repeat(64))]);
    let refused = pulled(&containerd, &name).await.expect_err("refused");
    assert_eq!(refused.reason(), "WrongDigest", "{refused}");
    assert_eq!(
        ctr(&machine, "snapshots ls").len(),
        1,
        "a heading, and no snapshot"
    );
    assert_eq!(ctr(&machine, "leases ls").len(), 1);
}

#[tokio::test]
async fn a_transfer_that_broke_off_goes_on_where_it_was() {
    let world = World::new();
    let machine = Machine::start();
    let containerd = Containerd::at(&machine.socket(), "a").expect("socket");
    containerd.prepare().await.expect("prepared");
    let archive = registry::archive(&world.image.layers[0]);
    let name = registry::push_archives(&machine, std::slice::from_ref(&archive));
    let digest = oci::Digest::of(&archive);
    let half = archive.len() / 2;
    let blob = format!("GET /v2/suite/box/blobs/{digest} ");
    let served = |machine: &Machine| {
        let log = machine.registry_log();
        let lines = log.lines().filter(|line| line.contains(&blob));
        let status = lines.filter_map(|line| {
            line.split("HTTP/1.1\" ")
                .nth(1)?
                .split(' ')
                .next()?
                .parse::<u32>()
                .ok()
        });
        status.collect::<Vec<_>>()
    };
    // What a pull that was given up has left: half of it, under its reference; first with other bytes.
    for (left, want) in [
        (vec![7; half], vec![206, 200]),
        (archive[..half].to_vec(), vec![206]),
    ] {
        let before = served(&machine).len();
        leave(&machine, &digest.to_string(), archive.len(), &left);
        assert_eq!(
            ctr(&machine, "content active").len(),
            2,
            "a heading, and what is left"
        );
        let (image, _) = pulled(&containerd, &name).await.expect("pulled");
        assert_eq!(served(&machine)[before..], want);
        assert_eq!(ctr(&machine, "content active").len(), 1);
        let (task, _) = containerd
            .start(&image, &world.plan("exit 3"), &id("broke-off"))
            .await
            .expect("runs");
        assert_eq!(code(&task).await, 3);
        task.remove().await.expect("removed");
        // All of it goes, with its name.
        ctr(
            &machine,
            &format!(
                "images rm --sync {}",
                ctr(&machine, "images ls -q")[0].replace(' ', "\u{a0}")
            ),
        );
    }
}

/// Writes the first bytes of a blob, and no more.
fn leave(machine: &Machine, digest: &str, size_bytes: usize, first: &[u8]) {
    let mut ran = Command::new("ctr")
        .arg("-a")
        .arg(machine.socket())
        .args([
            "-n",
            containerd::NAMESPACE,
            "content",
            "ingest",
            "--expected-digest",
            digest,
        ])
        .args([
            "--expected-size",
            &size_bytes.to_string(),
            &format!("farrier-{digest}"),
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ctr");
    ran.stdin
        .take()
        .expect("stdin")
        .write_all(first)
        .expect("written");
    assert!(!ran.wait().expect("ended").success(), "half of a blob is none");
}
