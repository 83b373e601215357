//! The program as people and scripts use it: its output, its words and its exit codes, against a real server.

mod servers;

use std::path::Path;
use std::process::{Command, Output};

use server::Config;
use servers::{InProcess, farrier};
use store::{MemoryStore, StoreHandle};
use tokio::runtime::Runtime;

const MACHINE: &str = "machine: node1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\ndisks: [/dev/vda]\n";
const TEMPLATE: &str = "\
version: \"0.1\"
name: wipe
tasks:
  - name: only
    worker: \"{{.device_1}}\"
    actions:
      - name: look
        image: cexec
        timeout: 60
";
const DEVICES: &str = r#"{"device_1": "52:54:00:77:00:0b"}"#;

/// A server in this process, and a directory for files.
struct Server {
    _runtime: Runtime,
    server: InProcess,
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let runtime = Runtime::new().expect("runtime");
        let store = StoreHandle::new(MemoryStore::new());
        let server = runtime.block_on(InProcess::start(store, Config::default()));
        Self {
            _runtime: runtime,
            server,
            dir: tempfile::TempDir::new().expect("directory"),
        }
    }

    /// With a machine and a template.
    fn prepared() -> Self {
        let server = Self::start();
        let (machine, template) = (server.file("m.yaml", MACHINE), server.file("t.yaml", TEMPLATE));
        server.ok(&["machine", "apply", "-f", &machine]);
        server.ok(&["template", "create", "-f", &template]);
        server
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        path.display().to_string()
    }

    fn run(&self, args: &[&str]) -> Output {
        farrier(&self.server.api, args)
    }

    /// What it prints; it must succeed.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn fails(&self, args: &[&str], code: i32, words: &str) {
        check(&self.run(args), code, words);
    }
}

#[track_caller]
fn check(output: &Output, code: i32, words: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.trim_end(), words);
    assert!(output.stdout.is_empty());
}

