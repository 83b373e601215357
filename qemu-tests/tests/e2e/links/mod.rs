//! Network cards as a rack has them: many of which one boots, links that come late or go away, and (`long`, by `crate::long`) bonds.

pub(crate) mod long;
mod switch;

use std::time::{Duration, Instant};

use qemu_tests::lab::api;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::network::Network;
use qemu_tests::lab::wait::{Look, wait_until};

use crate::image::TestImage;
use crate::scene::{Scene, reboot, scene_with, write_image};

const WITHIN: Duration = Duration::from_secs(300);
const PROFILE: &str = "boot-server";

/// A record in the short form; `more` are lines of it.
fn record(machine: &Machine, more: &str) -> String {
    format!(
        "machine: {}\nmac: {}\naddress: {}/24\ngateway: {}\nnetboot: agent\n{more}",
        machine.name(),
        machine.mac(),
        machine.address(),
        Network::SERVER
    )
}

/// Waits for an entry of the machine's boot log.
fn entry(scene: &Scene, machine: &Machine, what: &str, detail: &str) -> String {
    wait_until(&format!("{what} with {detail:?}"), WITHIN, || {
        let log = scene.world.api.boot_log(machine.name()).unwrap();
        let found = log
            .iter()
            .find(|entry| entry.what.contains(what) && entry.detail.contains(detail));
        match found {
            Some(entry) => Look::Done(entry.detail.clone()),
            None => Look::not_yet(format!("{:?}", machine.serial().last_lines(2))),
        }
    })
    .unwrap()
}

/// 16 cards, of which the second one boots and no other has a cable: none of these is waited for. What of the command line has no
/// effect is in the boot log.
#[test]
fn of_sixteen_cards_only_the_one_that_boots_is_waited_for() {
    scene_with(PROFILE, |scene| {
        let mut blueprint = Blueprint::new("m1").memory_mib(512).boots_from(1);
        for card in 0..16 {
            blueprint = blueprint.nic(&Network::machine_mac(card + 1));
        }
        let mut machine = scene.world.stranger(blueprint).unwrap();
        let words = "kernel_params: [\"ipv6.disable=1\", \"syslog_host=10.0.0.9\"]\n";
        scene
            .world
            .api
            .apply_machines(&record(&machine, words), "lab")
            .unwrap();
        machine.power_on().unwrap();
        for card in (0..16).filter(|card| *card != 1) {
            machine.set_link(card, false).unwrap();
        }
        machine.wait_for_serial("stage=attached", WITHIN).unwrap();
        let said = machine.said();
        let chosen = said
            .lines()
            .find(|line| line.contains("stage=nic "))
            .unwrap_or(said.as_str());
        assert!(
            chosen.contains("name=eth1") && chosen.contains("mac=52:54:00:77:00:0c"),
            "{chosen}"
        );
        assert!(
            !said.contains("waiting for a link") && !said.contains("has no carrier"),
            "{said}"
        );
        let notice = entry(scene, &machine, "NOTICE", "syslog_host=10.0.0.9");
        assert!(notice.contains("farrier workflow logs"), "{notice}");
    });
}

/// The link comes 8 s after the kernel. Later it goes away while an image is written, and comes back: the lease is asked for anew, and
/// the action goes on as if nothing had been.
#[test]
fn a_link_that_comes_late_and_one_that_goes_away_during_the_work_are_waited_for() {
    scene_with(PROFILE, |scene| {
        let image = TestImage::create(&scene.images, "noise.raw.zst", 160 << 20);
        let blueprint = Blueprint::numbered(1).memory_mib(512).disk(256 << 20);
        let mut machine = scene.world.machine(blueprint).unwrap();
        let digest = [("SHA256", image.sha256.as_str())];
        let actions = [
            write_image(&scene.url(&image.name), "/dev/vda", &digest),
            reboot(),
        ];
        let workflow = scene.workflow(&machine, &actions);
        machine.power_on().unwrap();
        machine.wait_for_serial("Linux version", WITHIN).unwrap();
        let kernel = Instant::now();
        machine.set_link(0, false).unwrap();
        let waits = "waiting for a link on eth0 (52:54:00:77:00:0b), the card that it booted from";
        machine.wait_for_serial(waits, WITHIN).unwrap();
        // What is tried is a switch that takes so long, whatever the machine does meanwhile.
        std::thread::sleep(Duration::from_secs(8).saturating_sub(kernel.elapsed()));
        assert!(!machine.said().contains("stage=dhcp"), "{}", machine.said());
        machine.set_link(0, true).unwrap();
        machine.wait_for_serial("stage=attached", WITHIN).unwrap();

        scene.wait_for_writes(&mut machine, 16 << 20, &workflow);
        machine.set_link(0, false).unwrap();
        machine.wait_for_serial("eth0: the link is gone", WITHIN).unwrap();
        machine.set_link(0, true).unwrap();
        machine
            .wait_for_serial("eth0: the link is there again", WITHIN)
            .unwrap();
        entry(scene, &machine, "REQUEST", "init-reboot");
        let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        let done = done.unwrap();
        for action in &done.tasks[0].actions {
            assert_eq!(action.attempts, 1, "{}", api::describe(&done));
        }
        assert!(
            !machine.said().contains("the lease is lost"),
            "{}",
            machine.said()
        );
    });
}
