//! Workflows that people make, and templates that they try.

use coordinator::Error;
use coordinator::people::Caller;
use proto::v1::{
    CreateWorkflowRequest, CreateWorkflowResponse, RenderTemplateRequest, RenderTemplateResponse,
};

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
        let creation = Creation {
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
        };
        let (workflow, warnings) = self.create_workflow(creation).await?;
        let workflow = Some(convert::shown(&workflow, None));
        Ok(CreateWorkflowResponse { workflow, warnings })
    }
}
