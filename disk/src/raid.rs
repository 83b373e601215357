//! What is known of an array by looking at its members, before and after mdadm works on them.
//!
//! INVARIANT: an array counts as made when each of its members has a superblock of it, and these say what is declared. mdadm writes one member's
//! after the other's, before it starts the array: with one missing it was half made, and is made anew.
//!
//! Source: Linux include/uapi/linux/raid/md_p.h, `struct mdp_superblock_1`; drivers/md/md.c, `super_1_load`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

pub use partitions::{Array, ArrayFields, FieldProblem, Level, Metadata};
use sha2::{Digest, Sha256};

use crate::image::WriteError;
use crate::members::{self, MemberError};
use crate::probe::System;

const MAGIC: u32 = 0xa92b_4efc;
/// With the roles of as many members as are read.
const SUPERBLOCK_BYTES: usize = 4096;
const ROLES_AT: usize = 256;
/// A role from here on is none: spare, faulty, journal.
const NO_ROLE: u16 = 0xfd00;
/// Superblock, bitmap, and room for reshaping leave something then.
const LEAST_BYTES: u64 = 8 << 20;

/// What a member says of its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// 32 hexadecimal digits, in mdadm's groups: `0a1b2c3d:…`.
    pub uuid: String,
    /// With the home host in front of it and a colon.
    pub name: String,
    pub level: u32,
    pub members: u32,
    pub metadata: Metadata,
    /// Its place among the members; `None`: a spare, or it has failed.
    pub role: Option<u16>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The array is there and runs.
    Leave {
        uuid: String,
        running: PathBuf,
    },
    /// It is there, and is to be put together.
    Assemble {
        uuid: String,
    },
    Make,
}

/// Why there is no array.
#[derive(Debug, thiserror::Error)]
pub enum RaidError {
    #[error(transparent)]
    Disk(#[from] WriteError),
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error("mdadm ended well, and {missing}: this mdadm does something else than is expected of it")]
    NotMade { missing: String },
}

impl RaidError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            RaidError::Disk(error) => error.reason(),
            RaidError::Member(error) => error.reason(),
            RaidError::NotMade { .. } => "NotMade",
        }
    }
}

/// The UUID that an array is made with: the same seed gives the same one.
pub fn uuid_of(seed: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(seed.as_bytes()).into();
    let (bytes, _) = digest.split_at(16);
    grouped(bytes)
}

/// As mdadm writes it: four groups of 8 digits.
fn grouped(bytes: &[u8]) -> String {
    let groups = bytes.chunks(4).map(|group| {
        let digits: Vec<String> = group.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.concat()
    });
    groups.collect::<Vec<_>>().join(":")
}

/// Where a device of that size has its superblock; `None`: it is too small for one.
pub fn superblock_at(metadata: Metadata, device_bytes: u64) -> Option<u64> {
    match metadata {
        Metadata::V1_0 => Some(((device_bytes / 512).checked_sub(16)? & !7) * 512),
        Metadata::V1_2 => Some(4096),
    }
}

/// The superblock of version 1 in these bytes, which begin with it; `None`: there is none that is whole. Pure.
pub fn read_superblock(bytes: &[u8], metadata: Metadata, device_bytes: u64) -> Option<Superblock> {
    let u32_of = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
    let u64_of = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
    if u32_of(0)? != MAGIC
        || u32_of(4)? != 1
        || u64_of(144)?.checked_mul(512)? != superblock_at(metadata, device_bytes)?
    {
        return None;
    }
    let roles = usize::try_from(u32_of(220)?)
        .ok()
        .filter(|roles| *roles <= (SUPERBLOCK_BYTES - ROLES_AT) / 2)?;
    let summed = bytes.get(..ROLES_AT + 2 * roles)?;
    if checksum(summed) != u32_of(216)? {
        return None;
    }
    let name = bytes.get(32..64)?.split(|byte| *byte == 0).next()?;
    let number = usize::try_from(u32_of(160)?)
        .ok()
        .filter(|number| *number < roles);
    let role = number.and_then(|number| {
        let at = ROLES_AT + 2 * number;
        Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk::<2>()?))
    });
    Some(Superblock {
        uuid: grouped(bytes.get(16..32)?),
        name: String::from_utf8_lossy(name).into_owned(),
        level: u32_of(72)?,
        members: u32_of(92)?,
        metadata,
        role: role.filter(|role| *role < NO_ROLE),
    })
}

