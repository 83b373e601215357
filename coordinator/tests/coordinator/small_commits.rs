//! No step makes a commit that the store refuses, whatever the definition and whatever is asked of it.

use std::fmt::Write as _;
use std::sync::Arc;

use coordinator::{Input, Limits, NewWorkflow, Next, Orders};
use proptest::collection::vec;
use proptest::prelude::*;
use store::{Commit, KeyValue, MemoryStore, Revision, Snapshot, Store, StoreError};
use workflow::engine::{Command, Outcome, StepState, WorkflowState, replay};

use super::harness::{Server, creation, limits, succeeded};

/// A store that takes fewer operations and preconditions in a commit than others.
struct Small {
    store: MemoryStore,
    most: usize,
}

impl Store for Small {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        self.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.store.range(from, to, limit)
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.store.snapshot()
    }

    fn commit(&self, commit: &Commit) -> Result<Revision, StoreError> {
        let operations = commit.operations.len().max(commit.preconditions.len());
        if operations > self.most {
            let bytes = commit.len_bytes();
            return Err(StoreError::TooLarge { operations, bytes });
        }
        self.store.commit(commit)
    }
}

fn small() -> Server {
    let most = Limits::LEAST_OPERATIONS;
    let store = Small {
        store: MemoryStore::default(),
        most,
    };
    let limits = Limits {
        commit_operations: most,
        ..limits()
    };
    Server::over(Arc::new(store), limits)
}

fn failed() -> Outcome {
    Outcome::Failed {
        exit_code: 1,
        reason: String::new(),
        message: "no".into(),
    }
}

/// Tasks of version 1 that need nothing.
fn side_by_side(tasks: usize, what: &str) -> String {
    let mut text = String::from("version: \"1\"\nname: w\ntasks:\n");
    for n in 0..tasks {
        writeln!(text, "  - {{name: t{n}, needs: [], {what}}}").expect("a text");
    }
    text
}

/// Tasks of version 0.1, one after the other on one machine.
fn in_line(tasks: usize) -> String {
    let mut text = String::from("version: \"0.1\"\nname: w\nglobal_timeout: 600\ntasks:\n");
    for n in 0..tasks {
        writeln!(
            text,
            "  - name: t{n}\n    worker: m1\n    actions:\n      - {{name: a, image: cexec, timeout: 60}}"
        )
        .expect("a text");
    }
    text
}

fn check_replays(server: &Server, id: &str) {
    let replayed = replay(&server.history(id)).expect("a history");
    assert_eq!(replayed, *server.workflow(id));
}

#[test]
fn a_failure_skips_all_tasks_that_follow_however_many() {
    for mut server in [Server::new(limits()), small()] {
        server.attach("m1", "boot1");
        let id = server.create(&in_line(130));
        let attempt = server.run("m1");
        server.report("m1", &attempt, failed());
        let workflow = server.workflow(&id);
        assert_eq!(workflow.head.state, WorkflowState::Failed);
        let skipped = workflow.head.tasks.iter().skip(1);
        assert!(skipped.clone().all(|task| task.state == StepState::Skipped));
        assert_eq!(skipped.count(), 129);
        check_replays(&server, &id);
        // The machine is free for the next.
        let next = server.create(&in_line(1));
        assert_eq!(server.work_off("m1").len(), 1);
        assert_eq!(server.state(&next), WorkflowState::Success);
    }
}

#[test]
fn a_cancel_ends_any_number_of_tasks() {
    for tasks in [1, 31, 32, 33, 64, 110, 300] {
        for mut server in [Server::new(limits()), small()] {
            let id = server.create(&side_by_side(tasks, "wait: 60s"));
            let reason = "no more".to_owned();
            server
                .command(
                    &id,
                    Command::Cancel {
                        by: String::new(),
                        reason,
                    },
                )
                .expect("it is taken");
            let workflow = server.workflow(&id);
            assert_eq!(workflow.head.state, WorkflowState::Cancelled, "{tasks} tasks");
            let all = workflow.head.tasks.iter();
            assert!(all.clone().all(|task| task.state == StepState::Cancelled));
            check_replays(&server, &id);
        }
    }
}

#[test]
fn a_timer_ends_any_number_of_tasks() {
    for (tasks, mut server) in [(2_000, Server::new(limits())), (500, small())] {
        let id = server.create(&side_by_side(tasks, "wait: 1s"));
        while !server.state(&id).is_final() {
            server.next_timer();
        }
        let workflow = server.workflow(&id);
        assert_eq!(workflow.head.state, WorkflowState::Success);
        assert!(
            workflow
                .head
                .tasks
                .iter()
                .all(|task| task.state == StepState::Success)
        );
        check_replays(&server, &id);
    }
}

