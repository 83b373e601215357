//! Roots that wait for each other's machines: who fails, and who does not.

use coordinator::{Input, NewWorkflow};
use store::Commit;
use workflow::engine::{Command, WorkflowState};

use super::harness::{Server, creation, limits, succeeded};

fn server(machines: &[&str]) -> Server {
    let mut server = Server::new(limits());
    for machine in machines {
        server.attach(machine, "k1");
    }
    server
}

/// Makes a workflow of these tasks; `later` is a worker that is not known, and so not claimed, before its task's turn.
fn make(server: &mut Server, id: &str, tasks: &str, later: &str) {
    let tasks: String = tasks.lines().map(|line| format!("{}\n", line.trim())).collect();
    let text = format!(
        "version: \"1\"\nname: w\ninputs: {{later: {{type: string, default: x}}}}\ntasks:\n{}",
        tasks
            .replace("RUN", "actions: [{name: x, image: cexec}]")
            .replace("LATER", "\"${{ inputs.later }}\"")
    );
    let mut creation = creation(id, &text);
    creation.inputs.insert("later".into(), later.into());
    let new = NewWorkflow {
        creation,
        extra: Commit::default(),
    };
    server.step(Input::Create(Box::new(new)));
    server.settle();
}

/// Holds `machine`, then wants `later`, and then has something for the first again.
fn holds_and_wants(server: &mut Server, id: &str, machine: &str, later: &str) {
    let tasks = format!(
        "- {{name: a, worker: {machine}, RUN}}
         - {{name: b, worker: LATER, RUN}}
         - {{name: c, worker: {machine}, RUN}}"
    );
    make(server, id, &tasks, later);
}

/// The same with `m1` and `m2`, of which a sub-workflow wants the second.
fn holds_and_wants_below(server: &mut Server, id: &str) {
    server.template(
        "below",
        "version: \"1\"\nname: below\ninputs: {on: {type: string}}\ntasks:\n\
         - {name: a, worker: \"${{ inputs.on }}\", actions: [{name: x, image: cexec}]}\n",
    );
    let tasks = "- {name: a, worker: m1, RUN}
                 - {name: b, workflow: below, inputs: {on: m2}}
                 - {name: c, worker: m1, RUN}";
    make(server, id, tasks, "");
}

/// All begin what is next for them before the first of them ends it.
fn all_do_one(server: &mut Server, machines: &[&str]) {
    let attempts: Vec<_> = machines.iter().map(|machine| server.run(machine)).collect();
    for (machine, attempt) in machines.iter().zip(attempts) {
        server.report(machine, &attempt, succeeded());
    }
    look_again(server);
}

/// What the server does when it is told to, and every second.
fn look_again(server: &mut Server) {
    while let Some(machine) = server.woken.pop_first() {
        server.orders(&machine);
    }
    for machine in server.coordinator.suspects() {
        server.step(Input::Blocked { machine });
        server.settle();
    }
}

fn everybody_works(server: &mut Server, machines: &[&str]) {
    for _ in 0..4 {
        for machine in machines {
            server.work_off(machine);
        }
    }
}

#[track_caller]
fn failed_by_deadlock(server: &Server, id: &str) {
    let head = server.workflow(id).head.clone();
    assert_eq!(head.state, WorkflowState::Failed, "{head:?}");
    assert!(head.message.starts_with("deadlock: "), "{}", head.message);
}

#[test]
fn of_two_workflows_that_wait_for_each_other_the_younger_fails() {
    let mut server = server(&["m1", "m2"]);
    holds_and_wants(&mut server, "older", "m1", "m2");
    holds_and_wants(&mut server, "younger", "m2", "m1");
    all_do_one(&mut server, &["m1", "m2"]);
    failed_by_deadlock(&server, "younger");
    assert_eq!(
        server.workflow("younger").head.message,
        "deadlock: machine m1 is held by workflow older, which waits for a machine that this one holds"
    );
    everybody_works(&mut server, &["m2", "m1"]);
    assert_eq!(server.state("older"), WorkflowState::Success);
    assert_eq!(server.coordinator.suspects(), [""; 0]);
}

/// The older one waits in a circle with one branch, and gives the machine free with another.
#[test]
fn nobody_fails_while_another_branch_may_give_the_machine_free() {
    let machines = ["m1", "m2", "m3"];
    let mut server = server(&machines);
    let tasks = "- {name: a, worker: m1, needs: [], RUN}
                 - {name: b, worker: LATER, needs: [a], RUN}
                 - {name: slow, worker: m3, needs: [], RUN}
                 - {name: c, worker: m1, needs: [a, slow], RUN}";
    make(&mut server, "older", tasks, "m2");
    holds_and_wants(&mut server, "younger", "m2", "m1");
    let slow = server.run("m3");
    all_do_one(&mut server, &["m1", "m2"]);
    assert_eq!(server.state("older"), WorkflowState::Running);
    assert_eq!(server.state("younger"), WorkflowState::Running);
    assert!(!server.coordinator.suspects().is_empty());
    server.report("m3", &slow, succeeded());
    look_again(&mut server);
    everybody_works(&mut server, &machines);
    assert_eq!(server.state("older"), WorkflowState::Success);
    assert_eq!(server.state("younger"), WorkflowState::Success);
    look_again(&mut server);
    assert_eq!(server.coordinator.suspects(), [""; 0]);
}

