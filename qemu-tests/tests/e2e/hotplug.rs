//! Devices that are plugged into a running machine, and firmware: neither was in what the machine was sent when it started.

use std::fs;
use std::time::Duration;

use proto::v1::HardwareInventory;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::wait::{Look, wait_until};
use serde_json::json;

use crate::cards::built;
use crate::containers::{REGISTRY, push_image, registry};
use crate::image::{ext4, file_in, noise, note_in};
use crate::scene::{Scene, scene_with, write_image, write_note};

const WITHIN: Duration = Duration::from_secs(300);
const MIB: u64 = 1 << 20;

#[test]
fn a_disk_and_a_card_that_are_plugged_later_get_drivers_that_are_fetched_and_are_used() {
    scene_with("boot-server", |scene| {
        let content = noise(2 << 20);
        let filesystem = ext4("farrier", &[("noise", &content)]);
        let packed = zstd::bulk::compress(&filesystem, 1).unwrap();
        fs::write(scene.images.join("disk.raw.zst"), packed).unwrap();
        let ports = [
            "-device",
            "pcie-root-port,id=hot0,chassis=10,slot=10",
            "-device",
            "pcie-root-port,id=hot1,chassis=11,slot=11",
        ];
        let blueprint = Blueprint::numbered(1).memory_mib(768).qemu(&ports);
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.stays_in_memory(&machine, "");
        machine.power_on().unwrap();
        told(scene, &machine, "itself", |told| !told.pci_devices.is_empty());
        let before = machine.said();
        for driver in ["nvme", "nvme_core", "e1000e"] {
            assert!(!is_fetched(&before, driver), "{driver} was fetched for nothing");
        }

        let disk = scene.world.run_dir.path().join("later");
        let file = fs::File::create(&disk).unwrap();
        file.set_len(64 * MIB).unwrap();
        let qmp = machine.qmp().unwrap();
        let node = json!({"driver": "file", "node-name": "later", "filename": disk.display().to_string()});
        qmp.execute("blockdev-add", node).unwrap();
        let plug =
            json!({"driver": "nvme", "id": "disk", "drive": "later", "bus": "hot0", "serial": "HOT-1"});
        qmp.execute("device_add", plug).unwrap();
        let card = json!({"driver": "e1000e", "id": "card", "bus": "hot1", "mac": "52:54:00:77:00:aa"});
        qmp.execute("device_add", card).unwrap();

        let told = told(scene, &machine, "both", |told| {
            told.disks.iter().any(|disk| disk.serial == "HOT-1")
                && told.interfaces.iter().any(|card| card.driver == "e1000e")
        });
        let disk_told = told.disks.iter().find(|disk| disk.serial == "HOT-1").unwrap();
        assert_eq!(
            (disk_told.size_bytes, disk_told.transport.as_str()),
            (64 * MIB, "nvme")
        );
        let card = told
            .interfaces
            .iter()
            .find(|card| card.driver == "e1000e")
            .unwrap();
        assert_eq!(card.mac, "52:54:00:77:00:aa");
        // It is said when all are loaded, and told before.
        for driver in ["nvme", "nvme_core", "e1000e"] {
            let fetched = wait_until(&format!("{driver} among what is fetched"), WITHIN, || {
                let said = machine.said();
                match is_fetched(&said, driver) {
                    true => Look::Done(()),
                    false => Look::not_yet(said),
                }
            });
            fetched.unwrap();
        }
        let actions = [
            write_image(&scene.url("disk.raw.zst"), "serial=HOT-1", &[]),
            write_note("serial=HOT-1", "plugged"),
        ];
        let workflow = scene.workflow(&machine, &actions);
        let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        done.unwrap();
        let written = fs::read(&disk).unwrap();
        assert_eq!(note_in(&written[..8 << 20]), "plugged");
        assert!(
            file_in(&written[..8 << 20], "noise") == content,
            "another image was written"
        );
    });
}

