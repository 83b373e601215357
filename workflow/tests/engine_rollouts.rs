//! `forEach`: windows, waves, failure budgets, machines that are asked for.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, tasks, with_outputs};
use serde_json::{Value, json};
use workflow::engine::{self, Command, Effect, MAX_EXECUTIONS, MAX_STEPS, StepState, WorkflowState};

const MACS: [&str; 4] = [
    "08:00:27:00:00:01",
    "08:00:27:00:00:02",
    "08:00:27:00:00:03",
    "08:00:27:00:00:04",
];

#[test]
fn machines_are_asked_for_and_each_gets_an_execution() {
    let mut script = Script::new(tasks(
        "
    - name: roll
      forEach: machines(\"rack == 'r7'\")
      maxParallel: 2
      run: one on ${{ item.mac }}
    ",
    ));
    script.expect_events("created\nasked 0 rack == 'r7'");
    script.expect_effects("ask 0 rack == 'r7'");
    script.check("answer 0 2 other", "");
    let command = Command::Answer {
        unknown: vec![],
        task: 0,
        instance: 1,
        selector: "rack == 'r7'".into(),
        machines: MACS
            .iter()
            .map(|mac| ((*mac).to_owned(), json!({"mac": mac})))
            .collect(),
    };
    script.decide(&command).unwrap();
    script
        .expect_events("task_started 0 4 items\nexecution_made 0/1/0 machine\nexecution_made 0/1/1 machine");
    script.expect_effects("want 08:00:27:00:00:01 for 0/1/0\nwant 08:00:27:00:00:02 for 0/1/1");
    assert!(script.decide(&command).unwrap().is_empty());
    // The window slides, and a machine is given back as soon as it is done.
    script.does(MACS[1], "succeeded");
    script.expect_effects("want 08:00:27:00:00:03 for 0/1/2\nrelease 08:00:27:00:00:02 of w");
    for mac in [MACS[0], MACS[2], MACS[3]] {
        script.does(mac, "succeeded");
    }
    script.expect_state(WorkflowState::Success, "");
    script
        .effects
        .retain(|effect| matches!(effect, Effect::Release { .. }));
    assert_eq!(script.effects.len(), 3);
}

#[test]
fn a_selector_without_a_value_for_a_machine_fails_the_task_and_is_asked_again_in_the_next_run() {
    let mut script = Script::new(tasks(
        "
    - name: roll
      forEach: machines(\"rack == 'r7'\")
      run: one on ${{ item.mac }}
    ",
    ));
    script.expect_events("created\nasked 0 rack == 'r7'");
    script.effects.clear();
    let command = |instance, selector: &str| Command::NoAnswer {
        task: 0,
        instance,
        selector: selector.into(),
        machine: "node3".into(),
        why: "`rack == 'r7'`: why".into(),
    };
    // Of another question, it is no answer.
    for other in [command(2, "rack == 'r7'"), command(1, "rack == 'r8'")] {
        assert!(script.decide(&other).unwrap().is_empty());
    }
    script.decide(&command(1, "rack == 'r7'")).unwrap();
    script.expect_events("task_ended 0 FAILED\nended FAILED");
    let error = script.state().head.tasks[0].error.clone().unwrap();
    assert_eq!(error.reason, "Expression");
    assert_eq!(
        error.message,
        "whether machine node3 is meant cannot be said: `rack == 'r7'`: why"
    );
    script.check("retry", "run_opened [0]\nasked 0 rack == 'r7'");
    script.expect_effects("ask 0 rack == 'r7'");
}

#[test]
fn each_item_has_its_own_condition_and_texts() {
    let mut script = Script::new(tasks(
        "
    - name: each
      forEach: '[1, 2, 3]'
      when: item != 2
      environment: {ITEM: '${{ item * 10 }}', INDEX: '${{ item_index }} of 3'}
      run: one on m${{ item_index + 1 }}
    - name: last
      when: size(tasks.each.outputs) == 3 && tasks.each.outputs[2].n == 3
      run: two on a
    ",
    ));
    script.expect_tasks("WAITING IDLE");
    assert_eq!(script.execution("0/1/1").state.as_str(), "SKIPPED");
    let attempt = script.hand_out("m3");
    let environment = script.dispatch(&attempt).environment;
    assert_eq!((&*environment["ITEM"], &*environment["INDEX"]), ("30", "2 of 3"));
    script.report(&attempt, with_outputs(json!({"n": 3})));
    script.does("m1", "succeeded");
    script.expect_tasks("SUCCESS WAITING");
    let task = &script.state().head.tasks[0];
    assert_eq!((task.items, task.ended, task.skipped, task.failed), (3, 3, 1, 0));
}

#[test]
fn a_list_with_fewer_items_than_wanted_fails_the_task() {
    let mut script = Script::new(tasks(
        "
    - name: roll
      forEach: machines(\"rak == 'r7'\")
      minItems: 2
      run: one on ${{ item.mac }}
    ",
    ));
    let command = Command::Answer {
        task: 0,
        instance: 1,
        selector: "rak == 'r7'".into(),
        machines: vec![(MACS[0].to_owned(), json!({"mac": MACS[0]}))],
        unknown: vec!["no machine has the label \"rak\"; did you mean \"rack\"?".into()],
    };
    script.decide(&command).unwrap();
    script.expect_tasks("FAILED");
    let error = script.state().head.tasks[0].error.clone().unwrap();
    assert_eq!(
        (error.reason.as_str(), error.message.as_str()),
        (
            "TooFewItems",
            "machines(\"rak == 'r7'\") gives 1 items, and minItems is 2; no machine has the label \"rak\"; did you mean \
             \"rack\"?"
        )
    );
    // As many as are wanted are enough.
    for (items, end) in [("'[1]'", "FAILED"), ("'[1, 2]'", "SUCCESS")] {
        let script = Script::new(tasks(&format!(
            "
    - name: note
      forEach: {items}
      minItems: 2
      set: {{seen: item}}
    "
        )));
        script.expect_tasks(end);
    }
}

fn warnings(script: &Script) -> Vec<String> {
    engine::explain(script.state(), None, 0)
        .into_iter()
        .filter(|line| line.starts_with("warning: "))
        .collect()
}

#[test]
fn that_nothing_was_done_is_told() {
    let mut script = Script::new(tasks(
        "
    - name: roll
      forEach: machines(\"rak == 'r7'\")
      run: one on ${{ item.mac }}
    - name: none
      forEach: '[1, 2]'
      when: item > 2
      run: one on m
    - name: some
      forEach: '[1, 2]'
      when: item > 1
      set: {seen: item}
    ",
    ));
    let command = Command::Answer {
        task: 0,
        instance: 1,
        selector: "rak == 'r7'".into(),
        machines: vec![],
        unknown: vec!["no machine has the label \"rak\"".into()],
    };
    assert_eq!(warnings(&script), Vec::<String>::new());
    script.decide(&command).unwrap();
    script.expect_state(WorkflowState::Success, "");
    assert_eq!(
        warnings(&script),
        [
            "warning: task \"roll\": no machine has the label \"rak\"",
            "warning: task \"roll\": its list is empty: it had nothing to do (minItems fails it then)",
            "warning: task \"none\": all of its 2 items were skipped: it has done nothing",
        ]
    );
}

#[test]
fn an_empty_list_is_success() {
    let script = Script::new(tasks(
        "
    - name: each
      forEach: '[]'
      run: one on a
    ",
    ));
    script.expect_tasks("SUCCESS");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn all_items_are_tried_and_one_that_fails_fails_the_task() {
    let mut script = Script::new(tasks(
        "
    - name: each
      forEach: '[\"a\", \"b\", \"c\"]'
      run: one on ${{ item }}
    ",
    ));
    script.does("b", "failed");
    script.does("a", "succeeded");
    script.expect_tasks("RUNNING");
    script.does("c", "timed_out");
    script.expect_tasks("FAILED");
    script.expect_state(
        WorkflowState::Failed,
        "task \"each\" failed (ItemsFailed): 2 of 3 items failed; the first was item 1: \
         action \"one\" of task \"each\" failed (WrongDigest): digest is a, expected b",
    );
}

#[test]
fn waves_open_one_after_the_other() {
    let mut script = Script::new(tasks(
        "
    - name: each
      forEach: '[\"a\", \"b\", \"c\", \"d\", \"e\"]'
      waves: [1, 50%, 100%]
      maxFailures: 1
      run: one on ${{ item }}
    ",
    ));
    let made = |script: &Script| script.state().head.tasks[0].made;
    assert_eq!(made(&script), 1);
    script.does("a", "succeeded");
    assert_eq!(made(&script), 3);
    script.does("b", "failed");
    assert_eq!(made(&script), 3);
    script.does("c", "succeeded");
    assert_eq!(made(&script), 5);
    script.does("d", "succeeded");
    script.does("e", "succeeded");
    // One failure was borne.
    script.expect_tasks("SUCCESS");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_spent_budget_stops_the_rollout_and_lets_what_runs_run_on() {
    let mut script = Script::new(tasks(
        "
    - name: each
      forEach: '[\"a\", \"b\", \"c\", \"d\", \"e\"]'
      maxParallel: 3
      maxFailures: 20%
      run: one on ${{ item }}
    - name: last
      run: one on z
    ",
    ));
    let running = script.hand_out("c");
    script.does("a", "failed");
    assert_eq!(script.state().head.tasks[0].made, 4);
    script.does("b", "failed");
    assert_eq!(script.state().head.tasks[0].made, 4, "nothing more is started");
    // What was ready and has not begun does not begin any more, whenever its machine comes.
    let called_off = script.state().executions_of(0).nth(3).unwrap();
    assert_eq!(called_off.state, StepState::Skipped);
    script.report(&running, script::outcome("succeeded"));
    script.expect_tasks("FAILED SKIPPED");
    let message = &script.state().head.message;
    assert!(
        message.starts_with(
            "task \"each\" failed (TooManyFailures): 2 of 5 items failed, 1 are borne, and no more were started"
        ),
        "{message}"
    );
}

#[test]
fn lists_that_are_none_or_too_long_fail_the_task() {
    for (list, want) in [
        ("inputs.some", "inputs.some is {\"a\":1}, which is no list"),
        (
            "inputs.many",
            "a workflow has 10000 task executions at most: 0 were made and here are 10001 more",
        ),
        (
            "inputs.big",
            "`inputs.big`: the result is larger than 1048576 bytes",
        ),
    ] {
        let mut definition = tasks(
            "
    - name: each
      forEach: '[]'
      run: one on a
    ",
        );
        definition.tasks[0].for_each.as_mut().unwrap().list = list.into();
        let mut creation = script::creation(definition);
        creation.inputs.insert("some".into(), json!({"a": 1}));
        creation
            .inputs
            .insert("many".into(), Value::Array(vec![json!(1); MAX_EXECUTIONS + 1]));
        creation
            .inputs
            .insert("big".into(), json!(["x".repeat((1 << 20) + 10)]));
        let script = Script::made(creation);
        script.expect_tasks("FAILED");
        let message = &script.state().head.message;
        assert!(message.contains(want), "{message}");
    }
}

#[test]
fn many_items_are_made_a_few_at_a_time() {
    let items: Vec<String> = (0..100).map(|item| format!("m{item}")).collect();
    let mut definition = tasks(
        "
    - name: each
      forEach: '[]'
      run: one on '${{ item }}'
    ",
    );
    definition.tasks[0].for_each.as_mut().unwrap().list = json!(items).to_string();
    let command = Command::Create(Box::new(script::creation(definition)));
    let mut decision = engine::decide(None, &command, 1_000).unwrap();
    let mut rounds = 1;
    while decision.more {
        assert!(decision.changed.len() <= MAX_STEPS);
        decision = engine::decide(Some(&decision.workflow), &Command::Continue, 1_000).unwrap();
        rounds += 1;
    }
    assert_eq!(decision.workflow.executions.len(), 100);
    assert_eq!(rounds, 4);
    // Cancelling ends them a few at a time, too.
    let cancel = Command::Cancel {
        by: String::new(),
        reason: String::new(),
    };
    let mut decision = engine::decide(Some(&decision.workflow), &cancel, 1_000).unwrap();
    let mut released = 0;
    let mut rounds = 1;
    loop {
        assert!(decision.changed.len() <= MAX_STEPS);
        released += decision
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Release { .. }))
            .count();
        if !decision.more {
            break;
        }
        decision = engine::decide(Some(&decision.workflow), &Command::Continue, 1_000).unwrap();
        rounds += 1;
    }
    assert_eq!(decision.workflow.head.state, WorkflowState::Cancelled);
    assert_eq!((rounds, released), (4, 100));
}

#[test]
fn items_that_may_share_a_machine_keep_it_until_all_are_made() {
    let mut script = Script::new(tasks(
        "
    - name: each
      forEach: '[\"a\", \"b\", \"c\"]'
      maxParallel: 1
      run: one on m${{ item }}
    ",
    ));
    script.does("ma", "succeeded");
    script
        .effects
        .retain(|effect| matches!(effect, Effect::Release { .. }));
    script.expect_effects("");
    script.does("mb", "succeeded");
    script
        .effects
        .retain(|effect| matches!(effect, Effect::Release { .. }));
    // Only the third could still have been on one of the others.
    script.expect_effects("release ma of w\nrelease mb of w");
    script.does("mc", "succeeded");
    script
        .effects
        .retain(|effect| matches!(effect, Effect::Release { .. }));
    script.expect_effects("release mc of w");
}

#[test]
fn a_retry_runs_only_the_items_that_did_not_succeed() {
    let mut script = Script::new(tasks(
        "
    - name: each
      forEach: '[\"a\", \"b\", \"c\"]'
      run: one on ${{ item }}
    ",
    ));
    let attempt = script.hand_out("a");
    script.report(&attempt, with_outputs(json!({"n": 1})));
    script.does("b", "failed");
    script.does("c", "succeeded");
    script.effects.clear();
    script.check(
        "retry",
        "run_opened [0]\ntask_started 0 3 items\nexecution_made 0/2/0 time\nexecution_ended 0/2/0 SUCCESS\n\
         execution_made 0/2/1 machine\nexecution_made 0/2/2 time\nexecution_ended 0/2/2 SUCCESS",
    );
    script
        .effects
        .retain(|effect| matches!(effect, Effect::Want { .. }));
    script.expect_effects("want b for 0/2/1");
    assert_eq!(
        Value::Object(script.execution("0/2/0").outputs.clone()),
        json!({"n": 1})
    );
    script.does("b", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn an_answer_that_ends_the_last_task_during_a_pause_ends_the_workflow_when_that_is_over() {
    let mut script = Script::new(tasks(
        "
    - name: roll
      forEach: machines(\"rack == 'r7'\")
      run: one on ${{ item.mac }}
    ",
    ));
    script.run("pause");
    let none = Command::NoAnswer {
        task: 0,
        instance: 1,
        selector: "rack == 'r7'".into(),
        machine: "node3".into(),
        why: "why".into(),
    };
    script.decide(&none).unwrap();
    assert_eq!(script.state().head.state, WorkflowState::Paused);
    script.run("unpause");
    assert_eq!(script.state().head.state, WorkflowState::Failed);
}

#[test]
fn items_that_stay_from_an_earlier_run_start_no_clock() {
    let mut definition = tasks(
        "
    - name: each
      forEach: '[\"a\", \"b\"]'
      run: one on ${{ item }}
    ",
    );
    definition.global_timeout_s = 60;
    let mut script = Script::new(definition);
    script.does("a", "succeeded");
    script.does("b", "failed");
    script.run("retry");
    let head = &script.state().head;
    assert_eq!((head.state, head.started_at), (WorkflowState::Pending, None));
    assert_eq!(engine::next_due(script.state()), None);
    script.does("b", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn the_list_of_an_earlier_run_says_nothing_of_the_next_one() {
    let mut script = Script::new(tasks(
        "
    - name: first
      run: one on a
    - name: roll
      when: always()
      forEach: machines(\"rack == 'r7'\")
      run: one on ${{ item.mac }}
    ",
    ));
    script.does("a", "failed");
    script.run("answer 1 1 b");
    script.does("b", "succeeded");
    script.run("retry");
    script.effects.clear();
    // The rack may have got another machine: this one could be it.
    script.does("a", "succeeded");
    script.expect_effects("ask 1 rack == 'r7'");
    script.run("answer 1 2 c");
    script.expect_effects("want c for 1/2/0\nrelease a of w\nrelease b of w");
    script.does("c", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_machine_of_an_item_that_is_left_out_is_given_back_also_when_the_failure_came_during_a_pause() {
    let mut script = Script::new(tasks(
        "
    - name: first
      run: one on b
    - name: roll
      forEach: '[\"a\", \"b\"]'
      maxParallel: 1
      maxFailures: 0
      run: one on ${{ item }}
    - name: other
      needs: [first]
      run: one on c
    ",
    ));
    script.does("b", "succeeded");
    let attempt = script.hand_out("a");
    script.run("pause");
    script.run(&format!("report {attempt} failed"));
    script.effects.clear();
    script.run("unpause");
    script.expect_effects("want c for 2/1/0\nrelease b of w");
}

#[test]
fn an_item_that_succeeded_stays_also_over_a_run_that_did_not_come_to_it() {
    let mut script = Script::new(tasks(
        "
    - name: each
      forEach: '[\"a\", \"b\"]'
      maxParallel: 1
      run: one on ${{ item }}
    ",
    ));
    script.does("a", "failed");
    script.does("b", "succeeded");
    script.run("retry");
    script.run("cancel");
    script.run("retry");
    script.does("a", "succeeded");
    script.expect_state(WorkflowState::Success, "");
    assert_eq!(
        script.execution("0/3/1").actions[0].attempts,
        0,
        "it was not done again"
    );
}

#[test]
fn a_rollout_that_is_cancelled_is_not_taken_for_one_whose_failures_are_borne() {
    let mut script = Script::new(tasks(
        "
    - name: each
      forEach: '[\"a\", \"b\"]'
      maxFailures: 100%
      run: one on ${{ item }}
    ",
    ));
    script.run("cancel");
    script.expect_tasks("CANCELLED");
    script.check(
        "retry",
        "run_opened [0]\ntask_started 0 2 items\nexecution_made 0/2/0 machine\nexecution_made 0/2/1 machine",
    );
}
