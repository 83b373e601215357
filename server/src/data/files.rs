//! The files that a workflow's actions have handed over, as people are shown them.

use bytes::Bytes;
use proto::v1::WorkflowDataFile;
use store::blobs::BlobError;
use tokio::sync::mpsc;

use crate::archive::WorkflowRows;
use crate::control::ControlPlane;
use coordinator::Error;
use coordinator::archive;
use coordinator::data::{self, versions};
use coordinator::namespaces::Reach;

impl ControlPlane {
    /// Sends the files of a version of a workflow's data; `version` 0: the newest, `path` empty: all.
    ///
    /// Of a workflow that is archived the newest version is kept.
    pub(crate) async fn data_files(
        &self,
        reach: &Reach,
        id: &str,
        version: u64,
        path: &str,
        to: mpsc::Sender<WorkflowDataFile>,
    ) -> Result<(), Error> {
        let workflow = self.workflow(reach, id).await?;
        let root = workflow.root();
        let rows = self.rows_of(root);
        let asked = root.to_owned();
        let read = rows.read(move |place| {
            let version = match version {
                0 => versions::newest(place.rows.rows(), &asked)?,
                version => version,
            };
            let manifest = versions::manifest(place.rows.rows(), &asked, version)?;
            Ok((version, manifest))
        });
        let (version, manifest) = read.await?;
        let manifest = manifest.ok_or_else(|| {
            Error::NotFound(format!(
                "version {version} of the data of workflow {root} is not kept"
            ))
        })?;
        if !path.is_empty() && manifest.get(path).is_none() {
            return Err(Error::NotFound(format!(
                "there is no file {path:?} in version {version} of the data of workflow {root}: see `farrier workflow data \
                 {root}`"
            )));
        }
        let files = manifest
            .files()
            .filter(|(name, _)| path.is_empty() || name.as_str() == path);
        for (name, file) in files {
            let content = self.data_content(root, &rows, &file.sha256).await?;
            let file = WorkflowDataFile {
                version,
                path: name.to_string(),
                size_bytes: file.size_bytes,
                sha256: file.sha256.to_string(),
                content: content.to_vec(),
            };
            if to.send(file).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A content that a manifest names. It is a blob of its own until the workflow is archived, and a row of the archive then;
    /// neither ever changes.
    async fn data_content(
        &self,
        root: &str,
        rows: &WorkflowRows,
        digest: &ephemeral::Digest,
    ) -> Result<Bytes, Error> {
        if let Some(archived) = archived_content(root, rows, digest).await? {
            return Ok(archived);
        }
        let blob = data::blob_of(digest)?;
        match self.inner.config.blobs.get(&blob).await {
            // It may be garbage already, as it was archived since.
            Err(error @ BlobError::NotFound { .. }) => archived_content(root, rows, digest)
                .await?
                .ok_or(Error::Blob(error)),
            content => Ok(content?),
        }
    }
}

/// `None`: the workflow is not archived.
async fn archived_content(
    root: &str,
    rows: &WorkflowRows,
    digest: &ephemeral::Digest,
) -> Result<Option<Bytes>, Error> {
    let key = archive::content_key(&digest.to_string());
    let missing = format!("the archive of workflow {root} does not have the content {digest}");
    let read = rows.read(move |place| {
        if place.archived.is_none() {
            return Ok(None);
        }
        let row = place.rows.rows().get(key.as_bytes())?;
        let row = row.ok_or_else(|| Error::NotFound(missing.clone()))?;
        Ok(Some(row.value))
    });
    read.await
}
