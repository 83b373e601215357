//! Images of the suite as an OCI layout, pushed to Debian's registry.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use container::Image;
use oci::Digest;
use serde_json::{Value, json};

use super::machine::Machine;

const REPOSITORY: &str = "suite/box";

/// Pushes an image of these folders, in overlayfs's form; gives its name, by its digest.
pub(crate) fn push(machine: &Machine, image: &Image) -> String {
    let layers: Vec<Vec<u8>> = image.layers.iter().map(|layer| archive(layer)).collect();
    push_archives(machine, &layers)
}

/// The same of archives.
pub(crate) fn push_archives(machine: &Machine, archives: &[Vec<u8>]) -> String {
    let diff_ids: Vec<String> = archives
        .iter()
        .map(|archive| Digest::of(archive).to_string())
        .collect();
    push_as(machine, archives, &diff_ids)
}

/// The same, where the configuration says these digests of them.
pub(crate) fn push_as(machine: &Machine, archives: &[Vec<u8>], diff_ids: &[String]) -> String {
    let layers: Vec<Value> = archives
        .iter()
        .map(|archive| blob(machine, archive, "application/vnd.oci.image.layer.v1.tar"))
        .collect();
    let config = json!({
        "os": "linux",
        "architecture": "amd64",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob(
        machine,
        config.to_string().as_bytes(),
        "application/vnd.oci.image.config.v1+json",
    );
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}).to_string();
    let digest = Digest::of(manifest.as_bytes());
    let path = format!("/v2/{REPOSITORY}/manifests/{digest}");
    let (status, _) = request(machine, "PUT", &path, media_type, manifest.as_bytes());
    assert_eq!(status, 201, "{path}");
    format!("{}/{REPOSITORY}@{digest}", machine.registry)
}

/// Stores content, and says of it what a manifest does.
fn blob(machine: &Machine, content: &[u8], media_type: &str) -> Value {
    let digest = Digest::of(content);
    let here = format!("/v2/{REPOSITORY}/blobs/{digest}");
    let bytes = "application/octet-stream";
    if request(machine, "HEAD", &here, bytes, b"").0 != 200 {
        let (status, head) = request(
            machine,
            "POST",
            &format!("/v2/{REPOSITORY}/blobs/uploads/"),
            bytes,
            b"",
        );
        assert_eq!(status, 202, "{head}");
        let location = head
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .expect("a place");
        let path = location
            .trim()
            .split_once(&machine.registry)
            .expect("our registry")
            .1;
        let (status, head) = request(machine, "PUT", &format!("{path}&digest={digest}"), bytes, content);
        assert_eq!(status, 201, "{head}");
    }
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": content.len()})
}

/// One request over one connection; the status and the head of the answer.
fn request(machine: &Machine, method: &str, path: &str, media_type: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(&machine.registry).expect("registry");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
        machine.registry,
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answer");
    let answer = String::from_utf8_lossy(&answer);
    let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("status"), head)
}

/// A folder of overlayfs's as a layer's archive. The same folder gives the same bytes.
pub(crate) fn archive(layer: &Path) -> Vec<u8> {
    let copy = tempfile::tempdir().expect("folder");
    run(Command::new("cp")
        .arg("-a")
        .arg("--")
        .arg(layer.join("."))
        .arg(copy.path()));
    whiteouts(layer, copy.path());
    let packed = Command::new("tar")
        .arg("-C")
        .arg(copy.path())
        .args(["--mtime=@0", "--sort=name", "--numeric-owner", "-cf", "-", "."])
        .output()
        .expect("tar");
    assert!(packed.status.success(), "{packed:?}");
    packed.stdout
}

fn run(command: &mut Command) {
    assert!(command.status().expect("started").success(), "{command:?}");
}

/// OCI image specification 1.1, layer.md: what overlayfs says with devices and attributes, archives say with names.
fn whiteouts(layer: &Path, copy: &Path) {
    for entry in fs::read_dir(layer).expect("layer").flatten() {
        let (name, kind) = (entry.file_name(), entry.file_type().expect("kind"));
        let copied = copy.join(&name);
        if kind.is_char_device() && entry.metadata().expect("metadata").rdev() == 0 {
            fs::remove_file(&copied).expect("removed");
            fs::write(copy.join(format!(".wh.{}", name.display())), "").expect("whiteout");
        } else if kind.is_dir() {
            let mut value = [0; 1];
            let opaque = rustix::fs::lgetxattr(entry.path(), "trusted.overlay.opaque", &mut value[..]);
            if opaque == Ok(1) && value == *b"y" {
                fs::write(copied.join(".wh..wh..opq"), "").expect("opaque");
            }
            whiteouts(&entry.path(), &copied);
        }
    }
}
