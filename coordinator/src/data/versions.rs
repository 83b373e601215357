//! Versions of a root workflow's data. Blocking, as the coordinator that they are for.

use std::collections::BTreeSet;

use bytes::Bytes;
use ephemeral::{Digest, Manifest};
use serde::de::DeserializeOwned;
use store::{Commit, KeyValue, Operation, Precondition, Snapshot};

use super::{Changed, Refused, Trouble};
use crate::database::formats;

/// Manifests read in one go.
const PAGE: usize = 16;

/// The next version, and what makes it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    pub version: u64,
    /// Two rows, with a precondition: another merge into the same data is a conflict.
    pub commit: Commit,
}

/// The newest version of a root's data; 0 when nothing was ever put there.
pub fn newest(rows: &dyn Snapshot, root: &str) -> Result<u64, Trouble> {
    Ok(head(rows, root)?.map_or(0, |(version, _)| version))
}

/// A version's manifest; `None`: it is not kept any more, or never was.
pub fn manifest(rows: &dyn Snapshot, root: &str, version: u64) -> Result<Option<Manifest>, Trouble> {
    if version == 0 {
        return Ok(Some(Manifest::default()));
    }
    let found = rows.get(version_key(root, version).as_bytes())?;
    found.map(|found| decode(&found)).transpose()
}

/// The rows of the next version: the newest with these changes. Nothing is written.
///
/// # Errors
/// [`Trouble::Refused`]: `DataTooLarge`, or changes to a version that there is not; what was there stays.
pub fn merge(rows: &dyn Snapshot, root: &str, changed: &Changed) -> Result<Merged, Trouble> {
    let head = head(rows, root)?;
    let newest = head.as_ref().map_or(0, |(version, _)| *version);
    if changed.base_version > newest {
        return Err(Trouble::Refused(Refused {
            reason: "DataRefused",
            message: format!(
                "the action changed version {} of the workflow's data, and the newest that is known is {newest}: the \
                 server's store is older than the workflow; retry the workflow",
                changed.base_version
            ),
        }));
    }
    let current = manifest(rows, root, newest)?.ok_or_else(|| {
        Trouble::Refused(Refused {
            reason: "DataRefused",
            message: format!("version {newest} of the workflow's data is missing in the store"),
        })
    })?;
    let next = current.merge(&changed.changes).map_err(|error| Refused {
        reason: "DataTooLarge",
        message: error.to_string(),
    })?;
    let version = newest + 1;
    let key = Bytes::from(head_key(root));
    let precondition = match head {
        None => Precondition::Absent { key: key.clone() },
        Some((_, modified)) => Precondition::Unchanged {
            key: key.clone(),
            modified,
        },
    };
    let put = |key: Bytes, value: String| Operation::Put {
        key,
        value: value.into(),
    };
    Ok(Merged {
        version,
        commit: Commit {
            preconditions: vec![precondition],
            operations: vec![
                put(version_key(root, version).into(), encode(&next)),
                put(key, version.to_string()),
            ],
        },
    })
}

/// Forgets all versions: the root has ended. Their contents are garbage then.
pub fn forget(root: &str) -> Vec<Operation> {
    vec![
        Operation::Delete {
            key: head_key(root).into(),
        },
        Operation::DeleteRange {
            from: format!("data/{root}/").into(),
            // The character after the slash.
            to: format!("data/{root}0").into(),
        },
    ]
}

/// The digests of all contents that some version of some root names.
pub fn all_contents(rows: &dyn Snapshot) -> Result<BTreeSet<Digest>, Trouble> {
    let mut contents = BTreeSet::new();
    let mut from = Bytes::from_static(b"data/");
    loop {
        let page = rows.range(&from, b"data0", PAGE)?;
        for found in &page {
            let manifest: Manifest = decode(found)?;
            contents.extend(manifest.files().map(|(_, file)| file.sha256));
        }
        let Some(last) = page.last().filter(|_| page.len() == PAGE) else {
            return Ok(contents);
        };
        // The smallest key that is larger.
        from = [&last.key, &b"\0"[..]].concat().into();
    }
}

