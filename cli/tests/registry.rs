//! The server's own registry: images come from files by `farrier registry`, and go by HTTP to skopeo, a client of others.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../registry/tests/fixture/mod.rs"]
mod fixture;
mod servers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fixture::{Image, file};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use servers::Serve;
use store::blobs::{Digest, file_of};
// The fixture's.
use tar as _;
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(120);

/// An image that others' programs can read: its layers are archives.
fn image() -> Image {
    let layer = |name: &str| fixture::tar(&[(name.to_owned(), name.repeat(1000).into_bytes())]);
    Image::with(&[&layer("hello"), &layer("world")])
}

fn layout(dir: &Path, image: &Image, name: &str) -> PathBuf {
    let files = image.layout(json!({"io.containerd.image.name": name}));
    file(dir, "layout.tar", &fixture::tar(&files))
}

fn listed(serve: &Serve) -> Value {
    serde_json::from_str(&serve.run(&["registry", "list", "-o", "json"])).unwrap()
}

/// Where machines ask.
fn http(serve: &Serve) -> String {
    let mut words = serve.ready.split(' ');
    words
        .find_map(|word| word.strip_prefix("http="))
        .unwrap()
        .to_owned()
}

/// What a refused command says, and its exit code.
#[track_caller]
fn refused(serve: &Serve, args: &[&str]) -> (Option<i32>, String) {
    let output = serve.command(args).output().unwrap();
    assert!(!output.status.success(), "{args:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn skopeo(args: &[&str]) -> Vec<u8> {
    let output = Command::new("skopeo")
        .args(["--insecure-policy"])
        .args(args)
        .output();
    let output = output.expect("skopeo runs: `cargo xtask test` installs it");
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn an_image_is_brought_listed_and_deleted() {
    let dir = TempDir::new().unwrap();
    let serve = Serve::start(dir.path());
    assert_eq!(listed(&serve), json!([]));
    let image = image();
    let path = layout(dir.path(), &image, "lab:5000/tools/box:v1");
    let said = serve.run(&["registry", "import", text(&path)]);
    assert_eq!(
        said,
        format!("image lab:5000/tools/box:v1 is sha256:{}\n", image.digest())
    );
    // Again, and under another name: what is there is not sent.
    let output = serve
        .command(&["registry", "import", text(&path), "--name", "box"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "it was sent again");
    let template = file(
        dir.path(),
        "wants.yaml",
        b"version: '1'\nname: wants\ntasks:\n  - name: go\n    worker: '{{.m}}'\n    actions:\n      - name: a\n        image: \
          lab:5000/tools/box:v1\n      - name: b\n        image: quay.io/other/box\n      - name: c\n        image: cexec\n",
    );
    serve.run(&["template", "create", "-f", text(&template)]);
    let all = listed(&serve);
    let shown: Vec<[&str; 2]> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|image| [image["name"].as_str().unwrap(), image["state"].as_str().unwrap()])
        .collect();
    assert_eq!(
        shown,
        [
            ["docker.io/library/box:latest", "WHOLE"],
            ["lab:5000/tools/box:v1", "WHOLE"],
            ["quay.io/other/box:latest", "LACKING"]
        ]
    );
    assert_eq!(all[2]["wanted_by"], json!(["wants"]));
    let size: usize = image.contents.iter().map(Vec::len).sum();
    assert_eq!(
        (&all[0]["size_bytes"], &all[0]["put_by"]),
        (&json!(size), &json!("admin"))
    );
    serve.run(&["registry", "delete", "lab:5000/tools/box:v1"]);
    let (code, said) = refused(&serve, &["registry", "delete", "lab:5000/tools/box:v1"]);
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(listed(&serve)[1]["state"], "LACKING");
    let (code, said) = refused(&serve, &["registry", "import", "/dev/null"]);
    assert!(
        code == Some(1) && said.contains("/dev/null has no images"),
        "{said}"
    );
    let unnamed = file(dir.path(), "unnamed.tar", &fixture::tar(&image.layout(json!({}))));
    let (code, said) = refused(&serve, &["registry", "import", text(&unnamed)]);
    assert!(code == Some(2) && said.contains("--name"), "{said}");
}

/// The mount is in a namespace of this thread, which the server inherits and which ends with both.
#[test]
fn an_image_that_has_no_room_is_refused_in_one_line_and_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        None::<&str>,
    )
    .unwrap();
    mount(
        Some("none"),
        &data,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=16m"),
    )
    .unwrap();
    let serve = Serve::start(&data);
    let large = fixture::tar(&[("large".to_owned(), vec![7; 24 << 20])]);
    let large = layout(dir.path(), &Image::with(&[&large]), "lab:5000/large:1");
    let (code, stderr) = refused(&serve, &["registry", "import", text(&large)]);
    let folder = data.join("registry");
    let want = format!(
        "farrier: the server at {} cannot do this now: no room for a blob in {}: free some, or make the filesystem larger",
        serve.api,
        folder.display()
    );
    assert!(stderr.contains(&want), "{stderr}");
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(listed(&serve), json!([]));
    assert_eq!(std::fs::read_dir(folder.join("incoming")).unwrap().count(), 0);
    // What fits is taken afterwards.
    let small = layout(dir.path(), &image(), "lab:5000/tools/box:v1");
    serve.run(&["registry", "import", text(&small)]);
    assert_eq!(listed(&serve)[0]["name"], "lab:5000/tools/box:v1");
}

