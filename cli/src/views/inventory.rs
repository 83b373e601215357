//! What a machine is made of, for a person: a line of at most 80 columns for each thing. `-o json` has all of it.

use proto::v1::{BlockDevice, HardwareInventory, MemoryModule, NetworkInterface};

use super::ago;

/// What is left of 80 columns beside the name of a field.
const WIDTH: usize = 67;
/// Partitions that are named; the rest is counted.
const MAX_PARTITIONS: usize = 8;
/// Lines of one field; the rest is counted.
const MAX_LINES: usize = 24;

/// Fields and their values; what is not known is left out. `at` is when it was told.
pub(crate) fn fields(of: &HardwareInventory, at: Option<&str>) -> Vec<(&'static str, String)> {
    let board = of.board.clone().unwrap_or_default();
    let chassis = of.chassis.clone().unwrap_or_default();
    let bmc = of.bmc.clone().unwrap_or_default();
    let serial = |text: &str| prefixed("serial ", text);
    let gpus = of
        .gpus
        .iter()
        .map(|gpu| line(&[&gpu.address, &gpu.id, &gpu.driver]));
    let fields = [
        (
            "Hardware",
            commas(&[words(&[&of.vendor, &of.product]), serial(&of.serial)]),
        ),
        (
            "Board",
            commas(&[words(&[&board.vendor, &board.product]), serial(&board.serial)]),
        ),
        (
            "Chassis",
            commas(&[words(&[&chassis.vendor, &chassis.kind]), serial(&chassis.serial)]),
        ),
        ("Processor", processor(of)),
        ("Memory", memory(of)),
        ("Firmware", firmware(of)),
        (
            "BMC",
            commas(&[
                bmc.address,
                bmc.mac,
                bmc.source,
                prefixed("firmware ", &bmc.version),
            ]),
        ),
        ("Disks", lines(of.disks.iter().map(disk))),
        ("NICs", lines(of.interfaces.iter().map(interface))),
        ("GPUs", lines(gpus)),
        ("Images", images(of)),
        ("Left out", lines(of.left_out.iter().cloned())),
        ("Told", ago(at)),
    ];
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// Columns of a list: processors, memory, disks, product.
pub(crate) const COLUMNS: [&str; 4] = ["CPUS", "MEMORY", "DISKS", "PRODUCT"];

/// The cells of [`COLUMNS`].
pub(crate) fn columns(of: Option<&HardwareInventory>) -> Vec<String> {
    let Some(of) = of else {
        return vec!["-".to_owned(); COLUMNS.len()];
    };
    let sizes: Vec<String> = of.disks.iter().map(|disk| bytes(disk.size_bytes)).collect();
    let cells = [
        of.cpus.to_string(),
        bytes(of.memory_bytes),
        sizes.join(","),
        words(&[&of.vendor, &of.product]),
    ];
    cells.iter().map(|cell| super::dash(cell)).collect()
}

fn processor(of: &HardwareInventory) -> String {
    let processor = of.processor.clone().unwrap_or_default();
    let some = |count: u32, one: &str| match count {
        0 => String::new(),
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    commas(&[
        processor.model,
        some(processor.sockets, "socket"),
        some(processor.cores, "core"),
        some(of.cpus, "thread"),
    ])
}

fn memory(of: &HardwareInventory) -> String {
    if of.memory_bytes == 0 {
        return String::new();
    }
    // Alike ones together, in the order of the slots.
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for module in &of.memory_modules {
        let MemoryModule {
            size_bytes,
            kind,
            speed_mt_per_s,
            ..
        } = module;
        let speed = match speed_mt_per_s {
            0 => String::new(),
            speed => format!("{speed} MT/s"),
        };
        let text = words(&[&bytes(*size_bytes), kind, &speed]);
        match kinds.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => kinds.push((text, 1)),
        }
    }
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(text, count)| format!("{count} x {text}"))
        .collect();
    let modules = match kinds.is_empty() {
        true => String::new(),
        false => format!(" for the kernel, of {}", kinds.join(" + ")),
    };
    short(&format!("{}{modules}", bytes(of.memory_bytes)))
}

