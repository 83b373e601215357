//! What the command line asks.

use std::time::Duration;

use proto::v1::control_service_server::ControlService;
use proto::v1::{self, *};
use tonic::{Request, Response, Status, Streaming};
use workflow::engine::Command;

use super::admitted::caller;
use super::answers::{Answers, answers};
use super::convert;
use super::given::{has_task, of_item, policy, selected, the_one_that_waits};
use super::keyed::asked;
use super::machines::Around;
use super::status;
use super::webhooks;
use crate::clock;
use crate::control::ControlPlane;
use crate::people::NewToken;
use crate::timeline::read::Whose;
use crate::within::Within;
use crate::workflows::logs::WantedLines;
use coordinator::machines;
use coordinator::making;
use coordinator::namespaces::Reach;
use coordinator::once::Once;
use coordinator::people::{Caller, Role};

#[tonic::async_trait]
impl ControlService for ControlPlane {
    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<Token>, Status> {
        let name = caller(&request)?.name;
        let token = self.token(&name).await.map_err(status)?;
        Ok(Response::new(convert::token(token)))
    }

    async fn get_server(&self, request: Request<GetServerRequest>) -> Result<Response<ServerInfo>, Status> {
        let caller = caller(&request)?;
        let knows_the_host = caller.role == Role::Admin && caller.reach.is_everything();
        Ok(Response::new(self.itself(knows_the_host).await))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let by = caller(&request)?.name;
        let request = request.into_inner();
        let new = NewToken {
            name: request.name,
            groups: request.groups,
            role: request.role.parse().map_err(status)?,
            namespaces: request.namespaces,
            expires_in: (request.expires_in_s > 0).then(|| Duration::from_secs(request.expires_in_s)),
            by,
        };
        let (token, text) = self.give_token(new).await.map_err(status)?;
        Ok(Response::new(CreateTokenResponse {
            token: Some(convert::token(token)),
            text,
        }))
    }

    async fn list_tokens(
        &self,
        _request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let tokens = self.tokens().await.map_err(status)?;
        let tokens = tokens.into_iter().map(convert::token).collect();
        Ok(Response::new(ListTokensResponse { tokens }))
    }

