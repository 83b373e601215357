//! `cexec` in images that are not as one expects: links in the places of folders, no resolv.conf.
//!
//! What the command sees is right, and the image is afterwards as it was.

mod fake;
mod image;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fake::{Agent, FakeServer, Stream, action};
use image::{LoopDisk, end_of, install, run};
use proto::v1::report::Outcome;

struct Scene {
    folder: tempfile::TempDir,
    server: FakeServer,
    agent: Agent,
    attempts: u32,
}

impl Scene {
    async fn new() -> (Scene, Stream) {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("state");
        fs::create_dir(&state).expect("folder");
        let mut server = FakeServer::start().await;
        let agent = Agent::start(&server, &state);
        let (stream, _) = server.accept().await;
        stream.welcome().await;
        let scene = Scene {
            folder,
            server,
            agent,
            attempts: 0,
        };
        (scene, stream)
    }

    /// A disk with a shell, and what `furnish` puts beside it.
    fn disk(&self, name: &str, furnish: impl FnOnce(&Path)) -> LoopDisk {
        let root = self.folder.path().join(name);
        install(
            &root,
            &[
                "/bin/sh",
                "/bin/cat",
                "/bin/rm",
                "/bin/ln",
                "/bin/ls",
                "/bin/sleep",
                "/bin/mkdir",
            ],
        );
        furnish(&root);
        LoopDisk::with(&root, &self.folder.path().join(format!("{name}.img")))
    }

    async fn run(&mut self, stream: &mut Stream, disk: &LoopDisk, text: &str) -> (Outcome, Vec<String>) {
        self.attempts += 1;
        stream.lines.clear();
        let environment = [
            ("BLOCK_DEVICE", disk.device.as_str()),
            ("FS_TYPE", "ext4"),
            ("CHROOT", "y"),
            ("UPDATE_RESOLV_CONF", "true"),
            ("DEFAULT_INTERPRETER", "/bin/sh -c"),
            ("CMD_LINE", text),
        ];
        let outcome = end_of(stream, &format!("w/0/{}/1", self.attempts), "cexec", &environment).await;
        (outcome, stream.lines.clone())
    }
}

/// Everything that is in the image: path, kind and mode, size, what a link says, when it was changed; and contents.
fn content(disk: &LoopDisk) -> Vec<String> {
    let at = tempfile::tempdir().expect("folder");
    run(Command::new("mount")
        .args(["-o", "ro,noload", &disk.device])
        .arg(at.path()));
    let mut found = Vec::new();
    walk(at.path(), at.path(), &mut found);
    unmount(at.path());
    found.sort();
    found
}