#[test]
fn a_pause_and_its_end_touch_any_number_of_tasks() {
    for mut server in [Server::new(limits()), small()] {
        server.attach("m1", "boot1");
        let what = "worker: m1, actions: [{name: a, image: cexec}]";
        let id = server.create(&side_by_side(150, what));
        let (by, reason) = ("me".to_owned(), String::new());
        server
            .command(
                &id,
                Command::Pause {
                    by: by.clone(),
                    reason,
                },
            )
            .expect("it is taken");
        assert_eq!(server.state(&id), WorkflowState::Paused);
        assert!(matches!(server.orders("m1"), Orders::Wait));
        server.command(&id, Command::Unpause { by }).expect("it is taken");
        assert_eq!(server.work_off("m1").len(), 150);
        assert_eq!(server.state(&id), WorkflowState::Success);
        check_replays(&server, &id);
    }
}

/// The making of a workflow is cut short; handing out its first action goes on with it, and comes to its end.
#[test]
fn an_action_that_is_handed_out_and_stopped_in_one_decision_is_stopped() {
    let mut stopped = 0;
    // Somewhere in here is the number at which the hand-out comes to the end of what was left.
    for sets in 1..60 {
        let mut server = Server::new(limits());
        server.attach("m1", "boot1");
        let mut text = side_by_side(1, "worker: m1, actions: [{name: a, image: cexec}]");
        for n in 1..=sets {
            writeln!(text, "  - {{name: t{n}, needs: [], set: {{x: \"1\"}}}}").expect("a text");
        }
        text.push_str("  - {name: last, needs: [], succeed: {}}\n");
        let creation = creation("w1", &text);
        let extra = Commit::default();
        server.step(Input::Create(Box::new(NewWorkflow { creation, extra })));
        // Of what is left to do only what the machine is to know is done before it asks.
        while server.machine("m1").wants.is_empty()
            && let Some(next) = server.then.pop_front()
        {
            if let Next::Carry(key) = next {
                server.step(Input::Carry { key });
            }
        }
        server.orders("m1");
        let state = server.state("w1");
        if let Some(current) = server.machine("m1").current {
            assert_eq!(state, WorkflowState::Ending, "{sets} tasks");
            assert!(current.stop.is_some(), "{sets} tasks: {current:?}");
            stopped += 1;
        } else {
            assert_eq!(state, WorkflowState::Success, "{sets} tasks");
        }
    }
    assert!(stopped > 0);
}

/// Workflows were made for a worker before there was a machine of that name.
#[test]
fn a_machine_takes_over_any_number_of_workflows() {
    for mut server in [Server::new(limits()), small()] {
        let mac = "52:54:00:77:00:0b";
        let text = in_line(1).replace("worker: m1", &format!("worker: \"{mac}\""));
        let ids: Vec<String> = (0..100).map(|_| server.create(&text)).collect();
        let interface = serde_json::json!({"mac": mac, "lease": null, "vlan_id": null, "may_netboot": true, "script": null});
        let record = serde_json::json!({"name": "node1", "interfaces": [interface], "disks": [], "labels": {},
            "agent_id": null, "policy": "agent", "kernel_params": [], "consoles": [], "hardware": null, "document": null,
            "created_at": 0, "updated_at": 0});
        server.put("machine/node1", &record);
        server.put(&format!("mac/{mac}"), &serde_json::json!("node1"));
        server.attach("node1", "boot1");
        let mut done = Vec::new();
        for _ in 0..200 {
            if let Orders::Run(attempt) = server.orders("node1") {
                server.report("node1", &attempt, succeeded());
                done.push(attempt.workflow);
            } else if !server.woken.remove("node1") {
                break;
            }
        }
        assert_eq!(done.len(), ids.len());
        assert!(ids.iter().all(|id| server.state(id) == WorkflowState::Success));
        assert!(server.keys("open/").is_empty());
    }
}

/// What a person or the world does next.
#[derive(Clone, Debug)]
enum Deed {
    Work { machine: usize, fails: bool },
    Timer,
    Cancel,
    Pause,
    Unpause,
    Retry,
    Approve { task: usize },
    Attach { machine: usize },
    Silence { machine: usize },
    Crash,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        8 => (0..3usize, any::<bool>()).prop_map(|(machine, fails)| Deed::Work { machine, fails }),
        4 => Just(Deed::Timer),
        1 => Just(Deed::Cancel),
        1 => Just(Deed::Pause),
        2 => Just(Deed::Unpause),
        2 => Just(Deed::Retry),
        2 => (0..60usize).prop_map(|task| Deed::Approve { task }),
        1 => (0..3usize).prop_map(|machine| Deed::Attach { machine }),
        1 => (0..3usize).prop_map(|machine| Deed::Silence { machine }),
        1 => Just(Deed::Crash),
    ];
    vec(deed, 0..30)
}

/// A task: whether it needs nothing or an earlier one, what it does, its machine (40: many), whether it is retried, its
/// actions, its items.
type Drawn = (Option<bool>, u8, usize, u8, u8, usize);