    async fn delete_token(
        &self,
        request: Request<DeleteTokenRequest>,
    ) -> Result<Response<DeleteTokenResponse>, Status> {
        let (_, request, once) = asked(request)?;
        let answer = self.do_once(once, |once| self.take_token_away(request.name, once));
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn create_namespace(
        &self,
        request: Request<CreateNamespaceRequest>,
    ) -> Result<Response<Namespace>, Status> {
        let (caller, request, once) = asked(request)?;
        let answer = self.do_once(once, |once| {
            self.create_namespace(request.name, caller.name, once)
        });
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn list_namespaces(
        &self,
        request: Request<ListNamespacesRequest>,
    ) -> Result<Response<ListNamespacesResponse>, Status> {
        let reach = caller(&request)?.reach;
        let all = self.namespaces(reach).await.map_err(status)?;
        let namespaces = all.into_iter().map(convert::namespace).collect();
        Ok(Response::new(ListNamespacesResponse { namespaces }))
    }

    async fn delete_namespace(
        &self,
        request: Request<DeleteNamespaceRequest>,
    ) -> Result<Response<DeleteNamespaceResponse>, Status> {
        let (_, request, once) = asked(request)?;
        let answer = self.do_once(once, |once| self.delete_namespace(request.name, once));
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn apply_machines(
        &self,
        request: Request<ApplyMachinesRequest>,
    ) -> Result<Response<ApplyMachinesResponse>, Status> {
        let caller = caller(&request)?;
        let applied = self.machines_applied(caller, request.into_inner());
        Ok(Response::new(applied.await.map_err(status)?))
    }

    async fn get_machine(
        &self,
        request: Request<GetMachineRequest>,
    ) -> Result<Response<v1::Machine>, Status> {
        let reach = caller(&request)?.reach;
        let shown = self.shown(reach, request.into_inner().name_or_mac);
        Ok(Response::new(shown.await.map_err(status)?))
    }

    async fn list_machines(
        &self,
        request: Request<ListMachinesRequest>,
    ) -> Result<Response<ListMachinesResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let within = Within::listed(&caller, request.namespace, request.all_namespaces);
        let selector = selected(&request.selector).map_err(status)?;
        let all = self.inner.db.with(move |view| {
            let mut all = machines::all(view, &within.list(view)?)?;
            if let Some(selector) = &selector {
                all = making::selected(view, selector, all)?;
            }
            all.into_iter()
                .map(|machine| Around::listed(view, machine))
                .collect()
        });
        let all: Vec<Around> = all.await.map_err(status)?;
        let machines = all.into_iter().map(|around| self.live(around)).collect();
        Ok(Response::new(ListMachinesResponse { machines }))
    }

    async fn delete_machine(
        &self,
        request: Request<DeleteMachineRequest>,
    ) -> Result<Response<DeleteMachineResponse>, Status> {
        let (caller, request, once) = asked(request)?;
        let answer = self.do_once(once, |once| {
            self.delete_machine(caller.reach, request.name_or_mac, once)
        });
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn boot_machine_disk(
        &self,
        request: Request<BootMachineDiskRequest>,
    ) -> Result<Response<v1::Machine>, Status> {
        let reach = caller(&request)?.reach;
        let machine = self
            .boot_machine_disk(&reach, &request.into_inner().name_or_mac)
            .await
            .map_err(status)?;
        Ok(Response::new(
            self.shown(reach, machine.name).await.map_err(status)?,
        ))
    }

    async fn look_at_machine(
        &self,
        request: Request<LookAtMachineRequest>,
    ) -> Result<Response<LookAtMachineResponse>, Status> {
        let reach = caller(&request)?.reach;
        let seen = self.look_at(&reach, request.into_inner());
        Ok(Response::new(seen.await?))
    }

    async fn set_secret(&self, request: Request<SetSecretRequest>) -> Result<Response<Secret>, Status> {
        let caller = caller(&request)?;
        let SetSecretRequest {
            name,
            value,
            namespace,
        } = request.into_inner();
        let within = Within::one(&caller, namespace);
        let set = self.set_secret(within, name, value.into(), caller.name);
        Ok(Response::new(convert::secret(set.await.map_err(status)?)))
    }

    async fn list_secrets(
        &self,
        request: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let within = Within::listed(&caller, request.namespace, request.all_namespaces);
        let all = self.secrets(within).await.map_err(status)?;
        let secrets = all.into_iter().map(convert::secret).collect();
        Ok(Response::new(ListSecretsResponse { secrets }))
    }

    async fn delete_secret(
        &self,
        request: Request<DeleteSecretRequest>,
    ) -> Result<Response<DeleteSecretResponse>, Status> {
        let (caller, request, once) = asked(request)?;
        let within = Within::one(&caller, request.namespace);
        let answer = self.do_once(once, |once| self.delete_secret(within, request.name, once));
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn missing_image_blobs(
        &self,
        request: Request<MissingImageBlobsRequest>,
    ) -> Result<Response<MissingImageBlobsResponse>, Status> {
        let answer = self.missing_image_blobs(request.into_inner());
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn put_image_blob(
        &self,
        request: Request<Streaming<PutImageBlobRequest>>,
    ) -> Result<Response<PutImageBlobResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(
            self.put_image_blob(&caller, request.into_inner()).await?,
        ))
    }

    async fn put_image(&self, request: Request<PutImageRequest>) -> Result<Response<Image>, Status> {
        let caller = caller(&request)?;
        let image = self.put_image(caller, request.into_inner()).await;
        Ok(Response::new(image.map_err(status)?))
    }

    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let reach = caller(&request)?.reach;
        Ok(Response::new(self.list_images(reach).await.map_err(status)?))
    }

    async fn delete_image(
        &self,
        request: Request<DeleteImageRequest>,
    ) -> Result<Response<DeleteImageResponse>, Status> {
        let (caller, request, once) = asked(request)?;
        let answer = self.do_once(once, |once| self.delete_image(&caller, request.name, once));
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn put_template(&self, request: Request<PutTemplateRequest>) -> Result<Response<Template>, Status> {
        let caller = caller(&request)?;
        let stored = self.template_stored(caller, request.into_inner());
        Ok(Response::new(stored.await.map_err(status)?))
    }

    async fn get_template(&self, request: Request<GetTemplateRequest>) -> Result<Response<Template>, Status> {
        let caller = caller(&request)?;
        let GetTemplateRequest {
            name_or_id,
            namespace,
        } = request.into_inner();
        let template = self
            .template(Within::one(&caller, namespace), &name_or_id)
            .await
            .map_err(status)?;
        Ok(Response::new(convert::template(template, Vec::new())))
    }

    async fn list_template_versions(
        &self,
        request: Request<ListTemplateVersionsRequest>,
    ) -> Result<Response<ListTemplateVersionsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let within = Within::one(&caller, request.namespace);
        let versions = self.template_versions(within, request.name_or_id);
        let versions = versions
            .await
            .map_err(status)?
            .into_iter()
            .map(|template| Template {
                text: String::new(),
                ..convert::template(template, Vec::new())
            });
        Ok(Response::new(ListTemplateVersionsResponse {
            versions: versions.collect(),
        }))
    }

    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Result<Response<ListTemplatesResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let within = Within::listed(&caller, request.namespace, request.all_namespaces);
        let templates = self.templates(within).await.map_err(status)?;
        let templates = templates
            .into_iter()
            .map(|template| convert::template(template, Vec::new()))
            .collect();
        Ok(Response::new(ListTemplatesResponse { templates }))
    }

    async fn delete_template(
        &self,
        request: Request<DeleteTemplateRequest>,
    ) -> Result<Response<DeleteTemplateResponse>, Status> {
        let (caller, request, once) = asked(request)?;
        let within = Within::one(&caller, request.namespace);
        let answer = self.do_once(once, |once| {
            self.delete_template(within, request.name_or_id, once)
        });
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn render_template(
        &self,
        request: Request<RenderTemplateRequest>,
    ) -> Result<Response<RenderTemplateResponse>, Status> {
        let caller = caller(&request)?;
        let answer = self.rendered(&caller, request.into_inner());
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn create_workflow(
        &self,
        request: Request<CreateWorkflowRequest>,
    ) -> Result<Response<CreateWorkflowResponse>, Status> {
        let caller = caller(&request)?;
        let answer = self.workflow_created(caller, request.into_inner());
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn preview_workflow(
        &self,
        request: Request<CreateWorkflowRequest>,
    ) -> Result<Response<PreviewWorkflowResponse>, Status> {
        let caller = caller(&request)?;
        let answer = self.workflow_previewed(caller, request.into_inner());
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn get_workflow(&self, request: Request<GetWorkflowRequest>) -> Result<Response<Workflow>, Status> {
        let reach = caller(&request)?.reach;
        let id = request.into_inner().id;
        let workflow = self.workflow(&reach, &id).await.map_err(status)?;
        let text = self.workflow_text(&workflow).await.map_err(status)?;
        let mut shown = [convert::shown(&workflow, text)];
        self.with_machines(&reach, &mut shown).await.map_err(status)?;
        let [shown] = shown;
        Ok(Response::new(shown))
    }

    async fn list_workflows(
        &self,
        request: Request<ListWorkflowsRequest>,
    ) -> Result<Response<ListWorkflowsResponse>, Status> {
        let caller = caller(&request)?;
        let answer = self.workflows_listed(caller, request.into_inner());
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn delete_workflow(
        &self,
        request: Request<DeleteWorkflowRequest>,
    ) -> Result<Response<DeleteWorkflowResponse>, Status> {
        let (caller, request, once) = asked(request)?;
        let answer = self.do_once(once, |once| {
            self.delete_workflow(&caller.reach, &request.id, once)
        });
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn cancel_workflow(
        &self,
        request: Request<CancelWorkflowRequest>,
    ) -> Result<Response<Workflow>, Status> {
        let (caller, request, once) = asked(request)?;
        let why = (caller.name.as_str(), request.reason.as_str());
        let workflow = self
            .cancel_workflow(&caller.reach, &request.id, why, once)
            .await
            .map_err(status)?;
        Ok(Response::new(convert::shown(&workflow, None)))
    }

    async fn pause_workflow(
        &self,
        request: Request<PauseWorkflowRequest>,
    ) -> Result<Response<Workflow>, Status> {
        let (caller, PauseWorkflowRequest { id, reason, .. }, once) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        self.told(&reach, &id, Command::Pause { by, reason }, once).await
    }

    async fn start_workflow(
        &self,
        request: Request<StartWorkflowRequest>,
    ) -> Result<Response<Workflow>, Status> {
        let (caller, StartWorkflowRequest { id, at, .. }, once) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        let at = at.map(clock::unix_millis);
        let workflow = self
            .start_workflow(&reach, &id, at, by, once)
            .await
            .map_err(status)?;
        Ok(Response::new(convert::shown(&workflow, None)))
    }

    async fn label_workflow(
        &self,
        request: Request<LabelWorkflowRequest>,
    ) -> Result<Response<Workflow>, Status> {
        let (caller, LabelWorkflowRequest { id, set, remove, .. }, once) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        let change = (set.into_iter().collect(), remove.into_iter().collect());
        let workflow = self
            .label_workflow(&reach, &id, change, by, once)
            .await
            .map_err(status)?;
        Ok(Response::new(convert::shown(&workflow, None)))
    }

    async fn resume_workflow(
        &self,
        request: Request<ResumeWorkflowRequest>,
    ) -> Result<Response<Workflow>, Status> {
        let (caller, ResumeWorkflowRequest { id, .. }, once) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        self.told(&reach, &id, Command::Unpause { by }, once).await
    }

    async fn set_policy(&self, request: Request<SetPolicyRequest>) -> Result<Response<Workflow>, Status> {
        let (
            caller,
            SetPolicyRequest {
                id, policy: rules, ..
            },
            once,
        ) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        let policy = policy(&rules).map_err(status)?;
        let command = Command::SetPolicy { policy, by };
        self.told(&reach, &id, command, once).await
    }

    async fn retry_task(&self, request: Request<RetryTaskRequest>) -> Result<Response<Workflow>, Status> {
        let (caller, RetryTaskRequest { id, task, .. }, once) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        let (task, item) = of_item(&task);
        let command = Command::RetryOne { task, item, by };
        self.told(&reach, &id, command, once).await
    }

    async fn pause_task(&self, request: Request<PauseTaskRequest>) -> Result<Response<Workflow>, Status> {
        let (caller, PauseTaskRequest { id, task, reason, .. }, once) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        let (task, item) = of_item(&task);
        let command = Command::PauseOne {
            task,
            item,
            by,
            reason,
        };
        self.told(&reach, &id, command, once).await
    }

    async fn resume_task(&self, request: Request<ResumeTaskRequest>) -> Result<Response<Workflow>, Status> {
        let (caller, ResumeTaskRequest { id, task, .. }, once) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        let (task, item) = of_item(&task);
        let command = Command::UnpauseOne { task, item, by };
        self.told(&reach, &id, command, once).await
    }

    async fn skip_task(&self, request: Request<SkipTaskRequest>) -> Result<Response<Workflow>, Status> {
        let (caller, SkipTaskRequest { id, task, reason, .. }, once) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        let (task, item) = of_item(&task);
        let command = Command::Skip {
            task,
            item,
            by,
            reason,
        };
        self.told(&reach, &id, command, once).await
    }

    async fn retry_workflow(
        &self,
        request: Request<RetryWorkflowRequest>,
    ) -> Result<Response<Workflow>, Status> {
        let (caller, RetryWorkflowRequest { id, .. }, once) = asked(request)?;
        let Caller { name: by, reach, .. } = caller;
        self.told(&reach, &id, Command::Retry { by }, once).await
    }

    async fn decide_approval(
        &self,
        request: Request<DecideApprovalRequest>,
    ) -> Result<Response<Workflow>, Status> {
        let (caller, request, once) = asked(request)?;
        let Caller {
            name: by,
            groups,
            reach,
            ..
        } = caller;
        let DecideApprovalRequest {
            id,
            task,
            approved,
            comment,
            ..
        } = request;
        // The one that waited may wait no more.
        if let Some(once) = &once
            && self.done_before(once).await.map_err(status)?.is_some()
        {
            let workflow = self.workflow(&reach, &id).await.map_err(status)?;
            return Ok(Response::new(convert::shown(&workflow, None)));
        }
        let (task, item) = match task.as_str() {
            "" => the_one_that_waits(&*self.workflow(&reach, &id).await.map_err(status)?).map_err(status)?,
            task => of_item(task),
        };
        let command = Command::Decide {
            task,
            item,
            approved,
            by,
            groups,
            comment,
        };
        self.told(&reach, &id, command, once).await
    }

    async fn explain_workflow(
        &self,
        request: Request<ExplainWorkflowRequest>,
    ) -> Result<Response<ExplainWorkflowResponse>, Status> {
        let reach = caller(&request)?.reach;
        let ExplainWorkflowRequest { id, task } = request.into_inner();
        let lines = self
            .explain(&reach, &id, Some(task.as_str()).filter(|task| !task.is_empty()))
            .await
            .map_err(status)?;
        Ok(Response::new(ExplainWorkflowResponse { lines }))
    }

    async fn wait_workflow(
        &self,
        request: Request<WaitWorkflowRequest>,
    ) -> Result<Response<WaitWorkflowResponse>, Status> {
        let reach = caller(&request)?.reach;
        let WaitWorkflowRequest { id, timeout_ms } = request.into_inner();
        let within = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
        let workflow = self.wait(&reach, &id, within).await.map_err(status)?;
        let mut shown = [convert::shown(&workflow, None)];
        self.with_machines(&reach, &mut shown).await.map_err(status)?;
        Ok(Response::new(WaitWorkflowResponse {
            ended: workflow.head.state.is_final(),
            workflow: shown.into_iter().next(),
        }))
    }

    type WorkflowEventsStream = Answers<WorkflowEvent>;

    async fn workflow_events(
        &self,
        request: Request<WorkflowEventsRequest>,
    ) -> Result<Response<Self::WorkflowEventsStream>, Status> {
        let reach = caller(&request)?.reach;
        let WorkflowEventsRequest { id, from, follow } = request.into_inner();
        self.workflow(&reach, &id).await.map_err(status)?;
        let control = self.clone();
        Ok(answers(
            |to| async move { control.events(&reach, &id, from, follow, to).await },
            |(event, workflow)| convert::event(&event, &workflow),
        ))
    }

    type WorkflowLogsStream = Answers<LogLine>;

    async fn workflow_logs(
        &self,
        request: Request<WorkflowLogsRequest>,
    ) -> Result<Response<Self::WorkflowLogsStream>, Status> {
        let reach = caller(&request)?.reach;
        let WorkflowLogsRequest {
            id,
            follow,
            task,
            machine,
            since,
            tail,
        } = request.into_inner();
        let workflow = self.workflow(&reach, &id).await.map_err(status)?;
        let wanted = WantedLines {
            task: (!task.is_empty()).then(|| of_item(&task)),
            machine,
            since: since.map(clock::unix_millis).unwrap_or_default(),
            tail: usize::try_from(tail).unwrap_or(usize::MAX),
        };
        if let Some((task, _)) = &wanted.task {
            has_task(&workflow, task).map_err(status)?;
        }
        let control = self.clone();
        Ok(answers(
            |to| async move { control.log(&reach, &id, follow, wanted, to).await },
            convert::line,
        ))
    }

    type WorkflowDataStream = Answers<WorkflowDataFile>;

    async fn workflow_data(
        &self,
        request: Request<WorkflowDataRequest>,
    ) -> Result<Response<Self::WorkflowDataStream>, Status> {
        let reach = caller(&request)?.reach;
        let WorkflowDataRequest { id, version, path } = request.into_inner();
        self.workflow(&reach, &id).await.map_err(status)?;
        let control = self.clone();
        Ok(answers(
            |to| async move { control.data_files(&reach, &id, version, &path, to).await },
            |file| file,
        ))
    }

    type WatchProgressStream = Answers<ActionProgress>;

    async fn watch_progress(
        &self,
        request: Request<WatchProgressRequest>,
    ) -> Result<Response<Self::WatchProgressStream>, Status> {
        let reach = caller(&request)?.reach;
        let id = request.into_inner().id;
        if !id.is_empty() {
            self.workflow(&reach, &id).await.map_err(status)?;
        }
        let control = self.clone();
        Ok(answers(
            |to| async move { control.watch_progress(&reach, &id, to).await },
            |progress| progress,
        ))
    }

    async fn create_webhook(
        &self,
        request: Request<CreateWebhookRequest>,
    ) -> Result<Response<CreateWebhookResponse>, Status> {
        let caller = caller(&request)?;
        let made = self.webhook_created(caller, request.into_inner()).await;
        Ok(Response::new(made.map_err(status)?))
    }

    async fn list_webhooks(
        &self,
        request: Request<ListWebhooksRequest>,
    ) -> Result<Response<ListWebhooksResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let within = Within::listed(&caller, request.namespace, request.all_namespaces);
        let all = self.webhooks(within).await.map_err(status)?;
        let webhooks = all.into_iter().map(webhooks::webhook).collect();
        Ok(Response::new(ListWebhooksResponse { webhooks }))
    }

    async fn get_webhook(&self, request: Request<GetWebhookRequest>) -> Result<Response<Webhook>, Status> {
        let caller = caller(&request)?;
        let GetWebhookRequest { name, namespace } = request.into_inner();
        let found = self.webhook(Within::one(&caller, namespace), name).await;
        Ok(Response::new(webhooks::webhook(found.map_err(status)?)))
    }

    async fn delete_webhook(
        &self,
        request: Request<DeleteWebhookRequest>,
    ) -> Result<Response<DeleteWebhookResponse>, Status> {
        let (caller, request, once) = asked(request)?;
        let within = Within::one(&caller, request.namespace);
        let answer = self.do_once(once, |once| self.delete_webhook(within, request.name, once));
        Ok(Response::new(answer.await.map_err(status)?))
    }

    async fn test_webhook(
        &self,
        request: Request<TestWebhookRequest>,
    ) -> Result<Response<TestWebhookResponse>, Status> {
        let caller = caller(&request)?;
        let TestWebhookRequest { name, namespace } = request.into_inner();
        let tested = self
            .test_webhook(Within::one(&caller, namespace), name, &caller.name)
            .await;
        Ok(Response::new(webhooks::tested(tested.map_err(status)?)))
    }

    async fn webhook_deliveries(
        &self,
        request: Request<WebhookDeliveriesRequest>,
    ) -> Result<Response<WebhookDeliveriesResponse>, Status> {
        let caller = caller(&request)?;
        let WebhookDeliveriesRequest { name, namespace } = request.into_inner();
        let listed = self
            .webhook_deliveries(Within::one(&caller, namespace), name)
            .await;
        let deliveries = listed
            .map_err(status)?
            .into_iter()
            .map(webhooks::delivery)
            .collect();
        Ok(Response::new(WebhookDeliveriesResponse { deliveries }))
    }

    type FollowEventsStream = Answers<FollowedEvent>;

    async fn follow_events(
        &self,
        request: Request<FollowEventsRequest>,
    ) -> Result<Response<Self::FollowEventsStream>, Status> {
        super::listeners::follow_events(self, caller(&request)?, request.into_inner()).await
    }

    type BootLogStream = Answers<BootLogEntry>;

    async fn boot_log(
        &self,
        request: Request<BootLogRequest>,
    ) -> Result<Response<Self::BootLogStream>, Status> {
        let reach = caller(&request)?.reach;
        let BootLogRequest {
            name_or_mac,
            follow,
            all,
            after,
        } = request.into_inner();
        let whose = match (all, name_or_mac.is_empty()) {
            (true, _) => Whose::Everybody,
            (false, true) => Whose::Strangers,
            (false, false) => {
                self.machine(&reach, &name_or_mac).await.map_err(status)?;
                Whose::Machine(name_or_mac)
            }
        };
        let control = self.clone();
        Ok(answers(
            |to| async move { control.boot_log(&reach, whose, follow, after, to).await },
            convert::boot_log_entry,
        ))
    }
}

impl ControlPlane {
    /// Tells a workflow what somebody wants of it, and shows what it is then.
    async fn told(
        &self,
        reach: &Reach,
        id: &str,
        command: Command,
        once: Option<Once>,
    ) -> Result<Response<Workflow>, Status> {
        let workflow = self.ask(reach, id, command, once).await.map_err(status)?;
        Ok(Response::new(convert::shown(&workflow, None)))
    }
}
