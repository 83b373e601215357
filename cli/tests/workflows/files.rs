//! Files as they are in the field: what carries a template, what is mixed, what is wrong in them, and how that is seen.

use std::process::Output;

use server::Config;
use store::{MemoryStore, StoreHandle};
use tokio::runtime::Runtime;

use crate::harness::text;
use crate::servers::{InProcess, farrier};

const MACHINES: &str = "\
machine: node1
mac: 52:54:00:77:00:0b
disks: [/dev/vda]
---
machine: node2
mac: 52:54:00:77:00:0c
disks: [/dev/nvme0n1]
";

/// A template that asks for a machine's record, in the object that carries it.
const TEMPLATE: &str = "\
apiVersion: tinkerbell.org/v1alpha1
kind: Template
metadata:
  name: ubuntu
spec:
  data: |
    version: \"0.1\"
    name: inner
    tasks:
      - name: os
        worker: \"{{.device_1}}\"
        actions:
          - name: look
            image: cexec
            timeout: 60
            environment:
              DISK: \"{{ index .Hardware.Disks 0 }}\"
";

const EKS: &str = "\
apiVersion: anywhere.eks.amazonaws.com/v1alpha1
kind: TinkerbellTemplateConfig
metadata:
  name: my-cluster
spec:
  template:
    version: \"0.1\"
    name: my-cluster
    tasks:
    - name: os
      worker: '{{.device_1}}'
      actions:
      - {name: look, image: cexec, timeout: 60, environment: {DISK: '{{ index .Hardware.Disks 0 }}'}}
";

const WORKFLOW: &str = "\
apiVersion: tinkerbell.org/v1alpha1
kind: Workflow
metadata: {name: install-node2}
spec:
  templateRef: ubuntu
  hardwareRef: node2
  hardwareMap: {device_1: 52:54:00:77:00:0c}
";

pub(crate) struct Server {
    _runtime: Runtime,
    pub(crate) server: InProcess,
    pub(crate) dir: tempfile::TempDir,
}

impl Server {
    /// With two machines.
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().expect("runtime");
        let store = StoreHandle::new(MemoryStore::new());
        let server = runtime.block_on(InProcess::start(store, Config::default()));
        let server = Self {
            _runtime: runtime,
            server,
            dir: tempfile::TempDir::new().expect("directory"),
        };
        let machines = server.file("machines.yaml", MACHINES);
        server.ok(&["machine", "apply", "-f", &machines]);
        server
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        path.display().to_string()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        farrier(&self.server.api, args)
    }

    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        text(&self.run(args))
    }

    /// What it says on standard error, and the exit code.
    pub(crate) fn said(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        (output.status.code(), said)
    }

    /// What a workflow's action has in its environment.
    fn disk_of(&self, create: &[&str]) -> String {
        let id = self.ok(&[&["workflow", "create", "-q"], create].concat());
        let json: serde_json::Value =
            serde_json::from_str(&self.ok(&["workflow", "get", id.trim(), "-o", "json"])).expect("JSON");
        let yaml = json["definition"].as_str().expect("a definition");
        let disk = yaml.split("DISK: ").nth(1).expect("a disk");
        disk.split(['}', '\n'])
            .next()
            .expect("a line")
            .trim_matches(['"', '\''])
            .to_owned()
    }
}

#[test]
fn what_carries_a_template_is_validated_stored_rendered_and_made() {
    let server = Server::start();
    for (name, file) in [("ubuntu", TEMPLATE), ("my-cluster", EKS)] {
        let file = server.file(&format!("{name}.yaml"), file);
        assert_eq!(
            server.ok(&["template", "validate", "-f", &file]),
            format!(
                "{file}: the syntax of its {{{{ }}}} is right; what it gives can be checked for a machine only: \
                 `farrier template render` does\n"
            )
        );
        assert_eq!(
            server.ok(&["template", "create", "-f", &file]),
            format!("template {name} is stored, version 1\n")
        );
        let stored = server.ok(&["template", "get", name]);
        assert!(stored.starts_with("version: \"0.1\"\nname: "), "{stored}");
        for rendered in [
            server.ok(&["template", "render", name, "-r", "device_1=52:54:00:77:00:0b"]),
            server.ok(&["template", "render", "-f", &file, "-r", "device_1=node1"]),
        ] {
            assert!(
                rendered.contains("52:54:00:77:00:0b") && rendered.contains("/dev/vda"),
                "{rendered}"
            );
        }
        assert_eq!(server.disk_of(&["-f", &file, "-r", "device_1=node1"]), "/dev/vda");
        assert_eq!(
            server.disk_of(&["-t", name, "-r", "device_1=node2"]),
            "/dev/nvme0n1"
        );
    }
    let two = server.file("two.yaml", &format!("{TEMPLATE}---\n{EKS}"));
    let (code, said) = server.said(&["template", "create", "-f", &two]);
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        "farrier: the file has 2 templates, and one is wanted: ubuntu (line 1), my-cluster (line 19): choose one with --name NAME"
    );
    assert_eq!(
        server.ok(&["template", "create", "-f", &two, "--name", "ubuntu"]),
        "template ubuntu is unchanged, version 1\n"
    );
}

