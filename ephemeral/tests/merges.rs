//! Random trees and random changes, and the cases that people run into.
#![allow(clippy::unwrap_used)]

use ephemeral::{Changes, DataPath, Digest, File, MAX_BYTES, MAX_FILES, Manifest, TooLarge};
use proptest::prelude::*;

fn file(content: &str) -> File {
    File {
        sha256: Digest::of(content.as_bytes()),
        size_bytes: content.len() as u64,
        executable: false,
    }
}

fn tree(files: &[(&str, &str)]) -> Manifest {
    Manifest::of(
        files
            .iter()
            .map(|(path, content)| (path.parse().unwrap(), file(content))),
    )
}

fn paths(manifest: &Manifest) -> Vec<&str> {
    manifest.files().map(|(path, _)| path.as_str()).collect()
}

#[test]
fn only_what_is_different_is_a_change() {
    let before = tree(&[("same", "1"), ("gone", "1"), ("other", "1")]);
    let mut executable = file("1");
    executable.executable = true;
    let after = Manifest::of([
        ("same".parse().unwrap(), file("1")),
        ("other".parse().unwrap(), executable),
        ("new".parse().unwrap(), file("2")),
    ]);
    let changes = before.changes_to(&after);
    assert_eq!(
        changes.put.keys().map(DataPath::as_str).collect::<Vec<_>>(),
        ["new", "other"]
    );
    assert_eq!(
        changes.deleted.iter().map(DataPath::as_str).collect::<Vec<_>>(),
        ["gone"]
    );
    assert!(before.changes_to(&before).is_empty());
}

#[test]
fn two_attempts_from_the_same_version_both_count_file_by_file() {
    let given = tree(&[("a", "0"), ("b", "0"), ("c", "0")]);
    let first = given.changes_to(&tree(&[("a", "1"), ("c", "0")]));
    let second = given.changes_to(&tree(&[("a", "2"), ("b", "0"), ("c", "0"), ("d", "2")]));
    let merged = given.merge(&first).unwrap().merge(&second).unwrap();
    assert_eq!(merged, tree(&[("a", "2"), ("c", "0"), ("d", "2")]));
}

#[test]
fn a_path_is_a_file_or_a_folder_and_the_later_merge_counts() {
    let folder = Manifest::default().changes_to(&tree(&[("x/1", ""), ("x/2/3", ""), ("x-y", "")]));
    let plain = Manifest::default().changes_to(&tree(&[("x", "")]));
    let merged = Manifest::default().merge(&folder).unwrap().merge(&plain).unwrap();
    assert_eq!(paths(&merged), ["x", "x-y"]);
    let merged = merged.merge(&folder).unwrap();
    assert_eq!(paths(&merged), ["x-y", "x/1", "x/2/3"]);
}

#[test]
fn over_the_limit_the_size_and_the_limit_are_named_and_nothing_is_merged() {
    let half = |path: &str| {
        let large = File {
            size_bytes: MAX_BYTES / 2 + 1,
            ..file(path)
        };
        Manifest::default().changes_to(&Manifest::of([(path.parse().unwrap(), large)]))
    };
    let one = Manifest::default().merge(&half("a")).unwrap();
    let error = one.merge(&half("b")).unwrap_err();
    assert_eq!(
        error,
        TooLarge::Bytes {
            bytes: MAX_BYTES + 2,
            files: 2
        }
    );
    let text = error.to_string();
    assert!(
        text.contains("10485762 B in 2 files") && text.contains("at most 10485760 B"),
        "{text}"
    );
    // What makes room first may come.
    let mut instead = half("b");
    instead.deleted.insert("a".parse().unwrap());
    assert_eq!(paths(&one.merge(&instead).unwrap()), ["b"]);
    let many = (0..=MAX_FILES).map(|n| (format!("f{n}").parse().unwrap(), file("")));
    assert_eq!(
        Manifest::of(many).check(),
        Err(TooLarge::Files { files: MAX_FILES + 1 })
    );
}

#[test]
fn sizes_that_do_not_add_up_to_a_number_are_too_large() {
    let huge = File {
        size_bytes: u64::MAX,
        ..file("")
    };
    let two = Manifest::of([("a".parse().unwrap(), huge), ("b".parse().unwrap(), huge)]);
    assert!(two.check().is_err());
}

#[test]
fn its_json_is_canonical_and_a_bad_path_in_it_is_refused() {
    let text = serde_json::to_string(&tree(&[("b/c", ""), ("a", "")])).unwrap();
    let empty = Digest::of(b"");
    assert_eq!(
        text,
        format!(
            r#"{{"a":{{"sha256":"{empty}","size_bytes":0}},"b/c":{{"sha256":"{empty}","size_bytes":0}}}}"#
        )
    );
    assert_eq!(
        serde_json::from_str::<Manifest>(&text).unwrap(),
        tree(&[("a", ""), ("b/c", "")])
    );
    assert!(serde_json::from_str::<Manifest>(&text.replace("b/c", "../c")).is_err());
}

/// Few names, so that trees meet: a file here is a folder there.
fn any_tree() -> impl Strategy<Value = Manifest> {
    let path = prop::collection::vec("[a-c]", 1..4).prop_map(|names| names.join("/").parse().unwrap());
    let file = ("[xyz]{0,2}", any::<bool>()).prop_map(|(content, executable)| File {
        executable,
        ..file(&content)
    });
    prop::collection::vec((path, file), 0..12).prop_map(Manifest::of)
}

proptest! {
    #[test]
    fn the_changes_from_one_tree_to_another_lead_there(a in any_tree(), b in any_tree()) {
        prop_assert_eq!(a.merge(&a.changes_to(&b)).unwrap(), b);
    }

    #[test]
    fn a_merge_keeps_what_it_puts_and_no_file_in_the_place_of_a_folder(
        given in any_tree(),
        current in any_tree(),
        left in any_tree(),
    ) {
        let changes = given.changes_to(&left);
        let merged = current.merge(&changes).unwrap();
        for (path, file) in &changes.put {
            prop_assert_eq!(merged.get(path.as_str()), Some(file));
        }
        for (path, _) in merged.files() {
            prop_assert!(path.parents().all(|parent| merged.get(parent).is_none()));
        }
        for path in &changes.deleted {
            prop_assert!(merged.get(path.as_str()).is_none());
        }
        // Twice is as once: a report that comes again changes nothing.
        prop_assert_eq!(merged.merge(&changes).unwrap(), merged.clone());
        let nothing = Changes::default();
        prop_assert_eq!(merged.merge(&nothing).unwrap(), merged);
    }
}
