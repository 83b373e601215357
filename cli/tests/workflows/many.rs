//! Several things in one call, what would change, and what is given back as it was shown.

use std::path::Path;

use serde_json::Value;

use crate::files::Server;

const TEMPLATE: &str = "version: '1'\nname: NAME\ntasks: [{name: go, succeed: {}}]\n";

fn template(name: &str) -> String {
    TEMPLATE.replace("NAME", name)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn machines_are_shown_and_deleted_by_several_names_or_by_a_file() {
    let server = Server::start();
    let shown = server.ok(&["machine", "get", "node1", "52:54:00:77:00:0c", "node2"]);
    assert_eq!(shown.matches("Boots next:").count(), 2, "{shown}");
    let shown = json(&server.ok(&["machine", "get", "node1", "node2", "-o", "json"]));
    assert_eq!(
        (&shown[0]["name"], &shown[1]["name"]),
        (&"node1".into(), &"node2".into())
    );
    // One that there is not keeps none of the others from it.
    let (code, said) = server.said(&["machine", "delete", "node1", "node9", "node2"]);
    assert_eq!(
        (code, said.as_str()),
        (
            Some(3),
            "farrier: no machine is named \"node9\"; did you mean \"node2\"?"
        )
    );
    assert_eq!(server.ok(&["machine", "list", "-o", "name"]), "");
    let machines = server.dir.path().join("machines.yaml").display().to_string();
    server.ok(&["machine", "apply", "-f", &machines]);
    let (code, said) = server.said(&["machine", "delete", "--idempotency-key", "k", "-f", &machines]);
    assert_eq!(code, Some(2), "{said}");
    // Before anything is deleted all files are looked at.
    let bad = server.file("bad.yaml", "machine: x\nmac: 52:zz\n");
    let (code, said) = server.said(&["machine", "delete", "-f", &machines, "-f", &bad]);
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with(&format!("farrier: {bad}:2:6: bad MAC")),
        "{said}"
    );
    assert_eq!(server.ok(&["machine", "list", "-o", "name"]), "node1\nnode2\n");
    assert_eq!(
        server.ok(&["machine", "delete", "-f", &machines]),
        "machine node1 deleted\nmachine node2 deleted\n"
    );
}

#[test]
fn a_folder_s_yaml_is_applied_in_order_and_nothing_else() {
    let server = Server::start();
    let folder = server.dir.path().join("racks");
    std::fs::create_dir_all(folder.join("deeper.yaml")).expect("folder");
    let machine = |name: &str, last: &str| format!("machine: {name}\nmac: 52:54:00:77:01:{last}\n");
    for (file, text) in [
        ("b.yml", machine("b", "0b")),
        ("a.yaml", machine("a", "0a")),
        ("c.txt", machine("c", "0c")),
    ] {
        std::fs::write(folder.join(file), text).expect("write");
    }
    let path = folder.display().to_string();
    assert_eq!(
        server.ok(&["machine", "apply", "-f", &path]),
        "machine a created\nmachine b created\n"
    );
    let more = server.file("more.yaml", &machine("d", "0d"));
    let applied = json(&server.ok(&["machine", "apply", "-f", &more, "-f", &path, "-o", "json"]));
    assert_eq!(
        applied,
        serde_json::json!({"created": ["d"], "updated": [], "unchanged": ["a", "b"]})
    );
    // One bad file: nothing of the others.
    std::fs::write(folder.join("b.yml"), "machine: b\nmac: zz\n").expect("write");
    std::fs::write(folder.join("e.yaml"), machine("e", "0e")).expect("write");
    let (code, said) = server.said(&["machine", "apply", "-f", &path]);
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with(&format!("farrier: {path}/b.yml:2:6: bad MAC")),
        "{said}"
    );
    assert_eq!(server.said(&["machine", "get", "e"]).0, Some(3));
    let none = server.dir.path().join("none");
    std::fs::create_dir(&none).expect("folder");
    let (none, missing) = (none.display().to_string(), format!("{path}/missing.yaml"));
    let (code, said) = server.said(&["machine", "apply", "-f", &none, "-f", &missing]);
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        format!(
            "farrier: the folder {none} has no file *.yaml or *.yml, and others are not read: name the file itself\ncannot read \
             {missing}: No such file or directory (os error 2)"
        )
    );
    let (code, said) = server.said(&["machine", "apply", "-f", "-", "-f", "-"]);
    assert_eq!(
        (code, said.as_str()),
        (
            Some(2),
            "farrier: -f - is standard input, and there is one: name it once"
        )
    );
}

