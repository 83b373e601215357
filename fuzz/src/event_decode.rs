//! Stored events, one JSON object a line: whatever order and content they have, replay and commands never panic, and a
//! decision's events lead to the state that it says.

use workflow::engine::{
    self, AttemptId, Command, Event, Execution, ExecutionId, Head, Loss, Machine, Outcome, Workflow,
};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let mut events: Vec<Event> = Vec::new();
    for line in text.lines() {
        events.extend(serde_json::from_str::<Event>(line).ok());
        // What else is stored is believed, too.
        let _ = serde_json::from_str::<Head>(line);
        let _ = serde_json::from_str::<Execution>(line);
        if let Ok(machine) = serde_json::from_str::<Machine>(line) {
            let _ = (machine.next(), machine.explain());
            let mut machine = machine;
            machine.attach("another");
        }
    }
    let _ = engine::replay(&events);
    let mut state: Option<Workflow> = None;
    for event in &events {
        let _ = event.kind.to_string();
        state = engine::apply(state.take(), event);
    }
    if let Some(state) = state {
        drive(&state);
    }
}

fn drive(state: &Workflow) {
    let _ = (engine::next_due(state), engine::explain(state, None, u64::MAX));
    for task in state.definition.tasks.iter().take(4) {
        let _ = engine::explain(state, Some(&task.name), 0);
    }
    let mut commands = vec![
        Command::Continue,
        Command::Timer,
        Command::Cancel {
            by: String::new(),
            reason: "why not".into(),
        },
        Command::Pause {
            by: "me".into(),
            reason: String::new(),
        },
        Command::Unpause { by: "me".into() },
        Command::SetPolicy {
            policy: ["auto action=a", "deny writes=disk", "step"]
                .iter()
                .filter_map(|rule| rule.parse().ok())
                .collect(),
            by: "me".into(),
        },
        Command::Retry { by: "me".into() },
        Command::RetryChild { by: "me".into() },
        Command::Deadlock {
            machine: "m".into(),
            with: "other".into(),
        },
    ];
    for (task, progress) in state.head.tasks.iter().enumerate().take(4) {
        let (instance, selector) = (
            progress.instance.saturating_add(1),
            progress.asking.clone().unwrap_or_default(),
        );
        commands.push(Command::NoAnswer {
            task,
            instance,
            selector: selector.clone(),
            machine: "m".into(),
            why: "none".into(),
        });
        let name = || state.definition.tasks.get(task).map(|task| task.name.clone());
        for item in [None, Some(0)] {
            let (task, by) = (name().unwrap_or_default(), "me".to_owned());
            commands.push(Command::PauseOne {
                task: task.clone(),
                item,
                by: by.clone(),
                reason: String::new(),
            });
            commands.push(Command::UnpauseOne { task, item, by });
        }
        commands.push(Command::Answer {
            unknown: vec![],
            task,
            instance,
            selector,
            machines: vec![("m".into(), serde_json::json!({"mac": "m", "name": "n"}))],
        });
    }
    for execution in state.executions.values().take(4) {
        commands.extend(of_execution(state, execution));
    }
    for command in commands {
        for now in [0, u64::MAX] {
            let Ok(decision) = engine::decide(Some(state), &command, now) else {
                continue;
            };
            let mut folded = Some(state.clone());
            for event in &decision.events {
                folded = engine::apply(folded, event);
            }
            assert_eq!(folded.as_ref(), Some(&decision.workflow), "{command:?}");
        }
    }
}

fn of_execution(state: &Workflow, execution: &Execution) -> Vec<Command> {
    let mut commands = vec![
        dispatch(execution.id, &execution.worker),
        decided(state, execution),
    ];
    let actions = execution.actions.iter().enumerate().take(3);
    for (number, action) in actions {
        let attempt = AttemptId {
            workflow: state.head.id.clone(),
            execution: execution.id,
            action: number,
            attempt: action.attempts,
        };
        let _ = engine::dispatch(state, &attempt);
        commands.extend([
            Command::Returned {
                attempt: attempt.clone(),
                boot_id: "another".into(),
            },
            Command::Lost {
                attempt: attempt.clone(),
                why: Loss::Forgotten,
            },
        ]);
        let outcomes = [
            Outcome::Started,
            Outcome::Leaving { how: "reboot".into() },
            Outcome::Failed {
                reason: "No".into(),
                message: "no".into(),
                exit_code: 1,
            },
            Outcome::Stopped {
                message: String::new(),
            },
        ];
        commands.extend(outcomes.map(|outcome| Command::Report {
            attempt: attempt.clone(),
            outcome,
        }));
    }
    commands
}

fn dispatch(execution: ExecutionId, worker: &str) -> Command {
    Command::Dispatch {
        execution,
        worker: worker.into(),
        boot_id: "another".into(),
        epoch: u64::MAX,
    }
}

fn decided(state: &Workflow, execution: &Execution) -> Command {
    let task = state.definition.tasks.get(execution.id.task);
    Command::Decide {
        task: task.map(|task| task.name.clone()).unwrap_or_default(),
        item: Some(execution.id.item),
        approved: true,
        by: "me".into(),
        groups: Vec::new(),
        comment: String::new(),
    }
}
