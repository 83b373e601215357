//! What is given as a template, devices and machines, and what is made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator::Error;
use coordinator::database::View;
use coordinator::machines;
use coordinator::making::{self, Identity, Source};
use coordinator::templates::{self, Offered};
use store::{MemoryStore, Store};
use workflow::language::ImagePolicy;

use crate::harness::home;

const MACHINES: &str = "\
machine: node1
mac: 52:54:00:77:00:0b
disks: [/dev/vda]
agent_id: slot-1
---
machine: node2
mac: 52:54:00:77:00:0c
disks: [/dev/sdb]
";

const TEMPLATE: &str = "\
version: \"0.1\"
name: inner
tasks:
- name: os
  worker: \"{{.device_1}}\"
  actions:
  - {name: look, image: cexec, timeout: 5, environment: {DISK: \"{{ index .Hardware.Disks 0 }}\", HOST: \"{{ .host }}\"}}
";

/// A store with two machines.
fn prepared() -> (Arc<dyn Store>, View) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let view = View::now(&*store).expect("a view");
    let file = machines::File {
        text: MACHINES.into(),
        ..machines::File::default()
    };
    let applied = machines::apply(&view, &home(), &file, &[], 1).expect("good machines");
    for step in applied.steps {
        store.commit(&step.into_commit()).expect("committed");
    }
    let view = View::now(&*store).expect("a view");
    (store, view)
}

fn source(devices: &[(&str, &str)], machine: &str) -> Source {
    Source {
        text: TEMPLATE.into(),
        file: "t.yaml".into(),
        devices: devices
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        machine: machine.into(),
        ..Source::default()
    }
}

/// The worker, disk and host that come out.
fn made(view: &View, source: Source) -> Result<(String, String, String), Error> {
    let identity = Identity {
        id: "0".into(),
        parent: None,
        idempotency_key: String::new(),
        by: String::new(),
    };
    let (creation, _) = making::make(view, &home(), &ImagePolicy::default(), source, identity)?;
    let task = &creation.definition.tasks[0];
    let of: &BTreeMap<String, String> = &task.actions[0].environment;
    Ok((task.worker.clone(), of["DISK"].clone(), of["HOST"].clone()))
}

#[test]
fn a_machine_s_name_works_where_a_mac_does_and_nowhere_else() {
    let (_store, view) = prepared();
    let node1 = (
        "52:54:00:77:00:0b".to_owned(),
        "/dev/vda".to_owned(),
        "node2".to_owned(),
    );
    for device in ["node1", "52-54-00-77-00-0B", "52:54:00:77:00:0b"] {
        let devices = [("device_1", device), ("host", "node2")];
        assert_eq!(made(&view, source(&devices, "")).unwrap(), node1, "{device}");
    }
    // An agent id stays what the operator called it.
    let devices = [("device_1", "slot-1"), ("host", "x")];
    assert_eq!(made(&view, source(&devices, "")).unwrap().0, "slot-1");
    let named = Source {
        text: TEMPLATE.replace("{{.device_1}}", "node2"),
        ..source(&[("device_1", "node1"), ("host", "x")], "")
    };
    assert_eq!(made(&view, named).unwrap().0, "52:54:00:77:00:0c");
}

#[test]
fn the_record_is_that_of_the_machine_that_is_meant() {
    let (_store, view) = prepared();
    let disk = |devices: &[(&str, &str)], machine: &str| {
        let all = [devices, &[("host", "x")]].concat();
        let mut source = source(&all, machine);
        source.text = source.text.replace("{{.device_1}}", "node1");
        made(&view, source).map(|(_, disk, _)| disk)
    };
    let (one, two) = ("52:54:00:77:00:0b", "52:54:00:77:00:0c");
    assert_eq!(disk(&[("a", one)], "").unwrap(), "/dev/vda");
    assert_eq!(disk(&[("a", one), ("b", "slot-1")], "").unwrap(), "/dev/vda");
    assert_eq!(disk(&[("device_1", two), ("a", one)], "").unwrap(), "/dev/sdb");
    assert_eq!(disk(&[("a", one), ("b", two)], "node2").unwrap(), "/dev/sdb");
    let said = |devices: &[(&str, &str)], machine: &str| match disk(devices, machine).unwrap_err() {
        Error::NotFound(said) => (3, said.lines().last().unwrap().to_owned()),
        Error::Invalid(said) => (1, said.lines().last().unwrap().to_owned()),
        error => panic!("{error}"),
    };
    let unclear =
        "it is not clear which machine is meant: a is node1, b is node2: choose one with --machine NAME";
    assert_eq!(said(&[("a", one), ("b", two)], ""), (1, unclear.to_owned()));
    let nobody = "device_1: no machine has MAC 52:54:00:77:00:99: add it with `farrier machine apply`";
    let unknown = "52:54:00:77:00:99";
    assert_eq!(said(&[("device_1", unknown)], ""), (3, nobody.to_owned()));
    assert_eq!(
        said(&[("device_1", unknown), ("a", one)], ""),
        (3, nobody.to_owned())
    );
    let none = "no machine is given: name one with -r device_1=MAC, or with --machine NAME";
    assert_eq!(said(&[("a", "b")], ""), (1, none.to_owned()));
    let missing = "no machine is named \"node9\"; did you mean \"node1\"?";
    assert_eq!(said(&[], "node9"), (3, missing.to_owned()));
}

#[test]
fn a_rendering_is_there_whatever_is_wrong_with_it() {
    let (_store, view) = prepared();
    let mut bad = source(&[("device_1", "node1"), ("host", "a\"b")], "");
    let rendering = making::rendering(&view, &home(), &ImagePolicy::default(), bad.clone()).unwrap();
    assert!(
        rendering.yaml.ends_with("HOST: \"a\"b\"}}\n"),
        "{}",
        rendering.yaml
    );
    let said = rendering.outcome.unwrap_err().to_string();
    assert_eq!(
        said.lines().last(),
        Some(
            "to see what was rendered, with numbered lines: `farrier template render -f t.yaml -r device_1=node1 -r 'host=a\"b'`"
        )
    );
    bad.text = "{{ if }}x{{ end }}".into();
    let rendering = making::rendering(&view, &home(), &ImagePolicy::default(), bad).unwrap();
    assert_eq!(rendering.yaml, "");
    assert_eq!(
        rendering.outcome.unwrap_err().to_string(),
        "t.yaml: line 1, column 7: something is missing before this }}\n    | {{ if }}x{{ end }}"
    );
}

#[test]
fn an_object_that_carries_a_template_is_stored_as_the_template_under_its_name() {
    let (store, view) = prepared();
    let indented: String = TEMPLATE.lines().map(|line| format!("    {line}\n")).collect();
    let carrier = format!(
        "apiVersion: tinkerbell.org/v1alpha1\nkind: Template\nmetadata: {{name: outer}}\nspec:\n  data: |\n{indented}"
    );
    let offered = Offered {
        text: carrier.clone(),
        ..Offered::default()
    };
    let put = templates::put(&view, &home(), &offered, "id-1", 1).unwrap();
    assert_eq!(
        (put.template.name.as_str(), put.template.text.as_str()),
        ("outer", TEMPLATE)
    );
    // One that was stored as the object, by a server that did not know it, is made all the same.
    let old = templates::Template {
        namespace: "default".into(),
        text: carrier,
        name: "old".into(),
        ..put.template.clone()
    };
    store.commit(&put.batch.unwrap().into_commit()).unwrap();
    let view = View::now(&*store).expect("a view");
    let stored = Source {
        template: "old".into(),
        text: old.text,
        ..source(&[("device_1", "node2"), ("host", "x")], "")
    };
    assert_eq!(made(&view, stored).unwrap().1, "/dev/sdb");
    // Tinkerbell's Workflow names it.
    let workflow = Source {
        text: "apiVersion: tinkerbell.org/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec: {templateRef: outer, hardwareRef: node2, \
               hardwareMap: {device_1: 52:54:00:77:00:0b, host: h}}\n"
            .into(),
        ..source(&[("host", "said")], "")
    };
    let want = (
        "52:54:00:77:00:0b".to_owned(),
        "/dev/sdb".to_owned(),
        "said".to_owned(),
    );
    assert_eq!(made(&view, workflow).unwrap(), want);
}

#[test]
fn a_file_of_machines_is_checked_without_a_store() {
    let list = "- machine: a\n  mac: 52:54:00:77:00:01\n- {apiVersion: v1, kind: Secret}\n";
    let names: Vec<String> = machines::check(list)
        .unwrap()
        .into_iter()
        .map(|machine| machine.name)
        .collect();
    assert_eq!(names, ["a"]);
    let found = machines::check("machine: a\nmac: \"52\n").unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].place.line, found[0].place.column), (2, 6));
}