#[test]
fn templates_are_created_shown_and_deleted_together() {
    let server = Server::start();
    let folder = server.dir.path().join("templates");
    std::fs::create_dir(&folder).expect("folder");
    for name in ["b", "a"] {
        std::fs::write(folder.join(format!("{name}.yaml")), template(name)).expect("write");
    }
    let path = folder.display().to_string();
    let bad = server.file(
        "bad.yaml",
        "version: '1'\nname: c\ntasks: [{name: go, suceed: {}}]\n",
    );
    let odd = server.file("odd.yaml", "version: '1'\n");
    let again = server.file("again.yaml", &template("a"));
    let (code, said) = server.said(&[
        "template", "create", "-f", &path, "-f", &bad, "-f", &odd, "-f", &again,
    ]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("farrier: {bad}: line 3")), "{said}");
    assert!(said.contains(&format!("farrier: {odd}: ")), "{said}");
    assert!(
        said.ends_with(&format!(
            "farrier: {again}: template \"a\" is in {path}/a.yaml, too: give one of them another name, or leave it out"
        )),
        "{said}"
    );
    assert_eq!(server.ok(&["template", "list", "-o", "name"]), "");
    assert_eq!(
        server.ok(&["template", "create", "-f", &path]),
        "template a is stored, version 1\ntemplate b is stored, version 1\n"
    );
    let stored = json(&server.ok(&["template", "apply", "-f", &path, "-o", "json"]));
    assert_eq!(
        (&stored[0]["change"], &stored[1]["version"]),
        (&"unchanged".into(), &1.into())
    );
    assert_eq!(
        server.ok(&["template", "get", "a", "b"]),
        format!("{}---\n{}", template("a"), template("b"))
    );
    let (code, said) = server.said(&["template", "create", "--name", "x", "-f", &path]);
    assert_eq!(
        (code, said.contains("--name is for one template")),
        (Some(2), true),
        "{said}"
    );
    let (code, said) = server.said(&["template", "delete", "a", "c"]);
    assert_eq!(code, Some(3), "{said}");
    server.ok(&["template", "create", "-f", &path]);
    assert_eq!(
        server.ok(&["template", "delete", "-f", &path]),
        "template a deleted\ntemplate b deleted\n"
    );
}

