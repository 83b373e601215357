//! Who may ask what: nothing reaches the service of people that no good token came with.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use access::Bearer;
use coordinator::Error;
use coordinator::people::{Caller, Role};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Request, Status};

use super::status;
use crate::control::ControlPlane;

/// Calls that change nothing.
const VIEWERS: [&str; 27] = [
    "BootLog",
    "ExplainWorkflow",
    "FollowEvents",
    "GetMachine",
    "GetServer",
    "GetTemplate",
    "GetWebhook",
    "GetWorkflow",
    "ListImages",
    "ListMachines",
    "ListNamespaces",
    "ListSecrets",
    "ListTemplateVersions",
    "ListTemplates",
    "ListWebhooks",
    "ListWorkflows",
    "LookAtMachine",
    "MissingImageBlobs",
    "PreviewWorkflow",
    "RenderTemplate",
    "WaitWorkflow",
    "WatchProgress",
    "WebhookDeliveries",
    "WhoAmI",
    "WorkflowData",
    "WorkflowEvents",
    "WorkflowLogs",
];
const OPERATORS: [&str; 24] = [
    "ApplyMachines",
    "BootMachineDisk",
    "CancelWorkflow",
    "CreateWorkflow",
    "DecideApproval",
    "DeleteImage",
    "DeleteMachine",
    "DeleteSecret",
    "DeleteTemplate",
    "DeleteWorkflow",
    "LabelWorkflow",
    "PauseTask",
    "PauseWorkflow",
    "PutImage",
    "PutImageBlob",
    "PutTemplate",
    "ResumeTask",
    "ResumeWorkflow",
    "RetryTask",
    "RetryWorkflow",
    "SetPolicy",
    "SetSecret",
    "SkipTask",
    "StartWorkflow",
];

/// The role that a call needs. One that stands nowhere is for admins.
fn needed(call: &str) -> Role {
    if VIEWERS.contains(&call) {
        Role::Viewer
    } else if OPERATORS.contains(&call) {
        Role::Operator
    } else {
        Role::Admin
    }
}

/// Whether it only looks.
#[cfg(test)]
pub(super) fn changes_nothing(call: &str) -> bool {
    VIEWERS.contains(&call) || call == "ListTokens"
}

/// A service that hears only whom the control plane knows. The requests that it hears carry their [`Caller`].
#[derive(Clone)]
pub(super) struct Admitted<S> {
    service: S,
    control: ControlPlane,
}

impl<S> Admitted<S> {
    pub(super) fn new(service: S, control: ControlPlane) -> Self {
        Self { service, control }
    }
}

impl<S: NamedService> NamedService for Admitted<S> {
    const NAME: &'static str = S::NAME;
}

type Answer = http::Response<Body>;

impl<S> Service<http::Request<Body>> for Admitted<S>
where
    S: Service<http::Request<Body>, Response = Answer, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The one that is ready is used; its clone may not be.
        let clone = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, clone);
        let control = self.control.clone();
        let call = request
            .uri()
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let secret = Bearer::shown(request.headers());
        Box::pin(async move {
            match admit(&control, secret, &call).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    service.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

async fn admit(control: &ControlPlane, secret: Option<access::Secret>, call: &str) -> Result<Caller, Status> {
    let Some(secret) = secret else {
        return Err(Status::unauthenticated(
            "no token was shown: log in with `farrier login`, or put a token into FARRIER_TOKEN",
        ));
    };
    let caller = control.caller(secret.digest()).await.map_err(status)?;
    let needed = needed(call);
    if caller.role < needed {
        let Caller { name, role, .. } = &caller;
        return Err(status(Error::Denied(format!(
            "{call} is for tokens of role {needed}, and that of {name} is of role {role}: ask an admin for another (`farrier \
             token create NAME --role {needed}`)"
        ))));
    }
    // Whoever gives tokens and namespaces could give itself more than it has.
    if needed == Role::Admin && !caller.reach.is_everything() {
        return Err(status(Error::Denied(format!(
            "{call} is for admins of all namespaces, and the token of {} is for some: ask one who is",
            caller.name
        ))));
    }
    if needed > Role::Viewer {
        tracing::info!(by = caller.name, call, "asked");
    }
    Ok(caller)
}

/// Who asks.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>();
    caller
        .cloned()
        .ok_or_else(|| Status::internal("a request came past the check of its token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_of_the_api_stands_in_one_list() {
        const ADMINS: [&str; 8] = [
            "CreateNamespace",
            "CreateToken",
            "CreateWebhook",
            "DeleteNamespace",
            "DeleteToken",
            "DeleteWebhook",
            "ListTokens",
            "TestWebhook",
        ];
        let api = include_str!("../../../proto/proto/farrier/v1/control.proto");
        let calls = api.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let mut calls: Vec<&str> = calls.filter_map(|line| line.split('(').next()).collect();
        let mut listed = [&VIEWERS[..], &OPERATORS, &ADMINS].concat();
        calls.sort_unstable();
        listed.sort_unstable();
        assert_eq!(calls, listed);
        assert!(ADMINS.iter().all(|call| needed(call) == Role::Admin));
        assert_eq!(needed("Unheard"), Role::Admin);
    }
}
