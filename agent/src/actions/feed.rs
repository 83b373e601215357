//! What a running action tells the worker: lines, progress, and that it has touched a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::v1;
use proto::v1::report::Outcome;
use redaction::Secrets;
use tokio::sync::mpsc;

/// What is told of the running action.
#[derive(Clone, Debug)]
pub enum Told {
    /// It ended; `Started` is not an end.
    Ended { attempt_id: String, outcome: Outcome },
    /// It printed a line.
    Line(String),
    /// It got on.
    Progress(v1::Progress),
}

/// Where an action's lines and progress go. Sending waits when the worker is busy: back-pressure, not loss.
#[derive(Clone)]
pub struct Feed {
    attempt_id: String,
    told: mpsc::Sender<Told>,
    touched: Arc<AtomicBool>,
    secrets: Arc<Secrets>,
}

impl Feed {
    /// Values of `secrets` leave the machine by no line and no message of the action.
    pub fn new(attempt_id: String, told: mpsc::Sender<Told>, secrets: Arc<Secrets>) -> Feed {
        Feed {
            attempt_id,
            told,
            touched: Arc::default(),
            secrets,
        }
    }

    /// What is hidden in all that is told.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn told_line(&self, line: impl Into<String>) -> Told {
        Told::Line(self.secrets.hidden(&line.into()).into_owned())
    }

    /// From here on the action may change what is on a disk. One that fails before that leaves the machine as good as it
    /// was, and the server is told so.
    pub(super) fn touches_disk(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    /// The same, for whoever knows the moment better.
    pub(super) fn touched(&self) -> Arc<AtomicBool> {
        self.touched.clone()
    }

    pub(super) fn disks_untouched(&self) -> bool {
        !self.touched.load(Ordering::Relaxed)
    }

    pub(crate) async fn line(&self, line: impl Into<String>) {
        let _ = self.told.send(self.told_line(line)).await;
    }

    /// The same; left out when the worker is busy.
    pub(super) fn line_if_room(&self, line: impl Into<String>) {
        let _ = self.told.try_send(self.told_line(line));
    }

    /// Room for one event; `None` when the worker is gone. Cancel safe.
    pub(super) async fn room(&self) -> Option<mpsc::Permit<'_, Told>> {
        self.told.reserve().await.ok()
    }

    /// Tells how far it is; left out when the worker is busy, as the next one says more.
    pub(crate) fn progress(&self, done_bytes: u64, total_bytes: u64, rate_bytes_per_s: u64, stage: &str) {
        let progress = v1::Progress {
            attempt_id: self.attempt_id.clone(),
            done_bytes,
            total_bytes,
            rate_bytes_per_s,
            stage: stage.to_owned(),
        };
        let _ = self.told.try_send(Told::Progress(progress));
    }
}
