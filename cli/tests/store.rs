//! `farrier store` as people and scripts use it: what it prints, and its exit codes.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use store::{Commit, Operation, RedbStore, Store};

#[test]
fn a_store_goes_out_and_comes_back_by_a_directory_and_by_a_pipe() {
    let dir = tempfile::tempdir().expect("directory");
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    fill(&data);
    let out = dir.path().join("out");
    let exported = farrier(&data, &["export", path(&out)], b"");
    assert_eq!(
        text(&exported),
        format!(
            "exported 3 keys and 0 blobs at revision 1 (directory {})\n",
            out.display()
        )
    );
    let imported = farrier(&copy, &["import", path(&out), "-o", "json"], b"");
    let answer: serde_json::Value = serde_json::from_slice(&imported.stdout).expect("JSON");
    assert_eq!(
        (&answer["keys"], &answer["place"]),
        (&3.into(), &path(&copy).into())
    );

    let archive = farrier(&copy, &["export", "-"], b"");
    assert_eq!(
        String::from_utf8_lossy(&archive.stderr),
        "farrier: exported 3 keys and 0 blobs at revision 1\n"
    );
    let piped = dir.path().join("piped");
    assert_eq!(code(&farrier(&piped, &["import", "-"], &archive.stdout)), Some(0));
    assert_eq!(farrier(&piped, &["export", "-"], b"").stdout, archive.stdout);

    let refused = farrier(&piped, &["import", path(&out)], b"");
    assert_eq!(code(&refused), Some(2));
    assert!(
        words(&refused).ends_with("replace what is there with --force\n"),
        "{}",
        words(&refused)
    );
    assert_eq!(
        code(&farrier(&piped, &["import", path(&out), "--force"], b"")),
        Some(0)
    );
}

