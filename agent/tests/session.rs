//! The real agent against a server that drops streams, says things twice and acknowledges late.

mod fake;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fake::{Agent, FakeServer, action, shell, wait_until};
use nix::sys::stat::Mode;
use proto::v1::report::Outcome;
use proto::v1::{self, Report};
use tonic::Status;

/// A command that tells when it runs, and ends when the test lets it.
struct Gate {
    fifo: PathBuf,
    runs: PathBuf,
}

impl Gate {
    fn new(folder: &Path) -> Gate {
        let fifo = folder.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("fifo");
        Gate {
            fifo,
            runs: folder.join("runs"),
        }
    }

    fn command(&self) -> String {
        format!(
            "echo run >> {}; echo waiting; cat {}; echo over",
            self.runs.display(),
            self.fifo.display()
        )
    }

    /// Whether somebody waits at the gate.
    fn is_waited_at(&self) -> bool {
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&self.fifo)
            .is_ok()
    }

    async fn open(&self) {
        let mut gate = wait_until("command at the gate", || {
            OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&self.fifo)
                .ok()
        })
        .await;
        gate.write_all(b"go\n").expect("written");
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(&self.runs)
            .unwrap_or_default()
            .lines()
            .count()
    }
}

fn numbers(reports: &[Report]) -> Vec<u64> {
    reports.iter().map(|report| report.sequence).collect()
}

#[tokio::test]
async fn an_attempt_runs_once_and_every_report_arrives_however_the_stream_behaves() {
    let folder = tempfile::tempdir().expect("folder");
    let gate = Gate::new(folder.path());
    let mut server = FakeServer::start().await;
    let mut agent = Agent::start(&server, folder.path());
    let run = shell("w/0/0/1", &gate.command());

    // Pushed twice; the stream ends in the middle of the action, nothing acknowledged.
    let (mut stream, hello) = server.accept().await;
    assert_eq!(
        (hello.mac.as_str(), hello.boot_token.as_str()),
        ("52:54:00:77:00:0b", "secret")
    );
    assert!(hello.unacknowledged.is_empty() && hello.inventory.is_some());
    stream.welcome().await;
    stream.run(&run).await;
    stream.run(&run).await;
    let started = stream.report().await;
    assert!(matches!(
        (started.sequence, started.outcome),
        (1, Some(Outcome::Started(_)))
    ));
    stream.line("waiting").await;
    drop(stream);

    // The action went on; it ends in this stream, which ends before the acknowledgement.
    let (mut stream, hello) = server.accept().await;
    assert_eq!(
        (hello.running_attempt.as_str(), numbers(&hello.unacknowledged)),
        ("w/0/0/1", vec![1])
    );
    stream.welcome().await;
    stream.run(&run).await;
    gate.open().await;
    let ended = stream.report().await;
    assert_eq!(ended.sequence, 2);
    assert!(
        matches!(&ended.outcome, Some(Outcome::Succeeded(s)) if s.message == "over"),
        "{ended:?}"
    );
    // Lines of the lost stream came again, by their numbers.
    assert_eq!(stream.lines, ["0 waiting", "1 go", "2 over"]);
    drop(stream);

    // Pushed once more: the report is sent again, nothing is run.
    let (mut stream, hello) = server.accept().await;
    assert_eq!(
        (hello.running_attempt.as_str(), numbers(&hello.unacknowledged)),
        ("", vec![1, 2])
    );
    stream.welcome().await;
    stream.run(&run).await;
    assert_eq!(stream.report().await.sequence, 2);
    stream.acknowledge(2).await;
    stream.run(&action("w/0/1/1", "nosuch", &[])).await;
    assert_eq!(stream.report().await.sequence, 3);
    let failed = stream.report().await;
    assert!(
        matches!(&failed.outcome, Some(Outcome::Failed(f)) if f.reason == "UnknownImage"),
        "{failed:?}"
    );
    stream.run(&action("w/0/2/1", "reboot", &[])).await;
    assert_eq!(stream.report().await.sequence, 5);
    assert!(matches!(stream.report().await.outcome, Some(Outcome::Leaving(_))));
    drop(stream);

    // The machine leaves only now.
    let (stream, hello) = server.accept().await;
    assert_eq!(numbers(&hello.unacknowledged), [3, 4, 5, 6]);
    stream.welcome().await;
    assert_eq!(agent.child.try_wait().expect("status"), None);
    stream.acknowledge(6).await;
    assert_eq!(agent.exit_code().await, Some(70));
    assert_eq!(gate.runs(), 1);
}

