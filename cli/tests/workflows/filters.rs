//! Lists of machines, of templates and of events: so much of them as somebody asks for.

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::files::Server;
use crate::harness::{farrier, prepared, text, wait_until};

fn names(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn lists_of_machines_are_filtered_sorted_and_cut() {
    let server = Server::start();
    let file = server.file(
        "more.yaml",
        "machine: rack7-a\nmac: 52:54:00:77:02:0a\naddress: 10.77.0.10/24\n---\nmachine: rack7-b\nmac: 52:54:00:77:02:0b\naddress: \
         10.77.0.9/24\n",
    );
    server.ok(&["machine", "apply", "-f", &file]);
    let list = |more: &[&str]| server.ok(&[&["machine", "list", "-o", "name"], more].concat());
    assert_eq!(names(&list(&["--name", "rack7-"])), ["rack7-a", "rack7-b"]);
    assert_eq!(
        names(&list(&["--sort-by", "address", "--name", "rack7-"])),
        ["rack7-b", "rack7-a"]
    );
    assert_eq!(names(&list(&["--state", "attached,silent"])), [""; 0]);
    assert_eq!(names(&list(&["--state", "away", "--limit", "0"])).len(), 4);
    let cut = server.run(&["machine", "list", "-o", "name", "--limit", "2"]);
    assert_eq!(text(&cut), "node1\nnode2\n");
    assert_eq!(
        String::from_utf8_lossy(&cut.stderr),
        "the first 2 are listed, of 4: --limit NUMBER has so many, --limit 0 all\n"
    );
    assert!(server.run(&["machine", "list", "--limit", "4"]).stderr.is_empty());
    assert_eq!(server.said(&["machine", "list", "--state", "gone"]).0, Some(2));
}

#[test]
fn a_machine_that_is_attached_is_found_by_that() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(SHORT));
    let attached = ["machine", "list", "-o", "name", "--state", "attached"];
    wait_until(&address, &attached, |list| list == "node1\n");
    let away = ["machine", "list", "-o", "name", "--state", "away"];
    assert_eq!(text(&farrier(&address, &away)), "");
}

#[test]
fn lists_of_templates_are_filtered_sorted_and_cut() {
    let server = Server::start();
    for name in ["deb-a", "deb-b", "ubuntu"] {
        let file = server.file("t.yaml", &SHORT.replace("short", name));
        server.ok(&["template", "create", "-f", &file]);
    }
    let changed = server.file(
        "t.yaml",
        &SHORT.replace("short", "deb-a").replace("only", "other"),
    );
    server.ok(&["template", "create", "-f", &changed]);
    let list = |more: &[&str]| server.ok(&[&["template", "list", "-o", "name"], more].concat());
    assert_eq!(names(&list(&["--name", "deb-"])), ["deb-a", "deb-b"]);
    assert_eq!(names(&list(&["--sort-by", "updated", "--limit", "1"])), ["deb-a"]);
    assert_eq!(names(&list(&["--sort-by", "name"])), ["deb-a", "deb-b", "ubuntu"]);
}

const SHORT: &str = "version: '1'\nname: short\ntasks: [{name: only, succeed: {}}]\n";

#[test]
fn events_are_told_from_the_end_and_from_a_time_on() {
    let runtime = Runtime::new().expect("runtime");
    let (address, _agent) = runtime.block_on(prepared(SHORT));
    let create = ["workflow", "create", "-t", "short", "-q"];
    let id = text(&farrier(&address, &create)).trim().to_owned();
    wait_until(&address, &["workflow", "state", &id], |state| {
        state.starts_with("SUCCESS")
    });
    let events = |more: &[&str]| -> Vec<Value> {
        let said = text(&farrier(&address, &[&["events", "-o", "json"], more].concat()));
        said.lines()
            .map(|line| serde_json::from_str(line).expect("an object a line"))
            .collect()
    };
    let all = events(&[]);
    assert!(all.len() > 3);
    assert_eq!(events(&["--tail", "2"]), all[all.len() - 2..]);
    assert_eq!(events(&["--tail", "0"]), [Value::Null; 0]);
    assert_eq!(events(&["--tail", "1000", "--workflow", &id]), all);
    assert_eq!(events(&["--since", "1h"]), all);
    assert_eq!(events(&["--since", "2999-01-01 00:00"]), [Value::Null; 0]);
    let from = all[2]["at"].as_str().expect("a time");
    let later = events(&["--since", from]);
    assert!(
        later.len() >= all.len() - 2 - 1 && all.ends_with(&later),
        "{later:?}"
    );
    // What was there and what comes are told in one go.
    let mut child = crate::harness::command(&address, &["events", "-f", "-o", "json", "--tail", "1"])
        .spawn()
        .expect("farrier runs");
    let out = child.stdout.take().expect("a pipe");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(out));
    let mut next =
        || -> Value { serde_json::from_str(&lines.next().expect("a line").expect("a line")).expect("JSON") };
    assert_eq!(next(), all[all.len() - 1]);
    let second = text(&farrier(&address, &create)).trim().to_owned();
    let came = next();
    assert_eq!(
        (&came["workflow"], &came["kind"]),
        (&second.as_str().into(), &"created".into())
    );
    child.kill().expect("it runs");
    child.wait().expect("it ended");
}