/// Source: `calc_sb_1_csum` in drivers/md/md.c; the sum's own field counts as 0.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = 0_u64;
    for (number, word) in bytes.chunks(4).enumerate() {
        let mut whole = [0; 4];
        for (into, from) in whole.iter_mut().zip(word) {
            *into = *from;
        }
        if number != 216 / 4 {
            sum += u64::from(u32::from_le_bytes(whole));
        }
    }
    let folded = (sum & 0xffff_ffff) + (sum >> 32);
    (folded & 0xffff_ffff) as u32
}

/// What is to be done, by what the members say. `running` is the array that all of them are in now. Pure.
///
/// The name may have any home host: an array that was made for another one is the same.
pub fn next(declared: &Array, there: &[Option<Superblock>], running: Option<&Path>) -> Next {
    let Some(Some(first)) = there.first() else {
        return Next::Make;
    };
    let is_declared = |one: &Superblock| {
        let name = one
            .name
            .rsplit_once(':')
            .map_or(one.name.as_str(), |(_, name)| name);
        one.uuid == first.uuid
            && one.level == declared.level.number()
            && usize::try_from(one.members) == Ok(there.len())
            && one.metadata == declared.metadata
            && name == declared.name
    };
    let mut roles = BTreeSet::new();
    let are_declared = there.iter().all(|one| {
        let one = one.as_ref().filter(|one| is_declared(one));
        let role = one.and_then(|one| one.role);
        role.is_some_and(|role| usize::from(role) < there.len() && roles.insert(role))
    });
    let uuid = first.uuid.clone();
    match (are_declared, running) {
        (false, _) => Next::Make,
        (true, Some(running)) => Next::Leave {
            uuid,
            running: running.to_owned(),
        },
        (true, None) => Next::Assemble { uuid },
    }
}

/// The superblocks of the members. Writes nothing. Blocks.
///
/// # Errors
/// One cannot be read.
pub fn look(declared: &Array, members: &[PathBuf]) -> Result<Vec<Option<Superblock>>, RaidError> {
    let read = |device: &PathBuf| {
        let failed = |source| WriteError::Device {
            disk: device.clone(),
            what: "reading",
            offset: 0,
            source,
        };
        let file = fs::File::open(device).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let size = match meta.is_file() {
            true => meta.len(),
            false => crate::device::size_bytes(&file).map_err(failed)?,
        };
        let Some(at) = superblock_at(declared.metadata, size) else {
            return Ok(None);
        };
        let mut bytes = vec![0; SUPERBLOCK_BYTES];
        let read = file.read_at(&mut bytes, at).map_err(failed)?;
        bytes.truncate(read);
        Ok(read_superblock(&bytes, declared.metadata, size))
    };
    members.iter().map(read).collect()
}

/// The array that all of these are in; `None`: one is in none, or they are in several.
pub fn running(system: &System, members: &[PathBuf]) -> Option<PathBuf> {
    let mut arrays = BTreeSet::new();
    for member in members {
        let device = fs::metadata(member).ok()?.rdev();
        let number = format!("{}:{}", libc::major(device), libc::minor(device));
        let holders = system.sys.join("dev/block").join(number).join("holders");
        let mut names = fs::read_dir(holders)
            .ok()?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        arrays.insert(names.find(|name| system.sys.join("block").join(name).join("md").exists())?);
    }
    let name = arrays.pop_first().filter(|_| arrays.is_empty())?;
    Some(system.dev.join(name))
}

