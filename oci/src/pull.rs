//! An image comes from a registry: manifest, configuration, and its layers at the same time, each unpacked while it comes.

use std::future::Future;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use crate::cache::{Cache, Incoming, Layer, Reservation};
use crate::digest::Digest;
use crate::image::{CONFIG_LIMIT_BYTES, Image, ImageConfig, Platform};
use crate::layer::{self, Bounds, Expected, LayerError, Unpacked};
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
/// Chunks that wait for the unpacker; a chunk of reqwest's has some 16 KiB, 1 MiB at most.
const CHUNKS: usize = 16;

impl Pull {
    /// Brings an image, or takes the one that is here: by its digest without asking anybody, by its tag if it is still the same.
    ///
    /// When no registry can be reached and the name was pulled before, that image is given. May be dropped at any time: what has
    /// come whole stays in the cache, all else goes.
    ///
    /// # Errors
    /// [`PullError`]; that of the registry itself where its mirrors failed, too.
    pub async fn run(
        &self,
        cache: &Arc<Cache>,
        reference: &Reference,
        registries: &Registries,
        progress: &Progress,
    ) -> Result<Image, PullError> {
        let name = format!("{reference} {}", self.platform);
        if reference.digest().is_some()
            && let Some(image) = cache.named(&name)
        {
            return Ok(image);
        }
        let pulled = tokio::time::timeout(
            self.time_limit,
            self.ask(cache, reference, registries, progress, &name),
        );
        match pulled.await {
            Ok(Ok(image)) => Ok(image),
            Ok(Err(PullError::Away {
                registry,
                last,
                tries,
                waited,
            })) => match cache.named(&name) {
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
    async fn ask(
        &self,
        cache: &Arc<Cache>,
        reference: &Reference,
        registries: &Registries,
        progress: &Progress,
        name: &str,
    ) -> Result<Image, PullError> {
        let mut endpoints = registries.endpoints(reference.registry()).into_iter().peekable();
        let mut has_no_copy = None;
        loop {
            let Some(asked) = endpoints.next() else {
                return Err(PullError::Unusable {
                    registry: reference.registry().to_owned(),
                    what: "there is nobody to ask".to_owned(),
                });
            };
            let is_first = asked.is_first;
            let from = From {
                pull: self,
                cache,
                reference,
                progress,
                client: self.client(asked, registries, reference)?,
            };
            match from.image(name).await {
                Err(PullError::NoSuchTag { registry, said, .. })
                    if is_first && endpoints.peek().is_some() =>
                {
                    tracing::info!(%reference, "{registry}, which is asked first, has no copy{said}");
                    has_no_copy = Some((registry, said));
                }
                Err(error) if error.is_of_the_registry() && endpoints.peek().is_some() => {
                    tracing::warn!(%reference, "a mirror does not give it: {error}");
                }
                Err(error) => return Err(error.with_no_copy(has_no_copy)),
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
        !matches!(self, PullError::Folder { .. } | PullError::TooLarge { .. })
    }
}

/// A pull from one endpoint.
struct From<'a> {
    pull: &'a Pull,
    cache: &'a Arc<Cache>,
    reference: &'a Reference,
    progress: &'a Progress,
    client: Client,
}

impl From<'_> {
    async fn image(&self, name: &str) -> Result<Image, PullError> {
        let (digest, manifest) = self.manifest().await?;
        if let Some(image) = self.cache.image(&digest) {
            self.keep_name(name, &digest)?;
            return Ok(image);
        }
        let json = self.small(&manifest.config).await?;
        let (config, diff_ids) = ImageConfig::read(&json).map_err(|why| PullError::BadConfig {
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
        let layers = self.layers(&manifest, &diff_ids).await?;
        self.cache
            .keep_image(&digest, &json, config, &diff_ids, &layers)
            .map_err(|error| self.folder(&error))?;
        self.keep_name(name, &digest)?;
        self.cache
            .image(&digest)
            .ok_or_else(|| self.folder(&io::Error::other("the image that was kept is gone")))
    }

    /// The manifest for the platform, and its digest.
    async fn manifest(&self) -> Result<(Digest, Manifest), PullError> {
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
                Document::Manifest(manifest) => return Ok((digest, manifest)),
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
        fetch(&self.client, blob, self.pull.patience, &unseen, &mut whole).await?;
        same(&self.client, "the configuration", Some(&blob.digest), &whole.0)?;
        Ok(whole.0)
    }

    async fn layers(&self, manifest: &Manifest, diff_ids: &[Digest]) -> Result<Vec<Arc<Layer>>, PullError> {
        let total = manifest
            .layers
            .iter()
            .map(|layer| layer.size_bytes)
            .fold(0, u64::saturating_add);
        let count = u32::try_from(manifest.layers.len()).unwrap_or(u32::MAX);
        self.progress.begin(total, count);
        let each = manifest.layers.iter().zip(diff_ids).enumerate();
        let each: Vec<_> = each
            .map(|(at, (blob, diff_id))| async move { Ok((at, self.layer(blob, diff_id).await?)) })
            .collect();
        // A slow one does not hold the others up; their order is the manifest's.
        let come = stream::iter(each).buffer_unordered(self.pull.at_once.max(1));
        let mut layers: Vec<(usize, Arc<Layer>)> = come.try_collect().await?;
        layers.sort_by_key(|(at, _)| *at);
        Ok(layers.into_iter().map(|(_, layer)| layer).collect())
    }

    async fn layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<Arc<Layer>, PullError> {
        // The same layer may be another pull's, or twice this image's.
        let turn = self.cache.turn(diff_id);
        let _turn = turn.lock().await;
        if let Some(layer) = self.cache.layer(diff_id) {
            self.progress.came(blob.size_bytes);
            self.progress.layer_is_here();
            return Ok(layer);
        }
        let incoming = self.cache.incoming().map_err(|error| self.folder(&error))?;
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let unpacker = self.unpacker(incoming, receiver, blob, diff_id);
        let unpacking = tokio::task::spawn_blocking(unpacker);
        let mut pipe = Pipe(sender);
        let came = fetch(&self.client, blob, self.pull.patience, self.progress, &mut pipe).await;
        if let Ok(Ended::Whole) = came {
            pipe.end().await;
        }
        drop(pipe);
        let unpacked = unpacking
            .await
            .map_err(|error| self.folder(&io::Error::other(error)))?;
        let layer = match (came, unpacked) {
            (Err(error), _) => return Err(error),
            (_, Err(NotUnpacked::Folder(error))) => return Err(self.folder(&error)),
            (_, Err(NotUnpacked::Layer(error))) => return Err(self.refused(blob, error)),
            (Ok(_), Ok((incoming, unpacked, reservation))) => {
                if unpacked.attributes_left_out > 0 {
                    let count = unpacked.attributes_left_out;
                    tracing::info!(layer = %blob.digest, count, "attributes are left out that this filesystem does not have");
                }
                self.cache
                    .keep_layer(diff_id, incoming, unpacked, reservation)
                    .map_err(|error| self.folder(&error))?
            }
        };
        self.progress.layer_is_here();
        Ok(layer)
    }

    /// What unpacks a layer on a thread of its own, whatever becomes of the pull: without its end it throws all away.
    fn unpacker(
        &self,
        incoming: Incoming,
        receiver: mpsc::Receiver<Piece>,
        blob: &Descriptor,
        diff_id: &Digest,
    ) -> impl FnOnce() -> Result<(Incoming, Unpacked, Reservation), NotUnpacked> + use<> {
        let expected = Expected {
            blob: blob.digest.clone(),
            archive: diff_id.clone(),
        };
        let bounds = Bounds {
            archive_bytes: self.cache.held().limit_bytes,
            entries: self.pull.layer_entries,
        };
        let mut reservation = Reservation::new(self.cache);
        move || {
            let tree = incoming.tree().map_err(NotUnpacked::Folder)?;
            let pieces = Pieces {
                receiver,
                current: Bytes::new(),
                has_ended: false,
            };
            let unpacked = layer::unpack(pieces, &tree, &expected, bounds, &mut reservation);
            let unpacked = unpacked.map_err(NotUnpacked::Layer)?;
            Ok((incoming, unpacked, reservation))
        }
    }

    fn refused(&self, blob: &Descriptor, error: LayerError) -> PullError {
        match error {
            LayerError::WrongDigest {
                what,
                expected,
                actual,
            } => self.other_bytes(format!("{what} {}", blob.digest), expected, actual),
            LayerError::NoRoom { .. } | LayerError::TooMuch { of: "B", .. } => {
                let held = self.cache.held();
                PullError::TooLarge {
                    image: self.reference.to_string(),
                    need: error.to_string(),
                    limit_bytes: held.limit_bytes,
                    in_use_bytes: held.in_use_bytes,
                }
            }
            why => PullError::Layer {
                image: self.reference.to_string(),
                layer: blob.digest.clone(),
                why: Box::new(why),
            },
        }
    }

    fn keep_name(&self, name: &str, digest: &Digest) -> Result<(), PullError> {
        self.cache
            .keep_name(name, digest)
            .map_err(|error| self.folder(&error))
    }

    fn no_such_platform(&self, there: Vec<String>) -> PullError {
        PullError::NoSuchPlatform {
            image: self.reference.to_string(),
            wanted: self.pull.platform.clone(),
            there,
        }
    }

    fn other_bytes(&self, what: String, expected: Digest, actual: Digest) -> PullError {
        PullError::WrongDigest {
            registry: self.client.name().to_owned(),
            what,
            expected,
            actual,
        }
    }

    fn folder(&self, error: &io::Error) -> PullError {
        PullError::Folder {
            path: self.cache.folder().display().to_string(),
            what: error.to_string(),
        }
    }
}

enum NotUnpacked {
    Folder(io::Error),
    Layer(LayerError),
}

/// A blob that is held whole.
struct Whole(Vec<u8>);

impl Sink for Whole {
    async fn take(&mut self, bytes: Bytes) -> bool {
        self.0.extend_from_slice(&bytes);
        true
    }
}

/// What flows to the thread that unpacks. Without an end it was given up.
enum Piece {
    Bytes(Bytes),
    End,
}

struct Pipe(mpsc::Sender<Piece>);

impl Pipe {
    async fn end(&mut self) {
        // Who does not listen any more has said why.
        let _ = self.0.send(Piece::End).await;
    }
}

impl Sink for Pipe {
    fn take(&mut self, bytes: Bytes) -> impl Future<Output = bool> {
        let sent = self.0.send(Piece::Bytes(bytes));
        async { sent.await.is_ok() }
    }
}

/// Reads what comes down the pipe as one stream.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    has_ended: bool,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.has_ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.has_ended = true,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::BrokenPipe,
                        "the transfer was given up",
                    ));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount.min(self.current.len()));
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let length = from.len().min(into.len());
        into[..length].copy_from_slice(&from[..length]);
        self.consume(length);
        Ok(length)
    }
}
