//! Network cards that QEMU has an iPXE for: a machine boots from each, is sent its driver alone, and runs an action.

use std::time::Duration;

use qemu_tests::lab::devices::Nic;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::wait::{Look, wait_until};

use crate::scene::{Scene, reboot, scene_with};

const WITHIN: Duration = Duration::from_secs(300);

/// A card, the overlay that has its driver (`None`: every machine has it), the driver, and its PCI id.
type Row = (Nic, Option<&'static str>, &'static str, &'static str);

/// Not Intel's 8255x and AMD's PCnet: with the ROMs that QEMU 7.2 has for them iPXE hears nothing more once the card had no room for a
/// frame, which a busy host is enough for. QEMU 10 with ROMs of 2025 is the same. Not igb: QEMU 10 has no ROM for it, and the iPXE of a CD
/// finds its link to be down.
const CARDS: [Row; 5] = [
    (Nic::Virtio, None, "virtio_net", "1af4:1000"),
    (Nic::E1000, Some("intel-1g"), "e1000", "8086:100e"),
    (Nic::E1000e, Some("intel-1g"), "e1000e", "8086:10d3"),
    (Nic::Rtl8139, Some("realtek"), "8139cp", "10ec:8139"),
    (Nic::Vmxnet3, Some("hypervisors"), "vmxnet3", "15ad:07b0"),
];

pub(crate) fn machines_boot_from_each_card_with_its_driver_alone() {
    boots_from(&CARDS);
}

/// One server, and a machine after the other.
fn boots_from(cards: &[Row]) {
    scene_with("boot-server", |scene| {
        for (number, (nic, overlay, driver, pci_id)) in (1..).zip(cards) {
            let blueprint = Blueprint::numbered(number).nics_are(*nic).memory_mib(512);
            let mut machine = scene.world.machine(blueprint).unwrap();
            runs_an_action(scene, &mut machine, driver);
            let log = boot_log(scene, &machine);
            let sent: Vec<&String> = log
                .iter()
                .filter(|entry| entry.contains("/boot/drivers-"))
                .collect();
            match overlay {
                None => assert!(sent.is_empty(), "{nic}: {sent:?}"),
                Some(name) => assert!(
                    matches!(sent.as_slice(), [one] if one.contains(&format!("drivers-{name}.img"))),
                    "{nic}: {sent:?}"
                ),
            }
            let of = overlay.map_or("driven by the base".to_owned(), |name| {
                format!("driver overlay {name}")
            });
            assert!(
                log.iter()
                    .any(|entry| entry.contains(&format!("network card {pci_id}, {of}"))),
                "{nic}: {log:#?}"
            );
            machine.power_cut();
        }
    });
}

/// Netboots, reboots by an action, and has told which driver its card has.
fn runs_an_action(scene: &Scene, machine: &mut Machine, driver: &str) {
    let workflow = scene.workflow(machine, &[reboot()]);
    machine.power_on().unwrap();
    let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
    done.unwrap_or_else(|error| panic!("{driver}: {error:#}: {:?}", machine.serial().last_lines(5)));
    let told = wait_until("the card", WITHIN, || {
        let told = scene.world.api.machine(machine.name()).unwrap().inventory;
        match told.as_ref().and_then(|told| told.interfaces.first()) {
            Some(card) if !card.driver.is_empty() => Look::Done(card.clone()),
            _ => Look::not_yet(format!("{told:?}")),
        }
    });
    let told = told.unwrap();
    assert_eq!((told.mac.as_str(), told.driver.as_str()), (machine.mac(), driver));
}

fn boot_log(scene: &Scene, machine: &Machine) -> Vec<String> {
    let log = scene.world.api.boot_log(machine.mac()).unwrap().into_iter();
    log.map(|entry| format!("{} {}", entry.what, entry.detail))
        .collect()
}
