//! An HTTP server that breaks on purpose.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, Uri, header};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

/// How one request is answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// As a good server does.
    Good,
    /// So many bytes, then the connection breaks.
    CutAfter(usize),
    /// So many bytes, then silence with the connection open.
    StallAfter(usize),
    /// The whole of it with 200 although a range was asked for.
    NoRange,
    /// A range with the digits of another one.
    WrongRange,
    Status(u16),
}

/// What is served, and how.
pub(super) struct Site {
    pub(super) content: Bytes,
    pub(super) etag: Option<String>,
    /// What `<path>.sha256` has; `None`: the status.
    pub(super) digest_file: Option<Vec<u8>>,
    pub(super) digest_status: u16,
    /// The next answers for the image; when empty, `otherwise`.
    pub(super) answers: VecDeque<Answer>,
    pub(super) otherwise: Answer,
    /// Bodies are sent in pieces of these sizes, in turn.
    pub(super) pieces: Vec<usize>,
    /// Headers of the image's answers, and of those after the first where they are others.
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) later_headers: Option<Vec<(&'static str, &'static str)>>,
    /// Headers of the digest file's.
    pub(super) digest_headers: Vec<(&'static str, &'static str)>,
    /// Replaces content and tag once the given number of requests for the image was answered.
    pub(super) replace_after: Option<(usize, Bytes, Option<String>)>,
    pub(super) requests: Vec<Option<String>>,
    /// A range ends where it was asked to, and not with the content.
    pub(super) ends_ranges: bool,
}

impl Site {
    pub(super) fn new(content: impl Into<Bytes>) -> Site {
        Site {
            content: content.into(),
            etag: Some("\"one\"".to_owned()),
            digest_file: None,
            digest_status: 404,
            answers: VecDeque::new(),
            otherwise: Answer::Good,
            pieces: vec![64 << 10],
            headers: Vec::new(),
            later_headers: None,
            digest_headers: Vec::new(),
            replace_after: None,
            requests: Vec::new(),
            ends_ranges: true,
        }
    }
}

/// Serves until dropped.
pub(super) struct Server {
    pub(super) site: Arc<Mutex<Site>>,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Server {
    pub(super) async fn start(site: Site) -> Server {
        let site = Arc::new(Mutex::new(site));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&site));
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                served = axum::serve(listener, app) => served.unwrap(),
            }
        });
        Server {
            site,
            address,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn url(&self) -> Url {
        Url::parse(&format!("http://{}/images/disk.img", self.address)).unwrap()
    }

    /// The Range headers of the requests for the image.
    pub(super) fn requests(&self) -> Vec<Option<String>> {
        self.site.lock().unwrap().requests.clone()
    }
}

async fn answer(State(site): State<Arc<Mutex<Site>>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let mut site = site.lock().unwrap();
    if uri.path().ends_with(".sha256") {
        return match site.digest_file.clone() {
            Some(content) => {
                let mut response = Response::builder();
                for (name, value) in &site.digest_headers {
                    response = response.header(*name, *value);
                }
                response.body(Body::from(content)).unwrap()
            }
            None => status(site.digest_status),
        };
    }
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
    };
    let range = text(header::RANGE).map(str::to_owned);
    site.requests.push(range.clone());
    if let Some((_, content, etag)) = site
        .replace_after
        .clone()
        .filter(|(count, ..)| site.requests.len() > *count)
    {
        site.content = content;
        site.etag = etag;
    }
    let answer = site.answers.pop_front().unwrap_or(site.otherwise.clone());
    let same = text(header::IF_RANGE).is_none_or(|tag| Some(tag) == site.etag.as_deref());
    let total = site.content.len();
    let range: Option<(usize, usize)> =
        range
            .filter(|_| same && !matches!(answer, Answer::NoRange))
            .map(|range| {
                let (start, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
                let end = match (last, site.ends_ranges) {
                    ("", _) | (_, false) => total,
                    (last, true) => last.parse::<usize>().unwrap() + 1,
                };
                (start.parse().unwrap(), end.min(total))
            });
    let start = range.map(|(start, _)| start);
    if start.is_some_and(|start| start >= total) {
        return status(416);
    }
    let (from, end) = range.unwrap_or((0, total));
    let body = site.content.slice(from..end);
    let mut response = Response::builder().header(header::CONTENT_LENGTH, body.len());
    if let Some(etag) = &site.etag {
        response = response.header(header::ETAG, etag);
    }
    let later = site.later_headers.clone().filter(|_| site.requests.len() > 1);
    for (name, value) in later.unwrap_or(site.headers.clone()) {
        response = response.header(name, value);
    }
    if let Some(start) = start {
        let said = if matches!(answer, Answer::WrongRange) {
            start + 1
        } else {
            start
        };
        let range = format!("bytes {said}-{}/{total}", end - 1);
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, range);
    }
    let body = match answer {
        Answer::Good | Answer::NoRange | Answer::WrongRange => pieces(&body, &site.pieces, End::Whole),
        Answer::CutAfter(len) => pieces(&body.slice(..len.min(body.len())), &site.pieces, End::Cut),
        Answer::StallAfter(len) => pieces(&body.slice(..len.min(body.len())), &site.pieces, End::Silence),
        Answer::Status(code) => return status(code),
    };
    response.body(body).unwrap()
}

fn status(code: u16) -> Response<Body> {
    Response::builder().status(code).body(Body::from("no")).unwrap()
}

#[derive(PartialEq, Eq)]
enum End {
    Cut,
    Silence,
    Whole,
}

fn pieces(content: &Bytes, sizes: &[usize], end: End) -> Body {
    use futures_util::stream::{self, StreamExt};
    let mut pieces: Vec<Result<Bytes, io::Error>> = Vec::new();
    let mut at = 0;
    for size in sizes.iter().cycle() {
        if at >= content.len() {
            break;
        }
        let next = (at + size).min(content.len());
        pieces.push(Ok(content.slice(at..next)));
        at = next;
    }
    let given = stream::iter(pieces);
    match end {
        End::Whole => Body::from_stream(given),
        End::Cut => Body::from_stream(given.chain(stream::iter([Err(io::Error::other("cut on purpose"))]))),
        End::Silence => Body::from_stream(given.chain(stream::pending())),
    }
}
