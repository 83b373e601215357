//! A layout on a disk: where each partition begins and ends.

use crate::layout::{Attribute, Layout, Scheme};
use crate::size::{Size, shown};
use crate::{Guid, Kind};

/// Partitions begin and end at multiples of this: what disks, arrays and encryption have as their own unit divides it.
pub const ALIGN_BYTES: u64 = 1 << 20;
/// Of the entries in each copy of a GUID partition table. Source: UEFI specification 2.10 section 5.3.2.
pub const GPT_ENTRIES_BYTES: u64 = 16 << 10;
/// As far as the 32-bit sectors of an MBR reach, with sectors of 512 bytes. Firmware and tools count on it with larger ones, too.
pub const MBR_END_BYTES: u64 = 2 << 40;

/// A table for one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub scheme: Scheme,
    pub disk_bytes: u64,
    pub sector_bytes: u64,
    /// INVARIANT: in order, without overlap, within what the table leaves for them.
    pub partitions: Vec<Planned>,
}

/// A partition with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// From 1.
    pub number: u32,
    pub name: Option<String>,
    pub kind: Kind,
    /// `None`: it is not declared, and any will do.
    pub uuid: Option<Guid>,
    /// Of a GUID partition table.
    pub attribute_bits: u64,
    /// Of an MBR.
    pub is_active: bool,
    pub start_bytes: u64,
    pub size_bytes: u64,
}

/// Why a layout does not go onto a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("the partitions need {}, and the disk has {} for them", shown(*need_bytes), shown(*have_bytes))]
    DoesNotFit { need_bytes: u64, have_bytes: u64 },
    #[error("the other partitions leave nothing of the disk's {} for partition {number}, which has size {size}", shown(*have_bytes))]
    NothingLeft {
        number: u32,
        size: Size,
        have_bytes: u64,
    },
    #[error("the disk's sectors have {sector_bytes} B: tables are made for 512 and 4096")]
    Sector { sector_bytes: u64 },
    #[error("the disk has {}, and an MBR reaches 2TiB: have table gpt", shown(*disk_bytes))]
    TooLargeForMbr { disk_bytes: u64 },
}

impl Plan {
    /// Sectors of the disk.
    pub fn lbas(&self) -> u64 {
        self.disk_bytes / self.sector_bytes
    }
}

