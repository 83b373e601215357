//! Boot images that are checked and compared, and a server that does not serve a damaged one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod servers;

use std::fs;
use std::path::Path;
use std::process::Command;

use image::cpio::{Node, Tree};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use servers::{Serve, serve};

/// A boot image as a build would make it: a kernel, and an agent in the initramfs.
fn boot_image(directory: &Path, kernel: &str, agent: &str) {
    fs::create_dir_all(directory).unwrap();
    let mut tree = Tree::default();
    let content = agent.as_bytes().to_vec();
    let permissions = 0o755;
    tree.add("init", Node::File { permissions, content }).unwrap();
    let mut archive = Vec::new();
    tree.write_to(&mut archive).unwrap();
    let initramfs = zstd::encode_all(&archive[..], 1).unwrap();
    fs::write(directory.join("initramfs.img"), initramfs).unwrap();
    fs::write(directory.join("vmlinuz"), kernel).unwrap();
    let digest = image::sha256_of_bytes;
    let manifest = json!({
        "version": 1, "profile": "lab", "suite": "trixie", "kernel": kernel, "modules": [],
        "files": files(directory, &["initramfs.img", "vmlinuz"]),
        "components": [{
            "name": "linux-image", "version": kernel, "license": "GPL-2.0-only", "sha256": digest(kernel.as_bytes()),
        }],
        "contents": [{
            "path": "init", "bytes": agent.len(), "sha256": digest(agent.as_bytes()), "component": "farrier-agent",
        }],
    });
    fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
}

fn files(directory: &Path, names: &[&str]) -> Vec<Value> {
    let file = |name: &&str| {
        let content = fs::read(directory.join(name)).unwrap();
        json!({"name": name, "bytes": content.len(), "sha256": image::sha256_of_bytes(&content)})
    };
    names.iter().map(file).collect()
}

fn farrier(words: &[&str], directories: &[&Path]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    let output = command.args(words).args(directories).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn an_image_is_whole_until_a_file_is_damaged() {
    let place = tempfile::tempdir().unwrap();
    let boot = place.path().join("boot");
    let verify = || farrier(&["image", "verify"], &[&boot]);
    let (code, said) = verify();
    assert!(
        code == Some(1) && said.contains("has no manifest.json, so it is no boot image"),
        "{said}"
    );
    boot_image(&boot, "6.12", "agent");
    fs::write(boot.join("notes.txt"), "mine").unwrap();
    let (code, said) = verify();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("is whole: 2 files, 1 more in the initramfs, kernel 6.12"),
        "{said}"
    );
    assert!(said.contains("notes.txt: it is left alone"), "{said}");
    // One byte, and the size as before.
    fs::write(boot.join("vmlinuz"), "6.13").unwrap();
    let (code, said) = verify();
    let cure = format!(
        "build it again with `farrier image build --boot-dir {}`",
        boot.display()
    );
    assert!(
        code == Some(1) && said.contains("vmlinuz has the SHA-256 ") && said.contains(&cure),
        "{said}"
    );
    // The file is as the manifest says, and what is in it is not.
    boot_image(&boot, "6.12", "agent");
    let manifest = fs::read_to_string(boot.join("manifest.json")).unwrap();
    fs::write(
        boot.join("manifest.json"),
        manifest.replace("\"init\"", "\"sbin/init\""),
    )
    .unwrap();
    let (code, said) = verify();
    assert!(
        code == Some(1) && said.contains("initramfs.img: sbin/init is missing"),
        "{said}"
    );
}

#[test]
fn two_images_are_compared_to_the_byte() {
    let place = tempfile::tempdir().unwrap();
    let (one, other) = (place.path().join("one"), place.path().join("other"));
    let diff = || farrier(&["image", "diff"], &[&one, &other]);
    boot_image(&one, "6.12", "agent one");
    boot_image(&other, "6.12", "agent one");
    assert_eq!(diff(), (Some(0), String::new()));
    boot_image(&other, "6.13", "agent two");
    let (code, said) = diff();
    assert_eq!(code, Some(1), "{said}");
    let rows: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["WHAT", "NAME", "A", "B", "FROM", "BYTE"]);
    assert_eq!(rows[1], ["setting", "kernel", "6.12", "6.13"]);
    assert_eq!(rows[2], ["package", "linux-image", "6.12", "6.13"]);
    assert_eq!(rows[3], ["content", "init", "9", "B", "9", "B", "6"]);
    assert_eq!(rows[5], ["file", "vmlinuz", "4", "B", "4", "B", "3"]);
    fs::remove_file(other.join("manifest.json")).unwrap();
    let (code, said) = diff();
    assert!(
        code == Some(1) && said.contains("other has no manifest.json"),
        "{said}"
    );
}

#[test]
fn a_server_does_not_serve_a_damaged_boot_image() {
    let dir = tempfile::tempdir().unwrap();
    // With the files that it writes for every server, and no manifest: somebody's own.
    let server = Serve::start(dir.path());
    assert_eq!(server.signal(Signal::SIGTERM).0, Some(0));
    let boot = dir.path().join("boot");
    let mut manifest = json!({
        "version": 1, "profile": "lab", "kernel": "6.12", "modules": [], "components": [],
        "files": files(&boot, &["initramfs.img", "vmlinuz"]),
    });
    let write = |manifest: &Value| fs::write(boot.join("manifest.json"), manifest.to_string()).unwrap();
    write(&manifest);
    let server = Serve::start(dir.path());
    assert_eq!(server.signal(Signal::SIGTERM).0, Some(0));

    let refused = |want: &str| {
        let output = serve(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let cure = format!(
            "build it again with `farrier image build --boot-dir {}`",
            boot.display()
        );
        let begins = format!("farrier: the boot image in {} is damaged: ", boot.display());
        assert!(
            said.contains(&begins) && said.contains(want) && said.contains(&cure),
            "{said}"
        );
    };
    manifest["files"][1]["bytes"] = json!(12_345_678);
    write(&manifest);
    refused("vmlinuz has 7 B, and manifest.json says 12345678");
    fs::write(boot.join("manifest.json"), "{").unwrap();
    refused("manifest.json is no manifest of a boot image, or damaged");
}
