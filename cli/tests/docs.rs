//! The documentation's examples are run through the real parsers, so that they stay true.
//!
//! A code block's info string says what it is: `yaml machine`, `yaml template`, `toml serve`, `sh`. Blocks of other
//! kinds are for reading only.

mod servers;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use server::Config;
use servers::{InProcess, command, farrier};
use store::{MemoryStore, StoreHandle};
use tokio::runtime::Runtime;

/// What templates of the documentation are rendered for.
const MACHINES: &str = "\
machine: node1
mac: 52:54:00:77:00:0b
address: 10.77.0.11/24
gateway: 10.77.0.1
dns: [10.77.0.1]
disks: [/dev/vda]
---
machine: node2
mac: 52:54:00:77:00:0c
address: 10.77.0.12/24
";

/// A code block, and where it begins.
struct Block {
    place: String,
    info: String,
    text: String,
}

#[test]
fn machines_in_the_documentation_are_taken_without_a_warning() {
    let blocks = blocks("yaml machine");
    assert!(!blocks.is_empty());
    for block in blocks {
        // Each has a server of its own: examples use the same addresses.
        let server = Server::start();
        let output = server.with_file(&["machine", "apply", "-f"], &block.text);
        assert_clean(&block, &output);
    }
}

#[test]
fn templates_in_the_documentation_render_without_a_warning() {
    let server = Server::start();
    assert!(
        server
            .with_file(&["machine", "apply", "-f"], MACHINES)
            .status
            .success()
    );
    // Whoever follows the page has set it before.
    let set = server.with_input(&["secret", "set", "DISK"], "correct horse\n");
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    // Named by others, and not on the page.
    let other = "version: \"1\"\nname: rollout-of-a-rack\ninputs: {rack: r7}\ntasks: [{name: note, set: {seen: \"1\"}}]\n";
    assert!(
        server
            .with_file(&["template", "create", "-f"], other)
            .status
            .success()
    );
    let blocks = blocks("yaml template");
    assert!(!blocks.is_empty());
    for block in blocks {
        let created = server.with_file(&["template", "create", "-f"], &block.text);
        // An image that is pulled is told of, so that a name that was meant to be the agent's own is seen.
        if block.text.contains("image: registry.example.com/") {
            let said = String::from_utf8_lossy(&created.stderr);
            assert!(
                created.status.success() && said.contains("runs as a container: image registry.example.com/"),
                "{said}"
            );
            continue;
        }
        assert_clean(&block, &created);
        let mut render = vec!["template", "render"];
        for device in ["device_1=52:54:00:77:00:0b", "device_2=52:54:00:77:00:0c"] {
            // What a template does not use is warned about.
            let is_used = device
                .split_once('=')
                .is_some_and(|(name, _)| block.text.contains(name));
            render.extend(["-r", device].into_iter().filter(|_| is_used));
        }
        render.push("-f");
        let rendered = server.with_file(&render, &block.text);
        // A page that teaches with a tag: the tag is told of, and nothing else.
        if block.text.contains("image: tools.example.com/") {
            let said = String::from_utf8_lossy(&rendered.stderr);
            assert!(
                rendered.status.success() && said.contains("no digest is in the name of tools.example.com/"),
                "{said}"
            );
            continue;
        }
        assert_clean(&block, &rendered);
    }
}

#[test]
fn settings_in_the_documentation_are_known() {
    let blocks = blocks("toml serve");
    assert!(!blocks.is_empty());
    let server = Server::start();
    for block in blocks {
        // A flag wins over the file, so this ends when the file has been read.
        let output = server.with_file(&["serve", "--interface", "farrier-none", "--config"], &block.text);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.starts_with("farrier: no interface is named farrier-none"),
            "{}: {stderr}",
            block.place
        );
    }
}

#[test]
fn commands_in_the_documentation_are_used_rightly() {
    let server = Server::start();
    for block in blocks("sh") {
        let commands = block.text.lines().filter(|line| line.starts_with("farrier "));
        for command in commands {
            let mut words = words(command);
            // Whatever stands before it is checked before help is given.
            words.push("--help".to_owned());
            let args: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            let output = server.run(&args);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {command}: {stderr}", block.place);
        }
    }
}

