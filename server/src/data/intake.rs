//! What machines may bring before their reports, and fetch, within bounds: what is brought and never reported is garbage that
//! stays for an hour or more, and who sends or takes a content has it in the server's memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use connections::{Full, Place, Places};
use proto::v1::PutDataRequest;
use proto::v1::put_data_request::Kind;
use tonic::Status;
use workflow::engine::AttemptId;

use crate::Limits;

/// Calls of one machine at a time: one that works, and one whose connection broke unnoticed.
const PER_MACHINE: usize = 2;

pub(crate) struct Intake {
    bytes: u64,
    files: usize,
    calls: Places<String>,
    /// For the last attempt of each machine that brought something.
    brought: Mutex<HashMap<String, Brought>>,
}

struct Brought {
    attempt: AttemptId,
    bytes: u64,
    files: usize,
}

impl Intake {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            bytes: limits.data_bytes,
            files: limits.data_files,
            calls: Places::new(limits.data_at_once),
            brought: Mutex::default(),
        }
    }

    /// A place for a call of this machine.
    ///
    /// # Errors
    /// `UNAVAILABLE`: an agent asks again by itself.
    pub(crate) fn call(&self, machine: &str) -> Result<Place<String>, Status> {
        let place = self.calls.take(machine.to_owned(), PER_MACHINE);
        place.map_err(|full| {
            let why = match full {
                Full::Holder(most) => format!("it has {most} calls for data under way already"),
                Full::All(most) => format!("{most} machines move data already"),
            };
            tracing::warn!(machine, "a call for a workflow's data is refused: {why}");
            Status::unavailable(format!(
                "machine {machine:?} moves no data now: {why}; ask again in some seconds"
            ))
        })
    }

    /// Counts what is brought for an attempt.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when it is more than may be brought for one.
    pub(crate) fn count(
        &self,
        machine: &str,
        attempt: &AttemptId,
        request: &PutDataRequest,
    ) -> Result<(), Status> {
        let Some(Kind::Chunk(chunk)) = &request.kind else {
            return Ok(());
        };
        let mut all = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Brought {
            attempt: attempt.clone(),
            bytes: 0,
            files: 0,
        };
        let brought = all.entry(machine.to_owned()).or_insert_with(fresh);
        if brought.attempt != *attempt {
            *brought = fresh();
        }
        brought.bytes = brought.bytes.saturating_add(chunk.content.len() as u64);
        brought.files += usize::from(chunk.file.is_some());
        if brought.bytes <= self.bytes && brought.files <= self.files {
            return Ok(());
        }
        let (most, files) = (self.bytes, self.files);
        tracing::warn!(machine, %attempt, "more data than {most} B in {files} files came for an attempt before its report");
        Err(Status::resource_exhausted(format!(
            "machine {machine:?} has brought more than {most} B in {files} files for attempt {attempt}, tries that broke off counted: \
             retry the workflow, and let the action write less to /workflow"
        )))
    }
}