#[test]
fn problems_of_a_carried_template_are_at_the_lines_of_its_file() {
    let server = Server::start();
    let bad = TEMPLATE
        .replace("image: cexec", "image: Bad Image")
        .replace("index .Hardware.Disks 0", ".x");
    let file = server.file("bad.yaml", &bad);
    for command in ["validate", "create"] {
        let (code, said) = server.said(&["template", command, "-f", &file]);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.starts_with(&format!(
                "farrier: {file}: line 14, column 20: image \"Bad Image\" of action \"look\""
            )),
            "{said}"
        );
    }
    let nothing = server.file(
        "deployment.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: \"{{ .x }}\"}\n",
    );
    for args in [
        &["template", "validate"][..],
        &["template", "create", "--name", "x"],
        &["workflow", "create"],
    ] {
        let (code, said) = server.said(&[args, &["-f", &nothing]].concat());
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.starts_with("farrier: the file holds no template\n"),
            "{said}"
        );
        assert!(said.contains("Deployment \"{{ .x }}\" is no template"), "{said}");
    }
}

#[test]
fn tinkerbell_s_workflow_is_made_as_it_says() {
    let server = Server::start();
    let workflow = server.file("workflow.yaml", WORKFLOW);
    let (code, said) = server.said(&["workflow", "create", "-f", &workflow]);
    assert_eq!(
        (code, said.as_str()),
        (
            Some(3),
            "farrier: no template has name or id \"ubuntu\": see `farrier template list`"
        )
    );
    for command in ["validate", "create"] {
        let (code, said) = server.said(&["template", command, "-f", &workflow]);
        let want = "farrier: Workflow \"install-node2\" is no template: it asks for one, \"ubuntu\", and `farrier workflow create` \
                    makes it";
        assert_eq!((code, said.as_str()), (Some(1), want));
    }
    let mixed = server.file("mixed.yaml", &format!("{WORKFLOW}---\n{TEMPLATE}"));
    assert_eq!(server.disk_of(&["-f", &mixed]), "/dev/nvme0n1");
    let template = server.file("ubuntu.yaml", TEMPLATE);
    server.ok(&["template", "create", "-f", &template]);
    assert_eq!(server.disk_of(&["-f", &workflow]), "/dev/nvme0n1");
    // What is said beside it counts.
    assert_eq!(
        server.disk_of(&["-f", &workflow, "-r", "device_1=node1", "--machine", "node1"]),
        "/dev/vda"
    );
    let names = server.ok(&["workflow", "list"]);
    assert!(names.contains("install-node2"), "{names}");
}

#[test]
fn a_machine_is_meant_by_its_address() {
    let server = Server::start();
    let machine = "machine: node3\nmac: 52:54:00:77:00:0d\naddress: 10.77.0.13/24\ndisks: [/dev/sdc]\n";
    let machine = server.file("node3.yaml", machine);
    server.ok(&["machine", "apply", "-f", &machine]);
    let template = server.file("ubuntu.yaml", TEMPLATE);
    for given in ["device_1=10.77.0.13", "{\"device_1\":\"10.77.0.13\"}"] {
        assert_eq!(server.disk_of(&["-f", &template, "-r", given]), "/dev/sdc");
    }
    assert_eq!(
        server.disk_of(&["-f", &template, "-r", "device_1=node1", "--machine", "10.77.0.13"]),
        "/dev/sdc"
    );
    let shown = server.ok(&["machine", "get", "10.77.0.13"]);
    assert!(shown.contains("node3"), "{shown}");
    let given = [
        "workflow",
        "create",
        "-q",
        "-t",
        "ubuntu",
        "-r",
        "device_1=10.77.0.13",
    ];
    server.ok(&["template", "create", "-f", &template]);
    let id = server.ok(&given);
    let events = server.ok(&["workflow", "events", id.trim()]);
    assert!(events.contains("10.77.0.13 is 52:54:00:77:00:0d"), "{events}");
    let (code, said) = server.said(&["workflow", "create", "-t", "ubuntu", "-r", "device_1=10.77.0.99"]);
    let unknown = "farrier: device_1: no machine has address 10.77.0.99: add it with `farrier machine apply`";
    assert_eq!((code, said.as_str()), (Some(3), unknown));
    let (code, said) = server.said(&["machine", "get", "10.77.0.99"]);
    let unknown = "farrier: no machine has address 10.77.0.99: see `farrier machine list`";
    assert_eq!((code, said.as_str()), (Some(3), unknown));
}