fn task() -> impl Strategy<Value = Drawn> {
    let machines = prop_oneof![4 => 0..3usize, 1 => Just(40usize)];
    let needs = prop::option::weighted(0.8, any::<bool>());
    (needs, 0..9u8, machines, 0..6u8, 0..4u8, 0..70usize)
}

fn text(tasks: &[Drawn]) -> String {
    let mut text = String::from("version: \"1\"\nname: w\ntasks:\n");
    for (n, &(needs, what, machine, retry, actions, items)) in tasks.iter().enumerate() {
        writeln!(text, "  - name: t{n}").expect("a text");
        match needs {
            Some(true) => text.push_str("    needs: []\n"),
            Some(false) if n > 0 => writeln!(text, "    needs: [t{}]", n / 2).expect("a text"),
            _ => {}
        }
        let action = |a| format!("      - {{name: a{a}, image: cexec}}\n");
        let all: String = (0..=actions).map(action).collect();
        // Some tasks go over many machines, more than a step touches itself.
        let worker = match machine {
            40 => "m${{ string(item) }}".to_owned(),
            machine => format!("m{machine}"),
        };
        let list: Vec<String> = (0..items).map(|item| item.to_string()).collect();
        let each = format!("    forEach: \"${{{{ [{}] }}}}\"\n", list.join(", "));
        match what {
            0 => text.push_str("    wait: 1s\n"),
            1 => text.push_str("    set: {a: \"${{ 1 }}\"}\n"),
            2 => writeln!(text, "{each}    wait: 1s").expect("a text"),
            3 => text.push_str("    approve: {message: now?}\n"),
            4 if machine != 40 => write!(text, "    worker: {worker}\n    actions:\n{all}").expect("a text"),
            5 if machine != 40 => {
                write!(text, "    worker: {worker}\n    timeout: 2s\n    actions:\n{all}").expect("a text");
            }
            _ => write!(text, "{each}    worker: \"{worker}\"\n    actions:\n{all}").expect("a text"),
        }
        if retry == 0 && what > 3 {
            text.push_str("    retry: {attempts: 2, delay: 1s}\n");
        }
    }
    text
}

fn play(tasks: &[Drawn], deeds: &[Deed]) {
    let mut server = small();
    let name = |machine: &usize| format!("m{machine}");
    for machine in 0..3 {
        server.attach(&name(&machine), "boot1");
    }
    let id = server.create(&text(tasks));
    let mut boots = 1;
    let run = |server: &mut Server, machine: usize, fails: bool| {
        let machine = name(&machine);
        let Orders::Run(attempt) = server.orders(&machine) else {
            return false;
        };
        let outcome = if fails { failed() } else { succeeded() };
        let _ = server.try_report(&machine, &attempt, outcome);
        true
    };
    for deed in deeds {
        let reason = String::new();
        let by = "me".to_owned();
        match deed {
            Deed::Work { machine, fails } => drop(run(&mut server, *machine, *fails)),
            Deed::Timer if !server.timers.is_empty() => server.next_timer(),
            Deed::Timer => {}
            Deed::Cancel => drop(server.command(
                &id,
                Command::Cancel {
                    by: String::new(),
                    reason,
                },
            )),
            Deed::Pause => drop(server.command(&id, Command::Pause { by, reason })),
            Deed::Unpause => drop(server.command(&id, Command::Unpause { by })),
            Deed::Retry => drop(server.command(&id, Command::Retry { by })),
            Deed::Approve { task } => {
                let decide = Command::Decide {
                    task: format!("t{task}"),
                    item: None,
                    approved: true,
                    by,
                    groups: Vec::new(),
                    comment: String::new(),
                };
                let _ = server.command(&id, decide);
            }
            Deed::Attach { machine } => {
                boots += 1;
                server.attach(&name(machine), &format!("boot{boots}"));
            }
            Deed::Silence { machine } => {
                let machine = name(machine);
                server.step(coordinator::Input::Silent {
                    machine,
                    for_ms: 1_000,
                });
                server.settle();
            }
            Deed::Crash => {
                server.crash();
                server.settle();
            }
        }
    }
    check_replays(&server, &id);
    // Whatever it came to, a cancel ends it, and every machine is free then.
    let reason = String::new();
    let _ = server.command(
        &id,
        Command::Cancel {
            by: String::new(),
            reason,
        },
    );
    for machine in 0..3 {
        boots += 1;
        server.attach(&name(&machine), &format!("boot{boots}"));
        server.orders(&name(&machine));
    }
    assert!(server.state(&id).is_final(), "{:?}", server.workflow(&id).head);
    check_replays(&server, &id);
    assert!(server.keys("outbox/").is_empty());
    let free = |machine: usize| server.machine(&name(&machine)).claims.is_empty();
    assert!((0..70).all(free), "{:?}", server.keys("open/"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn no_step_is_refused_by_a_store_that_takes_little(tasks in vec(task(), 1..60), deeds in deeds()) {
        play(&tasks, &deeds);
    }
}
