//! Actions that are images: a netbooted machine pulls one from Debian's registry and runs it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use qemu_tests::lab::api;
use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::process::Guarded;
use qemu_tests::lab::server::Server;
use qemu_tests::lab::wait::{Look, wait_until};
use serde_json::json;

use crate::scene::{Scene, scene};

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
        fs::write(scene.images.join("note"), "reached through the machine\n").unwrap();
        let note = scene.url("note");
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
                action("own-network", &format!("        namespaces: {{network: bridge}}\n        command: [\"/bin/sh\", \"-c\", \"wget -q -O - {note}\"]\n")),
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
            [
                "hello from a registry",
                "0",
                "4096",
                "1",
                "reached through the machine",
                "init"
            ],
            "{}",
            api::describe(&done)
        );
        machine.power_cut();
    });
}

/// The controllers that this takes are those of the machine's kernel: hosts with cgroups of version 1 refuse limits.
#[test]
fn limits_of_memory_processors_and_processes_are_kept() {
    scene(|scene| {
        let folder = scene.world.run_dir.sub("registry").unwrap();
        let _registry = registry(&folder);
        push_image(&folder);
        let mut machine = scene.machine(1, 64 << 20);
        scene.stays_in_memory(
            &machine,
            &format!("kernel_params: [insecure_registries={REGISTRY}]\n"),
        );
        machine.power_on().unwrap();
        let runs = |resources: &str, command: &str| {
            let text = format!(
                "version: \"1\"\nname: limits\ntasks:\n  - name: limits\n    worker: \"{}\"\n    actions:\n      - name: limits\n        \
                 image: {REGISTRY}/tools/box:v1\n        timeout: 120\n        resources: {{{resources}}}\n        command: [\"/bin/sh\", \"-c\", \
                 \"{command}\"]\n",
                machine.mac()
            );
            scene.world.api.run_template(&text).unwrap()
        };
        let hog = runs(
            "memory: 32MiB",
            "head -c 200000000 /dev/zero | tail -c 200000000 >/dev/null; echo it lives",
        );
        let hog = scene.failure_of(&hog);
        assert!(hog.starts_with("OutOfMemory") && hog.contains("32 MiB"), "{hog}");
        let bomb = runs(
            "pids: 8",
            "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; echo it lives",
        );
        let bomb = scene.failure_of(&bomb);
        assert!(bomb.contains("resources.pids"), "{bomb}");
        // Asked for as long as it takes to be held back ten times: a period of it is 100 ms.
        let busy = "until [ $(grep nr_throttled /sys/fs/cgroup/cpu.stat | cut -d ' ' -f 2) -ge 10 ]; do :; done; cat /sys/fs/cgroup/cpu.max";
        let busy = runs("cpu: 0.1", busy);
        let done = scene
            .world
            .api
            .wait_for_workflow(&busy.id, "SUCCESS", WITHIN)
            .unwrap();
        assert_eq!(
            done.tasks[0].actions[0].message,
            "10000 100000",
            "{}",
            api::describe(&done)
        );
        machine.power_cut();
    });
}

/// All of docs/how-to/write-an-action.md but the program that builds the image, which needs an image of Alpine's.
#[test]
fn an_action_that_is_written_as_the_documentation_says_runs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/how-to/write-an-action.md");
    let page = fs::read_to_string(page).unwrap();
    let program = block(&page, "text disk-speed");
    let template = block(&page, "yaml template").replace("/dev/sda", "/dev/vda");
    scene(|scene| {
        let folder = scene.world.run_dir.sub("registry").unwrap();
        let outside = registry(&folder);
        let config = r#"{"Entrypoint": ["/disk-speed"]}"#;
        push_image_as(&folder, "disk-speed", "1", ("disk-speed", &program, config));
        let file = folder.join("disk-speed.tar");
        let from = format!("docker://{REGISTRY}/disk-speed:1");
        let to = format!("docker-archive:{}:tools.example.com/disk-speed:1", file.display());
        run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", &from, &to]));
        drop(outside);
        farrier(scene, &["registry", "import", file.to_str().unwrap()]);
        let template_file = folder.join("disk-speed.yaml");
        fs::write(&template_file, &template).unwrap();
        farrier(
            scene,
            &["template", "validate", "-f", template_file.to_str().unwrap()],
        );
        scene.world.api.put_template(&template).unwrap();
        let mut machine = scene.machine(1, 64 << 20);
        let name = machine.name().to_owned();
        let devices = [("device_1", name.as_str())];
        let workflow = scene.world.api.create_workflow("disk-speed", &devices).unwrap();
        machine.power_on().unwrap();
        let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        let done = done.unwrap_or_else(|error| panic!("{error:#}: {:?}", scene.world.api.logs(&workflow.id)));
        let speed = serde_json::from_str::<serde_json::Value>(&done.outputs_json).unwrap();
        let speed = speed["mib_per_s"].as_u64().unwrap();
        assert_eq!(done.tasks[0].actions[0].message, format!("{speed} MiB/s"));
        // The next action gets a disk that is none.
        let wrong = template
            .replace("name: disk-speed", "name: wrong")
            .replace("/dev/vda", "/dev/none");
        scene.world.api.put_template(&wrong).unwrap();
        let workflow = scene.world.api.create_workflow("wrong", &devices).unwrap();
        let failure = scene.failure_of(&workflow);
        assert!(failure.starts_with("NoDisk DISK names no disk"), "{failure}");
        machine.power_cut();
    });
}

