//! Requests that take effect once: each goes out with a key, so that it can be asked again when nobody knows whether it was heard.

use std::future::Future;

use tonic::{Response, Status};
use uuid::Uuid;

use crate::client::Client;
use crate::failure::Failure;
use crate::following::{Control, Following};
use crate::terminal::say;

/// The key of a request.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Key {
    /// Asked again with the same text it is done once, however often it is asked [default: a new one each time]
    #[arg(long, value_name = "TEXT", help_heading = "Server and answers")]
    idempotency_key: Option<String>,
}

impl Key {
    /// # Errors
    /// A key of several requests: it is of one.
    pub(crate) fn check_for(&self, count: usize) -> Result<(), Failure> {
        match self.idempotency_key {
            Some(_) if count > 1 => Err(Failure::Usage(format!(
                "--idempotency-key is for one request, and {count} are named: give it with one of them"
            ))),
            _ => Ok(()),
        }
    }

    pub(crate) fn text(self) -> String {
        self.idempotency_key.unwrap_or_else(|| Uuid::new_v4().to_string())
    }
}

/// The answer to a request with this key; while the server is away, it is asked again.
pub(crate) async fn once<T, F>(client: &Client, key: &str, ask: impl Fn(Control) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let answer = Following::new(client, None).ask(ask).await;
    if let Err(Failure::Broken { .. } | Failure::NoAnswer { .. } | Failure::NotNow { .. }) = answer {
        say(format_args!(
            "farrier: whether it was done is not known: asked again with --idempotency-key {key} it is done once"
        ));
    }
    answer
}

/// Asks a request that has an `idempotency_key`: `ask_once!(client, skip_task(request))`.
macro_rules! ask_once {
    ($client:expr, $call:ident($request:expr)) => {{
        let request = $request;
        $crate::once::once(&$client, &request.idempotency_key, |mut control| {
            let request = request.clone();
            async move { control.$call(request).await }
        })
        .await
    }};
}
pub(crate) use ask_once;
