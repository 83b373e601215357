//! docs/how-to/roll-out.md: a rack of 20, with `examples/rack-bring-up.yaml` as it is. The agents do what comes, but for two that
//! fail until somebody has mended them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::report::Outcome;
use proto::v1::{
    AgentMessage, Failed, Hello, Leaving, Report, ServerMessage, Started, Succeeded, agent_message,
    server_message,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::page::all_blocks;
use crate::world::{World, in_a_world};

const PAGE: &str = "roll-out.md";
const MACHINES: u8 = 20;

/// Whose network card is bad: in the first wave and in the second.
const BAD: [u8; 2] = [1, 2];

fn mac(number: u8) -> String {
    format!("52:54:00:77:01:{number:02x}")
}

type Sender = mpsc::Sender<AgentMessage>;

/// An agent that the server has welcomed. One after the other: of one address few may be on their way.
async fn attached(number: u8) -> (Sender, Streaming<ServerMessage>) {
    let mut client = AgentServiceClient::connect("http://10.77.0.1:42113")
        .await
        .unwrap();
    let (to, messages) = mpsc::channel(16);
    let hello = agent_message::Kind::Hello(Hello {
        mac: mac(number),
        boot_id: "one".into(),
        ..Hello::default()
    });
    to.send(AgentMessage { kind: Some(hello) }).await.unwrap();
    let mut from = client
        .attach(ReceiverStream::new(messages))
        .await
        .unwrap()
        .into_inner();
    from.message().await.unwrap().unwrap();
    (to, from)
}

/// A machine, until the server has gone.
async fn machine(number: u8, (to, mut from): (Sender, Streaming<ServerMessage>), mended: Arc<AtomicBool>) {
    let mut sequence = 0;
    while let Ok(Some(message)) = from.message().await {
        let Some(server_message::Kind::Run(run)) = message.kind else {
            continue;
        };
        let is_bad = BAD.contains(&number) && !mended.load(Ordering::SeqCst);
        let end = match run.image.as_str() {
            "image2disk" => Outcome::Succeeded(Succeeded::default()),
            "reboot" if is_bad => Outcome::Failed(Failed {
                reason: "NoLink".into(),
                message: "the network card has lost its link".into(),
                ..Failed::default()
            }),
            "reboot" => Outcome::Leaving(Leaving { how: "reboot".into() }),
            other => panic!("nobody has the action {other}"),
        };
        for outcome in [Outcome::Started(Started {}), end] {
            sequence += 1;
            let report = Report {
                sequence,
                attempt_id: run.attempt_id.clone(),
                outcome: Some(outcome),
                ..Report::default()
            };
            let kind = Some(agent_message::Kind::Report(report));
            if to.send(AgentMessage { kind }).await.is_err() {
                return;
            }
        }
    }
}

/// All machines boot, in the network of the world.
fn boot(mended: &Arc<AtomicBool>) {
    let mended = mended.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut machines = JoinSet::new();
            for number in 1..=MACHINES {
                let streams = attached(number).await;
                machines.spawn(machine(number, streams, mended.clone()));
            }
            machines.join_all().await;
        });
    });
}

/// What the page shows is what is printed, line by line, but for ids and times.
#[track_caller]
fn shows(kind: &str, said: &str) {
    let [shown] = all_blocks::<1>(PAGE, kind);
    let said: Vec<String> = said.lines().map(plain).collect();
    for line in shown.lines().map(plain) {
        assert!(
            said.contains(&line),
            "{line:?} is on the page and not in\n{said:#?}"
        );
    }
}

/// Its words, without numbers that differ from run to run.
fn plain(line: &str) -> String {
    let words = line.split_whitespace().map(|word| match word {
        id if id.len() >= 13 && id.chars().all(|char| char.is_ascii_hexdigit() || char == '-') => "ID",
        "s" => "",
        time if time.trim_end_matches('s').parse::<f64>().is_ok() && time.contains(['.', 's']) => "N",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_rack_is_rolled_out_stops_by_its_budget_and_goes_on_when_it_is_mended() {
    in_a_world(|world: &World| {
        world.network(&[]);
        world.server("");
        // They have systems of their own, so that no token of a boot is asked for.
        let records: Vec<String> = (1..=MACHINES)
            .map(|number| format!("machine: n{number:02}\nmac: {}\nnetboot: never\n", mac(number)))
            .collect();
        world.writes("rack.yaml", &records.join("---\n"));
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
        world.types(&format!(
            "farrier machine apply -f rack.yaml; ln -s {examples} examples"
        ));
        let [label, template, begin, waiting, go_on, mend] = all_blocks(PAGE, "sh");
        world.types(&label);
        let listed = world.types(&template);
        assert_eq!(
            listed.lines().filter(|line| line.starts_with('n')).count(),
            20,
            "{listed}"
        );
        let (create, watch) = begin.split_once('\n').unwrap();
        world.types(create);
        let mended = Arc::new(AtomicBool::new(false));
        boot(&mended);
        // Somebody watches, and ends the watching.
        let watched = world.tries(&format!("timeout --signal INT 2 {watch}"));
        assert!(!watched.stdout.is_empty());
        let said = world.until(&waiting, |said| said.contains("WAITING"));
        shows("text waiting", &said);
        let ended = world.tries(&go_on);
        assert_eq!(ended.status.code(), Some(1), "it is FAILED");
        let said = String::from_utf8(ended.stdout).unwrap() + &world.types("farrier workflow state @last");
        shows("text failed", &said);
        mended.store(true, Ordering::SeqCst);
        let said = world.types(&mend);
        assert!(said.contains("the network card has lost its link"), "{said}");
        shows("text done", &said);
    });
}
