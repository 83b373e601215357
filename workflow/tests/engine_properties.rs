//! What holds whatever the definition is and whatever happens, in whatever order.
#![allow(clippy::unwrap_used)]

mod script;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use script::{Script, action, creation, outcome, with_outputs};
use serde_json::json;
use workflow::engine::machine::{Attached, Machine};
use workflow::engine::{
    self, AttemptId, Command, Effect, Event, EventKind, Loss, Waiting, Workflow, WorkflowState,
};
use workflow::language::{Amount, Approve, Control, Definition, ForEach, Goto, Retry, Task};

const WORKERS: [&str; 3] = ["a", "b", "c"];

fn any_retry() -> impl Strategy<Value = Option<Retry>> {
    let retry = (
        1..4_u32,
        0..3_u64,
        prop::sample::select(vec!["", "failed", "lost", "timeout"]),
    );
    prop::option::weighted(
        0.3,
        retry.prop_map(|(attempts, delay, on)| Retry {
            attempts,
            delay_ms: delay * 1_000,
            backoff_percent: 200,
            max_delay_ms: 0,
            on: if on.is_empty() { vec![] } else { vec![on.into()] },
        }),
    )
}

fn any_for_each() -> impl Strategy<Value = Option<ForEach>> {
    let amount = prop_oneof![
        (0..4_u32).prop_map(Amount::Count),
        (0..101_u32).prop_map(Amount::Percent)
    ];
    let list = prop::sample::select(vec![
        "[]",
        "['a', 'b', 'c', 'a', 'b']",
        "[{'mac': 'b'}, {'mac': 'c'}]",
        "machines('true')",
        "inputs.none",
    ]);
    let for_each = (
        list,
        0..3_u32,
        prop::collection::vec(amount.clone(), 0..3),
        prop::option::of(amount),
    );
    prop::option::weighted(
        0.3,
        for_each.prop_map(|(list, max_parallel, waves, max_failures)| ForEach {
            min_items: 0,
            list: list.into(),
            max_parallel,
            waves,
            max_failures,
        }),
    )
}

fn any_control() -> impl Strategy<Value = Control> {
    prop_oneof![
        2 => Just(Control::Wait("5s".into())),
        1 => Just(Control::Until("1970-01-01T00:00:30Z".into())),
        1 => Just(Control::Wait("${{ 'soon' }}".into())),
        2 => Just(Control::Set([("x".to_owned(), "1 + 1".to_owned())].into())),
        2 => Just(Control::Workflow { template: "other".into(), inputs: [("n".into(), json!("${{ 1 }}"))].into() }),
        1 => Just(Control::Succeed),
        1 => Just(Control::Fail { reason: "Why".into(), message: "${{ workflow.id }}".into() }),
    ]
}

/// A task that needs some of those before it.
fn any_task(index: usize) -> impl Strategy<Value = Task> {
    let needs = prop::collection::vec(prop::bool::weighted(0.5), index);
    let when = prop::sample::select(vec![
        None,
        None,
        Some("failure()"),
        Some("always()"),
        Some("1 == 2"),
        Some("inputs.none == 1"),
    ]);
    let does = prop_oneof![
        4 => (prop::sample::select(WORKERS.to_vec()), 1..4_usize, any_retry(), any::<[bool; 3]>()).prop_map(Ok),
        1 => any_control().prop_map(Err),
    ];
    let more = (
        any_for_each(),
        any_retry(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.2),
    );
    (needs, when, does, more).prop_map(
        move |(needs, when, does, (for_each, retry, approve, goto, timeout, recovers))| {
            let needs: Vec<usize> = (0..index).filter(|&need| needs[need]).collect();
            let mut task = Task {
                name: format!("t{index}"),
                when: when.map(Into::into),
                recovers: if recovers { needs.clone() } else { vec![] },
                needs,
                retry,
                timeout_s: if timeout { 7 } else { 0 },
                approve: approve.then(|| Approve {
                    message: "go?".into(),
                    by: vec![],
                    timeout_s: 20,
                }),
                ..Task::default()
            };
            match does {
                Ok((worker, actions, retry, [cleanup, reboots, by_item])) => {
                    let by_item = by_item && for_each.is_some();
                    task.worker = if by_item {
                        "${{ item.mac }}".into()
                    } else {
                        worker.into()
                    };
                    task.actions = (0..actions).map(|n| action(&format!("a{n}"))).collect();
                    task.actions[0].retry = retry;
                    task.actions[0].reboots = reboots;
                    if cleanup {
                        task.actions[0].on_failure = vec!["rescue".into()];
                    }
                }
                Err(control) => task.control = Some(control),
            }
            if goto && for_each.is_none() {
                task.goto = Some(Goto {
                    when: "failure()".into(),
                    task: index,
                    max: 2,
                });
            }
            task.for_each = for_each;
            task
        },
    )
}

