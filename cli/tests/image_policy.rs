//! Rules for images by the settings of `farrier serve`, and how names are read by those rules and by the agent.
#![allow(clippy::unwrap_used, reason = "tests")]

mod servers;

use std::path::Path;

use oci::Reference;
use servers::{Serve, serve};
use tempfile::TempDir;
use workflow::language::complete_image_name;

const MACHINE: &str = "machine: node1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n";

fn started(dir: &Path, settings: &[&str], variables: &[(&str, &str)]) -> Serve {
    let mut command = serve(dir);
    command.args(settings).envs(variables.iter().copied());
    let serve = Serve::started(command, dir);
    let machine = dir.join("m.yaml");
    std::fs::write(&machine, MACHINE).unwrap();
    serve.run(&["machine", "apply", "-f", machine.to_str().unwrap()]);
    serve
}

/// Exit code and stderr of `workflow create` for an action with this image.
fn created(serve: &Serve, image: &str) -> (Option<i32>, String) {
    let path = serve.data.join("t.yaml");
    let text = format!(
        "version: \"1\"\nname: t\ntasks:\n  - {{name: os, worker: node1, actions: [{{name: flash, image: \"{image}\"}}]}}\n"
    );
    std::fs::write(&path, text).unwrap();
    let output = serve
        .command(&["workflow", "create", "-f", path.to_str().unwrap()])
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_workflow_with_a_refused_image_is_not_made_and_the_command_says_why() {
    let dir = TempDir::new().unwrap();
    let settings = [
        "--allow-registry",
        "quay.io",
        "--allow-registry",
        "lab:5000/tools",
        "--require-digest",
    ];
    let serve = started(dir.path(), &settings, &[]);
    let digest = format!("sha256:{}", "a".repeat(64));
    let (code, said) = created(&serve, "alpine");
    assert_eq!(code, Some(1), "{said}");
    let refused = "task \"os\", action \"flash\": image alpine is refused: this server allows images of quay.io, lab:5000/tools alone \
                   (--allow-registry), and this one is of docker.io: take one of those";
    assert!(said.contains(refused), "{said}");
    let (code, said) = created(&serve, "lab:5000/tools/x:1");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("write lab:5000/tools/x@sha256:DIGITS"), "{said}");
    assert!(serve.run(&["workflow", "list", "-o", "json"]).starts_with("[]"));
    for fine in [format!("quay.io/x@{digest}"), "reboot".to_owned()] {
        let (code, said) = created(&serve, &fine);
        assert_eq!((code, said.contains("digest")), (Some(0), false), "{said}");
    }
}

#[test]
fn without_rules_an_image_without_a_digest_is_a_warning_and_variables_set_rules_too() {
    let dir = TempDir::new().unwrap();
    let serve = started(dir.path(), &[], &[]);
    let (code, said) = created(&serve, "alpine");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said.matches("no digest is in the name of alpine: ").count(),
        1,
        "{said}"
    );
    drop(serve);
    let dir = TempDir::new().unwrap();
    let variables = [
        ("FARRIER_ALLOW_REGISTRIES", "quay.io lab:5000"),
        ("FARRIER_NATIVE", "never"),
    ];
    let serve = started(dir.path(), &[], &variables);
    let (code, said) = created(&serve, "reboot");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("image reboot is refused: this server allows images of quay.io, lab:5000 alone"),
        "{said}"
    );
}

#[test]
fn settings_that_mean_nothing_are_refused_with_what_to_write() {
    let dir = TempDir::new().unwrap();
    for (settings, words) in [
        (["--allow-registry", "tools"], "write HOST or HOST/PATH"),
        (["--native", "sometimes"], "write prefer or never"),
    ] {
        let output = serve(dir.path()).args(settings).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

/// A rule for one name that the agent reads as another's would be none.
#[test]
fn the_rules_and_the_agent_read_the_same_names() {
    let digest = format!("@sha256:{}", "a".repeat(64));
    let hosts = [
        "",
        "docker.io/",
        "index.docker.io/",
        "INDEX.docker.io/",
        "index.docker.io:443/",
        "registry-1.docker.io/",
        "quay.io/",
        "Quay.IO/",
        "Lab/",
        "lab/",
        "LAB:5000/",
        "lab:05000/",
        "localhost/",
        "LOCALHOST/",
        "localhost:5000/",
        "127.0.0.1/",
        "[::1]/",
        "[fd00:0:0::1]:5000/",
        "[FD00::1]:443/",
        "a.b:1/",
        "a.b:0/",
        "a.b:70000/",
        "-a.b/",
        "a..b/",
    ];
    let paths = [
        "x",
        "library/x",
        "a/b/c",
        "a__b/c-d",
        "docker.io/x",
        "x:5000/y",
        "localhost/x",
        "A/x",
    ];
    let ends = ["", ":1", ":latest", digest.as_str()];
    let mut compared = 0;
    for host in hosts {
        for path in paths {
            for end in ends {
                let image = format!("{host}{path}{end}");
                // What one of the two cannot read is refused by it.
                let (Ok(agents), Some((registry, repository))) =
                    (image.parse::<Reference>(), complete_image_name(&image))
                else {
                    continue;
                };
                assert_eq!(
                    (agents.registry(), agents.repository()),
                    (registry.as_str(), repository.as_str()),
                    "{image}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 300, "{compared}");
}
