//! Layers and images that are here, by digest, within a bound of bytes.
//!
//! A layer is unpacked in `incoming/` and moved to `layers/` when it is whole and synced: what is half unpacked is never seen, and
//! is gone when the folder is opened again. What an [`Image`] has in hand is in use and stays; of all else the one goes first that
//! was used longest ago. One process uses a folder.

mod folders;
mod room;
mod written;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::FlockOperation;

use crate::digest::Digest;
use crate::image::{Image, ImageConfig};
use crate::layer::Unpacked;
pub(crate) use room::Reservation;
pub(crate) use written::Incoming;

/// A folder of layers and images.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    limit_bytes: u64,
    state: Mutex<State>,
    /// Locked as long as this is here.
    lock: File,
}

/// What is here, for who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub bytes: u64,
    pub in_use_bytes: u64,
    pub limit_bytes: u64,
    pub layers: u64,
    pub images: u64,
}

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("the folder of images {} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("{what} {} failed", .path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Default)]
struct State {
    layers: BTreeMap<Digest, Kept>,
    images: BTreeMap<Digest, Record>,
    /// What references were found to be.
    names: BTreeMap<String, Digest>,
    /// Of layers that are being unpacked.
    reserved_bytes: u64,
    /// Counts uses, for the order of what goes.
    uses: u64,
    next_incoming: u64,
    turns: BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>,
}

#[derive(Debug)]
struct Kept {
    layer: Arc<Layer>,
    used: u64,
}

#[derive(Debug)]
struct Record {
    config: ImageConfig,
    layers: Vec<Digest>,
    /// The layer on top of the others that mends the owners of folders, where one is needed.
    folders: Option<PathBuf>,
    bytes: u64,
}

/// A layer that is here. As long as somebody has it, it stays.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) tree: PathBuf,
    pub(crate) held_bytes: u64,
    /// Folders whose owner a lower layer says, in order.
    pub(crate) implied: Vec<Vec<u8>>,
}

