//! What a machine boots: by what was written to its disk, not by the workflow that ended last.

use coordinator::netboot::Next;
use proto::v1::Failed;
use proto::v1::report::Outcome;

use crate::harness::*;

const WRITES: &str = "version: \"1\"\nname: writes\ntasks:\n  - name: t\n    worker: \"52:54:00:77:00:0b\"\n    actions:\n      \
    - {name: write, image: quay.io/tinkerbell/actions/image2disk, environment: {DEST_DISK: /dev/vda}}\n";

fn of(image: &str) -> String {
    format!(
        "version: \"1\"\nname: one\ntasks:\n  - name: t\n    worker: \"52:54:00:77:00:0b\"\n    actions:\n      - {{name: a, image: {image}}}\n"
    )
}

async fn boots(server: &Server) -> (Next, String) {
    let mac = MAC.parse().expect("MAC");
    server.control.boots_next(mac).await.expect("known")
}

/// Runs a workflow of one action, which ends like this.
async fn run(server: &Server, agent: &mut Agent, text: &str, outcome: Outcome, state: &str) -> String {
    let id = server.create_of(text).await.id;
    let run = agent.run().await;
    assert_eq!(run.workflow_id, id);
    agent.report(&run.attempt_id, started()).await;
    agent.report(&run.attempt_id, outcome).await;
    server.reaches(&id, state).await;
    id
}