#[test]
fn machines_are_applied_listed_shown_and_deleted() {
    let server = Server::start();
    let file = server.file("m.yaml", MACHINE);
    assert_eq!(
        server.ok(&["machine", "apply", "-f", &file]),
        "machine node1 created\n"
    );
    assert_eq!(
        server.ok(&["machine", "apply", "-f", &file]),
        "machine node1 unchanged\n"
    );
    assert_eq!(
        server.ok(&["machine", "list"]),
        "NAME   MAC                ADDRESS     AGENT  BOOTS NEXT  WORKFLOW\n\
         node1  52:54:00:77:00:0b  10.77.0.11  -      local-disk  -\n"
    );
    let shown = server.ok(&["machine", "get", "52:54:00:77:00:0B"]);
    assert!(
        shown.contains(
            "Boots next:  local-disk (no workflow has written to its disk, and its netboot policy is local)\n"
        ),
        "{shown}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&server.ok(&["machine", "get", "node1", "-o", "json"])).expect("JSON");
    assert_eq!(json["macs"][0], "52:54:00:77:00:0b");
    assert_eq!(json["document"]["disks"][0], "/dev/vda");
    assert!(
        server
            .ok(&["machine", "list", "-o", "yaml"])
            .starts_with("- name: node1\n")
    );
    assert_eq!(
        server.ok(&["machine", "boot", "node1", "disk"]),
        "machine node1 boots local-disk next (somebody said that its disk is good)\n"
    );
    assert_eq!(
        server.ok(&["machine", "delete", "node1"]),
        "machine node1 deleted\n"
    );
    server.fails(
        &["machine", "get", "node1"],
        3,
        "farrier: no machine is named \"node1\": see `farrier machine list`",
    );
}

#[test]
fn a_bad_file_of_machines_is_refused_in_words() {
    let server = Server::start();
    let file = server.file("bad.yaml", "machine: a\nmac: 52:54\naddres: 10.0.0.1/8\n");
    let words = format!(
        "farrier: {file}:2:6: bad MAC \"52:54\": expected six hexadecimal pairs such as 52:54:00:77:00:0b\n\
         {file}:3:1: \"addres\" is no field of a machine; did you mean \"address\"?"
    );
    server.fails(&["machine", "apply", "-f", &file], 1, &words);
    let missing = server.dir.path().join("none.yaml").display().to_string();
    let words = format!("farrier: cannot read {missing}: No such file or directory (os error 2)");
    server.fails(&["machine", "apply", "-f", &missing], 1, &words);
}

#[test]
fn templates_are_kept_as_they_were_written() {
    let server = Server::prepared();
    assert_eq!(server.ok(&["template", "get", "wipe"]), TEMPLATE);
    let list = server.ok(&["template", "list"]);
    assert!(list.starts_with("NAME  VERSION  UPDATED "), "{list}");
    let rendered = server.ok(&["template", "render", "wipe", "-r", DEVICES]);
    assert!(rendered.contains("worker: \"52:54:00:77:00:0b\""), "{rendered}");
    let file = server.file("t2.yaml", &TEMPLATE.replace("look", "look again"));
    assert_eq!(
        server.ok(&["template", "create", "-f", &file]),
        "template wipe is stored, version 2\n"
    );
    let rendered: serde_json::Value =
        serde_json::from_str(&server.ok(&["template", "render", "wipe", "-r", DEVICES, "-o", "json"]))
            .expect("JSON");
    assert!(
        rendered["yaml"]
            .as_str()
            .is_some_and(|yaml| yaml.contains("wipe")),
        "{rendered}"
    );
    let bad = server.file("bad.yaml", "name: {{ .x \n");
    let output = server.run(&["template", "validate", "-f", &bad]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with(&format!("farrier: {bad}: line 1")), "{stderr}");
}

#[test]
fn images_that_are_pulled_are_told_of_before_anything_runs() {
    let server = Server::prepared();
    let template = "\
version: \"0.1\"
name: bare
tasks:
  - name: os
    worker: \"{{.device_1}}\"
    actions:
      - name: stream
        image: quay.io/tinkerbell/actions/image2disk:v1
        timeout: 600
        environment: {DEST_DISK: \"{{ DISK }}\"}
      - name: grub
        image: quay.io/tinkerbell/actions/rootio:v1
        timeout: 600
      - name: third
        image: quay.io/tinkerbell/actions/third:v1
        timeout: 600
";
    let said = |place: &str, name: &str, image: &str, task: &str| {
        format!(
            "{place}: action {name:?} runs as a container: image quay.io/tinkerbell/actions/{image}:v1 is not built into the \
             agent, and is pulled from its registry; built in are archive2disk, bootentry, cexec, download, exec, growpart, image2disk, kexec, luks, lvm, mkfs, oci2disk, partition, poweroff, qemuimg2disk, raid, reboot, seed, wipe, writefile; action \"stream\"{task} will have written \
             to a disk by then\n"
        )
    };
    let warned = |args: &[&str], lines: [u32; 2], rendered: &str, task: &str| {
        let output = server.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        for (line, name, image) in [(lines[0], "grub", "rootio"), (lines[1], "third", "third")] {
            let want = said(&format!("{rendered}line {line}, column 16"), name, image, task);
            assert!(stderr.contains(&want), "{args:?}: {stderr}\n{want}");
        }
        assert_eq!(stderr.matches("runs as a container").count(), 2, "{stderr}");
    };
    let of_task = " of task \"os\"";
    // Made-up values render it.
    let file = server.file("t.yaml", &template.replace("DISK", ".disk"));
    warned(&["template", "validate", "-f", &file], [12, 15], "", of_task);
    warned(&["template", "create", "-f", &file], [12, 15], "", of_task);
    // A record's fields cannot be made up: the lines tell.
    let of_record = server.file("r.yaml", &template.replace("DISK", "index .Hardware.Disks 0"));
    warned(&["template", "validate", "-f", &of_record], [12, 15], "", "");
    warned(&["template", "create", "-f", &of_record], [12, 15], "", "");
    warned(
        &["template", "render", "-f", &of_record, "-r", DEVICES],
        [12, 15],
        "rendered ",
        of_task,
    );
    warned(
        &["workflow", "create", "-t", "bare", "-r", DEVICES],
        [12, 15],
        "rendered ",
        of_task,
    );
}

#[test]
fn images_that_are_pulled_are_told_of_in_sub_workflows_too() {
    let server = Server::prepared();
    let below = "version: \"1\"\nname: below\ntasks:\n  - name: os\n    worker: \"52:54:00:77:00:0b\"\n    actions: [{name: grub, image: \
                 rootio}]\n";
    let above =
        "version: \"1\"\nname: above\ntasks: [{name: one, workflow: below}, {name: two, workflow: above}]\n";
    let (below, above) = (server.file("b.yaml", below), server.file("a.yaml", above));
    let stderr = |args: &[&str]| String::from_utf8_lossy(&server.run(args).stderr).into_owned();
    server.ok(&["template", "create", "-f", &above]);
    assert_eq!(
        stderr(&["template", "render", "above"]),
        "warning: task \"one\": there is no template \"below\" yet: store it with `farrier template create` before the task begins\n"
    );
    server.run(&["template", "create", "-f", &below]);
    let said = stderr(&["workflow", "create", "-t", "above"]);
    assert!(
        said.starts_with("warning: template \"below\", rendered line 6, column 35: action \"grub\" runs as a container: image rootio "),
        "{said}"
    );
}

#[test]
fn what_an_input_is_its_declared_type_says() {
    let server = Server::start();
    let file = server.file(
        "t.yaml",
        "version: \"1\"\nname: typed\ninputs:\n  host: {type: string}\n  count: {type: int, default: 1}\n  share: {type: double, \
         default: 0.5}\n  tags: {type: list, default: []}\ntasks: [{name: note, set: {seen: inputs.host}}]\n",
    );
    let inputs = |given: &[&str]| {
        let mut args = vec!["workflow", "create", "-o", "json", "-f", &file];
        given.iter().for_each(|one| args.extend(["-i", *one]));
        let made: serde_json::Value = serde_json::from_str(&server.ok(&args)).expect("JSON");
        made["inputs"].clone()
    };
    for (given, host) in [
        ("host=17", "17"),
        ("host=true", "true"),
        ("host=[1]", "[1]"),
        ("host=\"17\"", "17"),
        ("host=", ""),
        ("host=null", "null"),
        ("{\"host\": \"17\"}", "17"),
    ] {
        assert_eq!(inputs(&[given])["host"], host, "{given}");
    }
    let given = inputs(&["host=a", "count=17", "share=1", "tags=[\"x\"]"]);
    assert_eq!(
        (&given["count"], &given["share"], &given["tags"]),
        (&17.into(), &1.0.into(), &serde_json::json!(["x"]))
    );
    server.fails(
        &[
            "workflow",
            "create",
            "-f",
            &file,
            "-i",
            "host=a",
            "-i",
            "count=many",
        ],
        1,
        "farrier: input \"count\" is the string \"many\", but an int is wanted: give one like {\"count\": 3}",
    );
}

#[test]
fn a_device_that_a_template_does_not_use_is_warned_about() {
    let server = Server::prepared();
    let output = server.run(&[
        "template",
        "render",
        "wipe",
        "-r",
        DEVICES,
        "-r",
        "devcie_2=52:54:00:77:00:0c",
    ]);
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "warning: device \"devcie_2\" is given, and the template does not use it\n"
    );
}

#[test]
fn options_that_would_be_taken_and_not_obeyed_are_refused() {
    let server = Server::prepared();
    let id = server.ok(&[
        "workflow", "create", "-q", "-o", "json", "-t", "wipe", "-r", DEVICES,
    ]);
    let id = id.trim();
    assert!(!id.contains('{'), "{id}");
    server.fails(
        &["workflow", "logs", "--raw", "-o", "json", id],
        2,
        "farrier: --raw is for text: JSON and YAML have the lines as they are already",
    );
    server.fails(
        &["workflow", "data", "-o", "json", id, "path"],
        2,
        "farrier: one file is printed as it is: leave -o out, or the path for a list of all",
    );
    server.fails(
        &["-o", "json", "completions", "bash"],
        2,
        "farrier: --output has no effect on `farrier completions`: leave it out",
    );
    let run = server.ok(&["run", "-d", "-o", "json", "node1", "reboot"]);
    let run: serde_json::Value = serde_json::from_str(&run).expect("JSON");
    assert_eq!(run["state"], "PENDING");
}

#[test]
fn arguments_that_nobody_reads_are_refused() {
    let server = Server::prepared();
    server.fails(
        &["run", "node1", "reboot", "now"],
        2,
        "farrier: reboot takes no arguments, and these were given: now; it is told what to do with -e NAME=VALUE",
    );
    server.fails(
        &["run", "node1", "--volume", "/a:/b", "cexec"],
        2,
        "farrier: --volume has no effect on cexec, which is built into the agent and sees the whole machine: leave it out",
    );
    let id = server.ok(&["run", "-d", "node1", "cexec", "uname", "-a"]);
    let shown = server.ok(&["workflow", "get", id.trim()]);
    assert!(shown.contains("\"CMD_LINE\":\"uname -a\""), "{shown}");
}

#[test]
fn a_bad_template_is_refused_and_an_odd_one_warned_about_with_its_file_and_line() {
    let server = Server::prepared();
    let bad = server.file("bad.yaml", &TEMPLATE.replace("cexec", "\"Bad Image\""));
    let words = format!(
        "farrier: {bad}: line 8, column 16: image \"Bad Image\" of action \"look\" is no image reference: it has a \
         ' ', which no part of it may have\n    |         image: \"Bad Image\""
    );
    server.fails(&["template", "create", "-f", &bad], 1, &words);
    let odd = server.file("odd.yaml", &TEMPLATE.replace("timeout", "timeot"));
    let output = server.run(&["template", "create", "-f", &odd]);
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "warning: {odd}: line 9, column 9: \"timeot\" is no field of an action and has no effect; did you mean \
             \"timeout\"?\n    |         timeot: 60\n"
        )
    );
    let words = "farrier: line 5, column 16: there is no value for .device_1: the workflow gives no devices\n    |     \
                 worker: \"{{.device_1}}\"";
    server.fails(&["workflow", "create", "-t", "wipe"], 1, words);
}

