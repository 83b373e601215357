//! `farrier events`: all workflows, from a token on.

use tokio::runtime::Runtime;

use crate::harness::{farrier, prepared, text, wait_until};

const TEMPLATE: &str = "version: '1'\nname: short\nlabels: {rack: r7}\ntasks: [{name: only, succeed: {}}]\n";

#[test]
fn events_are_lines_with_a_token_each_from_which_the_rest_comes_again() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(TEMPLATE));
    let create = ["workflow", "create", "-t", "short", "-q"];
    let ids: Vec<String> = (0..2)
        .map(|_| text(&farrier(&address, &create)).trim().to_owned())
        .collect();
    for id in &ids {
        wait_until(&address, &["workflow", "state", id], |state| {
            state.starts_with("SUCCESS")
        });
    }
    let json = |args: &[&str]| -> Vec<serde_json::Value> {
        let args = [&["events", "-o", "json"], args].concat();
        let said = text(&farrier(&address, &args));
        said.lines()
            .map(|line| serde_json::from_str(line).expect("an object a line"))
            .collect()
    };
    let all = json(&[]);
    assert!(all.len() > 4, "{all:?}");
    for told in &all {
        assert_eq!(
            (told["name"].as_str(), told["labels"]["rack"].as_str()),
            (Some("short"), Some("r7"))
        );
        assert!(ids.iter().any(|id| told["workflow"] == id.as_str()));
        assert_eq!(told["event"]["number"], told["number"]);
    }
    let token = all[1]["token"].as_str().expect("a token");
    assert_eq!(json(&["--since", token]), all[2..]);
    assert_eq!(json(&["--since", "now"]), Vec::<serde_json::Value>::new());
    let ended = json(&[
        "--kind",
        "created,ended",
        "-l",
        "rack in (r7,r8)",
        "--workflow",
        &ids[1],
    ]);
    let kinds: Vec<_> = ended
        .iter()
        .map(|told| told["kind"].as_str().expect("a kind"))
        .collect();
    assert_eq!(kinds, ["created", "ended"]);

    let table = farrier(&address, &["events", "--kind", "ended"]);
    let lines = text(&table);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(
        lines
            .lines()
            .all(|line| line.contains("  short  ") && line.contains("  ended ")),
        "{lines}"
    );
    let last = all.last().expect("some")["token"].as_str().expect("a token");
    let said = String::from_utf8_lossy(&table.stderr).into_owned();
    assert!(
        said.contains(&format!("go on from here: --since {last}")),
        "{said}"
    );

    for (args, code, says) in [
        (&["events", "--since", "yesterday"][..], 1, "is no token"),
        (
            &["events", "--since", "99999999"],
            1,
            "was a backup put in place?",
        ),
        (&["events", "--kind", "endet"], 1, "did you mean \"ended\"?"),
        (&["events", "--machine", "node9"], 3, "node9"),
    ] {
        let refused = farrier(&address, args);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
    }
}
