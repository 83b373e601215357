//! QEMU's command line for a machine.

use std::cmp::Ordering;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Blueprint, Cable, Disk};
use crate::lab::accelerator::Accelerator;
use crate::lab::devices::DiskController;
use crate::lab::firmware::Ovmf;

/// Everything after the program's name. `disks` are descriptors that QEMU inherits.
pub(super) fn arguments(
    machine: &Blueprint,
    directory: &Path,
    ovmf: Option<&Ovmf>,
    accelerator: Accelerator,
    disks: &[RawFd],
) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    let mut line = Line(Vec::new());
    line.0.extend(accelerator.arguments().map(str::to_owned));
    line.add("-name", &machine.name);
    // Without graphics SeaBIOS and the option ROMs write their screen to the serial line.
    line.add("-machine", "q35,graphics=off");
    line.add("-m", &machine.memory_mib.to_string());
    line.add("-smp", &machine.cpus.to_string());
    line.add("-uuid", &machine.uuid.to_string());
    line.0
        .extend(["-display", "none", "-nodefaults", "-no-user-config"].map(str::to_owned));
    line.add(
        "-chardev",
        &format!(
            "socket,id=serial,path={},server=on,wait=off,logfile={},logappend=on",
            file("serial.sock"),
            file("serial.log")
        ),
    );
    line.add("-serial", "chardev:serial");
    line.add(
        "-chardev",
        &format!(
            "socket,id=qmp,path={},server=on,wait=off",
            qmp_socket(directory).display()
        ),
    );
    line.add("-mon", "chardev=qmp,mode=control");
    // Newer EDK2 does PXE only with a source of random numbers.
    line.add("-device", "virtio-rng-pci");
    if let Some(ovmf) = ovmf {
        line.add(
            "-drive",
            &format!(
                "if=pflash,unit=0,format=raw,readonly=on,file={}",
                ovmf.code.display()
            ),
        );
        line.add(
            "-drive",
            &format!("if=pflash,unit=1,format=raw,file={}", ovmf.variables.display()),
        );
    }
    for (index, mac) in machine.cards.iter().enumerate() {
        card(&mut line, machine, index, mac, &file(&format!("net{index}.pcap")));
    }
    let mut controllers: Vec<DiskController> = Vec::new();
    for (index, (fd, disk)) in disks.iter().zip(&machine.disks).enumerate() {
        let controller = disk.controller.unwrap_or(machine.controller);
        let before = controllers.iter().filter(|other| **other == controller).count();
        if let Some(device) = controller.device().filter(|_| before == 0) {
            line.add("-device", &format!("{device},id={controller}"));
        }
        controllers.push(controller);
        let log = (machine.records_writes && index == 0).then(|| write_log(directory));
        filled(&mut line, index, *fd, log.as_deref());
        line.add(
            "-device",
            &device_of(machine, disk, index, &controller.disk(before)),
        );
    }
    if let Some(kernel) = &machine.kernel {
        line.add("-kernel", &kernel.image.display().to_string());
        line.add("-initrd", &kernel.initramfs.display().to_string());
        line.add("-append", &kernel.command_line);
        line.0.push("-no-reboot".to_owned());
    }
    line.0.extend(machine.more.iter().cloned());
    line.0
}

/// The name of a machine's tap: at most 15 characters (IFNAMSIZ).
pub(super) fn tap_name(machine: &str, index: usize) -> String {
    format!("{}-{index}", machine.chars().take(12).collect::<String>())
}

pub(super) fn qmp_socket(directory: &Path) -> PathBuf {
    directory.join("qmp.sock")
}

fn card(line: &mut Line, machine: &Blueprint, index: usize, mac: &str, pcap: &str) {
    let tap = tap_name(&machine.name, index);
    let netdev = match machine.cables.get(&index) {
        // No offloads: QEMU before 8.0 captures their headers as if they were part of the frame.
        None => format!("tap,id=net{index},ifname={tap},script=no,downscript=no,vnet_hdr=off"),
        Some(Cable { here, there }) => {
            format!("socket,id=net{index},udp=127.0.0.1:{there},localaddr=127.0.0.1:{here}")
        }
    };
    line.add("-netdev", &netdev);
    let (rom, bootindex) = match machine.kernel {
        // A kernel that QEMU loads is first by itself.
        Some(_) => (Some(""), String::new()),
        None => (
            // A ROM takes the firmware a second, and one card boots.
            Some("")
                .filter(|_| index != machine.boot_card)
                .or(machine.nic.rom(machine.firmware)),
            format!(",bootindex={}", boot_index(machine.boot_card, index)),
        ),
    };
    let rom = rom.map_or(String::new(), |file| format!(",romfile={file}"));
    line.add(
        "-device",
        &format!(
            "{},netdev=net{index},mac={mac}{bootindex}{rom}",
            machine.nic.device()
        ),
    );
    // Headers and everything that configures a boot; image payloads are cut.
    line.add(
        "-object",
        &format!("filter-dump,id=dump{index},netdev=net{index},file={pcap},maxlen=640"),
    );
}

/// The chosen card first, the others in their order.
fn boot_index(boot_card: usize, index: usize) -> usize {
    match index.cmp(&boot_card) {
        Ordering::Equal => 0,
        Ordering::Less => index + 1,
        Ordering::Greater => index,
    }
}

