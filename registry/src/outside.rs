//! Registries outside, which the server asks for machines: what they give is kept, and given again without asking.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci::Reference;
use oci::registry::{Patience, PullError, Registries, Source};
use store::blobs::Digest;
use tokio::sync::Mutex as Turn;

use crate::document::{BadDocument, Document};
use crate::flight::Flight;
use crate::shelf::Shelf;

/// How long a tag means what its registry said, before that is asked again.
pub const FRESH: Duration = Duration::from_secs(60);
/// A machine waits for 30 s for the head of an answer.
const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(10),
    stall: Duration::from_secs(20),
    give_up_after: Duration::from_secs(20),
    first_pause: Duration::from_millis(250),
};

/// Which registries are asked, and how.
#[derive(Clone, Debug)]
pub struct Outside {
    /// By the names that references have; others are not asked.
    names: BTreeSet<String>,
    registries: Registries,
    patience: Patience,
    tag_is_fresh_for: Duration,
    under_way: Arc<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    flights: Turn<HashMap<Digest, Flight>>,
    /// Who asks for the same name waits for the one who asked first.
    turns: Mutex<HashMap<String, Arc<Turn<()>>>>,
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnderWay")
    }
}

/// A manifest that a registry gave.
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    pub(crate) document: Document,
    pub(crate) bytes: Vec<u8>,
}

/// Why a registry outside gives no manifest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFetched {
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error("what registry {registry} has as {image} is refused: {why}")]
    Bad {
        registry: String,
        image: String,
        why: BadDocument,
    },
}

impl Outside {
    /// Nobody is asked.
    pub fn nobody() -> Outside {
        Outside::new(BTreeSet::new(), Registries::default())
    }

    pub fn new(names: BTreeSet<String>, registries: Registries) -> Outside {
        Outside {
            names,
            registries,
            patience: PATIENCE,
            tag_is_fresh_for: FRESH,
            under_way: Arc::default(),
        }
    }

    /// The same with other times: for tests.
    pub fn with_times(self, patience: Patience, tag_is_fresh_for: Duration) -> Outside {
        Outside {
            patience,
            tag_is_fresh_for,
            ..self
        }
    }

    /// Whether a registry is asked.
    pub(crate) fn has(&self, registry: &str) -> bool {
        self.names.contains(registry)
    }

    pub(crate) fn tag_is_fresh_for(&self) -> Duration {
        self.tag_is_fresh_for
    }

    /// Whose turn it is to ask for a name.
    pub(crate) fn turn(&self, image: &Reference) -> Arc<Turn<()>> {
        let mut turns = self
            .under_way
            .turns
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Those that nobody has any more.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(image.to_string()).or_default().clone()
    }

    /// The manifest or index of a name.
    pub(crate) async fn manifest(&self, image: &Reference) -> Result<Fetched, NotFetched> {
        let mut last = None;
        for source in Source::all(&self.registries, image, self.patience)? {
            match source.manifest().await {
                Ok(bytes) => {
                    let document = Document::read(&bytes).map_err(|why| NotFetched::Bad {
                        registry: source.name().to_owned(),
                        image: image.to_string(),
                        why,
                    })?;
                    return Ok(Fetched {
                        digest: Digest::of(&bytes),
                        document,
                        bytes,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(
            || {
                NotFetched::Pull(PullError::Unusable {
                    registry: image.registry().to_owned(),
                    what: "there is nobody to ask".to_owned(),
                })
            },
            NotFetched::Pull,
        ))
    }

    /// A blob that comes, for whoever asks first and for all who ask meanwhile; `None`: it is there by now.
    ///
    /// # Errors
    /// In words: it cannot begin.
    pub(crate) async fn blob(
        &self,
        shelf: &Shelf,
        image: &Reference,
        digest: Digest,
        size_bytes: u64,
    ) -> Result<Option<Flight>, String> {
        let mut flights = self.under_way.flights.lock().await;
        if let Some(flight) = flights.get(&digest) {
            return Ok(Some(flight.clone()));
        }
        // One that has ended leaves when its blob is there.
        let is_there = shelf.blobs().exists(&digest).await;
        if is_there.map_err(|error| error.to_string())? {
            return Ok(None);
        }
        let sources =
            Source::all(&self.registries, image, self.patience).map_err(|error| error.to_string())?;
        let incoming = shelf
            .blobs()
            .incoming()
            .await
            .map_err(|error| error.to_string())?;
        let under_way = self.under_way.clone();
        let done = move || {
            tokio::spawn(async move {
                under_way.flights.lock().await.remove(&digest);
            });
        };
        let flight = Flight::begin(incoming, sources, digest, size_bytes, done)
            .await
            .map_err(|error| error.to_string())?;
        flights.insert(digest, flight.clone());
        Ok(Some(flight))
    }
}
