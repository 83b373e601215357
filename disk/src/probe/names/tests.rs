//! Made-up machines: a sysfs, and files for devices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::probe::{refresh_links, resolve};
use crate::testing::{gpt_image, output};

struct Machine {
    dir: tempfile::TempDir,
    system: System,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        // Links in sysfs are canonicalized.
        let root = fs::canonicalize(dir.path()).unwrap();
        for folder in ["sys/block", "sys/dev/block", "proc/self", "dev"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("proc/self/mountinfo"), "").unwrap();
        let system = System {
            sys: root.join("sys"),
            proc: root.join("proc"),
            dev: root.join("dev"),
        };
        Machine { dir, system }
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.system.sys.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Says of what kind a device on the way is.
    fn subsystem(&self, device: &str, name: &str) {
        let device = self.system.sys.join("devices").join(device);
        fs::create_dir_all(&device).unwrap();
        symlink(self.system.sys.join("bus").join(name), device.join("subsystem")).unwrap();
    }

    /// A disk of 64 MiB at a path below /sys/devices; `device` is where its hardware is described.
    fn disk(&self, at: &str, number: &str, device: &str) -> String {
        let name = at.rsplit('/').next().unwrap();
        let path = format!("devices/{at}");
        self.put(&format!("{path}/dev"), number);
        self.put(&format!("{path}/size"), "131072");
        symlink(
            self.system.sys.join(&path),
            self.system.sys.join("block").join(name),
        )
        .unwrap();
        symlink(
            self.system.sys.join(&path),
            self.system.sys.join("dev/block").join(number),
        )
        .unwrap();
        if !device.is_empty() {
            let device = self.system.sys.join("devices").join(device);
            fs::create_dir_all(&device).unwrap();
            symlink(device, self.system.sys.join(&path).join("device")).unwrap();
        }
        path
    }

    fn partition(&self, disk: &str, name: &str, number: u32, start: u64) {
        self.put(&format!("{disk}/{name}/partition"), number.to_string());
        self.put(&format!("{disk}/{name}/dev"), format!("259:{number}"));
        self.put(&format!("{disk}/{name}/start"), start.to_string());
        self.put(&format!("{disk}/{name}/size"), "32768");
    }

    fn device(&self, name: &str) -> PathBuf {
        let path = self.system.dev.join(name);
        if !path.exists() {
            fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
        }
        path
    }

    /// The names of one device in one folder.
    fn of(&self, by: By, device: &str) -> Vec<String> {
        names(&self.system)
            .unwrap()
            .into_iter()
            .filter(|name| name.by == by && name.device == self.system.dev.join(device))
            .map(|name| name.name)
            .collect()
    }

    fn resolved(&self, hint: &str) -> Result<String, String> {
        resolve(&self.system, hint)
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .map_err(|e| e.to_string())
    }
}

/// A virtio disk with a GPT, as the image of a Debian has it.
fn virtio() -> (Machine, String) {
    let machine = Machine::new();
    machine.subsystem("pci0000:00/0000:00:04.0", "pci");
    machine.subsystem("pci0000:00/0000:00:04.0/virtio1", "virtio");
    let disk = machine.disk("pci0000:00/0000:00:04.0/virtio1/block/vda", "254:0", "");
    machine.put(&format!("{disk}/serial"), "disk one");
    machine.put(&format!("{disk}/diskseq"), "9");
    machine.put(&format!("{disk}/queue/logical_block_size"), "512");
    machine.partition(&disk, "vda1", 1, 2048);
    machine.partition(&disk, "vda3", 3, 4096);
    let image = gpt_image(64 << 20, 512);
    fs::copy(image.path(), machine.system.dev.join("vda")).unwrap();
    machine.device("vda1");
    let root = machine.device("vda3");
    output(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-L", "my root", "-U"])
            .arg("12345678-9abc-def0-1234-56789abcdef0")
            .arg(&root),
    );
    (machine, disk)
}

