//! Actions that are images: a netbooted machine pulls one from Debian's registry and runs it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use qemu_tests::lab::api;
use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::process::Guarded;
use qemu_tests::lab::wait::{Look, wait_until};
use serde_json::json;

use crate::scene::scene;

const WITHIN: Duration = Duration::from_secs(300);
/// On the lab's network, by plain HTTP.
pub(crate) const REGISTRY: &str = "10.77.0.1:5000";

#[test]
fn a_netbooted_machine_pulls_an_image_and_runs_it() {
    scene(|scene| {
        let folder = scene.world.run_dir.sub("registry").unwrap();
        let _registry = registry(&folder);
        push_image(&folder);
        let blueprint = Blueprint::numbered(1).memory_mib(512).disk(64 << 20);
        let mut machine = scene.world.machine(blueprint).unwrap();
        let record = format!(
            "machine: {}\nmac: {}\naddress: {}/24\nkernel_params: [insecure_registries={REGISTRY}]\n",
            machine.name(),
            machine.mac(),
            machine.address()
        );
        scene.world.api.apply_machines(&record, "lab").unwrap();
        let action = |name: &str, more: &str| {
            format!(
                "      - name: {name}\n        image: {REGISTRY}/tools/box:v1\n        timeout: 120\n{more}"
            )
        };
        let workflow = scene.workflow(
            &machine,
            &[
                action("hello", ""),
                action("disk", "        command: [\"/bin/sh\", \"-c\", \"head -c 4096 /dev/vda >/workflow/head; id -u\"]\n"),
                action("data", "        command: [\"/bin/sh\", \"-c\", \"wc -c </workflow/head\"]\n"),
                action("own-processes", "        command: [\"/bin/sh\", \"-c\", \"echo $$\"]\n"),
                action("the-machines-processes", "        pid: host\n        command: [\"/bin/sh\", \"-c\", \"cat /proc/1/comm\"]\n"),
            ],
        );
        machine.power_on().unwrap();
        let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        let logs = scene.world.api.logs(&workflow.id).unwrap();
        let done = done.unwrap_or_else(|error| panic!("{error:#}: {logs:?}"));
        let messages: Vec<&str> = done.tasks[0]
            .actions
            .iter()
            .map(|action| action.message.as_str())
            .collect();
        assert_eq!(
            messages,
            ["hello from a registry", "0", "4096", "1", "init"],
            "{}",
            api::describe(&done)
        );
        machine.power_cut();
    });
}

/// Debian's registry; it answers when this returns.
pub(crate) fn registry(folder: &Path) -> Guarded {
    let config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}/store}}\n\
         http:\n  addr: {REGISTRY}\n",
        folder.display()
    );
    fs::write(folder.join("config.yml"), config).unwrap();
    let log = folder.join("log");
    let mut command = Command::new("docker-registry");
    command
        .arg("serve")
        .arg(folder.join("config.yml"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap());
    let process =
        Guarded::start(&mut command).expect("Debian's docker-registry; `cargo xtask test` installs it");
    wait_until(
        "the registry",
        Duration::from_secs(60),
        || match TcpStream::connect(REGISTRY) {
            Ok(_) => Look::Done(()),
            Err(error) => Look::not_yet(format!(
                "{error}; {}",
                fs::read_to_string(&log).unwrap_or_default()
            )),
        },
    )
    .unwrap();
    process
}

/// Pushes `tools/box:v1`: busybox in one layer, and in another a file that the image's own command shows.
pub(crate) fn push_image(folder: &Path) {
    let at = |name: &str| folder.join(name);
    for layer in ["base/bin", "top/etc"] {
        fs::create_dir_all(at(layer)).unwrap();
    }
    fs::copy("/bin/busybox", at("base/bin/busybox")).expect("Debian's busybox-static");
    for applet in [
        "sh", "cat", "id", "head", "wc", "echo", "sleep", "ip", "cp", "dmesg",
    ] {
        symlink("busybox", at("base/bin").join(applet)).unwrap();
    }
    fs::write(at("top/etc/hello"), "hello from a registry\n").unwrap();
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for layer in ["base", "top"] {
        let tar = at(&format!("{layer}.tar"));
        run(Command::new("tar")
            .arg("-C")
            .arg(at(layer))
            .arg("-cf")
            .arg(&tar)
            .arg("."));
        diff_ids.push(digest(&tar));
        run(Command::new("gzip").arg("-n").arg(&tar));
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        layers.push(push(&at(&format!("{layer}.tar.gz")), media_type));
    }
    let config = json!({
        "os": "linux",
        "architecture": "amd64",
        "config": {"Cmd": ["/bin/cat", "/etc/hello"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    fs::write(at("config.json"), config.to_string()).unwrap();
    let config = push(&at("config.json"), "application/vnd.oci.image.config.v1+json");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    let file = at("manifest.json");
    fs::write(&file, manifest.to_string()).unwrap();
    put(
        &file,
        media_type,
        &format!("http://{REGISTRY}/v2/tools/box/manifests/v1"),
    );
}

/// Stores a file, and says of it what a manifest does.
fn push(file: &Path, media_type: &str) -> serde_json::Value {
    let digest = digest(file);
    let uploads = format!("http://{REGISTRY}/v2/tools/box/blobs/uploads/");
    let begun = run(Command::new("curl").args(["-sS", "--fail", "-D", "-", "-X", "POST", &uploads]));
    let place = begun.lines().find_map(|line| line.strip_prefix("Location: "));
    let place = format!("{}&digest={digest}", place.expect("a place").trim());
    put(file, "application/octet-stream", &place);
    json!({"mediaType": media_type, "digest": digest, "size": fs::metadata(file).unwrap().len()})
}

fn digest(file: &Path) -> String {
    let said = run(Command::new("sha256sum").arg(file));
    format!("sha256:{}", said.split(' ').next().unwrap_or_default())
}

fn put(file: &Path, media_type: &str, url: &str) {
    let content = format!("@{}", file.display());
    let kind = format!("Content-Type: {media_type}");
    run(Command::new("curl").args([
        "-sS",
        "--fail",
        "-X",
        "PUT",
        "--data-binary",
        &content,
        "-H",
        &kind,
        url,
    ]));
}

fn run(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{command:?}: {ran:?}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}
