//! What holds whatever commands come, in whatever order; and what the events look like in the store.
#![allow(clippy::unwrap_used)]

mod script;

use std::collections::BTreeSet;

use proptest::prelude::*;
use script::{Script, command, outcome, two_tasks};
use workflow::engine::{self, AttemptId, Command, Event, EventKind, StepState, WorkflowState};

/// Commands that mean something, and some that mean nothing.
fn any_command() -> impl Strategy<Value = Command> {
    let worker = prop::sample::select(vec!["a", "b", "stranger"]);
    let boot = prop::sample::select(vec!["boot1", "boot2", "boot3"]);
    let attempt =
        (0..3_usize, 0..3_usize, 0..5_u32).prop_map(|(t, a, n)| AttemptId(format!("w/{t}/{a}/{n}")));
    let outcome_word = prop::sample::select(vec![
        "started",
        "succeeded",
        "succeeded",
        "failed",
        "timed_out",
        "leaving",
        "stopped",
    ]);
    let attached = (worker, boot, prop::option::weighted(0.2, attempt.clone())).prop_map(
        |(worker, boot_id, running)| Command::Attached {
            worker: worker.into(),
            boot_id: boot_id.into(),
            running,
        },
    );
    let report = (attempt, outcome_word).prop_map(|(attempt, word)| Command::Report {
        attempt,
        outcome: outcome(word),
    });
    prop_oneof![
        6 => attached,
        8 => report,
        1 => Just(Command::Timer),
        1 => Just(command("cancel")),
    ]
}

/// An attempt that is under way now or nearly so, so that scripts get far.
fn aimed(command: Command, script: &Script) -> Command {
    match command {
        Command::Report { attempt, outcome } if attempt.0.ends_with('0') => {
            let current = ["a", "b"].iter().find_map(|worker| script.current(worker));
            Command::Report {
                attempt: current.map_or(attempt, AttemptId),
                outcome,
            }
        }
        command => command,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_for_any_commands(commands in prop::collection::vec(any_command(), 1..60), cleanup in any::<bool>()) {
        let mut definition = two_tasks();
        definition.global_timeout_s = 40;
        if cleanup {
            definition.tasks[0].actions[1].on_failure = vec!["rescue".into()];
            definition.tasks[1].actions[0].on_timeout = vec!["rescue".into()];
        }
        let mut script = Script::new(definition);
        let mut dispatched = BTreeSet::new();
        let mut ended = None;
        for command in commands {
            script.now += 1_000;
            let command = aimed(command, &script);
            let before = script.state().clone();
            let Ok(events) = script.decide(&command) else {
                prop_assert_eq!(&before, script.state());
                continue;
            };
            for event in &events {
                if let EventKind::Dispatched { attempt, .. } = &event.kind {
                    prop_assert!(dispatched.insert(attempt.clone()), "{} handed out twice", attempt);
                }
                prop_assert!(
                    ended.is_none() || matches!(event.kind, EventKind::Late { .. }),
                    "{:?} after the end", event
                );
            }
            let state = script.state();
            if let Some(ended) = &ended {
                prop_assert_eq!(&(state.state, state.message.clone()), ended);
            } else if state.state.is_final() {
                ended = Some((state.state, state.message.clone()));
            }
            let actions = || state.tasks.iter().flat_map(|task| &task.actions);
            prop_assert!(actions().filter(|action| action.is_under_way()).count() <= 1);
            prop_assert!(!state.state.is_final() || !actions().any(|action| action.is_under_way()));
            prop_assert!(state.state != WorkflowState::Success || actions().all(|action| action.state == StepState::Success));
            prop_assert!(actions().all(|action| action.attempts <= engine::MAX_ATTEMPTS + 1));
            prop_assert_eq!(state.ending.is_some(), matches!(state.state, WorkflowState::Ending | WorkflowState::Cancelling));
            prop_assert_eq!(engine::current_attempt(state, "stranger"), None);
        }
        let again: Vec<Event> = script.events.iter().map(through_json).collect();
        let replayed = engine::replay(&again).unwrap();
        prop_assert_eq!(serde_json::to_vec(&replayed).unwrap(), serde_json::to_vec(script.state()).unwrap());
    }

    #[test]
    fn events_in_any_order_never_panic(order in prop::collection::vec((0..40_usize, 0..40_u64), 1..80)) {
        let mut script = Script::new(two_tasks());
        script.run("attached a boot1; attached a boot2; report w/0/0/2 started; report w/0/0/2 leaving; attached a boot3; \
            report w/0/1/1 succeeded; report w/0/0/1 failed; attached b boot9; cancel; report w/1/0/1 stopped");
        let mut state = None;
        for (at, number) in order {
            let mut event = script.events[at % script.events.len()].clone();
            if number % 3 != 0 {
                event.number = number;
            }
            let before = state.clone();
            let after = engine::apply(state, &event);
            if let Some(before) = before {
                prop_assert!(after.last_event == event.number || after == before);
            }
            state = Some(after);
        }
    }
}

fn through_json(event: &Event) -> Event {
    serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap()
}

#[test]
fn a_history_with_a_hole_is_refused() {
    let mut script = Script::new(two_tasks());
    script.run("attached a boot1; report w/0/0/1 started; report w/0/0/1 succeeded");
    let mut events = script.events.clone();
    events.remove(1);
    let error = engine::replay(&events).unwrap_err();
    assert_eq!(error.to_string(), "event 3 (reported) does not follow event 1");
    assert_eq!(
        engine::replay(&events[1..]).unwrap_err().to_string(),
        "event 3 (reported) does not follow event 0"
    );
    assert_eq!(
        engine::replay(&[]).unwrap_err().to_string(),
        "a workflow's history is empty"
    );
}

/// Stored events must stay readable: this file is never edited, new kinds get a new one.
#[test]
fn events_are_written_as_in_the_golden_file() {
    let mut definition = two_tasks();
    definition.global_timeout_s = 3600;
    definition.tasks[0].actions[0].on_failure = vec!["rescue".into()];
    let mut script = Script::new(definition);
    script.run(
        "attached a boot1; report w/0/0/1 started; attached a boot2; report w/0/0/1 succeeded; report w/0/0/2 succeeded; \
         attached a boot2; report w/0/1/1 leaving; attached a boot3; attached b boot9; report w/1/0/1 started; cancel; \
         report w/1/0/1 stopped; report w/1/0/1 timed_out; report w/1/0/1 failed",
    );
    let written: String = script
        .events
        .iter()
        .map(|event| serde_json::to_string(event).unwrap() + "\n")
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/events-1.jsonl");
    if std::env::var_os("FARRIER_BLESS").is_some() {
        std::fs::write(path, &written).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(written, golden);
    let read: Vec<Event> = golden
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(&engine::replay(&read).unwrap(), script.state());
}
