//! Whether what comes is an image that makes sense on this disk: told by its first bytes, before any is written.
//!
//! Pure. A list of wrong formats would be one of examples, so what is right is asked for: a boot signature, a partition
//! table, or a filesystem that is known. Wrong formats are named only so that the cure can be.

use std::path::Path;

use super::formats::{self, Held};
use super::{Content, WriteError};
use crate::gpt::{self, Backup, Fitted, GptError, Grow};
use crate::{filesystem, mbr};

/// As much of an image's start as tables are looked for in.
pub(super) const START_BYTES: usize = 1 << 20;

/// What is known of the image and the disk.
pub(super) struct Case<'a> {
    pub(super) url: &'a str,
    /// The image's first bytes: [`START_BYTES`] at least, if it has as many.
    pub(super) first: &'a [u8],
    /// Whether `first` is all of it.
    pub(super) is_whole: bool,
    /// The size of the image, where it is known.
    pub(super) size: Option<u64>,
    pub(super) disk: &'a Path,
    pub(super) disk_bytes: u64,
    /// `None`: a regular file, which has none.
    pub(super) sector_bytes: Option<u64>,
    pub(super) content: Content,
    pub(super) grow: Grow,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) table: Option<FittedTable>,
    pub(super) warnings: Vec<String>,
    /// Where the last partition ends, by the table.
    pub(super) partitions_end: Option<u64>,
}

/// A GUID partition table that fits the disk.
#[derive(Debug)]
pub(super) struct FittedTable {
    pub(super) fitted: Fitted,
    pub(super) backup: Backup,
    /// The image's first bytes with the table in them.
    pub(super) start: Vec<u8>,
}

/// Judges an image.
///
/// # Errors
/// Everything that would make the disk useless afterwards, as far as it is known now.
pub(super) fn judge(case: &Case) -> Result<Judgement, WriteError> {
    let start = case.first.get(..START_BYTES).unwrap_or(case.first);
    if case.content == Content::Disk {
        case.is_disk_image(start)?;
        case.has_the_disks_sectors(start)?;
    }
    let unit = case.sector_bytes.unwrap_or(512);
    let found = match case.sector_bytes {
        Some(sector) => gpt::parse(start, sector).ok(),
        None => gpt::find(start),
    };
    let by_mbr = mbr_partitions(start)
        .iter()
        .map(|partition| partition.end_sector().saturating_mul(unit))
        .max();
    let partitions_end = match &found {
        Some(table) => Some(table.partitions_end_bytes()),
        None => by_mbr,
    };
    let by_table = match (&found, case.size) {
        (Some(table), None) => Some(table.disk_bytes()),
        _ => partitions_end.filter(|_| case.content == Content::Disk),
    };
    let whole = case.is_whole.then_some(case.first.len() as u64);
    let need_bytes = case.size.into_iter().chain(by_table).chain(whole).max();
    let mut warnings = Vec::new();
    match need_bytes {
        Some(need_bytes) if need_bytes > case.disk_bytes => return Err(case.does_not_fit(need_bytes)),
        Some(_) => {}
        None => warnings.push("the size of the image was not known before it was written".to_owned()),
    }
    if found.is_none()
        && let Some(sector) = [512, 4096]
            .into_iter()
            .find(|sector| gpt::has_signature(start, *sector))
        && let Err(gpt::BadTable { why, .. }) = gpt::parse(start, sector)
    {
        warnings.push(format!("its partition table was not fitted to the disk: {why}"));
    }
    let table = match found {
        Some(table) => Some(case.fit(start, table.sector_size)?),
        None if case.grow == Grow::Nothing => None,
        None => return Err(case.cannot_grow("it has no GUID partition table")),
    };
    Ok(Judgement {
        table,
        warnings,
        partitions_end,
    })
}

/// Those of an MBR that says where things are.
fn mbr_partitions(start: &[u8]) -> Vec<mbr::Partition> {
    let mut partitions = mbr::parse(start).unwrap_or_default();
    partitions.retain(|partition| !partition.is_protective());
    partitions
}

