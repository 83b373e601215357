//! The one request that is made for a webhook.
//!
//! Nothing of the answer counts but its status, and `retry-after`: its body is not read. Redirects are not followed: who gave the address
//! said where messages go.

use std::time::Duration;

use coordinator::webhooks::Target;
use coordinator::webhooks::delivery::Answer;
use coordinator::webhooks::signature::sign;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use rustls::{ClientConfig, RootCertStore};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// From the first byte of the request to the status.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// Of what is said of a failure.
const MAX_WHY_BYTES: usize = 300;

/// Sends messages.
pub(crate) struct Post {
    /// Or why there is none.
    client: Result<Client, String>,
}

impl Post {
    pub(crate) fn new() -> Self {
        // reqwest panics when no provider is installed; an error means that one already is.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            client: client().map_err(in_words),
        }
    }

    /// Sends one message, signed as of `at_s` (seconds since 1970).
    pub(crate) async fn send(&self, target: &Target, id: &str, at_s: u64, body: Vec<u8>) -> Answer {
        let none = |why: String| Answer::None { why };
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => return none(why.clone()),
        };
        let Some(signature) = sign(&target.key, id, at_s, &body) else {
            return none("its key is damaged: delete the webhook and make it anew".to_owned());
        };
        let request = client
            .post(target.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", at_s)
            .header("webhook-signature", signature)
            .body(body);
        match request.send().await {
            Ok(answer) => Answer::Status {
                code: answer.status().as_u16(),
                after_ms: after_ms(answer.headers()),
            },
            Err(error) => none(in_words(error)),
        }
    }
}

fn client() -> reqwest::Result<Client> {
    let builder = || -> ClientBuilder {
        Client::builder()
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWERS_WITHIN)
            .pool_max_idle_per_host(0)
            .redirect(Policy::none())
            .user_agent(concat!("farrier/", env!("CARGO_PKG_VERSION")))
    };
    if let Ok(client) = builder().build() {
        return Ok(client);
    }
    // A host without authorities of its own.
    let mut tls = ClientConfig::builder()
        .with_root_certificates(RootCertStore::from_iter(
            webpki_roots::TLS_SERVER_ROOTS.iter().cloned(),
        ))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    builder().tls_backend_preconfigured(tls).build()
}

/// Only the form in seconds: a date says little to a clock that may be another.
fn after_ms(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    seconds.checked_mul(1_000)
}

/// Why nothing was answered, without the address: that may have a credential in it.
fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = match () {
        () if error.is_connect() => "no connection".to_owned(),
        () if error.is_timeout() => format!("no answer within {} s", ANSWERS_WITHIN.as_secs()),
        () => "no answer".to_owned(),
    };
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    crate::bounds::cut(&mut text, MAX_WHY_BYTES, "…");
    text
}
