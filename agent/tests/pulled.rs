//! Actions that are images of a registry, Debian's, by the real agent as a process. As root.

mod fake;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ephemeral::Digest;
use fake::{Agent, FakeServer, Stream};
use proto::v1::report::Outcome;
use proto::v1::{self, RunAction};
use serde_json::json;

/// Debian's registry, on loopback without TLS.
struct Registry {
    process: Child,
    host: String,
    folder: PathBuf,
}

impl Registry {
    fn start(folder: &Path) -> Registry {
        let folder = folder.join("registry");
        fs::create_dir(&folder).expect("folder");
        // It tells nobody which port it took: one is found free, and given to it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
        let host = listener.local_addr().expect("address").to_string();
        drop(listener);
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}/store}}\n\
             http:\n  addr: {host}\n",
            folder.display()
        );
        fs::write(folder.join("config.yml"), config).expect("config");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).expect("log"))
            .spawn()
            .expect("Debian's docker-registry; `cargo xtask test` installs it");
        let registry = Registry {
            process,
            host,
            folder,
        };
        let deadline = Instant::now() + fake::DEADLINE;
        while std::net::TcpStream::connect(&registry.host).is_err() {
            assert!(
                Instant::now() < deadline,
                "{}",
                fs::read_to_string(registry.folder.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        registry
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let ran = Command::new("curl")
            .args(["-sS", "--fail", "-D", "-"])
            .args(arguments)
            .output()
            .expect("curl");
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// Stores a file, and says of it what a manifest does.
    fn push(&self, file: &Path, media_type: &str) -> serde_json::Value {
        let content = fs::read(file).expect("file");
        let digest = format!("sha256:{}", Digest::of(&content));
        let begun = self.curl(&[
            "-X",
            "POST",
            &format!("http://{}/v2/tools/box/blobs/uploads/", self.host),
        ]);
        let location = begun
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .expect("a place")
            .trim();
        self.curl(&[
            "-X",
            "PUT",
            "--data-binary",
            &format!("@{}", file.display()),
            "-H",
            "Content-Type: application/octet-stream",
            &format!("{location}&digest={digest}"),
        ]);
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Pushes an image of two layers: busybox, and a file that says hello. Gives the digest of its manifest.
    fn push_image(&self) -> String {
        let at = |name: &str| self.folder.join(name);
        for folder in ["base/bin", "top/etc"] {
            fs::create_dir_all(at(folder)).expect("layer");
        }
        fs::copy("/bin/busybox", at("base/bin/busybox")).expect("Debian's busybox-static");
        for applet in ["sh", "cat", "id", "echo", "sleep", "test"] {
            symlink("busybox", at("base/bin").join(applet)).expect(applet);
        }
        fs::write(at("top/etc/hello"), "hello from a registry\n").expect("file");
        fs::write(at("top/etc/passwd"), "web:x:33:34::/srv:/bin/sh\n").expect("file");
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in ["base", "top"] {
            let tar = at(&format!("{layer}.tar"));
            let ran = Command::new("tar")
                .arg("-C")
                .arg(at(layer))
                .arg("-cf")
                .arg(&tar)
                .arg(".")
                .status();
            assert!(ran.expect("tar").success());
            diff_ids.push(format!("sha256:{}", Digest::of(&fs::read(&tar).expect("tar"))));
            assert!(
                Command::new("gzip")
                    .arg("-n")
                    .arg(&tar)
                    .status()
                    .expect("gzip")
                    .success()
            );
            layers.push(self.push(
                &at(&format!("{layer}.tar.gz")),
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ));
        }
        let config = json!({
            "os": "linux",
            "architecture": "amd64",
            "config": {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["cat /etc/hello; id -u"], "User": "web", "Env": ["GREETING=yes"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        fs::write(at("config.json"), config.to_string()).expect("config");
        let config = self.push(&at("config.json"), "application/vnd.oci.image.config.v1+json");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers})
                .to_string();
        fs::write(at("manifest.json"), &manifest).expect("manifest");
        self.curl(&[
            "-X",
            "PUT",
            "--data-binary",
            &format!("@{}", at("manifest.json").display()),
            "-H",
            &format!("Content-Type: {media_type}"),
            &format!("http://{}/v2/tools/box/manifests/v1", self.host),
        ]);
        format!("sha256:{}", Digest::of(manifest.as_bytes()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn action(attempt_id: &str, image: &str) -> RunAction {
    RunAction {
        attempt_id: attempt_id.to_owned(),
        workflow_id: "w".to_owned(),
        action: "a".to_owned(),
        image: image.to_owned(),
        ..RunAction::default()
    }
}

#[track_caller]
fn succeeded(outcome: Outcome) -> v1::Succeeded {
    match outcome {
        Outcome::Succeeded(succeeded) => succeeded,
        other => panic!("no success: {other:?}"),
    }
}

async fn attached(folder: &Path) -> (FakeServer, Stream, Agent) {
    let mut server = FakeServer::start().await;
    let agent = Agent::start(&server, folder);
    let (stream, _) = server.accept().await;
    stream.welcome_of(5).await;
    (server, stream, agent)
}

#[tokio::test]
async fn an_image_is_pulled_once_and_runs_as_it_says() {
    let folder = tempfile::Builder::new()
        .prefix("runtime.")
        .tempdir()
        .expect("folder");
    let registry = Registry::start(folder.path());
    let digest = registry.push_image();
    let name = format!("{}/tools/box", registry.host);
    let (_server, mut stream, _agent) = attached(folder.path()).await;
    let done = succeeded(stream.end_of(&action("w/1", &format!("{name}:v1"))).await);
    assert_eq!(done.message, "33");
    assert!(
        stream
            .lines
            .iter()
            .any(|line| line.ends_with("hello from a registry")),
        "{:?}",
        stream.lines
    );
    assert!(
        stream.lines.iter().any(|line| line.contains(&digest)),
        "{:?}",
        stream.lines
    );
    let own = RunAction {
        command: vec!["echo $GREETING; test ! -e /dev/kmsg".to_owned()],
        confined: true,
        ..action("w/2", &format!("{name}@{digest}"))
    };
    assert_eq!(succeeded(stream.end_of(&own).await).message, "yes");
    let none = stream.end_of(&action("w/3", &format!("{name}:v2"))).await;
    assert!(
        matches!(&none, Outcome::Failed(failed) if failed.reason == "NoSuchImage"),
        "{none:?}"
    );
    // What was asked for by its digest needs nobody who has it, and is here after the agent was killed.
    drop(registry);
    let again = stream.end_of(&action("w/4", &format!("{name}@{digest}"))).await;
    assert_eq!(succeeded(again).message, "33");
    drop((stream, _agent, _server));
    let (_server, mut stream, _agent) = attached(folder.path()).await;
    let again = stream.end_of(&action("w/5", &format!("{name}@{digest}"))).await;
    assert_eq!(succeeded(again).message, "33");
}

/// What a `waitdaemon` starts.
fn last(attempt_id: &str, image: &str, folder: &Path) -> RunAction {
    RunAction {
        last: Some(v1::Last { wait_s: 0 }),
        command: vec!["echo here > /said/it; echo the last words".to_owned()],
        volumes: vec![format!("{}:/said", folder.display())],
        ..action(attempt_id, image)
    }
}

/// A folder that the image's user writes to.
fn open_to_all(folder: &Path) -> PathBuf {
    let said = folder.join("said");
    fs::create_dir(&said).expect("folder");
    fs::set_permissions(&said, fs::Permissions::from_mode(0o777)).expect("mode");
    said
}

#[track_caller]
fn leaves(outcome: &Outcome) {
    assert!(
        matches!(outcome, Outcome::Leaving(leaving) if leaving.how == "container"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_wrapped_image_runs_when_the_server_knows_that_the_machine_leaves() {
    let folder = tempfile::Builder::new()
        .prefix("runtime.")
        .tempdir()
        .expect("folder");
    let registry = Registry::start(folder.path());
    registry.push_image();
    let name = format!("{}/tools/box", registry.host);
    let said = open_to_all(folder.path());
    let (_server, mut stream, mut agent) = attached(folder.path()).await;
    // What can be known before the report is told by it, and the machine stays.
    let none = stream.end_of(&last("w/1", &format!("{name}:v2"), &said)).await;
    assert!(
        matches!(&none, Outcome::Failed(failed) if failed.reason == "NoSuchImage"),
        "{none:?}"
    );
    leaves(&stream.end_of(&last("w/2", &format!("{name}:v1"), &said)).await);
    // The first of these is not the one that it waits for.
    stream.acknowledge(3).await;
    stream.run(&action("w/3", &format!("{name}:v1"))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!said.join("it").exists());
    stream.acknowledge(4).await;
    stream.line("the last words").await;
    stream
        .line("the last action a succeeded, and the machine is still here: it reboots")
        .await;
    assert_eq!(agent.exit_code().await, Some(70));
    assert_eq!(fs::read_to_string(said.join("it")).expect("it"), "here\n");
}

#[tokio::test]
async fn a_worker_that_died_before_a_wrapped_image_ran_reboots_without_it() {
    let folder = tempfile::Builder::new()
        .prefix("runtime.")
        .tempdir()
        .expect("folder");
    let registry = Registry::start(folder.path());
    registry.push_image();
    let said = open_to_all(folder.path());
    let image = format!("{}/tools/box:v1", registry.host);
    let (server, mut stream, agent) = attached(folder.path()).await;
    leaves(&stream.end_of(&last("w/1", &image, &said)).await);
    drop((agent, stream, server));
    let (_server, stream, mut agent) = attached(folder.path()).await;
    stream.acknowledge(2).await;
    assert_eq!(agent.exit_code().await, Some(70));
    assert!(!said.join("it").exists());
}
