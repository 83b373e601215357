//! Workflows over two machines: order between them, data handed over, a reboot in the middle, a pause over a server
//! that dies, a cancel and a power cut in mid-action.

use std::time::Duration;

use proto::v1::Workflow;
use qemu_tests::lab::api;
use qemu_tests::lab::documents::DISK;
use qemu_tests::lab::machine::Machine;
use qemu_tests::lab::wait::{Look, wait_until};

use crate::image::TestImage;
use crate::scene::{Scene, scene, write_image};

/// Large enough that the write takes seconds; what is on the disk when something is done to it; the disk.
const IMAGE: usize = 192 << 20;
const IN_THE_MIDDLE: u64 = 24 << 20;
const DISK_BYTES: u64 = 256 << 20;
const WITHIN: Duration = Duration::from_secs(300);

#[test]
fn two_machines_work_in_order_and_hand_data_over_and_a_pause_outlives_the_server() {
    scene(|scene| {
        let image = TestImage::create(&scene.images, "noise.raw.zst", IMAGE);
        let (mut first, mut second) = (scene.machine(1, DISK_BYTES), scene.machine(2, DISK_BYTES));
        let write = write_image(
            &scene.url(&image.name),
            DISK,
            &[("SHA256", image.sha256.as_str())],
        );
        let workflow = scene
            .world
            .api
            .run_template(&format!(
                "\
version: \"1\"
name: hand-over
global_timeout: 30m
tasks:
  - name: prepare
    worker: \"{first}\"
    actions:
{note_before}      - name: reboot
        image: reboot
        timeout: 120
        reboots: true
{note_after}  - name: use
    worker: \"{second}\"
    actions:
{write}{note_end}",
                first = first.mac(),
                second = second.mac(),
                note_before = note("before", "before", "before the reboot"),
                note_after = note("after", "${{ workflow.id }}/after", "after the reboot"),
                note_end = note("end", "end", "written by the second"),
            ))
            .unwrap();
        first.power_on().unwrap();
        second.power_on().unwrap();

        // The second machine waits for the first, which reboots into the agent in between.
        scene.wait_for_writes(&mut second, IN_THE_MIDDLE, &workflow);
        let now = scene.world.api.workflow(&workflow.id).unwrap();
        assert_eq!(states(&now, 0), ["SUCCESS"; 3], "{}", api::describe(&now));
        assert_eq!(
            first.serial().text().matches("stage=agent-start").count(),
            2,
            "it rebooted once"
        );

        // Paused in mid-action: the action goes on to its end, and nothing follows, also over a server that dies.
        scene.world.api.pause(&workflow.id).unwrap();
        scene.world.server.kill_9();
        scene.world.server.restart().unwrap();
        let paused = scene
            .world
            .api
            .wait_for_workflow(&workflow.id, "PAUSED", WITHIN)
            .unwrap();
        assert_eq!(
            states(&paused, 1),
            ["SUCCESS", "IDLE"],
            "{}",
            api::describe(&paused)
        );
        scene.world.api.resume(&workflow.id).unwrap();
        let done = scene
            .world
            .api
            .wait_for_workflow(&workflow.id, "SUCCESS", WITHIN)
            .unwrap();
        for task in &done.tasks {
            for action in &task.executions[0].actions {
                assert_eq!(
                    action.attempts,
                    1,
                    "{} ran again: {}",
                    action.name,
                    api::describe(&done)
                );
            }
        }
        let files = scene.world.api.data(&workflow.id).unwrap();
        assert_eq!(files["before"], b"before the reboot");
        assert_eq!(files["after"], b"after the reboot");
        assert_eq!(files["end"], b"written by the second");
        assert!(second.disk(0).looks_bootable().unwrap());
    });
}

#[test]
fn one_workflow_is_cancelled_in_mid_action_and_the_next_outlives_a_power_cut() {
    scene(|scene| {
        let image = TestImage::create(&scene.images, "noise.raw.zst", IMAGE);
        let mut machine = scene.machine(1, DISK_BYTES);
        let write = write_image(
            &scene.url(&image.name),
            DISK,
            &[("SHA256", image.sha256.as_str())],
        );
        let [cancelled, next] = ["cancelled", "next"].map(|name| {
            let text = format!(
                "version: \"1\"\nname: {name}\ntasks:\n  - name: write\n    worker: \"{}\"\n    actions:\n{write}",
                machine.mac()
            );
            scene.world.api.run_template(&text).unwrap()
        });
        machine.power_on().unwrap();
        scene.wait_for_writes(&mut machine, IN_THE_MIDDLE, &cancelled);
        let waiting = scene.world.api.workflow(&next.id).unwrap();
        assert_eq!(
            waiting.state,
            "PENDING",
            "the second waits for the first: {}",
            api::describe(&waiting)
        );

        scene.world.api.cancel(&cancelled.id, "wrong image").unwrap();
        let ended = scene
            .world
            .api
            .wait_for_workflow(&cancelled.id, "CANCELLED", WITHIN)
            .unwrap();
        assert_eq!(states(&ended, 0), ["CANCELLED"], "{}", api::describe(&ended));

        running(scene, &next);
        power_cut_in_mid_action(scene, &mut machine, &next);
        let done = scene
            .world
            .api
            .wait_for_workflow(&next.id, "SUCCESS", WITHIN)
            .unwrap();
        assert_eq!(
            done.tasks[0].executions[0].actions[0].attempts,
            2,
            "{}",
            api::describe(&done)
        );
        assert!(machine.disk(0).looks_bootable().unwrap());
    });
}

fn power_cut_in_mid_action(scene: &Scene, machine: &mut Machine, workflow: &Workflow) {
    let before = machine.disk(0).written_bytes().unwrap();
    scene.wait_for_writes(machine, before + (1 << 20), workflow);
    machine.power_cut();
    assert!(
        !machine.disk(0).looks_bootable().unwrap(),
        "half a disk looks bootable"
    );
    machine.power_on().unwrap();
}

/// Waits until its first action runs on the machine.
fn running(scene: &Scene, workflow: &Workflow) {
    wait_until("the next workflow's action to run", WITHIN, || {
        match scene.world.api.workflow(&workflow.id) {
            Ok(workflow) if states(&workflow, 0).first() == Some(&"RUNNING") => Look::Done(()),
            Ok(workflow) => Look::not_yet(api::describe(&workflow)),
            Err(error) => Look::not_yet(format!("{error:#}")),
        }
    })
    .unwrap();
}

fn states(workflow: &Workflow, task: usize) -> Vec<&str> {
    let task = &workflow.tasks[task];
    let actions = task
        .executions
        .first()
        .map_or(&task.actions, |execution| &execution.actions);
    actions.iter().map(|action| action.state.as_str()).collect()
}

/// Writes a file for the actions that follow, on whichever machine.
fn note(name: &str, path: &str, text: &str) -> String {
    format!(
        "      - name: note-{name}\n        image: writefile\n        timeout: 60\n        environment:\n          \
         DEST_PATH: /workflow/{path}\n          CONTENTS: \"{text}\"\n"
    )
}