/// What disk `index` is filled with.
fn filled(line: &mut Line, index: usize, fd: RawFd, log: Option<&Path>) {
    // The file dies with the lab, so guest flushes need not reach the platters.
    match log {
        None => line.add(
            "-drive",
            &format!(
                "if=none,id=disk{index},format=raw,file=/proc/self/fd/{fd},cache=unsafe,discard=unmap,detect-zeroes=unmap,file.locking=off"
            ),
        ),
        Some(log) => {
            let file = |filename: String| {
                let cache = json!({"no-flush": true});
                let file = json!({"driver": "file", "filename": filename, "locking": "off", "cache": cache});
                json!({"driver": "raw", "file": file, "cache": cache})
            };
            let node = json!({
                "driver": "blklogwrites",
                "node-name": format!("disk{index}"),
                "file": file(format!("/proc/self/fd/{fd}")),
                "log": file(log.display().to_string()),
            });
            line.add("-blockdev", &node.to_string());
        }
    }
}

fn device_of(machine: &Blueprint, disk: &Disk, index: usize, device: &str) -> String {
    let controller = disk.controller.unwrap_or(machine.controller);
    if !controller.has_disks_of_choice() {
        return format!("{device},drive=disk{index}");
    }
    let bootindex = machine.cards.len() + index;
    let sector_bytes = disk.sector_bytes.unwrap_or(machine.sector_bytes);
    format!(
        "{device},drive=disk{index},bootindex={bootindex},serial=farrier-lab-{index},logical_block_size={sector_bytes},physical_block_size={sector_bytes}"
    )
}

pub(super) fn write_log(directory: &Path) -> PathBuf {
    directory.join("writes.log")
}

struct Line(Vec<String>);

impl Line {
    fn add(&mut self, option: &str, value: &str) {
        self.0.extend([option.to_owned(), value.to_owned()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::devices::Nic;
    use crate::lab::firmware::Firmware;

    #[test]
    fn cards_and_disks_are_the_devices_that_were_chosen() {
        let machine = |nic, controller| {
            let blueprint = Blueprint::numbered(1).nics_are(nic).disks_are_on(controller);
            let blueprint = blueprint.firmware(Firmware::Uefi).disk(1 << 30).disk(1 << 30);
            arguments(&blueprint, Path::new("/run/m1"), None, Accelerator::Tcg, &[7, 8]).join(" ")
        };
        let line = machine(Nic::E1000e, DiskController::Ahci);
        for words in [
            "-device e1000e,netdev=net0",
            "ide-hd,bus=ide.0,drive=disk0",
            "ide-hd,bus=ide.1,drive=disk1",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
        // OVMF drives virtio cards itself; another one brings its driver in its ROM.
        assert!(!line.contains("romfile="), "{line}");
        let line = machine(Nic::Virtio, DiskController::Mptsas);
        for words in [
            "-device mptsas1068,id=mptsas -drive",
            "scsi-hd,bus=mptsas.0,scsi-id=1,drive=disk1,bootindex=2",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
    }

    #[test]
    fn every_controller_comes_once_and_counts_its_own_disks() {
        let blueprint = Blueprint::numbered(1)
            .disk_on(DiskController::Ahci, 512, 1 << 20)
            .disk_on(DiskController::UsbStorage, 512, 1 << 20)
            .disk_on(DiskController::Sd, 512, 1 << 20)
            .disk_on(DiskController::UsbStorage, 4096, 1 << 20)
            .disk_on(DiskController::Ahci, 512, 1 << 20);
        let fds = [7, 8, 9, 10, 11];
        let line = arguments(&blueprint, Path::new("/run/m1"), None, Accelerator::Tcg, &fds).join(" ");
        assert_eq!(line.matches("qemu-xhci,id=usbstorage").count(), 1, "{line}");
        for words in [
            "ide-hd,bus=ide.0,drive=disk0,bootindex=1",
            "ide-hd,bus=ide.1,drive=disk4,bootindex=5",
            "usb-storage,bus=usbstorage.0,drive=disk3,bootindex=4,serial=farrier-lab-3,logical_block_size=4096",
            "sd-card,bus=sd-bus,drive=disk2 ",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
    }

    #[test]
    fn the_card_that_was_chosen_boots_first_and_a_cable_has_two_ends() {
        let machine = Blueprint::numbered(1)
            .cabled_nic("52:54:00:77:00:a1", 4001, 4002)
            .nic("52:54:00:77:00:a2")
            .boots_from(1);
        let line = arguments(&machine, Path::new("/run/m1"), None, Accelerator::Tcg, &[]).join(" ");
        for words in [
            "mac=52:54:00:77:00:0b,bootindex=1",
            "mac=52:54:00:77:00:a1,bootindex=0",
            "mac=52:54:00:77:00:a2,bootindex=2",
            "socket,id=net1,udp=127.0.0.1:4002,localaddr=127.0.0.1:4001",
            "tap,id=net2,ifname=m1-2",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
    }

    #[test]
    fn the_network_card_is_always_before_the_disk() {
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            let machine = Blueprint::numbered(1).firmware(firmware).disk(1 << 30);
            let line = arguments(&machine, Path::new("/run/m1"), None, Accelerator::Tcg, &[7]).join(" ");
            assert!(line.contains("mac=52:54:00:77:00:0b,bootindex=0"), "{line}");
            assert!(line.contains("drive=disk0,bootindex=1"), "{line}");
            assert_eq!(line.contains("romfile="), firmware == Firmware::Uefi, "{line}");
        }
    }

    #[test]
    fn tap_names_fit_in_the_kernels_limit() {
        assert_eq!(tap_name("m1", 0), "m1-0");
        assert!(tap_name("a-machine-with-a-long-name", 3).len() < 16);
    }
}
