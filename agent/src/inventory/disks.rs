//! Disks, and what lies on them.

use disk::probe::{self, Contents, Include, System};
use proto::v1::{BlockDevice, Partition};

/// What sysfs says of the disks, which takes no time.
pub(super) fn list(system: &System) -> Vec<BlockDevice> {
    let found = probe::list(system, Include::DisksOnly).unwrap_or_default();
    found
        .into_iter()
        .map(|disk| block_device(disk, Contents::default()))
        .collect()
}

/// The same with tables and filesystems. A disk that does not answer keeps the caller waiting.
pub(super) fn with_contents(system: &System) -> Vec<BlockDevice> {
    let found = probe::list(system, Include::DisksOnly).unwrap_or_default();
    let look = |disk: probe::Disk| {
        let contents = probe::contents(&disk);
        block_device(disk, contents)
    };
    found.into_iter().map(look).collect()
}

fn block_device(disk: probe::Disk, mut contents: Contents) -> BlockDevice {
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
    BlockDevice {
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
