//! Makes a GPT disk bootable by BIOS firmware: what `grub-bios-setup` does, on files.
//!
//! The boot sector learns where `core.img` begins, and the first sector of `core.img` learns where its
//! remainder is. Both fit into the BIOS boot partition as one run of sectors.
//!
//! Source: GRUB 2.06 `include/grub/i386/pc/boot.h` (`GRUB_BOOT_MACHINE_*`), `util/setup.c`.

use crate::grub::{Grub, GrubError, Image, Platform};

/// Why the pieces do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BiosError {
    /// The image does not begin like GRUB's.
    #[error("{what} of {len_bytes} B is not one of GRUB's")]
    Unexpected { what: &'static str, len_bytes: usize },
    /// The partition is too small.
    #[error("core.img has {len_bytes} B, the BIOS boot partition {room_bytes} B")]
    DoesNotFit { len_bytes: usize, room_bytes: u64 },
}

/// What to write where on the disk.
#[derive(Debug, PartialEq, Eq)]
pub struct BiosBoot {
    /// The first 440 bytes of the disk: boot code without partition table and disk signature.
    pub boot_code: Vec<u8>,
    /// The content of the BIOS boot partition, from its start.
    pub core: Vec<u8>,
}

/// Returns boot code and core image for a BIOS boot partition of `room_bytes` at sector `start_lba`.
///
/// # Errors
/// [`GrubError`] if the core image cannot be made or does not fit.
pub fn install(
    grub: &Grub,
    prefix: &str,
    modules: &[&str],
    start_lba: u64,
    room_bytes: u64,
) -> Result<BiosBoot, GrubError> {
    let image = Image {
        platform: Platform::Bios,
        prefix,
        memdisk: None,
        modules,
    };
    let core = grub.make(&image)?;
    Ok(link(grub.boot_sector()?, core, start_lba, room_bytes)?)
}

fn link(
    mut boot: Vec<u8>,
    mut core: Vec<u8>,
    start_lba: u64,
    room_bytes: u64,
) -> Result<BiosBoot, BiosError> {
    let unexpected = |what, len_bytes| BiosError::Unexpected { what, len_bytes };
    let boot_len = boot.len();
    if boot_len != SECTOR || !boot.ends_with(&[0x55, 0xaa]) {
        return Err(unexpected("boot.img", boot_len));
    }
    if core.len() as u64 > room_bytes {
        return Err(BiosError::DoesNotFit {
            len_bytes: core.len(),
            room_bytes,
        });
    }
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    let core_len = core.len();

    let mut patch = |at: usize, bytes: &[u8]| -> Option<()> {
        boot.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        Some(())
    };
    patch(KERNEL_SECTOR, &start_lba.to_le_bytes()).ok_or(unexpected("boot.img", boot_len))?;
    // Some BIOSes pass a wrong drive number; the jump over its check is for floppies and is taken out for disks.
    patch(DRIVE_CHECK, &[0x90, 0x90]).ok_or(unexpected("boot.img", boot_len))?;

    let sectors = (core_len / SECTOR).checked_sub(1).filter(|sectors| *sectors > 0);
    let sectors = sectors
        .and_then(|sectors| u16::try_from(sectors).ok())
        .ok_or(unexpected("core.img", core_len))?;
    let mut block = Vec::new();
    block.extend((start_lba + 1).to_le_bytes());
    block.extend(sectors.to_le_bytes());
    block.extend(KERNEL_SEGMENT.to_le_bytes());
    let list = core
        .get_mut(SECTOR - block.len()..SECTOR)
        .ok_or(unexpected("core.img", core_len))?;
    list.copy_from_slice(&block);
    boot.truncate(BOOT_CODE_LEN);
    Ok(BiosBoot {
        boot_code: boot,
        core,
    })
}

const SECTOR: usize = 512;
/// `GRUB_BOOT_MACHINE_KERNEL_SECTOR`: u64, the sector of core.img.
const KERNEL_SECTOR: usize = 0x5c;
/// `GRUB_BOOT_MACHINE_DRIVE_CHECK`: a two-byte jump.
const DRIVE_CHECK: usize = 0x66;
/// `GRUB_BOOT_MACHINE_KERNEL_SEG` plus the 0x20 paragraphs of the first sector.
const KERNEL_SEGMENT: u16 = 0x0820;
/// `GRUB_BOOT_MACHINE_WINDOWS_NT_MAGIC`: the disk's own data begins here.
const BOOT_CODE_LEN: usize = 440;

#[cfg(test)]
mod tests {
    use super::*;

    fn boot_sector() -> Vec<u8> {
        let mut sector = vec![0x11; SECTOR];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    #[test]
    fn boot_sector_and_core_point_to_their_successors() {
        let linked = link(boot_sector(), vec![0x22; 1100], 2048, 1 << 20).unwrap();
        assert_eq!(linked.boot_code.len(), 440);
        assert_eq!(linked.boot_code[0x5c..0x64], 2048_u64.to_le_bytes());
        assert_eq!(linked.boot_code[0x66..0x68], [0x90, 0x90]);
        assert_eq!(linked.core.len(), 1536);
        assert_eq!(linked.core[500..508], 2049_u64.to_le_bytes());
        assert_eq!(linked.core[508..512], [2, 0, 0x20, 0x08]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let error = link(boot_sector(), vec![0; 1 << 20], 2048, 4096).unwrap_err();
        assert_eq!(
            error,
            BiosError::DoesNotFit {
                len_bytes: 1 << 20,
                room_bytes: 4096
            }
        );
        assert!(link(vec![0; 512], vec![0; 1024], 2048, 4096).is_err());
        assert!(link(boot_sector(), Vec::new(), 2048, 4096).is_err());
    }
}
