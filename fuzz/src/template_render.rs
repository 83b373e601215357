//! Templates from operators, of both versions: no text may panic, hang or take all memory, a problem is at a line that
//! there is, and what is taken hangs together.

use std::collections::BTreeMap;

use workflow::language::{
    Control, Definition, Devices, Problem, Text, check, duration_ms, inputs, render, time_ms,
};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    try_one(text);
    // What 0.1 takes is taken by version 1, or refused by it, and the other way round.
    if text.contains("0.1") {
        try_one(&text.replace("0.1", "1"));
    }
}

fn try_one(text: &str) {
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
        Ok(rendered) => hangs_together(&rendered.definition),
        Err(problems) => {
            assert!(!problems.is_empty());
            problems.iter().for_each(|problem| is_placed(problem, text));
        }
    }
}

fn hangs_together(definition: &Definition) {
    let json = serde_json::to_string(definition).expect("definitions have a JSON form");
    assert_eq!(
        serde_json::from_str::<Definition>(&json).expect("it reads"),
        *definition
    );
    let tasks = &definition.tasks;
    assert!(!tasks.is_empty());
    // Tasks can be put into an order in which each comes after what it needs.
    let mut done = vec![false; tasks.len()];
    for _ in tasks {
        let next =
            (0..tasks.len()).find(|&task| !done[task] && tasks[task].needs.iter().all(|&need| done[need]));
        done[next.expect("no circle")] = true;
    }
    for (index, task) in tasks.iter().enumerate() {
        assert_eq!(definition.task_named(&task.name), Some(index), "names differ");
        assert!(
            task.recovers
                .iter()
                .all(|&other| other < tasks.len() && other != index)
        );
        assert!(
            task.goto
                .as_ref()
                .is_none_or(|goto| goto.task < tasks.len() && goto.max > 0)
        );
        assert!(task.actions.is_empty() || !task.worker.is_empty());
        match &task.control {
            Some(Control::Answers(answers)) => {
                assert!(answers.port > 0 && (answers.status == 0 || answers.status >= 100))
            }
            Some(Control::Wait(text)) => assert!(text.contains("${{") || duration_ms(text).is_some()),
            Some(Control::Until(text)) => assert!(text.contains("${{") || time_ms(text).is_some()),
            _ => {}
        }
        if task.control.is_some() {
            let is_asked = matches!(task.control, Some(Control::Answers(_)));
            assert!((is_asked || task.worker.is_empty()) && task.actions.is_empty());
        }
    }
    if let Ok(values) = inputs(definition, &serde_json::Map::new()) {
        assert!(values.keys().eq(definition.inputs.keys()));
    }
}

fn is_placed(problem: &Problem, template: &str) {
    assert!(!problem.finding.message.is_empty());
    if problem.text == Text::Template {
        assert!(
            problem.finding.place.line as usize <= template.matches('\n').count() + 1,
            "{problem}"
        );
    }
}
