//! What listeners ask, and what they are told.

use std::sync::Arc;

use coordinator::people::Caller;
use proto::v1::{FollowEventsRequest, FollowedEvent, WorkflowEvent};
use tonic::{Response, Status};

use super::answers::{Answers, answers};
use super::convert;
use super::given::selected;
use super::status;
use crate::control::ControlPlane;
use crate::listeners::follow::{Follow, Told};
use crate::listeners::wanted::Wanted;
use crate::within::Within;

pub(super) async fn follow_events(
    control: &ControlPlane,
    caller: Caller,
    request: FollowEventsRequest,
) -> Result<Response<Answers<FollowedEvent>>, Status> {
    let asked = Follow {
        since: request.since.parse().map_err(status)?,
        goes_on: request.follow,
        wanted: Wanted {
            kinds: request.kinds.into_iter().collect(),
            selector: selected(&request.selector).map_err(status)?.map(Arc::new),
            machine: request.machine,
            workflow: request.workflow,
            ..Wanted::default()
        },
        within: Within::listed(&caller, request.namespace, request.all_namespaces),
    };
    let following = control.begin_following(asked).await.map_err(status)?;
    let control = control.clone();
    Ok(answers(
        |to| async move { control.follow(following, caller, to).await },
        followed,
    ))
}

fn followed(told: Told) -> FollowedEvent {
    let found = match told {
        Told::Event(found) => found,
        Told::Nothing(token) => {
            return FollowedEvent {
                token: token.to_string(),
                ..FollowedEvent::default()
            };
        }
    };
    let place = found.place;
    let told = FollowedEvent {
        token: place.token.to_string(),
        workflow: place.workflow,
        namespace: place.namespace,
        root: place.root,
        ..FollowedEvent::default()
    };
    match found.what {
        Some((workflow, event)) => FollowedEvent {
            name: workflow.head.name.clone(),
            labels: workflow
                .head
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            event: Some(convert::event(&event, &workflow)),
            ..told
        },
        None => FollowedEvent {
            event: Some(WorkflowEvent {
                number: place.number,
                kind: place.kind,
                ..WorkflowEvent::default()
            }),
            deleted: true,
            ..told
        },
    }
}
