//! Contents of images, as they come from people.

use coordinator::Error;
use coordinator::people::Caller;
use futures_util::{Stream, TryStreamExt};
use proto::v1::{
    MissingImageBlobsRequest, MissingImageBlobsResponse, PutImageBlobRequest, PutImageBlobResponse,
};
use store::blobs::{BlobError, Digest};
use tonic::Status;

use super::status;
use crate::control::ControlPlane;
use crate::images::for_all_namespaces;

/// Contents that are asked for in one request.
const MOST_ASKED: usize = 20_000;

impl ControlPlane {
    pub(super) async fn missing_image_blobs(
        &self,
        request: MissingImageBlobsRequest,
    ) -> Result<MissingImageBlobsResponse, Error> {
        if request.sha256.len() > MOST_ASKED {
            return Err(Error::TooMuch(format!(
                "{MOST_ASKED} contents may be asked for at once"
            )));
        }
        let mut missing = Vec::new();
        for text in request.sha256 {
            let digest: Digest = text.parse().map_err(BlobError::from)?;
            if !self.shelf().blobs().exists(&digest).await? {
                missing.push(text);
            }
        }
        Ok(MissingImageBlobsResponse { sha256: missing })
    }

    /// Keeps a content, which is never whole in memory; nothing of it stays when the request breaks off.
    pub(super) async fn put_image_blob(
        &self,
        caller: &Caller,
        mut requests: impl Stream<Item = Result<PutImageBlobRequest, Status>> + Unpin,
    ) -> Result<PutImageBlobResponse, Status> {
        for_all_namespaces(caller).map_err(status)?;
        let Some(first) = requests.try_next().await? else {
            return Err(Status::invalid_argument(
                "the first message says which content comes",
            ));
        };
        let digest: Digest = first
            .sha256
            .parse()
            .map_err(|error: store::blobs::DigestError| Status::invalid_argument(error.to_string()))?;
        let failed = |error| status(Error::Blob(error));
        let mut incoming = self.shelf().blobs().incoming().await.map_err(failed)?;
        incoming.write(&first.content).await.map_err(failed)?;
        while let Some(more) = requests.try_next().await? {
            incoming.write(&more.content).await.map_err(failed)?;
        }
        let size_bytes = incoming.len_bytes();
        match incoming.keep(&digest).await {
            Ok(()) => Ok(PutImageBlobResponse { size_bytes }),
            Err(error @ BlobError::Other { .. }) => Err(Status::invalid_argument(error.to_string())),
            Err(error) => Err(failed(error)),
        }
    }
}
