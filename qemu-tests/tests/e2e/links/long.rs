//! Bonds. These take a second machine, or a minute: `cargo xtask test --all --only machines`.

use proto::v1::HardwareInventory;
use qemu_tests::lab::api;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::network::Network;
use qemu_tests::lab::wait::{Look, wait_until};

use super::{PROFILE, WITHIN, entry, record, switch};
use crate::image::TestImage;
use crate::scene::{Scene, reboot, scene_with, write_image};

const SECOND: &str = "52:54:00:77:00:1b";

/// Waits for what the machine tells of its bond: of each card its name, and whether the bond uses it.
fn told(scene: &Scene, machine: &Machine, wanted: &[(&str, bool)]) -> HardwareInventory {
    wait_until("the bond in the inventory", WITHIN, || {
        let told = scene.world.api.machine(machine.name()).unwrap().inventory;
        let cards = told.iter().flat_map(|told| &told.interfaces);
        let bonds = cards.filter_map(|card| Some((card.name.as_str(), card.bond.as_ref()?.in_use)));
        let bonds: Vec<(&str, bool)> = bonds.collect();
        match told.as_ref().filter(|_| bonds == wanted) {
            Some(told) => Look::Done((**told).clone()),
            None => Look::not_yet(format!("{bonds:?}, {:?}", machine.serial().last_lines(2))),
        }
    })
    .unwrap()
}

/// Writes an image while `during` happens to the machine, and gives what was said of it.
fn works(scene: &Scene, machine: &mut Machine, during: impl FnOnce(&mut Machine)) {
    let image = TestImage::create(&scene.images, "noise.raw.zst", 160 << 20);
    let digest = [("SHA256", image.sha256.as_str())];
    let actions = [
        write_image(&scene.url(&image.name), "/dev/vda", &digest),
        reboot(),
    ];
    let workflow = scene.workflow(machine, &actions);
    scene.wait_for_writes(machine, 16 << 20, &workflow);
    during(machine);
    let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
    let done = done.unwrap();
    for action in &done.tasks[0].actions {
        assert_eq!(action.attempts, 1, "{}", api::describe(&done));
    }
}

pub(crate) fn a_machine_netboots_over_lacp_and_a_vlan_and_works_while_a_cable_is_pulled() {
    scene_with(PROFILE, |scene| {
        let (_switch, partner) = switch::start(scene, [(4001, 4101), (4002, 4102)]);
        let blueprint = Blueprint::new("m1")
            .memory_mib(512)
            .cabled_nic(&Network::machine_mac(1), 4101, 4001)
            .cabled_nic(SECOND, 4102, 4002)
            .disk(256 << 20);
        let mut machine = scene.world.stranger(blueprint).unwrap();
        // As a switch keeps VLANs apart and this one does not, nothing but the agent may speak on the untagged one.
        let more = format!(
            "macs: [\"{SECOND}\"]\nvlan: 100\nbond: {{mode: 802.3ad, lacp_rate: fast}}\nkernel_params: ipv6.disable=1\n"
        );
        scene
            .world
            .api
            .apply_machines(&record(&machine, &more), "lab")
            .unwrap();
        machine.power_on().unwrap();
        let both = format!("bond0: 802.3ad with {partner}, in use: eth0, eth1");
        machine.wait_for_serial(&both, WITHIN).unwrap();
        machine.wait_for_serial("stage=attached", WITHIN).unwrap();
        let sent = entry(scene, &machine, "auto.ipxe", "driver overlay bonding");
        assert!(sent.contains("network card 1af4:"), "{sent}");
        let inventory = told(scene, &machine, &[("eth0", true), ("eth1", true)]);
        for (card, mac) in inventory.interfaces.iter().zip([machine.mac(), SECOND]) {
            let bond = card.bond.as_ref().unwrap();
            assert_eq!(
                (bond.name.as_str(), bond.mode.as_str(), bond.partner_mac.as_str()),
                ("bond0", "802.3ad", partner.as_str())
            );
            assert_eq!(card.mac, mac);
        }
        works(scene, &mut machine, |machine| {
            machine.set_link(0, false).unwrap();
            let one = format!("bond0: 802.3ad with {partner}, in use: eth1, not in use: eth0");
            machine.wait_for_serial(&one, WITHIN).unwrap();
            machine.set_link(0, true).unwrap();
        });
        assert!(!machine.said().contains("has no partner"), "{}", machine.said());
    });
}

/// A machine of two cards on the lab's bridge, with these lines in its record, that has attached.
fn attached(scene: &Scene, more: &str) -> Machine {
    let blueprint = Blueprint::numbered(1).memory_mib(512).nic(SECOND).disk(256 << 20);
    let mut machine = scene.world.stranger(blueprint).unwrap();
    scene
        .world
        .api
        .apply_machines(&record(&machine, more), "lab")
        .unwrap();
    machine.power_on().unwrap();
    machine.wait_for_serial("stage=attached", WITHIN).unwrap();
    machine
}

/// The lab's bridge knows nothing of LACP.
pub(crate) fn without_a_partner_a_machine_works_through_the_card_that_booted_and_says_so() {
    scene_with(PROFILE, |scene| {
        let mut machine = attached(
            scene,
            &format!("bond: {{mode: 802.3ad, members: [\"{SECOND}\"]}}\n"),
        );
        let notice = entry(scene, &machine, "NOTICE", "bond0: 802.3ad has no partner");
        assert!(
            notice.contains("works through eth0 alone") && notice.contains(SECOND),
            "{notice}"
        );
        told(scene, &machine, &[("eth0", true), ("eth1", false)]);
        works(scene, &mut machine, |_| {});
    });
}

pub(crate) fn a_backup_takes_over_when_the_card_that_booted_loses_its_cable() {
    scene_with(PROFILE, |scene| {
        let mut machine = attached(scene, &format!("macs: [\"{SECOND}\"]\nbond: active-backup\n"));
        told(scene, &machine, &[("eth0", true), ("eth1", false)]);
        works(scene, &mut machine, |machine| {
            machine.set_link(0, false).unwrap();
            let backup = "bond0: active-backup, in use: eth1, not in use: eth0";
            machine.wait_for_serial(backup, WITHIN).unwrap();
        });
    });
}
