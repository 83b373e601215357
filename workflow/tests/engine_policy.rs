//! The policy of a run: actions that a person releases, and actions that are refused.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, tasks, template};
use workflow::engine::{self, Creation, WorkflowState};
use workflow::language::Definition;

const INSTALL: &str = r#"
version: "1"
name: install
policy: [ask writes=disk by=ops]
tasks:
- name: install
  worker: a
  timeout: 100
  actions:
  - {name: look, image: cexec}
  - {name: write, image: image2disk, environment: {DEST_DISK: /dev/sda}, on-failure: [rescue], retry: {attempts: 2}}
  - {name: vendor, image: example.org/vendor:v1}
  - {name: reboot, image: reboot}
- name: report
  worker: b
  actions: [{name: tell, image: cexec}]
"#;

fn with(definition: Definition, rules: &[&str]) -> Script {
    Script::made(Creation {
        policy: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        ..creation(definition)
    })
}

#[test]
fn what_writes_a_disk_is_asked_for_and_nothing_else() {
    let mut script = Script::new(template(INSTALL));
    let look = script.hand_out("a");
    script.effects.clear();
    script.check(
        &format!("report {look} succeeded"),
        &format!("reported {look} succeeded\naction_asked 0/1/0 action 1: ask writes=disk by=ops"),
    );
    // Its machine is not told before somebody has said yes.
    script.expect_effects("");
    script.refused(
        "dispatch 0/1/0 a boot1",
        "task execution 0/1/0 of workflow w is not ready for a machine",
    );
    assert_eq!(
        engine::explain(script.state(), Some("install"), 2_000),
        [
            "task \"install\" waits for approval of action \"write\" by ops (farrier workflow approve w install): the policy \
             says ask writes=disk by=ops"
        ]
    );
    script.refused(
        "approve install ann dev",
        "task \"install\" is decided by one of the groups ops, and \"ann\" is in none of them",
    );
    script.check("approve install bob ops", "decided 0/1/0 yes");
    script.expect_effects("want a for 0/1/0");
    script.check("approve install bob ops", "");
    script.refused(
        "reject install eve ops",
        "task \"install\" was approved by bob already",
    );
    // Once for all its tries, and for what is done when it fails.
    script.does("a", "failed");
    script.does("a", "failed");
    script.expect_effects("want a for 0/1/0\nwant a for 0/1/0");
    script.does("a", "succeeded");
    script.expect_tasks("FAILED SKIPPED");
    // The next run asks anew.
    script.run("retry");
    script.does("a", "succeeded");
    script.run("approve install bob ops");
    script.does("a", "succeeded");
    // What an image of somebody else's does, nobody knows.
    assert!(script.execution("0/2/0").is_asked());
    script.run("approve install bob ops");
    for machine in ["a", "a", "b"] {
        script.does(machine, "succeeded");
    }
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn a_no_to_an_action_fails_its_task() {
    let mut script = Script::new(template(INSTALL));
    script.does("a", "succeeded");
    script.check(
        "reject install eve ops",
        "decided 0/1/0 no\nexecution_ended 0/1/0 FAILED\ntask_ended 0 FAILED\ntask_ended 1 SKIPPED\nended FAILED",
    );
    script.expect_state(
        WorkflowState::Failed,
        "task \"install\" failed (Rejected): eve rejected action \"write\": ok",
    );
}

#[test]
fn step_by_step_every_action_is_released_but_those_of_an_earlier_rule() {
    let mut definition = template(INSTALL);
    definition.policy.clear();
    let mut script = with(definition, &["auto image=cexec", "step"]);
    script.does("a", "succeeded");
    for action in 1..4 {
        assert_eq!(script.execution("0/1/0").asks.as_ref().unwrap().action, action);
        script.run("approve install");
        script.does("a", "succeeded");
    }
    script.does("b", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn what_is_denied_fails_its_task_with_a_word() {
    let text = "
    - name: first
      retry: {attempts: 5}
      run: one two on a
    - name: clean
      recovers: [first]
      when: failure()
      run: three on b
    ";
    let mut script = with(tasks(text), &["deny action=two"]);
    script.does("a", "succeeded");
    script.expect_tasks("FAILED WAITING");
    let error = script.execution("0/1/0").error.clone().unwrap();
    assert_eq!(
        (error.reason.as_str(), error.message.as_str()),
        (
            "Denied",
            "the policy of this workflow does not let action \"two\" be done: deny action=two"
        )
    );
    script.does("b", "succeeded");
    script.expect_state(WorkflowState::Success, "");
}

#[test]
fn rules_that_are_given_come_before_those_of_the_template() {
    let mut script = with(
        template(INSTALL),
        &["auto action=write", "ask writes=disk by=ops"],
    );
    let rules: Vec<String> = script
        .state()
        .head
        .policy
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(rules, ["auto action=write", "ask writes=disk by=ops"]);
    script.does("a", "succeeded");
    script.does("a", "succeeded");
    assert_eq!(script.execution("0/1/0").asks.as_ref().unwrap().action, 2);
}

#[test]
fn a_policy_is_changed_while_it_runs() {
    let text = "
    - name: first
      run: one two on a
    - name: other
      needs: []
      run: three on b
    ";
    let mut script = Script::new(tasks(text));
    script.effects.clear();
    // What is ready and was not handed out is asked for.
    script.check(
        "policy step",
        "policy_set step\naction_asked 0/1/0 action 0: step\naction_asked 1/1/0 action 0: step",
    );
    script.expect_effects("unwant a for 0/1/0\nunwant b for 1/1/0");
    script.check("policy step", "");
    // Another rule: another question.
    script.check(
        "policy auto action=three,ask action=one by=ops",
        "policy_set auto action=three, ask action=one by=ops\naction_asked 0/1/0 action 0: ask action=one by=ops\nresumed \
         1/1/0 machine",
    );
    script.expect_effects("want b for 1/1/0");
    script.run("approve first bob ops");
    let one = script.hand_out("a");
    // What runs, runs on; what comes next is refused.
    script.check(
        "policy deny",
        "policy_set deny\nexecution_ended 1/1/0 FAILED\ntask_ended 1 FAILED",
    );
    script.check(
        &format!("report {one} succeeded"),
        &format!("reported {one} succeeded\nexecution_ended 0/1/0 FAILED\ntask_ended 0 FAILED\nended FAILED"),
    );
    script.refused("policy step", "workflow w has ended: it is FAILED");
}

#[test]
fn a_pause_and_the_clock_of_a_task_keep_to_what_is_asked() {
    let mut script = Script::new(template(INSTALL));
    script.does("a", "succeeded");
    // Asked from 2 to 50 s: the clock of the task stands still.
    assert_eq!(engine::next_due(script.state()), None);
    script.now = 40_000;
    script.run("pause install");
    script.now = 50_000;
    script.run("approve install bob ops");
    assert_eq!(engine::next_due(script.state()), None);
    script.now = 60_000;
    script.effects.clear();
    script.check("unpause install", "task_resumed 0/1/0\nresumed 0/1/0 machine");
    script.expect_effects("want a for 0/1/0");
    assert_eq!(engine::next_due(script.state()), Some(160_000));
    // In a pause nothing is asked for.
    script.does("a", "succeeded");
    script.run("approve install bob ops");
    let vendor = script.hand_out("a");
    script.run("policy step; pause");
    script.check(
        &format!("report {vendor} succeeded"),
        &format!("reported {vendor} succeeded\npaused"),
    );
    script.check(
        "unpause",
        "unpaused\nresumed 0/1/0 machine\naction_asked 0/1/0 action 3: step",
    );
    script.check(
        "skip install",
        "skip_asked 0/1/0\nexecution_ended 0/1/0 SKIPPED\ntask_ended 0 SKIPPED\ntask_started 1\nexecution_made 1/1/0 \
         machine\naction_asked 1/1/0 action 0: step",
    );
}

#[test]
fn a_sub_workflow_keeps_to_the_policy_of_its_parent() {
    let mut script = with(
        tasks("\n    - name: sub\n      workflow: other\n    "),
        &["step by=ops"],
    );
    let start = script.effects.iter().find_map(|effect| match effect {
        engine::Effect::StartChild { policy, .. } => Some(policy.to_vec()),
        _ => None,
    });
    let rules: Vec<String> = start.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["step by=ops"]);
    script.run("policy");
    assert!(script.state().head.policy.is_empty());
}

#[test]
fn what_a_decision_had_no_room_to_judge_is_not_handed_out() {
    let text = "
    - name: roll
      forEach: machines(\"rack == 'r7'\")
      run: one on ${{ item.mac }}
    ";
    let mut script = Script::new(tasks(text));
    let machines: Vec<String> = (0..60).map(|machine| format!("m{machine}")).collect();
    script.run(&format!("answer 0 1 {}", machines.join(" ")));
    let step = script.command("policy step");
    assert!(script.once(&step).unwrap(), "it asks to be continued");
    assert!(!script.execution("0/1/59").is_asked());
    script.refused(
        "dispatch 0/1/59 m59 boot1",
        "task execution 0/1/59 of workflow w is not ready for a machine",
    );
    script.go_on();
    assert!(script.execution("0/1/59").is_asked());
}