fn head(rows: &dyn Snapshot, root: &str) -> Result<Option<(u64, store::Revision)>, Trouble> {
    let found = rows.get(head_key(root).as_bytes())?;
    found
        .map(|found| Ok((decode(&found)?, found.modified)))
        .transpose()
}

pub fn head_key(root: &str) -> String {
    format!("data-version/{root}")
}

pub fn version_key(root: &str, version: u64) -> String {
    format!("data/{root}/{version:010}")
}

fn decode<T: DeserializeOwned>(found: &KeyValue) -> Result<T, Trouble> {
    let value = formats::CURRENT.up_to_date(&found.key, found.value.clone());
    let value = value.and_then(|value| serde_json::from_slice(&value));
    value.map_err(|source| Trouble::Damaged {
        key: String::from_utf8_lossy(&found.key).into_owned(),
        source,
    })
}

fn encode(manifest: &Manifest) -> String {
    serde_json::to_string(manifest).expect("its keys are texts, its values plain")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ephemeral::{Changes, DataPath, File, MAX_BYTES, MAX_FILES, MAX_PATH_BYTES};
    use store::{MAX_COMMIT_BYTES, MemoryStore, Store};

    use super::*;

    fn now(store: &MemoryStore) -> Arc<dyn Snapshot> {
        store.snapshot().unwrap()
    }

    fn changed(base_version: u64, put: &[(&str, u64)], deleted: &[&str]) -> Changed {
        let file = |size_bytes: u64| File {
            sha256: Digest::of(&size_bytes.to_string().into_bytes()),
            size_bytes,
            executable: false,
        };
        Changed {
            base_version,
            changes: Changes {
                put: put
                    .iter()
                    .map(|(path, size)| (path.parse().unwrap(), file(*size)))
                    .collect(),
                deleted: deleted.iter().map(|path| path.parse().unwrap()).collect(),
            },
        }
    }

    fn merge_and_commit(store: &MemoryStore, root: &str, changed: &Changed) -> u64 {
        let merged = merge(&*now(store), root, changed).unwrap();
        store.commit(&merged.commit).unwrap();
        merged.version
    }

    fn paths(store: &MemoryStore, root: &str, version: u64) -> Vec<String> {
        let manifest = manifest(&*now(store), root, version).unwrap().unwrap();
        manifest.files().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn versions_follow_one_another_and_are_kept() {
        let store = MemoryStore::default();
        assert_eq!(newest(&*now(&store), "w").unwrap(), 0);
        assert!(paths(&store, "w", 0).is_empty());
        assert_eq!(merge_and_commit(&store, "w", &changed(0, &[("a", 1)], &[])), 1);
        // From version 0 too, as two machines were given it.
        assert_eq!(merge_and_commit(&store, "w", &changed(0, &[("b", 1)], &[])), 2);
        assert_eq!(merge_and_commit(&store, "w", &changed(2, &[], &["a"])), 3);
        assert_eq!(newest(&*now(&store), "w").unwrap(), 3);
        assert_eq!(paths(&store, "w", 1), ["a"]);
        assert_eq!(paths(&store, "w", 2), ["a", "b"]);
        assert_eq!(paths(&store, "w", 3), ["b"]);
        assert_eq!(newest(&*now(&store), "w2").unwrap(), 0);
    }

    #[test]
    fn of_two_merges_at_the_same_time_one_meets_a_conflict() {
        let store = MemoryStore::default();
        let first = merge(&*now(&store), "w", &changed(0, &[("a", 1)], &[])).unwrap();
        let second = merge(&*now(&store), "w", &changed(0, &[("b", 1)], &[])).unwrap();
        store.commit(&first.commit).unwrap();
        assert!(matches!(
            store.commit(&second.commit),
            Err(store::StoreError::Conflict { .. })
        ));
        let third = merge(&*now(&store), "w", &changed(0, &[("b", 1)], &[])).unwrap();
        let fourth = merge(&*now(&store), "w", &changed(0, &[("c", 1)], &[])).unwrap();
        store.commit(&third.commit).unwrap();
        assert!(store.commit(&fourth.commit).is_err());
        assert_eq!(paths(&store, "w", 2), ["a", "b"]);
    }

    #[test]
    fn too_much_is_refused_by_size_and_limit_and_what_was_there_stays() {
        let store = MemoryStore::default();
        merge_and_commit(&store, "w", &changed(0, &[("a", MAX_BYTES)], &[]));
        let error = merge(&*now(&store), "w", &changed(1, &[("b", 1)], &[])).unwrap_err();
        let Trouble::Refused(refused) = error else {
            panic!("{error}")
        };
        assert_eq!(refused.reason, "DataTooLarge");
        assert!(
            refused
                .message
                .contains("10485761 B in 2 files; at most 10485760 B"),
            "{refused}"
        );
        assert_eq!(newest(&*now(&store), "w").unwrap(), 1);
        merge_and_commit(&store, "w", &changed(1, &[("b", 1)], &["a"]));
    }

    #[test]
    fn changes_to_a_version_that_there_is_not_are_refused() {
        let store = MemoryStore::default();
        let error = merge(&*now(&store), "w", &changed(7, &[("a", 1)], &[])).unwrap_err();
        assert!(
            matches!(&error, Trouble::Refused(r) if r.reason == "DataRefused" && r.message.contains("version 7")),
            "{error}"
        );
    }

    #[test]
    fn a_root_that_ended_leaves_nothing_and_others_stay() {
        let store = MemoryStore::default();
        for root in ["w", "w/x", "w0", "v"] {
            merge_and_commit(&store, root, &changed(0, &[("a", 1), (root, 2)], &[]));
        }
        assert_eq!(all_contents(&*now(&store)).unwrap().len(), 2);
        let commit = Commit {
            operations: forget("w0"),
            ..Commit::default()
        };
        store.commit(&commit).unwrap();
        assert_eq!(newest(&*now(&store), "w0").unwrap(), 0);
        assert_eq!(manifest(&*now(&store), "w0", 1).unwrap(), None);
        assert_eq!(newest(&*now(&store), "w").unwrap(), 1);
        assert_eq!(paths(&store, "v", 1), ["a", "v"]);
    }

    #[test]
    fn all_contents_of_many_versions_are_found() {
        let store = MemoryStore::default();
        for n in 0..(3 * PAGE as u64) {
            merge_and_commit(&store, "w", &changed(n, &[("a", n)], &[]));
        }
        assert_eq!(all_contents(&*now(&store)).unwrap().len(), 3 * PAGE);
    }

    #[test]
    fn the_largest_manifest_fits_into_a_commit_with_room_for_the_events() {
        let store = MemoryStore::default();
        // In JSON a quote takes two bytes.
        let name = |n: usize| format!("{n:05}{}", "\"".repeat(MAX_PATH_BYTES - 5));
        let file = File {
            sha256: Digest::of(b""),
            size_bytes: MAX_BYTES / MAX_FILES as u64,
            executable: true,
        };
        let put: Vec<(DataPath, File)> = (0..MAX_FILES).map(|n| (name(n).parse().unwrap(), file)).collect();
        let changed = Changed {
            base_version: 0,
            changes: Changes {
                put: put.into_iter().collect(),
                ..Changes::default()
            },
        };
        let merged = merge(&*now(&store), "w", &changed).unwrap();
        let room = MAX_COMMIT_BYTES - merged.commit.len_bytes();
        assert!(room > 512 << 10, "{room}");
    }
}