/// Refuses members that cannot be overwritten. `uuid` is what the array would get: what has it is half made. Writes nothing. Blocks.
///
/// # Errors
/// See [`RaidError`].
pub fn may_be_made(
    members: &[PathBuf],
    there: &[Option<Superblock>],
    uuid: &str,
    only_empty: bool,
) -> Result<(), RaidError> {
    let is_ours: Vec<bool> = there
        .iter()
        .map(|one| one.as_ref().is_some_and(|one| one.uuid == uuid))
        .collect();
    members::may_be_overwritten(members, &is_ours, only_empty, LEAST_BYTES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::output;

    const UUID: &str = "0a1b2c3d:4e5f6071:8293a4b5:c6d7e8f9";

    fn declared(level: &str, metadata: &str, members: usize) -> Array {
        let devices: Vec<String> = (0..members).map(|number| format!("/dev/vd{number}")).collect();
        Array::parse(&ArrayFields {
            level: Some(level),
            devices: Some(&serde_json::to_string(&devices).unwrap()),
            name: Some("root"),
            metadata: Some(metadata),
            ..ArrayFields::default()
        })
        .unwrap()
    }

    /// A superblock as mdadm writes it: this member of an array of so many.
    fn bytes(metadata: Metadata, device_bytes: u64, level: u32, member: u16, members: u16) -> Vec<u8> {
        let mut bytes = vec![0; SUPERBLOCK_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC.to_le_bytes());
        put(4, &1_u32.to_le_bytes());
        put(
            16,
            &(0..16)
                .map(|n| 0x0a + 0x11 * n)
                .map(|n: u16| n as u8)
                .collect::<Vec<_>>(),
        );
        put(32, b"any:root");
        put(72, &level.to_le_bytes());
        put(80, &16_384_u64.to_le_bytes());
        put(92, &u32::from(members).to_le_bytes());
        put(128, &2048_u64.to_le_bytes());
        put(136, &(device_bytes / 512 - 4096).to_le_bytes());
        let at = superblock_at(metadata, device_bytes).unwrap() / 512;
        put(144, &at.to_le_bytes());
        put(160, &u32::from(member).to_le_bytes());
        put(168, &[7; 16]);
        put(216, &[0; 4]);
        put(220, &128_u32.to_le_bytes());
        for role in 0..128_u16 {
            let value = if role < members { role } else { 0xffff };
            put(ROLES_AT + 2 * usize::from(role), &value.to_le_bytes());
        }
        let sum = checksum(&bytes[..ROLES_AT + 256]);
        bytes[216..220].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn mdadm_reads_the_same_out_of_a_superblock() {
        for (metadata, text) in [(Metadata::V1_0, "1.0"), (Metadata::V1_2, "1.2")] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let size = (16 << 20) + 12 * 512;
            file.as_file().set_len(size).unwrap();
            let at = superblock_at(metadata, size).unwrap();
            let member = bytes(metadata, size, 1, 1, 2);
            file.as_file().write_all_at(&member, at).unwrap();
            let read = read_superblock(&member, metadata, size).unwrap();
            let array = declared("1", text, 2);
            assert_eq!(
                look(&array, &[file.path().to_owned()]).unwrap(),
                [Some(read.clone())]
            );
            let said = output(
                Command::new("mdadm")
                    .args(["--examine", "--export"])
                    .arg(file.path()),
            );
            for line in [
                format!("MD_UUID={}", read.uuid),
                format!("MD_NAME={}", read.name),
                format!("MD_LEVEL=raid{}", read.level),
                format!("MD_DEVICES={}", read.members),
            ] {
                assert!(said.lines().any(|one| one == line), "{line}: {said}");
            }
            let said = output(Command::new("mdadm").arg("--examine").arg(file.path()));
            assert!(
                said.contains("Active device 1") && said.contains("- correct"),
                "{said}"
            );
            assert_eq!(read.role, Some(1));
        }
    }

    #[test]
    fn a_superblock_with_a_byte_that_differs_is_none() {
        let size = 16 << 20;
        let whole = bytes(Metadata::V1_2, size, 5, 0, 3);
        assert!(read_superblock(&whole, Metadata::V1_2, size).is_some());
        for at in [0, 4, 17, 33, 72, 92, 144, 160, 216, 220, ROLES_AT, ROLES_AT + 255] {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(read_superblock(&other, Metadata::V1_2, size), None, "{at}");
        }
        assert_eq!(read_superblock(&whole, Metadata::V1_0, size), None);
        for len in 0..ROLES_AT + 256 {
            assert_eq!(
                read_superblock(&whole[..len], Metadata::V1_2, size),
                None,
                "{len}"
            );
        }
    }

    #[test]
    fn an_array_is_left_assembled_or_made_by_what_all_its_members_say() {
        let array = declared("1", "1.2", 2);
        let member = |role| Superblock {
            uuid: UUID.to_owned(),
            name: "host:root".to_owned(),
            level: 1,
            members: 2,
            metadata: Metadata::V1_2,
            role,
        };
        let both = [Some(member(Some(0))), Some(member(Some(1)))];
        let uuid = UUID.to_owned();
        assert_eq!(next(&array, &both, None), Next::Assemble { uuid: uuid.clone() });
        let running = PathBuf::from("/dev/md127");
        assert_eq!(
            next(&array, &both, Some(&running)),
            Next::Leave {
                uuid,
                running: running.clone()
            }
        );
        let other = |change: fn(&mut Superblock)| {
            let mut members = both.clone();
            members[1].as_mut().map(change).unwrap();
            members
        };
        for (what, members) in [
            ("half made", [Some(member(Some(0))), None]),
            ("none", [None, None]),
            ("another array", other(|one| one.uuid = "other".to_owned())),
            ("name", other(|one| one.name = "host:data".to_owned())),
            ("level", other(|one| one.level = 0)),
            ("members", other(|one| one.members = 3)),
            ("failed", other(|one| one.role = None)),
            ("twice the same place", other(|one| one.role = Some(0))),
            ("a place that there is not", other(|one| one.role = Some(2))),
            ("metadata", other(|one| one.metadata = Metadata::V1_0)),
        ] {
            assert_eq!(next(&array, &members, Some(&running)), Next::Make, "{what}");
        }
    }

    #[test]
    fn members_that_cannot_be_overwritten_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, mib: u64| {
            let path = folder.path().join(name);
            fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
            path
        };
        let (a, b, small) = (file("a", 16), file("b", 16), file("small", 7));
        let none = [None, None];
        may_be_made(&[a.clone(), b.clone()], &none, UUID, true).unwrap();
        let refused = |members: &[PathBuf], there: &[Option<Superblock>]| {
            may_be_made(members, there, UUID, true).map_err(|e| e.reason())
        };
        assert_eq!(refused(&[a.clone(), a.clone()], &none), Err("SameDisk"));
        assert_eq!(refused(&[a.clone(), small], &none), Err("DiskTooSmall"));
        output(Command::new("mkswap").arg(&b));
        assert_eq!(refused(&[a.clone(), b.clone()], &none), Err("DiskNotEmpty"));
        may_be_made(&[a.clone(), b.clone()], &none, UUID, false).unwrap();
        // What this very array was half made of.
        let size = 16 << 20;
        fs::write(&b, vec![0; size]).unwrap();
        let member = bytes(Metadata::V1_2, size as u64, 1, 1, 2);
        fs::File::options()
            .write(true)
            .open(&b)
            .unwrap()
            .write_all_at(&member, 4096)
            .unwrap();
        let read = read_superblock(&member, Metadata::V1_2, size as u64);
        let uuid = read.as_ref().unwrap().uuid.clone();
        assert_eq!(
            refused(&[a.clone(), b.clone()], &[None, read.clone()]),
            Err("DiskNotEmpty")
        );
        may_be_made(&[a, b], &[None, read], &uuid, true).unwrap();
    }

    #[test]
    fn a_uuid_is_of_its_seed_and_written_as_mdadm_writes_it() {
        let uuid = uuid_of("a");
        assert_eq!(uuid, uuid_of("a"));
        assert_ne!(uuid, uuid_of("b"));
        let groups: Vec<usize> = uuid.split(':').map(str::len).collect();
        assert_eq!(groups, [8, 8, 8, 8]);
    }
}