#[test]
fn devices_are_given_by_name_or_as_json() {
    let server = Server::prepared();
    let create = ["workflow", "create", "-t", "wipe", "-q", "-r"];
    let with = |device: &'static str| [&create[..], &[device]].concat();
    for given in [
        "device_1=52:54:00:77:00:0b",
        "device_1=node1",
        r#"{"device_1": "52:54:00:77:00:0b"}"#,
    ] {
        server.ok(&with(given));
    }
    let words = "farrier: bad devices \"device_1\": it is no JSON; expected \
                 device_1=52:54:00:77:00:0b, or JSON such as '{\"device_1\": \"52:54:00:77:00:0b\"}'";
    server.fails(&with("device_1"), 2, words);
    let words =
        "farrier: task \"only\": no machine has name or agent id node9: add it with `farrier machine apply`";
    server.fails(&with("device_1=node9"), 3, words);
}

#[test]
fn a_workflow_is_made_shown_cancelled_and_deleted() {
    let server = Server::prepared();
    let id = server.ok(&["workflow", "create", "-t", "wipe", "-r", DEVICES, "--quiet"]);
    let id = id.trim();
    let state = server.ok(&["workflow", "state", id]);
    assert_eq!(
        state,
        "PENDING\n\nTASK  MACHINE  ACTION  STATE  TRIES  TIME  MESSAGE\n\
         only  node1    look    IDLE   0      -     -\n"
    );
    let list = server.ok(&["workflow", "list", "--machine", "node1"]);
    assert!(list.contains(&id[..13]) && list.contains("PENDING"), "{list}");
    let events = server.ok(&["workflow", "events", id]);
    let told: Vec<_> = events
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|words| (words[0].to_owned(), words[2..].join(" ")))
        .collect();
    let want = [
        ("1", "created - wipe from template wipe by admin"),
        ("2", "task_started only started"),
        ("3", "execution_made only waits for machine 52:54:00:77:00:0b"),
    ];
    assert_eq!(
        told,
        want.map(|(number, words)| (number.to_owned(), words.to_owned()))
    );
    let last = server.ok(&["workflow", "events", id, "--from", "3", "-o", "json"]);
    let event: serde_json::Value = serde_json::from_str(&last).expect("one JSON text a line");
    assert_eq!(
        (&event["kind"], &event["event"]["number"]),
        (&"execution_made".into(), &3.into())
    );
    let explained = server.ok(&["workflow", "explain", id]);
    assert!(explained.contains("only"), "{explained}");
    assert_eq!(
        server.ok(&["workflow", "pause", id]),
        format!("workflow {id} is PAUSED\n")
    );
    assert_eq!(
        server.ok(&["workflow", "resume", id]),
        format!("workflow {id} is PENDING\n")
    );
    let words = format!(
        "farrier: workflow {id} has no task \"only\" that waits for approval: none of its tasks does"
    );
    server.fails(&["workflow", "approve", id, "only"], 1, &words);
    assert!(
        server
            .ok(&["workflow", "graph", id])
            .starts_with("flowchart TD\n  t0[\"only<br>")
    );
    let words = format!("farrier: workflow {id} is still PENDING after 1s");
    server.fails(&["workflow", "wait", id, "--timeout", "1s"], 1, &words);
    assert_eq!(
        server.ok(&["workflow", "cancel", id]),
        format!("workflow {id} is CANCELLED\n")
    );
    let waited = server.run(&["workflow", "wait", id]);
    assert_eq!(waited.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&waited.stdout).starts_with(&format!("workflow {id} is CANCELLED")));
    assert!(
        server
            .ok(&["workflow", "get", id])
            .contains("State:     CANCELLED")
    );
    assert_eq!(server.ok(&["workflow", "logs", id]), "");
    assert_eq!(
        server.ok(&["workflow", "delete", id]),
        format!("workflow {id} deleted\n")
    );
    let words = format!("farrier: no workflow has id \"{id}\": see `farrier workflow list`");
    server.fails(&["workflow", "get", id], 3, &words);
}

