//! Blobs in a directory and in memory: named by their content, verified, durable, and nothing half.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use store::blobs::{BlobError, Blobs, Digest, MAX_BLOB_BYTES, file_of};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn gives_back_what_was_put_by_its_digest() {
    let (_directory, on_disk) = in_directory();
    for blobs in [on_disk, Blobs::in_memory()] {
        for content in [&b""[..], b"abc", &[7; 100_000]] {
            let digest = blobs.put(content).await.unwrap();
            assert_eq!(digest, Digest::of(content));
            assert!(blobs.exists(&digest).await.unwrap());
            assert_eq!(blobs.get(&digest).await.unwrap(), content);
            let info = blobs.head(&digest).await.unwrap().unwrap();
            assert_eq!((info.digest, info.len_bytes), (digest, content.len() as u64));
        }
    }
}

#[tokio::test]
async fn a_blob_over_the_limit_is_refused_and_leaves_nothing() {
    let (directory, blobs) = in_directory();
    let one_more = usize::try_from(MAX_BLOB_BYTES).unwrap() + 1;
    let error = blobs.put(vec![0; one_more]).await.unwrap_err();
    assert_eq!(error.to_string(), "blob is larger than the limit of 268435456 B");
    assert_eq!(files_below(directory.path()), [""; 0]);
}

#[tokio::test]
async fn damage_on_the_disk_is_found_and_healed_by_another_put() {
    let (directory, blobs) = in_directory();
    let content = numbered(3 * MIB);
    let digest = blobs.put(content.clone()).await.unwrap();
    for at in [0, 3 * MIB - 1] {
        damage(directory.path(), &digest, at);
        let error = blobs.get(&digest).await.unwrap_err();
        let BlobError::Damaged { actual, .. } = &error else {
            panic!("{error}")
        };
        let want = format!(
            "blob {digest} in {} is damaged: its content has digest {actual}; restore it from a backup",
            directory.path().display()
        );
        assert_eq!(error.to_string(), want);
        // A reader never gets all the bytes, and the last thing that it gets is the error.
        let (len_bytes, chunks) = blobs.read(&digest).await.unwrap();
        let items: Vec<_> = chunks.collect().await;
        let (last, good) = items.split_last().unwrap();
        assert!(matches!(last, Err(BlobError::Damaged { .. })));
        let got: usize = good.iter().map(|chunk| chunk.as_ref().unwrap().len()).sum();
        assert!((got as u64) < len_bytes);

        assert_eq!(blobs.put(content.clone()).await.unwrap(), digest);
        assert!(blobs.get(&digest).await.unwrap() == content);
    }
    let file = directory.path().join(file_of(&digest));
    fs::write(&file, b"").unwrap();
    assert!(matches!(blobs.get(&digest).await, Err(BlobError::Damaged { .. })));
    let (_, chunks) = blobs.read(&digest).await.unwrap();
    assert!(chunks.try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test]
async fn the_same_content_put_many_times_at_once_is_one_blob() {
    let (directory, blobs) = in_directory();
    let content = Bytes::from(numbered(300_000));
    let puts = (0..16).map(|_| {
        let (blobs, content) = (blobs.clone(), content.clone());
        tokio::spawn(async move { blobs.put(content).await })
    });
    let digest = Digest::of(&content);
    for put in puts.collect::<Vec<_>>() {
        assert_eq!(put.await.unwrap().unwrap(), digest);
    }
    assert_eq!(
        files_below(directory.path()),
        [file_of(&digest).to_string_lossy()]
    );
    assert_eq!(blobs.get(&digest).await.unwrap(), content);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (directory, blobs) = in_directory();
    let digest = Digest::of(b"never put");
    let want = format!("blob {digest} is not in {}", directory.path().display());
    assert_eq!(blobs.get(&digest).await.unwrap_err().to_string(), want);
    assert!(blobs.read(&digest).await.is_err());
    assert!(!blobs.exists(&digest).await.unwrap());
    blobs.delete(&digest).await.unwrap();
    assert!(!blobs.delete_unused(&digest, SystemTime::now()).await.unwrap());
}

#[tokio::test]
async fn a_list_has_blobs_with_their_age_and_nothing_else() {
    let (directory, blobs) = in_directory();
    let old = blobs.put(&b"old"[..]).await.unwrap();
    let young = blobs.put(&b"young"[..]).await.unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    set_modified(&directory.path().join(file_of(&old)), hour_ago);
    fs::write(directory.path().join("sha256/notes.txt"), "mine").unwrap();
    fs::write(
        directory.path().join("sha256/00").join(young.to_string()),
        "misplaced",
    )
    .unwrap();

    let mut found: Vec<_> = blobs.list().try_collect().await.unwrap();
    found.sort_by_key(|info| info.put_at);
    let digests: Vec<_> = found.iter().map(|info| (info.digest, info.len_bytes)).collect();
    assert_eq!(digests, [(old, 3), (young, 5)]);
    assert_eq!(found[0].put_at, hour_ago);
}

#[tokio::test]
async fn what_was_put_again_is_young_and_not_collected() {
    let (directory, blobs) = in_directory();
    let digest = blobs.put(&b"x"[..]).await.unwrap();
    let file = directory.path().join(file_of(&digest));
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let half_an_hour_ago = SystemTime::now() - Duration::from_secs(1800);
    set_modified(&file, hour_ago);
    blobs.put(&b"x"[..]).await.unwrap();
    assert!(!blobs.delete_unused(&digest, half_an_hour_ago).await.unwrap());
    assert!(blobs.exists(&digest).await.unwrap());
    set_modified(&file, hour_ago);
    assert!(blobs.delete_unused(&digest, half_an_hour_ago).await.unwrap());
    assert!(!blobs.exists(&digest).await.unwrap());
}

#[tokio::test]
async fn opening_removes_what_a_crash_left_and_keeps_the_rest() {
    let (directory, blobs) = in_directory();
    let digest = blobs.put(&b"kept"[..]).await.unwrap();
    let file = directory.path().join(file_of(&digest));
    let half = PathBuf::from(format!("{}#1", file.display()));
    fs::write(&half, "ha").unwrap();
    let stray = file.with_file_name("readme#1");
    fs::write(&stray, "not ours").unwrap();
    let blobs = Blobs::open(directory.path()).unwrap();
    assert!(!half.exists());
    assert!(stray.exists());
    assert_eq!(blobs.get(&digest).await.unwrap(), "kept");
    // A name left by something else does not stop a put of the same content.
    fs::write(&half, "ha").unwrap();
    blobs.put(&b"kept"[..]).await.unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Blobs::open(&file).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("blobs in {}: opening failed", file.display())
    );
}

