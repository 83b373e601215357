//! Texts from machines and from people's documents that would steer a terminal, or show a credential: whatever command
//! prints them, they do neither.

use std::process::Output;

use tokio::runtime::Runtime;

use crate::harness::{DEVICE, command, farrier, prepared, text, wait_until};

/// ESC, OSC and BEL, a C1 CSI, DEL, CR, a bidirectional override and its end, what has no width; and a URL with a password
/// and a signature.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{7f}\r\u{202e}cod\u{2066}\u{200b} http://root:SECRET@h/i?X-Amz-Signature=SECRET&x=1";
const SHOWN: &str =
    r"^[]0;owned^G^[[2J\u{9b}31m^?^M\u{202e}cod\u{2066}\u{200b} http://***@h/i?X-Amz-Signature=***&x=1";

/// What acts on a terminal.
fn acts(letter: char) -> bool {
    let is_turning =
        matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_turning || (letter.is_control() && letter != '\n' && letter != '\t')
}

#[track_caller]
fn check(what: &str, output: &Output) {
    for said in [&output.stdout, &output.stderr] {
        let said = String::from_utf8(said.clone()).expect("text");
        assert!(!said.chars().any(acts), "{what}: {said:?}");
        assert!(!said.contains("SECRET"), "{what}: {said}");
    }
}

fn template() -> String {
    // YAML takes none of it as it is.
    let escaped = |letter: char| match letter {
        ' '..='~' => letter.to_string(),
        other => format!("\\u{:04x}", u32::from(other)),
    };
    let name = format!("\"{}\"", HOSTILE.chars().map(escaped).collect::<String>());
    format!(
        "version: \"1\"\nname: bad\ntasks:\n  - name: ask\n    approve: {{message: {name}}}\n  - name: install\n    worker: \
         \"{{{{.device_1}}}}\"\n    actions:\n      - {{name: write, image: image2disk, timeout: 900, environment: {{IMG_URL: \
         {name}}}}}\n"
    )
}

#[test]
fn no_text_steers_a_terminal_or_shows_a_credential() {
    let runtime = Runtime::new().expect("runtime");
    let (address, mut agent) = runtime.block_on(prepared(&template()));
    let id = text(&farrier(
        &address,
        &["workflow", "create", "-t", "bad", "-q", "-r", DEVICE],
    ));
    let id = id.trim();
    check("explain", &farrier(&address, &["workflow", "explain", id]));
    check("state", &farrier(&address, &["workflow", "state", id]));
    check(
        "approve",
        &farrier(&address, &["workflow", "approve", id, "--comment", HOSTILE]),
    );
    let first = runtime.block_on(agent.run());
    // What the action works with is as it was written.
    assert_eq!(first.environment["IMG_URL"], HOSTILE);
    runtime.block_on(agent.log(&first, &[HOSTILE]));
    wait_until(&address, &["workflow", "logs", id], |logs| !logs.is_empty());
    runtime.block_on(agent.fails(
        &first,
        "ExitCode",
        &format!("{HOSTILE}\nworkflow {id} is SUCCESS"),
    ));

    let waited = farrier(&address, &["workflow", "wait", id]);
    check("wait", &waited);
    let said = String::from_utf8(waited.stdout).expect("text");
    assert!(said.contains(SHOWN), "{said}");
    // No line of it is taken for what another command says.
    assert!(
        said.contains(&format!("\n  workflow {id} is SUCCESS\n")),
        "{said}"
    );
    assert_eq!(
        text(&farrier(&address, &["workflow", "logs", id])),
        format!("--- install/write on node1\n{SHOWN}\n")
    );
    let get = text(&farrier(&address, &["workflow", "get", id, "-o", "json"]));
    let get: serde_json::Value = serde_json::from_str(&get).expect("JSON");
    let message = get["tasks"][1]["actions"][0]["message"]
        .as_str()
        .expect("a message");
    // Escapes of the format, so that a program has the text itself; but no credential.
    assert!(
        message.starts_with("\u{1b}]0;owned\u{7}") && message.contains("http://***@h/i"),
        "{message:?}"
    );
    for args in [
        &["workflow", "state", id][..],
        &["workflow", "get", id],
        &["workflow", "list"],
        &["workflow", "explain", id, "install"],
        &["workflow", "events", id],
        &["workflow", "watch", id],
        &["workflow", "wait", id],
        &["workflow", "logs", id],
        &["workflow", "graph", id],
        &["machine", "list"],
        &["machine", "get", "node1"],
        &["machine", "boot-log", "node1"],
        &["machine", "boot-log", "--all"],
        &["machine", "get", HOSTILE],
        &["workflow", "get", HOSTILE],
        &["workflow", "create", "-t", HOSTILE],
        &["template", "render", "bad", "-r", DEVICE],
        &["template", "list"],
        &["workflow", "retry", id],
    ] {
        check(&format!("{args:?}"), &farrier(&address, args));
        for format in ["json", "yaml"] {
            let mut args = args.to_vec();
            args.extend(["-o", format]);
            check(&format!("{args:?}"), &farrier(&address, &args));
        }
    }
}

#[test]
fn what_is_asked_for_raw_or_is_a_document_is_as_it_was() {
    let runtime = Runtime::new().expect("runtime");
    let template = template();
    let (address, mut agent) = runtime.block_on(prepared(&template));
    assert_eq!(text(&farrier(&address, &["template", "get", "bad"])), template);
    let id = text(&farrier(
        &address,
        &["workflow", "create", "-t", "bad", "-q", "-r", DEVICE],
    ));
    let id = id.trim();
    text(&farrier(&address, &["workflow", "approve", id]));
    let first = runtime.block_on(agent.run());
    let colours = "\u{1b}[31mred\u{1b}[0m";
    runtime.block_on(agent.log(&first, &[colours]));
    wait_until(&address, &["workflow", "logs", id], |logs| {
        logs.contains("^[[31mred")
    });
    let raw = command(&address, &["workflow", "logs", "--raw", id])
        .output()
        .expect("farrier runs");
    assert_eq!(text(&raw), format!("--- install/write on node1\n{colours}\n"));
}