#[test]
fn a_workflow_for_an_unknown_machine_is_not_found() {
    let server = Server::prepared();
    server.fails(
        &[
            "workflow",
            "create",
            "-t",
            "wipe",
            "-r",
            r#"{"device_1": "52:54:00:77:00:0c"}"#,
        ],
        3,
        "farrier: task \"only\": no machine has MAC 52:54:00:77:00:0c: add it with `farrier machine apply`",
    );
}

#[test]
fn usage_is_exit_code_2_and_no_server_is_4() {
    let output = farrier("127.0.0.1:1", &["machine", "list"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(
        stderr.starts_with("farrier: no server answers at 127.0.0.1:1: "),
        "{stderr}"
    );
    assert!(
        stderr.contains("name another with --server HOST:PORT"),
        "{stderr}"
    );
    let usages: [&[&str]; 3] = [
        &["machine", "frob"],
        &["workflow", "create", "-t", "x", "-r", "{"],
        &["serve", "--grpc-port", "x"],
    ];
    for args in usages {
        assert_eq!(farrier("127.0.0.1:1", args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_switch_may_be_1_in_the_environment() {
    let output = Command::new(env!("CARGO_BIN_EXE_farrier"))
        .args(["serve", "--interface", "farrier-none"])
        .env_clear()
        .envs([("FARRIER_NO_DHCP", "1"), ("FARRIER_NO_RA", "0")])
        .output()
        .expect("farrier runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with("farrier: no interface is named farrier-none"),
        "{stderr}"
    );
}

#[test]
fn options_of_the_same_name_keep_apart() {
    let server = Server::start();
    // How an answer looks is never where a boot image goes.
    let output = server.run(&["image", "build", "--output", "json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("json is a format"), "{stderr}");
    for args in [
        &["-o", "json", "machine", "list"][..],
        &["machine", "-o", "json", "list"],
        &["machine", "list", "-o", "json"],
    ] {
        assert_eq!(server.ok(args), "[]\n", "{args:?}");
    }
    let nobody = ["--server", "127.0.0.1:1"];
    for args in [
        [&nobody[..], &["machine", "list"]].concat(),
        [&["machine", "list"], &nobody[..]].concat(),
    ] {
        assert_eq!(server.run(&args).status.code(), Some(4), "{args:?}");
    }
}

#[test]
fn a_boot_image_takes_no_directory_that_holds_something_else() {
    let place = tempfile::tempdir().expect("directory");
    let agent = place.path().join("farrier-agent");
    std::fs::write(&agent, "agent").expect("write");
    let data = place.path().join("data");
    std::fs::create_dir(&data).expect("directory");
    std::fs::write(data.join("farrier.redb"), "a store").expect("write");
    let (data_text, agent) = (data.to_str().expect("text"), agent.to_str().expect("text"));
    let build = ["image", "build", "--boot-dir", data_text, "--agent", agent];
    let refused = |args: &[&str], want: &str| {
        let output = farrier("127.0.0.1:1", args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(want) && stderr.contains("nothing was changed"),
            "{stderr}"
        );
        assert_eq!(
            std::fs::read_to_string(data.join("farrier.redb")).expect("it is there"),
            "a store"
        );
    };
    refused(&build, "\"farrier.redb\" that `farrier image build` did not make");
    std::fs::create_dir(data.join("blobs")).expect("directory");
    refused(&[&build[..], &["--force"]].concat(), "the directory \"blobs\"");
}

/// A boot image directory with drivers that the kernel itself has.
fn boot_image(directory: &Path) {
    let mut tree = image::cpio::Tree::default();
    let aliases = "alias pci:v00008086d00001572sv*sd*bc*sc*i* i40e\nalias pci:v*d*sv*sd*bc01sc08i02* nvme\n";
    let content = aliases.as_bytes().to_vec();
    let file = image::cpio::Node::File {
        permissions: 0o644,
        content,
    };
    tree.add("lib/modules/6.12/modules.builtin.alias", file)
        .expect("a path");
    let mut archive = Vec::new();
    tree.write_to(&mut archive).expect("it fits");
    let packed = zstd::encode_all(&archive[..], 1).expect("it is packed");
    std::fs::write(directory.join("initramfs.img"), packed).expect("write");
}

#[test]
fn a_boot_image_is_asked_for_a_card() {
    let boot = tempfile::tempdir().expect("directory");
    let asked = |id: &str| {
        let directory = boot.path().to_str().expect("text");
        let args = ["image", "modules", "--boot-dir", directory, "--pci", id];
        let output = farrier("127.0.0.1:1", &args);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = asked("8086:1572");
    assert!(code == Some(1) && said.contains("initramfs.img"), "{said}");
    boot_image(boot.path());
    let (code, said) = asked("8086:1572");
    assert!(
        code == Some(0) && said.contains("i40e") && said.contains("built in"),
        "{said}"
    );
    let (code, said) = asked("144d:a80a/010802");
    assert!(code == Some(0) && said.contains("nvme"), "{said}");
    for (id, want) in [
        ("144d:a80a", "144d:a80a/CLASS would find"),
        (
            "8086:10fb/020000",
            "has no driver for 8086:10fb/020000: build it with --profile server",
        ),
    ] {
        let (code, said) = asked(id);
        assert!(code == Some(1) && said.contains(want), "{said}");
    }
    let (code, said) = asked("8086");
    assert!(code == Some(2) && said.contains("write vendor:device"), "{said}");
}

#[test]
fn what_an_image_is_built_from_is_refused_in_words() {
    let place = tempfile::tempdir().expect("directory");
    let at = |name: &str| place.path().join(name).to_str().expect("text").to_owned();
    // A kernel that says its release where the boot protocol has it.
    let mut kernel = vec![0; 0x400];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    kernel[0x300..0x307].copy_from_slice(b"6.12.1 ");
    std::fs::write(at("vmlinuz"), kernel).expect("write");
    std::fs::write(at("agent"), "agent").expect("write");
    std::fs::create_dir_all(at("none/6.12.1")).expect("directory");
    std::fs::create_dir_all(at("other/6.1.0")).expect("directory");
    std::fs::write(at("other/6.1.0/modules.builtin"), "").expect("write");
    let (agent, boot, vmlinuz) = (at("agent"), at("boot"), at("vmlinuz"));
    let (none, other) = (at("none/6.12.1"), at("other/6.1.0"));
    let build = ["image", "build", "--agent", &agent, "--boot-dir", &boot];
    for (more, code, want) in [
        (&["--profile", "desktop"][..], 2, "the profiles are: lab, server"),
        (&["--firmware", "all"], 2, "say none, free or non-free"),
        (&["--suite", "stable"], 2, "such as trixie or bookworm"),
        (&["--kernel-package=--x=1"], 2, "such as linux-image-amd64"),
        (&["--kernel-package", "a b"], 2, "such as linux-image-amd64"),
        (
            &["--kernel", &vmlinuz, "--modules", &none],
            1,
            "holds no kernel modules",
        ),
        (
            &["--kernel", &vmlinuz, "--modules", &other],
            1,
            "is Linux 6.12.1, and ",
        ),
    ] {
        let output = farrier("127.0.0.1:1", &[&build[..], more].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {stderr}");
        assert!(stderr.contains(want), "{more:?}: {stderr}");
        let mut left: Vec<_> = std::fs::read_dir(place.path())
            .expect("it is there")
            .map(|entry| entry.expect("it is read").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["agent", "none", "other", "vmlinuz"], "{more:?}");
    }
}

#[test]
fn help_teaches_with_examples_and_completions_are_printed() {
    let groups = [
        ("machine", "apply boot-log delete diff edit get label list"),
        ("template", "create delete diff get list render validate versions"),
        ("workflow", "cancel create delete events get list logs state wait"),
        ("image", "build modules"),
        ("lab", "enter prepare"),
        ("store", "check export import"),
    ];
    let mut commands = vec![vec![], vec!["serve"], vec!["completions"], vec!["lab"]];
    for (group, names) in groups {
        commands.extend(names.split(' ').map(|name| vec![group, name]));
    }
    for command in commands {
        let output = farrier("127.0.0.1:1", &[&command[..], &["--help"]].concat());
        assert!(output.status.success());
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(help.contains("Example"), "{command:?}");
    }
}

#[test]
fn the_boot_log_tells_what_was_recorded() {
    let server = Server::prepared();
    assert_eq!(server.ok(&["machine", "boot-log", "node1"]), "");
    for mac in ["52:54:00:77:00:0b", "52:54:00:99:99:99"] {
        server.server.control.record(server::timeline::Entry {
            at: std::time::UNIX_EPOCH,
            mac: Some(mac.parse().expect("MAC")),
            boot: None,
            stage: server::timeline::Stage::Http,
            what: "GET /boot/vmlinuz".into(),
            detail: "200".into(),
            bytes: 8_000_000,
            outcome: server::timeline::Outcome::Answered,
        });
    }
    // Writing is not waited for by whoever records.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while server.ok(&["machine", "boot-log", "--strangers"]).is_empty() {
        assert!(std::time::Instant::now() < deadline, "nothing was written");
    }
    assert_eq!(
        server.ok(&["machine", "boot-log", "node1"]),
        "1970-01-01 00:00:00.000  http   answered  GET /boot/vmlinuz         200 (8000000 B)\n"
    );
    assert_eq!(
        server.ok(&["machine", "boot-log", "--strangers"]),
        "1970-01-01 00:00:00.000  52:54:00:99:99:99  http   answered  GET /boot/vmlinuz         200 (8000000 B)\n"
    );
    server.fails(
        &["machine", "boot-log", "node9"],
        3,
        "farrier: no machine is named \"node9\"; did you mean \"node1\"?",
    );
}
