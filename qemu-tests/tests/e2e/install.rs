//! The main job: from an empty disk to a login on Debian, on both firmwares, with cards and disks of more than one make.

use std::fs;

use ::image::apt::Suite;
use proto::v1::BootLogEntry;
use qemu_tests::lab::devices::{self, DiskController, Nic};
use qemu_tests::lab::display::Display;
use qemu_tests::lab::documents::{ServedImage, install_debian};
use qemu_tests::lab::firmware::Firmware;
use qemu_tests::lab::journey::Journey;
use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::wait::Look;

use crate::scene::{Scene, path_from, scene_with};

/// With the image of physical servers, whose drivers alone find either, and the memory that its machines need at least.
#[test]
fn a_bios_machine_with_an_intel_card_and_a_sata_disk_gets_debian_and_boots_it() {
    install(
        "boot-server",
        Firmware::Bios,
        Nic::E1000e,
        DiskController::Ahci,
        512,
    );
}

/// With a virtio card, so that it is OVMF's own PXE client that boots.
#[test]
fn a_uefi_machine_with_an_nvme_disk_gets_debian_and_boots_it() {
    install("boot", Firmware::Uefi, Nic::Virtio, DiskController::Nvme, 1024);
}

/// The least that `farrier lab` takes.
pub(crate) fn a_machine_of_256_mib_gets_debian_and_boots_it() {
    install("boot", Firmware::Bios, Nic::Virtio, DiskController::Virtio, 256);
}

/// SeaBIOS boots a disk on each of these, and EDK2 as Debian builds it on the last two too. They are those that
/// [`crate::controllers`] writes to, but for the two of the tests above.
pub(crate) fn debian_boots_from_every_other_controller() {
    const BIOS: [DiskController; 8] = [
        DiskController::VirtioScsi,
        DiskController::Nvme,
        DiskController::Megasas,
        DiskController::Lsi,
        DiskController::Am53c974,
        DiskController::Pvscsi,
        DiskController::UsbStorage,
        DiskController::Sd,
    ];
    const UEFI: [DiskController; 2] = [DiskController::VirtioScsi, DiskController::Ahci];
    let on = |firmware| move |controller| (firmware, controller);
    let all = BIOS.map(on(Firmware::Bios)).into_iter();
    scene_with("boot-server", |scene| {
        for (number, (firmware, controller)) in (1..).zip(all.chain(UEFI.map(on(Firmware::Uefi)))) {
            println!("{firmware}, {controller}");
            let blueprint = Blueprint::numbered(number).firmware(firmware).memory_mib(768);
            installs(scene, blueprint, Nic::Virtio, controller);
        }
    });
}

#[track_caller]
fn install(boot_dir: &str, firmware: Firmware, nic: Nic, controller: DiskController, memory_mib: u32) {
    scene_with(boot_dir, |scene| {
        let blueprint = Blueprint::numbered(1).firmware(firmware).memory_mib(memory_mib);
        installs(scene, blueprint, nic, controller);
    });
}

/// The machine of the blueprint, with this card and a disk on this controller, gets Debian and boots it.
fn installs(scene: &mut Scene, blueprint: Blueprint, nic: Nic, controller: DiskController) {
    let name = ::image::debian_disk::file_name(&Suite::default(), devices::profile_for(nic, controller));
    let debian = path_from("FARRIER_LAB_DIR").join("images").join(&name);
    assert!(
        debian.is_file(),
        "{} is not there: `farrier lab prepare` builds it",
        debian.display()
    );
    if !scene.images.join(&name).exists() {
        scene.serve_file(&debian, &name);
    }
    let sha256 = ::image::sha256_of_file(&debian).unwrap();

    let blueprint = blueprint
        .nics_are(nic)
        .disks_are_on(controller)
        // An SD card has a power of two.
        .disk(4 << 30);
    let mut machine = scene.world.machine(blueprint).unwrap();
    let firmware = machine.firmware();
    let image = ServedImage {
        file: &name,
        sha256: &sha256,
    };
    let key = scene.world.key.clone();
    let template = install_debian(
        "debian",
        machine.name(),
        machine.mac(),
        machine.address(),
        &machine.disk_device(),
        &image,
        key.public(),
    );
    let template = scene.world.api.put_template(&template).unwrap();
    let workflow = scene
        .world
        .api
        .create_workflow(&template.name, &[("device_1", machine.mac())])
        .unwrap();

    let display = Display::new();
    let mut journey = Journey::new(&mut machine, &scene.world.api, &display, 1);
    journey.power_on().unwrap();
    journey.netboot().unwrap();
    if firmware == Firmware::Uefi {
        let log = scene.world.api.boot_log(journey.machine.mac()).unwrap();
        let at_once = |entry: &BootLogEntry| {
            entry.what.contains("autoexec.ipxe") && entry.detail.contains("does not wait for Ctrl-B")
        };
        assert!(log.iter().any(at_once), "{log:#?}");
    }
    let finished = journey.run_workflow(&workflow.id).unwrap();
    let attempts: Vec<_> = finished.tasks[0]
        .actions
        .iter()
        .map(|action| action.attempts)
        .collect();
    assert!(
        attempts.iter().all(|&attempts| attempts == 1),
        "attempts of the actions: {attempts:?}"
    );
    journey.boot_from_disk().unwrap();
    journey
        .until("login", 180, |machine| {
            match key.run(machine.address(), "hostname") {
                Ok(hostname) => Look::Done(hostname.trim().len() as u64),
                Err(error) => Look::not_yet(format!("{error:#}")),
            }
        })
        .unwrap();
    assert_eq!(
        key.run(machine.address(), "hostname").unwrap().trim(),
        machine.name()
    );
    let has_efi = key
        .run(
            machine.address(),
            "test -d /sys/firmware/efi && echo yes || echo no",
        )
        .unwrap();
    assert_eq!(has_efi.trim() == "yes", firmware == Firmware::Uefi);
    let runs = key.run(machine.address(), ". /etc/os-release && echo $VERSION_CODENAME");
    assert_eq!(runs.unwrap().trim(), Suite::default().to_string());
    // Which drivers it was: the kernel's own names of the card and of the disk.
    let has = "basename $(readlink /sys/class/net/e*/device/driver); lsblk -dno NAME; set -- $(lsblk -dno TRAN); echo ${1:--}";
    let has = key.run(machine.address(), has).unwrap();
    let has: Vec<_> = has.split_whitespace().collect();
    let expected = match (nic, controller) {
        (Nic::E1000e, DiskController::Ahci) => ["e1000e", "sda", "sata"],
        (_, DiskController::Nvme) => ["virtio_net", "nvme0n1", "nvme"],
        (_, DiskController::Virtio) => ["virtio_net", "vda", "virtio"],
        (_, DiskController::Ahci) => ["virtio_net", "sda", "sata"],
        (_, DiskController::UsbStorage) => ["virtio_net", "sda", "usb"],
        (_, DiskController::Sd) => ["virtio_net", "mmcblk0", "mmc"],
        // Parallel SCSI.
        (_, DiskController::Lsi | DiskController::Am53c974) => ["virtio_net", "sda", "spi"],
        _ => ["virtio_net", "sda", "-"],
    };
    assert_eq!(has, expected);
    assert!(fs::metadata(machine.directory().join("net0.pcap")).unwrap().len() > 1000);
}