#[test]
fn a_mixed_file_of_machines_is_applied_and_what_is_none_is_named() {
    let server = Server::start();
    let mixed = format!(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {{name: tink}}\n- apiVersion: \
         tinkerbell.org/v1alpha1\n  kind: Hardware\n  metadata: {{name: listed}}\n  spec: {{interfaces: [{{dhcp: {{mac: \
         '52:54:00:77:00:0d'}}}}]}}\n---\n{TEMPLATE}"
    );
    let file = server.file("mixed.yaml", &mixed);
    let (code, said) = server.said(&["machine", "apply", "-f", &file, "--strict"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(":4:3: Namespace \"tink\" is no machine, and nothing is passed over with --strict"),
        "{said}"
    );
    let output = server.run(&["machine", "apply", "-f", &file]);
    assert_eq!(text(&output), "machine listed created\n");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "warning: {file}:4:3: Namespace \"tink\" is no machine, and is passed over\nwarning: {file}:12:1: Template \"ubuntu\" is \
             no machine, and is passed over: `farrier template create` stores it\n"
        )
    );
}

#[test]
fn a_machine_that_nobody_knows_is_told_as_the_cause() {
    let server = Server::start();
    let file = server.file("ubuntu.yaml", TEMPLATE);
    server.ok(&["template", "create", "-f", &file]);
    let unknown =
        "farrier: device_1: no machine has MAC 52:54:00:77:00:99: add it with `farrier machine apply`";
    let given = ["-r", "device_1=52:54:00:77:00:99"];
    for command in [
        &["workflow", "create", "-t", "ubuntu"][..],
        &["workflow", "create", "-f", &file],
        &["template", "render", "ubuntu"],
    ] {
        let (code, said) = server.said(&[command, &given].concat());
        assert_eq!((code, said.as_str()), (Some(3), unknown), "{command:?}");
    }
    // Another machine that is known is not meant by it.
    let (code, said) = server.said(&[
        "workflow",
        "create",
        "-t",
        "ubuntu",
        "-r",
        "device_1=52:54:00:77:00:99",
        "-r",
        "device_2=node2",
    ]);
    assert_eq!((code, said.as_str()), (Some(3), unknown));
    let (code, said) = server.said(&["workflow", "create", "-t", "ubuntu", "-r", "device_1=node9"]);
    assert_eq!(
        (code, said.as_str()),
        (
            Some(3),
            "farrier: device_1: no machine has name or agent id node9: add it with `farrier machine apply`"
        )
    );
    let (code, said) = server.said(&[
        "workflow",
        "create",
        "-t",
        "ubuntu",
        "-r",
        "device_1=node1",
        "--machine",
        "node9",
    ]);
    assert_eq!(
        (code, said.as_str()),
        (
            Some(3),
            "farrier: no machine is named \"node9\"; did you mean \"node1\"?"
        )
    );
}

#[test]
fn which_machine_is_meant_is_asked_when_it_is_not_clear() {
    let server = Server::start();
    let text = TEMPLATE.replace("device_1", "first");
    let file = server.file("two.yaml", &text);
    let given = ["-r", "first=52:54:00:77:00:0b", "-r", "second=52:54:00:77:00:0c"];
    let create = [&["workflow", "create", "-f", &file], &given[..]].concat();
    let (code, said) = server.said(&create);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        said.lines().last(),
        Some(
            "it is not clear which machine is meant: first is node1, second is node2: choose one with --machine NAME"
        )
    );
    let create = &create[2..];
    for (machine, disk) in [("node2", "/dev/nvme0n1"), ("52:54:00:77:00:0b", "/dev/vda")] {
        assert_eq!(server.disk_of(&[create, &["--machine", machine]].concat()), disk);
    }
    // A name means a machine only where a machine is wanted.
    let (code, said) = server.said(&["template", "render", "-f", &file, "-r", "first=node1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.ends_with("no machine is given: name one with -r device_1=MAC, or with --machine NAME"),
        "{said}"
    );
}

