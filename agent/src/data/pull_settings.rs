//! What the server says of the registry of an attempt's image, its login too. Asked for by the pull, [apart](crate::wiping::apart): a
//! connection of its own, which is gone with the pull.

use proto::v1;
use tonic::Code;

use super::transfer::{FIRST_PAUSE, Trouble, wait};
use super::{DataError, DataServer};
use crate::boot_secret::random;

/// Of a nonce.
const NONCE_BYTES: usize = 32;

impl DataServer {
    /// The settings for the pull of an attempt's image. Waits for a server that is away, for ever. Cancel safe.
    ///
    /// # Errors
    /// `PullRefused`, in the server's words.
    pub(crate) async fn pull_settings(&self, attempt_id: &str) -> Result<v1::PullSettings, DataError> {
        let mut nonce = vec![0; NONCE_BYTES];
        random(&mut nonce)
            .map_err(|e| DataError::new("PullRefused", format!("nothing can be asked of the server: {e}")))?;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ask_once(attempt_id, &nonce).await {
                Ok(settings) => return Ok(settings),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Away) => wait(&mut pause).await,
            }
        }
    }

    async fn ask_once(&self, attempt_id: &str, nonce: &[u8]) -> Result<v1::PullSettings, Trouble> {
        let request = v1::GetPullSettingsRequest {
            access: Some(self.access(attempt_id)),
            nonce: nonce.to_vec(),
        };
        let answer = self.client().await?.get_pull_settings(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| match status.code() {
                Code::PermissionDenied
                | Code::NotFound
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::Unimplemented => Trouble::Final(DataError::new(
                    "PullRefused",
                    format!(
                        "the server does not say how the image is pulled: {}",
                        status.message()
                    ),
                )),
                _ => Trouble::Away,
            })
    }
}
