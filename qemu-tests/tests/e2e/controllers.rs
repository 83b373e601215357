//! Every disk controller that QEMU has and the image of physical servers drives: its disk is written, read and told of.

use std::fs;
use std::time::Duration;

use qemu_tests::lab::api;
use qemu_tests::lab::devices::DiskController;
use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::wait::{Look, wait_until};

use crate::image::{ext4, file_in, noise, note_in};
use crate::scene::{scene_with, write_image, write_note};

/// A dozen drivers are fetched, and each looks for its disks.
const WITHIN: Duration = Duration::from_secs(900);
const MIB: u64 = 1 << 20;
const FILESYSTEM_BYTES: usize = 8 << 20;

/// A controller, its disk's sectors, what the inventory calls its way to the disk, and the driver that is fetched for it.
type Row = (DiskController, u32, &'static str, &'static str);

/// Not `mptsas`: Linux 6.12 brings QEMU 7.2's controller up, and finds no disk on it.
const CONTROLLERS: [Row; 12] = [
    (DiskController::Virtio, 512, "virtio", "virtio_blk"),
    (DiskController::VirtioScsi, 512, "scsi", "virtio_scsi"),
    (DiskController::VirtioScsi, 4096, "scsi", "virtio_scsi"),
    (DiskController::Ahci, 512, "ata", "ahci"),
    (DiskController::Nvme, 512, "nvme", "nvme"),
    (DiskController::Nvme, 4096, "nvme", "nvme"),
    (DiskController::Megasas, 512, "scsi", "megaraid_sas"),
    (DiskController::Lsi, 512, "scsi", "sym53c8xx"),
    (DiskController::Pvscsi, 512, "scsi", "vmw_pvscsi"),
    (DiskController::Am53c974, 512, "scsi", "am53c974"),
    (DiskController::UsbStorage, 512, "usb", "usb_storage"),
    (DiskController::Sd, 512, "mmc", "sdhci_pci"),
];

/// All of them are in one machine: disks are told apart by their sizes.
pub(crate) fn a_disk_on_every_controller_is_written_read_and_told_of() {
    scene_with("boot-server", |scene| {
        let content = noise(2 << 20);
        let filesystem = ext4("farrier", &[("noise", &content)]);
        let packed = zstd::bulk::compress(&filesystem, 1).unwrap();
        fs::write(scene.images.join("disk.raw.zst"), packed).unwrap();
        let mut blueprint = Blueprint::numbered(1).memory_mib(768);
        for (index, (controller, sector_bytes, ..)) in CONTROLLERS.into_iter().enumerate() {
            blueprint = blueprint.disk_on(controller, sector_bytes, size_of(index));
        }
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.stays_in_memory(&machine, "");
        machine.power_on().unwrap();
        let told = wait_until("all disks", WITHIN, || {
            let told = scene.world.api.machine(machine.name()).unwrap().inventory;
            match told {
                Some(told) if told.disks.len() == CONTROLLERS.len() => Look::Done(told.disks),
                told => Look::not_yet(format!("{told:?}, {:?}", machine.serial().last_lines(1))),
            }
        });
        let told = told.unwrap();
        let mut actions = Vec::new();
        for (index, (controller, sector_bytes, transport, driver)) in CONTROLLERS.into_iter().enumerate() {
            let disk = told.iter().find(|disk| disk.size_bytes == size_of(index));
            let disk =
                disk.unwrap_or_else(|| panic!("{controller} of {sector_bytes} B: no disk in {told:?}"));
            assert_eq!(
                (disk.transport.as_str(), disk.logical_sector_bytes),
                (transport, sector_bytes),
                "{controller}: {disk:?}"
            );
            let fetched = machine.said();
            let fetched = fetched.lines().filter(|line| line.contains("drivers fetched: "));
            assert!(
                fetched.flat_map(str::split_whitespace).any(|word| word == driver),
                "{controller}: {driver} was not fetched"
            );
            let write = write_image(&scene.url("disk.raw.zst"), &disk.name, &[]);
            actions.push(write.replace("name: write-image", &format!("name: write-{index}")));
            actions.push(write_note(&disk.name, &format!("disk-{index}")));
        }
        let workflow = scene.workflow(&machine, &actions);
        let done = scene.world.api.wait_for_workflow(&workflow.id, "SUCCESS", WITHIN);
        let done = done.unwrap();
        for (index, (controller, ..)) in CONTROLLERS.into_iter().enumerate() {
            let written = machine.disk(index).read(0, FILESYSTEM_BYTES).unwrap();
            assert_eq!(
                note_in(&written),
                format!("disk-{index}"),
                "{controller}: {}",
                api::describe(&done)
            );
            assert!(
                file_in(&written, "noise") == content,
                "{controller}: what was written is another image"
            );
        }
        // What the machine reads of its disks is what is on them.
        wait_until("filesystems", WITHIN, || {
            let told = scene
                .world
                .api
                .machine(machine.name())
                .unwrap()
                .inventory
                .unwrap();
            match told.disks.iter().find(|disk| disk.filesystem != "ext4") {
                None => Look::Done(()),
                Some(disk) => Look::not_yet(format!("{disk:?}")),
            }
        })
        .unwrap();
    });
}

/// An SD card has a power of two.
fn size_of(index: usize) -> u64 {
    match CONTROLLERS.get(index) {
        Some((DiskController::Sd, ..)) => 64 * MIB,
        _ => (16 + index as u64) * MIB,
    }
}
