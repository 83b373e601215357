//! Mounted filesystems asked to grow.
//!
//! Source: fs/ext4/ext4.h, `EXT4_IOC_RESIZE_FS`; fs/xfs/libxfs/xfs_fs.h, `XFS_IOC_FSGROWFSDATA`; linux/btrfs.h, `BTRFS_IOC_RESIZE`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

nix::ioctl_write_ptr!(ext4_ioc_resize_fs, b'f', 16, u64);
nix::ioctl_write_ptr!(xfs_ioc_fsgrowfsdata, b'X', 110, XfsGrowData);
nix::ioctl_write_ptr!(btrfs_ioc_resize, 0x94, 3, BtrfsVolume);

/// `struct xfs_growfs_data`.
#[repr(C)]
pub(super) struct XfsGrowData {
    new_blocks: u64,
    most_inodes_percent: u32,
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
pub(super) struct BtrfsVolume {
    fd: i64,
    name: [u8; 4088],
}

/// As resize2fs does: to so many of its blocks; less is refused.
pub(super) fn ext4(mountpoint: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the kernel reads one u64 behind the pointer.
    unsafe { ext4_ioc_resize_fs(mountpoint.as_raw_fd(), &raw const blocks) }?;
    Ok(())
}

/// As xfs_growfs does: to so many of its blocks; how much of them may be inodes is said again.
pub(super) fn xfs(mountpoint: &File, blocks: u64, most_inodes_percent: u32) -> io::Result<()> {
    let data = XfsGrowData {
        new_blocks: blocks,
        most_inodes_percent,
    };
    // SAFETY: the descriptor is open for the call, and the kernel reads one `xfs_growfs_data` behind the pointer.
    unsafe { xfs_ioc_fsgrowfsdata(mountpoint.as_raw_fd(), &raw const data) }?;
    Ok(())
}

/// As `btrfs filesystem resize max` does: to the size of its first device.
pub(super) fn btrfs(mountpoint: &File) -> io::Result<()> {
    let mut volume = BtrfsVolume {
        fd: 0,
        name: [0; 4088],
    };
    volume.name[..3].copy_from_slice(b"max");
    // SAFETY: the descriptor is open for the call, and the kernel reads one `btrfs_ioctl_vol_args` behind the pointer, whose name ends
    // with zeros.
    unsafe { btrfs_ioc_resize(mountpoint.as_raw_fd(), &raw const volume) }?;
    Ok(())
}
