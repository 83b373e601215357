//! What every test here stands on: a server and a network in namespaces of its own, images to install, and
//! evidence kept when it fails.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, panic, thread};

use nix::mount::{MsFlags, mount};
use proto::v1::Workflow;
use qemu_tests::lab::api;
use qemu_tests::lab::artifacts::Artifacts;
use qemu_tests::lab::documents::DISK;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::namespace::{in_lab, inside};
use qemu_tests::lab::run_dir::RunDir;
use qemu_tests::lab::server::Server;
use qemu_tests::lab::wait::{Look, wait_until};
use qemu_tests::lab::world::{Built, World};

/// A world with a directory of images.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) images: PathBuf,
}

/// Runs a test in a lab of its own. A failure leaves its evidence in `FARRIER_LAB_DIR`/artifacts/NAME.
#[track_caller]
pub(crate) fn scene(test: impl FnOnce(&mut Scene)) {
    scene_with("boot", test);
}

/// As [`scene`], with another boot image than the lab's usual one: `boot_dir` is its directory in `FARRIER_LAB_DIR`.
#[track_caller]
pub(crate) fn scene_with(boot_dir: &str, test: impl FnOnce(&mut Scene)) {
    // Outside too, so that a missing variable is said in the test's own words.
    let lab_dir = path_from("FARRIER_LAB_DIR");
    let farrier = path_from("FARRIER_BIN");
    in_lab(|| {
        let run_dir = RunDir::mount().unwrap();
        let images = run_dir.sub("images").unwrap();
        let built = Built {
            farrier,
            boot_dir: lab_dir.join(boot_dir),
            images_dir: images.clone(),
        };
        let mut scene = Scene {
            world: World::start_in(run_dir, &built).unwrap(),
            images,
        };
        let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| test(&mut scene)));
        if let Err(panic) = outcome {
            scene.keep_evidence(&lab_dir);
            panic::resume_unwind(panic);
        }
    });
}

pub(crate) fn path_from(variable: &str) -> PathBuf {
    let value = env::var_os(variable).unwrap_or_else(|| {
        panic!("{variable} is not set: `cargo xtask test --only e2e` sets it and builds what it names")
    });
    std::path::absolute(value).unwrap()
}

impl Scene {
    /// A small machine with an empty disk, known to the server.
    pub(crate) fn machine(&self, number: u8, disk_bytes: u64) -> Machine {
        self.world
            .machine(Blueprint::numbered(number).memory_mib(512).disk(disk_bytes))
            .unwrap()
    }

    /// A record of the machine by which it netboots without a workflow, too, and stays in memory; with more fields of a record.
    pub(crate) fn stays_in_memory(&self, machine: &Machine, more: &str) {
        let record = format!(
            "machine: {}\nmac: {}\naddress: {}/24\nnetboot: agent\n{more}",
            machine.name(),
            machine.mac(),
            machine.address()
        );
        self.world.api.apply_machines(&record, "lab").unwrap();
    }

    /// Where machines fetch an image of this name.
    pub(crate) fn url(&self, image: &str) -> String {
        format!("http://{}/images/{image}", Server::HTTP)
    }