/// The other branch ends, and was no help: on a machine that has nothing to do with the circle.
#[test]
fn a_circle_is_a_deadlock_as_soon_as_nothing_goes_on_any_more() {
    for forgets in [false, true] {
        let machines = ["m1", "m2", "m3"];
        let mut server = server(&machines);
        let tasks = "- {name: a, worker: m1, needs: [], RUN}
                     - {name: b, worker: LATER, needs: [a], RUN}
                     - {name: slow, worker: m3, needs: [], RUN}
                     - {name: c, worker: m1, needs: [b, slow], RUN}";
        make(&mut server, "older", tasks, "m2");
        holds_and_wants(&mut server, "younger", "m2", "m1");
        let slow = server.run("m3");
        all_do_one(&mut server, &["m1", "m2"]);
        if forgets {
            server.crash();
            server.settle();
        }
        server.report("m3", &slow, succeeded());
        if forgets {
            // Agents come again to a server that was started.
            for machine in machines {
                server.attach(machine, "k1");
                server.orders(machine);
            }
        } else {
            assert_eq!(server.state("younger"), WorkflowState::Running);
            look_again(&mut server);
        }
        failed_by_deadlock(&server, "younger");
        everybody_works(&mut server, &machines);
        assert_eq!(server.state("older"), WorkflowState::Success);
    }
}

#[test]
fn whoever_only_waits_for_the_circle_does_not_fail_however_young() {
    let machines = ["m1", "m2", "m3"];
    let mut server = server(&machines);
    for (id, machine, later) in [("w1", "m1", "m2"), ("w2", "m2", "m3"), ("w3", "m3", "m1")] {
        holds_and_wants(&mut server, id, machine, later);
    }
    make(&mut server, "w4", "- {name: a, worker: m1, RUN}", "");
    all_do_one(&mut server, &machines);
    failed_by_deadlock(&server, "w3");
    everybody_works(&mut server, &machines);
    for id in ["w1", "w2", "w4"] {
        assert_eq!(server.state(id), WorkflowState::Success, "{id}");
    }
}

#[test]
fn a_pause_is_no_deadlock_before_it_is_over() {
    let machines = ["m1", "m2"];
    let mut server = server(&machines);
    holds_and_wants(&mut server, "older", "m1", "m2");
    holds_and_wants(&mut server, "younger", "m2", "m1");
    let (a1, a2) = (server.run("m1"), server.run("m2"));
    server.report("m1", &a1, succeeded());
    let by = || "ann".to_owned();
    let pause = Command::Pause {
        by: by(),
        reason: String::new(),
    };
    server.command("older", pause).expect("paused");
    server.report("m2", &a2, succeeded());
    look_again(&mut server);
    assert_eq!(server.state("younger"), WorkflowState::Running);
    server
        .command("older", Command::Unpause { by: by() })
        .expect("resumed");
    look_again(&mut server);
    failed_by_deadlock(&server, "younger");
    everybody_works(&mut server, &machines);
    assert_eq!(server.state("older"), WorkflowState::Success);
}

#[test]
fn a_sub_workflow_waits_in_the_name_of_its_root() {
    let machines = ["m1", "m2"];
    let mut server = server(&machines);
    holds_and_wants_below(&mut server, "older");
    holds_and_wants(&mut server, "younger", "m2", "m1");
    all_do_one(&mut server, &["m2", "m1"]);
    failed_by_deadlock(&server, "younger");
    everybody_works(&mut server, &machines);
    assert_eq!(server.state("older"), WorkflowState::Success);
}

/// The sub-workflow is resumed before its root is, and waits in a circle: the end of the root's pause changes no machine.
#[test]
fn a_circle_below_a_paused_root_is_remembered() {
    let machines = ["m1", "m2"];
    let mut server = server(&machines);
    holds_and_wants_below(&mut server, "older");
    holds_and_wants(&mut server, "younger", "m2", "m1");
    let (a1, a2) = (server.run("m1"), server.run("m2"));
    server.report("m1", &a1, succeeded());
    let executions = server.workflow("older");
    let below = executions
        .executions
        .values()
        .find_map(|execution| execution.child.clone());
    let below = below.expect("a sub-workflow");
    let by = || "ann".to_owned();
    let pause = Command::Pause {
        by: by(),
        reason: String::new(),
    };
    server.command("older", pause).expect("paused");
    server
        .command(&below, Command::Unpause { by: by() })
        .expect("resumed");
    server.report("m2", &a2, succeeded());
    look_again(&mut server);
    assert_eq!(server.state("younger"), WorkflowState::Running);
    server
        .command("older", Command::Unpause { by: by() })
        .expect("resumed");
    look_again(&mut server);
    failed_by_deadlock(&server, "younger");
    everybody_works(&mut server, &machines);
    assert_eq!(server.state("older"), WorkflowState::Success);
}
