//! What an agent that was killed has left in containerd: found by its label, ended and removed.

use tokio_stream::StreamExt;

use crate::api::containers::ListContainersRequest;
use crate::api::containers::containers_client::ContainersClient;
use crate::api::leases::leases_client::LeasesClient;
use crate::api::leases::{DeleteRequest, ListRequest};
use crate::api::snapshots::ListSnapshotsRequest;
use crate::api::snapshots::snapshots_client::SnapshotsClient;
use crate::connection::{Containerd, OWNER};
use crate::error::Error;
use crate::snapshot::SNAPSHOTTER;

impl Containerd {
    /// Ends and removes what somebody of this owner's name has left: tasks, containers, snapshots, leases.
    pub(crate) async fn clear_left(&self) -> Result<(), Error> {
        let filters = vec![format!("labels.{OWNER:?}=={:?}", self.owner())];
        let mut containers = ContainersClient::new(self.wire());
        let request = ListContainersRequest {
            filters: filters.clone(),
        };
        let left = self
            .call("what containers there are", containers.list(request))
            .await?;
        for container in left.containers {
            tracing::info!(
                id = container.id,
                "an action that an agent before this one left is removed"
            );
            self.remove_task(&container.id).await?;
        }
        let mut snapshots = SnapshotsClient::new(self.wire());
        let request = ListSnapshotsRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            filters: filters.clone(),
        };
        let what = "what snapshots there are";
        let mut left = self.call(what, snapshots.list(request)).await?;
        let mut names = Vec::new();
        while let Some(part) = left.next().await {
            let part = part.map_err(|status| self.refused(what, &status))?;
            names.extend(part.info.into_iter().map(|info| info.name));
        }
        for name in names {
            self.remove_snapshot(&name).await?;
        }
        let mut leases = LeasesClient::new(self.wire());
        let left = self
            .call("what leases there are", leases.list(ListRequest { filters }))
            .await?;
        for lease in left.leases {
            let request = DeleteRequest {
                id: lease.id,
                sync: false,
            };
            self.call("removing a lease", leases.delete(request)).await?;
        }
        Ok(())
    }
}