#[test]
fn a_virtio_disk_and_its_partitions_have_all_their_names() {
    let (machine, _) = virtio();
    assert_eq!(machine.of(By::Id, "vda"), ["virtio-disk_one"]);
    assert_eq!(machine.of(By::Id, "vda3"), ["virtio-disk_one-part3"]);
    assert_eq!(
        machine.of(By::Path, "vda3"),
        ["pci-0000:00:04.0-part3", "virtio-pci-0000:00:04.0-part3"]
    );
    assert_eq!(machine.of(By::Diskseq, "vda1"), ["9-part1"]);
    assert_eq!(
        machine.of(By::Uuid, "vda3"),
        ["12345678-9abc-def0-1234-56789abcdef0"]
    );
    assert_eq!(machine.of(By::Label, "vda3"), [r"my\x20root"]);
    // As sgdisk, another reader of the table, shows them.
    let shown = |number: &str, word: &str| {
        let said = output(
            Command::new("sgdisk")
                .args(["-i", number])
                .arg(machine.system.dev.join("vda")),
        );
        let line = said.lines().find_map(|line| line.strip_prefix(word)).unwrap();
        line.trim().trim_matches('\'').to_owned()
    };
    for (partition, number) in [("vda1", "1"), ("vda3", "3")] {
        assert_eq!(
            machine.of(By::Partuuid, partition),
            [shown(number, "Partition unique GUID:").to_lowercase()]
        );
        let label = shown(number, "Partition name:");
        let labels: Vec<String> = (!label.is_empty()).then(|| encoded(&label)).into_iter().collect();
        assert_eq!(machine.of(By::Partlabel, partition), labels);
    }
}

#[test]
fn every_name_leads_to_its_device() {
    let (machine, _) = virtio();
    let all = names(&machine.system).unwrap();
    assert!(all.len() > 12, "{all:?}");
    for name in &all {
        let path = format!("/dev/disk/{}/{}", name.by.folder(), name.name);
        assert_eq!(resolve(&machine.system, &path).unwrap(), name.device, "{path}");
    }
    for (hint, device) in [
        ("UUID=12345678-9abc-def0-1234-56789abcdef0", "vda3"),
        ("LABEL=my root", "vda3"),
        ("ID=virtio-disk_one-part1", "vda1"),
        ("vda3", "vda3"),
        ("serial=disk one-part3", "vda3"),
        ("virtio-disk_one-part1", "vda1"),
        ("size>=1M-part3", "vda3"),
        ("virtio-disk_one", "vda"),
    ] {
        assert_eq!(machine.resolved(hint).as_deref(), Ok(device), "{hint}");
    }
    let none = machine.resolved("/dev/disk/by-label/other").unwrap_err();
    assert!(
        none.contains(r"by-label/my\x20root") && none.contains("vda3"),
        "{none}"
    );
    let none = machine.resolved("virtio-disk_one-part7").unwrap_err();
    assert!(none.contains("no partition 7") && none.contains("vda3"), "{none}");
}

#[test]
fn a_name_that_two_devices_have_is_refused_with_both() {
    let (machine, _) = virtio();
    let other = machine.disk("pci0000:00/0000:00:04.0/virtio1/block/vdb", "254:16", "");
    machine.put(&format!("{other}/serial"), "two");
    fs::copy(machine.system.dev.join("vda3"), machine.device("vdb")).unwrap();
    for hint in [
        "LABEL=my root",
        "/dev/disk/by-uuid/12345678-9abc-def0-1234-56789abcdef0",
    ] {
        let refused = machine.resolved(hint).unwrap_err();
        assert!(
            refused.contains("2 devices") && refused.contains("/vda3 and ") && refused.contains("/vdb;"),
            "{refused}"
        );
        assert!(
            refused.contains("by-id/virtio-two"),
            "the cure is named: {refused}"
        );
    }
    assert_eq!(
        machine.resolved("/dev/disk/by-id/virtio-two").as_deref(),
        Ok("vdb")
    );
}