fn any_definition() -> impl Strategy<Value = Definition> {
    let tasks = (1..6_usize).prop_flat_map(|count| (0..count).map(any_task).collect::<Vec<_>>());
    (tasks, prop::bool::weighted(0.2)).prop_map(|(tasks, timeout)| Definition {
        version: "1".into(),
        name: "install".into(),
        global_timeout_s: if timeout { 40 } else { 0 },
        tasks,
        ..Definition::default()
    })
}

/// A workflow with the machines that run it.
struct World {
    script: Script,
    machines: BTreeMap<String, Machine>,
    children: BTreeMap<String, (engine::ExecutionId, u32, bool)>,
    dispatched: BTreeSet<AttemptId>,
    boots: u32,
    is_carrying: bool,
    ended: Option<(u32, WorkflowState, String)>,
}

impl World {
    fn new(definition: Definition) -> World {
        let mut world = World {
            script: Script::made(creation(definition)),
            machines: BTreeMap::new(),
            children: BTreeMap::new(),
            dispatched: BTreeSet::new(),
            boots: 0,
            is_carrying: false,
            ended: None,
        };
        for worker in WORKERS {
            world.attach(worker, true);
        }
        world.carry_out();
        world
    }

    fn decide(&mut self, command: &Command) {
        let before = self.script.state().head.state;
        if let Ok(events) = self.script.decide(command) {
            for event in &events {
                if let EventKind::Dispatched { attempt, .. } = &event.kind {
                    assert!(
                        self.dispatched.insert(attempt.clone()),
                        "{attempt} handed out twice"
                    );
                }
                let late = matches!(event.kind, EventKind::Late { .. } | EventKind::RunOpened { .. });
                let opened = matches!(events[0].kind, EventKind::RunOpened { .. });
                assert!(!before.is_final() || late || opened, "{event:?} after the end");
            }
        }
        let head = &self.script.state().head;
        match &self.ended {
            Some(ended) if ended.0 == head.run => {
                assert_eq!(*ended, (head.run, head.state, head.message.clone()));
            }
            _ if head.state.is_final() => {
                self.ended = Some((head.run, head.state, head.message.clone()));
            }
            _ => {}
        }
        self.carry_out();
        check(self.script.state());
    }

    /// Effects are taken in their order, those that they lead to after them.
    fn carry_out(&mut self) {
        if std::mem::replace(&mut self.is_carrying, true) {
            return;
        }
        while !self.script.effects.is_empty() {
            let effect = self.script.effects.remove(0);
            let text = serde_json::to_string(&effect).unwrap();
            assert_eq!(serde_json::from_str::<Effect>(&text).unwrap(), effect);
            match effect {
                Effect::Claim { worker, root } => self.machine(&worker).claim(&root),
                Effect::Release { worker, root } => self.machine(&worker).release(&root),
                Effect::ReleaseMany { workers, root } => {
                    for worker in workers {
                        self.machine(&worker).release(&root);
                    }
                }
                Effect::Want {
                    worker,
                    root,
                    workflow,
                    execution,
                } => self.machine(&worker).want(&root, &workflow, execution),
                Effect::Unwant {
                    worker,
                    workflow,
                    execution,
                } => self.machine(&worker).unwant(&workflow, execution),
                Effect::Stop {
                    worker,
                    attempt,
                    reason,
                } => {
                    assert!(self.machine(&worker).stop(&attempt, &reason));
                }
                Effect::SkippedMany { workers, root } => {
                    for worker in workers {
                        self.machine(&worker).disks.skipped(&root);
                    }
                }
                Effect::Skipped { worker, root } => self.machine(&worker).disks.skipped(&root),
                Effect::Ask {
                    task,
                    instance,
                    selector,
                    ..
                } => {
                    let machines = WORKERS
                        .iter()
                        .map(|worker| ((*worker).to_owned(), json!({"mac": worker})));
                    self.decide(&Command::Answer {
                        unknown: vec![],
                        task,
                        instance,
                        selector,
                        machines: machines.collect(),
                    });
                }
                Effect::StartChild { id, parent, .. } => {
                    self.children.insert(id, (parent.execution, 1, true));
                }
                Effect::RetryChild { id, .. } => {
                    let child = self.children.get_mut(&id).unwrap();
                    (child.1, child.2) = (child.1 + 1, true);
                }
                Effect::CancelChild { id, .. } => {
                    self.end_child(&id, WorkflowState::Cancelled);
                }
                Effect::PauseChild { .. } | Effect::UnpauseChild { .. } => {}
                Effect::EndChild { .. } => panic!("a root has no parent"),
            }
        }
        self.is_carrying = false;
    }

