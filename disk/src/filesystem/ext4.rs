//! Online resize of ext4.
//!
//! Source: fs/ext4/ext4.h, `EXT4_IOC_RESIZE_FS`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

nix::ioctl_write_ptr!(ext4_ioc_resize_fs, b'f', 16, u64);

pub(super) fn resize(mountpoint: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the kernel reads one u64 behind the pointer.
    unsafe { ext4_ioc_resize_fs(mountpoint.as_raw_fd(), &raw const blocks) }?;
    Ok(())
}
