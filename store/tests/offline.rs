//! Checking, exporting and importing a store that no server has open.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use store::blobs::{Blobs, Digest, file_of};
use store::formats::{self, Reader, RowFormats};
use store::offline::{self, Import, Named, OfflineError, Summary, Target, check, export, import};
use store::{Commit, KeyValue, Operation, RedbStore, Store, StoreError};

/// Of no version of Farrier that there is.
const READER: Reader = Reader {
    version: "0.0.7",
    reads: 3,
};

#[test]
fn an_export_to_a_directory_comes_back_byte_for_byte() {
    let data = filled();
    let out = tempfile::tempdir().unwrap();
    let first = out.path().join("first");
    let summary = export_to(data.path(), &first).unwrap();
    assert_eq!((summary.keys, summary.blobs), (1203, 3));

    let target = out.path().join("target");
    assert_eq!(import_from(&first, &target, false).unwrap(), summary);
    assert_eq!(everything_in(&target), everything_in(data.path()));
    let second = out.path().join("second");
    export_to(&target, &second).unwrap();
    assert_eq!(files_of(&second), files_of(&first));

    // Revisions go on.
    let store = RedbStore::open(target.join(offline::FILE)).unwrap();
    assert_eq!(store.commit(&puts(&[(b"x", b"")])).unwrap(), summary.revision + 1);
}

#[test]
fn an_archive_comes_back_byte_for_byte_and_is_the_same_each_time() {
    let data = filled();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let summary = export(data.path(), &no_names, Target::Tar(&mut one), &mut |_| {}).unwrap();
    export(data.path(), &no_names, Target::Tar(&mut two), &mut |_| {}).unwrap();
    assert!(one == two);
    let target = tempfile::tempdir().unwrap();
    let imported = import(
        Import::Tar(&mut &one[..]),
        target.path(),
        false,
        READER,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(imported, summary);
    assert_eq!(everything_in(target.path()), everything_in(data.path()));
}

#[test]
fn reading_a_store_changes_no_byte_of_it() {
    let data = filled();
    // As a crash leaves it: never closed.
    let crashed = tempfile::tempdir().unwrap();
    let path = crashed.path().join(offline::FILE);
    let store = RedbStore::open(data.path().join(offline::FILE)).unwrap();
    store.commit(&puts(&[(b"late", b"1")])).unwrap();
    fs::copy(data.path().join(offline::FILE), &path).unwrap();
    drop(store);
    let before = fs::read(&path).unwrap();
    let report = check(crashed.path(), &no_names, &mut |_| {}).unwrap();
    assert_eq!((report.problems, report.keys), (vec![], 1204));
    export_to(crashed.path(), &crashed.path().join("out")).unwrap();
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn a_check_counts_keys_by_their_first_segment_and_blobs() {
    let data = filled();
    let mut progress = Vec::new();
    let report = check(data.path(), &no_names, &mut |at| {
        progress.push((at.what, at.done))
    })
    .unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let segments: Vec<_> = report
        .segments
        .iter()
        .map(|segment| {
            (
                &segment.name[..],
                segment.keys,
                segment.key_bytes,
                segment.value_bytes,
            )
        })
        .collect();
    assert_eq!(
        segments,
        [
            ("(not text)", 2, 4, 3),
            ("alone", 1, 5, 2),
            ("event", 1200, 1200 * 10, 1200 * 15)
        ]
    );
    assert_eq!((report.blobs.blobs, report.blobs.bytes), (3, 300_008));
    assert_eq!(progress.last(), Some(&("blobs", 3)));
    assert!(progress.contains(&("keys", 1203)));
}

#[test]
fn what_a_row_names_and_is_not_there_is_a_problem() {
    let data = filled();
    let (there, gone) = (Digest::of(b"blob one"), Digest::of(b"gone"));
    let names = |row: &KeyValue| match &row.key[..] {
        b"alone" => Named {
            blobs: vec![there, gone],
            keys: vec!["event/0000".into(), "no/such".into()],
        },
        _ => Named::default(),
    };
    let report = check(data.path(), &names, &mut |_| {}).unwrap();
    assert_eq!(
        report.problems,
        [
            "key no/such is missing: alone names it".to_owned(),
            format!("blob {gone} is missing: alone names it")
        ]
    );
    assert_eq!((report.blobs.missing, report.blobs.unnamed), (vec![gone], 2));
}

#[test]
fn damage_is_found() {
    let data = filled();
    let digest = Digest::of(b"blob one");
    let blob = data.path().join(offline::BLOBS).join(file_of(&digest));
    fs::write(&blob, "blob two").unwrap();
    let report = check(data.path(), &no_names, &mut |_| {}).unwrap();
    assert_eq!(report.problems, [format!("blob {digest} is damaged")]);
    assert_eq!(report.blobs.damaged, [digest]);
    let error = export_to(data.path(), &data.path().join("out")).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("blob {digest} in ")),
        "{error}"
    );
    fs::remove_file(&blob).unwrap();

    // Any byte of a value that the file holds.
    let path = data.path().join(offline::FILE);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(15)
        .position(|window| window == b"{\"number\":0077}")
        .unwrap();
    bytes[at + 12] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = match check(data.path(), &no_names, &mut |_| {}) {
        Ok(report) => !report.problems.is_empty(),
        Err(error) => matches!(error, OfflineError::Store(StoreError::Corrupt { .. })),
    };
    assert!(found);
}

