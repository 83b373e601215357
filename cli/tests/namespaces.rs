//! `-n`, `-A`, `farrier namespace` and tokens for some namespaces, as somebody types them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod servers;

use std::process::Output;

use servers::Serve;
use tempfile::TempDir;

const MACHINES: &str = "machine: node1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";
const BLUE: &str = "machine: blue1\nmac: 52:54:00:77:00:0c\naddress: 10.77.0.12/24\n";
const TEMPLATE: &str = "version: '1'\nname: t\ntasks: [{name: t, wait: 1d}]\n";

/// A server with a namespace `blue`, and something of each kind in it and in `default`.
struct World {
    server: Serve,
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let world = Self {
            server: Serve::start(&dir.path().join("data")),
            dir,
        };
        let said = world.server.run(&["namespace", "create", "blue"]);
        assert_eq!(said, "namespace blue created\n");
        let (machines, blue) = (world.file("m.yaml", MACHINES), world.file("b.yaml", BLUE));
        let template = world.file("t.yaml", TEMPLATE);
        world.server.run(&["machine", "apply", "-f", &machines]);
        // Before the command as behind it.
        world.server.run(&["-n", "blue", "machine", "apply", "-f", &blue]);
        world.server.run(&["template", "create", "-f", &template]);
        world
            .server
            .run(&["template", "create", "-f", &template, "-n", "blue"]);
        world
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        let args = [args, &["-o", "json"]].concat();
        serde_json::from_str(&self.server.run(&args)).unwrap()
    }

    fn as_of(&self, token: &str, args: &[&str]) -> Output {
        self.server
            .command(args)
            .env("FARRIER_TOKEN", token)
            .output()
            .unwrap()
    }
}

fn complaint(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn commands_are_about_one_namespace_and_lists_may_be_about_all() {
    let world = World::new();
    let server = &world.server;
    let of_default = server.run(&["machine", "list"]);
    assert!(
        of_default.contains("node1") && !of_default.contains("blue1"),
        "{of_default}"
    );
    assert!(!of_default.contains("NAMESPACE"), "{of_default}");
    let of_blue = server.run(&["machine", "list", "-n", "blue"]);
    assert!(
        of_blue.contains("blue1") && !of_blue.contains("node1"),
        "{of_blue}"
    );
    let by_variable = server
        .command(&["machine", "list"])
        .env("FARRIER_NAMESPACE", "blue")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&by_variable.stdout), of_blue);
    let of_all = server.run(&["machine", "list", "-A"]);
    let lines: Vec<&str> = of_all.lines().collect();
    assert!(lines[0].starts_with("NAMESPACE  NAME"), "{of_all}");
    assert!(lines[1].starts_with("blue       blue1"), "{of_all}");
    assert!(lines[2].starts_with("default    node1"), "{of_all}");

    let id = server.run(&["workflow", "create", "-t", "t", "-n", "blue", "-q"]);
    let id = id.trim();
    let list = |more: &[&str]| server.run(&[&["workflow", "list", "-o", "wide"], more].concat());
    assert!(!list(&[]).contains(id));
    assert!(list(&["-n", "blue"]).contains(id));
    assert!(list(&["-A"]).contains(id));
    // By its id it is found from anywhere.
    assert_eq!(world.json(&["workflow", "get", id])["namespace"], "blue");
    assert_eq!(world.json(&["machine", "get", "blue1"])["namespace"], "blue");
    let templates = world.json(&["template", "list", "-A"]);
    let places: Vec<&str> = templates
        .as_array()
        .unwrap()
        .iter()
        .map(|template| template["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["blue", "default"]);
    server.run(&["template", "delete", "t"]);
    server.run(&["template", "get", "t", "-n", "blue"]);

    let wrong = server
        .command(&["secret", "list", "-n", "bleu"])
        .output()
        .unwrap();
    let said = complaint(&wrong, 3);
    assert!(
        said.contains("there is no namespace \"bleu\"; did you mean \"blue\"?"),
        "{said}"
    );
    let both = server
        .command(&["machine", "list", "-A", "-n", "blue"])
        .output()
        .unwrap();
    complaint(&both, 2);
    let ran = server
        .command(&["run", "--detach", "blue1", "cexec"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let ran = server
        .command(&["-n", "default", "run", "--detach", "blue1", "cexec"])
        .output()
        .unwrap();
    let said = complaint(&ran, 3);
    assert!(
        said.contains("is not of namespace \"default\", but of \"blue\""),
        "{said}"
    );
}

#[test]
fn a_token_is_for_the_namespaces_that_it_was_made_for() {
    let world = World::new();
    let server = &world.server;
    let token = server.run(&["token", "create", "bob", "--namespace", "blue"]);
    let token = token.trim();
    let listed = server.run(&["token", "list"]);
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("bob") && line.contains("blue")),
        "{listed}"
    );
    assert_eq!(world.json(&["token", "list"])[1]["namespaces"][0], "blue");

    let me = world.as_of(token, &["whoami"]);
    let me = String::from_utf8_lossy(&me.stdout).into_owned();
    assert!(me.contains("namespace blue"), "{me}");
    let mine = world.as_of(token, &["machine", "list", "-A"]);
    let mine = String::from_utf8_lossy(&mine.stdout).into_owned();
    assert!(mine.contains("blue1") && !mine.contains("node1"), "{mine}");
    let said = complaint(&world.as_of(token, &["machine", "list"]), 3);
    assert!(said.contains("your token is for blue: name it with -n"), "{said}");
    let foreign = complaint(&world.as_of(token, &["machine", "get", "node1"]), 3);
    let nobodys = complaint(&world.as_of(token, &["machine", "get", "node9"]), 3);
    assert_eq!(foreign.replace("node1", "node9"), nobodys);
    complaint(&world.as_of(token, &["namespace", "create", "red"]), 5);

    let refused = server.command(&["namespace", "delete", "blue"]).output().unwrap();
    let said = complaint(&refused, 1);
    for held in ["machine blue1", "template t", "token for it, bob"] {
        assert!(said.contains(held), "{said}");
    }
    let names = world.json(&["namespace", "list"]);
    assert_eq!(
        (names[0]["name"].as_str(), names[1]["name"].as_str()),
        (Some("blue"), Some("default"))
    );
    server.run(&["namespace", "create", "red"]);
    assert_eq!(
        server.run(&["namespace", "delete", "red"]),
        "namespace red deleted\n"
    );
}
