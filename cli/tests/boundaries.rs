//! Who may use whom, as ARCHITECTURE.md says it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What a crate's manifest names below `[dependencies]`.
fn dependencies(of: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(of).join("Cargo.toml")).unwrap();
    let below = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    below
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split(['.', ' ', '=']).next()?.to_owned()))
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

#[test]
fn each_part_uses_only_the_parts_that_it_may() {
    let parts = [
        ("access", &[][..]),
        ("proto", &[]),
        ("workflow", &[]),
        ("store", &[]),
        ("ephemeral", &[]),
        ("redaction", &[]),
        ("dhcp", &[]),
        ("boots", &["dhcp"]),
        ("coordinator", &["ephemeral", "store", "workflow"]),
        (
            "server",
            &[
                "access",
                "coordinator",
                "ephemeral",
                "proto",
                "redaction",
                "store",
                "workflow",
            ],
        ),
        ("disk", &[]),
        ("agent", &["dhcp", "disk", "ephemeral", "proto", "redaction"]),
        ("image", &[]),
        (
            "simulation",
            &["agent", "coordinator", "ephemeral", "proto", "store", "workflow"],
        ),
    ];
    let ours: BTreeSet<&str> = parts
        .iter()
        .map(|(name, _)| *name)
        .chain(["cli", "qemu-tests"])
        .collect();
    for (part, may) in parts {
        let uses: Vec<String> = dependencies(part)
            .into_iter()
            .filter(|name| ours.contains(name.as_str()))
            .collect();
        assert_eq!(uses, may, "{part}");
    }
}

#[test]
fn the_actions_that_templates_may_name_are_those_that_the_agent_has() {
    let known = workflow::language::NATIVE.map(|native| native.name);
    assert_eq!(known, agent::actions::NATIVE);
    for image in [
        "quay.io:5000/tinkerbell/actions/image2disk:v1@sha256:01",
        "reboot",
        "a/b:c",
    ] {
        assert_eq!(
            workflow::language::base_name(image),
            agent::actions::base_name(image)
        );
    }
}

#[test]
fn pure_parts_have_no_runtime_no_socket_and_no_clock() {
    for part in ["workflow", "dhcp", "ephemeral", "redaction", "coordinator"] {
        for outside in ["tokio", "tonic", "nix", "libc", "socket2", "reqwest"] {
            assert!(
                !dependencies(part).contains(outside),
                "{part} depends on {outside}"
            );
        }
        for file in sources(&root().join(part).join("src")) {
            // Tests in files of their own may do more, too.
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            if name == "tests" || name.ends_with("_tests") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            // Tests at a file's end may do more.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for outside in [
                "Instant::now",
                "SystemTime::now",
                "UdpSocket",
                "std::fs",
                "std::thread",
            ] {
                assert!(!code.contains(outside), "{} uses {outside}", file.display());
            }
        }
    }
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
