//! What the kernel is asked about a block device, and told.
//!
//! Source: linux/fs.h (BLK*), linux/blkpg.h.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

mod ioctl {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, libc::size_t);
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), libc::c_int);
    nix::ioctl_read_bad!(blksszget, nix::request_code_none!(0x12, 104), libc::c_int);
    nix::ioctl_none!(blkrrpart, 0x12, 95);
    nix::ioctl_readwrite_bad!(blkpg, nix::request_code_none!(0x12, 105), super::BlkpgRequest);
}

const BLKPG_ADD_PARTITION: i32 = 1;
const BLKPG_DEL_PARTITION: i32 = 2;
const BLKPG_RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
pub struct BlkpgRequest {
    op: libc::c_int,
    flags: libc::c_int,
    data_bytes: libc::c_int,
    data: *mut BlkpgPartition,
}

/// `struct blkpg_partition`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// The size of a block device.
pub fn size_bytes(device: &File) -> io::Result<u64> {
    let mut size: libc::size_t = 0;
    // SAFETY: the descriptor is open for the call, and BLKGETSIZE64 writes one u64, which size_t is here.
    unsafe { ioctl::blkgetsize64(device.as_raw_fd(), &raw mut size) }?;
    Ok(size as u64)
}

/// The size of a logical sector: 512 or 4096 nearly always.
pub fn sector_size(device: &File) -> io::Result<u64> {
    let mut size: libc::c_int = 0;
    // SAFETY: the descriptor is open for the call, and BLKSSZGET writes one int.
    unsafe { ioctl::blksszget(device.as_raw_fd(), &raw mut size) }?;
    u64::try_from(size)
        .ok()
        .filter(|size| size.is_power_of_two())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the kernel says a sector has {size} bytes"),
            )
        })
}

/// Whether the kernel refuses to write to it: write protection of the medium, of the disk, or of the kernel itself.
pub fn is_read_only(device: &File) -> io::Result<bool> {
    let mut read_only: libc::c_int = 0;
    // SAFETY: the descriptor is open for the call, and BLKROGET writes one int.
    unsafe { ioctl::blkroget(device.as_raw_fd(), &raw mut read_only) }?;
    Ok(read_only != 0)
}

/// Makes the kernel read the partition table anew; fails while a partition is in use.
pub fn reread_partitions(device: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and BLKRRPART takes no argument.
    unsafe { ioctl::blkrrpart(device.as_raw_fd()) }?;
    Ok(())
}

/// Tells the kernel of a partition that it does not know; works without its parsing any table.
pub fn add_partition(device: &File, number: u32, start_bytes: u64, len_bytes: u64) -> io::Result<()> {
    blkpg(device, BLKPG_ADD_PARTITION, number, start_bytes, len_bytes)
}

/// Makes the kernel forget a partition that nothing uses.
pub fn remove_partition(device: &File, number: u32) -> io::Result<()> {
    blkpg(device, BLKPG_DEL_PARTITION, number, 0, 0)
}

/// Tells the kernel of a partition's new size; works while it is mounted.
pub fn resize_partition(device: &File, number: u32, start_bytes: u64, len_bytes: u64) -> io::Result<()> {
    blkpg(device, BLKPG_RESIZE_PARTITION, number, start_bytes, len_bytes)
}

fn blkpg(device: &File, op: i32, number: u32, start_bytes: u64, len_bytes: u64) -> io::Result<()> {
    let out_of_range = |_| io::Error::new(io::ErrorKind::InvalidInput, "partition out of range");
    let mut partition = BlkpgPartition {
        start: i64::try_from(start_bytes).map_err(out_of_range)?,
        length: i64::try_from(len_bytes).map_err(out_of_range)?,
        number: i32::try_from(number).map_err(out_of_range)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let data_bytes = size_of::<BlkpgPartition>() as libc::c_int;
    let mut request = BlkpgRequest {
        op,
        flags: 0,
        data_bytes,
        data: &raw mut partition,
    };
    // SAFETY: the descriptor is open for the call; request and the partition it points to are laid out as in
    // linux/blkpg.h and outlive the call.
    unsafe { ioctl::blkpg(device.as_raw_fd(), &raw mut request) }?;
    Ok(())
}
