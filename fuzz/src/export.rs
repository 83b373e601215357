//! Exports of a store: rows as lines, and an archive that is imported. A damaged one leaves nothing behind; one that is
//! taken comes out again as it went in.

use std::fs;

use coordinator::database::formats;
use store::offline::{FILE, Import, Target, export, import};
use store::{KeyValue, rows};

use crate::deb::{in_memory, sealed};

pub(crate) fn run(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(row) = rows::from_line(line) {
            let again = rows::to_line(&row);
            let read: Result<KeyValue, _> = rows::from_line(&again[..again.len() - 1]);
            assert_eq!(read.as_ref(), Ok(&row));
        }
    }
    // A store is made for each: only what looks like an archive is worth it.
    if bytes.len() >= 512 {
        bring_in(&sealed(bytes));
    }
}

fn bring_in(archive: &[u8]) {
    let directory = in_memory();
    let data = directory.path().join("data");
    match import(
        Import::Tar(&mut &*archive),
        &data,
        false,
        formats::CURRENT.reader(),
        &mut |_| (),
    ) {
        Err(_) => assert!(!data.join(FILE).exists(), "a damaged export made a store"),
        Ok(summary) => {
            let mut again = Vec::new();
            let exported = export(
                &data,
                &|_| Default::default(),
                Target::Tar(&mut again),
                &mut |_| (),
            );
            let exported = exported.expect("what was imported is whole");
            assert_eq!(
                (exported.revision, exported.keys),
                (summary.revision, summary.keys)
            );
            assert_eq!(exported.rows_sha256, summary.rows_sha256);
        }
    }
    let _ = fs::remove_dir_all(&data);
}