/// What stands in the block with this word, without its indent.
fn block(page: &str, word: &str) -> String {
    let begin = format!("```{word}");
    let lines = page.lines().skip_while(|line| line.trim() != begin).skip(1);
    let lines = lines.take_while(|line| line.trim() != "```");
    let text: Vec<&str> = lines.map(|line| line.get(3..).unwrap_or_default()).collect();
    assert!(!text.is_empty(), "no block {word}");
    text.join("\n") + "\n"
}

fn farrier(scene: &Scene, arguments: &[&str]) -> String {
    let paths = scene.world.server.paths();
    run(Command::new(&paths.farrier)
        .args(arguments)
        .env("FARRIER_SERVER", Server::API)
        .env("FARRIER_TOKEN", scene.world.server.token().unwrap().to_string()))
}

/// The name alone leads to docker.io, which no machine reaches here: the server fetches it from where it is told that is. What is
/// wrapped in `waitdaemon` runs after the report, without Docker, and takes the machine down by itself.
#[test]
fn two_machines_run_hello_world_through_the_server_while_its_registry_is_away_after_the_first() {
    scene(|scene| {
        let folder = scene.world.run_dir.sub("registry").unwrap();
        let outside = registry(&folder);
        push_image_as(&folder, "library/hello-world", "latest", HELLO);
        let docker = format!("docker.io=http://{REGISTRY}");
        scene.world.server.restart_with(&["--registry", &docker]).unwrap();
        let hello = "      - name: hello\n        image: hello-world\n        timeout: 120\n".to_owned();
        let leave = "      - name: leave\n        image: ghcr.io/jacobweinstock/waitdaemon:0.2.1\n        timeout: 90\n        \
                     environment: {IMAGE: hello-world, WAIT_SECONDS: 1}\n        command: [\"/bin/sh\", \"-c\", \"echo farewell; sleep 2; \
                     echo b >/proc/sysrq-trigger; sleep 60\"]\n"
            .to_owned();
        let mut outside = Some(outside);
        for number in [1, 2] {
            let blueprint = Blueprint::numbered(number).memory_mib(512).disk(64 << 20);
            let mut machine = scene.world.machine(blueprint).unwrap();
            let workflow = scene.workflow(&machine, &[hello.clone(), leave.clone()]);
            machine.power_on().unwrap();
            let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
            let logs = |api: &api::Api| api.logs(&workflow.id).unwrap();
            let done = done.unwrap_or_else(|error| panic!("{error:#}: {:?}", logs(&scene.world.api)));
            let message = &done.tasks[0].actions[0].message;
            assert_eq!(message, "hello from a registry", "{}", api::describe(&done));
            // Nobody but its own container resets it.
            wait_until("the firmware again", WITHIN, || {
                let text = machine.serial().text();
                match text.rsplit_once("farewell") {
                    Some((_, after)) if after.contains("the machine is still here") => {
                        Look::never("it did not leave by itself")
                    }
                    Some((_, after)) if after.contains("SeaBIOS") => Look::Done(()),
                    _ => Look::not_yet(machine.serial().last_lines(2).join(" | ")),
                }
            })
            .unwrap();
            machine.power_cut();
            drop(outside.take());
        }
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

/// Pushes `tools/box:v1`; see [`push_image_as`].
pub(crate) fn push_image(folder: &Path) {
    push_image_as(folder, "tools/box", "v1", HELLO);
}

/// The file that the second layer of an image has, its content, and what is run: as `config` of an image says it.
pub(crate) type Top<'a> = (&'a str, &'a str, &'a str);

const HELLO: Top = (
    "hello",
    "hello from a registry\n",
    r#"{"Cmd": ["/bin/cat", "/hello"]}"#,
);

/// Pushes an image of two layers: busybox, and one file.
pub(crate) fn push_image_as(folder: &Path, repository: &str, tag: &str, (name, content, config): Top) {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let folder = folder.path();
    let at = |name: &str| folder.join(name);
    for layer in ["base/bin", "top"] {
        fs::create_dir_all(at(layer)).unwrap();
    }
    fs::copy("/bin/busybox", at("base/bin/busybox")).expect("Debian's busybox-static");
    for applet in [
        "sh", "cat", "id", "head", "wc", "echo", "sleep", "ip", "cp", "dmesg", "cut", "tr", "dd", "wget",
        "tail", "grep", "ls", "mount", "mknod", "pidof", "rm", "touch",
    ] {
        symlink("busybox", at("base/bin").join(applet)).unwrap();
    }
    let file = at("top").join(name);
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
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
        layers.push(push(&at(&format!("{layer}.tar.gz")), media_type, repository));
    }
    let config = json!({
        "os": "linux",
        "architecture": "amd64",
        "config": serde_json::from_str::<serde_json::Value>(config).unwrap(),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    fs::write(at("config.json"), config.to_string()).unwrap();
    let config = push(
        &at("config.json"),
        "application/vnd.oci.image.config.v1+json",
        repository,
    );
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    let file = at("manifest.json");
    fs::write(&file, manifest.to_string()).unwrap();
    put(
        &file,
        media_type,
        &format!("http://{REGISTRY}/v2/{repository}/manifests/{tag}"),
    );
}

/// Stores a file, and says of it what a manifest does.
fn push(file: &Path, media_type: &str, repository: &str) -> serde_json::Value {
    let digest = digest(file);
    let uploads = format!("http://{REGISTRY}/v2/{repository}/blobs/uploads/");
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
