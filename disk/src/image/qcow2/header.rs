//! The header of a qcow2 file, and what of the format is refused.
//!
//! Source: QEMU, docs/interop/qcow2.rst, "Header".

/// The first bytes of every qcow2 file.
pub(in crate::image) const MAGIC: &[u8] = b"QFI\xfb";
/// As much of a file as the header is read from: all of it but its extensions.
pub(in crate::image) const HEADER_BYTES: usize = 112;
/// QEMU itself takes no larger one (`QCOW_MAX_L1_SIZE`).
const L1_MOST_BYTES: u64 = 32 << 20;
/// Clusters of 512 B to 2 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// How compressed clusters are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClusterPacking {
    /// Raw deflate (RFC 1951).
    Deflate,
    Zstd,
}

/// What is needed to find the clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image) struct Header {
    pub(super) cluster_bits: u32,
    /// Of the disk that is in the file.
    pub(super) size_bytes: u64,
    pub(super) l1_at: u64,
    pub(super) l1_entries: usize,
    pub(super) packing: ClusterPacking,
    pub(super) snapshots: u32,
    /// Entries have a flag for clusters of zeros.
    pub(super) has_zero_flag: bool,
}

impl Header {
    /// Reads it from the first [`HEADER_BYTES`] of a file.
    ///
    /// # Errors
    /// In words, with the cure: it is damaged, or of a kind that cannot be written as it comes.
    pub(in crate::image) fn parse(bytes: &[u8]) -> Result<Header, String> {
        let short = || "the qcow2 file ends within its header".to_owned();
        let u32_at = |at: usize| {
            let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
            field.map(u32::from_be_bytes).ok_or_else(short)
        };
        let u64_at = |at: usize| {
            let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
            field.map(u64::from_be_bytes).ok_or_else(short)
        };
        if !bytes.starts_with(MAGIC) {
            return Err("it is no qcow2 file".to_owned());
        }
        let version = u32_at(4)?;
        if !(2..=3).contains(&version) {
            return Err(format!(
                "it is a qcow2 file of version {version}; versions 2 and 3 are known. Convert it with `qemu-img convert -O qcow2`"
            ));
        }
        let cluster_bits = u32_at(20)?;
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(format!(
                "its qcow2 header says clusters of 2^{cluster_bits} B, which there are not"
            ));
        }
        if u64_at(8)? != 0 {
            return Err(
                "the qcow2 file has a backing file, without which it is not whole. Make one of both with `qemu-img convert -O qcow2`"
                    .to_owned(),
            );
        }
        match u32_at(32)? {
            0 => {}
            method => {
                let name = match method {
                    1 => "AES",
                    2 => "LUKS",
                    _ => "a method that is not known",
                };
                return Err(format!(
                    "the qcow2 file is encrypted ({name}). Decrypt it with `qemu-img convert`"
                ));
            }
        }
        let mut packing = ClusterPacking::Deflate;
        if version == 3 {
            let features = u64_at(72)?;
            refuse(features)?;
            if features & COMPRESSION_TYPE != 0 {
                packing = match bytes.get(104).copied().ok_or_else(short)? {
                    0 => ClusterPacking::Deflate,
                    1 => ClusterPacking::Zstd,
                    other => {
                        return Err(format!(
                            "the clusters of the qcow2 file are compressed in a way ({other}) that is neither zlib nor zstd"
                        ));
                    }
                };
            }
        }
        let header = Header {
            cluster_bits,
            size_bytes: u64_at(24)?,
            l1_at: u64_at(40)?,
            l1_entries: 0,
            packing,
            snapshots: u32_at(60)?,
            has_zero_flag: version == 3,
        };
        let needed = header.size_bytes.div_ceil(header.l2_covers_bytes());
        let there = u64::from(u32_at(36)?);
        if needed > there || needed.saturating_mul(8) > L1_MOST_BYTES {
            return Err(format!(
                "its qcow2 header says a disk of {} B, for which its first table of {there} entries does not do",
                header.size_bytes
            ));
        }
        if needed > 0 && !header.is_cluster(header.l1_at) {
            return Err(format!(
                "its qcow2 header says a table at byte {}, where none can be",
                header.l1_at
            ));
        }
        Ok(Header {
            l1_entries: usize::try_from(needed).unwrap_or(usize::MAX),
            ..header
        })
    }

    /// Of the disk that is in the file.
    pub(in crate::image) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// How much of the disk one second-level table is for.
    pub(super) fn l2_covers_bytes(&self) -> u64 {
        self.cluster_bytes() << (self.cluster_bits - 3)
    }

    /// Whether a cluster other than the header's may begin here.
    pub(super) fn is_cluster(&self, at: u64) -> bool {
        at >= self.cluster_bytes() && at.is_multiple_of(self.cluster_bytes())
    }
}

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Of the features without which a file is not understood.
fn refuse(features: u64) -> Result<(), String> {
    let refused = [
        (
            CORRUPT,
            "is marked as corrupt",
            "Repair it with `qemu-img check -r all`",
        ),
        (
            EXTERNAL_DATA,
            "has its data in another file",
            "Make one of both with `qemu-img convert -O qcow2`",
        ),
        (
            EXTENDED_L2,
            "has subclusters (extended_l2)",
            "Convert it with `qemu-img convert -O qcow2 -o extended_l2=off`",
        ),
    ];
    for (feature, what, cure) in refused {
        if features & feature != 0 {
            return Err(format!("the qcow2 file {what}. {cure}"));
        }
    }
    // Of a dirty one the counts of references may be wrong, which nobody needs who reads it.
    match features & !(DIRTY | COMPRESSION_TYPE) {
        0 => Ok(()),
        unknown => Err(format!(
            "the qcow2 file has features that are not known (bits {unknown:#x}). Convert it with `qemu-img convert -O qcow2`"
        )),
    }
}
