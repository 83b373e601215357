//! A rollout over a rack that somebody pauses, resumes or cancels in the middle of a wave, as the machines and the person
//! see it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use proto::v1::{
    ExplainWorkflowRequest, Hello, ListMachinesRequest, Report, TaskState, WorkflowEvent, report,
};
use server::Config;
use tempfile::TempDir;

use crate::harness::*;

const MACHINES: usize = 30;
/// Why a machine whose turn in the rollout has not come has nothing to do: nothing holds it before that.
const NOT_YET: &str = "no workflow for this machine";

/// Items 0 to 3, then 4 to 15, then what is left.
const ROLLOUT: &str = r#"
version: "1"
name: rollout
tasks:
  - name: update
    worker: "${{ item.mac }}"
    forEach: machines("rack == 'r7'")
    waves: [4, 16]
    maxParallel: 6
    maxFailures: 2
    actions:
      - {name: write, image: cexec}
      - {name: check, image: cexec}
"#;

/// For every machine that the rollout is for.
const AFTERWARDS: &str = r#"
version: "1"
name: afterwards
tasks:
  - name: look
    worker: "${{ item.mac }}"
    forEach: machines("rack == 'r7'")
    actions: [{name: look, image: cexec}]
"#;

/// A rack whose machines do what a test says, and a rollout over it.
struct Rack {
    server: Server,
    dir: TempDir,
    id: String,
    /// Those that are attached, by the numbers of their machines, which are their items.
    agents: BTreeMap<usize, Agent>,
    /// Attempts that each machine was handed, in order.
    handed: Vec<Vec<String>>,
}

fn hello_of(number: usize) -> Hello {
    Hello {
        mac: format!("52:54:00:77:01:{number:02x}"),
        ..hello("k1")
    }
}

impl Rack {
    /// The rollout is made, and every agent but those of `absent` is attached.
    async fn new(absent: &[usize]) -> Self {
        let dir = TempDir::new().expect("directory");
        let server = Server::start(&dir, Config::default()).await;
        // Names in the order of the numbers: that is the order of the items.
        let record = |number: usize| {
            let mac = hello_of(number).mac;
            format!("machine: n{number:02}\nmac: {mac}\nlabels: {{rack: r7}}\n")
        };
        let other = "machine: other\nmac: 52:54:00:77:02:00\nlabels: {rack: r8}\n".to_owned();
        let records: Vec<String> = (0..MACHINES).map(record).chain([other]).collect();
        server.apply(&records.join("---\n")).await.expect("machines");
        let id = server.create_of(ROLLOUT).await.id;
        let mut agents = BTreeMap::new();
        for number in (0..MACHINES).filter(|number| !absent.contains(number)) {
            let agent = server.attach(hello_of(number)).await.expect("attach");
            agents.insert(number, agent);
        }
        Self {
            server,
            dir,
            id,
            agents,
            handed: vec![Vec::new(); MACHINES],
        }
    }

    fn agent(&mut self, number: usize) -> &mut Agent {
        self.agents.get_mut(&number).expect("it is attached")
    }

    /// The attempt that the machine was handed last.
    fn attempt(&self, number: usize) -> String {
        self.handed[number]
            .last()
            .expect("it was handed something")
            .clone()
    }

    /// The machine is handed this action, and runs it.
    async fn begins(&mut self, number: usize, action: &str) {
        let run = self.agent(number).run().await;
        assert_eq!(
            (&run.workflow_id, run.action.as_str()),
            (&self.id, action),
            "machine {number}"
        );
        self.agent(number).report(&run.attempt_id, started()).await;
        self.agent(number).acknowledged().await;
        self.handed[number].push(run.attempt_id);
    }

    async fn ends(&mut self, number: usize, outcome: report::Outcome) {
        let attempt = self.attempt(number);
        self.agent(number).report(&attempt, outcome).await;
    }

    /// What runs on the machine ends, and nothing follows.
    async fn ends_with_nothing_after_it(&mut self, number: usize, outcome: report::Outcome) {
        self.ends(number, outcome).await;
        self.agent(number).acknowledged().await;
        self.agent(number).idle().await;
    }

