//! Templates from operators: no text may panic, hang or take all memory, and a problem is at a line that there is.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use workflow::language::{Devices, Problem, Text, check, render};

fuzz_target!(|text: &str| {
    if let Err(problems) = check(text) {
        assert!(!problems.is_empty());
        problems.iter().for_each(|problem| is_placed(problem, text));
    }
    let devices = Devices {
        devices: BTreeMap::from([("device_1".to_owned(), "52:54:00:77:00:0b".to_owned())]),
        hardware: serde_json::json!({"spec": {
            "disks": [{"device": "/dev/nvme0n1"}],
            "interfaces": [{"dhcp": {"mac": "52:54:00:77:00:0b", "ip": {"address": "10.77.0.11"}}}],
        }}),
    };
    match render(text, &devices) {
        Ok(rendered) => {
            assert!(!rendered.definition.tasks.is_empty());
            let json = serde_json::to_string(&rendered.definition).expect("definitions have a JSON form");
            assert_eq!(
                serde_json::from_str::<workflow::language::Definition>(&json).expect("it reads"),
                rendered.definition
            );
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            problems.iter().for_each(|problem| is_placed(problem, text));
        }
    }
});

fn is_placed(problem: &Problem, template: &str) {
    assert!(!problem.message.is_empty());
    if problem.text == Text::Template {
        assert!(
            problem.line as usize <= template.matches('\n').count() + 1,
            "{problem}"
        );
    }
}