impl Drop for Cache {
    fn drop(&mut self) {
        // flock(2): closing it would leave the lock to a process that was forked and has not begun its program yet.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Cache {
    /// Opens a folder, which is made where it is missing; what was half done in it goes.
    ///
    /// `limit_bytes` is for layers and images together.
    ///
    /// # Errors
    /// [`CacheError`]. A layer or an image in it that is damaged is no error: it goes.
    pub fn open(folder: &Path, limit_bytes: u64) -> Result<Arc<Cache>, CacheError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Io { what, path, source }
        };
        fs::create_dir_all(folder).map_err(io("making", folder))?;
        // Images have programs that run as root whoever starts them: nobody else on this machine is to reach one.
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(folder, private).map_err(io("closing", folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(io("making", &path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(CacheError::Locked(folder.to_owned())),
            Err(error) => return Err(io("locking", &path)(error.into())),
        }
        let incoming = folder.join("incoming");
        if incoming.exists() {
            fs::remove_dir_all(&incoming).map_err(io("emptying", &incoming))?;
        }
        for name in ["incoming", "layers", "images", "names"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(io("making", &path))?;
        }
        let mut state = State::default();
        written::read(folder, &mut state).map_err(io("reading", folder))?;
        let cache = Cache {
            folder: folder.to_owned(),
            limit_bytes,
            state: Mutex::new(state),
            lock,
        };
        // The bound may be a smaller one than before.
        cache.make_room(0, 0);
        Ok(Arc::new(cache))
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is here now.
    pub fn held(&self) -> Held {
        let state = self.state();
        Held {
            bytes: state.bytes(),
            in_use_bytes: state.in_use_bytes(),
            limit_bytes: self.limit_bytes,
            layers: state.layers.len() as u64,
            images: state.images.len() as u64,
        }
    }

    /// An image, by the digest of its manifest, if all of it is here.
    pub fn image(&self, digest: &Digest) -> Option<Image> {
        let mut state = self.state();
        let record = state.images.get(digest)?;
        let (config, digests, folders) = (
            record.config.clone(),
            record.layers.clone(),
            record.folders.clone(),
        );
        let held: Option<Vec<_>> = digests.iter().map(|digest| state.take(digest)).collect();
        let held = held?;
        let layers = held.iter().map(|layer| layer.tree.clone()).collect();
        let layers = folders::visible(layers).into_iter().chain(folders).collect();
        Some(Image {
            digest: digest.clone(),
            config,
            layers,
            _held: held,
        })
    }

    /// What a name was found to be when it was asked for last, if all of it is here.
    pub(crate) fn named(&self, name: &str) -> Option<Image> {
        let digest = self.state().names.get(name).cloned()?;
        self.image(&digest)
    }

    /// A layer, by the digest of its archive without packing.
    pub(crate) fn layer(&self, digest: &Digest) -> Option<Arc<Layer>> {
        self.state().take(digest)
    }

    /// Whoever has the lock of a layer brings it; the others wait, and find it here.
    pub(crate) fn turn(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut state = self.state();
        state.turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = state.turns.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        state.turns.insert(digest.clone(), Arc::downgrade(&turn));
        turn
    }

    /// A folder in which something is put together.
    pub(crate) fn incoming(&self) -> io::Result<Incoming> {
        let mut state = self.state();
        state.next_incoming += 1;
        Incoming::new(&self.folder.join("incoming").join(state.next_incoming.to_string()))
    }

    /// Keeps a layer that is unpacked.
    pub(crate) fn keep_layer(
        &self,
        digest: &Digest,
        incoming: Incoming,
        unpacked: Unpacked,
        reservation: Reservation,
    ) -> io::Result<Arc<Layer>> {
        let Unpacked {
            held_bytes, implied, ..
        } = unpacked;
        let to = self.folder.join("layers").join(written::name(digest));
        incoming.about(held_bytes, &implied)?;
        written::remove_if_there(&to)?;
        incoming.keep(&to)?;
        let layer = Arc::new(Layer {
            tree: to.join(written::TREE),
            held_bytes,
            implied,
        });
        let mut state = self.state();
        reservation.becomes_a_layer(&mut state);
        state.uses += 1;
        let used = state.uses;
        let layer_here = Arc::clone(&layer);
        state.layers.insert(digest.clone(), Kept { layer, used });
        Ok(layer_here)
    }

    /// Keeps an image whose layers are all here; `layers` are the lowest first.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn keep_image(
        &self,
        digest: &Digest,
        config_json: &[u8],
        config: ImageConfig,
        diff_ids: &[Digest],
        layers: &[Arc<Layer>],
    ) -> io::Result<()> {
        let to = self.folder.join("images").join(written::name(digest));
        let incoming = self.incoming()?;
        incoming.write(written::CONFIG, config_json)?;
        let mends = folders::mend(layers, &incoming.path(written::FOLDERS))?;
        written::remove_if_there(&to)?;
        incoming.keep(&to)?;
        let record = Record {
            config,
            layers: diff_ids.to_vec(),
            folders: mends.then(|| to.join(written::FOLDERS)),
            bytes: config_json.len() as u64,
        };
        self.state().images.insert(digest.clone(), record);
        Ok(())
    }

    /// Keeps what a name is found to be.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn keep_name(&self, name: &str, digest: &Digest) -> io::Result<()> {
        let before = self.state().names.insert(name.to_owned(), digest.clone());
        if before.as_ref() == Some(digest) {
            return Ok(());
        }
        let incoming = self.incoming()?;
        incoming.write("name", format!("{name}\n{digest}\n").as_bytes())?;
        let to = self
            .folder
            .join("names")
            .join(written::name(&Digest::of(name.as_bytes())));
        fs::rename(incoming.path("name"), to)
    }

    /// Reserves so many bytes; for what is needed of them, what is not in use goes. How many: all that are needed, or none.
    fn make_room(&self, needed: u64, wished: u64) -> Option<u64> {
        let mut gone = Vec::new();
        let mut state = self.state();
        // Nothing goes for what will not fit anyway.
        if state.in_use_bytes().saturating_add(needed) > self.limit_bytes {
            return None;
        }
        while state.taken_bytes().saturating_add(needed) > self.limit_bytes {
            let oldest = state.layers.iter().filter(|(_, kept)| !kept.is_in_use());
            let Some((oldest, _)) = oldest.min_by_key(|(_, kept)| kept.used) else {
                break;
            };
            let oldest = oldest.clone();
            let images = state.let_go(&oldest);
            gone.push(("layers", oldest));
            gone.extend(images.into_iter().map(|image| ("images", image)));
        }
        let free = self.limit_bytes.saturating_sub(state.taken_bytes());
        let reserved = (needed <= free).then(|| wished.clamp(needed, free));
        state.reserved_bytes += reserved.unwrap_or(0);
        // Out of the way first, so that nobody who brings the same meets it half removed.
        let moved: Vec<PathBuf> = gone
            .iter()
            .filter_map(|(kind, digest)| {
                state.next_incoming += 1;
                let to = self
                    .folder
                    .join("incoming")
                    .join(format!("gone-{}", state.next_incoming));
                let from = self.folder.join(kind).join(written::name(digest));
                fs::rename(from, &to).ok().map(|()| to)
            })
            .collect();
        drop(state);
        for path in moved {
            // What stays goes when the folder is opened again.
            let _ = fs::remove_dir_all(path);
        }
        reserved
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bytes(&self) -> u64 {
        let layers: u64 = self.layers.values().map(|kept| kept.layer.held_bytes).sum();
        layers + self.images.values().map(|image| image.bytes).sum::<u64>()
    }

    /// With what is being unpacked.
    fn taken_bytes(&self) -> u64 {
        self.bytes() + self.reserved_bytes
    }

    fn in_use_bytes(&self) -> u64 {
        let in_use = self.layers.values().filter(|kept| kept.is_in_use());
        in_use.map(|kept| kept.layer.held_bytes).sum::<u64>() + self.reserved_bytes
    }

    fn take(&mut self, digest: &Digest) -> Option<Arc<Layer>> {
        self.uses += 1;
        let used = self.uses;
        let kept = self.layers.get_mut(digest)?;
        kept.used = used;
        Some(Arc::clone(&kept.layer))
    }

    /// A layer goes, and with it the images that have it: which ones.
    fn let_go(&mut self, layer: &Digest) -> Vec<Digest> {
        self.layers.remove(layer);
        let images: Vec<Digest> = self
            .images
            .iter()
            .filter(|(_, image)| image.layers.contains(layer))
            .map(|(digest, _)| digest.clone())
            .collect();
        for image in &images {
            self.images.remove(image);
            self.names.retain(|_, named| named != image);
        }
        images
    }
}

impl Kept {
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.layer) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between fork and exec a process has a copy of every descriptor of the one that starts it.
    #[test]
    fn a_process_that_is_being_started_does_not_hold_the_lock() {
        let folder = tempfile::TempDir::new().unwrap();
        let cache = Cache::open(folder.path(), 1 << 20).unwrap();
        let copy = cache.lock.try_clone().unwrap();
        assert!(matches!(
            Cache::open(folder.path(), 1 << 20),
            Err(CacheError::Locked(_))
        ));
        drop(cache);
        drop(Cache::open(folder.path(), 1 << 20).unwrap());
        drop(copy);
    }
}
