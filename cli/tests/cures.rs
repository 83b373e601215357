//! Messages name commands as cures: each of them exists, with its flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// What stands between backticks and begins with `farrier `, lines that were broken for width put together.
fn commands(text: &str) -> Vec<String> {
    let joined: Vec<&str> = text.split("\\\n").map(str::trim).collect();
    let joined = joined.join(" ");
    let quoted = joined.split('`').skip(1);
    quoted
        .filter(|part| part.starts_with("farrier ") && !part.contains('\n'))
        .map(str::to_owned)
        .collect()
}

fn help(words: &[&str]) -> Option<String> {
    let shown = Command::new(env!("CARGO_BIN_EXE_farrier"))
        .args(words)
        .arg("--help")
        .output()
        .expect("farrier runs");
    shown
        .status
        .success()
        .then(|| String::from_utf8_lossy(&shown.stdout).into_owned())
}

#[test]
fn every_command_that_a_message_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace");
    let mut files = Vec::new();
    for part in [
        "access",
        "agent",
        "boots",
        "cli",
        "coordinator",
        "disk",
        "image",
        "server",
        "store",
        "workflow",
    ] {
        sources(&root.join(part).join("src"), &mut files);
    }
    for part in ["bench", "lab"] {
        sources(&root.join("qemu-tests").join(part), &mut files);
    }
    let mut named: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in files {
        for command in commands(&fs::read_to_string(&file).expect("source")) {
            named.entry(command).or_default().insert(file.clone());
        }
    }
    assert!(named.len() > 15, "{named:?}");
    for (command, files) in named {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        // A command is in small letters; what is to be filled in is not.
        let path: Vec<&str> = words
            .iter()
            .copied()
            .take_while(|word| {
                word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-')
            })
            .collect();
        let shown = help(&path).unwrap_or_else(|| panic!("`{command}` in {files:?} is no command"));
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            let flag = flag.split('=').next().expect("a word");
            assert!(
                shown.contains(flag),
                "`{command}` in {files:?}: {flag} is unknown"
            );
        }
    }
}
