//! Cards and disk controllers of physical machines, as QEMU emulates them, with the image of physical servers; and the image that
//! is built of Debian 12.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ::image::Manifest;
use qemu_tests::lab::api;
use qemu_tests::lab::devices::{DiskController, Nic};
use qemu_tests::lab::firmware::Firmware;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::namespace::inside;

use crate::image::{BOOTED, TestImage};
use crate::scene::{Scene, path_from, reboot, scene, scene_with, write_image};

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
        // The card's driver was sent, and no other card's; the controller's was fetched.
        let sent = scene.world.api.boot_log(machine.mac()).unwrap();
        let sent: Vec<String> = sent
            .into_iter()
            .map(|entry| format!("{} {}", entry.what, entry.detail))
            .collect();
        let fetched = |name: &str| {
            sent.iter()
                .any(|entry| entry.starts_with(&format!("GET /boot/{name} ")))
        };
        assert!(
            fetched("drivers-realtek.img") && fetched("modules.list.zst") && fetched("modules.cpio"),
            "{sent:#?}"
        );
        assert_eq!(
            sent.iter()
                .filter(|entry| entry.contains("/boot/drivers-"))
                .count(),
            1,
            "{sent:#?}"
        );
        assert!(
            sent.iter()
                .any(|entry| entry.contains("network card 10ec:8139, driver overlay realtek")),
            "{sent:#?}"
        );
        let said = machine.serial().text();
        let line = said
            .lines()
            .find(|line| line.contains("drivers fetched: "))
            .unwrap_or(&said);
        assert!(
            line.contains("megaraid_sas") && line.contains("sd_mod") && !line.contains("8139"),
            "{line}"
        );
        assert_eq!(machine.disk_device(), "/dev/sda");
        machine.wait_for_serial(BOOTED, WITHIN).unwrap();
        let kernel = machine.serial().text();
        for driver in ["8139cp", "megaraid_sas"] {
            assert!(kernel.contains(driver), "{driver} was not loaded");
        }
    });
}

/// The image of virtual machines has no driver for it.
#[test]
fn a_card_that_no_driver_knows_is_named_on_the_screen_and_in_the_boot_log() {
    scene(|scene| {
        let blueprint = Blueprint::numbered(1).nics_are(Nic::Rtl8139).memory_mib(512);
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.workflow(&machine, &[reboot()]);
        machine.power_on().unwrap();
        machine
            .wait_for_serial("names the network card 10ec:8139", WITHIN)
            .unwrap();
        machine
            .wait_for_serial(
                "no driver of this boot image drives the network card 10ec:8139",
                WITHIN,
            )
            .unwrap();
        let told = scene.world.api.boot_log(machine.mac()).unwrap();
        let told = told.iter().find(|entry| entry.what == "drivers").unwrap();
        assert!(told.detail.contains("network card 10ec:8139"), "{told:?}");
    });
}

/// The server looks at its boot image when it starts; what is changed after that goes out as it is.
#[test]
fn an_overlay_that_is_not_the_images_is_not_used_and_the_machine_says_why() {
    scene_with("boot-server", |scene| {
        let boot_dir = scene.own_boot_dir();
        let overlay = boot_dir.join("drivers-realtek.img");
        let mut archive = zstd::decode_all(fs::File::open(&overlay).unwrap()).unwrap();
        let modules: Vec<usize> = (0..archive.len() - 4)
            .filter(|at| archive[*at..].starts_with(b"\x7fELF"))
            .collect();
        assert!(modules.len() > 2, "{} modules", modules.len());
        for at in modules {
            // The file says which system it is for here, and nobody asks.
            archive[at + 9] ^= 1;
        }
        fs::write(&overlay, zstd::encode_all(&archive[..], 3).unwrap()).unwrap();
        let blueprint = Blueprint::numbered(1).nics_are(Nic::Rtl8139).memory_mib(768);
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.workflow(&machine, &[reboot()]);
        machine.power_on().unwrap();
        machine
            .wait_for_serial(
                "8139cp.ko of driver overlay realtek is not loaded: it has the SHA-256",
                WITHIN,
            )
            .unwrap();
        machine
            .wait_for_serial(
                "no driver of this boot image drives the network card 10ec:8139",
                WITHIN,
            )
            .unwrap();
    });
}

/// Who exceeds a budget says in the commit what was traded for it, and changes the profile's list.
#[test]
fn the_agent_and_every_family_of_drivers_keep_within_their_budgets() {
    for (boot_dir, least) in [("boot", 4), ("boot-server", 30)] {
        let manifest = Manifest::read(&path_from("FARRIER_LAB_DIR").join(boot_dir)).unwrap();
        assert!(manifest.families.len() >= least, "{:?}", manifest.families);
        let over: Vec<_> = manifest
            .families
            .iter()
            .filter(|one| one.bytes > one.budget_bytes)
            .collect();
        assert!(over.is_empty(), "{boot_dir}: {over:#?}");
        // What a machine is sent whose card needs the largest overlay. That of bonds is for machines whose record asks for one.
        let bytes = |name: &str| manifest.bytes_of(name);
        let sent = bytes("vmlinuz") + bytes("initramfs.img");
        let cards = manifest.families.iter().filter(|one| one.name != "bonding");
        let overlays = cards.map(|one| format!("drivers-{}.img", one.name));
        let largest = overlays.map(|name| bytes(&name)).max().unwrap();
        assert!(largest > 40_000, "{boot_dir}: {largest} B");
        let most = if boot_dir == "boot" {
            15_500_000
        } else {
            17_000_000
        };
        assert!(sent + largest <= most, "{boot_dir}: {sent} B and {largest} B");
    }
}

/// Its iPXE is of 2019 and its GRUB 2.06: UEFI uses both, the one to fetch the agent and the other to boot the disk.
#[test]
fn a_boot_image_of_debian_12_netboots_writes_a_disk_and_looks_for_its_loader() {
    // Inside there is no way to a mirror.
    if !inside() {
        let manifest = built("boot-bookworm", &["--suite", "bookworm"]);
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

/// Builds a boot image as a person does, below `FARRIER_LAB_DIR`; packages come out of the lab's cache.
pub(crate) fn built(boot_dir: &str, more: &[&str]) -> Manifest {
    let boot_dir = path_from("FARRIER_LAB_DIR").join(boot_dir);
    let output = build(&boot_dir, more);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&fs::read(boot_dir.join("manifest.json")).unwrap()).unwrap()
}

/// As [`built`], whatever comes of it.
pub(crate) fn build(boot_dir: &Path, more: &[&str]) -> Output {
    build_with("FARRIER_AGENT", boot_dir, more)
}

/// As [`build`], with the agent that this variable names.
pub(crate) fn build_with(agent: &str, boot_dir: &Path, more: &[&str]) -> Output {
    let lab_dir = path_from("FARRIER_LAB_DIR");
    Command::new(path_from("FARRIER_BIN"))
        .args(["image", "build", "--boot-dir"])
        .arg(boot_dir)
        .arg("--agent")
        .arg(path_from(agent))
        .arg("--cache")
        .arg(lab_dir.join("packages"))
        .args(more)
        .output()
        .unwrap()
}

/// Netboots the machine, which has one disk, writes an image to it, and lets it reboot.
pub(crate) fn written(scene: &mut Scene, blueprint: Blueprint) -> Machine {
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
