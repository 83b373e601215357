//! The crates from outside: all are used, all have licences and sources that `deny.toml` allows, and none needs a newer
//! compiler than is promised.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What no source names, and why it is there.
const UNNAMED: [(&str, &str, &str); 7] = [
    ("containerd", "prost", "generated code"),
    ("containerd", "tonic-prost", "generated code"),
    ("proto", "prost", "generated code"),
    ("proto", "prost-types", "generated code"),
    ("proto", "serde", "generated code"),
    ("proto", "tonic-prost", "generated code"),
    ("xtask", "", "has no dependencies"),
];

#[test]
fn every_dependency_is_used_where_it_says() {
    let mut wrong = Vec::new();
    for member in members() {
        let folder = PathBuf::from(text(&member, "manifest_path"))
            .parent()
            .unwrap()
            .to_owned();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let (code, tests) = sources(&member, &folder);
        let build = fs::read_to_string(folder.join("build.rs")).unwrap_or_default();
        for dependency in member["dependencies"].as_array().unwrap() {
            let package = text(dependency, "name");
            let called = dependency["rename"].as_str().unwrap_or(&package).to_owned();
            if UNNAMED
                .iter()
                .any(|(of, unnamed, _)| (*of, *unnamed) == (&name, &package))
            {
                continue;
            }
            let (kind, used) = match dependency["kind"].as_str() {
                None if is_named(&called, &code) => continue,
                None if is_named(&called, &tests) => {
                    ("[dependencies]", "only by tests: it is a dev-dependency")
                }
                None => ("[dependencies]", "by nothing"),
                Some("dev") if is_named(&called, &tests) => continue,
                Some("dev") => ("[dev-dependencies]", "by no test"),
                Some(_) if is_named(&called, &build) => continue,
                Some(_) => ("[build-dependencies]", "by build.rs"),
            };
            wrong.push(format!("{name}/Cargo.toml: {package} in {kind} is used {used}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_workspace_dependency_is_somebodys() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let listed = manifest["workspace"]["dependencies"].as_table().unwrap();
    let taken: BTreeSet<String> = members()
        .iter()
        .flat_map(|member| member["dependencies"].as_array().unwrap().clone())
        .map(|dependency| text(&dependency, "name"))
        .collect();
    let unused: Vec<&String> = listed
        .iter()
        .filter(|(name, said)| {
            let package = said.get("package").and_then(toml::Value::as_str).unwrap_or(name);
            !taken.contains(package)
        })
        .map(|(name, _)| name)
        .collect();
    assert!(
        unused.is_empty(),
        "[workspace.dependencies] lists what no crate takes: {unused:?}"
    );
}

#[test]
fn licences_bans_and_sources_are_what_deny_toml_allows() {
    let deny: toml::Table = read("deny.toml").parse().unwrap();
    let strings = |value: &toml::Value| -> BTreeSet<String> {
        let all = value.as_array().unwrap().iter();
        all.map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let allowed = strings(&deny["licenses"]["allow"]);
    let exceptions = deny["licenses"]["exceptions"].as_array().unwrap();
    let banned = deny["bans"]["deny"].as_array().unwrap();
    let registries = strings(&deny["sources"]["allow-registry"]);
    let (mut wrong, mut asked) = (Vec::new(), BTreeSet::new());
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        let name = text(package, "name");
        let own = exceptions
            .iter()
            .find(|exception| exception["crate"].as_str() == Some(&name));
        let own = own
            .map(|exception| strings(&exception["allow"]))
            .unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        let mut may = |one: &str| {
            asked.insert(one.to_owned());
            allowed.contains(one) || own.contains(one)
        };
        if !Expression::of(licence).holds(&mut may) {
            wrong.push(format!("{name} has the licence {licence:?}"));
        }
        if banned.iter().any(|ban| ban["crate"].as_str() == Some(&name)) {
            wrong.push(format!("{name} is banned"));
        }
        if let Some(source) = package["source"].as_str()
            && !source
                .strip_prefix("registry+")
                .is_some_and(|registry| registries.contains(registry))
        {
            wrong.push(format!("{name} comes from {source}"));
        }
    }
    let unused: Vec<&String> = allowed.difference(&asked).collect();
    assert!(unused.is_empty(), "licences that nothing has: {unused:?}");
    assert!(packages.len() > 100);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The compiler itself, of that age, is on few machines: clippy's `incompatible_msrv` looks at our code, this at the others'.
#[test]
fn the_oldest_compiler_is_said_once_and_holds_for_every_crate() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let promised = manifest["workspace"]["package"]["rust-version"]
        .as_str()
        .unwrap()
        .to_owned();
    let readme = read("README.md");
    assert!(
        readme.contains(&format!("Rust toolchain ({promised} or later")),
        "README.md says another one"
    );
    let number =
        |version: &str| -> Vec<u32> { version.split('.').map(|part| part.parse().unwrap()).collect() };
    let metadata = metadata();
    let newer: Vec<String> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| {
            let needs = package["rust_version"].as_str();
            needs.is_some_and(|needs| number(needs) > number(&format!("{promised}.0")))
        })
        .map(|package| format!("{} needs {}", text(package, "name"), package["rust_version"]))
        .collect();
    assert!(newer.is_empty(), "{newer:?}");
    for member in members() {
        assert_eq!(
            text(&member, "rust_version"),
            promised,
            "{}",
            text(&member, "name")
        );
    }
}

/// Licences, as SPDX writes them; `/` is an old way to write `OR`.
enum Expression {
    One(String),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

impl Expression {
    fn of(text: &str) -> Expression {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let (expression, rest) = Self::any(&words);
        assert!(rest.is_empty(), "{text:?} is no licence expression");
        expression
    }

    fn any<'a>(words: &'a [&'a str]) -> (Expression, &'a [&'a str]) {
        let (first, mut rest) = Self::all(words);
        let mut parts = vec![first];
        while let ["OR", after @ ..] = rest {
            let (next, left) = Self::all(after);
            parts.push(next);
            rest = left;
        }
        (Expression::Any(parts), rest)
    }

    fn all<'a>(words: &'a [&'a str]) -> (Expression, &'a [&'a str]) {
        let (first, mut rest) = Self::one(words);
        let mut parts = vec![first];
        while let ["AND", after @ ..] = rest {
            let (next, left) = Self::one(after);
            parts.push(next);
            rest = left;
        }
        (Expression::All(parts), rest)
    }

    fn one<'a>(words: &'a [&'a str]) -> (Expression, &'a [&'a str]) {
        match words {
            ["(", inner @ ..] => {
                let (expression, rest) = Self::any(inner);
                (
                    expression,
                    rest.strip_prefix(&[")"]).expect("a closing parenthesis"),
                )
            }
            // An exception only adds rights, and is not among the allowed ones.
            [licence, "WITH", exception, rest @ ..] => {
                (Expression::One(format!("{licence} WITH {exception}")), rest)
            }
            [licence, rest @ ..] => (Expression::One((*licence).to_owned()), rest),
            [] => (Expression::One("none".to_owned()), words),
        }
    }

    fn holds(&self, may: &mut impl FnMut(&str) -> bool) -> bool {
        match self {
            Expression::One(licence) => may(licence),
            // Each is asked for, so that none that is allowed seems unused.
            Expression::All(parts) => parts.iter().filter(|part| !part.holds(may)).count() == 0,
            Expression::Any(parts) => parts.iter().filter(|part| part.holds(may)).count() > 0,
        }
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_has_them() {
    let mut may = |licence: &str| licence == "MIT" || licence == "ISC";
    for (expression, want) in [
        ("MIT", true),
        ("GPL-2.0", false),
        ("GPL-2.0 OR MIT", true),
        ("GPL-2.0/MIT", true),
        ("MIT AND GPL-2.0", false),
        ("(MIT OR GPL-2.0) AND ISC", true),
        ("MIT OR GPL-2.0 AND ISC", true),
        ("(MIT OR ISC) AND NCSA", false),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
        ("", false),
    ] {
        assert_eq!(Expression::of(expression).holds(&mut may), want, "{expression}");
    }
}

/// Whether a path begins with the crate, or it is imported whole.
fn is_named(package: &str, code: &str) -> bool {
    let name = package.replace('-', "_");
    code.match_indices(&name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let begins = before.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '.')));
        let is_use = code[..at].ends_with("use ");
        begins && (after.starts_with("::") || is_use && after.starts_with([';', ' ']))
    })
}

/// What is compiled into the crate, and that with all of its tests and examples, without comments.
fn sources(member: &Value, folder: &Path) -> (String, String) {
    let (mut code, mut tests) = (String::new(), String::new());
    // One has its folders side by side.
    let root = [folder.join("src"), folder.to_owned()]
        .into_iter()
        .find(|root| root.is_dir())
        .unwrap();
    // Examples may lie elsewhere.
    let targets = member["targets"].as_array().unwrap().iter();
    let elsewhere = targets
        .map(|target| fs::canonicalize(text(target, "src_path")).unwrap())
        .filter(|path| !path.starts_with(folder));
    for file in files(folder).into_iter().chain(elsewhere) {
        let text = fs::read_to_string(&file).unwrap();
        let text: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .fold(String::new(), |text, line| text + line + "\n");
        let name = file.file_stem().unwrap().to_str().unwrap();
        let below_src = file.strip_prefix(&root).ok();
        let is_test = name == "tests" || name.ends_with("_tests") || name == "testing";
        let in_tests = below_src.is_some_and(|below| below.iter().any(|part| part == "tests"));
        if below_src.is_some() && !is_test && !in_tests {
            code += text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        }
        tests += &text;
    }
    (code, tests)
}

fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn members() -> Vec<Value> {
    let metadata = metadata();
    let members: Vec<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| members.contains(&package["id"].as_str().unwrap()))
        .cloned()
        .collect()
}

/// Of what is built for the machines that Farrier is for. Reads what cargo has, and asks no network.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