#[test]
fn every_flag_of_the_server_and_every_field_of_a_machine_is_documented() {
    let server = Server::start();
    let settings = read("docs/reference/settings.md");
    let help = server.run(&["serve", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout);
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--") && word.len() > 2)
        // A value that may be left out: `--no-dhcp[=<YES>]`.
        .map(|word| word.split('[').next().unwrap_or(word));
    for flag in flags.filter(|flag| *flag != "--help") {
        assert!(
            settings.contains(&format!("`{}", flag.trim_start_matches("--"))),
            "{flag}"
        );
    }
    let machines = read("docs/reference/machines.md");
    let refused = server.with_file(&["machine", "apply", "-f"], "machine: a\nzzzzzzzzzzzz: 1\n");
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    let fields = refused
        .lines()
        .find_map(|line| line.split_once("the fields are "))
        .expect("the list")
        .1;
    for field in fields.split(", ") {
        assert!(machines.contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    for path in pages() {
        let text = std::fs::read_to_string(&path).expect("readable");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let target = link.0.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let folder = path.parent().expect("a folder");
            assert!(folder.join(target).exists(), "{}: {target}", path.display());
        }
    }
}

/// What it is, why, two commands, and where to go on: at 80x24, with a line for the prompt.
#[test]
fn the_readme_is_one_screen() {
    let text = read("README.md");
    assert!(text.lines().count() < 24, "{} lines", text.lines().count());
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than a screen: {line}");
    }
    let commands: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    assert_eq!(commands, ["cargo xtask lab", "cargo xtask test"]);
    for page in [
        "docs/how-to/install.md",
        "docs/how-to/first-machine.md",
        "docs/README.md",
    ] {
        assert!(text.contains(page), "{page}");
    }
}

/// Nothing is released: there is one section, and who reads it runs Farrier and does not build it.
#[test]
fn the_changelog_has_one_section_and_no_internals() {
    let text = read("CHANGELOG.md");
    let sections: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(sections, ["## Unreleased"]);
    let kinds: Vec<&str> = text.lines().filter(|line| line.starts_with("### ")).collect();
    assert_eq!(kinds, ["### Added", "### Changed"]);
    for line in text.lines() {
        // The lab is for people who try it out.
        let inside = line.replace("cargo xtask lab", "");
        for internal in ["cargo ", "crate", ".rs", "refactor", "clippy"] {
            assert!(
                !inside.contains(internal),
                "{internal:?} is nothing for a user: {line}"
            );
        }
    }
}

/// What CONTRIBUTING.md says of places is so.
#[test]
fn the_folders_that_contributors_are_sent_to_are_there() {
    let text = read("CONTRIBUTING.md");
    let places: Vec<&str> = text
        .split('`')
        .filter(|word| word.ends_with('/') && !word.contains(' '))
        .collect();
    assert!(places.len() > 15, "{places:?}");
    for place in places {
        // Made by a run, not in the repository.
        assert!(
            place.starts_with("target/") || root().join(place).is_dir(),
            "{place}"
        );
    }
}

/// The words of a shell's line up to a comment or a redirection.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for char in line.chars() {
        match (char, quote) {
            (_, Some(open)) if char == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            // What another command prints is one word here.
            ('(', None) if word.as_deref().is_some_and(|word: &str| word.ends_with('$')) => quote = Some(')'),
            ('#' | '<' | '>' | '|', None) if word.is_none() => break,
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

/// Nothing was refused, and there was nothing to warn of.
#[track_caller]
fn assert_clean(block: &Block, output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stderr.is_empty(),
        "{}: {stderr}\n{}",
        block.place,
        block.text
    );
}

/// The blocks with this info string.
fn blocks(info: &str) -> Vec<Block> {
    let all = pages().into_iter().flat_map(|path| blocks_of(&path));
    all.filter(|block| block.info == info).collect()
}

fn blocks_of(path: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(path).expect("readable");
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut indent = 0;
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        match (&mut open, bare.strip_prefix("```")) {
            (None, Some(info)) => {
                // In a list, the block is indented as a whole.
                indent = line.len() - bare.len();
                open = Some(Block {
                    place: format!("{}:{}", path.display(), number + 1),
                    info: info.trim().to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line.get(indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a code block is not closed", path.display());
    blocks
}

/// The pages at the top, that of the fuzz targets, and everything below docs/.
fn pages() -> Vec<PathBuf> {
    const TOP: [&str; 6] = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
        "fuzz/README.md",
    ];
    let mut pages: Vec<PathBuf> = TOP.iter().map(|page| root().join(page)).collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.retain(|page| page.is_file());
    pages.sort();
    pages
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A server in this process, and a directory for files.
struct Server {
    _runtime: Runtime,
    address: String,
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let runtime = Runtime::new().expect("runtime");
        let store = StoreHandle::new(MemoryStore::new());
        let address = runtime.block_on(InProcess::start(store, Config::default())).api;
        Self {
            _runtime: runtime,
            address,
            dir: tempfile::TempDir::new().expect("directory"),
        }
    }

    fn run(&self, args: &[&str]) -> Output {
        farrier(&self.address, args)
    }

    fn with_input(&self, args: &[&str], text: &str) -> Output {
        let mut command = command(&self.address, args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("farrier");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(text.as_bytes()).expect("write");
        drop(stdin);
        child.wait_with_output().expect("its end")
    }

    /// With a file of this text as the last argument.
    fn with_file(&self, args: &[&str], text: &str) -> Output {
        let file = self.dir.path().join("example");
        std::fs::write(&file, text).expect("write");
        let file = file.display().to_string();
        self.run(&[args, &[file.as_str()]].concat())
    }
}
