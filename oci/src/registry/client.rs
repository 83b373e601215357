//! Requests to one endpoint: tokens and passwords, redirects, and what its answers mean.
//!
//! Credentials go to the endpoint whose they are, and to the token server that it names; no redirect takes them elsewhere.
//! Source: OCI distribution specification 1.1; distribution, "Token Authentication Specification".

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use super::challenge::Challenge;
use super::error::PullError;
use super::patience::{Patience, wish};
use super::settings::{Asked, Login, Transport};

/// As browsers do.
const MAX_REDIRECTS: usize = 10;
/// A token of some registries has some kilobytes.
const TOKEN_LIMIT_BYTES: usize = 256 << 10;
/// What is read of an error that a registry sends.
const ERROR_LIMIT_BYTES: usize = 16 << 10;

/// Asks one endpoint for what one repository has.
pub(crate) struct Client {
    http: reqwest::Client,
    asked: Asked,
    base: Url,
    repository: String,
    patience: Patience,
    /// What is sent as `Authorization`: learned from the first refusal.
    known: Mutex<Option<HeaderValue>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// Below the repository: `manifests/latest`.
    pub(crate) path: &'a str,
    pub(crate) accept: &'a [&'a str],
    /// The first byte, where not all of it is wanted.
    pub(crate) from: u64,
    /// Whether what comes is compared with a digest: then it may come over any way.
    pub(crate) has_digest: bool,
}

/// Why there is no answer to go on with.
#[derive(Debug)]
pub(crate) enum Failed {
    ForGood(PullError),
    ForNow {
        what: String,
        wish: Option<Duration>,
    },
    /// It has no such thing; what it says itself, with a colon before it.
    NotFound {
        said: String,
    },
}

/// An answer to a request, and from where: the endpoint itself, or where it led.
struct Answer {
    response: Response,
    is_own: bool,
}

impl Client {
    /// # Errors
    /// [`PullError::Unusable`] for settings that lead nowhere.
    pub(crate) fn new(
        asked: Asked,
        reach: &reach::Reach,
        repository: &str,
        patience: Patience,
    ) -> Result<Client, PullError> {
        let unusable = |what: String| PullError::Unusable {
            registry: asked.endpoint.host.clone(),
            what,
        };
        let base = asked.endpoint.base();
        let base = Url::parse(&base).map_err(|error| unusable(format!("{base} is no URL: {error}")))?;
        let mut reach = reach.clone();
        if let Some(trust) = &asked.endpoint.trust {
            reach.trust = trust.clone();
        }
        if asked.is_first {
            reach.proxies = reach::Proxies::default();
        }
        let http = reach::client(&reach, |client| client.redirect(Policy::none()))
            .map_err(|error| unusable(in_words(error)))?;
        Ok(Client {
            http,
            asked,
            base,
            repository: repository.to_owned(),
            patience,
            known: Mutex::new(None),
        })
    }

