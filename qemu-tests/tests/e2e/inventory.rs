//! A machine tells what it is made of: exactly what QEMU was told to make it of, and what is plugged while it runs.

use std::fs;
use std::time::Duration;

use proto::v1::{Board, Chassis, FirmwareRelease, HardwareInventory};
use qemu_tests::lab::devices::DiskController;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::network::Network;
use qemu_tests::lab::wait::{Look, wait_until};
use serde_json::json;

use crate::scene::{Scene, scene};

const WITHIN: Duration = Duration::from_secs(300);

/// What firmware and disks are to say, and two ports for what is plugged later.
const MADE_OF: [&str; 22] = [
    "-smbios",
    "type=0,vendor=ACME BIOS,version=3.1,date=10/23/2025",
    "-smbios",
    "type=1,manufacturer=ACME,product=Rack 1,version=v7,serial=SN-4711,sku=SKU-1,family=Racks",
    "-smbios",
    "type=2,manufacturer=ACME Boards,product=B1,version=b7,serial=BSN-1,asset=BA-1",
    "-smbios",
    "type=3,manufacturer=ACME Metal,version=c7,serial=CSN-1,asset=CA-1",
    "-smbios",
    "type=17,loc_pfx=DIMM,manufacturer=ACME Memory,serial=MSN-1,asset=MA-1,part=P-1,speed=3200",
    "-drive",
    "if=none,id=vd,format=raw,file.driver=null-co,file.size=64M,file.read-zeroes=on",
    "-device",
    "virtio-blk-pci,drive=vd,serial=VSN-1",
    "-device",
    "pcie-root-port,id=hot0,chassis=10,slot=10",
    "-device",
    "pcie-root-port,id=hot1,chassis=11,slot=11",
    "-device",
    "VGA",
    "-uuid",
    "12345678-9abc-def0-1234-56789abcdef0",
];

#[test]
fn a_machine_tells_what_it_is_made_of_and_what_is_plugged_while_it_runs() {
    scene(|scene| {
        let second = Network::machine_mac(9);
        let blueprint = Blueprint::numbered(1)
            .memory_mib(1024)
            .cpus(2)
            .nic(&second)
            .disks_are_on(DiskController::Nvme)
            .sector_bytes(4096)
            .disk(256 << 20)
            .qemu(&MADE_OF);
        let mut machine = scene.world.machine(blueprint).unwrap();
        // It has nothing to do, and stays in memory.
        let record = format!(
            "machine: {}\nmac: {}\naddress: {}/24\nnetboot: agent\n",
            machine.name(),
            machine.mac(),
            machine.address()
        );
        scene.world.api.apply_machines(&record, "lab").unwrap();
        machine.power_on().unwrap();
        let told = told(scene, &machine, |told| {
            told.disks.len() == 2 && told.interfaces.len() == 2
        });
        told_of_the_firmware(&told);
        told_of_the_rest(&told, machine.mac(), &second);
        shown_to_the_person(&mut machine);

        let qmp = machine.qmp().unwrap();
        let disk = json!({"driver": "null-co", "node-name": "later", "size": 32 << 20, "read-zeroes": true});
        qmp.execute("blockdev-add", disk).unwrap();
        let plug = json!({"driver": "virtio-blk-pci", "id": "later", "drive": "later", "bus": "hot0", "serial": "HOT-1"});
        qmp.execute("device_add", plug).unwrap();
        let card =
            json!({"driver": "virtio-net-pci", "id": "card", "bus": "hot1", "mac": "52:54:00:77:00:aa"});
        qmp.execute("device_add", card).unwrap();
        let plugged = self::told(scene, &machine, |told| {
            told.disks.len() == 3 && told.interfaces.len() == 3
        });
        let disk = plugged.disks.iter().find(|disk| disk.serial == "HOT-1").unwrap();
        assert_eq!((disk.size_bytes, disk.transport.as_str()), (32 << 20, "virtio"));
        assert!(
            plugged
                .interfaces
                .iter()
                .any(|card| card.mac == "52:54:00:77:00:aa")
        );
        assert_eq!(plugged.serial, told.serial);
        let log = scene.world.api.boot_log(machine.name()).unwrap();
        assert!(
            log.iter().filter(|entry| entry.what == "INVENTORY").count() >= 2,
            "{log:?}"
        );
        machine
            .qmp()
            .unwrap()
            .execute("device_del", json!({"id": "later"}))
            .unwrap();
        self::told(scene, &machine, |told| told.disks.len() == 2);
    });
}

/// On its screen: the text of the VGA console is every other byte.
fn shown_to_the_person(machine: &mut Machine) {
    let file = machine.directory().join("screen");
    let want = [
        format!(
            "Machine   {}  {}  serial SN-4711  ACME Rack 1",
            machine.name(),
            machine.mac()
        ),
        format!("Network   eth0 {}/24", machine.address()),
        "Waits for no workflow for this machine".to_owned(),
    ];
    wait_until("the panel", WITHIN, || {
        let save = json!({"val": 0xb8000, "size": 32 << 10, "filename": file.display().to_string()});
        machine.qmp().unwrap().execute("pmemsave", save).unwrap();
        let memory = fs::read(&file).unwrap();
        let text: String = memory.iter().step_by(2).map(|byte| char::from(*byte)).collect();
        match want.iter().find(|line| !text.contains(line.as_str())) {
            None => Look::Done(()),
            Some(missing) => Look::not_yet(format!("{missing:?} is not in {text:?}")),
        }
    })
    .unwrap();
    // Nothing of the panel is on the serial line, and what the machine waits for is.
    let said = machine.said();
    assert!(
        said.contains("waiting: no workflow for this machine") && !said.contains("\u{1b}[9;0]"),
        "{said}"
    );
}

