//! Strong ETags: a file's SHA-256, computed once and kept as long as path, size, time and inode stay the same.
//!
//! A digest of the content is the same after a restart of the server and on another server, so a broken transfer can be
//! resumed. Large images carry theirs beside them (`<name>.sha256`), so that nobody waits for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::files::{self, Fingerprint, Opened};

/// Digests of files served so far: bounded by the number of files.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    slots: Mutex<HashMap<PathBuf, Arc<Slot>>>,
}

type Slot = tokio::sync::Mutex<Option<(Fingerprint, String)>>;

impl Digests {
    /// The ETag of an open file: its digest, quoted. One request computes, others wait; the computing goes on when its
    /// request is gone.
    ///
    /// # Errors
    /// When the file cannot be read, or changes while it is.
    pub(crate) async fn etag(&self, root: &Path, relative: &str, opened: &Opened) -> io::Result<String> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(root.join(relative)).or_default().clone()
        };
        let fingerprint = opened.fingerprint;
        let file = opened.file.try_clone()?;
        let (root, relative) = (root.to_owned(), relative.to_owned());
        let work = tokio::spawn(async move {
            let mut known = slot.lock().await;
            if let Some((of, digest)) = known.as_ref()
                && *of == fingerprint
            {
                return Ok(digest.clone());
            }
            let digest = tokio::task::spawn_blocking(move || digest(&root, &relative, &file, fingerprint));
            let digest = digest.await.map_err(io::Error::other)??;
            *known = Some((fingerprint, digest.clone()));
            Ok(digest)
        });
        work.await
            .map_err(io::Error::other)?
            .map(|digest| format!("\"{digest}\""))
    }
}

fn digest(root: &Path, relative: &str, file: &File, fingerprint: Fingerprint) -> io::Result<String> {
    if let Some(digest) = beside(root, relative, fingerprint) {
        return Ok(digest);
    }
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    let mut at = 0;
    loop {
        match file.read_at(&mut chunk, at)? {
            0 => break,
            len_bytes => {
                hasher.update(chunk.get(..len_bytes).unwrap_or_default());
                at += len_bytes as u64;
            }
        }
    }
    if Fingerprint::of(file)? != fingerprint {
        return Err(io::Error::other(format!(
            "{relative} is being changed while it is served"
        )));
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The digest in `<name>.sha256`, as `sha256sum` writes it. One that is older than the file is of an earlier content.
fn beside(root: &Path, relative: &str, fingerprint: Fingerprint) -> Option<String> {
    let beside = files::open_below(root, &format!("{relative}.sha256")).ok()?;
    if beside.fingerprint.modified_ns < fingerprint.modified_ns {
        return None;
    }
    let mut text = String::new();
    beside.file.take(4096).read_to_string(&mut text).ok()?;
    let digest = text.split_whitespace().next()?.to_ascii_lowercase();
    (digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digest)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    const OF_ABC: &str = "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";

    async fn etag(digests: &Digests, root: &Path) -> String {
        let opened = files::open_below(root, "image").unwrap();
        digests.etag(root, "image", &opened).await.unwrap()
    }

    #[tokio::test]
    async fn is_the_contents_digest_and_follows_it() {
        let root = tempfile::tempdir().unwrap();
        let digests = Digests::default();
        std::fs::write(root.path().join("image"), "abc").unwrap();
        assert_eq!(etag(&digests, root.path()).await, OF_ABC);
        assert_eq!(
            etag(&Digests::default(), root.path()).await,
            OF_ABC,
            "the same after a restart"
        );
        std::fs::write(root.path().join("new"), "abd").unwrap();
        std::fs::rename(root.path().join("new"), root.path().join("image")).unwrap();
        assert_ne!(etag(&digests, root.path()).await, OF_ABC);
    }

    #[tokio::test]
    async fn takes_the_digest_beside_it_unless_it_is_older_or_none() {
        let root = tempfile::tempdir().unwrap();
        let (image, beside) = (root.path().join("image"), root.path().join("image.sha256"));
        std::fs::write(&image, "abc").unwrap();
        let claimed = "0123456789ABCDEF".repeat(4);
        std::fs::write(&beside, format!("{claimed}  image\n")).unwrap();
        let quoted = format!("\"{}\"", claimed.to_lowercase());
        assert_eq!(etag(&Digests::default(), root.path()).await, quoted);

        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options()
            .write(true)
            .open(&beside)
            .unwrap()
            .set_modified(hour_ago)
            .unwrap();
        assert_eq!(
            etag(&Digests::default(), root.path()).await,
            OF_ABC,
            "of an earlier image"
        );

        std::fs::write(&beside, "not a digest").unwrap();
        assert_eq!(etag(&Digests::default(), root.path()).await, OF_ABC);
    }
}
