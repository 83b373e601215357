//! Records that are changed in place: labels, and a whole record in an editor.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::Value;

use crate::files::Server;
use crate::harness::text;
use crate::servers::command;

fn labels(server: &Server, machine: &str) -> Value {
    let shown = server.ok(&["machine", "get", machine, "-o", "json"]);
    serde_json::from_str::<Value>(&shown).expect("JSON")["labels"].clone()
}

#[test]
fn labels_of_machines_are_set_and_taken_away() {
    let server = Server::start();
    assert_eq!(
        server.ok(&[
            "machine",
            "label",
            "node1",
            "52:54:00:77:00:0c",
            "rack=r7",
            "owner=ann"
        ]),
        "machine node1 has the labels owner=ann,rack=r7\nmachine node2 has the labels owner=ann,rack=r7\n"
    );
    assert_eq!(
        server.ok(&["machine", "label", "node1", "owner-", "rack=r8"]),
        "machine node1 has the labels rack=r8\n"
    );
    assert_eq!(
        server.ok(&["machine", "label", "node1", "owner-", "rack=r8"]),
        "machine node1 is unchanged: it has the labels rack=r8\n"
    );
    let done = server.ok(&[
        "machine",
        "label",
        "-l",
        "rack in (r7,r8)",
        "new=yes",
        "-o",
        "json",
    ]);
    let done: Value = serde_json::from_str(&done).expect("JSON");
    assert_eq!(
        (&done[0]["name"], &done[1]["labels"]["new"], &done[1]["change"]),
        (&"node1".into(), &"yes".into(), &"updated".into())
    );
    assert_eq!(
        labels(&server, "node2"),
        serde_json::json!({"rack": "r7", "owner": "ann", "new": "yes"})
    );
    // Nothing else of the record is changed.
    let shown = server.ok(&["machine", "get", "node2", "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["document"]["disks"], serde_json::json!(["/dev/nvme0n1"]));
    // One that there is not keeps none of the others from it.
    let (code, said) = server.said(&["machine", "label", "node9", "node1", "rack=r9"]);
    assert_eq!(
        (code, said.starts_with("farrier: no machine is named \"node9\"")),
        (Some(3), true),
        "{said}"
    );
    assert_eq!(labels(&server, "node1")["rack"], "r9");
    for (args, code, want) in [
        (&["rack=r7"][..], 2, "no machine is named"),
        (&["node1"], 2, "no label is named"),
        (
            &["node1", "-l", "rack=r9", "a=b"],
            2,
            "-l stands for the names of machines",
        ),
        (
            &["-l", "rack=none", "a=b"],
            3,
            "-l \"rack=none\" means no machine",
        ),
        (&["node1", "rack=a b"], 2, "bad value of the label \"rack\""),
    ] {
        let (found, said) = server.said(&[&["machine", "label"], args].concat());
        assert_eq!((found, said.contains(want)), (Some(code), true), "{said}");
    }
    // Tinkerbell's form has them elsewhere.
    let hardware = "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {name: hw}\nspec: {interfaces: [{dhcp: {mac: \
                    52:54:00:77:00:0e}}]}\n";
    let file = server.file("hw.yaml", hardware);
    server.ok(&["machine", "apply", "-f", &file]);
    server.ok(&["machine", "label", "hw", "rack=r1"]);
    assert_eq!(labels(&server, "hw"), serde_json::json!({"rack": "r1"}));
}

/// Many at once, each with a label of its own on the same machine: none is lost.
#[test]
fn labels_that_are_set_at_the_same_time_are_all_there() {
    let server = Server::start();
    let address = server.server.api.clone();
    let threads: Vec<_> = (0..6)
        .map(|number| {
            let address = address.clone();
            std::thread::spawn(move || {
                let label = format!("k{number}=v");
                text(
                    &command(&address, &["machine", "label", "node1", &label])
                        .output()
                        .expect("farrier runs"),
                )
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| drop(thread.join().expect("labelled")));
    assert_eq!(labels(&server, "node1").as_object().expect("labels").len(), 6);
}

/// Runs `machine edit node1` with a script for an editor; it finds the file in $1, and knows how often it ran by $COUNT.
fn edit(server: &Server, script: &str) -> Output {
    let editor = server.file(
        "editor.sh",
        &format!(
            "#!/bin/sh\nset -e\nCOUNT=\"{}/count\"\n{script}\n",
            server.dir.path().display()
        ),
    );
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let _ = std::fs::remove_file(server.dir.path().join("count"));
    let mut command = command(&server.server.api, &["machine", "edit", "node1"]);
    command
        .env("EDITOR", &editor)
        .env("PATH", "/usr/bin:/bin")
        .env("TMPDIR", server.dir.path());
    command.output().expect("farrier runs")
}

/// Files that an edit has left.
fn left(server: &Server) -> Vec<String> {
    let entries = std::fs::read_dir(server.dir.path()).expect("folder");
    let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("farrier-")).collect()
}

#[test]
fn a_record_is_edited_and_applied() {
    let server = Server::start();
    let done = edit(
        &server,
        "stat -c %a \"$1\" > \"$COUNT\"; sed -i s,/dev/vda,/dev/sda, \"$1\"",
    );
    assert_eq!(text(&done), "machine node1 updated\n");
    assert_eq!(
        std::fs::read_to_string(server.dir.path().join("count")).expect("count"),
        "600\n"
    );
    assert!(server.ok(&["machine", "get", "node1"]).contains("/dev/sda"));
    let version = server.ok(&["machine", "get", "node1", "-o", "json"]);
    for nothing in ["true", "echo > \"$1\"", "echo '# mine' > /dev/null"] {
        assert_eq!(
            text(&edit(&server, nothing)),
            "machine node1 unchanged\n",
            "{nothing}"
        );
    }
    assert_eq!(server.ok(&["machine", "get", "node1", "-o", "json"]), version);
    let failed = edit(&server, "exit 7");
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(
        said.contains("failed (exit status: 7): nothing was changed"),
        "{said}"
    );
    assert_eq!(left(&server), [""; 0]);
}

#[test]
fn what_is_wrong_with_an_edited_record_is_said_in_the_editor() {
    let server = Server::start();
    // It is made wrong, and right when the editor comes again.
    let done = edit(
        &server,
        "if [ -e \"$COUNT\" ]; then grep -q '#   node1:2:6: bad MAC' \"$1\"; sed -i s/:zz/:0b/ \"$1\"; sed -i s,/dev/vda,/dev/sdb, \"$1\"\n\
         else touch \"$COUNT\"; sed -i s/:0b/:zz/ \"$1\"; fi",
    );
    assert_eq!(text(&done), "machine node1 updated\n");
    assert!(server.ok(&["machine", "get", "node1"]).contains("/dev/sdb"));
    // Another name would be another machine.
    let other = edit(&server, "sed -i 's/^machine: .*/machine: other/' \"$1\"");
    assert_eq!(other.status.code(), Some(1));
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(
        said.starts_with(
            "farrier: machine node1 was not changed:\nthis is the record of other, and node1 is edited"
        ),
        "{said}"
    );
    assert_eq!(server.said(&["machine", "get", "other"]).0, Some(3));
    // What was written is not lost.
    let kept = left(&server);
    assert_eq!(kept.len(), 1);
    assert!(said.trim_end().ends_with(&kept[0]), "{said}");
    let kept = std::fs::read_to_string(server.dir.path().join(&kept[0])).expect("kept");
    assert!(kept.contains("\nmachine: other\n"), "{kept}");
}

#[test]
fn what_somebody_else_changed_during_an_edit_stays() {
    let server = Server::start();
    let program = env!("CARGO_BIN_EXE_farrier");
    let done = edit(
        &server,
        &format!("{program} machine label node1 theirs=yes; sed -i s,/dev/vda,/dev/sda, \"$1\""),
    );
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        said.starts_with(
            "farrier: machine \"node1\" was changed by somebody else meanwhile, and nothing was written"
        ),
        "{said}"
    );
    assert_eq!(labels(&server, "node1"), serde_json::json!({"theirs": "yes"}));
    assert!(server.ok(&["machine", "get", "node1"]).contains("/dev/vda"));
    assert_eq!(left(&server).len(), 1);
}

#[test]
fn an_editor_sees_no_credential_and_none_is_lost() {
    let server = Server::start();
    let file = server.file(
        "m.yaml",
        "machine: node1\nmac: 52:54:00:77:00:0b\ndisks: [/dev/vda]\nmetadata: {from: \"http://ann:horse@h/\"}\n",
    );
    server.ok(&["machine", "apply", "-f", &file]);
    let done = edit(
        &server,
        "grep -q 'http://\\*\\*\\*@h/' \"$1\"; ! grep -q horse \"$1\"; sed -i s,/dev/vda,/dev/sda, \"$1\"",
    );
    assert_eq!(text(&done), "machine node1 updated\n");
    assert!(done.stderr.is_empty());
    let same = server.file(
        "same.yaml",
        "machine: node1\nmac: 52:54:00:77:00:0b\ndisks: [/dev/sda]\nmetadata: {from: \"http://ann:horse@h/\"}\n",
    );
    assert_eq!(
        server.ok(&["machine", "apply", "-f", &same]),
        "machine node1 unchanged\n"
    );
}
