//! Every template of the documentation runs to its end, with machines that succeed and people who say yes.
#![allow(clippy::unwrap_used)]

mod script;

use std::sync::Arc;

use script::{Script, creation, devices, examples, outcome, with_outputs};
use serde_json::{Map, Value, json};
use workflow::engine::{Command, Effect, Execution, Seen, Waiting, WorkflowState, next_due};
use workflow::language::{Definition, inputs, render};

const PAGES: [(&str, &str); 6] = [
    (
        "first-machine.md",
        include_str!("../../docs/how-to/first-machine.md"),
    ),
    ("actions.md", include_str!("../../docs/reference/actions.md")),
    (
        "coming-from.md",
        include_str!("../../docs/reference/coming-from.md"),
    ),
    ("labels.md", include_str!("../../docs/reference/labels.md")),
    ("secrets.md", include_str!("../../docs/reference/secrets.md")),
    ("templates.md", include_str!("../../docs/reference/templates.md")),
];
/// More turns than the longest of them takes.
const TURNS: usize = 1_000;

/// Whether the machine leaves with it.
fn leaves(definition: &Definition, task: usize, action: usize) -> bool {
    let action = &definition.tasks[task].actions[action];
    action.reboots || ["reboot", "poweroff"].contains(&action.image.as_str())
}

/// What every action and every sub-workflow gives.
fn gives() -> Map<String, Value> {
    Map::from_iter([
        ("count".to_owned(), json!(3)),
        ("hostname".to_owned(), json!("node1")),
        // As `partition` does.
        ("paths".to_owned(), json!({"root": "/dev/vda3"})),
        // As `mkfs` does.
        ("uuid".to_owned(), json!("5c1f5b6e-3b0d-4a53-9a43-0e6d9c7c9a11")),
        // As `wipe` does.
        ("method".to_owned(), json!("format")),
        // As `bootentry` does.
        ("current".to_owned(), json!("0002")),
    ])
}

/// What one execution waits for comes; false: it waits for nothing but time.
fn serve(script: &mut Script, definition: &Definition, execution: &Execution) -> bool {
    let id = execution.id;
    match execution.waiting {
        Some(Waiting::Approval) => {
            let is_item = definition.tasks[id.task].for_each.is_some();
            let command = Command::Decide {
                task: definition.tasks[id.task].name.clone(),
                item: is_item.then_some(id.item),
                approved: true,
                by: "ann".into(),
                groups: vec!["ops".into(), "leads".into()],
                comment: String::new(),
            };
            script.decide(&command).unwrap();
        }
        Some(Waiting::Machine) => {
            let attempt = script.hand_out(&execution.worker);
            let number = attempt.rsplit('/').nth(1).unwrap().parse().unwrap();
            if leaves(definition, id.task, number) {
                script.report(&attempt, outcome("leaving"));
                let is_over = script.execution(&id.to_string()).state.is_final();
                if !is_over {
                    script.run(&format!("returned {attempt} boot2"));
                }
            } else {
                script.report(&attempt, with_outputs(Value::Object(gives())));
            }
        }
        Some(Waiting::Children) => {
            let command = Command::ChildEnded {
                execution: id,
                child: execution.child.clone().unwrap(),
                run: Some(1),
                state: WorkflowState::Success,
                message: String::new(),
                outputs: gives(),
                workers: vec![],
            };
            script.decide(&command).unwrap();
        }
        Some(Waiting::Answer) => {
            let said = json!({"address": "10.77.0.11", "banner": "SSH-2.0-OpenSSH_10.0", "status": 200});
            let command = Command::Answered {
                execution: id,
                seen: Seen::Answer(said.as_object().cloned().unwrap_or_default()),
            };
            script.decide(&command).unwrap();
        }
        Some(Waiting::Time | Waiting::Resume) | None => return false,
    }
    true
}

fn answer(script: &mut Script) -> bool {
    let asked = script.effects.drain(..).find_map(|effect| match effect {
        Effect::Ask {
            task,
            instance,
            selector,
            ..
        } => Some((task, instance, selector)),
        _ => None,
    });
    let Some((task, instance, selector)) = asked else {
        return false;
    };
    let machines = ["52:54:00:77:00:0b", "52:54:00:77:00:0c", "52:54:00:77:00:0d"];
    let command = Command::Answer {
        task,
        instance,
        selector,
        machines: machines
            .map(|mac| (mac.to_owned(), json!({"mac": mac, "name": mac, "labels": {}})))
            .to_vec(),
        unknown: vec![],
    };
    script.decide(&command).unwrap();
    true
}

/// Its state at the end, and in which way each task ended.
fn run(text: &str) -> (String, WorkflowState, String) {
    let definition = match render(text, &devices()) {
        Ok(rendered) => rendered.definition,
        Err(problems) => panic!("{problems:#?}\n{text}"),
    };
    let mut given = Map::new();
    for (name, input) in &definition.inputs {
        if input.default.is_none() {
            given.insert(name.clone(), Value::from("given"));
        }
    }
    let mut creation = creation(definition.clone());
    creation.inputs = inputs(&definition, &given).unwrap();
    let records = definition.tasks.iter().map(|task| {
        let record = json!({"mac": task.worker, "name": "node1", "labels": {"rack": "r7"}, "addresses": ["10.77.0.11"]});
        (task.worker.clone(), record)
    });
    creation.machines = records.collect();
    let mut script = Script::made(creation);
    for _ in 0..TURNS {
        let head = &script.state().head;
        if head.state.is_final() {
            let tasks: Vec<&str> = head.tasks.iter().map(|task| task.state.as_str()).collect();
            let ended = tasks.join(" ");
            assert!(
                !ended.contains("IDLE") && !ended.contains("WAITING"),
                "{ended}\n{text}"
            );
            return (
                definition.name.clone(),
                head.state,
                format!("{}: {ended}", head.message),
            );
        }
        if answer(&mut script) {
            continue;
        }
        let all = script.state().executions.values();
        let open: Vec<Arc<Execution>> = all.filter(|one| !one.state.is_final()).cloned().collect();
        if open
            .iter()
            .any(|execution| serve(&mut script, &definition, execution))
        {
            continue;
        }
        let due = next_due(script.state()).unwrap_or_else(|| panic!("nothing is due\n{text}"));
        script.now = script.now.max(due);
        script.run("timer");
    }
    panic!("it does not end:\n{text}");
}

#[test]
fn every_template_of_the_documentation_runs_to_its_end() {
    let mut ran = Vec::new();
    for (page, text) in PAGES {
        for example in examples(text) {
            let (name, state, how) = run(example);
            assert_eq!(state, WorkflowState::Success, "{page}, {name}: {how}");
            ran.push(name);
        }
    }
    assert!(ran.len() > 28, "{ran:?}");
    // One of each thing that the reference describes.
    for name in [
        "inventory",
        "add-users",
        "careful",
        "count-to-ten",
        "look-around",
        "rollout",
        "hand-over",
        "two-of-them",
        "from-mistral",
    ] {
        assert!(ran.iter().any(|one| one == name), "{name} is not among {ran:?}");
    }
}
