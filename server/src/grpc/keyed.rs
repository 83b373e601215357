//! Requests that carry a key.

use coordinator::once::Once;
use coordinator::people::Caller;
use prost::Message;
use proto::v1::*;
use tonic::{Request, Status};

use super::admitted::caller;
use super::status;
use crate::clock;

/// A request that takes effect once for each key.
pub(super) trait Keyed: Message {
    /// As it is called.
    const CALL: &'static str;

    fn key(&mut self) -> &mut String;
}

macro_rules! keyed {
    ($($call:literal $request:ident)*) => {
        $(impl Keyed for $request {
            const CALL: &'static str = $call;

            fn key(&mut self) -> &mut String {
                &mut self.idempotency_key
            }
        })*

        /// All of them.
        #[cfg(test)]
        const CALLS: &[&str] = &[$($call),*];
    };
}

keyed! {
    "CancelWorkflow" CancelWorkflowRequest
    "CreateNamespace" CreateNamespaceRequest
    "DecideApproval" DecideApprovalRequest
    "DeleteImage" DeleteImageRequest
    "DeleteMachine" DeleteMachineRequest
    "DeleteNamespace" DeleteNamespaceRequest
    "DeleteSecret" DeleteSecretRequest
    "DeleteTemplate" DeleteTemplateRequest
    "DeleteToken" DeleteTokenRequest
    "DeleteWebhook" DeleteWebhookRequest
    "DeleteWorkflow" DeleteWorkflowRequest
    "LabelWorkflow" LabelWorkflowRequest
    "PauseTask" PauseTaskRequest
    "PauseWorkflow" PauseWorkflowRequest
    "ResumeTask" ResumeTaskRequest
    "ResumeWorkflow" ResumeWorkflowRequest
    "RetryTask" RetryTaskRequest
    "RetryWorkflow" RetryWorkflowRequest
    "SetPolicy" SetPolicyRequest
    "SkipTask" SkipTaskRequest
    "StartWorkflow" StartWorkflowRequest
}

/// Who asks, what, and the key that it is asked with.
pub(super) fn asked<T: Keyed>(request: Request<T>) -> Result<(Caller, T, Option<Once>), Status> {
    let caller = caller(&request)?;
    let mut request = request.into_inner();
    let once = once(&caller, &mut request)?;
    Ok((caller, request, once))
}

/// Takes the key out of a request: the rest is what it is a key of. `None`: it has none.
fn once<T: Keyed>(caller: &Caller, request: &mut T) -> Result<Option<Once>, Status> {
    let key = std::mem::take(request.key());
    if key.is_empty() {
        return Ok(None);
    }
    let once = Once::new(
        &caller.name,
        &key,
        T::CALL,
        &request.encode_to_vec(),
        clock::wall(),
    );
    once.map(Some).map_err(status)
}

#[cfg(test)]
mod tests {
    use coordinator::namespaces::Reach;
    use coordinator::people::Role;

    use super::*;

    fn ann() -> Caller {
        Caller {
            name: "ann".into(),
            groups: Vec::new(),
            role: Role::Operator,
            reach: Reach::everything(),
        }
    }

    #[test]
    fn the_same_request_is_the_same_whatever_the_order_of_its_labels() {
        let asked = |keys: &[usize]| {
            let mut request = LabelWorkflowRequest {
                id: "w".into(),
                set: keys
                    .iter()
                    .map(|key| (format!("k{key}"), "v".to_owned()))
                    .collect(),
                idempotency_key: "key".into(),
                ..LabelWorkflowRequest::default()
            };
            let once = once(&ann(), &mut request).expect("a key");
            assert!(request.idempotency_key.is_empty());
            format!("{once:?}").split("until").next().map(str::to_owned)
        };
        let all: Vec<usize> = (0..16).collect();
        let back: Vec<usize> = (0..16).rev().collect();
        assert_eq!(asked(&all), asked(&back));
        assert_ne!(asked(&all), asked(&back[1..]));
    }

    #[test]
    fn without_a_key_nothing_is_kept() {
        let once = once(&ann(), &mut SkipTaskRequest::default());
        assert_eq!(once.expect("none"), None);
    }

    /// docs/reference/idempotency.md says of every call that changes something how it may be repeated.
    #[test]
    fn each_call_that_changes_something_is_documented_as_what_it_is() {
        let page = include_str!("../../../docs/reference/idempotency.md");
        let row = |call: &str| {
            let start = format!("| `{call}` | ");
            page.lines()
                .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
        };
        for call in CALLS {
            let said = row(call).unwrap_or_else(|| panic!("{call} is not in the page"));
            assert!(said.starts_with("by key"), "{call}: {said}");
        }
        let api = include_str!("../../../proto/proto/farrier/v1/control.proto");
        let calls = api.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        for call in calls.filter_map(|line| line.split('(').next()) {
            let is_keyed = CALLS.contains(&call) || call == "CreateWorkflow";
            match (row(call), super::super::admitted::changes_nothing(call)) {
                (None, true) => {}
                (Some(said), false) => assert_eq!(said.starts_with("by key"), is_keyed, "{call}: {said}"),
                (found, _) => panic!("{call}: {found:?}"),
            }
        }
    }
}