    /// As it is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.asked.endpoint.host
    }

    /// The head of an answer with content; its body is the caller's to read.
    pub(crate) async fn get(&self, request: Request<'_>) -> Result<Response, Failed> {
        let url = self.url(request.path)?;
        let mut may_log_in = true;
        loop {
            let authorization = self.known();
            let Answer { response, is_own } = self.send(url.clone(), request, authorization).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && is_own && may_log_in {
                may_log_in = false;
                self.log_in(response.headers()).await?;
                continue;
            }
            return match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
                _ => Err(self.judged(response, is_own, request.path).await),
            };
        }
    }

    fn url(&self, path: &str) -> Result<Url, Failed> {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{path}", self.repository));
        if let Some(registry) = &self.asked.mirror_of {
            // As containerd does: a mirror of several registries knows by it which one is meant.
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Ok(url)
    }

    /// One request, wherever it is led.
    async fn send(
        &self,
        url: Url,
        request: Request<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, Failed> {
        let mut url = url;
        for _ in 0..=MAX_REDIRECTS {
            let is_own = url.origin() == self.base.origin();
            let mut sent = self
                .http
                .get(url.clone())
                .header(ACCEPT, request.accept.join(", "))
                .header(ACCEPT_ENCODING, "identity");
            if let Some(authorization) = authorization.clone().filter(|_| is_own) {
                sent = sent.header(AUTHORIZATION, authorization);
            }
            if request.from > 0 {
                sent = sent.header(RANGE, format!("bytes={}-", request.from));
            }
            let response = self.answer(sent).await?;
            if !response.status().is_redirection() {
                return Ok(Answer { response, is_own });
            }
            url = self.led(&url, response.headers(), request.has_digest)?;
        }
        Err(Failed::ForGood(
            self.unusable(format!("it leads on more than {MAX_REDIRECTS} times")),
        ))
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Response, Failed> {
        match timeout(self.patience.answer, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_builder() => Err(Failed::ForGood(self.unusable(in_words(error)))),
            Ok(Err(error)) => match reach::no_tls(&error) {
                Some(why) => Err(Failed::ForGood(PullError::Untrusted {
                    registry: match error.url().and_then(Url::host_str) {
                        Some(host) if !self.name().starts_with(host) => {
                            format!("{} (at {host})", self.name())
                        }
                        _ => self.name().to_owned(),
                    },
                    what: why.what,
                })),
                None => Err(for_now(in_words(error))),
            },
            Err(_) => Err(for_now(format!(
                "no answer for {} s",
                self.patience.answer.as_secs_f32()
            ))),
        }
    }

    /// Where an answer leads.
    fn led(&self, from: &Url, headers: &HeaderMap, has_digest: bool) -> Result<Url, Failed> {
        let unusable = |what: String| Failed::ForGood(self.unusable(what));
        let location = headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| unusable("it leads elsewhere and does not say where".to_owned()))?;
        let mut to = from
            .join(location)
            .map_err(|error| unusable(format!("it leads to what is no URL: {error}")))?;
        if !matches!(to.scheme(), "http" | "https") {
            return Err(unusable(format!("it leads to a URL of scheme {}", to.scheme())));
        }
        if from.scheme() == "https" && to.scheme() == "http" && !has_digest {
            let host = to.host_str().unwrap_or_default();
            return Err(unusable(format!(
                "it leads from https to http (host {host}), where anybody on the way can change the image: name the image by its digest"
            )));
        }
        // A name in a URL would be sent as credentials.
        let _ = to.set_username("");
        let _ = to.set_password(None);
        Ok(to)
    }

    /// Learns from a refusal what is to be sent.
    async fn log_in(&self, headers: &HeaderMap) -> Result<(), Failed> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        let read: Vec<Challenge> = challenges
            .filter_map(|value| Challenge::read(value.to_str().ok()?))
            .collect();
        let token = read
            .iter()
            .find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let login = self.asked.endpoint.login.as_ref();
        match (token.or(read.first()), login) {
            (
                Some(Challenge::Bearer {
                    realm,
                    service,
                    scope,
                }),
                login,
            ) => {
                let token = self
                    .token(realm, service.as_deref(), scope.as_deref(), login)
                    .await?;
                let bearer = Zeroizing::new(format!("Bearer {}", token.as_str()));
                self.learn(&bearer)
            }
            (Some(Challenge::Basic), Some(login)) => self.learn(&basic(login)),
            (Some(Challenge::Basic), None) => Err(Failed::ForGood(self.login_wanted())),
            (None, _) => Err(Failed::ForGood(self.unusable(
                "it wants to know who asks, and neither by a password nor by a token".to_owned(),
            ))),
        }
    }

    fn learn(&self, authorization: &str) -> Result<(), Failed> {
        let mut value = HeaderValue::from_str(authorization).map_err(|_| {
            Failed::ForGood(self.unusable("its token has letters that no token has".to_owned()))
        })?;
        value.set_sensitive(true);
        let mut known = self
            .known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *known = Some(value);
        Ok(())
    }

    fn known(&self) -> Option<HeaderValue> {
        let known = self
            .known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        known.clone()
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        login: Option<&Login>,
    ) -> Result<Zeroizing<String>, Failed> {
        let unusable = |what: String| Failed::ForGood(self.unusable(what));
        let mut url = Url::parse(realm)
            .map_err(|error| unusable(format!("the URL of its token server is none: {error}")))?;
        let may_be_plain = self.asked.endpoint.transport == Transport::Plain;
        if url.scheme() != "https" && !(url.scheme() == "http" && may_be_plain) {
            return Err(unusable(format!(
                "its token server is at a URL of scheme {}, where credentials can be read by anybody on the way",
                url.scheme()
            )));
        }
        let default = format!("repository:{}:pull", self.repository);
        let mut pairs = vec![("scope", scope.unwrap_or(&default))];
        pairs.extend(service.map(|service| ("service", service)));
        url.query_pairs_mut().extend_pairs(pairs);
        let mut request = self.http.get(url).header(ACCEPT_ENCODING, "identity");
        if let Some(login) = login {
            let mut value =
                HeaderValue::from_str(&basic(login)).map_err(|_| unusable(NO_HEADER.to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = self.answer(request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Failed::ForGood(self.denied(response).await));
            }
            status if status.is_redirection() => {
                return Err(unusable(
                    "its token server leads elsewhere, where no credentials are sent".to_owned(),
                ));
            }
            _ => return Err(self.judged(response, false, "a token").await),
        }
        let body = Zeroizing::new(
            self.small(response, TOKEN_LIMIT_BYTES)
                .await
                .map_err(|what| for_now(format!("its token server: {what}")))?,
        );
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|_| unusable("what its token server sends is no token".to_owned()))?;
        let token = answer.token.or(answer.access_token).unwrap_or_default();
        match token.is_empty() {
            true => Err(unusable("its token server sends no token".to_owned())),
            false => Ok(token.into()),
        }
    }

    /// All of a small body.
    pub(crate) async fn small(&self, mut response: Response, limit_bytes: usize) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            match timeout(self.patience.stall, response.chunk()).await {
                Ok(Ok(Some(bytes))) => body.extend_from_slice(&bytes),
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => return Err(in_words(error)),
                Err(_) => {
                    return Err(format!(
                        "no byte came for {} s",
                        self.patience.stall.as_secs_f32()
                    ));
                }
            }
            if body.len() > limit_bytes {
                return Err(format!("more than {limit_bytes} B came"));
            }
        }
    }

    /// What an answer without content means.
    async fn judged(&self, response: Response, is_own: bool, what: &str) -> Failed {
        let status = response.status();
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE if is_own => Failed::NotFound {
                said: self.said(response).await,
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_own => {
                Failed::ForGood(self.denied(response).await)
            }
            // Where it leads to, addresses are good for some minutes: another one is asked for.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                for_now(format!("the server that it leads to answers {status}"))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                wished(&response)
            }
            status if status.is_server_error() => wished(&response),
            _ => {
                let said = self.said(response).await;
                Failed::ForGood(PullError::Refused {
                    registry: self.name().to_owned(),
                    what: format!("{} of {}", what, self.repository),
                    status: status.to_string(),
                    said,
                })
            }
        }
    }

    async fn denied(&self, response: Response) -> PullError {
        let status = response.status();
        let Some(login) = &self.asked.endpoint.login else {
            return self.login_wanted();
        };
        PullError::WrongCredentials {
            registry: self.name().to_owned(),
            image: self.repository.clone(),
            user: login.user.clone(),
            said: format!("it answers {status}{}", self.said(response).await),
        }
    }

    fn login_wanted(&self) -> PullError {
        PullError::LoginWanted {
            registry: self.name().to_owned(),
            image: self.repository.clone(),
        }
    }

    fn unusable(&self, what: String) -> PullError {
        PullError::Unusable {
            registry: self.name().to_owned(),
            what,
        }
    }

    /// What a registry says of an error, with a colon before it.
    async fn said(&self, response: Response) -> String {
        let body = self.small(response, ERROR_LIMIT_BYTES).await.unwrap_or_default();
        let errors: ErrorAnswer = serde_json::from_slice(&body).unwrap_or_default();
        let said = errors
            .errors
            .into_iter()
            .map(|error| error.message)
            .find(|said| !said.is_empty());
        let said = said.unwrap_or_default();
        // It may repeat what it was told; before it is cut.
        let said = match &self.asked.endpoint.login {
            Some(login) => login.hidden_in(&said),
            None => said,
        };
        let short: String = said
            .chars()
            .filter(|letter| !letter.is_control())
            .take(200)
            .collect();
        match short.as_str() {
            "" => String::new(),
            short => format!(": {short}"),
        }
    }
}

const NO_HEADER: &str = "the login for it has letters that no header can have";

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Default, Deserialize)]
struct ErrorAnswer {
    #[serde(default)]
    errors: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    message: String,
}

/// Source: RFC 7617.
fn basic(login: &Login) -> Zeroizing<String> {
    Zeroizing::new(format!("Basic {}", login.basic().as_str()))
}

fn for_now(what: String) -> Failed {
    Failed::ForNow { what, wish: None }
}

fn wished(response: &Response) -> Failed {
    let said = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    Failed::ForNow {
        what: format!("it answers {}", response.status()),
        wish: said.and_then(|said| wish(said, SystemTime::now())),
    }
}

/// What went wrong with a request. Where it went is not told: addresses to which registries lead are good for whoever has them.
pub(crate) fn in_words(error: reqwest::Error) -> String {
    reach::in_words(&error.without_url())
}
