//! docs/reference/coming-from.md claims nothing that no test shows: each row names some that are there.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const HEADER: [&str; 4] = ["There", "Here", "What differs", "Shown by"];
const SYSTEMS: [&str; 4] = ["Tinkerbell", "The fsl executor", "Mistral", "fluxor"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/reference/coming-from.md")).unwrap()
}

/// The cells of each row of the tables, by system; headings within a table and its first two lines left out.
fn rows(page: &str) -> Vec<(String, Vec<String>)> {
    let mut system = String::new();
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut system);
        }
        let Some(cells) = line.strip_prefix('|').and_then(|rest| rest.strip_suffix('|')) else {
            continue;
        };
        let cells: Vec<String> = cells.split('|').map(|cell| cell.trim().to_owned()).collect();
        let is_rule = cells.iter().all(|cell| cell.starts_with("---"));
        let is_heading = cells[0].starts_with("**") && cells[1..].iter().all(String::is_empty);
        if !is_rule && !is_heading && cells != HEADER {
            rows.push((system.clone(), cells));
        }
    }
    rows
}

/// What is wrong with a row; none: nothing.
fn problem(cells: &[String], is_test: &mut dyn FnMut(&str, &str) -> bool) -> Option<String> {
    let [there, here, _, shown] = cells else {
        return Some(format!("it has {} cells, not 4: {cells:?}", cells.len()));
    };
    if there.is_empty() || here.is_empty() {
        return Some(format!("it does not say what is there and here: {cells:?}"));
    }
    let mut named = 0;
    for (n, part) in shown.split('`').enumerate() {
        if n % 2 == 0 {
            if !matches!(part, "" | ", ") {
                return Some(format!("{there}: {part:?} stands beside its tests"));
            }
            continue;
        }
        let Some((file, name)) = part.split_once("::") else {
            return Some(format!("{there}: {part} is no file::test"));
        };
        if !is_test(file, name) {
            return Some(format!("{there}: there is no test {part}"));
        }
        named += 1;
    }
    (named == 0).then(|| format!("{there} names no test"))
}

/// The names of the functions of a text that are tests, and run: not those that are left out.
fn tests_of(text: &str) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    let mut is_marked = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_marked = true;
        } else if line.starts_with("#[ignore") {
            is_marked = false;
        } else if let Some(rest) = line.strip_prefix("async fn ").or(line.strip_prefix("fn ")) {
            if is_marked {
                tests.extend(rest.split('(').next());
            }
            is_marked = false;
        }
    }
    tests
}

#[test]
fn each_row_names_a_test_that_is_there() {
    let page = page();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut is_test = |file: &str, name: &str| {
        let text = texts
            .entry(file.to_owned())
            .or_insert_with(|| fs::read_to_string(root().join(file)).unwrap_or_default());
        tests_of(text).contains(name)
    };
    let rows = rows(&page);
    let problems: Vec<String> = rows
        .iter()
        .filter_map(|(_, cells)| problem(cells, &mut is_test))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    for system in SYSTEMS {
        let count = rows.iter().filter(|(of, _)| of == system).count();
        assert!(
            count >= 20,
            "{system} has {count} rows: the page is not read as it is written"
        );
    }
}

#[test]
fn no_word_of_theirs_is_translated_twice() {
    let mut seen = BTreeSet::new();
    for (system, cells) in rows(&page()) {
        assert!(
            seen.insert((system.clone(), cells[0].clone())),
            "{system}: {:?} has two rows",
            cells[0]
        );
    }
}

#[test]
fn what_is_not_there_is_said_of_each() {
    let page = page();
    for system in SYSTEMS {
        let section = page.split("\n## ").find(|section| section.starts_with(system));
        let section = section.unwrap_or_else(|| panic!("{system} has no section"));
        let count = section.matches("\nNot here: ").count();
        assert_eq!(count, 1, "{system} says {count} times what is not there");
    }
}

#[test]
fn a_row_without_a_test_is_found() {
    let texts = [
        "| a | b | c | |",
        "| a | b | c | `x.rs` |",
        "| a | b | c | `x.rs::not_there` |",
        "| a | b | c | `x.rs::there`, see there |",
        "| a | | c | `x.rs::there` |",
        "| a | b | `x.rs::there` |",
    ];
    let mut is_test = |file: &str, name: &str| (file, name) == ("x.rs", "there");
    for text in texts {
        let rows = rows(text);
        assert!(problem(&rows[0].1, &mut is_test).is_some(), "{text}");
    }
    let good = rows("| **Head** | | | |\n| a | b | | `x.rs::there`, `x.rs::there` |");
    assert_eq!(good.len(), 1);
    assert_eq!(problem(&good[0].1, &mut is_test), None);
    let text = "#[test]\nfn one() {}\nfn none() {}\n#[tokio::test(start_paused = true)]\nasync fn two() {}\n#[test]\n#[ignore]\nfn left_out() {}\n";
    assert_eq!(tests_of(text), BTreeSet::from(["one", "two"]));
}