    /// Puts a file that was built before into the images directory, without a copy.
    pub(crate) fn serve_file(&self, file: &Path, name: &str) {
        let place = self.images.join(name);
        fs::write(&place, "").unwrap();
        mount(Some(file), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }

    /// A copy of the boot image, which the server serves from now on: what is changed in it is this test's alone.
    pub(crate) fn own_boot_dir(&mut self) -> PathBuf {
        let copy = self.world.run_dir.sub("boot").unwrap();
        let served = self.world.server.paths().boot_dir.clone();
        for entry in fs::read_dir(&served).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        // The server looks at the image by its path when it starts, and it runs.
        mount(Some(&copy), &served, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        copy
    }

    /// A workflow of one machine: the given actions, in the order given.
    pub(crate) fn workflow(&self, machine: &Machine, actions: &[String]) -> Workflow {
        let name = format!("test-{}", uuid::Uuid::new_v4().simple());
        let text = format!(
            "version: \"0.1\"\nname: {name}\nglobal_timeout: 1800\ntasks:\n  - name: test\n    worker: \"{{{{.device_1}}}}\"\n    actions:\n{}",
            actions.concat()
        );
        self.world.api.put_template(&text).unwrap();
        self.world
            .api
            .create_workflow(&name, &[("device_1", machine.mac())])
            .unwrap()
    }

    /// Waits until the workflow has FAILED, and gives the message of its first action.
    pub(crate) fn failure_of(&self, workflow: &Workflow) -> String {
        let failed = self
            .world
            .api
            .wait_for_workflow(&workflow.id, "FAILED", Duration::from_secs(300))
            .unwrap();
        let action = failed
            .tasks
            .first()
            .and_then(|task| task.actions.first())
            .unwrap();
        assert_eq!(action.state, "FAILED", "{}", api::describe(&failed));
        format!("{} {}", action.reason, action.message)
    }

    /// Waits until the machine has written so much to its first disk.
    pub(crate) fn wait_for_writes(&self, machine: &mut Machine, bytes: u64, workflow: &Workflow) {
        wait_until(
            &format!("{bytes} B on the disk"),
            Duration::from_secs(180),
            || {
                let written = machine.disk(0).written_bytes().unwrap();
                match self.world.api.workflow(&workflow.id) {
                    _ if written >= bytes => Look::Done(()),
                    Ok(workflow) if api::is_final(&workflow.state) => Look::never(api::describe(&workflow)),
                    _ => Look::not_yet(format!("{written} B, {:?}", machine.serial().last_lines(1))),
                }
            },
        )
        .unwrap();
    }

    fn keep_evidence(&self, lab_dir: &Path) {
        let name = thread::current().name().unwrap_or("test").replace("::", "-");
        let artifacts = Artifacts::create(&lab_dir.join("artifacts"), &name).unwrap();
        artifacts.keep(self.world.server.log(), "serve.log");
        for name in ["", "m1", "m2"] {
            artifacts.keep_boot_log(&self.world.api, name);
        }
        let said = artifacts.keep_machines(&self.world.run_dir, 30);
        eprintln!(
            "{said}Serial log, boot timeline, packets and the server's log are in {}",
            artifacts.path().display()
        );
        assert!(inside(), "evidence is kept by the process inside");
    }
}

/// `image2disk`, with more environment variables.
pub(crate) fn write_image(url: &str, disk: &str, more: &[(&str, &str)]) -> String {
    let more: String = more
        .iter()
        .map(|(name, value)| format!("          {name}: \"{value}\"\n"))
        .collect();
    format!(
        "      - name: write-image\n        image: quay.io/tinkerbell/actions/image2disk:latest\n        timeout: 900\n        environment:\n          IMG_URL: {url}\n          DEST_DISK: {disk}\n          COMPRESSED: \"true\"\n{more}"
    )
}

/// `image2disk` to the machine's own disk, with a digest.
pub(crate) fn write_image_with_digest(url: &str, sha256: &str) -> String {
    write_image(url, DISK, &[("SHA256", sha256)])
}

/// `writefile` of `/note` to the ext4 on a device.
pub(crate) fn write_note(device: &str, content: &str) -> String {
    format!(
        "      - name: note-{content}\n        image: writefile\n        timeout: 60\n        environment:\n          DEST_DISK: {device}\n          FS_TYPE: ext4\n          DEST_PATH: /note\n          CONTENTS: {content}\n          UID: \"0\"\n          GID: \"0\"\n          MODE: \"0644\"\n          DIRMODE: \"0755\"\n"
    )
}

/// `reboot`.
pub(crate) fn reboot() -> String {
    "      - name: reboot\n        image: reboot\n        timeout: 120\n".to_owned()
}

/// Each of these words is in one of the lines.
#[track_caller]
pub(crate) fn has(lines: &[String], words: &[&str]) {
    for words in words {
        assert!(
            lines.iter().any(|line| line.contains(words)),
            "{words}: {lines:#?}"
        );
    }
}

/// What a workflow has printed.
pub(crate) fn lines(scene: &Scene, workflow: &Workflow) -> Vec<String> {
    let logs = scene.world.api.logs(&workflow.id).unwrap();
    logs.into_iter().map(|line| line.text).collect()
}
