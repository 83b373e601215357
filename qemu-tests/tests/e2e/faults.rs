//! The server or the machine dies in the middle of the image write, and nothing is lost.

use std::time::Duration;

use qemu_tests::lab::api;

use crate::image::{BOOTED, TestImage};
use crate::scene::{reboot, scene, write_image_with_digest};

/// Large enough that the write takes seconds; what is on the disk when the fault comes; the disk.
const IMAGE: usize = 192 << 20;
const BEFORE_THE_FAULT: u64 = 24 << 20;
const DISK: u64 = 256 << 20;

#[test]
fn a_server_killed_during_the_image_write_goes_on_to_success() {
    scene(|scene| {
        let image = TestImage::create(&scene.images, "noise.raw.zst", IMAGE);
        let mut machine = scene.machine(1, DISK);
        let actions = [
            write_image_with_digest(&scene.url(&image.name), &image.sha256),
            reboot(),
        ];
        let workflow = scene.workflow(&machine, &actions);
        machine.power_on().unwrap();
        scene.wait_for_writes(&mut machine, BEFORE_THE_FAULT, &workflow);

        scene.world.server.kill_9();
        assert!(
            !machine.disk(0).looks_bootable().unwrap(),
            "the write had ended before the server was killed"
        );
        scene.world.server.restart().unwrap();

        let finished = scene
            .world
            .api
            .wait_for_workflow(&workflow.id, "SUCCESS", Duration::from_secs(300))
            .unwrap();
        for action in &finished.tasks[0].actions {
            assert_eq!(
                action.attempts,
                1,
                "an action was run twice: {}",
                api::describe(&finished)
            );
        }
        // The new server has not seen the machine ask for its address; it knows the reservation.
        let timeline = scene.world.api.boot_log(machine.mac()).unwrap();
        let resumed = timeline
            .iter()
            .any(|entry| entry.what.contains(&image.name) && entry.detail.starts_with("206"));
        assert!(resumed, "the download was not resumed");
        let starts = machine.serial().text().matches("stage=action-start").count();
        assert_eq!(starts, actions.len(), "the machine ran an action twice");
        machine.wait_for_serial(BOOTED, Duration::from_secs(120)).unwrap();
    });
}

#[test]
fn a_machine_without_power_during_the_image_write_netboots_and_never_boots_half_a_disk() {
    scene(|scene| {
        let image = TestImage::create(&scene.images, "noise.raw.zst", IMAGE);
        let mut machine = scene.machine(1, DISK);
        let actions = [
            write_image_with_digest(&scene.url(&image.name), &image.sha256),
            reboot(),
        ];
        let workflow = scene.workflow(&machine, &actions);
        machine.power_on().unwrap();
        scene.wait_for_writes(&mut machine, BEFORE_THE_FAULT, &workflow);

        machine.power_cut();
        assert!(
            !machine.disk(0).looks_bootable().unwrap(),
            "half a disk looks bootable"
        );
        assert!(!machine.serial().text().contains(BOOTED));

        machine.power_on().unwrap();
        machine
            .wait_for_serial("farrier: stage=agent-start", Duration::from_secs(180))
            .unwrap();
        assert!(!machine.said().contains(BOOTED), "half a disk was booted");
        let finished = scene
            .world
            .api
            .wait_for_workflow(&workflow.id, "SUCCESS", Duration::from_secs(300))
            .unwrap();
        assert_eq!(
            finished.tasks[0].actions[0].attempts,
            2,
            "{}",
            api::describe(&finished)
        );
        machine.wait_for_serial(BOOTED, Duration::from_secs(120)).unwrap();
    });
}