#[test]
fn viewers_list_images_and_who_changes_them_reaches_all_namespaces() {
    let dir = TempDir::new().unwrap();
    let serve = Serve::start(dir.path());
    serve.run(&["namespace", "create", "red"]);
    let path = layout(dir.path(), &image(), "lab:5000/tools/box:v1");
    let token = |args: &[&str]| {
        let answer = serve.run(&[&["token", "create"][..], args, &["-o", "json"][..]].concat());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["text"].as_str().unwrap().to_owned()
    };
    for (token, words) in [
        (token(&["vic", "--role", "viewer"]), "is of role viewer"),
        (
            token(&["eve", "--role", "operator", "--namespace", "red"]),
            "all namespaces",
        ),
    ] {
        for args in [
            &["registry", "import", text(&path)][..],
            &["registry", "delete", "lab:5000/tools/box:v1"],
        ] {
            let output = serve.command(args).env("FARRIER_TOKEN", &token).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(5), "{args:?}: {said}");
            assert!(said.contains(words), "{said}");
        }
        let output = serve
            .command(&["registry", "list"])
            .env("FARRIER_TOKEN", &token)
            .output()
            .unwrap();
        assert!(output.status.success());
    }
    let operator = token(&["olga", "--role", "operator"]);
    let args = ["registry", "import", text(&path)];
    assert!(
        serve
            .command(&args)
            .env("FARRIER_TOKEN", operator)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn skopeo_pulls_what_was_brought_and_what_it_writes_is_brought() {
    let dir = TempDir::new().unwrap();
    let serve = Serve::start(dir.path());
    let image = image();
    let path = layout(dir.path(), &image, "tools/box:v1");
    serve.run(&["registry", "import", text(&path)]);
    let from = format!("docker://{}/tools/box", http(&serve));
    let plain = "--src-tls-verify=false";
    let to = format!("oci:{}:v1", dir.path().join("pulled").display());
    skopeo(&["copy", "--preserve-digests", plain, &format!("{from}:v1"), &to]);
    for content in &image.contents {
        let name = format!("pulled/blobs/sha256/{}", Digest::of(content));
        assert!(std::fs::read(dir.path().join(name)).unwrap() == *content);
    }
    let by_digest = format!("{from}@sha256:{}", image.digest());
    assert!(skopeo(&["inspect", "--tls-verify=false", "--raw", &by_digest]) == image.manifest());
    let tags: Value = serde_json::from_slice(&skopeo(&["list-tags", "--tls-verify=false", &from])).unwrap();
    assert_eq!(tags["Tags"], json!(["v1"]));
    // Both forms that it writes, and gzip around one.
    let oci = dir.path().join("oci.tar");
    skopeo(&["copy", &to, &format!("oci-archive:{}", oci.display())]);
    let docker = dir.path().join("docker.tar");
    skopeo(&[
        "copy",
        &to,
        &format!("docker-archive:{}:lab:5000/box:v2", docker.display()),
    ]);
    assert!(Command::new("gzip").arg(&docker).status().unwrap().success());
    serve.run(&["registry", "import", text(&oci), "--name", "lab:5000/box:v1"]);
    serve.run(&["registry", "import", text(&dir.path().join("docker.tar.gz"))]);
    let all = listed(&serve);
    let names: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["docker.io/tools/box:v1", "lab:5000/box:v1", "lab:5000/box:v2"]
    );
    assert!(
        all.as_array()
            .unwrap()
            .iter()
            .all(|image| image["state"] == "WHOLE")
    );
}

