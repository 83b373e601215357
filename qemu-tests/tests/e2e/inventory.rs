//! A machine tells what it is made of: exactly what QEMU was told to make it of, and what is plugged while it runs.

use std::fs;
use std::time::Duration;

use proto::v1::{Bmc, Board, Chassis, FirmwareRelease, HardwareInventory};
use qemu_tests::lab::devices::DiskController;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::network::Network;
use qemu_tests::lab::wait::{Look, wait_until};
use serde_json::json;

use crate::bmc;
use crate::image::{ext4, note_in};
use crate::scene::{Scene, scene, scene_with, write_image, write_note};

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
        scene.stays_in_memory(&machine, "");
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
            log.iter().any(|entry| entry
                .detail
                .contains("network card 1af4:1000, driven by the base")),
            "{log:?}"
        );
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

/// An NVMe disk, and one disk that two controllers reach.
const ASKED: [&str; 14] = [
    "-drive",
    "if=none,id=nv,format=raw,file.driver=null-co,file.size=64M,file.read-zeroes=on",
    "-device",
    "nvme,id=ailing,drive=nv,serial=NVME-1",
    "-device",
    "virtio-scsi-pci,id=first",
    "-device",
    "virtio-scsi-pci,id=second",
    "-blockdev",
    "SHARED",
    "-device",
    "scsi-hd,bus=first.0,drive=shared,share-rw=on,serial=SHARED-1,wwn=0x5000c50015ea71ac",
    "-device",
    "scsi-hd,bus=second.0,drive=shared,share-rw=on,serial=SHARED-1,wwn=0x5000c50015ea71ac",
];

#[test]
fn a_machine_tells_of_ailing_disks_of_two_ways_to_one_and_of_its_controller() {
    scene_with("boot-server", |scene| {
        let filesystem = ext4("farrier", &[]);
        let packed = zstd::bulk::compress(&filesystem, 1).unwrap();
        fs::write(scene.images.join("disk.raw.zst"), packed).unwrap();
        let shared = scene.world.run_dir.path().join("shared");
        fs::File::create(&shared).unwrap().set_len(48 << 20).unwrap();
        let node = format!(
            "driver=file,node-name=shared,locking=off,filename={}",
            shared.display()
        );
        let words = ASKED.map(|word| if word == "SHARED" { node.as_str() } else { word });
        let blueprint = Blueprint::numbered(1)
            .memory_mib(768)
            .disks_are_on(DiskController::Ahci)
            .disk(32 << 20)
            .qemu(&words)
            .qemu(&bmc::WIRED);
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.stays_in_memory(&machine, "");
        let _controller = bmc::start(&scene.world.run_dir);
        machine.power_on().unwrap();
        // Bit 2 of the critical warning: the disk has become unreliable (NVMe 2.0, figure 207).
        let ail =
            json!({"path": "/machine/peripheral/ailing", "property": "smart_critical_warning", "value": 4});
        machine.qmp().unwrap().execute("qom-set", ail).unwrap();
        let told = told(scene, &machine, |told| {
            let bmc = told.bmc.clone().unwrap_or_default();
            told.disks.len() == 3
                && !bmc.address.is_empty()
                && told
                    .disks
                    .iter()
                    .all(|disk| disk.transport == "scsi" || !disk.health.is_empty())
        });
        let disk = |serial: &str| {
            let found = told.disks.iter().find(|disk| disk.serial == serial);
            found.unwrap_or_else(|| panic!("{serial}: {:?}", told.disks))
        };
        let nvme = disk("NVME-1");
        assert_eq!(
            (nvme.health.as_str(), nvme.health_warnings.as_str()),
            ("failing", "it is not reliable any more")
        );
        assert_eq!(disk("farrier-lab-0").health, "good");
        let two_ways = disk("SHARED-1");
        assert_eq!(two_ways.wwn, "naa.5000c50015ea71ac");
        let [other] = two_ways.other_names.as_slice() else {
            panic!("{two_ways:?}")
        };
        assert_ne!(other, &two_ways.name);
        let bmc = Bmc {
            address: bmc::ADDRESS.to_owned(),
            mac: bmc::MAC.to_owned(),
            source: "dhcp".to_owned(),
            version: bmc::VERSION.to_owned(),
        };
        assert_eq!(told.bmc, Some(bmc));

        // It is written once, in whichever way it is named.
        let actions = [
            write_image(&scene.url("disk.raw.zst"), "serial=SHARED-1", &[]),
            write_note(other, "shared"),
        ];
        let workflow = scene.workflow(&machine, &actions);
        scene
            .world
            .api
            .wait_for_workflow(&workflow.id, "SUCCESS", WITHIN)
            .unwrap();
        assert_eq!(note_in(&fs::read(&shared).unwrap()[..8 << 20]), "shared");
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
