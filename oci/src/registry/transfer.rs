//! One blob, from a registry to whoever takes it, piece by piece; a transfer that breaks goes on where it was.
//!
//! Pieces of two answers are put together because the whole is compared with its digest. Source: OCI distribution specification
//! 1.1, "Pulling blobs"; RFC 9110 section 14.

use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::time::Instant;

use bytes::{Buf, Bytes};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::client::{Client, Failed, Request, in_words};
use super::error::PullError;
use super::patience::{Patience, Tries};
use super::progress::Progress;
use crate::manifest::Descriptor;

/// Where the bytes of a blob go.
pub trait Sink {
    /// Takes the next bytes; false if nothing more is wanted.
    fn take(&mut self, bytes: Bytes) -> impl Future<Output = bool> + Send;
}

/// To whoever receives them, as fast as they are received.
impl Sink for mpsc::Sender<Bytes> {
    async fn take(&mut self, bytes: Bytes) -> bool {
        self.send(bytes).await.is_ok()
    }
}

/// How a transfer ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All bytes that were said have come.
    Whole,
    /// Nobody wants the rest.
    Unwanted,
}

/// Brings a blob, from its byte `from` on.
///
/// # Errors
/// What asking again does not change, and [`PullError::Away`] when nothing new has come for too long.
pub(crate) async fn fetch(
    client: &Client,
    blob: &Descriptor,
    from: u64,
    patience: Patience,
    progress: &Progress,
    sink: &mut impl Sink,
) -> Result<Ended, PullError> {
    let path = format!("blobs/{}", blob.digest);
    let mut at = from;
    if at == blob.size_bytes {
        return Ok(Ended::Whole);
    }
    let mut tries = Tries::new(patience, Instant::now());
    loop {
        let request = Request {
            path: &path,
            accept: &["*/*"],
            from: at,
            has_digest: true,
        };
        let failed = match client.get(request).await {
            Ok(response) => {
                if at > from {
                    progress.resumed();
                }
                let mut body = Body {
                    client,
                    blob,
                    patience,
                    at,
                };
                let ended = body.take(response, progress, sink, &mut tries).await;
                at = body.at;
                match ended {
                    Ok(ended) => return Ok(ended),
                    Err(failed) => failed,
                }
            }
            Err(failed) => failed,
        };
        match failed {
            Failed::ForGood(error) => return Err(error),
            Failed::NotFound { .. } => {
                return Err(PullError::Refused {
                    registry: client.name().to_owned(),
                    what: format!("{path}, which its manifest names"),
                    status: StatusCode::NOT_FOUND.to_string(),
                    said: String::new(),
                });
            }
            Failed::ForNow { what, wish } => again(client, &mut tries, &what, wish).await?,
        }
    }
}

/// Waits before the next try.
///
/// # Errors
/// [`PullError::Away`] if it was tried for long enough.
pub(crate) async fn again(
    client: &Client,
    tries: &mut Tries,
    what: &str,
    wish: Option<std::time::Duration>,
) -> Result<(), PullError> {
    let random = std::hash::RandomState::new().build_hasher().finish() as u32;
    match tries.failed(Instant::now(), wish, random) {
        Some(pause) => {
            tracing::info!(
                registry = client.name(),
                "asked again in {} ms: {what}",
                pause.as_millis()
            );
            sleep(pause).await;
            Ok(())
        }
        None => Err(PullError::Away {
            registry: client.name().to_owned(),
            last: what.to_owned(),
            tries: tries.count,
            waited: tries.waited(Instant::now()),
        }),
    }
}

struct Body<'a> {
    client: &'a Client,
    blob: &'a Descriptor,
    patience: Patience,
    /// How many bytes of the blob have come.
    at: u64,
}

impl Body<'_> {
    async fn take(
        &mut self,
        mut response: Response,
        progress: &Progress,
        sink: &mut impl Sink,
        tries: &mut Tries,
    ) -> Result<Ended, Failed> {
        let mut known = self.known(&response)?;
        loop {
            if self.at == self.blob.size_bytes {
                return Ok(Ended::Whole);
            }
            let mut bytes = match timeout(self.patience.stall, response.chunk()).await {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => return Err(self.broken("its answer ended too early".to_owned())),
                Ok(Err(error)) => return Err(self.broken(in_words(error))),
                Err(_) => {
                    let stall = self.patience.stall.as_secs_f32();
                    return Err(self.broken(format!("no byte came for {stall} s")));
                }
            };
            let again = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
            bytes.advance(again);
            known -= again as u64;
            if bytes.is_empty() {
                continue;
            }
            self.at += bytes.len() as u64;
            if self.at > self.blob.size_bytes {
                return Err(Failed::ForGood(self.longer()));
            }
            progress.came(bytes.len() as u64);
            tries.went_on(Instant::now());
            if !sink.take(bytes).await {
                return Ok(Ended::Unwanted);
            }
            // The time that the taker took is not the registry's.
            tries.went_on(Instant::now());
        }
    }

    /// How many bytes of this answer are known already: all of them where the registry begins anew.
    fn known(&self, response: &Response) -> Result<u64, Failed> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(self.at);
        }
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        match range.and_then(first_byte) {
            Some(first) if first <= self.at => Ok(self.at - first),
            _ => Err(self.broken(format!(
                "it sends another range than the one from byte {}",
                self.at
            ))),
        }
    }

    fn longer(&self) -> PullError {
        PullError::Refused {
            registry: self.client.name().to_owned(),
            what: format!("blob {}", self.blob.digest),
            status: format!(
                "with more than the {} B that the manifest says",
                self.blob.size_bytes
            ),
            said: String::new(),
        }
    }

    fn broken(&self, what: String) -> Failed {
        Failed::ForNow {
            what: format!("at byte {} of {}: {what}", self.at, self.blob.size_bytes),
            wish: None,
        }
    }
}

/// `bytes 5-9/10`: where it begins.
fn first_byte(content_range: &str) -> Option<u64> {
    let range = content_range.trim().strip_prefix("bytes")?.trim_start();
    range.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_where_it_begins() {
        assert_eq!(first_byte("bytes 5-9/10"), Some(5));
        assert_eq!(first_byte(" bytes 5-9/*"), Some(5));
        for none in ["", "bytes", "bytes */10", "items 5-9/10", "bytes -9/10"] {
            assert_eq!(first_byte(none), None, "{none}");
        }
    }
}
