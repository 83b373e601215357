//! The real agent, a server that speaks to it, and a folder for what plays its disks.
#![allow(dead_code, reason = "each test binary uses its part")]

use proto::v1;
use proto::v1::report::Outcome;
use serde_json::Value;

use crate::fake::{Agent, FakeServer, Stream, action};
use crate::image::LoopDisk;

pub(crate) struct World {
    pub(crate) server: FakeServer,
    pub(crate) stream: Stream,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) agent: Agent,
}

impl World {
    pub(crate) async fn new() -> World {
        let folder = tempfile::tempdir().expect("folder");
        let mut server = FakeServer::start().await;
        let agent = Agent::start(&server, folder.path());
        let (stream, _) = server.accept().await;
        stream.welcome_of(5).await;
        World {
            server,
            stream,
            folder,
            agent,
        }
    }

    /// A loop device of so many MiB of zeros that shows its partitions.
    pub(crate) fn disk(&self, name: &str, mib: u64) -> LoopDisk {
        let file = self.folder.path().join(name);
        std::fs::File::create(&file)
            .and_then(|file| file.set_len(mib << 20))
            .expect("file");
        LoopDisk::partitioned(&file)
    }

    /// The built-in action `native` to its end, in a workflow `w` with a task `install`.
    pub(crate) async fn run(
        &mut self,
        native: &str,
        attempt_id: &str,
        variables: &[(&str, &str)],
    ) -> Outcome {
        let run = v1::RunAction {
            workflow_id: "w".into(),
            task: "install".into(),
            action: native.into(),
            ..action(attempt_id, native, variables)
        };
        self.stream.end_of(&run).await
    }
}

/// What an action says that succeeded, and its outputs.
#[track_caller]
pub(crate) fn succeeded(outcome: Outcome) -> (v1::Succeeded, Value) {
    match outcome {
        Outcome::Succeeded(done) => {
            let outputs = serde_json::from_str(&done.outputs_json).expect("JSON");
            (done, outputs)
        }
        other => panic!("no success: {other:?}"),
    }
}

/// It failed for this reason, in these words, and had not begun to write.
#[track_caller]
pub(crate) fn failed(outcome: Outcome, reason: &str, words: &[&str]) {
    match outcome {
        Outcome::Failed(failed) if failed.reason == reason => {
            assert!(failed.disks_untouched, "{failed:?}");
            for word in words {
                assert!(failed.message.contains(word), "{}", failed.message);
            }
        }
        other => panic!("no {reason}: {other:?}"),
    }
}
