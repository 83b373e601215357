//! A blob that comes from outside: fetched once, and given to all who ask for it while it comes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use oci::registry::Source;
use store::blobs::{Digest, Incoming};
use tokio::sync::{mpsc, watch};

use crate::written;

/// Pieces that wait to be written; one of reqwest's has some 16 KiB, 1 MiB at most.
const PIECES: usize = 16;
/// Read at once for one who asks.
const READ_BYTES: u64 = 64 << 10;

/// A blob on its way. Clones are of the same.
#[derive(Clone)]
pub(crate) struct Flight {
    pub(crate) size_bytes: u64,
    /// Has what came; the name of it goes.
    file: Arc<File>,
    state: watch::Receiver<State>,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    /// So many bytes may be read.
    Coming(u64),
    /// It is a blob.
    Here,
    /// In words.
    Failed(Arc<str>),
}

impl Flight {
    /// Begins one, and has it go on whoever waits. `done` is run at its end, whatever that is.
    ///
    /// # Errors
    /// When there is no file for it.
    pub(crate) async fn begin(
        incoming: Incoming,
        sources: Vec<Source>,
        digest: Digest,
        size_bytes: u64,
        done: impl FnOnce() + Send + 'static,
    ) -> io::Result<Flight> {
        let path = incoming
            .path()
            .ok_or_else(|| io::Error::other("there is no file for what comes"))?;
        let file = tokio::task::spawn_blocking(move || File::open(path)).await;
        let file = file.map_err(io::Error::other)??;
        let (tell, state) = watch::channel(State::Coming(0));
        tokio::spawn(async move {
            let ended = match fetch(incoming, sources, digest, size_bytes, &tell).await {
                Ok(()) => State::Here,
                Err(why) => {
                    tracing::warn!("blob {} is not fetched: {why}", written(&digest));
                    State::Failed(why.into())
                }
            };
            done();
            // Nobody may be waiting.
            let _ = tell.send(ended);
        });
        Ok(Flight {
            size_bytes,
            file: Arc::new(file),
            state,
        })
    }

    /// Waits until bytes are there, or it has failed.
    ///
    /// # Errors
    /// In words: it has failed.
    pub(crate) async fn begun(&self) -> Result<(), String> {
        let mut state = self.state.clone();
        let there = state
            .wait_for(|state| !matches!(state, State::Coming(0)) || self.size_bytes <= 1)
            .await;
        match there.as_deref() {
            Ok(State::Failed(why)) => Err(why.to_string()),
            Ok(_) => Ok(()),
            Err(_) => Err("its fetching broke off".to_owned()),
        }
    }

    /// Its bytes from `from` on, as they come. The last one comes when all are those of the digest; else the stream ends with an error.
    pub(crate) fn bytes(self, from: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold((self, from), |(mut flight, at)| async move {
            if at >= flight.size_bytes {
                return Ok(None);
            }
            let held_back = flight.size_bytes - 1;
            let there = loop {
                let there = match &*flight.state.borrow_and_update() {
                    State::Coming(there) => (*there).min(held_back),
                    State::Here => flight.size_bytes,
                    State::Failed(why) => return Err(io::Error::other(why.to_string())),
                };
                if there > at {
                    break there;
                }
                flight.state.changed().await.map_err(io::Error::other)?;
            };
            let file = flight.file.clone();
            let some = (there - at).min(READ_BYTES);
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; usize::try_from(some).unwrap_or_default()];
                file.read_exact_at(&mut bytes, at)?;
                Ok::<_, io::Error>(Bytes::from(bytes))
            });
            let bytes = read.await.map_err(io::Error::other)??;
            Ok(Some((bytes, (flight, at + some))))
        })
    }
}

/// From the first source that gives all of it; one that gives other bytes is passed over.
async fn fetch(
    incoming: Incoming,
    sources: Vec<Source>,
    digest: Digest,
    size_bytes: u64,
    tell: &watch::Sender<State>,
) -> Result<(), String> {
    let name: oci::Digest = written(&digest)
        .parse()
        .map_err(|error: oci::NotADigest| error.to_string())?;
    let mut incoming = incoming;
    let mut why = "nobody is asked for it".to_owned();
    for source in sources {
        // What one has sent cannot be taken back from those who have it: another goes on only where nothing came.
        if incoming.len_bytes() > 0 {
            break;
        }
        let (sender, mut pieces) = mpsc::channel(PIECES);
        let fetching = source.blob(&name, size_bytes, sender);
        let taking = async {
            while let Some(piece) = pieces.recv().await {
                incoming.write(&piece).await.map_err(|error| error.to_string())?;
                let _ = tell.send(State::Coming(incoming.written_bytes()));
            }
            Ok::<(), String>(())
        };
        match tokio::join!(fetching, taking) {
            (_, Err(error)) => return Err(error),
            (Err(error), _) => why = error.to_string(),
            (Ok(_), Ok(())) => return incoming.keep(&digest).await.map_err(|error| error.to_string()),
        }
    }
    Err(why)
}
