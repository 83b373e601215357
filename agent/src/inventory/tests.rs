//! A machine as a tree of files: what its kernel would show of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proto::inventory::MAX_PCI_DEVICES;
use proto::v1::{Board, LldpNeighbour, Partition, PciDevice};

use super::*;

fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    fs::write(path, content).expect("written");
}

fn link(root: &Path, path: &str, to: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    symlink(root.join(to), path).expect("link");
}

const PCI: &str = "sys/devices/pci0000:00";

fn pci(root: &Path, address: &str, ids: [&str; 5], driver: &str) {
    let folder = format!("{PCI}/{address}");
    let names = [
        "vendor",
        "device",
        "subsystem_vendor",
        "subsystem_device",
        "class",
    ];
    for (name, id) in names.iter().zip(ids) {
        put(root, &format!("{folder}/{name}"), format!("{id}\n"));
    }
    fs::create_dir_all(root.join("sys/bus/pci/drivers").join(driver)).expect("folder");
    if !driver.is_empty() {
        link(
            root,
            &format!("{folder}/driver"),
            &format!("sys/bus/pci/drivers/{driver}"),
        );
    }
    link(root, &format!("{folder}/subsystem"), "sys/bus/pci");
    link(root, &format!("sys/bus/pci/devices/{address}"), &folder);
}

/// A server of two sockets with an i40e card, an NVMe disk with a table and a virtio disk, TPM, UEFI.
fn machine() -> (tempfile::TempDir, System) {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path();
    let ids = [
        ("sys_vendor", "ACME Corp.\n"),
        ("product_name", "Rack\"{{.x}}${{ secrets.PW }}\n"),
        ("product_serial", "SN-1\n"),
        ("product_uuid", "12345678-9ABC-DEF0-1234-56789ABCDEF0\n"),
        ("product_sku", "To Be Filled By O.E.M.\n"),
        ("board_vendor", "ACME\n"),
        ("board_name", "X11\n"),
        ("board_serial", "B-2\n"),
        ("chassis_serial", "Default string\n"),
        ("bios_vendor", "AMI\n"),
        ("bios_version", "3.1\n"),
        ("bios_date", "10/23/2025\n"),
    ];
    for (name, value) in ids {
        put(root, &format!("sys/class/dmi/id/{name}"), value);
    }
    put(root, "sys/firmware/dmi/tables/DMI", smbios::tests::table());
    put(
        root,
        "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        [6, 0, 0, 0, 1],
    );
    put(root, "sys/class/tpm/tpm0/tpm_version_major", "2\n");
    put(root, "proc/meminfo", "MemTotal:  1048576 kB\n");
    put(
        root,
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Xeon(R) Gold 6338\n",
    );
    for cpu in 0..8 {
        let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        put(
            root,
            &format!("{topology}/physical_package_id"),
            format!("{}\n", cpu % 2),
        );
        put(root, &format!("{topology}/core_id"), format!("{}\n", cpu / 2 % 2));
    }
    put(root, "sys/devices/system/cpu/cpufreq/x", "");
    pci(
        root,
        "0000:00:1f.2",
        ["0x8086", "0x2922", "0x1af4", "0x1100", "0x010601"],
        "ahci",
    );
    pci(
        root,
        "0000:01:00.0",
        ["0x8086", "0x1572", "0x8086", "0x0001", "0x020000"],
        "i40e",
    );
    pci(
        root,
        "0000:02:00.0",
        ["0x10de", "0x20b5", "0x10de", "0x1533", "0x030200"],
        "",
    );
    let card = format!("{PCI}/0000:01:00.0/net/eth0");
    for (name, value) in [
        ("address", "52:54:00:77:00:0b\n"),
        ("carrier", "1\n"),
        ("speed", "10000\n"),
        ("mtu", "9000\n"),
    ] {
        put(root, &format!("{card}/{name}"), value);
    }
    link(root, &format!("{card}/device"), &format!("{PCI}/0000:01:00.0"));
    link(root, "sys/class/net/eth0", &card);
    for (name, bytes, sector) in [("nvme0n1", 400_u64 << 30, "4096\n"), ("vda", 8 << 20, "512\n")] {
        let disk = format!("sys/block/{name}");
        put(root, &format!("{disk}/size"), format!("{}\n", bytes / 512));
        put(root, &format!("{disk}/dev"), "0:0\n");
        put(root, &format!("{disk}/queue/logical_block_size"), sector);
    }
    put(root, "sys/block/nvme0n1/device/serial", "NV1   \n");
    for (name, value) in [
        ("partition", "1\n"),
        ("dev", "259:1\n"),
        ("start", "2048\n"),
        ("size", "4096\n"),
    ] {
        put(root, &format!("sys/block/nvme0n1/nvme0n1p1/{name}"), value);
    }
    let mut table = vec![0; 4096];
    table[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]);
    table[510..512].copy_from_slice(&[0x55, 0xaa]);
    put(root, "dev/nvme0n1", table);
    let mut xfs = b"XFSB".to_vec();
    xfs.resize(512, 0);
    xfs[108..112].copy_from_slice(b"data");
    put(root, "dev/nvme0n1p1", xfs);
    let mut luks = b"LUKS\xba\xbe\x00\x02".to_vec();
    luks.resize(4096, 0);
    put(root, "dev/vda", luks);
    let system = System {
        sys: root.join("sys"),
        proc: root.join("proc"),
        dev: root.join("dev"),
    };
    (folder, system)
}

