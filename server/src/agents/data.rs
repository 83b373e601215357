//! The ephemeral data on its way to an agent and from it, beside its stream.

use ephemeral::Manifest;
use futures_util::{Stream, StreamExt, TryStreamExt};
use proto::v1::put_data_request::Kind;
use proto::v1::{DataAccess, DataChanges, DataChunk, GetDataRequest, PutDataRequest, PutDataResponse};
use tonic::{Status, Streaming};
use workflow::engine::{AttemptId, Outcome};

use super::credential::{Credential, NotGood};
use crate::control::ControlPlane;
use crate::data::{contents, report};
use crate::grpc::status;
use coordinator::Changed;
use coordinator::Error;
use coordinator::data::Trouble;
use coordinator::machines::{mac_text, parse_mac};

/// Whose data an agent asks for, or brings.
struct Asked {
    /// The workflow that has them.
    root: String,
    machine: String,
    attempt: AttemptId,
}

impl ControlPlane {
    /// The files of the version that an agent asks for.
    pub(crate) async fn data_for_agent(
        &self,
        request: GetDataRequest,
    ) -> Result<impl Stream<Item = Result<DataChunk, Status>> + Send + use<>, Status> {
        let Asked { root, machine, .. } = self.asked(request.access).await?;
        let place = self.inner.intake.call(&machine)?;
        let manifest = self
            .inner
            .coordinator
            .data_manifest(&root, request.version)
            .map_err(status)?;
        let manifest: Manifest = manifest.ok_or_else(|| {
            Status::not_found(format!(
                "version {} of the data of workflow {root} is not kept",
                request.version
            ))
        })?;
        let chunks = contents::chunks(self.inner.config.blobs.clone(), &manifest);
        Ok(chunks.inspect(move |_| {
            // Held until the stream is dropped.
            let _ = &place;
        }))
    }

    /// Stores what an agent brings before it reports.
    pub(crate) async fn data_from_agent(
        &self,
        mut requests: Streaming<PutDataRequest>,
    ) -> Result<PutDataResponse, Status> {
        let first = requests.message().await?.and_then(|request| request.kind);
        let Some(Kind::Access(access)) = first else {
            return Err(Status::invalid_argument("the first message must say who asks"));
        };
        let Asked { machine, attempt, .. } = self.asked(Some(access)).await?;
        let intake = &self.inner.intake;
        let _place = intake.call(&machine)?;
        let counted = requests.and_then(|request| {
            let counted = intake.count(&machine, &attempt, &request);
            std::future::ready(counted.map(|()| request))
        });
        let within = self.inner.config.limits.data_within;
        let taken = tokio::time::timeout(within, contents::take(&self.inner.config.blobs, counted));
        taken.await.unwrap_or_else(|_| {
            Err(Status::unavailable(format!(
                "the data have not come within {within:?}: send them again"
            )))
        })
    }

    /// What a report brings, made durable; a success whose data cannot be taken is a failure.
    pub(super) async fn keep_data(
        &self,
        outcome: Option<Outcome>,
        changes: Option<DataChanges>,
    ) -> Result<(Option<Outcome>, Option<Changed>), Error> {
        let (Some(Outcome::Succeeded { .. }), Some(changes)) = (&outcome, changes) else {
            return Ok((outcome, None));
        };
        let kept = match report::read(changes) {
            Ok(announced) => contents::keep(&self.inner.config.blobs, announced).await,
            Err(refused) => Err(Trouble::Refused(refused)),
        };
        match kept {
            Ok(changed) => Ok((outcome, Some(changed))),
            Err(Trouble::Refused(refused)) => Ok((Some(refused.into_outcome()), None)),
            Err(other) => Err(other.into()),
        }
    }

    /// Machine and attempt of an agent that asks for something else than data.
    pub(super) async fn asked_for_attempt(
        &self,
        access: Option<DataAccess>,
    ) -> Result<(String, AttemptId), Status> {
        let Asked { machine, attempt, .. } = self.asked(access).await?;
        Ok((machine, attempt))
    }

    /// What an agent may have data for: the attempt which its machine was handed in this boot.
    async fn asked(&self, access: Option<DataAccess>) -> Result<Asked, Status> {
        let access = access.ok_or_else(|| Status::invalid_argument("it must be said who asks"))?;
        let mac = parse_mac(&access.mac)
            .ok_or_else(|| Status::invalid_argument(format!("{:?} is no MAC", access.mac)))?;
        let machine = self.machine_with_mac(mac).await.map_err(status)?;
        let machine =
            machine.ok_or_else(|| Status::not_found(format!("no machine has MAC {}", mac_text(mac))))?;
        let refused =
            |why: &str| Status::permission_denied(format!("machine {:?} gets no data: {why}", machine.name));
        let shown = Credential::of(&access.boot_token);
        let judged = self.judge(shown, (&machine, mac), &access.boot_id).await;
        match judged.map_err(status)? {
            Ok(_) => {}
            Err(NotGood::Missing) => {
                return Err(refused(
                    "it shows no boot token, and it gets one when it netboots",
                ));
            }
            Err(NotGood::Wrong(why)) => return Err(refused(&why)),
        }
        let name = machine.name.clone();
        let work = self.ask_coordinator(move |coordinator| coordinator.machine(&name));
        let current = work.await.map_err(status)?.current;
        let attempt: Option<AttemptId> = access.attempt_id.parse().ok();
        let attempt = attempt.filter(|attempt| {
            current.is_some_and(|current| current.attempt == *attempt && current.boot_id == access.boot_id)
        });
        let Some(attempt) = attempt else {
            return Err(refused(&format!(
                "attempt {:.80} is not what it was handed in this boot",
                access.attempt_id
            )));
        };
        let workflow = self.workflow_in_store(&attempt.workflow).await.map_err(status)?;
        let workflow =
            workflow.ok_or_else(|| Status::not_found(format!("no workflow {}", attempt.workflow)))?;
        Ok(Asked {
            root: workflow.root().to_owned(),
            machine: machine.name,
            attempt,
        })
    }
}