#[tokio::test]
async fn a_killed_worker_takes_its_command_along_and_the_next_one_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let gate = Gate::new(folder.path());
    let mut server = FakeServer::start().await;
    let run = shell("w/0/0/1", &gate.command());
    let agent = Agent::start(&server, folder.path());
    let (mut stream, _) = server.accept().await;
    stream.welcome().await;
    stream.run(&run).await;
    stream.report().await;
    stream.acknowledge(1).await;
    wait_until("command at the gate", || gate.is_waited_at().then_some(())).await;
    drop(agent);
    wait_until("end of the command", || (!gate.is_waited_at()).then_some(())).await;

    let _agent = Agent::start(&server, folder.path());
    let (mut stream, hello) = server.accept().await;
    let Some(last) = hello.unacknowledged.last() else {
        panic!("no report")
    };
    assert!(
        matches!(&last.outcome, Some(Outcome::Failed(f)) if f.reason == "WorkerDied"),
        "{last:?}"
    );
    assert_eq!((last.sequence, hello.running_attempt.as_str()), (2, ""));
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(
        !mounts.contains(folder.path().to_str().expect("path")),
        "{mounts}"
    );
    // Pushed again by a server that lost the report: answered, not run.
    stream.welcome().await;
    stream.run(&run).await;
    assert_eq!(stream.report().await.sequence, 2);
    assert_eq!(gate.runs(), 1);
}

#[tokio::test]
async fn a_stopped_action_and_one_that_takes_too_long_end_with_their_processes() {
    let folder = tempfile::tempdir().expect("folder");
    let gate = Gate::new(folder.path());
    let mut server = FakeServer::start().await;
    let _agent = Agent::start(&server, folder.path());
    let (mut stream, _) = server.accept().await;
    stream.welcome().await;

    stream.run(&shell("w/0/0/1", &gate.command())).await;
    stream.report().await;
    stream.line("waiting").await;
    stream.stop("w/0/0/1").await;
    let stopped = stream.report().await;
    assert!(
        matches!(stopped.outcome, Some(Outcome::Stopped(_))),
        "{stopped:?}"
    );
    assert!(!gate.is_waited_at());

    // It ignores being asked, and leaves a child behind in another session.
    let stubborn = format!("trap '' TERM; setsid cat {0} & cat {0}", gate.fifo.display());
    stream
        .run(&v1::RunAction {
            timeout_s: 1,
            ..shell("w/0/1/1", &stubborn)
        })
        .await;
    stream.report().await;
    let late = stream.report().await;
    assert!(matches!(late.outcome, Some(Outcome::TimedOut(_))), "{late:?}");
    wait_until("end of the command's children", || {
        (!gate.is_waited_at()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_failed_command_tells_its_code_and_its_last_lines() {
    let folder = tempfile::tempdir().expect("folder");
    let mut server = FakeServer::start().await;
    let _agent = Agent::start(&server, folder.path());
    let (mut stream, _) = server.accept().await;
    stream.welcome().await;
    stream
        .run(&shell(
            "w/0/0/1",
            "echo out; echo err >&2; printf unfinished; exit 7",
        ))
        .await;
    stream.report().await;
    let report = stream.report().await;
    let Some(Outcome::Failed(failed)) = report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!((failed.reason.as_str(), failed.exit_code), ("ExitCode", 7));
    assert!(
        failed.message.ends_with("out\nerr\nunfinished"),
        "{}",
        failed.message
    );
    assert_eq!(stream.lines, ["0 out", "1 err", "2 unfinished"]);
}

#[tokio::test]
async fn a_refusal_is_told_in_words() {
    let folder = tempfile::tempdir().expect("folder");
    let server = FakeServer::start().await;
    server.refuse(Status::permission_denied("the boot token is another machine's"));
    let _agent = Agent::start(&server, folder.path());
    let said = wait_until("refusal on the console", || {
        let text = std::fs::read_to_string(folder.path().join("stderr")).ok()?;
        text.contains("asking again").then_some(text)
    })
    .await;
    assert!(
        said.contains("the server refuses this machine: the boot token is another machine's"),
        "{said}"
    );
}

#[tokio::test]
async fn what_the_machine_is_made_of_follows_every_welcome_and_no_action_waits_for_it() {
    let folder = tempfile::tempdir().expect("folder");
    let mut server = FakeServer::start().await;
    let _agent = Agent::start(&server, folder.path());
    for attempt in ["w/0/0/1", "w/0/0/2"] {
        let (mut stream, hello) = server.accept().await;
        let brief = hello.inventory.expect("in short");
        assert!(brief.cpus > 0 && brief.pci_devices.is_empty());
        stream.welcome().await;
        stream.run(&shell(attempt, "true")).await;
        let told = stream.inventory().await;
        assert_eq!((told.cpus, &told.serial), (brief.cpus, &brief.serial));
        assert!(!told.processor.expect("a processor").architecture.is_empty());
    }
}