fn told(scene: &Scene, machine: &Machine, wanted: impl Fn(&HardwareInventory) -> bool) -> HardwareInventory {
    wait_until("an inventory", WITHIN, || {
        let shown = scene.world.api.machine(machine.name()).unwrap().inventory;
        match shown {
            Some(told) if !told.pci_devices.is_empty() && wanted(&told) => Look::Done(*told),
            told => Look::not_yet(format!("{told:?}, {:?}", machine.serial().last_lines(1))),
        }
    })
    .unwrap()
}

fn told_of_the_firmware(told: &HardwareInventory) {
    let system = [
        &told.vendor,
        &told.product,
        &told.serial,
        &told.sku,
        &told.family,
        &told.uuid,
    ];
    let want = [
        "ACME",
        "Rack 1",
        "SN-4711",
        "SKU-1",
        "Racks",
        "12345678-9abc-def0-1234-56789abcdef0",
    ];
    assert_eq!(system, want);
    let board = Board {
        vendor: "ACME Boards".into(),
        product: "B1".into(),
        version: "b7".into(),
        serial: "BSN-1".into(),
        asset_tag: "BA-1".into(),
    };
    assert_eq!(told.board, Some(board));
    let chassis = told.chassis.clone().unwrap();
    let want = Chassis {
        vendor: "ACME Metal".into(),
        version: "c7".into(),
        serial: "CSN-1".into(),
        asset_tag: "CA-1".into(),
        // Whatever this QEMU says that it is in.
        kind: chassis.kind.clone(),
    };
    assert_eq!(chassis, want);
    let release = FirmwareRelease {
        vendor: "ACME BIOS".into(),
        version: "3.1".into(),
        date: "10/23/2025".into(),
    };
    assert_eq!(told.firmware_release, Some(release));
    assert_eq!(
        (
            told.firmware.as_str(),
            told.secure_boot.as_str(),
            told.tpm.as_str()
        ),
        ("bios", "", "")
    );
    let [module] = told.memory_modules.as_slice() else {
        panic!("{:?}", told.memory_modules)
    };
    assert_eq!(
        (module.slot.as_str(), module.size_bytes, module.speed_mt_per_s),
        ("DIMM 0", 1 << 30, 3200)
    );
    let texts = [&module.manufacturer, &module.part_number, &module.serial];
    assert_eq!(texts, ["ACME Memory", "P-1", "MSN-1"]);
}

fn told_of_the_rest(told: &HardwareInventory, first: &str, second: &str) {
    let processor = told.processor.clone().unwrap();
    assert_eq!(
        (told.cpus, processor.threads, processor.architecture.as_str()),
        (2, 2, "x86_64")
    );
    assert!(
        !processor.model.is_empty() && processor.cores > 0 && processor.sockets > 0,
        "{processor:?}"
    );
    // Less what the kernel took for itself.
    assert!(
        (768 << 20..1 << 30).contains(&told.memory_bytes),
        "{}",
        told.memory_bytes
    );
    let [nvme, virtio] = told.disks.as_slice() else {
        panic!("{:?}", told.disks)
    };
    assert_eq!((nvme.name.as_str(), nvme.size_bytes), ("/dev/nvme0n1", 256 << 20));
    assert_eq!(
        (nvme.logical_sector_bytes, nvme.physical_sector_bytes),
        (4096, 4096)
    );
    assert_eq!(
        (nvme.serial.as_str(), nvme.transport.as_str()),
        ("farrier-lab-0", "nvme")
    );
    assert_eq!((virtio.name.as_str(), virtio.size_bytes), ("/dev/vda", 64 << 20));
    assert_eq!(
        (virtio.logical_sector_bytes, virtio.serial.as_str()),
        (512, "VSN-1")
    );
    assert!(
        [nvme, virtio]
            .iter()
            .all(|disk| disk.partition_table.is_empty() && disk.filesystem.is_empty())
    );
    let macs: Vec<&str> = told.interfaces.iter().map(|card| card.mac.as_str()).collect();
    assert_eq!(macs, [first, second]);
    for card in &told.interfaces {
        assert_eq!(
            (card.driver.as_str(), card.pci_id.split(':').next()),
            ("virtio_net", Some("1af4"))
        );
        let device = told
            .pci_devices
            .iter()
            .find(|device| device.address == card.pci_address);
        assert_eq!(device.unwrap().id, card.pci_id);
    }
    assert!(told.interfaces[0].carrier);
    let [gpu] = told.gpus.as_slice() else {
        panic!("{:?}", told.gpus)
    };
    assert_eq!((gpu.id.as_str(), gpu.class.as_str()), ("1234:1111", "030000"));
    assert!(told.left_out.is_empty(), "{:?}", told.left_out);
}