#[test]
fn a_server_that_is_killed_while_an_image_comes_has_nothing_half() {
    let dir = TempDir::new().unwrap();
    let mut serve = Serve::start(dir.path());
    // Random bytes would not matter; that there are many does.
    let layer: Vec<u8> = (0..16_u32 << 20).flat_map(u32::to_le_bytes).collect();
    let image = Image::with(&[&layer]);
    let path = layout(dir.path(), &image, "tools/box:v1");
    let incoming = serve.data.join("registry/incoming");
    let blob = serve.data.join("registry").join(file_of(&Digest::of(&layer)));
    for _ in 0..3 {
        let mut importing = serve
            .command(&["registry", "import", text(&path)])
            .spawn()
            .unwrap();
        let deadline = Instant::now() + WITHIN;
        loop {
            let sizes = std::fs::read_dir(&incoming)
                .unwrap()
                .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
            let seen = sizes.max().unwrap_or_default();
            if seen > 0 {
                break;
            }
            assert!(Instant::now() < deadline && !blob.exists(), "nothing comes");
        }
        serve.end(Signal::SIGKILL);
        importing.kill().unwrap();
        importing.wait().unwrap();
        assert!(!blob.exists(), "it was whole before the server was killed");
        serve = serve.again();
        assert_eq!(
            std::fs::read_dir(&incoming).unwrap().count(),
            0,
            "what was half is there"
        );
        assert_eq!(listed(&serve), json!([]));
    }
    serve.run(&["registry", "import", text(&path)]);
    serve.end(Signal::SIGKILL);
    serve = serve.again();
    assert_eq!(listed(&serve)[0]["state"], "WHOLE");
    assert!(std::fs::read(blob).unwrap() == layer);
}

/// Debian's registry, as one outside.
struct Debian {
    process: std::process::Child,
    host: String,
}

impl Debian {
    fn start(folder: &Path) -> Debian {
        // It tells nobody which port it took: one is found free, and given to it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        drop(listener);
        let store = folder.join("debian").display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: \
             {store}}}\nhttp:\n  addr: {host}\n"
        );
        let config = file(folder, "debian.yml", config.as_bytes());
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("docker-registry runs: `cargo xtask test` installs it");
        let debian = Debian { process, host };
        let deadline = Instant::now() + WITHIN;
        while std::net::TcpStream::connect(&debian.host).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        debian
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn what_a_registry_outside_has_is_fetched_kept_and_given_when_that_is_gone() {
    let dir = TempDir::new().unwrap();
    let mut debian = Debian::start(dir.path());
    let outside = format!("registry.example.com=http://{}", debian.host);
    let noise: Vec<u8> = (0..16_u32 << 20)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let layer = fixture::tar(&[("noise".to_owned(), noise)]);
    let image = Image::with(&[&layer]);
    let path = layout(dir.path(), &image, "lab:5000/tools/box:v1");
    let there = format!("docker://{}/tools/box:v1", debian.host);
    let from = format!("oci-archive:{}", text(&path));
    skopeo(&[
        "copy",
        "--preserve-digests",
        "--dest-tls-verify=false",
        &from,
        &there,
    ]);

    let started = || {
        let mut command = servers::serve(dir.path());
        command.args(["--registry", &outside]);
        Serve::started(command, dir.path())
    };
    let mut serve = started();
    let pull = |serve: &Serve, to: &str| {
        let from = format!("docker://{}/registry.example.com/tools/box:v1", http(serve));
        let to = format!("dir:{}", dir.path().join(to).display());
        let mut skopeo = Command::new("skopeo");
        skopeo.args([
            "--insecure-policy",
            "copy",
            "--preserve-digests",
            "--src-tls-verify=false",
            &from,
            &to,
        ]);
        skopeo
    };
    // Killed while the layer comes: nothing half is under its name, then or later.
    let incoming = serve.data.join("registry/incoming");
    let blob = serve.data.join("registry").join(file_of(&Digest::of(&layer)));
    let mut pulling = pull(&serve, "broken")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + WITHIN;
    loop {
        let sizes = std::fs::read_dir(&incoming)
            .unwrap()
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
        if sizes.max().unwrap_or_default() > 0 {
            break;
        }
        assert!(Instant::now() < deadline && !blob.exists(), "nothing comes");
    }
    serve.end(Signal::SIGKILL);
    let _ = pulling.kill();
    pulling.wait().unwrap();
    assert!(!blob.exists(), "it was whole before the server was killed");
    serve = started();
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0);
    assert_eq!(listed(&serve)[0]["state"], "INCOMPLETE");

    assert!(pull(&serve, "first").status().unwrap().success());
    assert_eq!(listed(&serve)[0]["state"], "WHOLE");
    debian.end();
    assert!(pull(&serve, "second").status().unwrap().success());
    for to in ["first", "second"] {
        let name = dir.path().join(to).join(Digest::of(&layer).to_string());
        assert!(std::fs::read(name).unwrap() == layer, "{to}");
    }
}
