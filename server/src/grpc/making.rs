//! What people make: machines' records and templates that they give, templates that they try, and workflows.

use coordinator::Error;
use coordinator::disk_writes::DiskWrite;
use coordinator::machines::{self, Strictness};
use coordinator::people::Caller;
use coordinator::templates::Offered;
use proto::v1::{
    self, ApplyMachinesRequest, ApplyMachinesResponse, CreateWorkflowRequest, CreateWorkflowResponse,
    MachineFile, PreviewWorkflowResponse, PutTemplateRequest, RenderTemplateRequest, RenderTemplateResponse,
    Template,
};
use serde_json::Value;
use workflow::engine::UnixMillis;

use super::convert;
use super::given::{inputs, policy};
use crate::clock;
use crate::control::ControlPlane;
use crate::within::Within;
use crate::workflows::Creation;

impl ControlPlane {
    pub(super) async fn rendered(
        &self,
        caller: &Caller,
        request: RenderTemplateRequest,
    ) -> Result<RenderTemplateResponse, Error> {
        let asked = Creation {
            within: Within::one(caller, request.namespace),
            template: request.template,
            text: request.text,
            file: request.source,
            devices: request.devices.into_iter().collect(),
            machine: request.machine,
            ..Creation::default()
        };
        let rendering = self.render(asked).await?;
        let mut answer = RenderTemplateResponse {
            yaml: rendering.yaml,
            warnings: rendering.warnings,
            ..RenderTemplateResponse::default()
        };
        match rendering.outcome {
            Ok(_) => {}
            Err(Error::NotFound(problem)) => {
                answer.problems.push(problem);
                answer.unknown_machine = true;
            }
            Err(Error::Invalid(problem)) => answer.problems.push(problem),
            Err(error) => return Err(error),
        }
        Ok(answer)
    }

    pub(super) async fn workflow_created(
        &self,
        caller: Caller,
        request: CreateWorkflowRequest,
    ) -> Result<CreateWorkflowResponse, Error> {
        let (workflow, warnings) = self.create_workflow(asked(caller, request)?).await?;
        let workflow = Some(convert::shown(&workflow, None));
        Ok(CreateWorkflowResponse { workflow, warnings })
    }

    pub(super) async fn workflow_previewed(
        &self,
        caller: Caller,
        request: CreateWorkflowRequest,
    ) -> Result<PreviewWorkflowResponse, Error> {
        let preview = self.preview_workflow(asked(caller, request)?).await?;
        Ok(PreviewWorkflowResponse {
            name: preview.name,
            warnings: preview.warnings,
            writes: preview.writes.into_iter().map(disk_write).collect(),
        })
    }

    pub(super) async fn machines_applied(
        &self,
        caller: Caller,
        request: ApplyMachinesRequest,
    ) -> Result<ApplyMachinesResponse, Error> {
        let strictness = match request.strict {
            true => Strictness::Refuses,
            false => Strictness::PassesOver,
        };
        let first = MachineFile {
            yaml: request.yaml,
            source: request.source,
        };
        // Alone it is meant even if nothing is in it.
        let has_first = !first.yaml.is_empty() || request.files.is_empty();
        let files = Some(first).filter(|_| has_first).into_iter().chain(request.files);
        let files = files.map(|file| machines::File {
            text: file.yaml,
            source: file.source,
            strictness,
        });
        let terms = machines::Terms {
            expected: request.versions.into_iter().collect(),
            is_dry_run: request.dry_run,
            ..machines::Terms::default()
        };
        let within = Within::one(&caller, request.namespace);
        let applied = self.apply_machines(within, files.collect(), terms).await?;
        Ok(ApplyMachinesResponse {
            created: applied.created,
            updated: applied.updated,
            warnings: applied.warnings,
            unchanged: applied.unchanged,
            changes: applied.changes.into_iter().map(convert::change).collect(),
        })
    }

    pub(super) async fn template_stored(
        &self,
        caller: Caller,
        request: PutTemplateRequest,
    ) -> Result<Template, Error> {
        let within = Within::one(&caller, request.namespace);
        let offered = Offered {
            name: request.name,
            text: request.text,
            source: request.source,
            by: caller.name,
        };
        let stored = self.put_template(within, offered, request.dry_run).await?;
        let previous = stored.before.filter(|_| request.dry_run);
        Ok(Template {
            change: stored.change.word().to_owned(),
            previous_text: previous.map(|template| template.text).unwrap_or_default(),
            ..convert::template(stored.template, stored.warnings)
        })
    }
}

/// A workflow as somebody asks for it.
fn asked(caller: Caller, request: CreateWorkflowRequest) -> Result<Creation, Error> {
    Ok(Creation {
        within: Within::one(&caller, request.namespace),
        by: caller.name,
        template: request.template,
        text: request.text,
        file: request.source,
        machine: request.machine,
        inputs: inputs(&request.inputs_json)?,
        typed_inputs: request.inputs_text.into_iter().collect(),
        devices: request.devices.into_iter().collect(),
        idempotency_key: request.idempotency_key,
        name: request.name,
        start_at: request.start_at.map(clock::unix_millis),
        labels: request.labels.into_iter().collect(),
        policy: policy(&request.policy)?,
    })
}

fn disk_write((write, told_at): (DiskWrite, Option<UnixMillis>)) -> v1::DiskWrite {
    // Fields of a later version are left out.
    let device = write
        .device
        .map(|device| serde_json::from_value(Value::Object(device)).unwrap_or_default());
    v1::DiskWrite {
        task: write.task,
        action: write.action,
        machine: write.machine,
        disk: write.disk,
        effect: write.effect,
        provided: write.provided,
        told_at: told_at.filter(|_| device.is_some()).map(clock::timestamp),
        device,
        partition: write
            .partition
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(0),
        unknown: write.unknown,
    }
}