/// Intel's 82551 works only with microcode, which its driver asks for when the card is switched on (Linux
/// drivers/net/ethernet/intel/e100.c, `e100_request_firmware`).
pub(crate) fn a_card_gets_firmware_that_is_fetched_and_none_that_was_changed() {
    // Inside there is no way to a mirror.
    let non_free = ["--profile", "server", "--firmware", "non-free"];
    if !qemu_tests::lab::namespace::inside() {
        built("boot-firmware", &non_free);
    }
    scene_with("boot-firmware", |scene| {
        let folder = scene.world.run_dir.sub("registry").unwrap();
        let _registry = registry(&folder);
        push_image(&folder);
        let second = ["-device", "i82551,id=second,mac=52:54:00:77:00:aa"];
        let blueprint = Blueprint::numbered(1).memory_mib(768).qemu(&second);
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.stays_in_memory(
            &machine,
            &format!("kernel_params: [insecure_registries={REGISTRY}]\n"),
        );
        machine.power_on().unwrap();
        let card = told(scene, &machine, "the card", |told| {
            told.interfaces.iter().any(|card| card.driver == "e100")
        });
        let card = card
            .interfaces
            .into_iter()
            .find(|card| card.driver == "e100")
            .unwrap();
        let switch_on = format!(
            "      - name: up\n        image: {REGISTRY}/tools/box:v1\n        timeout: 120\n        command: [\"/bin/ip\", \"link\", \"set\", \"{}\", \"up\"]\n",
            card.name
        );
        let workflow = scene.workflow(&machine, std::slice::from_ref(&switch_on));
        let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        done.unwrap_or_else(|error| panic!("{error:#}: {:?}", machine.serial().last_lines(5)));

        let boot_dir = scene.own_boot_dir();
        let archive = boot_dir.join("modules.cpio");
        let mut bytes = fs::read(&archive).unwrap();
        change_a_byte_of(&mut bytes, "lib/firmware/e100/d102e_ucode.bin");
        fs::write(&archive, bytes).unwrap();
        machine.power_cut();
        // With nothing to do it would boot its own disk.
        scene.workflow(&machine, &[switch_on]);
        machine.power_on().unwrap();
        let refused = machine.wait_for_serial("e100/d102e_ucode.bin", WITHIN).unwrap();
        assert!(
            refused.contains("has the SHA-256") && refused.contains("it is not used"),
            "{refused}"
        );
        machine.power_cut();
    });
}

/// The data of a file in a cpio of the format `newc`, whose headers have 110 bytes (cpio(5)); its name may go on with how it is packed.
fn change_a_byte_of(archive: &mut [u8], name: &str) {
    let at = archive
        .windows(name.len())
        .position(|window| window == name.as_bytes())
        .unwrap_or_else(|| panic!("{name} is not in the archive"));
    let header = at - 110;
    let number = |field: usize| {
        let text = &archive[header + 6 + field * 8..header + 14 + field * 8];
        usize::from_str_radix(std::str::from_utf8(text).unwrap(), 16).unwrap()
    };
    let (bytes, name_bytes) = (number(6), number(11));
    let data = (at + name_bytes).next_multiple_of(4);
    assert!(bytes > 16, "{bytes} B");
    archive[data + bytes / 2] ^= 1;
}

fn is_fetched(said: &str, driver: &str) -> bool {
    let lines = said
        .lines()
        .filter_map(|line| line.split_once("drivers fetched: "));
    lines
        .flat_map(|(_, names)| names.split_whitespace())
        .any(|name| name == driver)
}

fn told(
    scene: &Scene,
    machine: &Machine,
    what: &str,
    wanted: impl Fn(&HardwareInventory) -> bool,
) -> HardwareInventory {
    let found = wait_until(&format!("an inventory of {what}"), WITHIN, || {
        let shown = scene.world.api.machine(machine.name()).unwrap().inventory;
        match shown {
            Some(told) if wanted(&told) => Look::Done(*told),
            told => Look::not_yet(format!("{told:?}, {:?}", machine.serial().last_lines(1))),
        }
    });
    found.unwrap()
}
