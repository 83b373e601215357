//! The files that a workflow's actions have handed over, as people are shown them.

use bytes::Bytes;
use proto::v1::WorkflowDataFile;
use tokio::sync::mpsc;

use crate::control::ControlPlane;
use coordinator::Error;
use coordinator::archive;
use coordinator::data::{self, versions};

impl ControlPlane {
    /// Sends the files of a version of a workflow's data; `version` 0: the newest, `path` empty: all.
    ///
    /// Of a workflow that is archived the newest version is kept.
    pub(crate) async fn data_files(
        &self,
        id: &str,
        version: u64,
        path: &str,
        to: mpsc::Sender<WorkflowDataFile>,
    ) -> Result<(), Error> {
        let workflow = self.workflow(id).await?;
        let root = workflow.root();
        let (version, manifest) = self.data_of(root, version).await?;
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
            let content = self.data_content(root, &file.sha256).await?;
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

    /// The version's number, and its files if it is kept.
    async fn data_of(&self, root: &str, version: u64) -> Result<(u64, Option<ephemeral::Manifest>), Error> {
        loop {
            let place = self.place_of(root).await?;
            let asked = root.to_owned();
            let read = place.rows.with(move |view| {
                let version = match version {
                    0 => versions::newest(view.store(), &asked)?,
                    version => version,
                };
                Ok((version, versions::manifest(view.store(), &asked, version)?))
            });
            let read = read.await;
            if self.are_still_in(root, &place).await? {
                return read;
            }
        }
    }

    async fn data_content(&self, root: &str, digest: &ephemeral::Digest) -> Result<Bytes, Error> {
        loop {
            let place = self.place_of(root).await?;
            let read = if place.is_archive() {
                let key = archive::content_key(&digest.to_string());
                let read = place.rows.with(move |view| Ok(view.store().get(key.as_bytes())?));
                read.await.and_then(|row| match row {
                    Some(row) => Ok(row.value),
                    None => Err(Error::NotFound(format!(
                        "the archive of workflow {root} does not have the content {digest}"
                    ))),
                })
            } else {
                let blob = data::blob_of(digest)?;
                self.inner.config.blobs.get(&blob).await.map_err(Error::from)
            };
            if self.are_still_in(root, &place).await? {
                return read;
            }
        }
    }
}
