//! What is pulled is unpacked into the cache: an image's layers come at the same time, each unpacked while it comes.

use std::future::Future;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use crate::cache::{Cache, Incoming, Layer, Reservation};
use crate::digest::Digest;
use crate::image::Image;
use crate::layer::{self, Bounds, Expected, LayerError, Unpacked};
use crate::manifest::Descriptor;
use crate::pull::{Found, Keep, Origin};
use crate::registry::{Ended, PullError, Sink};

/// Chunks that wait for the unpacker; a chunk of reqwest's has some 16 KiB, 1 MiB at most.
const CHUNKS: usize = 16;

impl Keep for Arc<Cache> {
    type Image = Image;

    async fn named(&self, name: &str) -> Result<Option<Image>, PullError> {
        Ok(Cache::named(self, name))
    }

    async fn kept(&self, name: &str, digest: &Digest) -> Result<Option<Image>, PullError> {
        let Some(image) = self.image(digest) else {
            return Ok(None);
        };
        self.keep_name(name, digest)
            .map_err(|error| folder(self, &error))?;
        Ok(Some(image))
    }

    async fn keep(&self, found: &Found, source: &Origin<'_>) -> Result<Image, PullError> {
        let into = Into { cache: self, source };
        let layers = into.layers(found).await?;
        let kept = self.keep_image(
            &found.digest,
            &found.config_json,
            found.config.clone(),
            &found.diff_ids,
            &layers,
        );
        kept.map_err(|error| folder(self, &error))?;
        self.kept(&source.name(), &found.digest)
            .await?
            .ok_or_else(|| folder(self, &io::Error::other("the image that was kept is gone")))
    }
}

fn folder(cache: &Cache, error: &io::Error) -> PullError {
    PullError::Folder {
        path: cache.folder().display().to_string(),
        what: error.to_string(),
    }
}

/// A pull that ends in a cache.
struct Into<'a> {
    cache: &'a Arc<Cache>,
    source: &'a Origin<'a>,
}

impl Into<'_> {
    async fn layers(&self, found: &Found) -> Result<Vec<Arc<Layer>>, PullError> {
        let each = found.manifest.layers.iter().zip(&found.diff_ids).enumerate();
        let each: Vec<_> = each
            .map(|(at, (blob, diff_id))| async move { Ok((at, self.layer(blob, diff_id).await?)) })
            .collect();
        // A slow one does not hold the others up; their order is the manifest's.
        let come = stream::iter(each).buffer_unordered(self.source.pull.at_once.max(1));
        let mut layers: Vec<(usize, Arc<Layer>)> = come.try_collect().await?;
        layers.sort_by_key(|(at, _)| *at);
        Ok(layers.into_iter().map(|(_, layer)| layer).collect())
    }

    async fn layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<Arc<Layer>, PullError> {
        // The same layer may be another pull's, or twice this image's.
        let turn = self.cache.turn(diff_id);
        let _turn = turn.lock().await;
        if let Some(layer) = self.cache.layer(diff_id) {
            self.source.progress.came(blob.size_bytes);
            self.source.progress.layer_is_here();
            return Ok(layer);
        }
        let incoming = self
            .cache
            .incoming()
            .map_err(|error| folder(self.cache, &error))?;
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let unpacker = self.unpacker(incoming, receiver, blob, diff_id);
        let unpacking = tokio::task::spawn_blocking(unpacker);
        let mut pipe = Pipe(sender);
        let came = self.source.blob(blob, 0, &mut pipe).await;
        if let Ok(Ended::Whole) = came {
            pipe.end().await;
        }
        drop(pipe);
        let unpacked = unpacking
            .await
            .map_err(|error| folder(self.cache, &io::Error::other(error)))?;
        let layer = match (came, unpacked) {
            (Err(error), _) => return Err(error),
            (_, Err(NotUnpacked::Folder(error))) => return Err(folder(self.cache, &error)),
            (_, Err(NotUnpacked::Layer(error))) => return Err(self.refused(blob, error)),
            (Ok(_), Ok((incoming, unpacked, reservation))) => {
                if unpacked.attributes_left_out > 0 {
                    let count = unpacked.attributes_left_out;
                    tracing::info!(layer = %blob.digest, count, "attributes are left out that this filesystem does not have");
                }
                self.cache
                    .keep_layer(diff_id, incoming, unpacked, reservation)
                    .map_err(|error| folder(self.cache, &error))?
            }
        };
        self.source.progress.layer_is_here();
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
            entries: self.source.pull.layer_entries,
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
            } => self
                .source
                .other_bytes(format!("{what} {}", blob.digest), expected, actual),
            LayerError::NoRoom { .. } | LayerError::TooMuch { of: "B", .. } => {
                let held = self.cache.held();
                PullError::TooLarge {
                    image: self.source.reference.to_string(),
                    need: error.to_string(),
                    limit_bytes: held.limit_bytes,
                    in_use_bytes: held.in_use_bytes,
                }
            }
            why => PullError::Layer {
                image: self.source.reference.to_string(),
                layer: blob.digest.clone(),
                why: Box::new(why),
            },
        }
    }
}

enum NotUnpacked {
    Folder(io::Error),
    Layer(LayerError),
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
    fn take(&mut self, bytes: Bytes) -> impl Future<Output = bool> + Send {
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
