//! Whose a folder is, where layers disagree: what only a view of all layers of an image knows.
//!
//! A layer that has `tmp/x` and no entry for `tmp` says nothing of `tmp`; overlayfs shows the folder of the topmost layer, which would
//! be one of root's with 0755. So an image whose layers are so gets one more layer on top, of folders only, as lower layers have them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::XattrFlags;

use super::Layer;
use crate::layer::OPAQUE;

/// What one layer says of a path.
enum Said {
    Folder {
        meta: Metadata,
        hides: bool,
    },
    /// What lower layers have there is not seen.
    Hidden,
    Nothing,
}

/// The layers that are seen: a layer that is opaque at its root hides those below, and overlayfs does not look for that.
pub(super) fn visible(layers: Vec<PathBuf>) -> Vec<PathBuf> {
    let lowest = layers.iter().rposition(|layer| is_opaque(layer)).unwrap_or(0);
    layers.into_iter().skip(lowest).collect()
}

/// Makes the layer of folders, if one is needed; whether it is.
pub(super) fn mend(layers: &[Arc<Layer>], into: &Path) -> io::Result<bool> {
    let implied: BTreeSet<&[u8]> = layers
        .iter()
        .flat_map(|layer| &layer.implied)
        .map(Vec::as_slice)
        .collect();
    let mut wrong = Vec::new();
    for path in implied {
        if let Some((_, true)) = whose(layers, path)? {
            wrong.push(path);
        }
    }
    if wrong.is_empty() {
        return Ok(false);
    }
    for path in wrong.iter().flat_map(|path| ways(path)).collect::<BTreeSet<_>>() {
        let target = at(into, path);
        fs::create_dir(&target)?;
        if let Some((from, _)) = whose(layers, path)? {
            describe(&target, &from)?;
        }
    }
    Ok(true)
}

/// The folder whose owner and permissions a path has in the image, and whether overlayfs would show another one's.
fn whose(layers: &[Arc<Layer>], path: &[u8]) -> io::Result<Option<(PathBuf, bool)>> {
    let mut topmost = None;
    for layer in layers.iter().rev() {
        match said(&layer.tree, path)? {
            Said::Nothing => continue,
            Said::Hidden => break,
            Said::Folder { meta, hides } => {
                let is_implied = layer
                    .implied
                    .binary_search_by(|implied| implied.as_slice().cmp(path))
                    .is_ok();
                let from = at(&layer.tree, path);
                if !is_implied {
                    let differs =
                        topmost.is_some() && (meta.mode() & 0o7777, meta.uid(), meta.gid()) != (0o755, 0, 0);
                    return Ok(Some((from, differs)));
                }
                topmost.get_or_insert(from);
                if hides {
                    break;
                }
            }
        }
    }
    Ok(topmost.map(|from| (from, false)))
}

fn said(tree: &Path, path: &[u8]) -> io::Result<Said> {
    let mut hides = false;
    let mut found = None;
    for way in ways(path) {
        let here = at(tree, way);
        match here.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {
                hides |= is_opaque(&here);
                found = Some(meta);
            }
            Ok(_) => return Ok(Said::Hidden),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(if hides { Said::Hidden } else { Said::Nothing });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(match found {
        Some(meta) => Said::Folder { meta, hides },
        None => Said::Nothing,
    })
}

/// The folders on the way to a path, from the root, and the path itself.
fn ways(path: &[u8]) -> Vec<&[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let between = slashes.filter_map(|(at, _)| path.get(..at));
    let itself = (!path.is_empty()).then_some(path);
    [&b""[..]].into_iter().chain(between).chain(itself).collect()
}

fn at(tree: &Path, path: &[u8]) -> PathBuf {
    tree.join(OsStr::from_bytes(path))
}

fn is_opaque(folder: &Path) -> bool {
    let mut value = [0; 2];
    let read = rustix::fs::lgetxattr(folder, OPAQUE.0, &mut value);
    read.is_ok_and(|length| value.get(..length) == Some(OPAQUE.1))
}

/// Gives a folder what another one has, but for overlayfs's own attributes.
fn describe(folder: &Path, from: &Path) -> io::Result<()> {
    let meta = from.symlink_metadata()?;
    chown(folder, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(folder, Permissions::from_mode(meta.mode() & 0o7777))?;
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(from, &mut names)?;
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.") {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(from, name, &mut value)?;
        rustix::fs::lsetxattr(
            folder,
            name,
            value.get(..length).unwrap_or_default(),
            XattrFlags::empty(),
        )?;
    }
    fs::File::open(folder)?.set_modified(meta.modified()?)
}