fn images(of: &HardwareInventory) -> String {
    let Some(store) = &of.images else {
        return String::new();
    };
    let some = |count: u32, one: &str| match count {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    format!(
        "{} in {}, {} of {} that they may have",
        some(store.images, "image"),
        some(store.layers, "layer"),
        bytes(store.held_bytes),
        bytes(store.limit_bytes)
    )
}

fn firmware(of: &HardwareInventory) -> String {
    let release = of.firmware_release.clone().unwrap_or_default();
    let kind = match of.firmware.as_str() {
        "uefi" => "UEFI",
        "bios" => "BIOS",
        other => other,
    };
    let date = match release.date.as_str() {
        "" => String::new(),
        date => format!("({date})"),
    };
    commas(&[
        words(&[kind, &release.vendor, &release.version, &date]),
        prefixed("Secure Boot ", &of.secure_boot),
        prefixed("TPM ", &of.tpm),
    ])
}

fn disk(disk: &BlockDevice) -> String {
    let kind = if disk.rotational { "rotational" } else { "" };
    let on_it = table_of(disk);
    let sectors = match disk.logical_sector_bytes {
        0 | 512 => String::new(),
        bytes => format!("sectors of {bytes} B"),
    };
    let name = format!("{}  {}  {}", disk.name, bytes(disk.size_bytes), disk.transport);
    let ways = match disk.other_names.len() {
        0 => String::new(),
        others => format!("{} ways", others + 1),
    };
    let health = match disk.health.as_str() {
        "failing" => format!("FAILING: {}", disk.health_warnings),
        _ => String::new(),
    };
    let facts = [
        health,
        ways,
        kind.to_owned(),
        sectors,
        disk.model.clone(),
        prefixed("serial ", &disk.serial),
        on_it,
    ];
    line(&[name.trim_end(), &joined(&facts)])
}

/// `gpt, 3 partitions`, `ext4`, or nothing.
fn table_of(disk: &BlockDevice) -> String {
    match (disk.partition_table.as_str(), disk.partitions.len()) {
        ("", _) => disk.filesystem.clone(),
        (table, 1) => format!("{table}, 1 partition"),
        (table, count) => format!("{table}, {count} partitions"),
    }
}

/// What is on one partition: `partition 2: ext4 "root", 20 GiB`.
pub(crate) fn partition_in_words(disk: &BlockDevice, number: u32) -> String {
    let Some(partition) = disk
        .partitions
        .iter()
        .find(|partition| partition.number == number)
    else {
        return format!("no partition {number}, but {}", on_it(disk));
    };
    let filesystem = match partition.filesystem.as_str() {
        "" => "nothing that is known",
        filesystem => filesystem,
    };
    let label = match partition.label.as_str() {
        "" => String::new(),
        label => format!("{label:?}"),
    };
    format!(
        "partition {number}: {}, {}",
        words(&[filesystem, &label]),
        bytes(partition.size_bytes)
    )
}

/// What is on a disk, with its filesystems: `gpt, 2 partitions: 1 vfat "EFI", 2 ext4 "root"`.
pub(crate) fn on_it(disk: &BlockDevice) -> String {
    let partitions = disk.partitions.iter().map(|partition| {
        let label = match partition.label.as_str() {
            "" => String::new(),
            label => format!("{label:?}"),
        };
        let number = partition.number.to_string();
        let filesystem = match partition.filesystem.as_str() {
            "" => "unknown",
            filesystem => filesystem,
        };
        words(&[&number, filesystem, &label])
    });
    let all: Vec<String> = partitions.collect();
    let shown = all
        .iter()
        .take(MAX_PARTITIONS)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = match all.len().saturating_sub(MAX_PARTITIONS) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    match (table_of(disk), shown.as_str()) {
        (text, "") if text.is_empty() => "nothing that is known".to_owned(),
        (text, "") => text,
        (text, shown) => format!("{text}: {shown}{more}"),
    }
}

fn interface(interface: &NetworkInterface) -> String {
    let speed = match (interface.carrier, interface.speed_mbit_per_s) {
        (false, _) => "no link".to_owned(),
        (true, 0) => "link".to_owned(),
        (true, speed) if speed >= 1000 && speed.is_multiple_of(1000) => format!("{} Gbit/s", speed / 1000),
        (true, speed) => format!("{speed} Mbit/s"),
    };
    let neighbour = interface.neighbour.clone().unwrap_or_default();
    let neighbour = match words(&[&neighbour.system_name, &neighbour.port_id]) {
        text if text.is_empty() => text,
        text => format!("at {text}"),
    };
    let bond = interface.bond.as_ref().map_or_else(String::new, |bond| {
        let is_alone = bond.mode == "802.3ad" && bond.partner_mac.is_empty();
        let idle = if bond.in_use { "" } else { "idle" };
        let alone = if is_alone { "no LACP partner" } else { "" };
        words(&[&bond.name, idle, alone])
    });
    line(&[
        &interface.name,
        &interface.mac,
        &interface.driver,
        &speed,
        &bond,
        &neighbour,
    ])
}

fn words(words: &[&str]) -> String {
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn joined(facts: &[String]) -> String {
    let facts: Vec<&str> = facts
        .iter()
        .map(String::as_str)
        .filter(|fact| !fact.is_empty())
        .collect();
    facts.join(", ")
}

fn commas(facts: &[String]) -> String {
    short(&joined(facts))
}

fn line(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join("  ")
}

fn lines(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.map(|line| short(&line)).collect();
    let mut shown: Vec<String> = all.iter().take(MAX_LINES).cloned().collect();
    if all.len() > MAX_LINES {
        shown.push(format!("and {} more: see -o json", all.len() - MAX_LINES));
    }
    shown.join("\n")
}

fn prefixed(prefix: &str, text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("{prefix}{text}"),
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(WIDTH - 1).collect();
    short.push('…');
    short
}

/// With one digit behind the point where it is small and not whole.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    let Some((unit, size)) = UNITS.iter().find(|(_, size)| bytes >= *size) else {
        return format!("{bytes} B");
    };
    let tenths = u128::from(bytes) * 10 / u128::from(*size);
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        digit => format!("{}.{digit} {unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{Bmc, Board, BondPort, FirmwareRelease, ImageStore, LldpNeighbour, Processor};

    use super::*;

    fn module() -> MemoryModule {
        MemoryModule {
            size_bytes: 32 << 30,
            kind: "DDR4".into(),
            speed_mt_per_s: 2933,
            ..MemoryModule::default()
        }
    }

    fn machine() -> HardwareInventory {
        let disk = BlockDevice {
            name: "/dev/nvme0n1".into(),
            size_bytes: 3 << 39,
            model: "Fast SSD 1".into(),
            serial: "S1".into(),
            transport: "nvme".into(),
            logical_sector_bytes: 4096,
            partition_table: "gpt".into(),
            partitions: vec![Default::default(); 3],
            ..BlockDevice::default()
        };
        let interface = NetworkInterface {
            name: "eth0".into(),
            mac: "52:54:00:77:00:0b".into(),
            driver: "i40e".into(),
            carrier: true,
            speed_mbit_per_s: 10_000,
            neighbour: Some(LldpNeighbour {
                system_name: "leaf1".into(),
                port_id: "Ethernet12".into(),
                ..LldpNeighbour::default()
            }),
            ..NetworkInterface::default()
        };
        HardwareInventory {
            vendor: "ACME".into(),
            product: "Rack 1".into(),
            serial: "SN-1".into(),
            cpus: 8,
            memory_bytes: 62 << 30,
            memory_modules: vec![module(), module()],
            firmware: "uefi".into(),
            secure_boot: "disabled".into(),
            tpm: "2.0".into(),
            disks: vec![disk],
            interfaces: vec![interface],
            processor: Some(Processor {
                model: "Xeon".into(),
                sockets: 1,
                cores: 4,
                threads: 8,
                ..Processor::default()
            }),
            firmware_release: Some(FirmwareRelease {
                vendor: "AMI".into(),
                version: "3.1".into(),
                date: "10/23/2025".into(),
            }),
            bmc: Some(Bmc {
                address: "10.0.0.7".into(),
                ..Bmc::default()
            }),
            images: Some(ImageStore {
                images: 1,
                layers: 3,
                held_bytes: 12 << 20,
                limit_bytes: 400 << 20,
            }),
            ..HardwareInventory::default()
        }
    }

    #[test]
    fn what_is_on_a_disk_is_said_with_its_filesystems() {
        let partition = |number, filesystem: &str, label: &str| proto::v1::Partition {
            number,
            filesystem: filesystem.into(),
            label: label.into(),
            ..Default::default()
        };
        let mut disk = BlockDevice::default();
        assert_eq!(on_it(&disk), "nothing that is known");
        disk.filesystem = "xfs".into();
        assert_eq!(on_it(&disk), "xfs");
        disk.partition_table = "gpt".into();
        disk.partitions = vec![partition(1, "vfat", "EFI"), partition(2, "", "")];
        assert_eq!(on_it(&disk), "gpt, 2 partitions: 1 vfat \"EFI\", 2 unknown");
        disk.partitions = (1..=10).map(|number| partition(number, "ext4", "")).collect();
        assert!(on_it(&disk).ends_with("8 ext4, and 2 more"), "{}", on_it(&disk));
    }

    #[test]
    fn a_card_in_a_bond_says_so_and_what_is_wrong_with_it() {
        let card = |mode: &str, in_use, partner_mac: &str| NetworkInterface {
            name: "eth1".into(),
            bond: Some(BondPort {
                name: "bond0".into(),
                mode: mode.into(),
                in_use,
                partner_mac: partner_mac.into(),
            }),
            ..NetworkInterface::default()
        };
        for (card, want) in [
            (card("802.3ad", true, "52:54:00:88:00:01"), "eth1  no link  bond0"),
            (card("active-backup", false, ""), "eth1  no link  bond0 idle"),
            (
                card("802.3ad", false, ""),
                "eth1  no link  bond0 idle no LACP partner",
            ),
        ] {
            assert_eq!(interface(&card), want);
        }
    }

    #[test]
    fn a_person_reads_a_machine_in_a_dozen_lines() {
        let want = [
            ("Hardware", "ACME Rack 1, serial SN-1"),
            ("Processor", "Xeon, 1 socket, 4 cores, 8 threads"),
            ("Memory", "62 GiB for the kernel, of 2 x 32 GiB DDR4 2933 MT/s"),
            (
                "Firmware",
                "UEFI AMI 3.1 (10/23/2025), Secure Boot disabled, TPM 2.0",
            ),
            ("BMC", "10.0.0.7"),
            (
                "Disks",
                "/dev/nvme0n1  1.5 TiB  nvme  sectors of 4096 B, Fast SSD 1, serial…",
            ),
            (
                "NICs",
                "eth0  52:54:00:77:00:0b  i40e  10 Gbit/s  at leaf1 Ethernet12",
            ),
            (
                "Images",
                "1 image in 3 layers, 12 MiB of 400 MiB that they may have",
            ),
            ("Told", "-"),
        ];
        let found = fields(&machine(), None);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert_eq!(found, want);
    }

    #[test]
    fn a_disk_that_fails_or_is_reached_in_two_ways_says_so_first() {
        let mut all = machine();
        let disk = &mut all.disks[0];
        disk.other_names = vec!["/dev/sdb".into()];
        disk.health = "good".into();
        assert!(
            disk_line(&all).contains("nvme  2 ways, sectors"),
            "{}",
            disk_line(&all)
        );
        all.disks[0].health = "failing".into();
        all.disks[0].health_warnings = "it takes no more writes".into();
        let line = disk_line(&all);
        assert!(
            line.contains("nvme  FAILING: it takes no more writes, 2"),
            "{line}"
        );
    }

    fn disk_line(all: &HardwareInventory) -> String {
        let fields = fields(all, None);
        let disks = fields.iter().find(|(name, _)| *name == "Disks");
        disks.map(|(_, value)| value.clone()).expect("disks")
    }

    #[test]
    fn nothing_is_wider_than_a_terminal_and_no_list_is_endless() {
        let long = "x".repeat(128);
        let mut all = machine();
        all.board = Some(Board {
            vendor: long.clone(),
            ..Board::default()
        });
        all.disks = vec![
            BlockDevice {
                name: long,
                ..BlockDevice::default()
            };
            100
        ];
        for (name, value) in fields(&all, None) {
            assert!(value.lines().count() <= MAX_LINES + 1, "{name}");
            assert!(
                value.lines().all(|line| line.chars().count() <= WIDTH),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn a_list_has_four_columns_whatever_is_known() {
        assert_eq!(
            columns(Some(&machine())),
            ["8", "62 GiB", "1.5 TiB", "ACME Rack 1"]
        );
        assert_eq!(columns(None), ["-"; 4]);
        assert_eq!(
            columns(Some(&HardwareInventory::default())),
            ["0", "0 B", "-", "-"]
        );
    }
}
