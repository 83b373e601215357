//! How layers and images lie in the folder of a cache.
//!
//! `layers/ALGORITHM-DIGITS/` has the tree and what is known of it, `images/…/` the image's configuration and the folders that mend
//! owners, `names/…` what a reference was found to be. Each comes by a rename of what was synced before.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{Kept, Layer, Record, State};
use crate::digest::Digest;
use crate::image::ImageConfig;

pub(super) const TREE: &str = "tree";
pub(super) const CONFIG: &str = "config.json";
pub(super) const FOLDERS: &str = "folders";
const ABOUT: &str = "about.json";

/// What is known of a layer.
#[derive(Deserialize, Serialize)]
struct About {
    held_bytes: u64,
    /// Paths are bytes, and JSON is text: hexadecimal.
    implied: Vec<String>,
}

/// A folder that is put together and not yet seen; it goes if it is not kept.
#[derive(Debug)]
pub(crate) struct Incoming {
    folder: PathBuf,
}

impl Incoming {
    pub(super) fn new(folder: &Path) -> io::Result<Incoming> {
        fs::create_dir(folder)?;
        Ok(Incoming {
            folder: folder.to_owned(),
        })
    }

    /// Makes the folder into which a layer is unpacked.
    pub(crate) fn tree(&self) -> io::Result<PathBuf> {
        let tree = self.folder.join(TREE);
        fs::create_dir(&tree)?;
        // A layer without an entry for its root says nothing of it.
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755))?;
        Ok(tree)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        fs::write(self.folder.join(name), content)?;
        File::open(self.folder.join(name))?.sync_all()
    }

    pub(super) fn about(&self, held_bytes: u64, implied: &[Vec<u8>]) -> io::Result<()> {
        let implied = implied.iter().map(|path| HEXLOWER.encode(path)).collect();
        let about = serde_json::to_vec(&About { held_bytes, implied })?;
        self.write(ABOUT, &about)
    }

    /// Moves it to where it is seen, when all of it is on the disk.
    pub(super) fn keep(self, to: &Path) -> io::Result<()> {
        rustix::fs::syncfs(File::open(&self.folder)?)?;
        fs::rename(&self.folder, to)?;
        match to.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // It is not there if it was kept; what stays goes when the cache is opened again.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The name of what has this digest.
pub(super) fn name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

fn digest(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

/// Finds what is there. What is damaged, or is of no use without something that is gone, goes.
pub(super) fn read(folder: &Path, state: &mut State) -> io::Result<()> {
    for (path, digest) in entries(&folder.join("layers"))? {
        match (digest, layer(&path)) {
            (Some(digest), Some(layer)) => {
                let layer = Arc::new(layer);
                state.layers.insert(digest, Kept { layer, used: 0 });
            }
            _ => remove(&path)?,
        }
    }
    for (path, digest) in entries(&folder.join("images"))? {
        let record = image(&path).filter(|image| {
            let mut layers = image.layers.iter();
            layers.all(|layer| state.layers.contains_key(layer))
        });
        match (digest, record) {
            (Some(digest), Some(record)) => {
                state.images.insert(digest, record);
            }
            _ => remove(&path)?,
        }
    }
    for (path, _) in entries(&folder.join("names"))? {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let known: Option<(&str, Digest)> = text
            .trim_end()
            .split_once('\n')
            .and_then(|(name, digest)| Some((name, digest.parse().ok()?)));
        match known.filter(|(_, digest)| state.images.contains_key(digest)) {
            Some((name, digest)) => {
                state.names.insert(name.to_owned(), digest);
            }
            None => remove(&path)?,
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> io::Result<BTreeMap<PathBuf, Option<Digest>>> {
    fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.path(), entry.file_name().to_str().and_then(digest)))
        })
        .collect()
}

fn layer(path: &Path) -> Option<Layer> {
    let about: About = serde_json::from_slice(&fs::read(path.join(ABOUT)).ok()?).ok()?;
    let implied: Option<Vec<_>> = about
        .implied
        .iter()
        .map(|path| HEXLOWER.decode(path.as_bytes()).ok())
        .collect();
    let tree = path.join(TREE);
    tree.is_dir().then_some(Layer {
        tree,
        held_bytes: about.held_bytes,
        implied: implied?,
    })
}

fn image(path: &Path) -> Option<Record> {
    let json = fs::read(path.join(CONFIG)).ok()?;
    let (config, layers) = ImageConfig::read(&json).ok()?;
    let folders = path.join(FOLDERS);
    Some(Record {
        config,
        layers,
        folders: folders.is_dir().then_some(folders),
        bytes: json.len() as u64,
    })
}

/// Makes place for what comes to be there.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match path.exists() {
        true => remove(path),
        false => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}
