//! Any text at all: no panic, no hang, and a problem is at a line that there is.

use std::collections::BTreeMap;

use proptest::prelude::*;
use workflow::language::{Devices, Text, check, render};

const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{{-",
    "-}}",
    "{{ .device_1 }}",
    "{{ .hardware.spec.disks }}",
    "{{ index .Hardware.Disks 0 }}",
    "{{if",
    "{{ if .x }}",
    "{{else}}",
    "{{end}}",
    "{{ range until 3 }}",
    "{{ with .hardware }}",
    "{{define \"a\"}}",
    "{{template \"a\" .}}",
    "{{ $x := list 1 2 }}",
    "{{ $x }}",
    "| upper ",
    "| printf \"%s\" ",
    "(",
    ")",
    "\"",
    "'",
    "`",
    "/*",
    "*/",
    "\n",
    "  ",
    "\t",
    "- ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "<<: ",
    "|\n",
    ">-\n",
    "!!str ",
    "---\n",
    "# ",
    "version: '0.1'\n",
    "version: '1'\n",
    "{version: 1, ",
    "${{",
    "${{ inputs.x }}",
    "${{ tasks.t.state == 'a' && vars.x }}",
    "inputs: {x: 1}\n",
    "outputs: {a: inputs.x}\n",
    "- {name: u, wait: 5m, needs: [t]}\n",
    "  needs: [",
    "  when: failure()\n",
    "  recovers: t\n",
    "  forEach: '[1, 2]'\n",
    "  waves: [1, 10%]\n",
    "  goto: {when: 'true', task: t, max: 1}\n",
    "  set: {x: vars.x + 1}\n",
    "  retry: {attempts: 2}\n",
    "name: w\n",
    "tasks:\n",
    "- name: t\n",
    "  worker: a\n",
    "  actions:\n",
    "  - name: a\n    image: alpine\n",
    "timeout: 5\n",
    "~",
    "null",
    "0x1F",
    "é",
    "\u{0}",
    "\u{feff}",
    "\u{85}",
];

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(PIECES).prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_taken_or_refused_at_a_line_that_there_is(
        text in any_text(), framed in any::<bool>(), version in prop::sample::select(vec!["0.1", "1"]),
    ) {
        let text = if framed {
            format!("version: '{version}'\nname: w\ntasks:\n- name: t\n  worker: a\n  actions:\n  - name: a\n    image: alpine\n{text}")
        } else {
            text
        };
        let devices = Devices {
            devices: BTreeMap::from([("device_1".into(), "a".into())]),
            hardware: serde_json::json!({"spec": {"disks": [{"device": "/dev/sda"}]}}),
        };
        let found = [check(&text).err(), render(&text, &devices).err()];
        for problems in found.into_iter().flatten() {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let lines = text.matches('\n').count() + 1;
                prop_assert!(problem.text == Text::Rendered || problem.finding.place.line as usize <= lines, "{}", problem);
                prop_assert!(!problem.finding.message.is_empty() && !problem.finding.message.contains('\n'), "{}", problem);
            }
        }
    }
}