    /// Its second action, to success.
    async fn goes_on_to_its_end(&mut self, number: usize) {
        self.begins(number, "check").await;
        self.ends(number, succeeded()).await;
    }

    async fn is_updated(&mut self, number: usize) {
        self.begins(number, "write").await;
        self.ends(number, succeeded()).await;
        self.goes_on_to_its_end(number).await;
    }

    /// These attach anew, and are told why there is nothing for them: an action would come instead.
    async fn have_nothing_to_do(&mut self, numbers: Range<usize>, why: &str) {
        for number in numbers {
            let sequence = self.agents.get(&number).map_or(0, |agent| agent.sequence);
            let mut agent = self.server.attach(hello_of(number)).await.expect("attach");
            agent.sequence = sequence;
            let reason = agent.idle().await;
            assert!(reason.contains(why), "machine {number}: {reason}");
            self.agents.insert(number, agent);
        }
    }

    /// The server stops and comes back. Meanwhile the attempts of some machines have ended: those reports are owed.
    async fn restart(self, mut ended: BTreeMap<usize, report::Outcome>, running: &[usize]) -> Self {
        self.server.stop().await;
        let server = Server::start(&self.dir, Config::default()).await;
        let mut rack = Self { server, ..self };
        for number in 0..MACHINES {
            let mut again = hello_of(number);
            let sequence = rack.agent(number).sequence;
            if running.contains(&number) {
                again.running_attempt = rack.attempt(number);
            }
            let owed: Option<Report> = ended
                .remove(&number)
                .map(|outcome| report(sequence + 1, &rack.attempt(number), outcome));
            again.unacknowledged.extend(owed);
            let owes = !again.unacknowledged.is_empty();
            let mut agent = rack.server.attach(again).await.expect("attach");
            agent.sequence = agent.sequence.max(sequence);
            if owes {
                agent.acknowledged().await;
            }
            rack.agents.insert(number, agent);
        }
        rack
    }

    /// Waits until these are the machines that the rollout holds.
    async fn holds(&self, want: &[usize]) {
        let deadline = Instant::now() + WITHIN;
        loop {
            let mut client = self.server.client().await;
            let all = client.list_machines(ListMachinesRequest::default()).await;
            let all = all.expect("machines").into_inner().machines;
            let queues = (0..MACHINES).zip(all.iter().map(|machine| &machine.queue));
            let held: Vec<usize> = queues
                .filter(|(_, queue)| queue.contains(&self.id))
                .map(|(number, _)| number)
                .collect();
            if held == want {
                return;
            }
            assert!(Instant::now() < deadline, "it holds {held:?}, not {want:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn task(&self) -> TaskState {
        self.server.workflow(&self.id).await.tasks.remove(0)
    }

    async fn explained(&self) -> String {
        let request = ExplainWorkflowRequest {
            id: self.id.clone(),
            task: String::new(),
        };
        let explained = self.server.client().await.explain_workflow(request).await;
        explained.expect("explained").into_inner().lines.join("\n")
    }

    /// Whoever is named was handed the first action only, all others both, and everybody each of them once: so the machines
    /// say, and so the events.
    fn all_ran_once(&self, events: &[WorkflowEvent], first_only: &[usize]) {
        for (number, handed) in self.handed.iter().enumerate() {
            let actions = if first_only.contains(&number) { 1 } else { 2 };
            let want: Vec<String> = (0..actions)
                .map(|action| format!("{}/0/1/{number}/{action}/1", self.id))
                .collect();
            assert_eq!(*handed, want);
        }
        let dispatched: Vec<(&str, &str)> = of_kind(events, "dispatched")
            .map(|event| (event.execution.as_str(), event.action.as_str()))
            .collect();
        let once: BTreeSet<_> = dispatched.iter().collect();
        assert_eq!(dispatched.len(), once.len(), "{dispatched:?}");
        assert_eq!(dispatched.len(), self.handed.iter().map(Vec::len).sum::<usize>());
    }
}

fn of_kind<'e>(events: &'e [WorkflowEvent], kind: &str) -> impl Iterator<Item = &'e WorkflowEvent> {
    events.iter().filter(move |event| event.kind == kind)
}

