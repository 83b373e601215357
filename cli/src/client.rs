//! The connection to a server, and how long we wait for it.
//!
//! Each answer has to begin within a time, but that of `WaitWorkflow`, which takes as long as the workflow does, and that of
//! `PutImageBlob`, which takes as long as the content that is sent. Streams
//! take as long as they take once they have begun. Whatever is waited for, the server is asked for a sign of life (an
//! HTTP/2 ping) while nothing comes from it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use access::{Bearer, NotTheServer, Pinned, Token};
use proto::v1::control_service_client::ControlServiceClient;
use tonic::body::Body;
use tonic::codegen::{Service, StdError, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::commands::RequestTimeout;
use crate::failure::{Failure, chain};

/// Where answers may take for ever.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(30);
/// A server that is gone is noticed after both, one after the other; a try to reach it again takes the rest of 20 s.
const PING_AFTER: Duration = Duration::from_secs(5);
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// They are answered when a workflow has ended, and when all of a content has come.
const WAITS: [&str; 2] = ["/WaitWorkflow", "/PutImageBlob"];

/// A server that answered.
pub(crate) struct Client {
    pub(crate) server: String,
    pub(crate) control: ControlServiceClient<Timely>,
    request_timeout: RequestTimeout,
}

/// A channel that shows a token with each request, and whose answers begin in time, or fail with [`NoAnswer`].
#[derive(Clone)]
pub(crate) struct Timely {
    channel: Channel,
    bearer: Bearer,
    request_timeout: RequestTimeout,
}

/// The server did not begin to answer within the time that it has.
#[derive(Debug, thiserror::Error)]
#[error("no answer in time")]
struct NoAnswer;

impl Service<http::Request<Body>> for Timely {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, StdError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        self.bearer.show(request.headers_mut());
        let path = request.uri().path();
        let waits = WAITS.iter().any(|call| path.ends_with(call));
        let answer = self.channel.call(request);
        let within = self.request_timeout.0.filter(|_| !waits);
        Box::pin(async move {
            match within {
                None => Ok(answer.await?),
                Some(within) => match tokio::time::timeout(within, answer).await {
                    Ok(answer) => Ok(answer?),
                    Err(_) => Err(NoAnswer.into()),
                },
            }
        })
    }
}

impl Client {
    /// Connects to a server of the token's authority, and no other.
    pub(crate) async fn connect_with(
        server: &str,
        token: &Token,
        request_timeout: RequestTimeout,
    ) -> Result<Self, Failure> {
        let server = server.to_owned();
        // What speaks TLS here is the connector.
        let endpoint = Endpoint::from_shared(format!("http://{server}")).map_err(|_| {
            Failure::Usage(format!(
                "bad --server {server:?}: expected HOST:PORT such as 10.77.0.1:42115"
            ))
        })?;
        let answers_within = request_timeout.0.unwrap_or(HANDSHAKE_WITHIN);
        let channel = endpoint
            .http2_keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PONG_WITHIN)
            .connect_with_connector(Pinned::new(token.pin, answers_within))
            .await
            .map_err(|error| unreached(&server, &error, answers_within))?;
        let timely = Timely {
            channel,
            bearer: Bearer::new(&token.secret),
            request_timeout,
        };
        let control = ControlServiceClient::new(timely).max_decoding_message_size(usize::MAX);
        Ok(Self {
            server,
            control,
            request_timeout,
        })
    }

    /// The answer, or the refusal in words.
    pub(crate) fn answer<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Failure> {
        answer
            .map(Response::into_inner)
            .map_err(|status| self.failure(&status))
    }

    pub(crate) fn failure(&self, status: &Status) -> Failure {
        let server = self.server.clone();
        match std::error::Error::source(status) {
            None => Failure::from_status(&self.server, status),
            Some(cause) if is_no_answer(cause) => Failure::NoAnswer {
                server,
                within: self.request_timeout.0.unwrap_or_default(),
            },
            // What the server says itself comes without a cause.
            Some(cause) => Failure::Broken {
                server,
                why: in_words(&chain(cause)),
            },
        }
    }

    /// The next of a stream of answers.
    pub(crate) async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, Failure> {
        stream.message().await.map_err(|status| self.failure(&status))
    }
}

fn is_no_answer(mut cause: &(dyn std::error::Error + 'static)) -> bool {
    loop {
        if cause.is::<NoAnswer>() {
            return true;
        }
        match cause.source() {
            Some(inner) => cause = inner,
            None => return false,
        }
    }
}

/// Why there is no connection.
fn unreached(server: &str, error: &(dyn std::error::Error + 'static), within: Duration) -> Failure {
    let server = server.to_owned();
    match not_the_server(error) {
        Some(NotTheServer::Silent) => Failure::NoAnswer { server, within },
        Some(why) => Failure::NotTheServer {
            server,
            why: why.clone(),
        },
        None => Failure::Unreachable {
            why: in_words(&chain(error)),
            server,
        },
    }
}

fn not_the_server<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a NotTheServer> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // What an I/O error was made from is not among its sources.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref());
        if let Some(found) = inner.or_else(|| error.downcast_ref()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Without the layers of the libraries.
fn in_words(why: &str) -> String {
    let why = why.strip_prefix("transport error: ").unwrap_or(why);
    let why = why.strip_prefix("tcp connect error: ").unwrap_or(why);
    let why = why.strip_prefix("dns error: ").unwrap_or(why);
    // A server that was killed says no goodbye (RFC 8446 section 6.1).
    if why.contains("close_notify") {
        return "it closed the connection".to_owned();
    }
    why.to_owned()
}
