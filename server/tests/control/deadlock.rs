//! Workflows that wait for each other's machines, as the server looks at them by itself.

use tempfile::TempDir;

use crate::harness::*;
use proto::v1::Hello;
use server::Config;

fn mac(number: usize) -> String {
    format!("52:54:00:77:01:{number:02x}")
}

async fn attach(server: &Server, number: usize) -> Agent {
    let hello = Hello {
        mac: mac(number),
        ..hello("k1")
    };
    server.attach(hello).await.expect("attach")
}

/// The first machine, then a worker that is known late, and then the first again, as `more` says.
fn text(name: &str, first: usize, later: usize, more: &str) -> String {
    format!(
        "version: \"1\"\nname: {name}\ninputs: {{later: {{type: string, default: \"{}\"}}}}\ntasks:\n\
         - {{name: a, worker: \"{first}\", needs: [], actions: [{{name: x, image: cexec}}]}}\n\
         - {{name: b, worker: \"${{{{ inputs.later }}}}\", needs: [a], actions: [{{name: x, image: cexec}}]}}\n{more}",
        mac(later),
        first = mac(first),
    )
}

/// What ends the last thing that goes on is on a machine that has nothing to do with the circle: nobody but the server's own
/// look finds the deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_which_nothing_goes_on_any_more_is_found_by_itself() {
    let dir = TempDir::new().expect("directory");
    let server = Server::start(&dir, Config::default()).await;
    let records = (1..=3).map(|number| format!("machine: n{number}\nmac: {}\n", mac(number)));
    server
        .apply(&records.collect::<Vec<_>>().join("---\n"))
        .await
        .expect("machines");
    let more = format!(
        "- {{name: slow, worker: \"{}\", needs: [], actions: [{{name: x, image: cexec}}]}}\n\
         - {{name: c, worker: \"{}\", needs: [b, slow], actions: [{{name: x, image: cexec}}]}}\n",
        mac(3),
        mac(1)
    );
    let older = server.create_of(&text("older", 1, 2, &more)).await.id;
    let (mut one, mut three) = (attach(&server, 1).await, attach(&server, 3).await);
    let (first, slow) = (one.run().await, three.run().await);
    let more = format!(
        "- {{name: c, worker: \"{}\", needs: [b], actions: [{{name: x, image: cexec}}]}}\n",
        mac(2)
    );
    let younger = server.create_of(&text("younger", 2, 1, &more)).await.id;
    let mut two = attach(&server, 2).await;
    let second = two.run().await;
    one.report(&first.attempt_id, succeeded()).await;
    one.acknowledged().await;
    two.report(&second.attempt_id, succeeded()).await;
    two.acknowledged().await;
    for id in [&older, &younger] {
        assert_eq!(server.workflow(id).await.state, "RUNNING");
    }
    three.report(&slow.attempt_id, succeeded()).await;
    let failed = server.reaches(&younger, "FAILED").await;
    assert!(
        failed.message.starts_with("deadlock: machine n1 is held by "),
        "{}",
        failed.message
    );
    for (agent, what) in [(&mut two, "b"), (&mut one, "c")] {
        let run = agent.run().await;
        assert!(run.attempt_id.starts_with(&older), "{what}: {}", run.attempt_id);
        agent.report(&run.attempt_id, succeeded()).await;
    }
    server.reaches(&older, "SUCCESS").await;
}