/// A child that a test beside this one starts has our files open until it runs its program.
fn unmount(at: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let output = Command::new("umount").arg(at).output().expect("umount");
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(Instant::now() < deadline, "{said}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        let meta = fs::symlink_metadata(&path).expect("entry");
        let what = match () {
            () if meta.is_symlink() => fs::read_link(&path).expect("link").display().to_string(),
            () if meta.is_file() => {
                let mut hasher = DefaultHasher::new();
                fs::read(&path).expect("file").hash(&mut hasher);
                format!("{} {:x}", meta.len(), hasher.finish())
            }
            () => String::new(),
        };
        found.push(format!(
            "{} {:o} {}.{} {what}",
            path.strip_prefix(root).expect("below").display(),
            meta.mode(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
        if meta.is_dir() {
            walk(root, &path, found);
        }
    }
}

/// The name servers that the agent on this host has to give.
fn own_resolv_conf() -> String {
    fs::read_to_string("/etc/resolv.conf")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[tokio::test]
async fn the_command_has_name_servers_whatever_the_image_has_and_the_image_stays_as_it_is() {
    let (mut scene, mut stream) = Scene::new().await;
    let etc = |root: &Path| {
        fs::create_dir_all(root.join("etc")).expect("folder");
        root.join("etc/resolv.conf")
    };
    type Furnish = fn(PathBuf);
    let images: [(&str, Furnish); 5] = [
        ("dangling", |at| {
            symlink("../run/systemd/resolve/stub-resolv.conf", at).expect("link")
        }),
        ("absolute", |at| {
            symlink("/run/resolvconf/resolv.conf", at).expect("link")
        }),
        ("outward", |at| {
            symlink("../../../../../../etc/hostname", at).expect("link")
        }),
        ("missing", |_| {}),
        ("file", |at| {
            fs::write(at, "nameserver 192.0.2.1\n").expect("file")
        }),
    ];
    for (name, furnish) in images {
        let disk = scene.disk(name, |root| furnish(etc(root)));
        let before = content(&disk);
        let (outcome, lines) = scene
            .run(&mut stream, &disk, "cat /etc/resolv.conf; echo end")
            .await;
        assert!(
            matches!(outcome, Outcome::Succeeded(_)),
            "{name}: {outcome:?} {lines:?}"
        );
        let seen: Vec<&str> = lines
            .iter()
            .map(|line| line.split_once(' ').expect("number").1)
            .collect();
        assert_eq!(seen.join("\n"), format!("{}\nend", own_resolv_conf()), "{name}");
        assert_eq!(content(&disk), before, "{name}");
        // A command that puts something else there, fails, or is stopped.
        let text =
            "rm /etc/resolv.conf; ln -sf /elsewhere /etc/resolv.conf; echo x > /etc/resolv.conf; exit 3";
        let (outcome, _) = scene.run(&mut stream, &disk, text).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{name}: {outcome:?}");
        // That /etc was written to is the command's doing.
        let but_etc = |content: Vec<String>| -> Vec<String> {
            content
                .into_iter()
                .filter(|line| !line.starts_with("etc "))
                .collect()
        };
        assert_eq!(but_etc(content(&disk)), but_etc(before), "{name}");
    }
    let disk = scene.disk("stopped", |root| drop(etc(root)));
    let before = content(&disk);
    let environment = [
        ("BLOCK_DEVICE", disk.device.as_str()),
        ("FS_TYPE", "ext4"),
        ("CHROOT", "y"),
        ("UPDATE_RESOLV_CONF", "true"),
        ("CMD_LINE", "sleep 600"),
    ];
    let mut sleeps = action("w/1/0/1", "cexec", &environment);
    sleeps.timeout_s = 1;
    stream.run(&sleeps).await;
    stream.report().await;
    let outcome = stream.report().await.outcome;
    assert!(matches!(outcome, Some(Outcome::TimedOut(_))), "{outcome:?}");
    assert_eq!(content(&disk), before);
    let _ = (&scene.server, &scene.agent);
}

#[tokio::test]
async fn an_image_without_etc_or_with_a_folder_for_resolv_conf_is_left_as_it_is() {
    let (mut scene, mut stream) = Scene::new().await;
    let disk = scene.disk("bare", |_| {});
    let before = content(&disk);
    let (outcome, lines) = scene
        .run(&mut stream, &disk, "cat /etc/resolv.conf && ls /run")
        .await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?} {lines:?}");
    assert_eq!(
        content(&disk),
        before,
        "neither etc nor dev, proc, sys and run stay"
    );

    let disk = scene.disk("folder", |root| {
        fs::create_dir_all(root.join("etc/resolv.conf/x")).expect("folder");
    });
    let before = content(&disk);
    let (outcome, lines) = scene.run(&mut stream, &disk, "ls /etc/resolv.conf").await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?} {lines:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("resolv.conf") && line.contains("a folder")),
        "{lines:?}"
    );
    assert_eq!(content(&disk), before);
}

#[tokio::test]
async fn no_link_of_an_image_leads_out_of_it() {
    let (mut scene, mut stream) = Scene::new().await;
    let outside = scene.folder.path().join("outside");
    fs::create_dir(&outside).expect("folder");
    for name in ["dev", "proc", "sys", "run", "etc", "workflow"] {
        // Absolute, upward, into what is mounted a moment later, and to the root.
        let targets = [
            outside.to_str().expect("text"),
            "../../../../../../tmp",
            "proc/1/root",
            "/",
            ".",
        ];
        for (number, to) in targets.into_iter().enumerate() {
            let label = format!("{name}-{number}");
            let disk = scene.disk(&label, |root| symlink(to, root.join(name)).expect("link"));
            let before = content(&disk);
            let (_, lines) = scene
                .run(
                    &mut stream,
                    &disk,
                    "echo in $(cat /etc/hostname 2>&1); ls -d /etc/farrier-no",
                )
                .await;
            assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:?}");
            assert_eq!(
                fs::read_dir(&outside).expect("folder").count(),
                0,
                "{name} to {to}"
            );
            let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
            assert!(
                !mounts.contains(scene.folder.path().to_str().expect("text")),
                "{mounts}"
            );
            assert_eq!(content(&disk), before, "{name} to {to}");
        }
    }
    let disk = scene.disk("usable", |root| {
        fs::create_dir_all(root.join("real/dev")).expect("folder");
        symlink("/real/dev", root.join("dev")).expect("link");
    });
    let (outcome, lines) = scene
        .run(&mut stream, &disk, "[ -c /dev/null ] && [ -d /proc/self ]")
        .await;
    assert!(
        matches!(outcome, Outcome::Succeeded(_)),
        "inside it is followed: {outcome:?} {lines:?}"
    );
}

#[tokio::test]
async fn what_a_command_leaves_in_run_does_not_stay_on_the_disk() {
    let (mut scene, mut stream) = Scene::new().await;
    let disk = scene.disk("run", |root| {
        fs::create_dir_all(root.join("run/old")).expect("folder");
    });
    let before = content(&disk);
    let text = "echo 1 > /run/daemon.pid && mkdir -p /run/lock/x && ls /run/farrier && ! [ -e /run/old ]";
    let (outcome, lines) = scene.run(&mut stream, &disk, text).await;
    assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?} {lines:?}");
    assert_eq!(content(&disk), before);
}

/// As on a netbooted machine, where the real one holds more than a command is to see.
#[test]
fn a_command_sees_the_kernel_command_line_that_is_meant_for_it() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("root");
    install(&root, &["/bin/cat"]);
    for name in ["dev", "proc", "sys", "run"] {
        fs::create_dir(root.join(name)).expect("folder");
    }
    for host_processes in [false, true] {
        let spec = serde_json::json!({
            "action": "cexec",
            "world": {"Inside": root},
            "commands": [["cat", "/proc/cmdline"]],
            "environment": {},
            "host_processes": host_processes,
            "cmdline": "quiet masked\n",
            "resolv_conf": null,
            "shown": [],
        });
        let mut child = Command::new(env!("CARGO_BIN_EXE_farrier-agent"))
            .arg("chroot-exec")
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(spec.to_string().as_bytes()).expect("written");
        drop(stdin);
        let output = child.wait_with_output().expect("ended");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "quiet masked\n");
    }
    let left: Vec<_> = fs::read_dir(folder.path()).expect("folder").flatten().collect();
    assert_eq!(left.len(), 1, "only the root: {left:?}");
}