impl Layout {
    /// Where each partition is on a disk of that size, in whole MiB from the first.
    ///
    /// Sizes in bytes are rounded up to a MiB, those in percent down; a percent is of all that the table leaves.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn plan(&self, disk_bytes: u64, sector_bytes: u64) -> Result<Plan, PlanError> {
        if !matches!(sector_bytes, 512 | 4096) {
            return Err(PlanError::Sector { sector_bytes });
        }
        let whole = disk_bytes / sector_bytes * sector_bytes;
        let end = match self.scheme {
            // The backup's entries and its header are at the end.
            Scheme::Gpt => whole.saturating_sub(GPT_ENTRIES_BYTES + sector_bytes),
            Scheme::Mbr if whole > MBR_END_BYTES => return Err(PlanError::TooLargeForMbr { disk_bytes }),
            Scheme::Mbr => whole,
        };
        // The first MiB has the table, and room for a boot loader.
        let have = (end / ALIGN_BYTES).saturating_sub(1);
        let have_bytes = have * ALIGN_BYTES;
        let mut sizes = Vec::new();
        let mut need = 0_u64;
        for (declared, number) in self.partitions.iter().zip(1..) {
            let size = match declared.size {
                Size::Bytes(bytes) => bytes.div_ceil(ALIGN_BYTES),
                Size::Percent(percent) => {
                    let share = have / 100 * u64::from(percent) + have % 100 * u64::from(percent) / 100;
                    if share == 0 {
                        return Err(PlanError::NothingLeft {
                            number,
                            size: declared.size,
                            have_bytes,
                        });
                    }
                    share
                }
                Size::Rest => 0,
            };
            need = need.saturating_add(size);
            sizes.push(size);
        }
        if need > have {
            return Err(PlanError::DoesNotFit {
                need_bytes: need.saturating_mul(ALIGN_BYTES),
                have_bytes,
            });
        }
        let rest = have - need;
        let mut partitions = Vec::new();
        let mut at = 1;
        for ((declared, size), number) in self.partitions.iter().zip(sizes).zip(1..) {
            let size = match declared.size {
                Size::Rest if rest == 0 => {
                    return Err(PlanError::NothingLeft {
                        number,
                        size: declared.size,
                        have_bytes,
                    });
                }
                Size::Rest => rest,
                Size::Bytes(_) | Size::Percent(_) => size,
            };
            partitions.push(Planned {
                number,
                name: declared.name.clone(),
                kind: declared.kind,
                uuid: declared.uuid,
                attribute_bits: declared.attributes.iter().map(|one| one.gpt_bit()).sum(),
                is_active: declared.attributes.contains(&Attribute::LegacyBoot),
                start_bytes: at * ALIGN_BYTES,
                size_bytes: size * ALIGN_BYTES,
            });
            at += size;
        }
        Ok(Plan {
            scheme: self.scheme,
            disk_bytes,
            sector_bytes,
            partitions,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn layout(table: &str, sizes: &[&str]) -> Layout {
        let partitions: Vec<_> = sizes
            .iter()
            .map(|size| json!({"size": size, "type": "linux"}))
            .collect();
        Layout::read(Some(table), &json!(partitions)).unwrap()
    }

    /// In MiB: start and size.
    fn places(table: &str, sizes: &[&str], disk_bytes: u64) -> Vec<(u64, u64)> {
        let plan = layout(table, sizes).plan(disk_bytes, 512).unwrap();
        plan.partitions
            .iter()
            .map(|one| (one.start_bytes / MIB, one.size_bytes / MIB))
            .collect()
    }

    #[test]
    fn partitions_lie_one_behind_the_other_in_whole_mib() {
        let gpt = |sizes: &[&str]| places("gpt", sizes, 102 * MIB);
        assert_eq!(gpt(&["1KiB", "rest", "10MiB"]), [(1, 1), (2, 89), (91, 10)]);
        assert_eq!(gpt(&["50%", "25%"]), [(1, 50), (51, 25)]);
        assert_eq!(gpt(&["33%", "33%", "rest"]), [(1, 33), (34, 33), (67, 34)]);
        // An MBR has nothing at the end.
        assert_eq!(places("mbr", &["rest"], 102 * MIB), [(1, 101)]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_sizes() {
        let refused = |table: &str, sizes: &[&str], disk_bytes, sector| {
            layout(table, sizes)
                .plan(disk_bytes, sector)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused("gpt", &["1GiB"], 100 * MIB, 512),
            "the partitions need 1GiB, and the disk has 98MiB for them"
        );
        assert_eq!(places("gpt", &["98MiB"], 100 * MIB), [(1, 98)]);
        assert_eq!(
            refused("gpt", &["99MiB"], 100 * MIB, 512),
            "the partitions need 99MiB, and the disk has 98MiB for them"
        );
        assert_eq!(
            refused("gpt", &["98MiB", "rest"], 100 * MIB, 4096),
            "the other partitions leave nothing of the disk's 98MiB for partition 2, which has size rest"
        );
        assert_eq!(
            refused("gpt", &["1%"], 5 * MIB, 512),
            "the other partitions leave nothing of the disk's 3MiB for partition 1, which has size 1%"
        );
        assert!(refused("gpt", &["rest"], 0, 512).contains("nothing"));
        assert_eq!(
            refused("mbr", &["rest"], (2 << 40) + 512, 512),
            "the disk has 2199023256064 B, and an MBR reaches 2TiB: have table gpt"
        );
        assert!(refused("gpt", &["rest"], 100 * MIB, 520).contains("520 B"));
    }

    proptest! {
        #[test]
        fn no_partition_leaves_the_disk_or_overlaps(
            disk_bytes in any::<u64>(),
            sizes in proptest::collection::vec(prop_oneof![
                (1_u64..100_000).prop_map(|mib| format!("{mib}MiB")),
                (1_u64..30).prop_map(|percent| format!("{percent}%")),
                Just("16777215TiB".to_owned()),
            ], 1..4),
            sector in prop_oneof![Just(512_u64), Just(4096)],
        ) {
            let sizes: Vec<&str> = sizes.iter().map(String::as_str).chain(["rest"]).collect();
            if let Ok(plan) = layout("gpt", &sizes).plan(disk_bytes, sector) {
                let mut free_from = ALIGN_BYTES;
                for one in &plan.partitions {
                    prop_assert_eq!(one.start_bytes, free_from);
                    prop_assert!(one.size_bytes > 0);
                    free_from = one.start_bytes + one.size_bytes;
                }
                prop_assert!(free_from + GPT_ENTRIES_BYTES + sector <= disk_bytes);
            }
        }
    }
}
