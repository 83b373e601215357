//! Why an image could not be put on a disk.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why an image could not be put on a disk.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What came is not an image of the packing that was said or found; its ends were not written.
    #[error("image {url} is bad: {what}")]
    BadImage { url: String, what: String },
    /// The URL cannot be fetched by any means there are.
    #[error("image URL {url} cannot be used: {what}")]
    BadUrl { url: String, what: String },
    /// Something holds the target: a mount, swap, RAID, LVM, another opener. Nothing was written.
    #[error("disk {disk} is in use: {by}")]
    Busy { disk: PathBuf, by: String },
    /// The root cannot be grown in this image. Nothing was written.
    #[error(
        "image {url} has no root to grow: {why}; nothing was written. Leave GROW_ROOT out, or give another image"
    )]
    CannotGrow { url: String, why: String },
    /// The kernel refused to read, write or sync.
    #[error("{what} {disk} failed at byte {offset}: {source}")]
    Device {
        disk: PathBuf,
        what: &'static str,
        offset: u64,
        source: io::Error,
    },
    /// The image is larger than the target; nothing past the end was written.
    #[error("image needs {}{need_bytes} B but {disk} holds {have_bytes} B{}",
        if *.known { "" } else { "more than " },
        if *.touched { "; the disk does not boot now" } else { "; nothing was written" })]
    DoesNotFit {
        disk: PathBuf,
        need_bytes: u64,
        /// Whether `need_bytes` is the image's size rather than where the writing stopped.
        known: bool,
        have_bytes: u64,
        /// Whether anything was written before this was found out.
        touched: bool,
    },
    /// Another image is there now under the same URL than when the transfer began.
    #[error(
        "image {url} was replaced on the server during the transfer, at byte {at} of it: {what}; start again"
    )]
    ImageChanged { url: String, at: u64, what: String },
    /// The server does not have it.
    #[error("image {url} not found: the server answers {status}")]
    ImageNotFound { url: String, status: String },
    /// The server does not give it.
    #[error("image {url} refused: the server answers {status}")]
    ImageRefused { url: String, status: String },
    /// The image is on the disk, but the kernel goes on showing other partitions.
    #[error(
        "{disk} is written, but the kernel does not take its partition table: {source}; reboot the machine"
    )]
    KernelRefused { disk: PathBuf, source: io::Error },
    /// The digest to compare with is not one.
    #[error("SHA-256 in {from} is not 64 hexadecimal digits: {given:?}")]
    MalformedDigest { from: String, given: String },
    /// Whoever fetches the image does not go on.
    #[error("image {url} does not come: {message}")]
    NotFetched {
        url: String,
        reason: &'static str,
        message: String,
    },
    /// The target is neither a block device nor a regular file.
    #[error("{disk} is not a disk: {what}")]
    NotADisk { disk: PathBuf, what: String },
    /// The disk does not have what was written to it; its ends were not written.
    #[error(
        "{disk} has other bytes than were written to it, in the {len} B from byte {offset} on; it does not boot. Replace the disk, or look at its cable and its controller"
    )]
    ReadBackDiffers { disk: PathBuf, offset: u64, len: u64 },
    /// Nothing can be written to the disk. Nothing was.
    #[error("disk {disk} is read-only{}; take the write protection off, or choose another disk",
        if *.touched { " now; it does not boot" } else { ", nothing was written" })]
    ReadOnly { disk: PathBuf, touched: bool },
    /// The caller stopped it.
    #[error("stopped at byte {at} of the download; the disk does not boot if the write had begun")]
    Stopped { at: u64 },
    /// The target does not exist.
    #[error("disk {disk} does not exist; there are: {there}")]
    TargetMissing { disk: PathBuf, there: String },
    /// A thread could not be started, or died.
    #[error("image writer failed: {what}")]
    Thread { what: String },
    /// TLS with the server does not come to be: a certificate that does not vouch for it, or no TLS at all.
    #[error("image server {host} is not trusted: {what}")]
    Untrusted {
        host: String,
        what: String,
        /// The certificate may be right, and its authority is one that was not given here.
        unknown_issuer: bool,
    },
    /// No new byte came for too long, or the transfer cannot be resumed safely.
    #[error("transfer of {url} broke at byte {at}{} and brought no new byte for {} s ({tries} tries): {last}",
        .total.map(|total| format!(" of {total}")).unwrap_or_default(), .given_up_after.as_secs_f32())]
    TransferBroken {
        url: String,
        at: u64,
        total: Option<u64>,
        given_up_after: Duration,
        tries: u32,
        last: String,
    },
    /// The transfer ended well but its digest differs; the disk does not boot.
    #[error("digest of {url} is {actual}, expected {expected}")]
    WrongDigest {
        url: String,
        expected: String,
        actual: String,
    },
    /// The partitions would not be found. Nothing was written.
    #[error(
        "image {url} is made for sectors of {image_bytes} B, {disk} has sectors of {disk_bytes} B: its partitions would not be found; nothing was written. Use an image made for sectors of {disk_bytes} B"
    )]
    WrongSectorSize {
        url: String,
        image_bytes: u64,
        disk: PathBuf,
        disk_bytes: u64,
    },
}

impl WriteError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            WriteError::BadImage { .. } => "BadImage",
            WriteError::BadUrl { .. } => "BadUrl",
            WriteError::Busy { .. } => "DiskBusy",
            WriteError::CannotGrow { .. } => "CannotGrow",
            WriteError::Device { .. } => "DeviceFailed",
            WriteError::DoesNotFit { .. } => "DiskTooSmall",
            WriteError::ImageChanged { .. } => "ImageChanged",
            WriteError::ImageNotFound { .. } => "ImageNotFound",
            WriteError::ImageRefused { .. } => "ImageRefused",
            WriteError::KernelRefused { .. } => "KernelRefused",
            WriteError::MalformedDigest { .. } => "MalformedDigest",
            WriteError::NotADisk { .. } => "NotADisk",
            WriteError::NotFetched { reason, .. } => reason,
            WriteError::ReadBackDiffers { .. } => "ReadBackDiffers",
            WriteError::ReadOnly { .. } => "DiskReadOnly",
            WriteError::Stopped { .. } => "Stopped",
            WriteError::TargetMissing { .. } => "NoSuchDisk",
            WriteError::Thread { .. } => "WriterFailed",
            WriteError::TransferBroken { .. } => "TransferBroken",
            WriteError::Untrusted { .. } => "UntrustedServer",
            WriteError::WrongDigest { .. } => "WrongDigest",
            WriteError::WrongSectorSize { .. } => "WrongSectorSize",
        }
    }
}
