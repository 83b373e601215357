//! Versions of a template: which are kept, one of them, how two differ, and workflows of an older one.

use serde_json::Value;

use crate::files::Server;

fn template(task: &str) -> String {
    format!("version: '1'\nname: t\ntasks: [{{name: {task}, succeed: {{}}}}]\n")
}

fn store(server: &Server, task: &str) {
    let file = server.file("t.yaml", &template(task));
    server.ok(&["template", "create", "-f", &file]);
}

#[test]
fn older_versions_are_listed_shown_compared_and_used() {
    let server = Server::start();
    for task in ["one", "two", "two", "three"] {
        store(&server, task);
    }
    let list = server.ok(&["template", "versions", "t"]);
    let rows: Vec<&str> = list.lines().skip(1).collect();
    assert!(list.starts_with("VERSION  STORED ") && rows.len() == 3, "{list}");
    assert!(
        rows[0].starts_with("3  ") && rows[0].contains("  admin  sha256:"),
        "{list}"
    );
    assert_eq!(
        server.ok(&["template", "versions", "t", "-o", "name"]),
        "t@3\nt@2\nt@1\n"
    );
    let json: Value =
        serde_json::from_str(&server.ok(&["template", "versions", "t", "-o", "json"])).expect("JSON");
    assert_eq!(json[2]["version"], 1);
    assert_ne!(json[1]["digest"], json[2]["digest"]);
    assert_eq!(
        json[0]["digest"].as_str().map(str::len),
        Some("sha256:".len() + 64)
    );

    assert_eq!(server.ok(&["template", "get", "t@1"]), template("one"));
    assert_eq!(server.ok(&["template", "get", "t@3"]), template("three"));
    let output = server.run(&["template", "diff", "t", "1", "2"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "--- t@1\n+++ t@2\n@@ -1,3 +1,3 @@\n version: '1'\n name: t\n-tasks: [{name: one, succeed: {}}]\n+tasks: [{name: two, succeed: \
         {}}]\n"
    );
    assert_eq!(
        server.said(&["template", "diff", "t", "3"]),
        (Some(0), String::new())
    );
    assert_eq!(
        server.said(&["template", "get", "t@4"]),
        (
            Some(3),
            "farrier: template \"t\" has no version 4: versions 1 to 3 are kept, see `farrier template versions t`".into()
        )
    );
    let id = server.ok(&["workflow", "create", "-q", "-t", "t@1"]);
    let made: Value =
        serde_json::from_str(&server.ok(&["workflow", "get", id.trim(), "-o", "json"])).expect("JSON");
    assert_eq!(
        (&made["template"], &made["template_version"]),
        (&"t".into(), &1.into())
    );
    assert_eq!(made["tasks"][0]["name"], "one");
    assert!(server.ok(&["template", "render", "t@2"]).contains("name: two"));
    let (code, said) = server.said(&["template", "delete", "t@1"]);
    assert_eq!(
        (code, said.as_str()),
        (
            Some(1),
            "farrier: \"t@1\" is one version of a template, and all go together: delete \"t\""
        )
    );
    server.ok(&["template", "delete", "t"]);
    store(&server, "again");
    assert_eq!(server.ok(&["template", "versions", "t", "-o", "name"]), "t@1\n");
}

#[test]
fn twenty_versions_are_kept_beside_the_newest() {
    let server = Server::start();
    for number in 0..23 {
        store(&server, &format!("n{number}"));
    }
    let kept = server.ok(&["template", "versions", "t", "-o", "name"]);
    let kept: Vec<&str> = kept.lines().collect();
    assert_eq!((kept.len(), kept[0], kept[20]), (21, "t@23", "t@3"));
    assert_eq!(server.said(&["template", "get", "t@2"]).0, Some(3));
}