#[test]
fn what_would_change_is_shown_and_nothing_is_written() {
    let server = Server::start();
    let file = server.file(
        "new.yaml",
        "machine: node1\nmac: 52:54:00:77:00:0b\ndisks: [/dev/sda]\n---\nmachine: node2\nmac: 52:54:00:77:00:0c\ndisks: \
         [/dev/nvme0n1]\n---\nmachine: node3\nmac: 52:54:00:77:00:0d\n",
    );
    let diff = "\
--- node1 (stored)
+++ node1 (given)
@@ -1,4 +1,4 @@
 machine: node1
 mac: 52:54:00:77:00:0b
 disks:
-- /dev/vda
+- /dev/sda
";
    let new =
        "--- node3 (stored)\n+++ node3 (given)\n@@ -0,0 +1,2 @@\n+machine: node3\n+mac: 52:54:00:77:00:0d\n";
    assert_eq!(
        server.ok(&["machine", "apply", "--dry-run", "-f", &file]),
        format!(
            "machine node1 updated (dry run)\n{diff}machine node2 unchanged (dry run)\nmachine node3 created (dry run)\n{new}"
        )
    );
    let tried = json(&server.ok(&["machine", "apply", "--dry-run", "-f", &file, "-o", "json"]));
    assert_eq!(
        (
            &tried["dry_run"],
            &tried["changes"][0]["diff"],
            &tried["changes"][1]["diff"]
        ),
        (&true.into(), &diff.into(), &"".into())
    );
    let output = server.run(&["machine", "diff", "-f", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{diff}{new}"));
    assert_eq!(server.said(&["machine", "get", "node3"]).0, Some(3));
    let machines = server.dir.path().join("machines.yaml").display().to_string();
    let output = server.run(&["machine", "diff", "-f", &machines]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    // A failure is no difference.
    let bad = server.file("bad.yaml", "machine: x\nmac: zz\n");
    assert_eq!(server.said(&["machine", "diff", "-f", &bad]).0, Some(2));

    let stored = server.file("t.yaml", &template("t"));
    server.ok(&["template", "create", "-f", &stored]);
    let other = server.file("t2.yaml", &template("t").replace("go", "on"));
    assert_eq!(
        server.ok(&["template", "create", "--dry-run", "-f", &other]),
        "template t updated, version 2 (dry run)\n--- t (stored)\n+++ t (given)\n@@ -1,3 +1,3 @@\n version: '1'\n name: t\n-tasks: \
         [{name: go, succeed: {}}]\n+tasks: [{name: on, succeed: {}}]\n"
    );
    assert_eq!(server.ok(&["template", "get", "t"]), template("t"));
}

/// The records of the reference page, which has every field.
#[test]
fn what_is_shown_of_a_machine_can_be_applied_again_and_is_unchanged() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/machines.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let blocks: Vec<&str> = page
        .split("```yaml machine\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 3 && blocks.iter().any(|block| block.contains("user_data")));
    for block in blocks {
        let server = Server::start();
        server.ok(&["machine", "delete", "node1", "node2"]);
        let file = server.file("m.yaml", block);
        server.ok(&["machine", "apply", "-f", &file]);
        let names = server.ok(&["machine", "list", "-o", "name"]);
        let names: Vec<&str> = names.lines().collect();
        for format in ["yaml", "json"] {
            let all = [&["machine", "get"], names.as_slice(), &["-o", format]].concat();
            for shown in [server.ok(&all), server.ok(&["machine", "list", "-o", format])] {
                let shown = server.file("shown", &shown);
                let (code, said) = server.said(&["machine", "diff", "-f", &shown]);
                assert_eq!((code, said.as_str()), (Some(0), ""), "{block}");
                let applied = json(&server.ok(&["machine", "apply", "-o", "json", "-f", &shown]));
                assert_eq!(applied["unchanged"], serde_json::json!(names), "{block}");
            }
        }
    }
}

#[test]
fn what_is_shown_of_a_template_can_be_stored_again_and_is_unchanged() {
    let server = Server::start();
    let carried = "\
apiVersion: tinkerbell.org/v1alpha1
kind: Template
metadata: {name: ubuntu, labels: {owner: ann}}
spec:
  data: |
    version: \"0.1\"
    name: inner
    tasks:
      - name: t
        worker: \"{{.device_1}}\"
        actions:
          - name: a
            image: cexec
            timeout: 5
            environment: {URL: \"http://u:p@h/\"}
";
    let file = server.file("ubuntu.yaml", carried);
    server.ok(&["template", "create", "-f", &file]);
    for format in ["yaml", "json"] {
        for words in [&["get", "ubuntu"][..], &["list"]] {
            let shown = server.ok(&[&["template"], words, &["-o", format]].concat());
            let shown = match words {
                // A list hides credentials.
                ["list"] => shown.replace("***@", "u:p@"),
                _ => shown,
            };
            let shown = server.file("shown", &shown);
            let stored = json(&server.ok(&["template", "create", "-o", "json", "-f", &shown]));
            assert_eq!(
                (&stored["name"], &stored["change"], &stored["labels"]["owner"]),
                (&"ubuntu".into(), &"unchanged".into(), &"ann".into()),
                "{format} {words:?}"
            );
        }
    }
    // What is wrong in it is at its place.
    let shown = server.ok(&["template", "get", "ubuntu", "-o", "yaml"]);
    let bad = server.file("bad.yaml", &shown.replace("image: cexec", "image: Bad Image"));
    let (code, said) = server.said(&["template", "create", "-f", &bad]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with(&format!("farrier: {bad}: line ")), "{said}");
}

#[test]
fn several_workflows_are_shown_in_one_call() {
    let server = Server::start();
    let file = server.file("t.yaml", &template("t"));
    let ids: Vec<String> = (0..2)
        .map(|_| {
            server
                .ok(&["workflow", "create", "-q", "-f", &file])
                .trim()
                .to_owned()
        })
        .collect();
    let shown = json(&server.ok(&["workflow", "get", &ids[1], &ids[0], "-o", "json"]));
    assert_eq!(
        (shown[0]["id"].as_str(), shown[1]["id"].as_str()),
        (Some(ids[1].as_str()), Some(ids[0].as_str()))
    );
    let nobodys = "01900000-0000-7000-8000-000000000000";
    let output = server.run(&["workflow", "get", nobodys, &ids[0]]);
    assert_eq!(output.status.code(), Some(3));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        shown.contains(&ids[0]) && shown.matches("Template:").count() == 1,
        "{shown}"
    );
}
