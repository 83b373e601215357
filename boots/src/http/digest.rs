//! Strong ETags: a file's SHA-256, computed once and kept as long as path, size, times and inode stay the same.
//!
//! A digest of the content is the same after a restart of the server and on another server, so a broken transfer can be
//! resumed. Large images carry theirs beside them (`<name>.sha256`), so that nobody waits for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::files::{self, Fingerprint, Opened};

/// Digests of files served so far: bounded by the number of files.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    slots: Mutex<HashMap<PathBuf, Arc<Slot>>>,
}

type Slot = tokio::sync::Mutex<Option<Known>>;

#[derive(Debug)]
struct Known {
    of: Fingerprint,
    /// Of the digest file beside it, whether that was used or not: one that comes later is looked at.
    beside: Option<Fingerprint>,
    digest: String,
}

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
            let (beside, beside_is) = {
                let (root, relative) = (root.clone(), relative.clone());
                let found = tokio::task::spawn_blocking(move || beside(&root, &relative, fingerprint)).await;
                found.map_err(io::Error::other)?
            };
            if let Some(known) = known.as_ref()
                && known.of == fingerprint
                && known.beside == beside_is
            {
                return Ok(known.digest.clone());
            }
            let is_settled = fingerprint.is_older_than(SETTLED_AFTER);
            let digest = match beside {
                Some(digest) => digest,
                None => tokio::task::spawn_blocking(move || digest(&relative, &file, fingerprint))
                    .await
                    .map_err(io::Error::other)??,
            };
            // Written again within one tick of the filesystem's clock, a file looks the same.
            *known = is_settled.then(|| Known {
                of: fingerprint,
                beside: beside_is,
                digest: digest.clone(),
            });
            Ok(digest)
        });
        work.await
            .map_err(io::Error::other)?
            .map(|digest| format!("\"{digest}\""))
    }
}

fn digest(relative: &str, file: &File, fingerprint: Fingerprint) -> io::Result<String> {
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

/// The digest in `<name>.sha256`, as `sha256sum` writes it, and that file's fingerprint. A digest is of an earlier
/// content when the file was changed after it: modified, or put there with its old time of modification.
fn beside(root: &Path, relative: &str, of: Fingerprint) -> (Option<String>, Option<Fingerprint>) {
    let Ok(beside) = files::open_below(root, &format!("{relative}.sha256")) else {
        return (None, None);
    };
    let found = beside.fingerprint;
    let is_earlier = found.modified_ns < of.modified_ns || found.changed_ns < of.changed_ns;
    let mut text = String::new();
    if is_earlier || beside.file.take(4096).read_to_string(&mut text).is_err() {
        return (None, Some(found));
    }
    let digest = text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_digest.then_some(digest), Some(found))
}

/// Longer than a tick of any filesystem's clock.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

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

    #[tokio::test]
    async fn another_content_of_the_same_size_and_time_is_another_content() {
        let root = tempfile::tempdir().unwrap();
        let digests = Digests::default();
        let image = root.path().join("image");
        let then = SystemTime::now() - Duration::from_secs(3600);
        let write = |content: &str| {
            std::fs::write(&image, content).unwrap();
            File::options()
                .write(true)
                .open(&image)
                .unwrap()
                .set_modified(then)
                .unwrap();
        };
        write("abc");
        assert_eq!(etag(&digests, root.path()).await, OF_ABC);
        // In place, in the same second, and set back to the same time.
        write("abd");
        assert_ne!(etag(&digests, root.path()).await, OF_ABC);
    }

    #[tokio::test]
    async fn a_digest_file_is_not_that_of_an_older_image_put_in_its_place() {
        let root = tempfile::tempdir().unwrap();
        let image = root.path().join("image");
        std::fs::write(&image, "abd").unwrap();
        let claimed = "01".repeat(32);
        std::fs::write(root.path().join("image.sha256"), &claimed).unwrap();
        let digests = Digests::default();
        assert_eq!(etag(&digests, root.path()).await, format!("\"{claimed}\""));
        let older = root.path().join("older");
        std::fs::write(&older, "abc").unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options()
            .write(true)
            .open(&older)
            .unwrap()
            .set_modified(hour_ago)
            .unwrap();
        // Until the filesystem's clock has ticked, the two times of change are one.
        let deadline = SystemTime::now() + Duration::from_secs(20);
        loop {
            std::fs::rename(&older, &image).unwrap();
            if etag(&digests, root.path()).await == OF_ABC {
                break;
            }
            assert!(
                SystemTime::now() < deadline,
                "the digest of the image that was there before"
            );
            std::fs::rename(&image, &older).unwrap();
        }
        // A digest that comes later is taken.
        std::fs::write(root.path().join("image.sha256"), &claimed).unwrap();
        assert_eq!(etag(&digests, root.path()).await, format!("\"{claimed}\""));
    }
}