#[test]
fn what_is_missing_or_open_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = check(empty.path(), &no_names, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}/farrier.redb is not there: name the data directory of a server with --data-dir",
            empty.path().display()
        )
    );
    let data = filled();
    let out = data.path().join("out");
    export_to(data.path(), &out).unwrap();
    let _server = RedbStore::open(data.path().join(offline::FILE)).unwrap();
    let refused = [
        check(data.path(), &no_names, &mut |_| {}).unwrap_err(),
        export_to(data.path(), &data.path().join("more")).unwrap_err(),
        import_from(&out, data.path(), true).unwrap_err(),
    ];
    for error in refused {
        assert!(
            matches!(error, OfflineError::Store(StoreError::Locked { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn what_is_there_is_replaced_only_when_that_is_asked_for() {
    let data = filled();
    let out = tempfile::tempdir().unwrap();
    let exported = out.path().join("export");
    export_to(data.path(), &exported).unwrap();
    let error = export_to(data.path(), &exported).unwrap_err();
    assert!(matches!(error, OfflineError::NotEmpty { .. }), "{error}");

    let target = out.path().join("target");
    fs::create_dir(&target).unwrap();
    let store = RedbStore::open(target.join(offline::FILE)).unwrap();
    store.commit(&puts(&[(b"old", b"1")])).unwrap();
    drop(store);
    let error = import_from(&exported, &target, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} already holds a store: name an empty data directory, or replace what is there with --force",
            target.display()
        )
    );
    assert_eq!(everything_in(&target).0.len(), 1);
    import_from(&exported, &target, true).unwrap();
    assert_eq!(everything_in(&target), everything_in(data.path()));
    // One that cannot be opened can be replaced, too.
    fs::write(target.join(offline::FILE), "rubbish").unwrap();
    import_from(&exported, &target, true).unwrap();
    assert_eq!(everything_in(&target), everything_in(data.path()));
}

#[test]
fn a_damaged_export_is_refused_and_what_was_there_stays() {
    let data = filled();
    let mut archive = Vec::new();
    export(data.path(), &no_names, Target::Tar(&mut archive), &mut |_| {}).unwrap();
    let target = filled();
    let before = fs::read(target.path().join(offline::FILE)).unwrap();
    // Of every part of it, some bytes: the headers of the archive have checksums of their own.
    let last = archive.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (0..=last).step_by(3989).chain([last]) {
        let mut damaged = archive.clone();
        damaged[at] ^= 0x04;
        match import(
            Import::Tar(&mut &damaged[..]),
            target.path(),
            true,
            READER,
            &mut |_| {},
        ) {
            Err(OfflineError::Damaged { .. }) => {}
            Err(error) => panic!("byte {at}: {error:?}"),
            // Padding and names' owners mean nothing.
            Ok(_) => {
                assert_eq!(
                    everything_in(target.path()).0,
                    everything_in(data.path()).0,
                    "byte {at}"
                );
                fs::write(target.path().join(offline::FILE), &before).unwrap();
            }
        }
        assert!(
            fs::read(target.path().join(offline::FILE)).unwrap() == before,
            "byte {at}"
        );
    }
    for len in [0, 1, 511, 512, 5000, archive.len() / 2, last - 600] {
        let error = import(
            Import::Tar(&mut &archive[..len]),
            target.path(),
            true,
            READER,
            &mut |_| {},
        )
        .unwrap_err();
        assert!(matches!(error, OfflineError::Damaged { .. }), "{len} B: {error}");
    }
}

#[test]
fn what_is_missing_from_an_export_or_too_much_is_said() {
    let data = filled();
    let out = tempfile::tempdir().unwrap();
    let good = out.path().join("good");
    export_to(data.path(), &good).unwrap();
    let blob = Path::new("blobs").join(file_of(&Digest::of(b"blob one")));
    let rows = fs::read_to_string(good.join("rows.jsonl")).unwrap();
    let manifest = fs::read_to_string(good.join("manifest.json")).unwrap();
    let without_a_row = rows
        .lines()
        .skip(1)
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    let twice = format!("{0}\n{rows}", rows.lines().next().unwrap());
    let other_revision = manifest.replacen("\"revision\": ", "\"revision\": 9", 1);
    let cases: [(&Path, Option<&str>, &str); 9] = [
        (Path::new("manifest.json"), None, "manifest.json is missing"),
        (
            Path::new("manifest.json"),
            Some("{}"),
            "its manifest.json cannot be read: missing field",
        ),
        (
            Path::new("manifest.json"),
            Some(&other_revision),
            "its manifest.json cannot be read: its digest does not match",
        ),
        (Path::new("rows.jsonl"), None, "rows.jsonl is missing"),
        (
            Path::new("rows.jsonl"),
            Some(&without_a_row),
            "it has 1202 keys with digest",
        ),
        (
            Path::new("rows.jsonl"),
            Some(&twice),
            "line 2 of its rows is out of order",
        ),
        (&blob, None, "and 2 blobs, but should have 1203 keys"),
        (&blob, Some("blob two"), "has digest"),
        (
            Path::new("blobs/note"),
            Some("mine"),
            "\"blobs/note\" does not belong in it",
        ),
    ];
    for (number, (name, content, want)) in cases.into_iter().enumerate() {
        let bad = out.path().join(format!("bad{number}"));
        for (file, content) in files_of(&good) {
            let path = bad.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        match content {
            Some(content) => fs::write(bad.join(name), content).unwrap(),
            None => fs::remove_file(bad.join(name)).unwrap(),
        }
        let target = out.path().join("target");
        let error = import_from(&bad, &target, false).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("the export is damaged: ")
                && said.contains(want)
                && said.ends_with("; take another one"),
            "{said}"
        );
        assert!(!target.join(offline::FILE).exists());
        let _ = fs::remove_dir_all(target);
    }
}

/// An export of `data`, and its manifest's contents changed.
fn exported_as(data: &Path, out: &Path, version: u32, change: impl FnOnce(&mut Summary)) {
    let mut summary = export_to(data, out).unwrap();
    change(&mut summary);
    let manifest = serde_json::json!({
        "format": format!("farrier store export {version}"),
        "contents": summary,
        "sha256": Digest::of(&serde_json::to_vec(&summary).unwrap()),
    });
    fs::write(out.join("manifest.json"), manifest.to_string()).unwrap();
}

#[test]
fn an_export_of_an_earlier_version_is_imported_as_ever() {
    let data = filled();
    let out = tempfile::tempdir().unwrap();
    let first = out.path().join("first");
    exported_as(data.path(), &first, 1, |summary| summary.rows = None);
    let target = out.path().join("target");
    import_from(&first, &target, false).unwrap();
    assert_eq!(everything_in(&target), everything_in(data.path()));
}

#[test]
fn the_manifest_says_what_the_rows_are_in_and_newer_ones_are_refused() {
    let data = filled();
    let out = tempfile::tempdir().unwrap();
    let summary = export_to(data.path(), &out.path().join("unsaid")).unwrap();
    assert_eq!(summary.rows.unwrap().format, 1);
    for format in [3, 4] {
        let store = RedbStore::open(data.path().join(offline::FILE)).unwrap();
        let formats = serde_json::to_vec(&RowFormats::only(format, "0.0.9")).unwrap();
        store
            .commit(&puts(&[(formats::KEY.as_bytes(), &formats)]))
            .unwrap();
        drop(store);
        let report = check(data.path(), &no_names, &mut |_| {}).unwrap();
        assert_eq!(report.rows.newest, format);
        let (made, target) = (
            out.path().join(format!("export{format}")),
            out.path().join(format!("target{format}")),
        );
        let rows = export_to(data.path(), &made).unwrap().rows.unwrap();
        assert_eq!((rows.format, &*rows.by), (format, "0.0.9"));
        let imported = import_from(&made, &target, false);
        if format <= READER.reads {
            imported.unwrap();
            continue;
        }
        assert_eq!(
            imported.unwrap_err().to_string(),
            "the rows of the export are of format 4, which Farrier 0.0.9 wrote first, and this is Farrier 0.0.7, which \
             reads formats up to 3: import it with Farrier 0.0.9, or with a later one"
        );
        assert!(!target.join(offline::FILE).exists());
    }
}

#[test]
fn an_export_of_a_later_version_is_refused_as_that_and_not_as_damaged() {
    let data = filled();
    let out = tempfile::tempdir().unwrap();
    let made = out.path().join("made");
    exported_as(data.path(), &made, 3, |_| {});
    let error = import_from(&made, &out.path().join("target"), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the export is of version 3, and this is Farrier 0.0.7, which reads versions up to 2: import it with the version \
         that made it, or with a later one"
    );
    exported_as(data.path(), &out.path().join("none"), 0, |_| {});
    let error = import_from(&out.path().join("none"), &out.path().join("target"), false).unwrap_err();
    assert!(matches!(error, OfflineError::Damaged { .. }), "{error}");
}

/// 1203 keys, of text and of any bytes, and three blobs.
fn filled() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let store = RedbStore::open(data.path().join(offline::FILE)).unwrap();
    store
        .commit(&puts(&[
            (b"\xff\xfe", b"\x80x"),
            (b"\x01\x02", b"\n"),
            (b"alone", b"{}"),
        ]))
        .unwrap();
    for group in (0..1200).collect::<Vec<_>>().chunks(100) {
        let rows: Vec<_> = group
            .iter()
            .map(|at| (format!("event/{at:04}"), format!("{{\"number\":{at:04}}}")))
            .collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(key, value)| (key.as_bytes(), value.as_bytes()))
            .collect();
        store.commit(&puts(&rows)).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let blobs = Blobs::open(data.path().join(offline::BLOBS)).unwrap();
        for content in [b"blob one".to_vec(), vec![7; 300_000], Vec::new()] {
            blobs.put(content).await.unwrap();
        }
    });
    data
}

fn puts(rows: &[(&[u8], &[u8])]) -> Commit {
    let put = |(key, value): &(&[u8], &[u8])| Operation::Put {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
    };
    Commit {
        operations: rows.iter().map(put).collect(),
        ..Commit::default()
    }
}

fn export_to(data: &Path, directory: &Path) -> Result<Summary, OfflineError> {
    export(data, &no_names, Target::Directory(directory), &mut |_| {})
}

fn import_from(directory: &Path, data: &Path, replace: bool) -> Result<Summary, OfflineError> {
    import(Import::Directory(directory), data, replace, READER, &mut |_| {})
}

/// All rows, and all blobs' files.
fn everything_in(data: &Path) -> (Vec<KeyValue>, BTreeMap<PathBuf, Vec<u8>>) {
    let store = RedbStore::open(data.join(offline::FILE)).unwrap();
    let rows = store.range(b"", &[0xff; 8], usize::MAX).unwrap();
    (rows, files_of(&data.join(offline::BLOBS)))
}

fn files_of(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn no_names(_: &KeyValue) -> Named {
    Named::default()
}
