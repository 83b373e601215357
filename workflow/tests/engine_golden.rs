//! What events look like in the store. Stored events must stay readable: the golden files are never edited, and new
//! fields have defaults. `FARRIER_BLESS=1` writes the file anew, before its format is released.
#![allow(clippy::unwrap_used)]

mod script;

use std::collections::BTreeSet;

use script::{Script, creation, tasks, template, two_tasks, with_outputs};
use serde_json::json;
use workflow::engine::{self, Command, Creation, Event};

/// Histories that have every kind of event, every outcome and every loss.
fn histories() -> Vec<Script> {
    let mut definition = two_tasks();
    definition.global_timeout_s = 3600;
    definition.tasks[0].actions[0].on_failure = vec!["rescue".into()];
    let mut old = Script::new(definition);
    old.run(
        "dispatch 0/1/0 a boot1; report w/0/1/0/0/1 started; lost w/0/1/0/0/1 boot2; report w/0/1/0/0/1 succeeded; \
         dispatch 0/1/0 a boot2; report w/0/1/0/0/2 succeeded; dispatch 0/1/0 a boot2; report w/0/1/0/1/1 leaving; \
         dispatch 1/1/0 b boot9; pause; report w/1/1/0/0/1 started; unpause; cancel; report w/1/1/0/0/1 stopped; \
         report w/1/1/0/0/1 timed_out; report w/1/1/0/0/1 failed; retry",
    );
    let mut people = Script::new(tasks(
        "
    - name: ask
      approve: {message: 'wipe ${{ workflow.name }}?', timeout: 60}
      run: one on a
    - name: sub
      workflow: other
      retry: {attempts: 2}
    - name: end
      fail: {reason: Why, message: no}
    ",
    ));
    people.run(
        "approve ask; pause; unpause; dispatch 0/1/0 a boot1; lost w/0/1/0/0/1 forgotten; pause; unpause",
    );
    people.run("dispatch 0/1/0 a boot1; lost w/0/1/0/0/2 silence; dispatch 0/1/0 a boot1");
    people.report("w/0/1/0/0/3", with_outputs(json!({"n": 1})));
    for _ in 0..2 {
        let child = people.execution("1/1/0").child.clone().unwrap();
        people.run("pause; unpause");
        let state = if people.execution("1/1/0").tries == 1 {
            "FAILED"
        } else {
            "SUCCESS"
        };
        people.run(&format!("child 1/1/0 {child} 1 {state}"));
    }
    let mut roll = Script::new(template(
        r#"
version: "1"
name: roll
outputs: {done: "tasks.check.state"}
tasks:
- name: roll
  forEach: machines("rack == 'r7'")
  waves: [1, 100%]
  when: item.mac != "b"
  worker: ${{ item.mac }}
  environment: {MAC: "${{ item_index }} ${{ item.mac }}"}
  actions: [{name: one, image: example.org/one:v1, reboots: true, retry: {attempts: 3, delay: 5s}}, {name: two, image: example.org/two:v1}]
- name: check
  set: {count: size(tasks.roll.outputs), rounds: "has(vars.rounds) ? vars.rounds + [round] : [round]"}
  goto: {when: workflow.run == 1 && tasks.check.outputs.count == 3, task: check, max: 1}
"#,
    ));
    roll.run("answer 0 1 a b c");
    roll.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 failed");
    roll.now = 7_000;
    roll.run("timer; dispatch 0/1/0 a boot1; report w/0/1/0/0/2 leaving; returned w/0/1/0/0/2 boot2");
    roll.does("a", "succeeded");
    roll.does("c", "succeeded");
    roll.does("c", "succeeded");
    let mut later = Script::made(Creation {
        start_at: Some(60_000),
        resolved: [("10.77.0.11".to_owned(), "a".to_owned())].into(),
        by: "ann".into(),
        labels: [("change".to_owned(), "4711".to_owned())].into(),
        ..creation(two_tasks())
    });
    later.run("start 50000; start 70000; label owner=ann rack=r7; label owner-");
    later.now = 70_000;
    later.run("timer; cancel");
    let mut now = Script::made(Creation {
        start_at: Some(60_000),
        ..creation(two_tasks())
    });
    now.run("start");
    let mut skipped = Script::new(tasks(
        "
    - name: roll
      forEach: '[\"a\", \"b\"]'
      maxParallel: 1
      run: one on ${{ item }}
    - name: last
      run: two on c
    ",
    ));
    skipped.run("skip last not-today; skip roll[1]; dispatch 0/1/0 a boot1; skip roll[0] broken");
    skipped.run("report w/0/1/0/0/1 stopped");
    let mut given = Script::new(template(
        r#"
version: "1"
name: given
tasks:
- name: give
  worker: a
  actions: [{name: one, image: cexec, input: {fs_type: ext4, run: "${{ workflow.run }}", list: [{pw: "is ${{ secrets.PW }}"}]}}]
"#,
    ));
    let attempt = given.hand_out("a");
    given.report(&attempt, with_outputs(json!({"n": [1]})));
    let mut held = Script::new(tasks(
        "
    - name: roll
      forEach: '[\"a\", \"b\"]'
      maxParallel: 1
      run: one on ${{ item }}
    - name: last
      run: two on c
    ",
    ));
    held.run(
        "pause last not-yet; pause roll[1]; pause roll[0] look; unpause roll[0]; dispatch 0/1/0 a boot1",
    );
    held.run(
        "report w/0/1/0/0/1 succeeded; unpause roll[1]; dispatch 0/1/1 b boot1; report w/0/1/1/0/1 succeeded",
    );
    held.run("unpause last");
    let mut policed = Script::made(Creation {
        policy: vec![
            "ask action=one by=ops".parse().unwrap(),
            "auto image=two".parse().unwrap(),
        ],
        ..creation(tasks("\n    - name: only\n      run: one two three on a\n    "))
    });
    policed.run("approve only bob ops; dispatch 0/1/0 a boot1; policy step; report w/0/1/0/0/1 succeeded");
    policed
        .run("approve only; dispatch 0/1/0 a boot1; report w/0/1/0/1/1 succeeded; policy deny action=three");
    let mut again = Script::new(tasks(
        "
    - name: first
      run: one on a
    - name: roll
      needs: []
      forEach: '[\"b\", \"c\"]'
      run: two on ${{ item }}
    ",
    ));
    again.run("dispatch 1/1/0 b boot1; report w/1/1/0/0/1 failed; retry roll[0]; dispatch 0/1/0 a boot1");
    again.run("report w/0/1/0/0/1 failed; retry first; cancel");
    let mut cancelled = Script::new(two_tasks());
    let command = Command::Cancel {
        by: "ann".into(),
        reason: "wrong image".into(),
    };
    cancelled.decide(&command).unwrap();
    let mut answers = Script::new(tasks(
        "
    - name: up
      answers: {by: http, address: 10.77.0.11, path: '/${{ workflow.name }}', status: 204}
      timeout: 30m
    ",
    ));
    answers.run("answered 0/1/0 connection refused; answered 0/1/0 connection refused; answered 0/1/0 yes");
    vec![
        old, people, roll, later, now, skipped, given, held, policed, again, cancelled, answers,
    ]
}