fn untouched() -> Outcome {
    Outcome::Failed(Failed {
        reason: "UnknownImage".into(),
        message: "image rebot is not built into this agent".into(),
        exit_code: 0,
        disks_untouched: true,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_disk_is_held_until_it_is_written_whole() {
    let (server, _dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let first = run(&server, &mut agent, WRITES, failed(), "FAILED").await;
    let held = format!(
        "workflow {first} is FAILED and may have left /dev/vda half written; `farrier machine boot node1 disk` boots it \
         all the same"
    );
    assert_eq!(boots(&server).await, (Next::Agent, held.clone()));
    // A success that writes nothing, and a mistyped one.
    run(&server, &mut agent, &of("writefile"), succeeded(), "SUCCESS").await;
    assert_eq!(boots(&server).await, (Next::Agent, held.clone()));
    run(&server, &mut agent, &of("rebot"), untouched(), "FAILED").await;
    assert_eq!(boots(&server).await, (Next::Agent, held));
    let second = run(&server, &mut agent, WRITES, succeeded(), "SUCCESS").await;
    let good = format!("workflow {second} has written its disk");
    assert_eq!(boots(&server).await, (Next::LocalDisk, good));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wrote_nothing_changes_nothing_of_a_good_disk() {
    let (server, _dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let id = run(&server, &mut agent, WRITES, succeeded(), "SUCCESS").await;
    let good = (Next::LocalDisk, format!("workflow {id} has written its disk"));
    assert_eq!(boots(&server).await, good);
    run(&server, &mut agent, &of("rebot"), untouched(), "FAILED").await;
    assert_eq!(boots(&server).await, good);
    // Refused before its first byte.
    run(&server, &mut agent, WRITES, untouched(), "FAILED").await;
    assert_eq!(boots(&server).await, good);
    // Nothing of it is handed out before somebody approves.
    let gate = "tasks:\n  - name: gate\n    approve: {message: wipe it?}\n";
    let cancelled = server.create_of(&WRITES.replace("tasks:\n", gate)).await.id;
    assert_eq!(boots(&server).await.0, Next::Agent);
    server.cancel(&cancelled, "a mistake").await.expect("cancelled");
    server.reaches(&cancelled, "CANCELLED").await;
    assert_eq!(boots(&server).await, good);
    let refused = server.boot_disk("node2").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_its_workflow_has_done_with_boots_its_disk_while_the_workflow_goes_on() {
    let (server, _dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let text = format!("{WRITES}  - name: gate\n    approve: {{message: go on?}}\n");
    let id = server.create_of(&text).await.id;
    let attempt = agent.run().await.attempt_id;
    let refused = server.boot_disk("node1").await.unwrap_err();
    assert!(
        refused
            .message()
            .contains(&format!("workflow {id}, which has not ended")),
        "{refused}"
    );
    agent.report(&attempt, succeeded()).await;
    let good = (Next::LocalDisk, format!("workflow {id} has written its disk"));
    server
        .until(&id, |workflow| workflow.tasks[0].state == "SUCCESS")
        .await;
    assert_eq!(boots(&server).await, good);
    assert_eq!(server.workflow(&id).await.state, "RUNNING");
    server.cancel(&id, "").await.expect("cancelled");
    server.reaches(&id, "CANCELLED").await;
    assert_eq!(boots(&server).await, good);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_skip_leaves_half_written_is_held_although_the_workflow_succeeds() {
    let (server, _dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let id = server.create_of(WRITES).await.id;
    let attempt = agent.run().await.attempt_id;
    agent.report(&attempt, started()).await;
    let unknown = server.skip(&id, "u", "").await.expect_err("there is none");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    assert_eq!(
        unknown.message(),
        format!("workflow {id} has no task \"u\"; it has t")
    );
    let asked = server.skip(&id, "t", "dead fan").await.expect("skipped");
    assert_eq!(asked.state, "RUNNING");
    let stop = agent.stop().await;
    assert_eq!(stop.attempt_id, attempt);
    agent.report(&attempt, stopped("")).await;
    let ended = server.reaches(&id, "SUCCESS").await;
    let execution = &ended.tasks[0].executions[0];
    assert_eq!(
        (execution.state.as_str(), execution.message.as_str()),
        ("SKIPPED", "admin skipped it: dead fan")
    );
    let held = format!(
        "workflow {id} is SUCCESS and may have left /dev/vda half written; `farrier machine boot node1 disk` boots it all \
         the same"
    );
    assert_eq!(boots(&server).await, (Next::Agent, held));
    let events = server.history(&id).await;
    let said = events
        .iter()
        .find(|event| event.kind == "skip_asked")
        .expect("an event");
    assert!(said.message.contains("dead fan"), "{}", said.message);
    let over = server.skip(&id, "t", "").await.expect_err("it has ended");
    assert_eq!(over.code(), tonic::Code::FailedPrecondition);
    // Written whole by another, it is good.
    let second = run(&server, &mut agent, WRITES, succeeded(), "SUCCESS").await;
    let good = format!("workflow {second} has written its disk");
    assert_eq!(boots(&server).await, (Next::LocalDisk, good));
}

/// Of one action that writes no disk, whose template says what the machine boots afterwards.
fn that_boots(what: &str) -> String {
    of("writefile").replace("tasks:", &format!("boots: {what}\ntasks:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_says_what_its_machine_boots_after_success() {
    let (server, _dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    let says = |id: &str, what: &str| {
        format!("workflow {id} has succeeded, and its template says that the machine boots {what}")
    };
    let by_hand = "; `farrier machine boot node1 disk` boots it all the same";
    // Nothing was installed: the agent comes again.
    let id = run(&server, &mut agent, &that_boots("agent"), succeeded(), "SUCCESS").await;
    let want = says(&id, "the agent") + by_hand;
    assert_eq!(boots(&server).await, (Next::Agent, want));
    // Also when an earlier one has installed something; and the other way round.
    let written = run(&server, &mut agent, WRITES, succeeded(), "SUCCESS").await;
    let good = format!("workflow {written} has written its disk");
    assert_eq!(boots(&server).await, (Next::LocalDisk, good.clone()));
    run(&server, &mut agent, &that_boots("agent"), succeeded(), "SUCCESS").await;
    assert_eq!(boots(&server).await.0, Next::Agent);
    let id = run(&server, &mut agent, &that_boots("local"), succeeded(), "SUCCESS").await;
    assert_eq!(boots(&server).await, (Next::LocalDisk, says(&id, "its disk")));
    // It counts after SUCCESS only.
    run(&server, &mut agent, &that_boots("agent"), failed(), "FAILED").await;
    assert_eq!(boots(&server).await.0, Next::LocalDisk);
    // A person has the last word.
    run(&server, &mut agent, &that_boots("agent"), succeeded(), "SUCCESS").await;
    assert_eq!(boots(&server).await.0, Next::Agent);
    server.boot_disk("node1").await.expect("done");
    assert_eq!(
        boots(&server).await,
        (Next::LocalDisk, "somebody said that its disk is good".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_template_says_counts_from_the_machine_s_part_on_until_it_is_needed_again() {
    let (server, _dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    run(&server, &mut agent, WRITES, succeeded(), "SUCCESS").await;
    let gate = "  - name: gate\n    approve: {message: go on?}\n";
    for (boots_then, next) in [("agent", Next::Agent), ("local", Next::LocalDisk)] {
        let id = server
            .create_of(&format!("{}{gate}", that_boots(boots_then)))
            .await
            .id;
        let attempt = agent.run().await.attempt_id;
        // What the one before said counts no more: this one needs the machine.
        let (needed, why) = boots(&server).await;
        assert!(needed == Next::Agent && why.contains(&id), "{boots_then}: {why}");
        agent.report(&attempt, succeeded()).await;
        server
            .until(&id, |workflow| workflow.tasks[0].state == "SUCCESS")
            .await;
        // Its part is done, and the workflow goes on elsewhere.
        let (done, why) = boots(&server).await;
        assert!(
            done == next && why.contains("its template says"),
            "{boots_then}: {done:?}, {why}"
        );
        assert_eq!(server.workflow(&id).await.state, "RUNNING");
        server.cancel(&id, "").await.expect("cancelled");
        server.reaches(&id, "CANCELLED").await;
    }
    // The last that succeeded says "local", and the next needs the agent all the same.
    let id = run(&server, &mut agent, &that_boots("local"), succeeded(), "SUCCESS").await;
    assert_eq!(boots(&server).await.0, Next::LocalDisk);
    let next = server.create_of(&of("writefile")).await.id;
    let (needed, why) = boots(&server).await;
    assert!(
        needed == Next::Agent && why.contains(&next) && !why.contains(&id),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_template_has_a_half_written_disk_booted() {
    let (server, _dir) = Server::with_machine().await;
    let mut agent = server.attach(hello("k1")).await.expect("attach");
    run(&server, &mut agent, WRITES, failed(), "FAILED").await;
    run(&server, &mut agent, &that_boots("local"), succeeded(), "SUCCESS").await;
    let (next, why) = boots(&server).await;
    assert!(next == Next::Agent && why.contains("half written"), "{why}");
}
