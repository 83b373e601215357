//! What is done to disks: probe, mount, partition tables, filesystems, image streaming.
//!
//! Knows nothing of agents or gRPC. An image goes onto a disk in these steps, each usable alone:
//! [`probe::resolve`] picks the disk, [`image::write`] streams the image, [`gpt::fit`] moves the backup table to the
//! disk's real end and grows a partition, [`filesystem::grow`] grows the filesystem in it.
//! [`grow::grow`] does the last two and tells the kernel in between.

pub mod device;
pub mod filesystem;
pub mod gpt;
pub mod grow;
pub mod image;
pub mod mount;
pub mod probe;
#[cfg(test)]
mod testing;