#[test]
fn events_are_written_as_in_the_golden_file() {
    let histories = histories();
    let all = || histories.iter().flat_map(|script| &script.events);
    let kinds: BTreeSet<&str> = all().map(|event| event.kind.name()).collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>().join(" "),
        "action_asked asked begun cancel_asked child_asked child_ended created decided delayed dispatched ended execution_ended execution_made item_reopened \
         labelled late lost pause_asked paused policy_set reported resumed returned run_opened skip_asked start_moved stop_asked stopping task_ended \
         task_paused task_resumed task_started tasks_reopened unanswered unpaused wave_opened went_back"
    );
    let written: String = all()
        .map(|event| serde_json::to_string(event).unwrap() + "\n")
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/events-1.jsonl");
    if std::env::var_os("FARRIER_BLESS").is_some() {
        std::fs::write(path, &written).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(written, golden);
    let mut lines = golden.lines();
    for script in &histories {
        let read: Vec<Event> = lines
            .by_ref()
            .take(script.events.len())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(&engine::replay(&read).unwrap(), script.state());
    }
}

/// What is chosen by a kind is chosen among all that there are.
#[test]
fn every_kind_that_is_told_is_in_the_list() {
    let histories = histories();
    let events = histories.iter().flat_map(|script| &script.events);
    let told: BTreeSet<&str> = events.map(|event| event.kind.told_as()).collect();
    let listed: BTreeSet<&str> = engine::TOLD_KINDS.into_iter().collect();
    let never: Vec<_> = listed.difference(&told).collect();
    assert!(
        told.is_subset(&listed),
        "{:?} are not listed",
        told.difference(&listed)
    );
    // Neither is in these histories, and both are kinds all the same.
    let rare = ["cancel_asked", "timed_out"];
    assert!(
        never.iter().all(|kind| rare.contains(kind)),
        "nothing is told as {never:?}"
    );
    assert!(engine::TOLD_KINDS.is_sorted());
}

#[test]
fn every_event_has_words() {
    for script in histories() {
        for event in &script.events {
            let words = event.kind.to_string();
            assert!(!words.is_empty() && !words.contains('{'), "{words}");
        }
    }
}

/// The words in backticks of the first column of the table of events.
fn events_of_the_states_page() -> BTreeSet<&'static str> {
    let page = include_str!("../../docs/reference/states.md");
    let table = page.split("| Event | What happened |").nth(1).unwrap();
    let rows = table
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with('|'));
    let first = rows.filter_map(|row| row.trim_start_matches('|').split('|').next());
    first
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_event_is_in_the_table_of_the_states_page() {
    let scripts = histories();
    let happened: BTreeSet<&str> = scripts
        .iter()
        .flat_map(|script| script.events.iter().map(|event| event.kind.name()))
        .collect();
    assert_eq!(
        happened,
        events_of_the_states_page(),
        "left: happened; right: described"
    );
}
