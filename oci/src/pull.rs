//! An image comes from a registry: manifest and configuration here, its layers as whoever keeps it wants them.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::digest::Digest;
use crate::image::{CONFIG_LIMIT_BYTES, ImageConfig, Platform};
use crate::manifest::{Descriptor, Document, Manifest, suits};
use crate::reference::Reference;
use crate::registry::{
    Asked, Client, Ended, Patience, Progress, PullError, Registries, Sink, fetch, manifest, same,
};

/// How an image is pulled.
#[derive(Clone, Debug)]
pub struct Pull {
    /// What it has to run on.
    pub platform: Platform,
    /// How long all of it may take.
    pub time_limit: Duration,
    pub patience: Patience,
    /// How many layers come at the same time.
    pub at_once: usize,
    /// How many files a layer may have.
    pub layer_entries: u64,
}

impl Default for Pull {
    fn default() -> Pull {
        Pull {
            platform: Platform::here(),
            time_limit: Duration::from_secs(3600),
            patience: Patience::default(),
            at_once: 3,
            layer_entries: 1_000_000,
        }
    }
}

/// An index may name indexes; nobody nests them deeper.
const LIMIT_NESTED: usize = 3;

/// Who keeps what is pulled, and what an image is there.
pub trait Keep: Sync {
    type Image: Send;

    /// What was pulled by this name, in words that say the platform too, before.
    fn named(&self, name: &str) -> impl Future<Output = Result<Option<Self::Image>, PullError>> + Send;

    /// The image of this manifest, where all of it is here. It has the name from now on, too.
    fn kept(
        &self,
        name: &str,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<Self::Image>, PullError>> + Send;

    /// Brings what is missing of an image. May be dropped at any time.
    fn keep(
        &self,
        found: &Found,
        source: &Origin<'_>,
    ) -> impl Future<Output = Result<Self::Image, PullError>> + Send;
}

/// An image whose manifest and configuration are here, each with the digest that was said.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the manifest for the platform.
    pub digest: Digest,
    pub manifest: Manifest,
    pub manifest_json: Vec<u8>,
    pub config: ImageConfig,
    pub config_json: Vec<u8>,
    /// Of each layer's archive without compression, the lowest first; as many as the manifest has layers.
    pub diff_ids: Vec<Digest>,
}

