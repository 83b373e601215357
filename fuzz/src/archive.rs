//! Blobs of archived workflows: what is unpacked is brought back whole, each row once and the head last.

use coordinator::archive::{Restoring, unpack};

pub(crate) fn run(bytes: &[u8]) {
    bring_back(bytes);
    // As the packed rows of a blob, so that what lies behind the compression is reached.
    if let Ok(blob) = zstd::bulk::compress(bytes, 1) {
        bring_back(&blob);
    }
}

fn bring_back(blob: &[u8]) {
    let Ok(rows) = unpack(blob) else { return };
    let all = rows.len();
    let heads = rows.iter().filter(|row| row.key[..] == *b"workflow/w").count();
    let mut restoring = Restoring::new("w", 1);
    let restored = restoring.part(rows);
    let written: usize = restored
        .commits
        .iter()
        .map(|commit| commit.operations.len())
        .sum();
    assert_eq!(restored.contents.len() + written + heads, all);
    assert!(
        restored
            .commits
            .iter()
            .all(|commit| !commit.preconditions.is_empty())
    );
    assert_eq!(restoring.finish().is_some(), heads > 0);
}
