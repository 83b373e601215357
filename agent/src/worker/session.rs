//! The stream to the server: opened for ever, with growing pauses; refusals in words.
//!
//! One task that owns the connection. It tells the worker when a stream is open, what came, and why it ended;
//! the worker's messages go through the sender that came with [`Notice::Open`], the Hello first.

use std::time::Duration;

use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::{AgentMessage, server_message};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::connection::{connect, with_jitter};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After a refusal: somebody has to change something first.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// Messages on their way; the worker waits when the stream is slower.
const IN_FLIGHT: usize = 64;

/// What the session tells the worker.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, handled at once")]
pub(super) enum Notice {
    /// The stream ended, or did not come to be; another is tried after a pause.
    Closed {
        why: String,
        refused: bool,
    },
    Message(server_message::Kind),
    /// A stream is being opened: the first message into it has to be the Hello. It ends when this is dropped.
    Open(Opened),
}

/// The worker's end of a stream.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) messages: mpsc::Sender<AgentMessage>,
    _open: oneshot::Sender<()>,
}

/// Runs until the worker drops its receiver. `server` is `host:port`.
pub(super) async fn run(server: String, notices: mpsc::Sender<Notice>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let end = attach_once(&server, &notices).await;
        if end.welcomed {
            pause = FIRST_PAUSE;
        }
        let closed = Notice::Closed {
            why: end.why,
            refused: end.refused,
        };
        if notices.send(closed).await.is_err() {
            return;
        }
        sleep(with_jitter(if end.refused { REFUSED_PAUSE } else { pause })).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

struct End {
    why: String,
    refused: bool,
    welcomed: bool,
}

async fn attach_once(server: &str, notices: &mpsc::Sender<Notice>) -> End {
    let lost = |why: String| End {
        why,
        refused: false,
        welcomed: false,
    };
    let channel = match connect(server).await {
        Ok(channel) => channel,
        Err(why) => return lost(why),
    };
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let (open, mut closed) = oneshot::channel();
    let opened = Opened {
        messages: sender,
        _open: open,
    };
    if notices.send(Notice::Open(opened)).await.is_err() {
        return lost(String::new());
    }
    let mut client = AgentServiceClient::new(channel);
    let attached = tokio::select! {
        attached = client.attach(ReceiverStream::new(receiver)) => attached,
        _ = &mut closed => return lost("the stream was left".to_owned()),
    };
    let mut messages = match attached {
        Ok(response) => response.into_inner(),
        Err(status) => return ended(&status, false),
    };
    let mut welcomed = false;
    loop {
        let message = tokio::select! {
            message = messages.message() => message,
            _ = &mut closed => return lost("the stream was left".to_owned()),
        };
        match message {
            Ok(Some(message)) => {
                let Some(kind) = message.kind else { continue };
                welcomed |= matches!(kind, server_message::Kind::Welcome(_));
                if notices.send(Notice::Message(kind)).await.is_err() {
                    return lost(String::new());
                }
            }
            Ok(None) => {
                return End {
                    why: "the server closed the stream".to_owned(),
                    refused: false,
                    welcomed,
                };
            }
            Err(status) => return ended(&status, welcomed),
        }
    }
}

fn ended(status: &Status, welcomed: bool) -> End {
    let refused = matches!(
        status.code(),
        Code::PermissionDenied | Code::NotFound | Code::Unauthenticated | Code::InvalidArgument
    );
    let why = match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => {
            format!("the server refuses this machine: {}", status.message())
        }
        Code::NotFound => format!("the server does not know this machine: {}", status.message()),
        Code::InvalidArgument => format!("the server does not understand this agent: {}", status.message()),
        code => format!("the stream broke: {}: {}", code.description(), status.message()),
    };
    End {
        why,
        refused,
        welcomed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_break() {
        assert!(ended(&Status::not_found("no machine has MAC x"), false).refused);
        assert!(!ended(&Status::unavailable("restart"), true).refused);
    }
}
