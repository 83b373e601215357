//! Cards and disk controllers of physical machines, as QEMU emulates them, with the image of physical servers; and the image that
//! is built of Debian 12.

use std::fs;
use std::process::Command;
use std::time::Duration;

use ::image::Manifest;
use qemu_tests::lab::api;
use qemu_tests::lab::devices::{DiskController, Nic};
use qemu_tests::lab::firmware::Firmware;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::namespace::inside;

use crate::image::{BOOTED, TestImage};
use crate::scene::{Scene, path_from, reboot, scene_with, write_image};

const WITHIN: Duration = Duration::from_secs(300);
const IMAGE: usize = 24 << 20;

/// The second pair; the first is installed as a whole, by `install.rs`.
#[test]
fn a_machine_with_a_realtek_card_and_a_raid_controller_is_written_and_boots_its_disk() {
    scene_with("boot-server", |scene| {
        let blueprint = Blueprint::numbered(1)
            .nics_are(Nic::Rtl8139)
            .disks_are_on(DiskController::Megasas);
        let machine = written(scene, blueprint);
        assert_eq!(machine.disk_device(), "/dev/sda");
        machine.wait_for_serial(BOOTED, WITHIN).unwrap();
        let kernel = machine.serial().text();
        for driver in ["8139cp", "megaraid_sas"] {
            assert!(kernel.contains(driver), "{driver} was not loaded");
        }
    });
}

/// Its iPXE is of 2019 and its GRUB 2.06: UEFI uses both, the one to fetch the agent and the other to boot the disk.
#[test]
fn a_boot_image_of_debian_12_netboots_writes_a_disk_and_looks_for_its_loader() {
    // Inside there is no way to a mirror.
    if !inside() {
        let manifest = built_of("bookworm", "boot-bookworm");
        for component in &manifest.components {
            let is_ours = component.name.starts_with("farrier");
            assert!(
                is_ours || component.suite.starts_with("bookworm") && !component.path.is_empty(),
                "{component:?}"
            );
        }
        let files = |name: &str| manifest.components.iter().find(|one| one.name == name);
        assert_eq!(files("ipxe").unwrap().files, ["snponly.efi", "undionly.kpxe"]);
        assert_eq!(files("grub-efi-amd64-bin").unwrap().files, ["local-boot.efi"]);
    }
    scene_with("boot-bookworm", |scene| {
        let machine = written(scene, Blueprint::numbered(1).firmware(Firmware::Uefi));
        machine
            .wait_for_serial("Farrier: no disk of this machine has a boot loader", WITHIN)
            .unwrap();
        assert!(
            machine.serial().text().contains("Linux version 6.1."),
            "another kernel"
        );
    });
}

/// Builds the boot image of a suite as a person does, below `FARRIER_LAB_DIR`; packages come out of the lab's cache.
fn built_of(suite: &str, boot_dir: &str) -> Manifest {
    let lab_dir = path_from("FARRIER_LAB_DIR");
    let boot_dir = lab_dir.join(boot_dir);
    let output = Command::new(path_from("FARRIER_BIN"))
        .args(["image", "build", "--suite", suite, "--boot-dir"])
        .arg(&boot_dir)
        .arg("--agent")
        .arg(path_from("FARRIER_AGENT"))
        .arg("--cache")
        .arg(lab_dir.join("packages"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&fs::read(boot_dir.join("manifest.json")).unwrap()).unwrap()
}

/// Netboots the machine, which has one disk, writes an image to it, and lets it reboot.
fn written(scene: &mut Scene, blueprint: Blueprint) -> Machine {
    let image = TestImage::create(&scene.images, "noise.raw.zst", IMAGE);
    let blueprint = blueprint.memory_mib(768).disk(64 << 20);
    let mut machine = scene.world.machine(blueprint).unwrap();
    let disk = machine.disk_device();
    let digest = [("SHA256", image.sha256.as_str())];
    let actions = [write_image(&scene.url(&image.name), &disk, &digest), reboot()];
    let workflow = scene.workflow(&machine, &actions);
    machine.power_on().unwrap();
    let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
    let done = done.unwrap();
    assert!(
        machine.disk(0).looks_bootable().unwrap(),
        "{}",
        api::describe(&done)
    );
    machine
}
