//! A boot image with a containerd: the machine runs actions by it as it runs them by itself, under cgroups of version 2.

use std::fs;
use std::process::Output;
use std::time::Duration;

use ::image::Manifest;
use qemu_tests::lab::api;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::namespace::inside;
use qemu_tests::lab::wait::{Look, wait_until};

use crate::cards::{build, build_with};
use crate::containers::{REGISTRY, push_image, push_image_as, registry};
use crate::scene::{Scene, path_from, scene_with};

const WITHIN: Duration = Duration::from_secs(300);

/// Of the contract that both runtimes keep (`container/tests/suite`), what the machine's kernel has a part in: name, fields of the action,
/// command, and the line that it prints last.
const CONTRACT: [(&str, &str, &str, &str); 13] = [
    ("first", "", "echo $$ $HOME $(pwd) $(id -u)", "1 / / 0"),
    ("machines-processes", "pid: host", "cat /proc/1/comm", "init"),
    ("root", "", "echo text >/new && cat /new", "text"),
    (
        "data",
        "",
        "head -c 4096 /dev/vda >/workflow/head; wc -c </workflow/head",
        "4096",
    ),
    (
        "volume",
        "volumes: [\"/run/of-the-machine:/made\"]",
        "echo y >/made/y; cat /made/y",
        "y",
    ),
    (
        "volume-that-is-kept",
        "volumes: [\"/run/of-the-machine:/kept:ro\"]",
        "touch /workflow/x; (echo z >/kept/y) 2>/dev/null || cat /kept/y",
        "y",
    ),
    (
        "no-network",
        "namespaces: {network: none}",
        "ip -o link | wc -l",
        "1",
    ),
    (
        "own-network",
        "namespaces: {network: bridge}",
        "wget -q -O - NOTE",
        "reached through the machine",
    ),
    (
        "limits",
        "resources: {memory: 64MiB, pids: 20, cpu: 0.5}",
        "cd /sys/fs/cgroup; echo $(cat memory.max pids.max cpu.max)",
        "67108864 20 50000 100000",
    ),
    (
        "confined-rights",
        "confined: true",
        "grep CapEff /proc/self/status | cut -f 2",
        "00000000a80425fb",
    ),
    (
        "confined-calls",
        "confined: true",
        "grep Seccomp: /proc/self/status | cut -f 2",
        "2",
    ),
    (
        "confined-devices",
        "confined: true",
        "mknod /workflow/disk b 254 0; head -c 1 /workflow/disk >/dev/null 2>&1 || rm -f /workflow/disk; ls /dev | grep -c vda || true",
        "0",
    ),
    (
        "confined-mounts",
        "confined: true",
        "mount -t tmpfs none /mnt 2>/dev/null || echo refused",
        "refused",
    ),
];

const BOOT_DIR: &str = "boot-containerd";
const PROFILES: [&str; 4] = ["--profile", "lab", "--profile", "containerd"];

