//! JSON has one shape: from every command, and at every age of what is shown.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proto::v1::Started;
use proto::v1::report::Outcome;
use serde_json::Value;
use server::Config;
use store::{MemoryStore, StoreHandle};
use tokio::runtime::Runtime;

use crate::harness::{DEVICE, WITHIN, farrier, prepared_on, text, wait_until};

const TEMPLATE: &str = "\
version: \"1\"
name: aged
tasks:
  - name: note
    set: {seen: \"1\"}
  - name: look
    worker: \"{{.device_1}}\"
    actions:
      - {name: first, image: cexec, timeout: 60}
      - {name: second, image: cexec, timeout: 60}
";

/// Every key, by the way to it; values that may be any document, or that nobody has given yet, count as one.
fn keys(value: &Value, at: &str, all: &mut BTreeSet<String>) {
    const ANY: [&str; 10] = [
        ".input",
        ".inputs",
        ".vars",
        ".outputs",
        ".item",
        ".document",
        ".decision",
        ".paused",
        ".resumed",
        ".cancelled",
    ];
    match value {
        Value::Object(fields) if !ANY.iter().any(|any| at.ends_with(any)) => {
            for (name, value) in fields {
                all.insert(format!("{at}.{name}"));
                keys(value, &format!("{at}.{name}"), all);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{at}[]"), all)),
        _ => {}
    }
}

fn shape(value: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    keys(value, "", &mut all);
    all
}

fn json(address: &str, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.extend(["-o", "json"]);
    let output = farrier(address, &args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {output:?}"))
}

/// What each command gives of a workflow; they are the same.
#[track_caller]
fn of_all(address: &str, id: &str, age: &str, is_over: bool) -> Value {
    let get = json(address, &["workflow", "get", id]);
    let state = json(address, &["workflow", "state", id]);
    let list = json(address, &["workflow", "list"])[0].clone();
    let of_machine = json(address, &["workflow", "list", "--machine", "node1"])[0].clone();
    let mut all = vec![("list", list), ("list of the machine", of_machine)];
    if is_over {
        all.push(("watch", json(address, &["workflow", "watch", id])));
        all.push(("wait", json(address, &["workflow", "wait", id])));
    }
    for (command, value) in &all {
        assert_eq!(value, &state, "{command}, {age}");
    }
    let mut but_for_the_definition = get.clone();
    assert!(but_for_the_definition["definition"].take().is_string(), "{age}");
    assert_eq!(but_for_the_definition, state, "{age}");
    get
}

#[test]
fn a_workflow_has_one_shape_from_every_command_at_every_age() {
    let runtime = Runtime::new().expect("runtime");
    let store = StoreHandle::new(MemoryStore::new());
    let config = Config {
        archive_after: Duration::ZERO,
        ..Config::default()
    };
    let (address, mut agent) = runtime.block_on(prepared_on(store.clone(), config, TEMPLATE));
    let made = json(&address, &["workflow", "create", "-t", "aged", "-r", DEVICE]);
    let id = made["id"].as_str().expect("an id").to_owned();
    let id = id.as_str();

    let run = runtime.block_on(agent.run());
    let fresh = of_all(&address, id, "fresh", false);
    runtime.block_on(agent.report(&run, Outcome::Started(Started {})));
    wait_until(&address, &["workflow", "state", id], |state| {
        state.contains("RUNNING")
    });
    let running = of_all(&address, id, "running", false);
    let action = &running["tasks"][1]["actions"][0];
    assert_eq!(
        (&action["state"], &action["bytes"], &action["exit_code"]),
        (&"RUNNING".into(), &Value::Null, &Value::Null)
    );
    runtime.block_on(agent.fails(&run, "ExitCode", "no"));
    // It is archived at once when it has ended.
    let deadline = Instant::now() + WITHIN;
    while runtime
        .block_on(store.range("archived/", "archived0", 1))
        .expect("read")
        .is_empty()
    {
        assert!(Instant::now() < deadline, "it is not archived");
        std::thread::sleep(Duration::from_millis(10));
    }
    let archived = of_all(&address, id, "archived", true);
    let actions = &archived["tasks"][1]["actions"];
    assert_eq!(
        (
            &archived["tasks"][1]["kind"],
            &actions[0]["exit_code"],
            &actions[0]["bytes"]
        ),
        (&"actions".into(), &3.into(), &Value::Null)
    );
    // What a failure has kept from beginning waits for nothing.
    assert_eq!(actions[1]["state"], "SKIPPED");
    let retried = json(&address, &["workflow", "retry", id]);
    let restored = of_all(&address, id, "restored", false);
    let cancelled = json(&address, &["workflow", "cancel", id]);
    for (age, value) in [
        ("fresh", &fresh),
        ("running", &running),
        ("restored", &restored),
        ("retried", &retried),
    ] {
        assert_eq!(shape(value), shape(&archived), "{age}");
    }
    assert_eq!(shape(&cancelled), shape(&archived));
    // Of a create, executions are yet to come.
    let top = |value: &Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(top(&made), top(&archived));
}

#[test]
fn machines_and_templates_have_one_shape() {
    let runtime = Runtime::new().expect("runtime");
    let store = StoreHandle::new(MemoryStore::new());
    let (address, _agent) = runtime.block_on(prepared_on(store, Config::default(), TEMPLATE));
    let dir = tempfile::TempDir::new().expect("directory");
    let file = dir.path().join("m.yaml");
    // One that was never seen.
    std::fs::write(&file, "machine: node2\nmac: 52:54:00:77:00:0c\n").expect("write");
    text(&farrier(
        &address,
        &["machine", "apply", "-f", &file.display().to_string()],
    ));
    let machines = json(&address, &["machine", "list"]);
    let [seen, new] = machines.as_array().expect("a list").as_slice() else {
        panic!("{machines}")
    };
    assert_eq!(shape(seen), shape(new));
    assert_eq!(&json(&address, &["machine", "get", "node2"]), new);
    let template = json(&address, &["template", "get", "aged"]);
    assert_eq!(json(&address, &["template", "list"])[0], template);
}

#[test]
fn what_a_cancel_kept_from_beginning_is_cancelled() {
    let runtime = Runtime::new().expect("runtime");
    let store = StoreHandle::new(MemoryStore::new());
    let template = format!(
        "{TEMPLATE}  - name: last\n    worker: \"{{{{.device_1}}}}\"\n    actions: [{{name: third, image: reboot}}]\n"
    );
    let (address, mut agent) = runtime.block_on(prepared_on(store, Config::default(), &template));
    let id = text(&farrier(
        &address,
        &["workflow", "create", "-q", "-t", "aged", "-r", DEVICE],
    ));
    let id = id.trim();
    let run = runtime.block_on(agent.run());
    runtime.block_on(agent.report(&run, Outcome::Started(Started {})));
    wait_until(&address, &["workflow", "state", id], |state| {
        state.contains("RUNNING")
    });
    text(&farrier(&address, &["workflow", "cancel", id]));
    let stopped = Outcome::Stopped(proto::v1::Stopped {
        disks_untouched: false,
        message: "stopped".into(),
    });
    runtime.block_on(agent.report(&run, stopped));
    let ended = json(&address, &["workflow", "wait", id]);
    let states = |value: &Value| -> Vec<String> {
        let actions = value["actions"].as_array().expect("a list").iter();
        actions
            .map(|action| action["state"].as_str().expect("a state").to_owned())
            .collect()
    };
    assert_eq!(ended["state"], "CANCELLED");
    assert_eq!(states(&ended["tasks"][1]), ["CANCELLED", "CANCELLED"]);
    assert_eq!(
        states(&ended["tasks"][1]["executions"][0]),
        ["CANCELLED", "CANCELLED"]
    );
    assert_eq!(states(&ended["tasks"][2]), ["CANCELLED"]);
}

#[test]
fn a_selector_of_a_label_that_no_machine_has_is_warned_about() {
    let runtime = Runtime::new().expect("runtime");
    let store = StoreHandle::new(MemoryStore::new());
    let template = "version: \"1\"\nname: roll\ntasks:\n  - name: each\n    worker: \"${{ item.mac }}\"\n    forEach: \
                    machines(\"rak == 'r7'\")\n    actions: [{name: go, image: reboot}]\n";
    let (address, _agent) = runtime.block_on(prepared_on(store, Config::default(), template));
    let dir = tempfile::TempDir::new().expect("directory");
    let file = dir.path().join("m.yaml");
    std::fs::write(
        &file,
        "machine: node2\nmac: 52:54:00:77:00:0c\nlabels: {rack: r7}\n",
    )
    .expect("write");
    text(&farrier(
        &address,
        &["machine", "apply", "-f", &file.display().to_string()],
    ));
    let id = text(&farrier(&address, &["workflow", "create", "-q", "-t", "roll"]));
    let id = id.trim();
    let waited = farrier(&address, &["workflow", "wait", id]);
    assert_eq!(waited.status.code(), Some(0));
    let label = "warning: task \"each\": no machine has the label \"rak\"; did you mean \"rack\"?\n";
    let empty = "warning: task \"each\": its list is empty: it had nothing to do (minItems fails it then)\n";
    for said in [
        String::from_utf8(waited.stderr).expect("text"),
        text(&farrier(&address, &["workflow", "state", id])),
        text(&farrier(&address, &["workflow", "explain", id])),
        text(&farrier(&address, &["workflow", "explain", id, "each"])),
    ] {
        assert!(said.contains(label) && said.contains(empty), "{said}");
    }
    let state = json(&address, &["workflow", "state", id]);
    assert_eq!(state["tasks"][0]["warnings"].as_array().expect("a list").len(), 2);
}

#[test]
fn a_counting_loop_and_its_items_are_shown_with_what_they_gave() {
    let runtime = Runtime::new().expect("runtime");
    let store = StoreHandle::new(MemoryStore::new());
    let template = "version: \"1\"\nname: counted\noutputs: {found: vars.found, places: tasks.each.outputs}\ntasks:\n  \
                    - name: each\n    forEach: \"['a', 'b']\"\n    set: {place: item_index}\n  \
                    - name: look\n    set: {found: 'has(vars.found) ? vars.found + [round] : [round]'}\n    \
                    goto: {when: size(vars.found) < 3, task: look, max: 5}\n";
    let (address, _agent) = runtime.block_on(prepared_on(store, Config::default(), template));
    let id = text(&farrier(&address, &["workflow", "create", "-q", "-t", "counted"]));
    let id = id.trim();
    text(&farrier(&address, &["workflow", "wait", id, "--timeout", "20s"]));
    let shown = text(&farrier(&address, &["workflow", "get", id, "-o", "json"]));
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let wanted = serde_json::json!({"found": [0, 1, 2], "places": [{"place": 0}, {"place": 1}]});
    assert_eq!(shown["outputs"], wanted);
    // Without has() the template is refused, with a cure.
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(
        file.path(),
        template.replace(
            "has(vars.found) ? vars.found + [round] : [round]",
            "vars.found + [round]",
        ),
    )
    .expect("write");
    let refused = farrier(
        &address,
        &["template", "validate", "-f", &file.path().display().to_string()],
    );
    let said = String::from_utf8(refused.stderr).expect("text");
    let words = "vars.found is not there in the first round: write has(vars.found) ? vars.found : …";
    assert!(!refused.status.success() && said.contains(words), "{said}");
}