impl Case<'_> {
    fn is_disk_image(&self, start: &[u8]) -> Result<(), WriteError> {
        if let Some(held) = formats::recognise(self.first) {
            return Err(self.no_disk_image(&held));
        }
        let tables = [512, 4096].map(|sector| (sector, gpt::has_signature(start, sector)));
        let has_gpt = tables.iter().any(|(_, there)| *there);
        let only_protective =
            mbr_partitions(start).is_empty() && mbr::parse(start).is_some_and(|all| !all.is_empty());
        // What also boots without its GPT is a hybrid, for CDs mostly.
        let needs_gpt = only_protective || !mbr::has_boot_signature(start);
        if has_gpt && needs_gpt && gpt::find(start).is_none() {
            let damage = tables.iter().find_map(|(sector, _)| gpt::damage(start, *sector));
            if let Some(why) = damage {
                return Err(self.bad(format!(
                    "its partition table is damaged: {why}; nothing was written"
                )));
            }
        }
        if !has_gpt && only_protective && !formats::is_iso9660(start) {
            let what =
                "its protective MBR announces a GUID partition table and there is none; nothing was written";
            return Err(self.bad(what.to_owned()));
        }
        if has_gpt || mbr::has_boot_signature(start) || formats::is_known_filesystem(start) {
            return Ok(());
        }
        let holds = if start.iter().all(|byte| *byte == 0) {
            "only zeros"
        } else {
            "no boot signature (0x55AA), no partition table and no filesystem that is known"
        };
        Err(self.bad(format!(
            "its first {} B hold {holds}, so it is no disk image; nothing was written. To write it nevertheless, set RAW to any",
            start.len()
        )))
    }

    fn no_disk_image(&self, held: &Held) -> WriteError {
        let cure = match held.cure {
            Some(cure) => format!("; {cure}"),
            None => String::new(),
        };
        self.bad(format!(
            "it is {}, not a disk image{cure}; nothing was written",
            held.what
        ))
    }

    /// A table, or a filesystem, that is made for other sectors is not found by anybody.
    ///
    /// Source: UEFI 2.10 sections 5.2.1 and 5.3.1: LBAs are in the device's own blocks.
    fn has_the_disks_sectors(&self, start: &[u8]) -> Result<(), WriteError> {
        let Some(has) = self.sector_bytes else {
            return Ok(());
        };
        let made_for = if gpt::has_signature(start, has) {
            None
        } else if let Some(other) = [512, 4096]
            .into_iter()
            .find(|sector| gpt::has_signature(start, *sector))
        {
            Some(other)
        } else {
            match mbr_partitions(start).as_slice() {
                [] => formats::largest_sector(start).filter(|largest| *largest < has),
                partitions => Some(self.mbr_unit(partitions)).filter(|unit| *unit != has),
            }
        };
        match made_for {
            None => Ok(()),
            Some(image_bytes) => Err(WriteError::WrongSectorSize {
                url: self.url.to_owned(),
                image_bytes,
                disk: self.disk.to_owned(),
                disk_bytes: has,
            }),
        }
    }

    /// The sectors that an MBR counts in, which it does not say: what is where a partition would begin tells, then the
    /// size, then that nearly all are for 512 bytes.
    fn mbr_unit(&self, partitions: &[mbr::Partition]) -> u64 {
        let holds = |unit: u64| {
            partitions.iter().any(|partition| {
                let from = usize::try_from(partition.first_sector.saturating_mul(unit)).ok();
                from.and_then(|from| self.first.get(from..))
                    .is_some_and(|at| mbr::has_boot_signature(at) || filesystem::detect(at).is_some())
            })
        };
        let beyond = |unit: u64| {
            let ends = partitions.iter().map(|p| p.end_sector().saturating_mul(unit));
            self.size.zip(ends.max()).is_some_and(|(size, end)| end > size)
        };
        if holds(512) || beyond(4096) || !holds(4096) {
            512
        } else {
            4096
        }
    }

    fn fit(&self, start: &[u8], sector: u64) -> Result<FittedTable, WriteError> {
        let mut start = start.to_vec();
        match gpt::fit(&mut start, self.disk_bytes, sector, self.grow) {
            Ok((fitted, backup)) => Ok(FittedTable {
                fitted,
                backup,
                start,
            }),
            Err(GptError::DoesNotFit { need_bytes, .. }) => Err(self.does_not_fit(need_bytes)),
            Err(
                err @ (GptError::NoSuchPartition { .. }
                | GptError::NoLinuxPartition { .. }
                | GptError::NotLast { .. }),
            ) => Err(self.cannot_grow(&err.to_string())),
            Err(err) => Err(self.bad(format!("{err}; nothing was written"))),
        }
    }

    fn bad(&self, what: String) -> WriteError {
        WriteError::BadImage {
            url: self.url.to_owned(),
            what,
        }
    }

    fn cannot_grow(&self, why: &str) -> WriteError {
        WriteError::CannotGrow {
            url: self.url.to_owned(),
            why: why.to_owned(),
        }
    }

    fn does_not_fit(&self, need_bytes: u64) -> WriteError {
        WriteError::DoesNotFit {
            disk: self.disk.to_owned(),
            need_bytes,
            known: true,
            have_bytes: self.disk_bytes,
            touched: false,
        }
    }
}
