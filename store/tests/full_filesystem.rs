//! A filesystem that is full, and one whose machine loses power: real ext4 on a small loop device, in a mount
//! namespace of the test's own, which takes mounts and loop devices with it however the test ends.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use store::blobs::{BlobError, Blobs, Digest};
use store::{Commit, Operation, RedbStore, Store, StoreError, StoreHandle};

const MIB: usize = 1024 * 1024;

#[test]
fn a_store_on_a_full_filesystem_refuses_and_is_well_again_when_there_is_room() {
    let filesystem = Filesystem::small();
    let path = filesystem.root().join("farrier.redb");
    let store = RedbStore::open(&path).unwrap();
    let mut acknowledged = Vec::new();
    let mut number = 0;
    for round in 0..3 {
        filesystem.fill();
        let mut refused = 0;
        while refused < 4 {
            number += 1;
            match store.commit(&pair(number)) {
                Ok(_) => acknowledged.push(number),
                Err(error) => {
                    refused += 1;
                    let want = format!(
                        "no room in the filesystem of store {}: free some, or make it larger; then all goes on \
                         without a restart",
                        path.display()
                    );
                    assert_eq!(error.to_string(), want, "{error:?}");
                    assert!(matches!(error, StoreError::Full { .. }));
                    // It can still be read.
                    check_pairs(&store, &acknowledged, number);
                }
            }
            assert!(number < 1000 * (round + 1), "the filesystem never becomes full");
        }
        filesystem.make_room();
        number += 1;
        store.commit(&pair(number)).unwrap();
        acknowledged.push(number);
        check_pairs(&store, &acknowledged, number);
        // Room for the next round, too.
        let all = Operation::DeleteRange {
            from: Bytes::from_static(b"0"),
            to: Bytes::from_static(b"9"),
        };
        let operations = vec![all];
        store
            .commit(&Commit {
                operations,
                ..Commit::default()
            })
            .unwrap();
        acknowledged.clear();
    }
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    store.commit(&pair(1)).unwrap();
}

/// The engine is closed and opened again after an I/O error, and a snapshot reads from the one that is closed.
#[test]
fn a_snapshot_from_before_an_io_error_is_whole_or_expires_and_a_new_one_reads_all() {
    let filesystem = Filesystem::small();
    let path = filesystem.root().join("farrier.redb");
    let store = RedbStore::open(&path).unwrap();
    for number in 0..200 {
        store.commit(&pair(number)).unwrap();
    }
    let before = store.snapshot().unwrap();
    filesystem.fill();
    let mut number = 200;
    let error = loop {
        match store.commit(&pair(number)) {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    filesystem.make_room();
    // The file is opened again by this.
    let now = store.snapshot().unwrap();
    match before.range(b"0", b"9", usize::MAX) {
        // All of it was in memory.
        Ok(rows) => assert_eq!(rows.len(), 2 * 200),
        Err(error) => assert!(error.is_expired(), "{error:?}"),
    }
    // The one that is open now has not suffered from it.
    assert!(now.range(b"0", b"9", usize::MAX).unwrap().len() >= 2 * number);
    store.commit(&pair(9000)).unwrap();
    check_pairs(&store, &(0..number).chain([9000]).collect::<Vec<_>>(), 9000);
    drop(before);
    store.commit(&pair(9001)).unwrap();
}

#[test]
fn callers_of_the_queue_are_told_and_served_again_and_a_watch_goes_on() {
    let filesystem = Filesystem::small();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let handle = StoreHandle::new(RedbStore::open(filesystem.root().join("farrier.redb")).unwrap());
        let mut watch = handle.watch(b"", None).await.unwrap();
        filesystem.fill();
        let mut acknowledged = Vec::new();
        let mut full = false;
        for round in 0..100 {
            let commits: Vec<_> = (round * 8..round * 8 + 8)
                .map(|number| {
                    let handle = handle.clone();
                    tokio::spawn(async move { (number, handle.commit(pair(number)).await) })
                })
                .collect();
            for commit in commits {
                match commit.await.unwrap() {
                    (number, Ok(_)) => acknowledged.push(number),
                    (_, Err(StoreError::Full { .. })) => full = true,
                    (_, Err(error)) => panic!("{error:?}"),
                }
            }
            if full {
                break;
            }
        }
        assert!(full, "the filesystem never becomes full");
        filesystem.make_room();
        handle.commit(pair(9000)).await.unwrap();
        acknowledged.push(9000);
        check_pairs(&**handle.store(), &acknowledged, 9000);
        let mut seen = Vec::new();
        while seen.last() != Some(&9000) {
            for change in watch.next().await.unwrap() {
                let key = std::str::from_utf8(change.key()).unwrap().to_owned();
                seen.extend(
                    key.strip_suffix("/b")
                        .map(|number| number.parse::<usize>().unwrap()),
                );
            }
        }
        acknowledged.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, acknowledged);
    });
}

#[test]
fn a_new_store_on_a_full_filesystem_leaves_nothing_half() {
    let filesystem = Filesystem::small();
    let path = filesystem.root().join("farrier.redb");
    filesystem.fill();
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(!path.exists());
    filesystem.make_room();
    let store = RedbStore::open(&path).unwrap();
    store.commit(&pair(1)).unwrap();
    check_pairs(&store, &[1], 1);
    let names: Vec<_> = fs::read_dir(filesystem.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "lost+found")
        .collect();
    assert_eq!(names, ["farrier.redb"]);
}