#[test]
fn what_sub_workflows_would_be_refused_for_and_images_without_a_digest_are_told_once() {
    let (store, _) = prepared();
    let stored = |name: &str, text: &str| {
        let offered = Offered {
            name: name.into(),
            text: text.into(),
            source: String::new(),
            by: String::new(),
        };
        let view = View::now(&*store).expect("a view");
        let put = templates::put(&view, &home(), &offered, name, 1).expect("a template");
        store
            .commit(&put.batch.expect("new").into_commit())
            .expect("committed");
    };
    stored(
        "below",
        "version: \"1\"\nname: below\ntasks: [{name: b, worker: slot-1, actions: [{name: x, image: \"evil.example/x:1\"}]}]\n",
    );
    let text = "version: \"1\"\nname: above\ntasks:\n  - {name: a, worker: slot-1, actions: [{name: y, image: \"quay.io/y:1\"}, \
                {name: z, image: \"quay.io/y:1\"}]}\n  - {name: sub, workflow: below}\n";
    let source = Source {
        text: text.into(),
        ..Source::default()
    };
    let images = ImagePolicy {
        allowed: vec!["quay.io".parse().expect("a registry")],
        ..ImagePolicy::default()
    };
    let view = View::now(&*store).expect("a view");
    let rendering = making::rendering(&view, &home(), &images, source).expect("rendered");
    rendering.outcome.expect("it is a workflow all the same");
    let told = |begin: &str| {
        rendering
            .warnings
            .iter()
            .filter(|line| line.starts_with(begin))
            .count()
    };
    let below = "template \"below\", task \"b\", action \"x\": image evil.example/x:1 is refused: ";
    assert_eq!(told(below), 1, "{:?}", rendering.warnings);
    assert_eq!(
        told("no digest is in the name of quay.io/y:1: "),
        1,
        "{:?}",
        rendering.warnings
    );
}