/// Nothing begins from an event of this kind to the next of that.
#[track_caller]
fn nothing_begins(events: &[WorkflowEvent], from: &str, to: &str) {
    let mut stands_still = false;
    for event in events {
        stands_still = (stands_still || event.kind == from) && event.kind != to;
        let begins = ["task_started", "execution_made", "dispatched", "wave_opened"];
        assert!(
            !stands_still || !begins.contains(&event.kind.as_str()),
            "{event:?}"
        );
    }
}

/// How many items of the wave before were over when each wave was opened.
fn over_before_each_wave(events: &[WorkflowEvent]) -> Vec<usize> {
    let mut over = 0;
    let mut before = Vec::new();
    for event in events {
        match event.kind.as_str() {
            "execution_ended" => over += 1,
            "wave_opened" => before.push(over),
            _ => {}
        }
    }
    before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_in_a_wave_lets_end_what_runs_and_a_resume_goes_on_with_what_is_left() {
    let mut rack = Rack::new(&[]).await;
    for number in 0..5 {
        rack.is_updated(number).await;
    }
    // The budget is two.
    rack.begins(5, "write").await;
    rack.ends(5, failed()).await;
    for number in 6..12 {
        rack.begins(number, "write").await;
    }
    rack.ends(6, succeeded()).await;
    rack.begins(6, "check").await;

    let paused = rack.server.pause(&rack.id, "power work").await.expect("paused");
    assert_eq!(paused.state, "PAUSING");
    // The last action of one, with room for the next machine; the first of two; the last failure that is borne.
    rack.ends_with_nothing_after_it(6, succeeded()).await;
    rack.ends_with_nothing_after_it(7, succeeded()).await;
    rack.ends_with_nothing_after_it(8, failed()).await;
    rack.ends_with_nothing_after_it(9, succeeded()).await;
    rack.have_nothing_to_do(12..MACHINES, NOT_YET).await;
    rack.ends_with_nothing_after_it(10, succeeded()).await;
    assert_eq!(rack.server.workflow(&rack.id).await.state, "PAUSING");
    rack.ends_with_nothing_after_it(11, succeeded()).await;
    let paused = rack.server.reaches(&rack.id, "PAUSED").await;
    assert!(paused.paused_at.is_some());
    let task = &paused.tasks[0];
    assert_eq!(
        (task.made, task.ended, task.failed, task.wave),
        (12, 8, 2, 1),
        "{task:?}"
    );
    let explained = rack.explained().await;
    assert!(
        explained.contains("is PAUSED") && explained.contains("8 of 30 items are over"),
        "{explained}"
    );
    // Those that are done with it are given back in the pause, too.
    rack.holds(&[7, 9, 10, 11]).await;
    rack.have_nothing_to_do(9..12, "is PAUSED").await;
    rack.have_nothing_to_do(12..MACHINES, NOT_YET).await;
    let events = rack.server.history(&rack.id).await;
    let asked = of_kind(&events, "pause_asked").next().expect("the pause");
    assert!(
        asked.message.contains("asked by admin") && asked.message.contains("power work"),
        "{asked:?}"
    );

    let resumed = rack.server.resume(&rack.id).await.expect("resumed");
    assert_eq!((resumed.state.as_str(), resumed.paused_at), ("RUNNING", None));
    for number in [7, 9, 10, 11] {
        rack.goes_on_to_its_end(number).await;
    }
    for number in 12..15 {
        rack.is_updated(number).await;
    }
    rack.begins(15, "write").await;
    rack.ends(15, succeeded()).await;
    rack.begins(15, "check").await;
    // The wave is over in a pause: the next has to wait for the end of that, too.
    rack.server.pause(&rack.id, "").await.expect("paused");
    rack.ends_with_nothing_after_it(15, succeeded()).await;
    rack.server.reaches(&rack.id, "PAUSED").await;
    rack.have_nothing_to_do(16..MACHINES, NOT_YET).await;
    assert_eq!(rack.task().await.wave, 1);
    rack.server.resume(&rack.id).await.expect("resumed");
    let last = MACHINES - 1;
    for number in 16..last {
        rack.is_updated(number).await;
    }
    rack.begins(last, "write").await;
    rack.ends(last, succeeded()).await;
    rack.begins(last, "check").await;
    // So has the end of the workflow.
    rack.server.pause(&rack.id, "").await.expect("paused");
    rack.ends_with_nothing_after_it(last, succeeded()).await;
    let paused = rack.server.reaches(&rack.id, "PAUSED").await;
    assert_eq!(paused.tasks[0].ended, 30);
    rack.server.resume(&rack.id).await.expect("resumed");
    let done = rack.server.reaches(&rack.id, "SUCCESS").await;
    let task = &done.tasks[0];
    assert_eq!((task.items, task.ended, task.failed), (30, 30, 2));
    let events = rack.server.history(&rack.id).await;
    rack.all_ran_once(&events, &[5, 8]);
    nothing_begins(&events, "pause_asked", "unpaused");
    assert_eq!(over_before_each_wave(&events), [4, 16]);
    for kind in ["pause_asked", "paused", "unpaused"] {
        assert_eq!(of_kind(&events, kind).count(), 3, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_in_a_wave_outlives_servers_and_reports_that_were_owed_count_in_it() {
    let mut rack = Rack::new(&[]).await;
    for number in 0..4 {
        rack.is_updated(number).await;
    }
    for number in 4..10 {
        rack.begins(number, "write").await;
    }
    rack.server.pause(&rack.id, "a new server").await.expect("paused");
    rack.ends_with_nothing_after_it(4, succeeded()).await;

    let owed = BTreeMap::from([(5, succeeded()), (6, failed())]);
    let mut rack = rack.restart(owed, &[7, 8, 9]).await;
    assert_eq!(rack.server.workflow(&rack.id).await.state, "PAUSING");
    for number in [4, 5, 6] {
        rack.agent(number).idle().await;
    }
    rack.have_nothing_to_do(10..MACHINES, NOT_YET).await;
    for number in 7..10 {
        rack.ends_with_nothing_after_it(number, succeeded()).await;
    }
    let paused = rack.server.reaches(&rack.id, "PAUSED").await;

    let mut rack = rack.restart(BTreeMap::new(), &[]).await;
    let after = rack.server.workflow(&rack.id).await;
    assert_eq!(format!("{after:?}"), format!("{paused:?}"));
    rack.have_nothing_to_do(7..10, "is PAUSED").await;
    rack.have_nothing_to_do(10..MACHINES, NOT_YET).await;
    let resumed = rack.server.resume(&rack.id).await.expect("resumed");
    assert_eq!(resumed.state, "RUNNING");
    for number in [4, 5, 7, 8, 9] {
        rack.goes_on_to_its_end(number).await;
    }
    for number in 10..MACHINES {
        rack.is_updated(number).await;
    }
    let done = rack.server.reaches(&rack.id, "SUCCESS").await;
    assert_eq!((done.tasks[0].ended, done.tasks[0].failed), (30, 1));
    let events = rack.server.history(&rack.id).await;
    rack.all_ran_once(&events, &[6]);
    nothing_begins(&events, "pause_asked", "unpaused");
    assert_eq!(over_before_each_wave(&events), [4, 16]);
    rack.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_in_a_wave_stops_what_runs_begins_nothing_and_gives_every_machine_back() {
    // One of the wave is out of reach, so its first action waits for it.
    let absent = 9;
    let mut rack = Rack::new(&[absent]).await;
    for number in 0..5 {
        rack.is_updated(number).await;
    }
    for number in [5, 6, 7, 8, 10] {
        rack.begins(number, "write").await;
    }
    rack.ends(5, succeeded()).await;
    rack.begins(5, "check").await;

    let cancelled = rack
        .server
        .cancel(&rack.id, "the wrong image")
        .await
        .expect("cancelled");
    assert_eq!(cancelled.state, "CANCELLING");
    for number in [5, 6, 7, 8, 10] {
        let attempt = rack.attempt(number);
        let stop = rack.agent(number).stop().await;
        assert_eq!(stop.attempt_id, attempt);
        assert!(stop.reason.contains("the wrong image"), "{stop:?}");
    }
    for number in [5, 6, 8] {
        rack.ends(number, stopped("SIGTERM")).await;
        rack.agent(number).acknowledged().await;
    }
    // It had ended by itself when it was told.
    rack.ends(7, succeeded()).await;
    rack.agent(7).acknowledged().await;
    rack.have_nothing_to_do(11..MACHINES, NOT_YET).await;
    let explained = rack.explained().await;
    assert!(
        explained.contains("is CANCELLING") && explained.contains("the wrong image"),
        "{explained}"
    );
    rack.ends(10, stopped("SIGKILL")).await;
    rack.agent(10).acknowledged().await;

    let cancelled = rack.server.reaches(&rack.id, "CANCELLED").await;
    assert!(
        cancelled.message.contains("the wrong image"),
        "{}",
        cancelled.message
    );
    let task = &cancelled.tasks[0];
    assert_eq!(
        (task.state.as_str(), task.made, task.ended),
        ("CANCELLED", 11, 11),
        "{task:?}"
    );
    let states: Vec<&str> = task
        .executions
        .iter()
        .map(|execution| execution.state.as_str())
        .collect();
    assert_eq!(states, [["SUCCESS"; 5].as_slice(), &["CANCELLED"; 6]].concat());
    let explained = rack.explained().await;
    assert!(
        explained.contains("is CANCELLED") && explained.contains("the wrong image"),
        "{explained}"
    );
    let events = rack.server.history(&rack.id).await;
    nothing_begins(&events, "stopping", "ended");
    let stopping = of_kind(&events, "stopping").next().expect("the cancel");
    assert!(stopping.message.contains("the wrong image"), "{stopping:?}");
    assert_eq!(events.last().map(|event| event.kind.as_str()), Some("ended"));
    rack.holds(&[]).await;
    rack.have_nothing_to_do(0..MACHINES, "").await;

    let next = rack.server.create_of(AFTERWARDS).await.id;
    for number in 0..MACHINES {
        let agent = rack.agent(number);
        let run = agent.run().await;
        assert_eq!(run.workflow_id, next, "machine {number}");
        agent.report(&run.attempt_id, succeeded()).await;
    }
    rack.server.reaches(&next, "SUCCESS").await;
    assert_eq!(
        rack.server.history(&rack.id).await,
        events,
        "what has ended stays as it is"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_is_held_between_its_actions_and_others_before_their_turn() {
    let mut rack = Rack::new(&[]).await;
    let id = rack.id.clone();
    rack.begins(0, "write").await;
    let held = rack.server.pause_task(&id, "update[0]", "look first").await;
    let said = held.expect("paused").tasks[0].executions[0].pause.clone();
    let said = said.expect("held");
    assert_eq!((said.by.as_str(), said.reason.as_str()), ("admin", "look first"));
    assert!(said.since.is_some());
    rack.ends_with_nothing_after_it(0, succeeded()).await;
    rack.server
        .pause_task(&id, "update[7]", "")
        .await
        .expect("paused");
    rack.server
        .skip(&id, "update[8]", "dead fan")
        .await
        .expect("skipped");
    let task = rack.task().await;
    let ahead: Vec<(u64, Option<&str>)> = task
        .ahead
        .iter()
        .map(|ahead| (ahead.item, ahead.skip.as_ref().map(|said| said.reason.as_str())))
        .collect();
    assert_eq!(ahead, [(7, None), (8, Some("dead fan"))]);
    assert!(task.ahead[0].pause.is_some());
    let explained = rack.explained().await;
    let words = "does not begin action \"check\" on 52:54:00:77:01:00; paused by admin: look first";
    assert!(explained.contains(words), "{explained}");
    let resumed = rack.server.resume_task(&id, "update[0]").await.expect("resumed");
    assert_eq!(resumed.tasks[0].executions[0].pause, None);
    rack.goes_on_to_its_end(0).await;
    let unknown = rack.server.resume_task(&id, "updat").await;
    assert_eq!(unknown.expect_err("there is none").code(), tonic::Code::NotFound);
    let twice = rack.server.resume_task(&id, "update[7]").await.map(|_| ());
    twice.expect("it was held before its turn");
    let twice = rack.server.resume_task(&id, "update[7]").await;
    assert_eq!(
        twice.expect_err("it is not held").code(),
        tonic::Code::FailedPrecondition
    );
}
