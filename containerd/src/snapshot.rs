//! Snapshots: one for each chain of layers, and one for each action on top, which it writes to.

use std::collections::HashMap;

use oci::{Algorithm, Digest, Hasher};

use crate::api::snapshots::snapshots_client::SnapshotsClient;
use crate::api::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use crate::api::types::Mount;
use crate::connection::{Containerd, Wire};
use crate::error::{Error, Kind};

/// The one that every containerd on Linux has.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";

/// The name of each layer's chain, the lowest first. Pure.
///
/// Source: OCI image specification 1.1, config.md, "Layer ChainID".
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        let name = match chain.last() {
            None => diff_id.to_string(),
            Some(below) => {
                let mut hasher = Hasher::new(Algorithm::Sha256);
                hasher.update(format!("{below} {diff_id}").as_bytes());
                hasher.finish().to_string()
            }
        };
        chain.push(name);
    }
    chain
}

impl Containerd {
    fn snapshots(&self) -> SnapshotsClient<Wire> {
        SnapshotsClient::new(self.wire())
    }

    pub(crate) async fn has_snapshot(&self, name: &str) -> Result<bool, Error> {
        let request = StatSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: name.to_owned(),
        };
        let what = format!("whether snapshot {name} is there");
        let answer = self.answer(&what, self.snapshots().stat(request)).await?;
        Ok(self.unless(&what, answer, Kind::NotThere)?.is_some())
    }

    /// A snapshot to write to; how it is mounted.
    pub(crate) async fn prepare_snapshot(
        &self,
        key: &str,
        parent: &str,
        labels: HashMap<String, String>,
    ) -> Result<Vec<Mount>, Error> {
        let request = PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels,
        };
        let what = format!(
            "a snapshot on {}",
            if parent.is_empty() { "nothing" } else { parent }
        );
        Ok(self.call(&what, self.snapshots().prepare(request)).await?.mounts)
    }

    /// Gives a snapshot its name. Where somebody else was first, theirs is it.
    pub(crate) async fn commit_snapshot(&self, key: &str, name: &str) -> Result<(), Error> {
        let request = CommitSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: HashMap::new(),
        };
        let what = format!("snapshot {name}");
        let answer = self.answer(&what, self.snapshots().commit(request)).await?;
        match self.unless(&what, answer, Kind::AlreadyThere)? {
            Some(()) => Ok(()),
            None => self.remove_snapshot(key).await,
        }
    }

    /// There may be none.
    pub(crate) async fn remove_snapshot(&self, key: &str) -> Result<(), Error> {
        let request = RemoveSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
        };
        let what = format!("removing snapshot {key}");
        let answer = self.answer(&what, self.snapshots().remove(request)).await?;
        self.unless(&what, answer, Kind::NotThere).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_named_as_the_image_specification_says() {
        let digest =
            |letter: &str| -> Digest { format!("sha256:{}", letter.repeat(64)).parse().expect("digest") };
        let (a, b) = (digest("a"), digest("b"));
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a.to_string());
        // ChainID(L₀|L₁) = Digest(ChainID(L₀) + " " + DiffID(L₁))
        assert_eq!(chain[1], Digest::of(format!("{a} {b}").as_bytes()).to_string());
        assert!(chain_ids(&[]).is_empty());
    }
}
