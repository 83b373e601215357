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
        ("yaml", &[]),
        ("workflow", &["partitions", "yaml"]),
        ("store", &[]),
        ("ephemeral", &[]),
        ("redaction", &[]),
        ("mac", &[]),
        ("drivers", &[]),
        ("dhcp", &["mac"]),
        ("connections", &[]),
        ("ranges", &[]),
        ("boots", &["connections", "dhcp", "drivers", "mac", "ranges"]),
        ("coordinator", &["ephemeral", "mac", "store", "workflow", "yaml"]),
        (
            "server",
            &[
                "access",
                "connections",
                "coordinator",
                "ephemeral",
                "oci",
                "proto",
                "redaction",
                "registry",
                "store",
                "workflow",
                "yaml",
            ],
        ),
        ("reach", &[]),
        ("disk", &["partitions", "reach"]),
        ("container", &[]),
        ("oci", &["reach"]),
        ("containerd", &["container", "oci"]),
        ("registry", &["oci", "ranges", "store"]),
        (
            "agent",
            &[
                "container",
                "containerd",
                "dhcp",
                "disk",
                "drivers",
                "ephemeral",
                "mac",
                "oci",
                "proto",
                "redaction",
            ],
        ),
        ("partitions", &[]),
        ("image", &["drivers"]),
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
    for native in workflow::language::NATIVE {
        // What an input may set, and what the action reads.
        assert_eq!(
            native.variables,
            agent::actions::variables(native.name),
            "{}",
            native.name
        );
    }
}

#[test]
fn modules_of_the_agent_use_each_other_in_one_direction() {
    let used = uses_of_modules(&root().join("agent/src"));
    assert!(used.contains(&("worker".into(), "actions".into())), "{used:?}");
    // What nothing left uses is taken away, until nothing is left; what remains uses each other in a circle.
    let mut left = used;
    while let Some(unused) = left
        .iter()
        .map(|(user, _)| user.clone())
        .find(|user| !left.iter().any(|(_, of)| of == user))
    {
        left.retain(|(user, _)| *user != unused);
    }
    assert!(left.is_empty(), "a circle of modules: {left:?}");
}

/// Which module of a crate names which other one as `crate::…`; modules are the files and folders beside its `lib.rs`.
fn uses_of_modules(sources_of: &Path) -> BTreeSet<(String, String)> {
    let mut uses = BTreeSet::new();
    for file in sources(sources_of) {
        let inside = file.strip_prefix(sources_of).unwrap();
        let first = inside.components().next().unwrap().as_os_str();
        let user = Path::new(first).file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for named in code.flat_map(|line| line.split("crate::").skip(1)) {
            let end = named.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            let of = &named[..end.unwrap_or(named.len())];
            assert!(
                !of.is_empty(),
                "{}: name one module after crate::",
                file.display()
            );
            if of != user && user != "lib" {
                uses.insert((user.to_owned(), of.to_owned()));
            }
        }
    }
    uses
}

#[test]
fn pure_parts_have_no_runtime_no_socket_and_no_clock() {
    for part in [
        "partitions",
        "workflow",
        "yaml",
        "dhcp",
        "drivers",
        "ephemeral",
        "mac",
        "redaction",
        "coordinator",
    ] {
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

/// What has to call the kernel itself. Each block says there why it may.
const UNSAFE: [&str; 7] = [
    "agent",
    "boots",
    "cli",
    "container",
    "disk",
    "image",
    "qemu-tests",
];

#[test]
fn every_crate_forbids_unsafe_code_but_those_that_call_the_kernel() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    assert!(members.len() > UNSAFE.len());
    for member in members.iter().map(|member| member.as_str().unwrap()) {
        // The lab's crate has its folders side by side.
        let folder = match member {
            "qemu-tests" => root().join(member),
            member => root().join(member).join("src"),
        };
        let roots = ["lib.rs", "main.rs"].map(|name| folder.join(name));
        let forbids = roots.iter().filter_map(|path| fs::read_to_string(path).ok());
        let forbids = forbids
            .map(|text| text.contains("#![forbid(unsafe_code)]"))
            .collect::<Vec<_>>();
        if UNSAFE.contains(&member) {
            let code = sources(&folder)
                .into_iter()
                .map(|file| fs::read_to_string(file).unwrap());
            let has_some = code
                .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
                .any(|line| line.contains("unsafe {") && !line.trim_start().starts_with("//"));
            assert!(
                has_some,
                "{member} has no unsafe code any more: take it off this list, and let it forbid it"
            );
        } else if member == "fuzz" {
            // Its program is the fuzzer's, whose macro exports functions of C.
            assert_eq!(forbids, [true, false]);
        } else {
            let all = forbids.iter().all(|forbids| *forbids);
            assert!(
                all,
                "{member}: `#![forbid(unsafe_code)]` is missing in src/lib.rs or src/main.rs"
            );
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