#[test]
fn blobs_on_a_full_filesystem_are_refused_and_leave_nothing() {
    let filesystem = Filesystem::small();
    let place = filesystem.root().join("blobs");
    runtime().block_on(async {
        let blobs = Blobs::open(&place).unwrap();
        let kept = blobs.put(vec![1; 1000]).await.unwrap();
        filesystem.fill();
        let big = vec![2; MIB];
        let error = blobs.put(big.clone()).await.unwrap_err();
        let want = format!(
            "no room for a blob in {}: free some, or make the filesystem larger",
            place.display()
        );
        assert_eq!(error.to_string(), want);
        assert!(matches!(error, BlobError::Full { .. }), "{error:?}");
        assert!(!blobs.exists(&Digest::of(&big)).await.unwrap());
        assert_eq!(blobs.get(&kept).await.unwrap(), vec![1; 1000]);
        filesystem.make_room();
        let digest = blobs.put(big.clone()).await.unwrap();
        assert_eq!(blobs.get(&digest).await.unwrap(), big);
    });
    assert_eq!(count_files(&place), 2);
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut() {
    let filesystem = Filesystem::small();
    runtime().block_on(async {
        let blobs = Blobs::open(filesystem.root().join("data/blobs")).unwrap();
        let store = RedbStore::open(filesystem.root().join("data/farrier.redb")).unwrap();
        for round in 0..3 {
            let small = blobs.put(format!("small {round}")).await.unwrap();
            let large = vec![u8::try_from(round).unwrap(); 9 * MIB];
            let large_digest = blobs.put(large.clone()).await.unwrap();
            store.commit(&pair(round)).unwrap();
            // Nothing is unmounted or synced: this is what the disk holds now.
            let after = filesystem.after_power_cut();
            let blobs = Blobs::open(after.root().join("data/blobs")).unwrap();
            assert_eq!(blobs.get(&small).await.unwrap(), format!("small {round}"));
            assert!(blobs.get(&large_digest).await.unwrap() == large);
            let store = RedbStore::open(after.root().join("data/farrier.redb")).unwrap();
            check_pairs(&store, &(0..=round).collect::<Vec<_>>(), round);
        }
    });
}

/// Two keys of 30 kB that are there together or not at all.
fn pair(number: usize) -> Commit {
    let put = |half: &str| Operation::Put {
        key: format!("{number:05}/{half}").into(),
        value: vec![u8::try_from(number % 251).unwrap(); 30_000].into(),
    };
    Commit {
        operations: vec![put("a"), put("b")],
        ..Commit::default()
    }
}

/// Those that were acknowledged are there; of all up to `last` nothing is half there or wrong.
#[track_caller]
fn check_pairs(store: &dyn Store, acknowledged: &[usize], last: usize) {
    let rows = store.range(b"0", b"9", usize::MAX).unwrap();
    let mut found = Vec::new();
    for pair in rows.chunks(2) {
        let [a, b] = pair else { panic!("half a commit") };
        let number: usize = std::str::from_utf8(&a.key[..5]).unwrap().parse().unwrap();
        assert_eq!(b.key, format!("{number:05}/b"));
        let byte = u8::try_from(number % 251).unwrap();
        assert!(a.value == vec![byte; 30_000] && b.value == a.value && number <= last);
        found.push(number);
    }
    for number in acknowledged {
        assert!(found.contains(number), "{number} was acknowledged");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn count_files(directory: &Path) -> usize {
    let count = |entry: fs::DirEntry| {
        if entry.path().is_dir() {
            count_files(&entry.path())
        } else {
            1
        }
    };
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| count(entry.unwrap()))
        .sum()
}

/// A small ext4, mounted where only this test's thread and its children see it.
struct Filesystem {
    directory: tempfile::TempDir,
}

impl Filesystem {
    fn small() -> Filesystem {
        // The namespace is this thread's alone.
        unshare(CloneFlags::CLONE_NEWNS).expect("this test runs as root");
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.img");
        File::create(&image).unwrap().set_len(64 * MIB as u64).unwrap();
        run(
            "mkfs.ext4",
            &["-q", "-E", "lazy_itable_init=0", "-m", "0"],
            &[&image],
        );
        let filesystem = Filesystem { directory };
        filesystem.mount();
        filesystem
    }

    /// What a machine finds whose power went away now.
    fn after_power_cut(&self) -> Filesystem {
        let directory = tempfile::tempdir().unwrap();
        fs::copy(
            self.directory.path().join("disk.img"),
            directory.path().join("disk.img"),
        )
        .unwrap();
        let filesystem = Filesystem { directory };
        filesystem.mount();
        filesystem
    }

    fn mount(&self) {
        let root = self.root();
        fs::create_dir(&root).unwrap();
        let image = self.directory.path().join("disk.img");
        run(
            "mount",
            &["-t", "ext4", "-o", "loop"],
            &[image.as_path(), root.as_path()],
        );
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let mut filler = File::create(self.root().join("filler")).unwrap();
        for len in [MIB, 4096] {
            loop {
                match filler
                    .write_all(&vec![0xaa; len])
                    .and_then(|()| filler.sync_data())
                {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.root().join("filler")).unwrap();
        // ext4 gives the room back when the removal is in its journal.
        File::open(self.root()).unwrap().sync_all().unwrap();
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        // Lazily: a store that the test still has open keeps it until the thread ends.
        let _ = nix::mount::umount2(&self.root(), nix::mount::MntFlags::MNT_DETACH);
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) {
    let output = Command::new(program).args(options).args(paths).output();
    let output = output.unwrap_or_else(|error| panic!("{program} (of util-linux or e2fsprogs): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
}
