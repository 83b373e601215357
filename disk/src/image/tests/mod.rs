//! Whole writes: good ones in every packing, and every way to go wrong.

mod bad;
mod coded;
mod good;
mod power;
mod qcow2;
mod reach;
mod read_back;
mod resumes;
mod seeds;
mod server;
mod suits;
mod trailers;

use sha2::{Digest, Sha256};

use super::*;

/// A megabyte-grained mixture of noise, text and zeros, always the same; with the boot signature of a disk that has no
/// partitions, if it is long enough.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match (bytes.len() >> 19) % 5 {
            0 | 3 => bytes.extend_from_slice(&(state >> 8).to_le_bytes()),
            1 => bytes.extend_from_slice(b"a line of text\n"),
            _ => bytes.extend_from_slice(&[0; 8]),
        }
    }
    bytes.truncate(len);
    if let Some(entries) = bytes.get_mut(446..512) {
        entries[..64].fill(0);
        entries[64..].copy_from_slice(&[0x55, 0xaa]);
    }
    bytes
}

/// A file that plays the disk: `len` bytes of 0xA5.
fn disk(dir: &tempfile::TempDir, len: usize) -> PathBuf {
    let path = dir.path().join("disk");
    std::fs::write(&path, vec![0xa5; len]).unwrap();
    path
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn write_quietly(request: &WriteRequest) -> Result<Written, WriteError> {
    write(request, |_| {}, CancellationToken::new()).await
}

#[tokio::test]
async fn a_file_goes_onto_the_disk_whole() {
    let dir = tempfile::tempdir().unwrap();
    let content = sample((9 << 20) + 700);
    let image = dir.path().join("image.zst");
    std::fs::write(&image, zstd::encode_all(content.as_slice(), 1).unwrap()).unwrap();
    let target = disk(&dir, 12 << 20);
    let written = write_quietly(&WriteRequest::new(Url::from_file_path(&image).unwrap(), &target))
        .await
        .unwrap();
    assert_eq!(written.image_bytes, content.len() as u64);
    assert!(
        !written.verified && written.warnings.iter().any(|w| w.contains("not verified")),
        "{written:?}"
    );
    let there = std::fs::read(&target).unwrap();
    assert!(there.starts_with(&content));
    assert!(there[content.len()..11 << 20].iter().all(|byte| *byte == 0xa5));
    assert!(there[11 << 20..].iter().all(|byte| *byte == 0));
}