impl Pull {
    /// Brings an image, or takes the one that is here: by its digest without asking anybody, by its tag if it is still the same.
    ///
    /// When no registry can be reached and the name was pulled before, that image is given. May be dropped at any time: what has
    /// come whole stays in the cache, all else goes.
    ///
    /// # Errors
    /// [`PullError`]; that of the registry itself where its mirrors failed, too.
    pub async fn run<K: Keep>(
        &self,
        keeper: &K,
        reference: &Reference,
        registries: &Registries,
        progress: &Progress,
    ) -> Result<K::Image, PullError> {
        let name = name(reference, &self.platform);
        if reference.digest().is_some()
            && let Some(image) = keeper.named(&name).await?
        {
            return Ok(image);
        }
        let pulled = tokio::time::timeout(self.time_limit, self.ask(keeper, reference, registries, progress));
        match pulled.await {
            Ok(Ok(image)) => Ok(image),
            Ok(Err(PullError::Away {
                registry,
                last,
                tries,
                waited,
            })) => match keeper.named(&name).await? {
                Some(image) => {
                    tracing::warn!(%reference, "registry {registry} is away ({last}); the image that is here is used");
                    Ok(image)
                }
                None => Err(PullError::Away {
                    registry,
                    last,
                    tries,
                    waited,
                }),
            },
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let seen = progress.seen();
                Err(PullError::TooLate {
                    image: reference.to_string(),
                    limit: self.time_limit,
                    bytes: seen.bytes,
                    total_bytes: seen.total_bytes,
                })
            }
        }
    }

    /// Asks the mirrors, then the registry itself.
    async fn ask<K: Keep>(
        &self,
        keeper: &K,
        reference: &Reference,
        registries: &Registries,
        progress: &Progress,
    ) -> Result<K::Image, PullError> {
        let mut endpoints = registries.endpoints(reference.registry()).into_iter().peekable();
        let (mut has_no_copy, mut of_others) = (None, None);
        loop {
            let Some(asked) = endpoints.next() else {
                return Err(PullError::Unusable {
                    registry: reference.registry().to_owned(),
                    what: "there is nobody to ask".to_owned(),
                });
            };
            let is_first = asked.is_first;
            let source = Origin {
                pull: self,
                reference,
                progress,
                client: self.client(asked, registries, reference)?,
            };
            match source.image(keeper).await {
                Err(PullError::NoSuchTag { registry, said, .. })
                    if is_first && endpoints.peek().is_some() =>
                {
                    tracing::info!(%reference, "{registry}, which is asked first, has no copy{said}");
                    has_no_copy = Some((registry, said));
                }
                // The registry itself may have more platforms than was brought to a mirror.
                Err(error @ PullError::NoSuchPlatform { .. }) if endpoints.peek().is_some() => {
                    tracing::info!(%reference, "a mirror has it for other machines: {error}");
                    of_others = Some(error);
                }
                Err(error) if error.is_of_the_registry() && endpoints.peek().is_some() => {
                    tracing::warn!(%reference, "a mirror does not give it: {error}");
                }
                Err(error) => {
                    let says_nothing = matches!(error, PullError::Away { .. } | PullError::NoSuchTag { .. });
                    return Err(match of_others {
                        Some(known) if says_nothing => known,
                        _ => error.with_no_copy(has_no_copy),
                    });
                }
                done => return done,
            }
        }
    }

    fn client(
        &self,
        asked: Asked,
        registries: &Registries,
        reference: &Reference,
    ) -> Result<Client, PullError> {
        Client::new(asked, &registries.reach, reference.repository(), self.patience)
    }
}

impl PullError {
    /// Of a registry that is away, with who has no copy of what it has.
    fn with_no_copy(self, whose: Option<(String, String)>) -> PullError {
        match (self, whose) {
            (
                PullError::Away {
                    registry,
                    last,
                    tries,
                    waited,
                },
                Some((server, said)),
            ) => PullError::Away {
                registry,
                last: format!("{last}, and {server} has no copy of the image{said}"),
                tries,
                waited,
            },
            (error, _) => error,
        }
    }

    /// Whether another registry might give what this one does not.
    fn is_of_the_registry(&self) -> bool {
        !matches!(
            self,
            PullError::Folder { .. }
                | PullError::Store { .. }
                | PullError::StoreFull { .. }
                | PullError::TooLarge { .. }
        )
    }
}

fn name(reference: &Reference, platform: &Platform) -> String {
    format!("{reference} {platform}")
}

/// One image at one endpoint.
pub struct Origin<'a> {
    pub pull: &'a Pull,
    pub reference: &'a Reference,
    pub progress: &'a Progress,
    client: Client,
}