    fn machine(&mut self, worker: &str) -> &mut Machine {
        self.machines.entry(worker.to_owned()).or_default()
    }

    fn end_child(&mut self, id: &str, state: WorkflowState) {
        let Some((execution, run, open)) = self.children.get_mut(id) else {
            return;
        };
        if !std::mem::take(open) {
            return;
        }
        let command = Command::ChildEnded {
            execution: *execution,
            child: id.to_owned(),
            run: Some(*run),
            state,
            message: String::new(),
            outputs: Default::default(),
            workers: vec!["c".into()],
        };
        self.machine("c").claim("w");
        self.decide(&command);
        // A second delivery says nothing.
        let events = self.script.events.len();
        self.decide(&command);
        assert_eq!(self.script.events.len(), events);
    }

    fn attach(&mut self, worker: &str, other_boot: bool) {
        self.boots += u32::from(other_boot);
        let machine = self.machines.entry(worker.to_owned()).or_default();
        let boot_id = match other_boot {
            true => format!("boot{}", self.boots),
            false => machine.boot_id.clone(),
        };
        let command = match machine.attach(&boot_id) {
            Attached::Unchanged | Attached::FenceDown => return,
            Attached::Returned(attempt) => Command::Returned { attempt, boot_id },
            Attached::OtherBoot(attempt) => Command::Lost {
                attempt,
                why: Loss::OtherBoot { boot_id },
            },
        };
        self.decide(&command);
    }

    /// One thing that a machine does; what, says `pick`. False: there is nothing for it to do.
    fn work(&mut self, worker: &str, pick: u8) -> bool {
        let machine = self.machine(worker).clone();
        let Some(current) = machine.current else {
            if machine.leaving {
                self.attach(worker, true);
                return true;
            }
            let Some(want) = machine.next().cloned() else {
                return false;
            };
            let command = Command::Dispatch {
                execution: want.execution,
                worker: worker.to_owned(),
                boot_id: machine.boot_id.clone(),
                epoch: machine.epoch,
            };
            match self.script.decide(&command) {
                Ok(events) => {
                    let attempt = events[0].kind.attempt().unwrap().clone();
                    assert!(engine::dispatch(self.script.state(), &attempt).is_some());
                    assert!(
                        self.dispatched.insert(attempt.clone()),
                        "{attempt} handed out twice"
                    );
                    self.machine(worker).dispatched("w", attempt);
                    self.carry_out();
                }
                Err(refusal) => {
                    assert!(matches!(refusal, engine::Refusal::NotReady { .. }), "{refusal}");
                    self.machine(worker).unwant("w", want.execution);
                }
            }
            return true;
        };
        if current.leaving || current.lost {
            self.attach(worker, true);
            return true;
        }
        let said = match pick % 16 {
            _ if current.stop.is_some() => outcome("stopped"),
            0 => outcome("started"),
            1 | 2 => outcome("failed"),
            3 => outcome("timed_out"),
            4 => outcome("leaving"),
            5 => outcome("stopped"),
            6 => {
                self.attach(worker, true);
                return true;
            }
            7 => {
                self.machine(worker).lost(&current.attempt);
                self.decide(&Command::Lost {
                    attempt: current.attempt,
                    why: Loss::Silence { for_ms: 300_000 },
                });
                return true;
            }
            _ => with_outputs(json!({"n": pick})),
        };
        let name = said.name();
        let attempt = current.attempt.clone();
        let command = Command::Report {
            attempt: attempt.clone(),
            outcome: said,
        };
        self.decide(&command);
        match name {
            "started" => {}
            "leaving" => {
                let done = self
                    .script
                    .state()
                    .execution(attempt.execution)
                    .is_none_or(|execution| !execution.actions[attempt.action].is_under_way());
                self.machine(worker).left(&attempt, done);
            }
            _ => self.machine(worker).ended(&attempt),
        }
        // It is delivered at least once.
        let state = self.script.state().head.state;
        self.decide(&command);
        assert_eq!(self.script.state().head.state, state);
        true
    }

