//! What an agent sends of a running action: log lines, kept; progress, passed on.

use std::borrow::Cow;
use std::time::Duration;

use proto::v1::ActionProgress;
use tokio::time::Instant;
use workflow::engine::AttemptId;

use super::{End, Session};
use crate::workflows::logs::{Lines, Progress};
use coordinator::Error;

/// Lines wait this long for more, to be written together.
const LOG_DELAY: Duration = Duration::from_millis(100);
/// Bytes of lines that are written at once.
const LOG_BYTES: usize = 64 * 1024;

/// Lines of one attempt that are not written yet.
pub(super) struct Logs {
    pub(super) attempt: AttemptId,
    pub(super) lines: Vec<Lines>,
    bytes: usize,
    /// When they are written at the latest.
    pub(super) due: Instant,
}

/// An attempt that was asked about.
pub(super) struct Known {
    attempt: AttemptId,
    /// Names of its task and action, when it is this machine's.
    ours: Option<(String, String)>,
}

impl Session {
    pub(super) async fn log(
        &mut self,
        attempt: AttemptId,
        mut lines: Lines,
        bytes: usize,
    ) -> Result<(), End> {
        if self.logs.as_ref().is_some_and(|logs| logs.attempt != attempt) {
            self.flush_logs().await?;
        }
        if self.ours(&attempt).await?.is_none() {
            return Ok(());
        }
        let secrets = self.secrets_of(&attempt).await?;
        for line in &mut lines.lines {
            if let Cow::Owned(hidden) = secrets.hidden(line) {
                *line = hidden;
            }
        }
        let logs = self.logs.get_or_insert_with(|| Logs {
            attempt,
            lines: Vec::new(),
            bytes: 0,
            due: Instant::now() + LOG_DELAY,
        });
        logs.lines.push(lines);
        logs.bytes += bytes;
        if logs.bytes >= LOG_BYTES {
            self.flush_logs().await
        } else {
            Ok(())
        }
    }

    pub(super) async fn flush_logs(&mut self) -> Result<(), End> {
        if let Some(logs) = self.logs.take() {
            self.control.append_log(&logs.attempt, logs.lines).await?;
        }
        Ok(())
    }

    pub(super) async fn progress(&mut self, progress: proto::v1::Progress) -> Result<(), End> {
        let Ok(attempt) = progress.attempt_id.parse() else {
            return Ok(());
        };
        let Some((task, action)) = self.ours(&attempt).await? else {
            return Ok(());
        };
        let stage = self
            .secrets_of(&attempt)
            .await?
            .hidden(&progress.stage)
            .into_owned();
        let workflow = attempt.workflow.clone();
        let known = self.control.workflow_in_store(&workflow).await?;
        let namespace = known
            .map(|known| known.head.namespace.clone())
            .unwrap_or_default();
        let message = ActionProgress {
            task,
            action,
            attempt_id: progress.attempt_id,
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
            rate_bytes_per_s: progress.rate_bytes_per_s,
            stage,
        };
        let progress = Progress {
            workflow,
            namespace,
            message,
        };
        self.handle.progressed(progress.clone());
        // Nobody may be watching.
        let _ = self.control.inner.progress.send(progress);
        Ok(())
    }

    /// The names of an attempt's task and action, if it is of a task of this machine's.
    pub(super) async fn ours(&mut self, attempt: &AttemptId) -> Result<Option<(String, String)>, Error> {
        if let Some(known) = self.known.as_ref().filter(|known| known.attempt == *attempt) {
            return Ok(known.ours.clone());
        }
        let coordinator = &self.control.inner.coordinator;
        let workflow = self.control.workflow_in_store(&attempt.workflow).await?;
        let execution = workflow.as_ref().and_then(|workflow| {
            let execution = workflow.execution(attempt.execution)?;
            Some((workflow.head.namespace.as_str(), execution.worker.as_str()))
        });
        let is_here = match execution {
            Some((namespace, worker)) => coordinator.machine_of(namespace, worker)? == self.handle.machine,
            None => false,
        };
        let task = workflow
            .as_ref()
            .filter(|_| is_here)
            .and_then(|workflow| workflow.definition.tasks.get(attempt.execution.task));
        let ours =
            task.and_then(|task| Some((task.name.clone(), task.actions.get(attempt.action)?.name.clone())));
        self.known = Some(Known {
            attempt: attempt.clone(),
            ours: ours.clone(),
        });
        Ok(ours)
    }
}
