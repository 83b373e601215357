//! Actions of Tinkerbell's that are refused when a template is made, with what to use instead.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::Value;
use workflow::language::{Devices, render, undone};

fn template(version: &str, more: &str) -> String {
    format!(
        "version: \"{version}\"\nname: w\ntasks:\n- name: t\n  worker: 52:54:00:77:00:0b\n  actions:\n  - name: a\n    image: \
         quay.io/tinkerbell/actions/grub2disk:v1\n    timeout: 60\n{more}"
    )
}

fn problems(text: &str) -> Vec<String> {
    let devices = Devices {
        devices: BTreeMap::new(),
        hardware: Value::Null,
    };
    let found = render(text, &devices).err().unwrap_or_default();
    let said = |problem: &workflow::language::Problem| {
        let finding = &problem.finding;
        format!("{}: {}", finding.place.line, finding.message)
    };
    found.iter().map(said).collect()
}

#[test]
fn a_retired_action_is_refused_in_both_versions_with_what_to_use_instead() {
    for (version, timeout) in [("0.1", "timeout: 60"), ("1", "timeout: 60s")] {
        let text = template(version, "").replace("timeout: 60", timeout);
        let said = problems(&text);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("8: action \"a\" is refused: grub2disk of Tinkerbell's (quay.io/tinkerbell/actions/grub2disk:v1)"),
            "{said:?}"
        );
        assert!(said[0].contains("cexec with CHROOT"), "{said:?}");
    }
    // Also where only its lines can be read.
    let told = undone(&template(
        "0.1",
        "    environment: {D: \"{{ index .Hardware.Disks 0 }}\"}\n",
    ));
    assert_eq!(told.len(), 1);
    assert!(
        told[0].finding.message.contains("is refused: grub2disk"),
        "{told:?}"
    );
}

#[test]
fn who_says_that_it_runs_as_a_container_is_believed() {
    let text = template("1", "    runtime: namespaces\n").replace("timeout: 60", "timeout: 60s");
    assert_eq!(problems(&text), [""; 0]);
}
