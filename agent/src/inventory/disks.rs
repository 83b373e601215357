//! Disks, and what lies on them.

use disk::health::{self, Health};
use disk::probe::{self, Contents, Include, System};
use proto::v1::{BlockDevice, Partition};

/// What sysfs says of the disks, which takes no time.
pub(super) fn list(system: &System) -> Vec<BlockDevice> {
    let found = probe::list(system, Include::DisksOnly).unwrap_or_default();
    found
        .into_iter()
        .map(|disk| block_device(disk, Contents::default(), None))
        .collect()
}

/// The same with tables, filesystems and health. A disk that does not answer keeps the caller waiting.
pub(super) fn with_contents(system: &System) -> Vec<BlockDevice> {
    let found = probe::list(system, Include::DisksOnly).unwrap_or_default();
    let look = |disk: probe::Disk| {
        let (contents, health) = (probe::contents(&disk), health::read(&disk));
        block_device(disk, contents, health)
    };
    found.into_iter().map(look).collect()
}

fn block_device(disk: probe::Disk, mut contents: Contents, health: Option<Health>) -> BlockDevice {
    let partition = |partition: probe::Partition| {
        let content = contents.partitions.remove(&partition.number);
        let (filesystem, label, uuid) = content.map_or_else(Default::default, |content| {
            (
                content.kind.to_owned(),
                content.label.unwrap_or_default(),
                content.uuid.unwrap_or_default(),
            )
        });
        Partition {
            number: partition.number,
            start_bytes: partition.start_bytes,
            size_bytes: partition.size_bytes,
            filesystem,
            label,
            uuid,
        }
    };
    let sector = |bytes: u64| u32::try_from(bytes).unwrap_or(0);
    let state = match &health {
        None => "",
        Some(health) if health.warnings.is_empty() => "good",
        Some(_) => "failing",
    };
    let health = health.unwrap_or_default();
    BlockDevice {
        other_names: disk
            .other_paths
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        health: state.to_owned(),
        health_warnings: health.warnings.join(", "),
        percentage_used: health.percentage_used,
        power_on_hours: health.power_on_hours,
        media_errors: health.media_errors,
        name: disk.path.display().to_string(),
        size_bytes: disk.size_bytes,
        model: disk.model.unwrap_or_default(),
        serial: disk.serial.unwrap_or_default(),
        wwn: disk.wwn.unwrap_or_default(),
        rotational: disk.rotational,
        removable: disk.removable,
        logical_sector_bytes: sector(disk.sector_bytes),
        physical_sector_bytes: sector(disk.physical_sector_bytes),
        transport: disk.transport.unwrap_or_default(),
        partition_table: contents.table.unwrap_or_default().to_owned(),
        filesystem: contents
            .whole
            .map(|content| content.kind.to_owned())
            .unwrap_or_default(),
        partitions: disk.partitions.into_iter().map(partition).collect(),
    }
}