#[test]
fn what_was_rendered_is_shown_with_numbers_whatever_is_wrong_with_it() {
    let server = Server::start();
    let bad = "version: \"0.1\"\nname: x\ntasks:\n- name: t\n  worker: \"{{.device_1}}\"\n  actions:\n  - {name: a, image: cexec}\n{{ range \
               until 2 }}\n  - name: \"b{{ . }}\n    image: cexec\n{{ end }}\n";
    let file = server.file("bad.yaml", bad);
    let (code, said) = server.said(&[
        "workflow",
        "create",
        "-f",
        &file,
        "-r",
        "device_1=node1",
        "-r",
        "why=a b",
    ]);
    assert_eq!(code, Some(1));
    let rendered = "rendered line 9, column 11: bad YAML: this \" is not closed: write a \" where its text ends\n    |   - name: \"b0";
    assert_eq!(
        said,
        format!(
            "farrier: {file}: {rendered}\nto see what was rendered, with numbered lines: `farrier template render -f {file} -r \
             device_1=node1 -r 'why=a b'`"
        )
    );
    let output = server.run(&["template", "render", "-f", &file, "-r", "device_1=node1"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        shown.contains("\n   5 |   worker: \"52:54:00:77:00:0b\"\n"),
        "{shown}"
    );
    assert!(shown.contains("\n   9 |   - name: \"b0\n"), "{shown}");
    assert_eq!(shown.lines().count(), 14, "{shown}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with(&format!("farrier: {file}: {rendered}")),
        "{said}"
    );
    // As far as it went, when the template itself fails.
    let failing = server.file("failing.yaml", &bad.replace("{{ . }}", "{{ fail \"no\" }}"));
    let output = server.run(&[
        "template",
        "render",
        "-f",
        &failing,
        "-r",
        "device_1=node1",
        "-o",
        "json",
    ]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        json["yaml"].as_str().expect("yaml").ends_with("  - name: \"b"),
        "{json}"
    );
    assert!(
        json["problems"][0]
            .as_str()
            .expect("a problem")
            .contains("line 9, column 16: fail: no"),
        "{json}"
    );
    // What is right stays as it can be given on.
    let good = server.file("ubuntu.yaml", TEMPLATE);
    let output = server.ok(&["template", "render", "-f", &good, "-r", "device_1=node1"]);
    assert!(output.starts_with("version: \"0.1\"\n"), "{output}");
}

#[test]
fn what_stands_behind_the_first_document_is_told() {
    let server = Server::start();
    let template = "version: \"0.1\"\nname: x\ntasks:\n- {name: t, worker: \"{{.device_1}}\", actions: [{name: a, image: cexec, timeout: 5}]}\n";
    for (behind, want) in [
        ("---\n", "nothing stands behind this ---: leave it out"),
        (
            "---\nname: y\n",
            "a second document begins here and is not read: the first one is the template",
        ),
    ] {
        let file = server.file("t.yaml", &format!("{template}{behind}"));
        let want = format!("warning: {file}: line 5, column 1: {want}\n    | ---");
        for command in ["validate", "create"] {
            let (code, said) = server.said(&["template", command, "-f", &file]);
            assert_eq!((code, said.as_str()), (Some(0), want.as_str()), "{command}");
        }
        let (code, said) = server.said(&["workflow", "create", "-f", &file, "-r", "device_1=node1"]);
        assert_eq!(code, Some(0));
        assert_eq!(said, want.replace(": line 5", ": rendered line 5"));
    }
}

#[test]
fn a_bad_json_object_is_refused_in_our_words() {
    let server = Server::start();
    let file = server.file("ubuntu.yaml", TEMPLATE);
    let create = ["workflow", "create", "-f", &file];
    for (args, want) in [
        (
            ["-r", "{\"device_1\": }"],
            "farrier: bad devices \"{\\\"device_1\\\": }\": it stops being JSON at column 14; expected",
        ),
        (
            ["-r", "{\"device_1\": 1"],
            "farrier: bad devices \"{\\\"device_1\\\": 1\": it ends before it is complete",
        ),
        (
            ["-i", "[1]"],
            "farrier: bad input \"[1]\": it is a list, not an object in { }; expected",
        ),
    ] {
        let (code, said) = server.said(&[&create[..], &args].concat());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.starts_with(want), "{said}");
    }
}
