//! What registries have, as it is: for whoever keeps it and gives it on.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::client::{Client, Failed, Request};
use super::error::PullError;
use super::patience::{Patience, Tries};
use super::progress::Progress;
use super::settings::Registries;
use super::transfer::{Ended, Sink, again, fetch};
use crate::digest::{Digest, Hasher};
use crate::manifest::{ACCEPTED, Descriptor, MANIFEST_LIMIT_BYTES};
use crate::reference::Reference;

/// Somebody who is asked for an image: a mirror, or its registry.
pub struct Source {
    client: Client,
    patience: Patience,
    image: Reference,
}

impl Source {
    /// Those who are asked for an image, in order; the registry itself is the last.
    ///
    /// # Errors
    /// [`PullError::Unusable`] for settings that lead nowhere.
    pub fn all(
        registries: &Registries,
        image: &Reference,
        patience: Patience,
    ) -> Result<Vec<Source>, PullError> {
        let endpoints = registries.endpoints(image.registry()).into_iter();
        let sources = endpoints.map(|asked| {
            Ok(Source {
                client: Client::new(asked, &registries.reach, image.repository(), patience)?,
                patience,
                image: image.clone(),
            })
        });
        sources.collect()
    }

    /// As it is called in messages.
    pub fn name(&self) -> &str {
        self.client.name()
    }

    /// The bytes of the image's manifest or index: those of its digest, where the name has one.
    ///
    /// # Errors
    /// [`PullError`].
    pub async fn manifest(&self) -> Result<Vec<u8>, PullError> {
        let asked_for = self.image.asked_for();
        manifest(
            &self.client,
            self.patience,
            &self.image,
            &asked_for,
            self.image.digest(),
        )
        .await
    }

    /// The bytes of a manifest that an index names.
    ///
    /// # Errors
    /// [`PullError`].
    pub(crate) async fn manifest_of(&self, digest: &Digest) -> Result<Vec<u8>, PullError> {
        let asked_for = digest.to_string();
        manifest(&self.client, self.patience, &self.image, &asked_for, Some(digest)).await
    }

    /// Brings a blob, from its byte `from` on. What comes is not compared with its digest here.
    ///
    /// # Errors
    /// [`PullError`].
    pub(crate) async fn bring(
        &self,
        blob: &Descriptor,
        from: u64,
        progress: &Progress,
        sink: &mut impl Sink,
    ) -> Result<Ended, PullError> {
        fetch(&self.client, blob, from, self.patience, progress, sink).await
    }

    /// Sends the bytes of a blob, which are compared with nothing but their number; true when all came, false when nobody takes more.
    ///
    /// # Errors
    /// [`PullError`].
    pub async fn blob(
        &self,
        digest: &Digest,
        size_bytes: u64,
        mut to: mpsc::Sender<Bytes>,
    ) -> Result<bool, PullError> {
        let blob = Descriptor {
            media_type: String::new(),
            digest: digest.clone(),
            size_bytes,
        };
        let unseen = Progress::default();
        let ended = fetch(&self.client, &blob, 0, self.patience, &unseen, &mut to).await?;
        Ok(ended == Ended::Whole)
    }
}

/// A manifest or an index, whose digest is the one that is expected.
pub(crate) async fn manifest(
    client: &Client,
    patience: Patience,
    image: &Reference,
    asked_for: &str,
    expected: Option<&Digest>,
) -> Result<Vec<u8>, PullError> {
    let path = format!("manifests/{asked_for}");
    let mut tries = Tries::new(patience, Instant::now());
    let request = Request {
        path: &path,
        accept: &ACCEPTED,
        from: 0,
        has_digest: expected.is_some(),
    };
    loop {
        let (what, wish) = match client.get(request).await {
            Ok(response) => match client.small(response, MANIFEST_LIMIT_BYTES).await {
                Ok(json) => {
                    same(client, &path, expected, &json)?;
                    return Ok(json);
                }
                Err(what) => (what, None),
            },
            Err(Failed::ForGood(error)) => return Err(error),
            Err(Failed::NotFound { said }) => {
                return Err(PullError::NoSuchTag {
                    registry: client.name().to_owned(),
                    image: image.to_string(),
                    said,
                });
            }
            Err(Failed::ForNow { what, wish }) => (what, wish),
        };
        again(client, &mut tries, &what, wish).await?;
    }
}

/// # Errors
/// [`PullError::WrongDigest`].
pub(crate) fn same(
    client: &Client,
    what: &str,
    expected: Option<&Digest>,
    bytes: &[u8],
) -> Result<(), PullError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let mut hasher = Hasher::new(expected.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    match actual == *expected {
        true => Ok(()),
        false => Err(PullError::WrongDigest {
            registry: client.name().to_owned(),
            what: what.to_owned(),
            expected: expected.clone(),
            actual,
        }),
    }
}
