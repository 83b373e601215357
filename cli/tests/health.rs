//! `farrier health` and `farrier version`: what they say of a real server, and when something is wrong.

mod servers;

use std::path::Path;

use serde_json::{Value, json};
use servers::Serve;

const MACHINES: &str = "\
machine: node1
mac: 52:54:00:77:00:0b
address: 10.77.0.11/24
---
machine: node2
mac: 52:54:00:77:00:0c
address: 10.77.0.12/24
";
const ASKS: &str = "\
version: '1'
name: asks
tasks: [{name: go, approve: {message: go on?}}]
";

fn write(folder: &Path, name: &str, content: &str) -> String {
    std::fs::create_dir_all(folder).expect("a folder");
    let path = folder.join(name);
    std::fs::write(&path, content).expect("write");
    path.display().to_string()
}

/// The exit code, and what it prints.
fn health(serve: &Serve, more: &[&str]) -> (Option<i32>, String) {
    let output = serve
        .command(&[&["health"], more].concat())
        .output()
        .expect("farrier runs");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

fn line<'a>(said: &'a str, what: &str) -> &'a str {
    said.lines()
        .find(|line| line.starts_with(what))
        .unwrap_or_default()
}

#[test]
fn what_is_well_and_what_is_not_is_said_in_one_screen() {
    let dir = tempfile::TempDir::new().expect("directory");
    let data = dir.path();
    let serve = Serve::start(data);
    let _ = std::fs::remove_dir_all(data.join("boot"));

    // A server that was set up a minute ago: nothing can netboot yet.
    let (code, said) = health(&serve, &[]);
    assert_eq!(code, Some(1), "{said}");
    let cure = format!(
        "make one with `farrier image build --boot-dir {}/boot`",
        data.display()
    );
    assert!(line(&said, "Problem:").ends_with(&cure), "{said}");
    let nothing = format!(
        "Boot:       {}/boot: not there, or not to be read",
        data.display()
    );
    assert_eq!(line(&said, "Boot:"), nothing);
    assert_eq!(line(&said, "Machines:"), "Machines:   none");
    assert_eq!(line(&said, "Clock:"), "Clock:      as this host's");

    // Whoever makes boot images otherwise is not troubled.
    write(&data.join("boot"), "vmlinuz", "abc");
    let (code, said) = health(&serve, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(line(&said, "Boot:").contains("did not make"), "{said}");

    let manifest = json!({
        "version": 1, "profile": "lab", "kernel": "6.12.1", "modules": [], "components": [],
        "files": [{"name": "vmlinuz", "bytes": 3, "sha256": ""}],
    });
    write(&data.join("boot"), "manifest.json", &manifest.to_string());
    serve.run(&["machine", "apply", "-f", &write(data, "machines.yaml", MACHINES)]);
    let asks = write(data, "asks.yaml", ASKS);
    let id = serve.run(&["workflow", "create", "-q", "-f", &asks]);
    let (code, said) = health(&serve, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        line(&said, "Boot:").contains("profile lab, Linux 6.12.1, "),
        "{said}"
    );
    assert!(line(&said, "Data:").contains("a store of "), "{said}");
    assert_eq!(line(&said, "Machines:"), "Machines:   2: 2 away");
    assert_eq!(line(&said, "Workflows:"), "Workflows:  1: 1 PENDING");
    assert_eq!(
        line(&said, "For you:"),
        "For you:    1 waits for your approval: `farrier workflow list --waiting`"
    );
    assert_eq!(line(&said, "Problems:"), "Problems:   none");
    let (_, said) = health(&serve, &["-o", "json"]);
    let json: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(json["machines"], json!({"away": 2}));
    assert_eq!(json["waiting"], json!([id.trim()]));
    assert_eq!(json["problems"], json!([]));
    assert_eq!(json["folders"][1]["holds"], "profile lab, Linux 6.12.1");

    write(&data.join("boot"), "vmlinuz", "a");
    let (code, said) = health(&serve, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        line(&said, "Problem:").contains("vmlinuz has 1 bytes and should have 3"),
        "{said}"
    );

    // Who may only look knows what is there, and nothing of the host.
    let token = serve.run(&["token", "create", "guest", "--role", "viewer"]);
    let guest = serve
        .command(&["health"])
        .env("FARRIER_TOKEN", token.lines().next().unwrap_or_default().trim())
        .output()
        .expect("farrier runs");
    let said = String::from_utf8_lossy(&guest.stdout);
    assert_eq!(guest.status.code(), Some(0), "{guest:?}");
    assert_eq!(line(&said, "Machines:"), "Machines:   2: 2 away");
    assert!(!said.contains(&data.display().to_string()), "{said}");
}

#[test]
fn both_versions_are_told_and_ones_own_without_a_server() {
    let dir = tempfile::TempDir::new().expect("directory");
    let serve = Serve::start(dir.path());
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(
        serve.run(&["version"]),
        format!("farrier {own}\nserver  {own} at {}\n", serve.api)
    );
    let json: Value = serde_json::from_str(&serve.run(&["version", "-o", "json"])).expect("JSON");
    assert_eq!(
        json,
        json!({"client": own, "server": {"version": own, "address": serve.api}})
    );
    assert_eq!(serve.run(&["version", "--client"]), format!("farrier {own}\n"));
    let away = serve
        .command(&["version"])
        .env("FARRIER_SERVER", "127.0.0.1:1")
        .output()
        .expect("farrier runs");
    assert_eq!(away.status.code(), Some(4), "{away:?}");
    assert_eq!(String::from_utf8_lossy(&away.stdout), format!("farrier {own}\n"));
}