#[test]
fn a_machine_is_told_as_its_kernel_shows_it() {
    let (_folder, system) = machine();
    let neighbour = LldpNeighbour {
        port_id: "Ethernet12".into(),
        ..LldpNeighbour::default()
    };
    let beside = Beside {
        permanent: [("eth0".to_owned(), "52:54:00:77:00:aa".to_owned())].into(),
        neighbours: [("eth0".to_owned(), neighbour.clone())].into(),
    };
    let bmc = Bmc {
        address: "10.0.0.7".into(),
        ..Bmc::default()
    };
    let found = whole(&system, &beside, &bmc);
    assert_eq!(
        (found.vendor.as_str(), found.serial.as_str()),
        ("ACME Corp.", "SN-1")
    );
    assert_eq!(
        found.product, "Rack___.x_____ secrets.PW __",
        "nothing for a template"
    );
    assert_eq!(found.uuid, "12345678-9abc-def0-1234-56789abcdef0");
    assert_eq!(found.sku, "", "what nobody filled in is not told");
    let processor = found.processor.as_ref().expect("a processor");
    assert_eq!(
        (
            processor.model.as_str(),
            processor.sockets,
            processor.cores,
            processor.threads
        ),
        ("Xeon(R) Gold 6338", 2, 4, 8)
    );
    assert_eq!((found.cpus, found.memory_bytes), (8, 1 << 30));
    assert_eq!(found.memory_modules.len(), 2);
    assert_eq!(
        (
            found.firmware.as_str(),
            found.secure_boot.as_str(),
            found.tpm.as_str()
        ),
        ("uefi", "enabled", "2.0")
    );
    let board = Board {
        vendor: "ACME".into(),
        product: "X11".into(),
        serial: "B-2".into(),
        ..Board::default()
    };
    assert_eq!(found.board, Some(board));
    let chassis = found.chassis.as_ref().expect("a chassis");
    assert_eq!(
        (chassis.kind.as_str(), chassis.serial.as_str()),
        ("rack mount", "")
    );
    assert_eq!(
        found
            .firmware_release
            .as_ref()
            .map(|release| release.date.as_str()),
        Some("10/23/2025")
    );
    assert_eq!(found.bmc, Some(bmc));
    let gpu = PciDevice {
        address: "0000:02:00.0".into(),
        id: "10de:20b5".into(),
        subsystem_id: "10de:1533".into(),
        class: "030200".into(),
        driver: String::new(),
    };
    assert_eq!(found.gpus, [gpu]);
    assert_eq!(
        (found.pci_devices.len(), found.pci_devices[0].driver.as_str()),
        (3, "ahci")
    );
    let [card] = found.interfaces.as_slice() else {
        panic!("{:?}", found.interfaces)
    };
    assert_eq!(
        (card.pci_address.as_str(), card.pci_id.as_str()),
        ("0000:01:00.0", "8086:1572")
    );
    assert_eq!(
        (card.speed_mbit_per_s, card.mtu, card.carrier),
        (10_000, 9000, true)
    );
    assert_eq!(
        (card.permanent_mac.as_str(), &card.neighbour),
        ("52:54:00:77:00:aa", &Some(neighbour))
    );
    let [nvme, virtio] = found.disks.as_slice() else {
        panic!("{:?}", found.disks)
    };
    assert_eq!(
        (nvme.logical_sector_bytes, nvme.physical_sector_bytes),
        (4096, 4096)
    );
    assert_eq!(
        (nvme.serial.as_str(), nvme.partition_table.as_str()),
        ("NV1", "dos")
    );
    let partition = Partition {
        number: 1,
        start_bytes: 1 << 20,
        size_bytes: 2 << 20,
        filesystem: "xfs".into(),
        label: "data".into(),
        uuid: String::new(),
    };
    assert_eq!(nvme.partitions, [partition]);
    assert_eq!(
        (virtio.filesystem.as_str(), virtio.partition_table.as_str()),
        ("crypto_LUKS", "")
    );
}

#[test]
fn a_hello_says_in_short_what_the_whole_says() {
    let (_folder, system) = machine();
    let (brief, whole) = (
        brief(&system),
        whole(&system, &Beside::default(), &Bmc::default()),
    );
    assert_eq!(
        (brief.cpus, brief.memory_bytes, &brief.serial),
        (whole.cpus, whole.memory_bytes, &whole.serial)
    );
    assert_eq!(brief.disks.len(), 2);
    assert!(brief.pci_devices.is_empty() && brief.disks[0].partition_table.is_empty());
}

#[test]
fn what_is_left_out_is_said() {
    let (folder, system) = machine();
    for number in 0..MAX_PCI_DEVICES {
        let address = format!("0001:{:02x}:{:02x}.0", number / 32, number % 32);
        fs::create_dir_all(folder.path().join("sys/bus/pci/devices").join(address)).expect("folder");
    }
    let found = whole(&system, &Beside::default(), &Bmc::default());
    assert_eq!(found.pci_devices.len(), MAX_PCI_DEVICES);
    assert_eq!(found.left_out, ["3 more of pci_devices"]);
}

#[test]
fn a_machine_that_shows_nothing_is_told_as_one() {
    let nowhere = System {
        sys: "/nonexistent".into(),
        proc: "/nonexistent".into(),
        dev: "/nonexistent".into(),
    };
    let found = whole(&nowhere, &Beside::default(), &Bmc::default());
    assert!(found.disks.is_empty() && found.interfaces.is_empty() && found.left_out.is_empty());
    assert_eq!((found.cpus, found.firmware.as_str()), (0, "bios"));
}