    fn waiting(&self, waiting: Waiting) -> Vec<engine::ExecutionId> {
        let executions = self.script.state().executions.values();
        executions
            .filter(|execution| execution.waiting == Some(waiting) && !execution.state.is_final())
            .map(|execution| execution.id)
            .collect()
    }

    fn approve(&mut self, pick: u8) {
        let waiting = self.waiting(Waiting::Approval);
        let Some(id) = waiting.get(usize::from(pick) % waiting.len().max(1)) else {
            return;
        };
        let task = &self.script.state().definition.tasks[id.task];
        let command = Command::Decide {
            task: task.name.clone(),
            item: task.for_each.as_ref().map(|_| id.item),
            approved: !pick.is_multiple_of(4),
            by: "ann".into(),
            groups: vec![],
            comment: String::new(),
        };
        self.decide(&command);
    }

    /// Somebody holds some task, or some item; where it cannot be held it is refused.
    fn hold(&mut self, pick: u8) {
        let pick = usize::from(pick);
        let tasks = &self.script.state().definition.tasks;
        let task = &tasks[pick % tasks.len()];
        let command = Command::PauseOne {
            task: task.name.clone(),
            item: task
                .for_each
                .as_ref()
                .and_then(|_| (!pick.is_multiple_of(4)).then_some(pick / 8 % 4)),
            by: "ann".into(),
            reason: String::new(),
        };
        self.decide(&command);
    }

    /// Nothing is held any more.
    fn let_go(&mut self) {
        let state = self.script.state().clone();
        for (index, (task, progress)) in state
            .definition
            .tasks
            .iter()
            .zip(state.head.tasks.iter())
            .enumerate()
        {
            let items = state.executions_of(index).filter(|one| one.pause.is_some());
            let items = items.map(|one| task.for_each.as_ref().map(|_| one.id.item));
            let ahead = progress.pauses.keys().map(|item| Some(*item));
            let whole = progress.pause.iter().map(|_| None);
            for item in items.chain(ahead).chain(whole) {
                self.decide(&Command::UnpauseOne {
                    task: task.name.clone(),
                    item,
                    by: "ann".into(),
                });
            }
        }
    }

    fn step(&mut self, what: u8, pick: u8) {
        match what % 32 {
            0..=17 => {
                self.work(WORKERS[usize::from(what) % 3], pick);
            }
            18..=20 => self.script.now += u64::from(pick) * 100,
            21 | 22 => self.decide(&Command::Timer),
            23 | 24 => self.approve(pick),
            25 | 26 => {
                let children: Vec<String> = self.children.keys().cloned().collect();
                if let Some(id) = children.get(usize::from(pick) % children.len().max(1)) {
                    let state = [
                        WorkflowState::Success,
                        WorkflowState::Failed,
                        WorkflowState::Timeout,
                    ];
                    self.end_child(id, state[usize::from(pick) % 3]);
                }
            }
            27 => self.attach(WORKERS[usize::from(pick) % 3], pick.is_multiple_of(2)),
            28 => self.decide(&self.script.command("pause")),
            29 => self.decide(&self.script.command("unpause")),
            30 if pick >= 128 => self.hold(pick),
            30 if pick < 32 => self.decide(&self.script.command("cancel")),
            31 if pick >= 192 => self.let_go(),
            31 if pick < 128 => self.decide(&self.script.command("retry")),
            _ => self.decide(&Command::Continue),
        }
    }