#[test]
fn a_check_is_a_table_or_json_and_its_exit_code_tells_damage() {
    let dir = tempfile::tempdir().expect("directory");
    let missing = farrier(dir.path(), &["check"], b"");
    assert_eq!(code(&missing), Some(3));
    fill(dir.path());
    let said = text(&farrier(dir.path(), &["check"], b""));
    assert!(
        said.starts_with(
            "KEYS      COUNT  BYTES\nmachine   2      25\ntemplate  1      12\n(blobs)   0      0\n"
        ),
        "{said}"
    );
    assert!(said.contains("farrier.redb: sound, 3 keys, "), "{said}");

    let blob = dir
        .path()
        .join("blobs/sha256/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    fs::create_dir_all(blob.parent().expect("parent")).expect("directory");
    fs::write(&blob, "not abc").expect("write");
    let damaged = farrier(dir.path(), &["check", "-o", "json"], b"");
    assert_eq!(code(&damaged), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&damaged.stdout).expect("JSON");
    assert_eq!(report["blobs"]["damaged"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["blobs"]["unnamed"], 1);
    assert!(words(&damaged).contains("is damaged: restore it from a backup with `farrier store import`"));
}

#[test]
fn what_a_row_names_and_is_not_there_is_damage() {
    let dir = tempfile::tempdir().expect("directory");
    fill(dir.path());
    let blob = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let manifest = format!("{{\"a\":{{\"sha256\":\"{blob}\",\"size_bytes\":3}}}}");
    let head = "{\"id\":\"w\",\"name\":\"w\",\"template\":\"\",\"state\":\"SUCCESS\",\"run\":1,\"tasks\":[],\"created_at\":0,\
                \"started_at\":null,\"ended_at\":1,\"last_event\":1,\"last_at\":1}";
    let archived = format!(
        "{{\"head\":{head},\"tasks\":[],\"parts\":[{{\"first\":\"event/w/0000000001\",\"blob\":\"{blob}\"}}]}}"
    );
    let detached = format!("{{\"detached\":{{\"sha256\":\"{blob}\",\"bytes\":3}}}}");
    let piece = format!("key detached/w/{blob}/00000");
    let blob = format!("blob {blob}");
    for (key, value, missing) in [
        ("data/w/0000000001", manifest, &blob),
        ("archived/w", archived, &blob),
        ("execution/w/00000/00001/00000", detached, &piece),
    ] {
        let store = RedbStore::open(dir.path().join("farrier.redb")).expect("open");
        let operations = vec![
            Operation::Delete {
                key: "data/w/0000000001".into(),
            },
            Operation::Delete {
                key: "archived/w".into(),
            },
            Operation::Put {
                key: key.into(),
                value: value.into(),
            },
        ];
        let commit = Commit {
            operations,
            ..Commit::default()
        };
        store.commit(&commit).expect("commit");
        drop(store);
        let damaged = farrier(dir.path(), &["check"], b"");
        assert_eq!(code(&damaged), Some(1));
        let want = format!("farrier: {missing} is missing: {key} names it\n");
        assert!(words(&damaged).starts_with(&want), "{}", words(&damaged));
    }
}

#[test]
fn a_store_that_a_server_has_open_is_left_alone() {
    let dir = tempfile::tempdir().expect("directory");
    fill(dir.path());
    let _open = RedbStore::open(dir.path().join("farrier.redb")).expect("open");
    for command in [&["check"][..], &["export", "-"], &["import", "-", "--force"]] {
        let refused = farrier(dir.path(), command, b"");
        assert_eq!(code(&refused), Some(1), "{command:?}");
        let want = format!(
            "farrier: store {}/farrier.redb is in use by another process: stop that one, or choose another data directory\n",
            dir.path().display()
        );
        assert_eq!(words(&refused), want, "{command:?}");
    }
}

#[test]
fn a_damaged_archive_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    fill(dir.path());
    let mut archive = farrier(dir.path(), &["export", "-"], b"").stdout;
    let at = archive
        .windows(5)
        .position(|window| window == b"node1")
        .expect("a row");
    archive[at] = b'N';
    let target = dir.path().join("target");
    let refused = farrier(&target, &["import", "-"], &archive);
    assert_eq!(code(&refused), Some(1));
    assert!(
        words(&refused).starts_with("farrier: the export is damaged: "),
        "{}",
        words(&refused)
    );
    assert!(!target.join("farrier.redb").exists());
}

fn fill(data: &Path) {
    fs::create_dir_all(data).expect("directory");
    let store = RedbStore::open(data.join("farrier.redb")).expect("open");
    let put = |key: &'static str, value: &'static str| Operation::Put {
        key: key.into(),
        value: value.into(),
    };
    let operations = vec![
        put("machine/a", "node1"),
        put("machine/b", "\"\""),
        put("template/c", "{}"),
    ];
    store
        .commit(&Commit {
            operations,
            ..Commit::default()
        })
        .expect("commit");
}

fn farrier(data: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_farrier"))
        .args(["store", "--data-dir", path(data)])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    // One that is refused early does not read it all.
    let _ = child.stdin.take().expect("stdin").write_all(input);
    child.wait_with_output().expect("output")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", words(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn what_a_check_finds_damaged_is_not_exported() {
    let dir = tempfile::tempdir().expect("directory");
    fill(dir.path());
    let file = dir.path().join("farrier.redb");
    let mut bytes = fs::read(&file).expect("read");
    let at: Vec<usize> = (0..bytes.len() - 5)
        .filter(|at| bytes[*at..].starts_with(b"node1"))
        .collect();
    assert!(!at.is_empty());
    for at in at {
        bytes[at] ^= 1;
    }
    fs::write(&file, bytes).expect("write");
    let checked = farrier(dir.path(), &["check"], b"");
    assert_eq!(code(&checked), Some(1));
    assert!(words(&checked).contains("is damaged"), "{}", words(&checked));
    let out = dir.path().join("out");
    for target in ["-", path(&out)] {
        let exported = farrier(dir.path(), &["export", target], b"");
        assert_eq!(code(&exported), Some(1));
        let want = format!("farrier: {} is damaged, and was not exported: ", file.display());
        assert!(words(&exported).starts_with(&want), "{}", words(&exported));
        assert!(exported.stdout.is_empty());
    }
    assert!(!out.exists());
}