pub(crate) fn a_boot_image_with_containerd_runs_by_it_what_the_agent_runs_by_itself() {
    // Outside: inside there is no way to a mirror.
    if !inside() {
        let boot_dir = path_from("FARRIER_LAB_DIR").join(BOOT_DIR);
        let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
        let built = build_with("FARRIER_AGENT_WITH_CONTAINERD", &boot_dir, &PROFILES);
        assert!(built.status.success(), "{}", said(&built));
        // The agent that is netbooted otherwise could do nothing with it.
        let refused = build(&boot_dir, &PROFILES);
        assert!(
            !refused.status.success() && said(&refused).contains("cannot ask containerd"),
            "{}",
            said(&refused)
        );
        let manifest = Manifest::read(&boot_dir).unwrap();
        let over: Vec<_> = manifest
            .families
            .iter()
            .filter(|one| one.bytes > one.budget_bytes)
            .collect();
        assert!(over.is_empty(), "{over:#?}");
    }
    scene_with(BOOT_DIR, |scene| {
        let folder = scene.world.run_dir.sub("registry").unwrap();
        let _registry = registry(&folder);
        push_image(&folder);
        let hello = (
            "hello",
            "Hello from Docker!\n",
            r#"{"Cmd": ["/bin/cat", "/hello"]}"#,
        );
        push_image_as(&folder, "library/hello-world", "latest", hello);
        let docker = format!("docker.io=http://{REGISTRY}");
        scene.world.server.restart_with(&["--registry", &docker]).unwrap();
        fs::write(scene.images.join("note"), "reached through the machine\n").unwrap();
        let blueprint = Blueprint::numbered(1).memory_mib(1024).disk(64 << 20);
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.stays_in_memory(
            &machine,
            &format!("kernel_params: [insecure_registries={REGISTRY}, farrier.runtime=containerd]\n"),
        );
        machine.power_on().unwrap();

        // By the kernel parameter alone.
        let hello = run(
            scene,
            &machine,
            "      - {name: hello, image: hello-world, timeout: 280}\n",
        );
        let done = scene.world.api.wait_for_workflow(&hello.id, "SUCCESS", WITHIN);
        let lines = lines(scene, &hello);
        let done = done.unwrap_or_else(|error| panic!("{error:#}: {lines:#?}"));
        assert_eq!(done.tasks[0].actions[0].message, "Hello from Docker!");
        for words in [
            "containerd of the boot image is at /usr",
            "of the boot image serves",
            ", in containerd",
        ] {
            assert!(
                lines.iter().any(|line| line.contains(words)),
                "{words}: {lines:#?}"
            );
        }

        let note = scene.url("note");
        for runtime in ["containerd", "namespaces"] {
            let actions: String = CONTRACT
                .iter()
                .map(|(name, fields, command, _)| {
                    action(name, runtime, fields, &command.replace("NOTE", &note))
                })
                .collect();
            let workflow = run(scene, &machine, &actions);
            let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
            let done = done
                .unwrap_or_else(|error| panic!("{runtime}: {error:#}: {:#?}", self::lines(scene, &workflow)));
            for ((name, .., want), action) in CONTRACT.iter().zip(&done.tasks[0].actions) {
                assert_eq!(
                    action.message,
                    *want,
                    "{name} by {runtime}: {}",
                    api::describe(&done)
                );
            }
        }

        // How it ends.
        let fails = |fields: &str, command: &str| {
            let workflow = run(scene, &machine, &action("fails", "containerd", fields, command));
            scene.failure_of(&workflow)
        };
        let hog = fails(
            "resources: {memory: 32MiB}",
            "head -c 200000000 /dev/zero | tail -c 200000000 >/dev/null; exit 9",
        );
        assert!(hog.starts_with("OutOfMemory") && hog.contains("32 MiB"), "{hog}");
        let bomb = fails(
            "resources: {pids: 8}",
            "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; exit 9",
        );
        assert!(bomb.contains("resources.pids"), "{bomb}");
        let code = fails("", "exit 7");
        assert!(code.starts_with("ExitCode") && code.contains("code 7"), "{code}");

        // It dies: that is told with its last lines, and the next action has another one.
        let kill = action(
            "kill",
            "namespaces",
            "pid: host",
            "kill -9 $(pidof containerd); echo killed",
        );
        let workflow = run(scene, &machine, &kill);
        scene
            .world
            .api
            .wait_for_workflow(&workflow.id, "SUCCESS", WITHIN)
            .unwrap();
        wait_until("its end to be told", WITHIN, || {
            match machine
                .serial()
                .text()
                .contains("the boot image's containerd: it ended (signal: 9")
            {
                true => Look::Done(()),
                false => Look::not_yet(machine.serial().last_lines(2).join(" | ")),
            }
        })
        .unwrap();
        let workflow = run(scene, &machine, &action("again", "containerd", "", "echo again"));
        let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        let done = done.unwrap_or_else(|error| panic!("{error:#}: {:#?}", self::lines(scene, &workflow)));
        assert_eq!(done.tasks[0].actions[0].message, "again");
        machine.power_cut();
    });
}

fn run(scene: &Scene, machine: &Machine, actions: &str) -> proto::v1::Workflow {
    let text = format!(
        "version: \"1\"\nname: containerd\ntasks:\n  - name: containerd\n    worker: \"{}\"\n    actions:\n{actions}",
        machine.mac()
    );
    scene.world.api.run_template(&text).unwrap()
}

fn action(name: &str, runtime: &str, fields: &str, command: &str) -> String {
    let fields = match fields {
        "" => String::new(),
        fields => format!("        {fields}\n"),
    };
    let command = serde_json::to_string(command).unwrap();
    format!(
        "      - name: {name}\n        image: {REGISTRY}/tools/box:v1\n        timeout: 120\n        runtime: {runtime}\n{fields}        \
         command: [\"/bin/sh\", \"-c\", {command}]\n"
    )
}

fn lines(scene: &Scene, workflow: &proto::v1::Workflow) -> Vec<String> {
    let logs = scene.world.api.logs(&workflow.id).unwrap();
    logs.into_iter().map(|line| line.text).collect()
}