    /// With live agents, no pending approvals and no pause it ends.
    fn finish(&mut self) {
        for _ in 0..20_000 {
            if self.script.state().head.state.is_final() {
                return;
            }
            self.decide(&self.script.command("unpause"));
            self.let_go();
            let workers: Vec<String> = self.machines.keys().cloned().collect();
            let mut worked = false;
            for worker in workers {
                if self.machine(&worker).boot_id.is_empty() {
                    self.attach(&worker, true);
                }
                worked |= self.work(&worker, 15);
            }
            self.approve(1);
            let children: Vec<String> = self.children.keys().cloned().collect();
            for id in children {
                self.end_child(&id, WorkflowState::Success);
            }
            if let Some(due) = engine::next_due(self.script.state()).filter(|_| !worked) {
                self.script.now = self.script.now.max(due);
                self.decide(&Command::Timer);
            }
        }
        panic!(
            "it does not end: {:#?}",
            engine::explain(self.script.state(), None, self.script.now)
        );
    }
}

fn check(state: &Workflow) {
    let head = &state.head;
    let under_way = |execution: &engine::Execution| execution.under_way().is_some();
    let mut busy = BTreeSet::new();
    for execution in state.executions.values().filter(|execution| under_way(execution)) {
        assert!(
            busy.insert(&execution.worker),
            "two attempts on {}",
            execution.worker
        );
        assert!(execution.waiting.is_none());
    }
    assert!(busy.is_empty() || !head.state.is_final());
    let open = state
        .executions
        .values()
        .filter(|execution| !execution.state.is_final())
        .count();
    assert!(
        open == 0 || !head.state.is_final(),
        "{open} executions outlive the workflow"
    );
    assert!(!head.state.is_final() || head.tasks.iter().all(|task| task.state.is_final()));
    let stopping = matches!(head.state, WorkflowState::Ending | WorkflowState::Cancelling);
    assert_eq!(head.ending.is_some(), stopping);
    let paused = matches!(head.state, WorkflowState::Pausing | WorkflowState::Paused);
    assert_eq!(head.paused_at.is_some(), paused);
    assert!(head.state != WorkflowState::Paused || busy.is_empty());
    for task in &head.tasks {
        assert!(
            task.ended <= task.made && task.made <= task.items && task.failed + task.skipped <= task.ended
        );
    }
    if stopping || paused || head.state.is_final() {
        assert!(engine::next_due(state).is_none());
    }
    let _ = engine::explain(state, None, head.last_at);
}

/// Every part as it is stored.
fn stored(state: &Workflow) -> Vec<Vec<u8>> {
    let mut parts = vec![
        serde_json::to_vec(&state.head).unwrap(),
        serde_json::to_vec(&*state.definition).unwrap(),
    ];
    parts.extend(
        state
            .executions
            .values()
            .map(|execution| serde_json::to_vec(&**execution).unwrap()),
    );
    parts.extend(
        state
            .items
            .values()
            .map(|items| serde_json::to_vec(&**items).unwrap()),
    );
    parts
}

