//! One compressed cluster, unpacked.

use super::header::{ClusterPacking, Header};

/// Unpacks clusters, one after the other.
pub(super) struct Unpacker {
    packing: ClusterPacking,
    cluster: Vec<u8>,
    zstd: zstd::zstd_safe::DCtx<'static>,
}

impl Unpacker {
    pub(super) fn new(header: &Header) -> Unpacker {
        Unpacker {
            packing: header.packing,
            cluster: vec![0; usize::try_from(header.cluster_bytes()).unwrap_or_default()],
            zstd: zstd::zstd_safe::DCtx::create(),
        }
    }

    /// All of the cluster whose packed content `packed` begins with.
    ///
    /// # Errors
    /// In words: that is no whole cluster.
    pub(super) fn unpack(&mut self, packed: &[u8]) -> Result<&[u8], String> {
        let whole = match self.packing {
            ClusterPacking::Deflate => self.inflate(packed),
            ClusterPacking::Zstd => self.decompress(packed),
        };
        match whole {
            Some(()) => Ok(&self.cluster),
            None => Err("a compressed cluster of the qcow2 file is damaged".to_owned()),
        }
    }

    fn inflate(&mut self, packed: &[u8]) -> Option<()> {
        let mut inflate = flate2::Decompress::new(false);
        inflate
            .decompress(packed, &mut self.cluster, flate2::FlushDecompress::Finish)
            .ok()?;
        (inflate.total_out() == self.cluster.len() as u64).then_some(())
    }

    /// A frame, or several; what is behind the last one is padding.
    fn decompress(&mut self, packed: &[u8]) -> Option<()> {
        use zstd::zstd_safe::{InBuffer, OutBuffer, ResetDirective};
        self.zstd.reset(ResetDirective::SessionOnly).ok()?;
        let mut from = InBuffer::around(packed);
        let whole = self.cluster.len();
        let mut into = OutBuffer::around(self.cluster.as_mut_slice());
        while into.pos() < whole {
            let before = (from.pos(), into.pos());
            self.zstd.decompress_stream(&mut into, &mut from).ok()?;
            if before == (from.pos(), into.pos()) {
                return None;
            }
        }
        Some(())
    }
}