impl Origin<'_> {
    /// Under which the image is kept: the reference, and what it has to run on.
    pub fn name(&self) -> String {
        name(self.reference, &self.pull.platform)
    }

    /// Brings a blob of the image, from its byte `from` on. What comes is not compared with its digest here.
    ///
    /// # Errors
    /// What asking again does not change, and [`PullError::Away`] when nothing new has come for too long.
    pub async fn blob(&self, blob: &Descriptor, from: u64, sink: &mut impl Sink) -> Result<Ended, PullError> {
        fetch(&self.client, blob, from, self.pull.patience, self.progress, sink).await
    }

    async fn image<K: Keep>(&self, keeper: &K) -> Result<K::Image, PullError> {
        let (digest, manifest, manifest_json) = self.manifest().await?;
        if let Some(image) = keeper.kept(&self.name(), &digest).await? {
            return Ok(image);
        }
        let config_json = self.small(&manifest.config).await?;
        let (config, diff_ids) = ImageConfig::read(&config_json).map_err(|why| PullError::BadConfig {
            image: self.reference.to_string(),
            why,
        })?;
        if !suits(&config.platform, &self.pull.platform) {
            return Err(self.no_such_platform(vec![config.platform.to_string()]));
        }
        if diff_ids.len() != manifest.layers.len() {
            return Err(PullError::LayersDiffer {
                image: self.reference.to_string(),
                manifest: manifest.layers.len(),
                config: diff_ids.len(),
            });
        }
        let total = manifest
            .layers
            .iter()
            .map(|layer| layer.size_bytes)
            .fold(0, u64::saturating_add);
        let count = u32::try_from(manifest.layers.len()).unwrap_or(u32::MAX);
        self.progress.begin(total, count);
        let found = Found {
            digest,
            manifest,
            manifest_json,
            config,
            config_json,
            diff_ids,
        };
        keeper.keep(&found, self).await
    }

    /// The manifest for the platform, and its digest.
    async fn manifest(&self) -> Result<(Digest, Manifest, Vec<u8>), PullError> {
        let mut asked_for = self.reference.asked_for();
        let mut expected = self.reference.digest().cloned();
        for _ in 0..LIMIT_NESTED {
            let json = self.json(&asked_for, expected.as_ref()).await?;
            let digest = expected.unwrap_or_else(|| Digest::of(&json));
            let document = Document::read(&json).map_err(|why| PullError::BadManifest {
                registry: self.client.name().to_owned(),
                image: self.reference.to_string(),
                why,
            })?;
            let index = match document {
                Document::Manifest(manifest) => return Ok((digest, manifest, json)),
                Document::Index(index) => index,
            };
            let Some(chosen) = index.choose(&self.pull.platform) else {
                return Err(self.no_such_platform(index.platforms()));
            };
            asked_for = chosen.digest.to_string();
            expected = Some(chosen.digest.clone());
        }
        Err(PullError::Unusable {
            registry: self.client.name().to_owned(),
            what: format!(
                "{} is an index of indexes, more than {LIMIT_NESTED} deep",
                self.reference
            ),
        })
    }

    /// A manifest or an index, whose digest is the one that is expected.
    async fn json(&self, asked_for: &str, expected: Option<&Digest>) -> Result<Vec<u8>, PullError> {
        let patience = self.pull.patience;
        manifest(&self.client, patience, self.reference, asked_for, expected).await
    }

    /// A blob that is small enough to be held: a configuration.
    async fn small(&self, blob: &Descriptor) -> Result<Vec<u8>, PullError> {
        if blob.size_bytes > CONFIG_LIMIT_BYTES as u64 {
            return Err(PullError::BadConfig {
                image: self.reference.to_string(),
                why: crate::image::BadConfig::TooLong {
                    bytes: usize::try_from(blob.size_bytes).unwrap_or(usize::MAX),
                },
            });
        }
        let mut whole = Whole(Vec::new());
        // What counts as come is layers.
        let unseen = Progress::default();
        fetch(&self.client, blob, 0, self.pull.patience, &unseen, &mut whole).await?;
        same(&self.client, "the configuration", Some(&blob.digest), &whole.0)?;
        Ok(whole.0)
    }

    fn no_such_platform(&self, there: Vec<String>) -> PullError {
        PullError::NoSuchPlatform {
            image: self.reference.to_string(),
            wanted: self.pull.platform.clone(),
            there,
        }
    }

    /// The error for bytes that have another digest than was said.
    pub fn other_bytes(&self, what: String, expected: Digest, actual: Digest) -> PullError {
        PullError::WrongDigest {
            registry: self.client.name().to_owned(),
            what,
            expected,
            actual,
        }
    }
}

/// A blob that is held whole.
struct Whole(Vec<u8>);

impl Sink for Whole {
    async fn take(&mut self, bytes: Bytes) -> bool {
        self.0.extend_from_slice(&bytes);
        true
    }
}
