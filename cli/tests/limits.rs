//! docs/reference/limits.md names every listener and every queue of the server, and tests that are there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What listens, and what queues.
const MADE: [&str; 6] = [
    "TcpListener::bind(",
    "UdpSocket::bind(",
    "Socket::new(",
    "mpsc::channel",
    "mpsc::unbounded_channel",
    "broadcast::channel",
];
/// Where the server is.
const SOURCES: [&str; 8] = [
    "access/src",
    "boots/src",
    "cli/src/serve",
    "connections/src",
    "coordinator/src",
    "registry/src",
    "server/src",
    "store/src",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// How many listeners and queues each file makes, its tests left out.
fn made() -> BTreeMap<String, usize> {
    let root = root();
    let mut made = BTreeMap::new();
    for file in SOURCES.iter().flat_map(|below| sources(&root.join(below))) {
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        if name.ends_with("tests.rs") || name.contains("/tests/") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let calls = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        // `UdpSocket::bind(` is one thing, not a `Socket::new(` beside.
        let count = calls
            .filter(|line| MADE.iter().any(|call| line.contains(call)))
            .count();
        if count > 0 {
            made.insert(name, count);
        }
    }
    made
}

fn page() -> String {
    fs::read_to_string(root().join("docs/reference/limits.md")).unwrap()
}

/// The cells of the page's rows.
fn rows(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter(|line| line.starts_with("| "));
    lines
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// Texts in backticks.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_listener_and_every_queue_is_in_the_table() {
    let page = page();
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows(&page).iter().filter(|row| row.len() == 6) {
        for file in code(&row[1]) {
            *named.entry(file.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(
        named,
        made(),
        "left: rows of docs/reference/limits.md by file; right: listeners and queues that the file makes"
    );
}

#[test]
fn every_bound_has_a_test_that_is_there() {
    let page = page();
    let mut tests = 0;
    for row in rows(&page) {
        let (last, what) = (row.last().unwrap(), &row[0]);
        if last.starts_with("Test") {
            continue;
        }
        let cells = row.join(" ");
        if last == "–" {
            let is_elsewhere = ["is a row of the store", "the kernel's buffer"];
            assert!(
                is_elsewhere.iter().any(|why| cells.contains(why)),
                "{what} has no test"
            );
            continue;
        }
        let mut of_row = 0;
        for test in code(last) {
            let (file, name) = test.split_once("::").unwrap();
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            assert!(
                text.contains(&format!("fn {name}(")),
                "{what}: there is no {test}"
            );
            of_row += 1;
        }
        assert!(of_row > 0, "{what} names no test");
        tests += of_row;
    }
    assert!(tests > 15, "{tests} tests: the page is not read as it is written");
}
