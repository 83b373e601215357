//! Answers of the distribution API, for machines: reading only.
//!
//! Source: OCI distribution specification 1.1, "Pull" and "Content Discovery"; RFC 9110 sections 12.5.1 and 14.

use std::ops::Range;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LINK, WARNING,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use oci::Reference;
use ranges::Reply;
use store::blobs::{BlobError, Digest};

use crate::catalogue::{Catalogue, CatalogueError, Named};
use crate::document::{Document, Part};
use crate::outside::{Fetched, NotFetched, Outside};
use crate::problem::{Code, Problem};
use crate::route::{Asked, asked};
use crate::shelf::{Shelf, ShelfError};
use crate::{blob_of, written};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// Tags in one answer, whatever is asked for.
const TAGS_LIMIT: usize = 1_000;

/// What answers are made from.
struct Registry {
    shelf: Shelf,
    catalogue: Arc<dyn Catalogue>,
    outside: Outside,
}

/// A manifest, and whether its registry could not be asked whether it is still meant.
struct Found {
    digest: Digest,
    document: Document,
    bytes: Bytes,
    /// Why it was not asked, in words.
    stale: Option<String>,
}

/// The paths of a registry, below `/v2/`.
pub fn router(shelf: Shelf, catalogue: Arc<dyn Catalogue>, outside: Outside) -> Router {
    let registry = Arc::new(Registry {
        shelf,
        catalogue,
        outside,
    });
    Router::new()
        .route("/v2", any(answer))
        .route("/v2/", any(answer))
        .route("/v2/{*path}", any(answer))
        .with_state(registry)
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let asked = asked(&parts.method, parts.uri.path(), parts.uri.query());
    let is_head = parts.method == Method::HEAD;
    let answered = match asked {
        Ok(asked) => registry.answer(asked, &parts.headers, is_head).await,
        Err(problem) => Err(problem),
    };
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    // What every registry says, and old clients look for.
    response
        .headers_mut()
        .insert(VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

impl Registry {
    async fn answer(&self, asked: Asked, headers: &HeaderMap, is_head: bool) -> Result<Response, Problem> {
        match asked {
            Asked::Base => Ok(axum::Json(serde_json::json!({})).into_response()),
            Asked::Manifest(image) => self.manifest(&image, headers, is_head).await,
            Asked::Blob { of, digest } => self.blob(&of, &digest, headers, is_head).await,
            Asked::Tags {
                registry,
                repository,
                count,
                last,
            } => self.tags(&registry, &repository, count, last.as_deref()).await,
        }
    }

    async fn manifest(
        &self,
        image: &Reference,
        headers: &HeaderMap,
        is_head: bool,
    ) -> Result<Response, Problem> {
        let found = match image.digest() {
            Some(digest) => self.by_digest(image, blob_of(digest)).await?,
            None => self.by_tag(image).await?,
        };
        let Found {
            digest,
            document,
            bytes,
            stale,
        } = found;
        self.catalogue.given(digest);
        if !accepts(headers, &document.media_type) {
            let message = format!(
                "{image} is a {}, and that is not among what the request accepts",
                document.media_type
            );
            return Err(Problem::new(Code::ManifestUnknown, message));
        }
        let mut response = manifest_answer(&digest, &document, bytes, headers, is_head);
        if let Some(why) = stale {
            tracing::warn!(%image, "what the server has is given, as its registry cannot be asked: {why}");
            // RFC 7234 section 5.5.1.
            let warning = HeaderValue::from_static("110 farrier \"Response is Stale\"");
            response.headers_mut().insert(WARNING, warning);
        }
        Ok(response)
    }

    async fn by_digest(&self, image: &Reference, digest: Option<Digest>) -> Result<Found, Problem> {
        let Some(digest) = digest else {
            return Err(unknown(image));
        };
        if let Some(found) = self.there(&digest).await? {
            return Ok(found);
        }
        if !self.outside.has(image.registry()) {
            return Err(unknown(image));
        }
        let turn = self.outside.turn(image);
        let _turn = turn.lock().await;
        if let Some(found) = self.there(&digest).await? {
            return Ok(found);
        }
        let fetched = self
            .outside
            .manifest(image)
            .await
            .map_err(|error| not_fetched(image, &error))?;
        self.keep(&fetched).await?;
        // One that an index names stays with that; any other has a name of its own.
        if self.part_of(image, &digest).await?.is_none() {
            self.catalogue.fetched(image, digest).await.map_err(away)?;
        }
        Ok(fetched.into())
    }

    async fn by_tag(&self, image: &Reference) -> Result<Found, Problem> {
        let named = self.catalogue.find(image).await.map_err(away)?;
        if let Some(found) = self.as_it_is(named).await? {
            return Ok(found);
        }
        if !self.outside.has(image.registry()) {
            return match named {
                Some(named) => self.there(&named.digest).await?.ok_or_else(|| unknown(image)),
                None => Err(unknown(image)),
            };
        }
        let turn = self.outside.turn(image);
        let _turn = turn.lock().await;
        let named = self.catalogue.find(image).await.map_err(away)?;
        if let Some(found) = self.as_it_is(named).await? {
            return Ok(found);
        }
        match self.outside.manifest(image).await {
            Ok(fetched) => {
                self.keep(&fetched).await?;
                self.catalogue
                    .fetched(image, fetched.digest)
                    .await
                    .map_err(away)?;
                Ok(fetched.into())
            }
            Err(error) => {
                let kept = match named {
                    Some(named) => self.there(&named.digest).await?,
                    None => None,
                };
                let kept = kept.ok_or_else(|| not_fetched(image, &error))?;
                Ok(Found {
                    stale: Some(error.to_string()),
                    ..kept
                })
            }
        }
    }

    /// What a name means, if nobody has to be asked whether it still does.
    async fn as_it_is(&self, named: Option<Named>) -> Result<Option<Found>, Problem> {
        let Some(Named { digest, asked_at }) = named else {
            return Ok(None);
        };
        let fresh_for = self.outside.tag_is_fresh_for();
        let is_fresh = asked_at.is_none_or(|at| at.elapsed().is_ok_and(|age| age < fresh_for));
        match is_fresh {
            true => self.there(&digest).await,
            false => Ok(None),
        }
    }

    async fn there(&self, digest: &Digest) -> Result<Option<Found>, Problem> {
        let found = self
            .shelf
            .document(digest)
            .await
            .map_err(|error| trouble(&error))?;
        Ok(found.map(|(document, bytes)| Found {
            digest: *digest,
            document,
            bytes,
            stale: None,
        }))
    }

    async fn keep(&self, fetched: &Fetched) -> Result<(), Problem> {
        let kept = self.shelf.blobs().put(fetched.bytes.clone()).await;
        kept.map(drop).map_err(|error| trouble(&error.into()))
    }

    /// Whether a name of this image's repository leads to a content; and what is said of it, if it is not there.
    async fn part_of(&self, image: &Reference, digest: &Digest) -> Result<Option<Missing>, Problem> {
        let names = self.catalogue.of_repository(image.registry(), image.repository());
        for (_, named) in names.await.map_err(away)? {
            let tree = self.shelf.tree(&named.digest).await;
            let tree = tree.map_err(|error| trouble(&error))?;
            if tree.named.contains(digest) {
                let mut parts = tree.missing.into_iter().chain(tree.absent);
                let part = parts.find(|part| part.digest == *digest);
                return Ok(Some(part.map_or(Missing::IsThere, Missing::Part)));
            }
        }
        Ok(None)
    }

    async fn blob(
        &self,
        image: &Reference,
        digest: &Digest,
        headers: &HeaderMap,
        is_head: bool,
    ) -> Result<Response, Problem> {
        if let Some(response) = self.stored(digest, headers, is_head).await? {
            return Ok(response);
        }
        let missing = || {
            let message = format!("this server has no blob {}", written(digest));
            Problem::new(Code::BlobUnknown, message)
        };
        if !self.outside.has(image.registry()) {
            return Err(missing());
        }
        let part = match self.part_of(image, digest).await?.ok_or_else(missing)? {
            Missing::Part(part) => part,
            // It has come since.
            Missing::IsThere => return self.stored(digest, headers, is_head).await?.ok_or_else(missing),
        };
        if is_head {
            let (head, _) = BlobHead::new(digest, headers, part.size_bytes, true);
            return Ok(head.with(Body::empty()));
        }
        let flight = self.outside.blob(&self.shelf, image, *digest, part.size_bytes);
        let flight = match flight.await {
            Ok(Some(flight)) => flight.begun().await.map(|()| flight),
            Ok(None) => return self.stored(digest, headers, is_head).await?.ok_or_else(missing),
            Err(why) => Err(why),
        };
        let flight = flight.map_err(|why| {
            let message = format!("blob {} of {image} cannot be fetched: {why}", written(digest));
            Problem::new(Code::BlobUnknown, message)
        })?;
        self.catalogue.given(*digest);
        let (head, part) = BlobHead::new(digest, headers, flight.size_bytes, false);
        let body = limited(flight.bytes(part.start), part.end - part.start);
        Ok(head.with(Body::from_stream(body)))
    }

    /// A blob that is there; `None`: it is not.
    async fn stored(
        &self,
        digest: &Digest,
        headers: &HeaderMap,
        is_head: bool,
    ) -> Result<Option<Response>, Problem> {
        let found = self.shelf.blobs().head(digest).await;
        let Some(info) = found.map_err(|error| trouble(&error.into()))? else {
            return Ok(None);
        };
        self.catalogue.given(*digest);
        let (head, part) = BlobHead::new(digest, headers, info.len_bytes, is_head);
        let len_bytes = part.end - part.start;
        let body = match is_head || len_bytes == 0 {
            true => Body::empty(),
            false => {
                let body = self.body(digest, part.start, len_bytes).await;
                body.map_err(|error| trouble(&error))?
            }
        };
        Ok(Some(head.with(body)))
    }

    /// Bytes of a blob. The last of the whole are sent only when all of it was verified; else the connection breaks off.
    async fn body(&self, digest: &Digest, from: u64, len_bytes: u64) -> Result<Body, ShelfError> {
        let (_, chunks) = self.shelf.blobs().read_from(digest, from).await?;
        let wanted = limited(chunks, len_bytes);
        let digest = *digest;
        Ok(Body::from_stream(wanted.inspect_err(move |error| {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "blob {} breaks off",
                written(&digest)
            );
        })))
    }

    async fn tags(
        &self,
        registry: &str,
        repository: &str,
        count: Option<usize>,
        last: Option<&str>,
    ) -> Result<Response, Problem> {
        let all = self
            .catalogue
            .of_repository(registry, repository)
            .await
            .map_err(away)?;
        let tags: Vec<String> = all.into_iter().filter_map(|(tag, _)| tag).collect();
        if tags.is_empty() {
            let message = format!("this server has no image of {registry}/{repository}");
            return Err(Problem::new(Code::NameUnknown, message));
        }
        let behind = tags
            .into_iter()
            .filter(|tag| last.is_none_or(|last| tag.as_str() > last));
        let count = count.unwrap_or(TAGS_LIMIT).min(TAGS_LIMIT);
        let mut behind = behind.peekable();
        let some: Vec<String> = behind.by_ref().take(count).collect();
        let body = serde_json::json!({"name": repository, "tags": some});
        let mut response = axum::Json(body).into_response();
        if let (Some(last), Some(_)) = (some.last(), behind.peek()) {
            let link =
                format!("</v2/{repository}/tags/list?n={count}&last={last}&ns={registry}>; rel=\"next\"");
            insert(response.headers_mut(), LINK, &link);
        }
        Ok(response)
    }
}

/// A content that an image names.
enum Missing {
    IsThere,
    Part(Part),
}

/// The head of an answer with a blob.
struct BlobHead {
    status: StatusCode,
    headers: HeaderMap,
}

impl BlobHead {
    /// And which part of the blob is asked for.
    fn new(digest: &Digest, asked: &HeaderMap, size_bytes: u64, is_head: bool) -> (BlobHead, Range<u64>) {
        let etag = format!("\"{}\"", written(digest));
        // Range is for GET only (RFC 9110 section 14.2).
        let reply = match ranges::decide(asked, &etag, size_bytes) {
            Reply::Part(_) | Reply::Unsatisfiable if is_head => Reply::Whole,
            reply => reply,
        };
        let (status, part, range) = match reply {
            Reply::NotModified => (StatusCode::NOT_MODIFIED, 0..0, None),
            Reply::Part(part) => {
                let range = format!("bytes {}-{}/{size_bytes}", part.start, part.end - 1);
                (StatusCode::PARTIAL_CONTENT, part, Some(range))
            }
            Reply::Unsatisfiable => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                0..0,
                Some(format!("bytes */{size_bytes}")),
            ),
            Reply::Whole => (StatusCode::OK, 0..size_bytes, None),
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if status != StatusCode::NOT_MODIFIED {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
        }
        insert(&mut headers, DIGEST, &written(digest));
        insert(&mut headers, ETAG, &etag);
        if let Some(range) = range {
            insert(&mut headers, CONTENT_RANGE, &range);
        }
        (BlobHead { status, headers }, part)
    }

    fn with(self, body: Body) -> Response {
        (self.status, self.headers, body).into_response()
    }
}

/// The first so many bytes; what is behind them is not read.
fn limited<E>(
    chunks: impl Stream<Item = Result<Bytes, E>>,
    len_bytes: u64,
) -> impl Stream<Item = Result<Bytes, E>> {
    chunks.scan(len_bytes, |left, chunk| {
        let chunk = chunk.map(|mut chunk| {
            let some = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
            chunk.truncate(some);
            *left -= some as u64;
            chunk
        });
        std::future::ready(match &chunk {
            Ok(chunk) if chunk.is_empty() => None,
            _ => Some(chunk),
        })
    })
}

impl From<Fetched> for Found {
    fn from(fetched: Fetched) -> Found {
        Found {
            digest: fetched.digest,
            document: fetched.document,
            bytes: fetched.bytes.into(),
            stale: None,
        }
    }
}

fn unknown(image: &Reference) -> Problem {
    let message = format!("this server has no {image}: bring it with `farrier registry import`");
    Problem::new(Code::ManifestUnknown, message)
}

/// In the words of what went wrong with the registry. Whoever asked goes on to that registry itself with a 404, and does not wait.
fn not_fetched(image: &Reference, error: &NotFetched) -> Problem {
    tracing::warn!(%image, "it is not fetched: {error}");
    Problem::new(
        Code::ManifestUnknown,
        format!("this server has no {image}, and {error}"),
    )
}

fn manifest_answer(
    digest: &Digest,
    document: &Document,
    bytes: Bytes,
    asked: &HeaderMap,
    is_head: bool,
) -> Response {
    let etag = format!("\"{}\"", written(digest));
    let size_bytes = bytes.len();
    let (status, body) = match (ranges::not_modified(asked, &etag), is_head) {
        (true, _) => (StatusCode::NOT_MODIFIED, Body::empty()),
        (false, true) => (StatusCode::OK, Body::empty()),
        (false, false) => (StatusCode::OK, Body::from(bytes)),
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    insert(headers, CONTENT_TYPE, &document.media_type);
    insert(headers, DIGEST, &written(digest));
    insert(headers, ETAG, &etag);
    if status == StatusCode::OK {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size_bytes));
    }
    response
}

/// Whether a type is among those that a request accepts; one that says none accepts all.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let said: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .filter(|range| !range.is_empty())
        .collect();
    said.is_empty()
        || said
            .iter()
            .any(|range| matches!(*range, "*/*" | "application/*") || range.eq_ignore_ascii_case(media_type))
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Trouble of this server's own. What it is stands in the log: whoever asks need not know its folders.
fn trouble(error: &ShelfError) -> Problem {
    let is_damaged = matches!(error, ShelfError::Blobs(BlobError::Damaged { .. }));
    tracing::error!(
        error = error as &dyn std::error::Error,
        "an image cannot be given"
    );
    Problem {
        status: match is_damaged {
            true => StatusCode::INTERNAL_SERVER_ERROR,
            false => StatusCode::SERVICE_UNAVAILABLE,
        },
        ..Problem::new(
            Code::Unknown,
            "the server's store of images is in trouble; its log says more",
        )
    }
}

fn away(CatalogueError(why): CatalogueError) -> Problem {
    tracing::error!("names of images cannot be looked up: {why}");
    Problem {
        status: StatusCode::SERVICE_UNAVAILABLE,
        ..Problem::new(
            Code::Unknown,
            "the server's store is in trouble; its log says more",
        )
    }
}
