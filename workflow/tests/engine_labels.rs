//! Labels of workflows: from the beginning, changed in any state, seen by expressions, actions and sub-workflows.
#![allow(clippy::unwrap_used)]

mod script;

use script::{Script, creation, tasks, two_tasks};
use workflow::engine::{self, Creation, Effect, EventKind, WorkflowState};
use workflow::labels::{Labels, in_one_line};
use workflow::language::Definition;

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn labelled(definition: Definition, text: &str) -> Script {
    Script::made(Creation {
        labels: labels(text),
        ..creation(definition)
    })
}

fn shown(script: &Script) -> String {
    in_one_line(&script.state().head.labels)
}

#[test]
fn labels_are_set_and_taken_away_and_the_event_says_what_changed() {
    let mut script = labelled(two_tasks(), "change=4711,rack=r7");
    assert_eq!(shown(&script), "change=4711,rack=r7");
    script.run("label rack=r8 owner=ann change-");
    assert_eq!(shown(&script), "owner=ann,rack=r8");
    let last = &script.events.last().unwrap().kind;
    assert_eq!(last.to_string(), "labelled by ann: owner=ann,rack=r8,change-");
    // What is so already, or is not there, is no event.
    script.check("label rack=r8 change-", "");
    script.run("label rack=r8 owner=bob");
    let EventKind::Labelled { set, removed, .. } = &script.events.last().unwrap().kind else {
        panic!("{:?}", script.events.last());
    };
    assert_eq!((in_one_line(set), removed.len()), ("owner=bob".to_owned(), 0));
}

#[test]
fn a_workflow_is_labelled_in_any_state_and_nothing_else_comes_of_it() {
    let mut script = Script::new(two_tasks());
    script.run("pause; label a=1");
    assert_eq!(script.state().head.state, WorkflowState::Paused);
    script.run("unpause; cancel; label a=2");
    assert_eq!(script.state().head.state, WorkflowState::Cancelled);
    let ended_at = script.state().head.ended_at;
    script.now = 9_000;
    script.run("label b=3 a-");
    assert_eq!(shown(&script), "b=3");
    assert_eq!(script.state().head.state, WorkflowState::Cancelled);
    assert_eq!(script.state().head.ended_at, ended_at);
    script.run("retry");
    assert_eq!(shown(&script), "b=3");
}

#[test]
fn what_would_be_out_of_bounds_is_refused() {
    let sixteen: Vec<String> = (10..26).map(|number| format!("k{number}=v")).collect();
    let mut script = labelled(two_tasks(), &sixteen.join(","));
    script.refused(
        "label one=more",
        "17 labels are too many: a workflow has 16 at most; take some away",
    );
    script.run("label one=more k10-");
    assert_eq!(script.state().head.labels.len(), 16);
    for bad in ["label a/b/c=1", "label k11=a:b"] {
        let command = script.command(bad);
        assert!(script.decide(&command).is_err(), "{bad}");
    }
}

#[test]
fn expressions_see_the_labels_as_they_are_then() {
    let mut script = labelled(
        tasks(
            "
    - name: ask
      approve: {message: go on?}
    - name: note
      set: {rack: 'has(workflow.labels.rack) ? workflow.labels.rack : \"none\"', owned: has(workflow.labels.owner)}
    ",
        ),
        "rack=r7",
    );
    script.run("label rack=r8 owner=ann; approve ask");
    let vars = &script.state().head.vars;
    assert_eq!(
        (vars["rack"].as_str(), vars["owned"].as_bool()),
        (Some("r8"), Some(true))
    );
}

#[test]
fn actions_are_handed_the_labels_as_they_are_then() {
    let mut script = labelled(two_tasks(), "rack=r7");
    script.run("label rack=r8 owner=ann; dispatch 0/1/0 a boot1");
    let attempt = "w/0/1/0/0/1".parse().unwrap();
    let dispatch = engine::dispatch(script.state(), &attempt).unwrap();
    assert_eq!(in_one_line(&dispatch.labels), "owner=ann,rack=r8");
    assert_eq!(dispatch.namespace, "default");
}

#[test]
fn a_sub_workflow_begins_with_its_parents_labels() {
    let script = |before: &str| {
        let mut script = labelled(
            tasks(
                "
    - name: ask
      approve: {message: go on?}
    - name: sub
      workflow: other
    ",
            ),
            "rack=r7",
        );
        script.run(before);
        script.run("approve ask");
        script
    };
    let given = |script: &Script| match script.effects.last() {
        Some(Effect::StartChild { labels, .. }) => in_one_line(labels),
        other => panic!("{other:?}"),
    };
    assert_eq!(given(&script("timer")), "rack=r7");
    assert_eq!(given(&script("label rack=r8 owner=ann")), "owner=ann,rack=r8");
}