#[test]
fn links_come_and_go_with_the_disks() {
    let (machine, disk) = virtio();
    refresh_links(&machine.system).unwrap();
    let folder = machine.system.dev.join("disk");
    for name in names(&machine.system).unwrap() {
        let link = folder.join(name.by.folder()).join(&name.name);
        assert_eq!(
            fs::canonicalize(&link).unwrap(),
            name.device,
            "{}",
            link.display()
        );
    }
    assert_eq!(
        fs::read_link(folder.join(r"by-label/my\x20root")).unwrap(),
        Path::new("../../vda3")
    );
    fs::remove_dir_all(machine.system.sys.join(&disk).join("vda3")).unwrap();
    output(
        Command::new("mke2fs")
            .args(["-q", "-F", "-L", "new"])
            .arg(machine.device("vda1")),
    );
    refresh_links(&machine.system).unwrap();
    let left: Vec<_> = fs::read_dir(folder.join("by-label")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(
        fs::read_link(folder.join("by-label/new")).unwrap(),
        Path::new("../../vda1")
    );
    assert!(!folder.join("by-id/virtio-disk_one-part3").is_symlink());
}

#[test]
fn a_table_of_the_old_kind_names_its_partitions_by_the_disks_signature() {
    let machine = Machine::new();
    let disk = machine.disk("platform/a/block/vdb", "254:16", "");
    machine.partition(&disk, "vdb1", 1, 2048);
    machine.partition(&disk, "vdb5", 5, 8192);
    let mut start = vec![0_u8; 4096];
    start[440..444].copy_from_slice(&0x0a1b_2c3d_u32.to_le_bytes());
    start[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(machine.system.dev.join("vdb"), start).unwrap();
    assert_eq!(machine.of(By::Partuuid, "vdb1"), ["0a1b2c3d-01"]);
    assert_eq!(machine.resolved("PARTUUID=0A1B2C3D-05").as_deref(), Ok("vdb5"));
    assert!(machine.of(By::Partlabel, "vdb1").is_empty());
}

#[test]
fn parts_of_an_array_have_no_name_of_what_lies_on_the_whole() {
    let (machine, disk) = virtio();
    fs::create_dir_all(machine.system.sys.join("class/block")).unwrap();
    let partition = machine.system.sys.join(&disk).join("vda3");
    symlink(&partition, machine.system.sys.join("class/block/vda3")).unwrap();
    assert_eq!(machine.of(By::Uuid, "vda3").len(), 1);
    fs::create_dir_all(partition.join("holders/md0")).unwrap();
    assert!(machine.of(By::Uuid, "vda3").is_empty(), "it is held");
    fs::remove_dir_all(partition.join("holders")).unwrap();
    // Metadata of version 1.0 lies near the end, behind a filesystem that looks whole.
    let mut bytes = fs::read(machine.device("vda3")).unwrap();
    let at = ((32768 - 16) & !7) * 512;
    bytes[at..at + 4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    fs::write(machine.device("vda3"), bytes).unwrap();
    assert!(machine.of(By::Uuid, "vda3").is_empty(), "it is part of an array");
}

#[test]
fn sata_nvme_usb_scsi_and_mmc_disks_are_named_as_udev_names_them() {
    let machine = Machine::new();
    let padded = |text: &str, len: usize| format!("{text:<len$}").into_bytes();

    let (ata, scsi) = ("pci0000:00/0000:00:1f.2/ata3/host2", "target2:0:0/2:0:0:0");
    machine.subsystem("pci0000:00/0000:00:1f.2", "pci");
    machine.subsystem(ata, "scsi");
    machine.subsystem(&format!("{ata}/{scsi}"), "scsi");
    machine.put("class/ata_port/ata3/port_no", "3");
    let device = format!("{ata}/{scsi}");
    machine.put(&format!("devices/{device}/vendor"), "ATA     ");
    machine.put(&format!("devices/{device}/model"), "WDC WD20EZRX-00D");
    let mut page = vec![0, 0x83, 0, 80, 2, 1, 0, 68];
    page.extend(padded("ATA", 8));
    page.extend(padded("WDC WD20EZRX-00D8PB0", 40));
    page.extend(padded("     WD-WCC4M0", 20));
    page.extend([1, 3, 0, 8, 0x50, 0x01, 0x4e, 0xe2, 0xb5, 0xe4, 0xf0, 0xa1]);
    machine.put(&format!("devices/{device}/vpd_pg83"), &page);
    let disk = machine.disk(&format!("{device}/block/sda"), "8:0", &device);
    machine.partition(&disk, "sda1", 1, 2048);
    assert_eq!(
        machine.of(By::Id, "sda"),
        ["ata-WDC_WD20EZRX-00D8PB0_WD-WCC4M0", "wwn-0x50014ee2b5e4f0a1"]
    );
    assert_eq!(
        machine.of(By::Path, "sda"),
        ["pci-0000:00:1f.2-ata-3", "pci-0000:00:1f.2-ata-3.0"]
    );
    assert_eq!(
        machine.of(By::Path, "sda1"),
        ["pci-0000:00:1f.2-ata-3-part1", "pci-0000:00:1f.2-ata-3.0-part1"]
    );

    let controller = "pci0000:00/0000:00:1d.0/0000:3b:00.0/nvme/nvme0";
    machine.subsystem("pci0000:00/0000:00:1d.0", "pci");
    machine.subsystem("pci0000:00/0000:00:1d.0/0000:3b:00.0", "pci");
    machine.subsystem(controller, "nvme");
    machine.put(&format!("devices/{controller}/model"), "Fast SSD 1              ");
    machine.put(&format!("devices/{controller}/serial"), "S1");
    let disk = machine.disk(&format!("{controller}/nvme0n1"), "259:10", controller);
    machine.put(&format!("{disk}/nsid"), "1");
    machine.put(&format!("{disk}/wwid"), "eui.0025385b71b0f9a2");
    machine.partition(&disk, "nvme0n1p2", 2, 4096);
    assert_eq!(
        machine.of(By::Id, "nvme0n1p2"),
        [
            "nvme-Fast_SSD_1_S1-part2",
            "nvme-Fast_SSD_1_S1_1-part2",
            "nvme-eui.0025385b71b0f9a2-part2"
        ]
    );
    assert_eq!(machine.of(By::Path, "nvme0n1"), ["pci-0000:3b:00.0-nvme-1"]);

    let usb = "pci0000:00/0000:00:14.0/usb1/1-2";
    machine.subsystem("pci0000:00/0000:00:14.0", "pci");
    for device in ["pci0000:00/0000:00:14.0/usb1", usb, &format!("{usb}/1-2:1.0")] {
        machine.subsystem(device, "usb");
    }
    machine.put(&format!("devices/{usb}/idVendor"), "0781");
    machine.put(&format!("devices/{usb}/serial"), "4C53");
    let device = format!("{usb}/1-2:1.0/host6/target6:0:0/6:0:0:0");
    machine.subsystem(&format!("{usb}/1-2:1.0/host6"), "scsi");
    machine.subsystem(&device, "scsi");
    machine.put(&format!("devices/{device}/vendor"), "SanDisk ");
    machine.put(&format!("devices/{device}/model"), "Ultra Fit       ");
    machine.disk(&format!("{device}/block/sdb"), "8:16", &device);
    assert_eq!(machine.of(By::Id, "sdb"), ["usb-SanDisk_Ultra_Fit_4C53-0:0"]);
    assert_eq!(
        machine.of(By::Path, "sdb"),
        ["pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0"]
    );

    let host = "pci0000:00/0000:00:05.0/virtio2/host7";
    machine.subsystem("pci0000:00/0000:00:05.0", "pci");
    machine.subsystem("pci0000:00/0000:00:05.0/virtio2", "virtio");
    machine.subsystem(host, "scsi");
    let device = format!("{host}/target7:0:1/7:0:1:3");
    machine.subsystem(&device, "scsi");
    machine.put(&format!("devices/{device}/vendor"), "QEMU    ");
    machine.put(&format!("devices/{device}/model"), "QEMU HARDDISK   ");
    let mut page = vec![0, 0x83, 0, 15, 2, 0, 0, 11];
    page.extend(b"drive-scsi0");
    machine.put(&format!("devices/{device}/vpd_pg83"), &page);
    machine.disk(&format!("{device}/block/sdc"), "8:32", &device);
    assert_eq!(
        machine.of(By::Id, "sdc"),
        ["scsi-0QEMU_QEMU_HARDDISK_drive-scsi0"]
    );
    assert_eq!(machine.of(By::Path, "sdc"), ["pci-0000:00:05.0-scsi-0:0:1:3"]);

    let card = "platform/fe340000.mmc/mmc_host/mmc0/mmc0:0001";
    machine.subsystem("platform/fe340000.mmc", "platform");
    machine.put(&format!("devices/{card}/name"), "DF4032");
    machine.put(&format!("devices/{card}/serial"), "0x4fe1b2c3");
    let disk = machine.disk(&format!("{card}/block/mmcblk0"), "179:0", card);
    machine.partition(&disk, "mmcblk0p1", 1, 2048);
    assert_eq!(machine.of(By::Id, "mmcblk0p1"), ["mmc-DF4032_0x4fe1b2c3-part1"]);
    assert_eq!(machine.of(By::Path, "mmcblk0"), ["platform-fe340000.mmc"]);
}

#[test]
fn a_sas_disk_is_named_by_the_plug_it_is_in() {
    let machine = Machine::new();
    let host = "pci0000:00/0000:03:00.0/host0";
    machine.subsystem("pci0000:00/0000:03:00.0", "pci");
    machine.subsystem(host, "scsi");
    let device = format!("{host}/port-0:2/end_device-0:2/target0:0:2/0:0:2:0");
    machine.subsystem(&device, "scsi");
    machine.put("class/sas_device/end_device-0:2/phy_identifier", "2");
    machine.put(
        "class/sas_device/end_device-0:2/sas_address",
        "0x5000c500a1b2c3d5",
    );
    machine.put("class/sas_port/port-0:2/num_phys", "1");
    machine.disk(&format!("{device}/block/sda"), "8:0", &device);
    assert_eq!(machine.of(By::Path, "sda"), ["pci-0000:03:00.0-sas-phy2-lun-0"]);
    machine.put("class/sas_port/port-0:2/num_phys", "4");
    assert_eq!(
        machine.of(By::Path, "sda"),
        ["pci-0000:03:00.0-sas-0x5000c500a1b2c3d5-lun-0"]
    );
    assert!(machine.dir.path().exists());
}

#[test]
fn paths_and_tags_ask_for_the_same_names() {
    let name = |by, name: &str| Name {
        by,
        name: name.to_owned(),
        device: PathBuf::from("/dev/sda1"),
    };
    for (hint, by, is) in [
        ("/dev/disk/by-uuid/ab-1", By::Uuid, "ab-1"),
        ("UUID=AB-1", By::Uuid, "ab-1"),
        ("UUID=\"ab-1\"", By::Uuid, "ab-1"),
        ("LABEL=my data", By::Label, r"my\x20data"),
        (r"/dev/disk/by-label/my\x20data", By::Label, r"my\x20data"),
        ("/dev/disk/by-label/my data", By::Label, r"my\x20data"),
        ("PARTLABEL=\"EFI System\"", By::Partlabel, r"EFI\x20System"),
        ("PARTUUID=0011aabb-01", By::Partuuid, "0011aabb-01"),
        ("ID=virtio-a", By::Id, "virtio-a"),
        ("/dev/disk/by-path/pci-0000:00:04.0", By::Path, "pci-0000:00:04.0"),
        ("/dev/disk/by-diskseq/3", By::Diskseq, "3"),
        ("/dev//disk/by-id/virtio-a", By::Id, "virtio-a"),
    ] {
        let wanted = Wanted::parse(hint).unwrap_or_else(|| panic!("{hint} is not understood"));
        assert!(wanted.is(&name(by, is)), "{hint}");
    }
    assert!(!Wanted::parse("LABEL=Root").unwrap().is(&name(By::Label, "root")));
    for hint in [
        "/dev/sda",
        "sda",
        "serial=1",
        "id=virtio-a",
        "/dev/disk/by-dname/x",
        "/dev/disk/by-id",
    ] {
        assert_eq!(Wanted::parse(hint), None, "{hint}");
    }
}

#[test]
fn letters_are_written_as_udev_writes_them() {
    assert_eq!(encoded("a b/c\\d"), r"a\x20b\x2fc\x5cd");
    assert_eq!(encoded("Dätä:1"), "Dätä:1");
    assert_eq!(replaced("  WDC  WD20/x "), "WDC_WD20_x");
}
