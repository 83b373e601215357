//! What is done to disks: probe, mount, partition tables, filesystems, image streaming.
//!
//! Knows nothing of agents or gRPC. An image goes onto a disk in these steps, each usable alone:
//! [`probe::resolve`] picks the disk; [`image::write`] streams the image, with its partition table fitted to the disk by
//! [`gpt::fit`], and tells the kernel by [`publish::publish`]; [`grow::grow_filesystem`] grows the filesystem in a partition.
//! [`efi`] is the boot entries of UEFI firmware.
//! [`luks`], [`lvm`] and [`raid`] are what is known of an encrypted device, a volume group and an array before and after their programs work
//! on them;
//! [`partition::partition`] gives a disk the table that a template declares; [`mkfs`] is what is done before and after a program
//! makes a filesystem; [`seed::seed`] writes what a system reads at its first boot, as an [`iso9660`]; [`growpart::growpart`] grows a partition and what is in it; [`wipe::wipe`] erases a disk.

pub mod clear;
pub mod device;
pub mod efi;
mod ends;
pub mod filesystem;
pub mod gpt;
pub mod grow;
pub mod growpart;
pub mod grub_cfg;
pub mod health;
pub mod image;
pub mod iso9660;
pub mod luks;
pub mod lvm;
pub mod mbr;
pub mod members;
pub mod mkfs;
pub mod mount;
pub mod partition;
mod passthrough;
pub mod probe;
pub mod publish;
pub mod raid;
pub mod seed;
pub mod signatures;
pub mod stop_users;
#[cfg(test)]
mod testing;
pub mod wipe;
