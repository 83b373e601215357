//! Stored events, one JSON object a line: whatever order and content they have, replay and commands never panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use workflow::engine::{self, AttemptId, Command, Event, Outcome, Workflow};

fuzz_target!(|text: &str| {
    let events: Vec<Event> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let _ = engine::replay(&events);
    let mut state: Option<Workflow> = None;
    for event in &events {
        let _ = event.kind.to_string();
        let next = engine::apply(state.take(), event);
        drive(&next);
        state = Some(next);
    }
    // A stored state is believed, too.
    if let Ok(state) = serde_json::from_str::<Workflow>(text) {
        drive(&state);
    }
});

fn drive(state: &Workflow) {
    let workers = state
        .definition
        .tasks
        .iter()
        .map(|task| task.worker.as_str())
        .chain(["stranger"]);
    for worker in workers.take(4) {
        let _ = (
            engine::dispatch(state, worker),
            engine::stop_due(state, worker),
            engine::explain(state, worker),
        );
        let current = engine::current_attempt(state, worker).map(|(attempt, _, _)| attempt);
        let attached = |running| Command::Attached {
            worker: worker.into(),
            boot_id: "another".into(),
            running,
        };
        for command in [
            attached(None),
            attached(current.clone()),
            Command::Timer,
            Command::Cancel {
                reason: "why not".into(),
            },
            report(current.clone(), Outcome::Leaving { how: "reboot".into() }),
            report(
                current,
                Outcome::Failed {
                    reason: "No".into(),
                    message: "no".into(),
                    exit_code: 1,
                },
            ),
        ] {
            let mut state = state.clone();
            for event in engine::decide(Some(&state.clone()), &command, u64::MAX).unwrap_or_default() {
                state = engine::apply(Some(state), &event);
            }
        }
    }
    let _ = engine::next_timer(state);
}

fn report(attempt: Option<AttemptId>, outcome: Outcome) -> Command {
    Command::Report {
        attempt: attempt.unwrap_or_else(|| AttemptId("w/0/0/1".into())),
        outcome,
    }
}