fn through_json(event: &Event) -> Event {
    serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_workflow_keeps_the_rules_and_ends(
        definition in any_definition(),
        steps in prop::collection::vec(any::<(u8, u8)>(), 0..120),
    ) {
        let mut world = World::new(definition);
        for (what, pick) in steps {
            world.step(what, pick);
        }
        world.finish();
        // Nothing of it is left on a machine but fences.
        for (worker, machine) in &world.machines {
            prop_assert!(machine.claims.is_empty() && machine.wants.is_empty(), "{worker}: {machine:?} {:#?}", world.script.events.iter().map(|e| format!("{} {:?} {}", e.kind.name(), e.kind.execution(), e.kind)).collect::<Vec<_>>());
        }
        let numbers: Vec<u64> = world.script.events.iter().map(|event| event.number).collect();
        prop_assert_eq!(numbers, (1..=world.script.events.len() as u64).collect::<Vec<_>>());
        let stamps = world.script.events.windows(2);
        prop_assert!(stamps.into_iter().all(|pair| (pair[0].at, pair[0].tick) < (pair[1].at, pair[1].tick)));
        let again: Vec<Event> = world.script.events.iter().map(through_json).collect();
        let replayed = engine::replay(&again).unwrap();
        prop_assert_eq!(stored(&replayed), stored(world.script.state()));
        let head: engine::Head = serde_json::from_slice(&stored(&replayed)[0]).unwrap();
        prop_assert_eq!(&head, &replayed.head);
    }

    #[test]
    fn any_command_in_any_state_is_answered(
        definition in any_definition(),
        steps in prop::collection::vec(any::<(u8, u8)>(), 0..40),
        wild in prop::collection::vec((0..24_u8, 0..4_usize, 0..3_u32, 0..3_usize, 0..4_usize, 0..4_u32), 0..40),
    ) {
        let mut world = World::new(definition);
        for (what, pick) in steps {
            world.step(what, pick);
        }
        let script = &mut world.script;
        for (what, task, instance, item, action, attempt) in wild {
            let execution = engine::ExecutionId { task, instance, item };
            let attempt = AttemptId { workflow: "w".into(), execution, action, attempt };
            let words = ["started", "succeeded", "failed", "timed_out", "leaving", "stopped"];
            let command = match what {
                0..=5 => Command::Report { attempt, outcome: outcome(words[usize::from(what)]) },
                6 => Command::Returned { attempt, boot_id: "boot7".into() },
                7 => Command::Lost { attempt, why: Loss::Forgotten },
                8 => Command::Dispatch { execution, worker: WORKERS[item].into(), boot_id: "boot7".into(), epoch: 1 },
                9 => Command::ChildEnded {
                    execution, child: "x".into(), run: None, state: WorkflowState::Running,
                    message: String::new(), outputs: Default::default(), workers: vec![],
                },
                16 => Command::NoAnswer {
                    task, instance, selector: "true".into(), machine: "m".into(), why: String::new(),
                },
                10 => Command::Answer { unknown: vec![], task, instance, selector: "true".into(), machines: vec![] },
                11 => Command::Decide {
                    task: format!("t{task}"), item: (item > 0).then_some(item), approved: true,
                    by: "x".into(), groups: vec![], comment: String::new(),
                },
                12 => Command::RetryChild { by: "x".into() },
                17 | 18 => Command::Skip {
                    task: format!("t{task}"), item: (what == 17).then_some(item), by: "x".into(), reason: String::new(),
                },
                22 | 23 => Command::RetryOne {
                    task: format!("t{task}"), item: (what == 22).then_some(item), by: "x".into(),
                },
                19 | 20 => Command::PauseOne {
                    task: format!("t{task}"), item: (what == 19).then_some(item), by: "x".into(), reason: String::new(),
                },
                21 => Command::UnpauseOne { task: format!("t{task}"), item: (item > 0).then_some(item), by: "x".into() },
                13 => script.command("deadlock"),
                14 => Command::Timer,
                _ => Command::Continue,
            };
            let before = script.state().clone();
            if script.decide(&command).is_err() {
                prop_assert_eq!(&before, script.state());
            }
            prop_assert_eq!(script.state().head.last_event, script.events.len() as u64);
        }
    }

    #[test]
    fn events_in_any_order_never_panic(
        definition in any_definition(),
        steps in prop::collection::vec(any::<(u8, u8)>(), 0..60),
        order in prop::collection::vec((any::<prop::sample::Index>(), 0..60_u64), 1..80),
    ) {
        let mut world = World::new(definition);
        for (what, pick) in steps {
            world.step(what, pick);
        }
        let mut state: Option<Workflow> = None;
        for (at, number) in order {
            let mut event = at.get(&world.script.events).clone();
            event.number = match number % 3 {
                0 => event.number,
                1 => number,
                _ => state.as_ref().map_or(1, |state| state.head.last_event + 1),
            };
            let before = state.clone();
            state = engine::apply(state, &event);
            if let (Some(before), Some(after)) = (before, &state) {
                prop_assert!(after.head.last_event == event.number || *after == before);
                prop_assert!(after.head.last_event == before.head.last_event + 1 || *after == before);
            }
        }
    }
}

#[test]
fn a_history_with_a_hole_is_refused() {
    let mut script = Script::new(script::two_tasks());
    script.run("dispatch 0/1/0 a boot1; report w/0/1/0/0/1 started; report w/0/1/0/0/1 succeeded");
    let mut events = script.events.clone();
    events.remove(1);
    let error = engine::replay(&events).unwrap_err();
    assert_eq!(
        error.to_string(),
        "event 3 (execution_made) does not follow event 1"
    );
    assert_eq!(
        engine::replay(&events[1..]).unwrap_err().to_string(),
        "event 3 (execution_made) does not follow event 0"
    );
    assert_eq!(
        engine::replay(&[]).unwrap_err().to_string(),
        "a workflow's history is empty"
    );
}