fn in_directory() -> (tempfile::TempDir, Blobs) {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path()).unwrap();
    (directory, blobs)
}

fn numbered(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(len).collect()
}

fn damage(directory: &Path, digest: &Digest, at: usize) {
    let file = directory.join(file_of(digest));
    let mut content = fs::read(&file).unwrap();
    content[at] ^= 1;
    fs::write(&file, content).unwrap();
}

fn set_modified(file: &Path, at: SystemTime) {
    fs::File::options()
        .write(true)
        .open(file)
        .unwrap()
        .set_modified(at)
        .unwrap();
}

/// Paths below `directory`, of files.
fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(
                    path.strip_prefix(directory)
                        .unwrap()
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
    }
    found
}

/// 3 MiB that are not the same anywhere.
fn large() -> Vec<u8> {
    (0..3_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

#[tokio::test]
async fn a_blob_that_comes_in_pieces_is_there_when_it_is_whole_and_what_it_was_said_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let content = large();
    let digest = Digest::of(&content);
    for blobs in [Blobs::open(directory.path()).unwrap(), Blobs::in_memory()] {
        let mut incoming = blobs.incoming().await.unwrap();
        for piece in content.chunks(70_001) {
            incoming.write(piece).await.unwrap();
            assert!(!blobs.exists(&digest).await.unwrap(), "half of it is served");
        }
        assert_eq!(incoming.len_bytes(), content.len() as u64);
        incoming.keep(&digest).await.unwrap();
        assert_eq!(blobs.get(&digest).await.unwrap(), content);
        let mut other = blobs.incoming().await.unwrap();
        other.write(b"other bytes").await.unwrap();
        let refused = other.keep(&digest).await.unwrap_err();
        assert!(
            matches!(refused, BlobError::Other { len_bytes: 11, .. }),
            "{refused}"
        );
        assert_eq!(blobs.get(&digest).await.unwrap(), content);
    }
    assert_eq!(files_below(directory.path()).len(), 1);
}

#[tokio::test]
async fn what_a_crash_left_half_come_is_gone_when_the_directory_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path()).unwrap();
    let mut incoming = blobs.incoming().await.unwrap();
    incoming.write(&large()).await.unwrap();
    incoming.flush().await.unwrap();
    // As after a kill: nobody tidies up.
    std::mem::forget(incoming);
    assert_eq!(files_below(directory.path()).len(), 1);
    Blobs::open(directory.path()).unwrap();
    assert_eq!(files_below(directory.path()), [""; 0]);
}

#[tokio::test]
async fn a_part_of_a_blob_is_read_and_all_of_it_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path()).unwrap();
    let content = large();
    let digest = blobs.put(content.clone()).await.unwrap();
    for from in [
        0,
        1,
        8191,
        8192,
        100_000,
        content.len() - 1,
        content.len(),
        content.len() + 5,
    ] {
        let (len_bytes, chunks) = blobs.read_from(&digest, from as u64).await.unwrap();
        assert_eq!(len_bytes, content.len() as u64);
        let chunks: Vec<bytes::Bytes> = chunks.try_collect().await.unwrap();
        assert!(
            chunks.concat() == content[from.min(content.len())..],
            "from {from}"
        );
    }
    let file = directory.path().join(file_of(&digest));
    let mut damaged = content;
    damaged[5] ^= 1;
    std::fs::write(file, damaged).unwrap();
    let (_, chunks) = blobs.read_from(&digest, 1 << 20).await.unwrap();
    let refused = chunks.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(refused, BlobError::Damaged { .. }), "{refused}");
}
