//! A file of a store, or an export, that is no longer what was written: it is found, or does not matter.
//!
//! "Does not matter" is what a flip in a free page, or behind the last row of a page, is: what is read is, byte for
//! byte, what was written. Nothing here may panic, and nobody may read as content what is none: check, export and what
//! a server does before it opens the store find the same.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use store::blobs::{BlobError, Blobs, Digest, file_of};
use store::formats::Reader;
use store::offline::{self, Import, Named, OfflineError, Target, check, export, import, verify};
use store::{Commit, KeyValue, Operation, RedbStore, Store};

const PAGE_BYTES: usize = 4096;

/// A store's file, and what is in it.
struct Sound {
    file: Vec<u8>,
    /// What the file was some commits before.
    earlier: Vec<u8>,
    rows: Vec<KeyValue>,
    archive: Vec<u8>,
}

/// What is done to a file, and how it is called.
type Damage = (String, Box<dyn Fn(&mut Vec<u8>) + Send + Sync>);

fn damage(what: String, how: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Damage {
    (what, Box::new(how))
}

/// A coin whose throws are the same each time.
struct Coin(u64);

impl Coin {
    fn below(&mut self, end: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }
}

/// Of no version of Farrier that there is.
const READER: Reader = Reader {
    version: "0.0.7",
    reads: 3,
};

#[test]
fn a_flipped_bit_is_found_or_does_not_matter() {
    for sound in [Sound::closed(), Sound::crashed()] {
        let mut coin = Coin(35);
        // One in each page, and one in each byte of the header that means something.
        let pages = (0..sound.file.len() / PAGE_BYTES).map(|page| page * PAGE_BYTES + coin.below(PAGE_BYTES));
        // All of the byte that says which commit is the newest, but for the bit that names it: after a crash the other
        // one is whole, too, and may well be the one that counts.
        let mut bits: Vec<(usize, usize)> = (1..8).map(|bit| (9, bit)).collect();
        let bytes = (0..9)
            .chain((10..320).step_by(3))
            .chain(pages)
            .collect::<Vec<_>>();
        bits.extend(bytes.into_iter().map(|byte| (byte, coin.below(8))));
        let flips = bits.into_iter().map(|(byte, bit)| {
            damage(format!("bit {bit} of byte {byte}"), move |file| {
                file[byte] ^= 1 << bit
            })
        });
        sound.find(flips.collect(), 60);
    }
}

#[test]
fn an_overwritten_page_is_found_or_does_not_matter() {
    for sound in [Sound::closed(), Sound::crashed()] {
        let mut coin = Coin(36);
        let pages = sound.file.len() / PAGE_BYTES;
        let mut damaged = Vec::new();
        for page in (0..pages).step_by(2) {
            let place = page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
            let mut random = vec![0; PAGE_BYTES];
            random.fill_with(|| coin.below(256) as u8);
            let other = coin.below(pages) * PAGE_BYTES;
            let contents = [
                ("zeros", vec![0; PAGE_BYTES]),
                ("noise", random),
                ("another page", sound.file[other..other + PAGE_BYTES].to_vec()),
                (
                    "what it was",
                    sound.earlier.get(place.clone()).unwrap_or_default().to_vec(),
                ),
            ];
            for (what, content) in contents {
                if content.len() == PAGE_BYTES && content != sound.file[place.clone()] {
                    let place = place.clone();
                    damaged.push(damage(format!("{what} in page {page}"), move |file| {
                        file[place.clone()].copy_from_slice(&content);
                    }));
                }
            }
        }
        sound.find(damaged, 90);
    }
}

#[test]
fn a_file_that_is_cut_off_or_goes_on_is_found_or_does_not_matter() {
    for sound in [Sound::closed(), Sound::crashed()] {
        let len = sound.file.len();
        let cut = [1, 100, 320, PAGE_BYTES, len / 2, len - PAGE_BYTES, len - 1];
        let longer = [1, PAGE_BYTES, 100 * PAGE_BYTES].map(|more| len + more);
        let all = cut.into_iter().chain(longer);
        let all = all.map(|len| damage(format!("{len} B long"), move |file| file.resize(len, 0)));
        sound.find(all.collect(), cut.len());
    }
}

#[test]
fn a_flipped_bit_of_an_export_is_refused_and_nothing_of_it_stays() {
    let data = tempfile::tempdir().unwrap();
    drop(filled(data.path()));
    put_blobs(data.path());
    let good = data.path().join("export");
    export(data.path(), &no_names, Target::Directory(&good), &mut |_| {}).unwrap();
    let target = tempfile::tempdir().unwrap();
    let mut coin = Coin(37);
    let files = files_of(&good);
    assert_eq!(files.len(), 2 + BLOBS.len());
    for file in files {
        let content = fs::read(&file).unwrap();
        for _ in 0..12 {
            let (byte, bit) = (coin.below(content.len()), coin.below(8));
            let mut damaged = content.clone();
            damaged[byte] ^= 1 << bit;
            fs::write(&file, damaged).unwrap();
            let what = format!("bit {bit} of byte {byte} of {}", file.display());
            let from = Import::Directory(&good);
            match import(from, target.path(), false, READER, &mut |_| {}) {
                Err(OfflineError::Damaged { .. }) => {}
                other => panic!("{what}: {other:?}"),
            }
            assert_eq!(files_of(target.path()), [] as [PathBuf; 0], "{what}");
        }
        fs::write(&file, content).unwrap();
    }
    import(
        Import::Directory(&good),
        target.path(),
        false,
        READER,
        &mut |_| {},
    )
    .unwrap();
}

#[test]
fn a_flipped_bit_of_a_blob_is_an_error_to_all_who_read_it() {
    let data = tempfile::tempdir().unwrap();
    drop(filled(data.path()));
    put_blobs(data.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let blobs = Blobs::open_as_it_is(data.path().join(offline::BLOBS)).unwrap();
    let mut coin = Coin(38);
    for blob in BLOBS {
        let digest = Digest::of(blob.as_bytes());
        let path = data.path().join(offline::BLOBS).join(file_of(&digest));
        for _ in 0..8 {
            let mut content = blob.as_bytes().to_vec();
            let byte = coin.below(content.len());
            content[byte] ^= 1 << coin.below(8);
            fs::write(&path, &content).unwrap();
            let report = check(data.path(), &no_names, &mut |_| {}).unwrap();
            assert_eq!(report.problems, [format!("blob {digest} is damaged")]);
            assert!(export_of(data.path(), &mut Vec::new()).is_err());
            let errors = runtime.block_on(async {
                let stream = blobs.read(&digest).await.unwrap().1;
                [
                    blobs.get(&digest).await.unwrap_err(),
                    stream.try_collect::<Vec<_>>().await.unwrap_err(),
                ]
            });
            for error in errors {
                assert!(matches!(error, BlobError::Damaged { .. }), "{error}");
            }
        }
        fs::write(&path, blob).unwrap();
    }
    assert!(
        check(data.path(), &no_names, &mut |_| {})
            .unwrap()
            .problems
            .is_empty()
    );
}

impl Sound {
    /// As a server leaves it that is stopped.
    fn closed() -> Sound {
        let data = tempfile::tempdir().unwrap();
        let (store, earlier) = filled(data.path());
        drop(store);
        Sound::of(data.path(), earlier)
    }

    /// As a crash leaves it: never closed.
    fn crashed() -> Sound {
        let data = tempfile::tempdir().unwrap();
        let (store, earlier) = filled(data.path());
        let path = data.path().join(offline::FILE);
        let file = fs::read(&path).unwrap();
        drop(store);
        fs::write(&path, file).unwrap();
        Sound::of(data.path(), earlier)
    }

    fn of(data: &Path, earlier: Vec<u8>) -> Sound {
        let file = fs::read(data.join(offline::FILE)).unwrap();
        let mut archive = Vec::new();
        export_of(data, &mut archive).unwrap();
        let store = RedbStore::open(data.join(offline::FILE)).unwrap();
        Sound {
            file,
            earlier,
            rows: store.range(b"", &[0xff; 8], usize::MAX).unwrap(),
            archive,
        }
    }

    /// Tries each of the files, and finds at least this many to be damaged.
    #[track_caller]
    fn find(&self, damaged: Vec<Damage>, at_least: usize) {
        let half = damaged.len() / 2;
        let found = std::thread::scope(|scope| {
            let halves = [&damaged[..half], &damaged[half..]].map(|damaged| {
                scope.spawn(|| {
                    let data = tempfile::tempdir().unwrap();
                    let found = damaged.iter().filter(|(what, how)| {
                        let mut file = self.file.clone();
                        how(&mut file);
                        self.with_file(data.path(), &file, what)
                    });
                    found.count()
                })
            });
            halves.map(|half| half.join().unwrap()).iter().sum::<usize>()
        });
        assert!(found >= at_least, "only {found} of {} were found", damaged.len());
    }

    /// Whether it is found that the store has this file.
    fn with_file(&self, data: &Path, file: &[u8], what: &str) -> bool {
        let path = data.join(offline::FILE);
        fs::write(&path, file).unwrap();
        let checked = check(data, &no_names, &mut |_| {});
        let found = match &checked {
            Ok(report) => !report.problems.is_empty(),
            Err(_) => true,
        };
        let mut archive = Vec::new();
        let exported = export_of(data, &mut archive);
        assert_eq!(exported.is_err(), found, "{what}: {exported:?}, {checked:?}");
        assert!(
            found || archive == self.archive,
            "{what}: other content was exported"
        );
        let verified = verify(data, &mut |_| {});
        assert_eq!(verified.is_err(), found, "{what}: {verified:?}, {checked:?}");
        assert!(fs::read(&path).unwrap() == file, "{what}: the file was changed");
        match RedbStore::open(&path) {
            Err(_) => assert!(found, "{what}: it was not opened"),
            // Rows of an older page, or of another, have right checksums: that is for `verify` to find.
            Ok(_) if found && (what.starts_with("what it was") || what.starts_with("another page")) => {}
            Ok(store) => self.check_reads(&store, found, what),
        }
        found
    }

    /// What is read is what was written, or an error, also of a store that nobody should have opened.
    fn check_reads(&self, store: &RedbStore, found: bool, what: &str) {
        for row in &self.rows {
            match store.get(&row.key) {
                Ok(read) => assert_eq!(read.as_ref(), Some(row), "{what}"),
                Err(error) => assert!(found, "{what}: {:?}: {error}", row.key),
            }
        }
        for range in [&b""[..], b"event/", b"machine/", b"workflow/"] {
            let end = store::prefix_end(range);
            let rows = self.rows.iter().filter(|row| row.key.starts_with(range));
            match store.range(range, &end, usize::MAX) {
                Ok(read) => assert!(read.iter().eq(rows), "{what}"),
                Err(error) => assert!(found, "{what}: {error}"),
            }
        }
    }
}

/// Rows as a server has them, many of them written several times and some deleted.
///
/// With the file as it was some commits before.
fn filled(data: &Path) -> (RedbStore, Vec<u8>) {
    let store = RedbStore::open(data.join(offline::FILE)).unwrap();
    let mut coin = Coin(7);
    for round in 0..2 {
        for group in 0..6 {
            let mut operations = Vec::new();
            for n in 0..40 {
                let id = format!("01a20ebe-4a9f-7538-8e12-{:012}", group * 40 + n);
                let len = [30, 120, 400, 900][coin.below(4)];
                let message = "installed ".repeat(len / 10);
                let value = format!("{{\"round\":{round},\"state\":\"RUNNING\",\"message\":\"{message}\"}}");
                let kind = ["machine", "workflow", "event", "log"][n % 4];
                operations.push(Operation::Put {
                    key: format!("{kind}/{id}").into(),
                    value: value.into(),
                });
            }
            commit(&store, operations);
        }
    }
    let earlier = fs::read(data.join(offline::FILE)).unwrap();
    let large = |n: u8| Operation::Put {
        key: format!("detached/{n}").into(),
        value: vec![n; 25_000].into(),
    };
    commit(&store, vec![large(1), large(2), large(3)]);
    commit(
        &store,
        vec![Operation::Delete {
            key: "detached/2".into(),
        }],
    );
    (store, earlier)
}

fn commit(store: &RedbStore, operations: Vec<Operation>) {
    let commit = Commit {
        operations,
        ..Commit::default()
    };
    store.commit(&commit).unwrap();
}

fn export_of(data: &Path, archive: &mut Vec<u8>) -> Result<(), OfflineError> {
    export(data, &no_names, Target::Tar(archive), &mut |_| {}).map(drop)
}

const BLOBS: [&str; 3] = ["a blob", "another one", "and what a workflow that has ended left"];

fn put_blobs(data: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let blobs = Blobs::open(data.join(offline::BLOBS)).unwrap();
    for blob in BLOBS {
        runtime.block_on(blobs.put(blob)).unwrap();
    }
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_of(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn no_names(_: &KeyValue) -> Named {
    Named::default()
}
