//! An HTTP download that goes on after breaks.
//!
//! A break is resumed with Range and If-Range, so that bytes of two different contents are never put together.
//! Source: RFC 9110 sections 13.1.5 (If-Range) and 14 (ranges).

use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes};
use reach::{NoTls, Reach};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Client, ClientBuilder, Response, StatusCode, Version};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::WriteError;
use super::coding::{self, Coding, Undone};
use super::decode::Limits;
use super::redirects::{Downgrade, redirects};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// A body that has begun and brings nothing for so long is given up, and the rest asked for anew. How long a server may
/// take to begin is another matter: one that fetches the image itself first is waited for as long as anything is.
const STALL: Duration = Duration::from_secs(30);

pub(super) struct Http {
    client: Client,
    url: Url,
    response: Option<Response>,
    at: u64,
    /// Where a part ends; `None`: it is the whole.
    until: Option<u64>,
    /// Bytes to drop: the server began anew although asked to go on.
    skip: u64,
    total: Option<u64>,
    /// What the first answer says of the content; the rest must be of the same.
    validator: Option<Validator>,
    digest_known: bool,
    resumes: u32,
    give_up_after: Duration,
    stall: Duration,
    /// Whether the present answer has brought a byte.
    has_begun: bool,
    codings: Vec<Coding>,
    content_type: Option<String>,
    retry: Retry,
}

/// The state of trying since the last byte.
struct Retry {
    tries: u32,
    pause: Duration,
    last_byte: Instant,
}

/// A strong entity tag, or the time of the last change where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validator(String);

/// What [`Http::fetch_small`] finds.
pub(super) enum Fetch {
    Content(Vec<u8>),
    NotFound,
    /// It is not small, or not what its header says; in words.
    Unusable(String),
}

/// Why a request did not lead to bytes.
enum Failed {
    ForGood(WriteError),
    ForNow(String),
}

impl Http {
    pub(super) fn new(
        url: Url,
        reach: &Reach,
        give_up_after: Duration,
        digest_known: bool,
        downgrade: Downgrade,
    ) -> Result<Http, WriteError> {
        // A download is one connection, and the next one is hours away.
        let tune = |client: ClientBuilder| client.pool_max_idle_per_host(0).redirect(redirects(downgrade));
        let client = reach::client(reach, tune).map_err(|err| WriteError::BadUrl {
            url: url.to_string(),
            what: reach::in_words(&err),
        })?;
        Ok(Http {
            client,
            url,
            response: None,
            at: 0,
            until: None,
            skip: 0,
            total: None,
            validator: None,
            digest_known,
            resumes: 0,
            give_up_after,
            stall: STALL.min(give_up_after),
            has_begun: false,
            codings: Vec::new(),
            content_type: None,
            retry: Retry::new(),
        })
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    pub(super) fn resumes(&self) -> u32 {
        self.resumes
    }

    /// How the bytes are coded, by the first answer. Ranges, length and [`Http::at`] are of the coded bytes: RFC 9110
    /// section 14.
    pub(super) fn codings(&self) -> &[Coding] {
        &self.codings
    }

    pub(super) fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, WriteError> {
        // The time that the caller took is not the server's.
        self.retry = Retry::new();
        loop {
            let has_begun = self.response.is_some() || self.at > 0;
            if has_begun && self.until.or(self.total) == Some(self.at) {
                return Ok(None);
            }
            let Some(response) = self.response.as_mut() else {
                match self.connect().await {
                    Ok(response) => {
                        self.response = Some(response);
                        self.has_begun = false;
                    }
                    Err(Failed::ForGood(err)) => return Err(err),
                    Err(Failed::ForNow(why)) => self.pause(why).await?,
                }
                continue;
            };
            let patience = if self.has_begun {
                self.stall
            } else {
                self.give_up_after.saturating_sub(self.retry.last_byte.elapsed())
            };
            let broken = match timeout(patience, response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    self.has_begun = true;
                    match self.accept(bytes)? {
                        Some(bytes) => return Ok(Some(bytes)),
                        None => continue,
                    }
                }
                Ok(Ok(None)) if self.total.is_none() => return Ok(None),
                Ok(Ok(None)) => "the answer ended too early".to_owned(),
                Ok(Err(err)) => reach::in_words(&err),
                Err(_) => format!("no byte came for {} s", patience.as_secs_f32()),
            };
            self.response = None;
            self.pause(broken).await?;
        }
    }

    /// A part of what this one is the whole of, `range` of it, which does not begin at 0; known is what the first answer said.
    ///
    /// The server has to know ranges. Whether the part belongs to the whole is for the caller to find out where the server does not
    /// vouch for it.
    pub(super) fn part(&self, range: Range<u64>) -> Http {
        Http {
            client: self.client.clone(),
            url: self.url.clone(),
            response: None,
            at: range.start,
            until: Some(range.end),
            skip: 0,
            total: self.total,
            validator: self.validator.clone(),
            digest_known: true,
            resumes: 0,
            give_up_after: self.give_up_after,
            stall: self.stall,
            has_begun: false,
            codings: Vec::new(),
            content_type: None,
            retry: Retry::new(),
        }
    }

    /// Goes on at this byte of what the first answer began.
    pub(super) fn go_to(&mut self, at: u64) {
        self.response = None;
        self.skip = 0;
        self.at = at;
    }

    /// Whether the server vouches for parts that are asked for at different times to be of the same bytes: by an entity tag.
    ///
    /// A time of the last change has whole seconds, and may stay when the file is another one: RFC 9110 section 8.8.2.2.
    pub(super) fn has_strong_tag(&self) -> bool {
        self.validator
            .as_ref()
            .is_some_and(|Validator(text)| text.starts_with('"'))
    }

    pub(super) fn validator(&self) -> &str {
        self.validator.as_ref().map_or("", |Validator(text)| text)
    }

    /// All of a small file.
    pub(super) async fn fetch_small(mut self, limit_bytes: usize) -> Result<Fetch, WriteError> {
        let mut content = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(bytes)) => content.extend_from_slice(&bytes),
                Ok(None) => return Ok(self.undo(content, limit_bytes)),
                // Object stores say "forbidden" of what is not there, and of a signed URL with another path.
                Err(WriteError::ImageNotFound { .. } | WriteError::ImageRefused { .. }) => {
                    return Ok(Fetch::NotFound);
                }
                Err(err) => return Err(err),
            }
            if content.len() > limit_bytes {
                return Ok(Fetch::Unusable(format!("it is longer than {limit_bytes} B")));
            }
        }
    }

    /// All of a small file as it is without its codings.
    fn undo(&self, content: Vec<u8>, limit_bytes: usize) -> Fetch {
        if self.codings.is_empty() {
            return Fetch::Content(content);
        }
        let limits = Limits::of_this_machine();
        let mut plain = Vec::new();
        let read = Undone::new(&self.codings, content.as_slice(), limits)
            .and_then(|undone| undone.take(limit_bytes as u64 + 1).read_to_end(&mut plain));
        match read {
            Ok(_) => Fetch::Content(plain),
            Err(err) => Fetch::Unusable(coding::in_words_of(&self.codings, limits, &err)),
        }
    }

    /// Takes over a piece of the body; `None` if there is nothing new in it.
    fn accept(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, WriteError> {
        let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        bytes.advance(known);
        self.skip -= known as u64;
        if bytes.is_empty() {
            return Ok(None);
        }
        if let Some(until) = self.until {
            // Some servers send all that is behind.
            bytes.truncate(usize::try_from(until - self.at).unwrap_or(usize::MAX));
        }
        self.at += bytes.len() as u64;
        match self.total {
            Some(total) if self.at > total => Err(self.changed(format!("{} B came of {total}", self.at))),
            _ => Ok(Some(bytes)),
        }
    }

    async fn connect(&mut self) -> Result<Response, Failed> {
        let patience = self.give_up_after.saturating_sub(self.retry.last_byte.elapsed());
        let mut request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT_ENCODING, "identity");
        if self.at > 0 {
            let last = self
                .until
                .map(|until| (until - 1).to_string())
                .unwrap_or_default();
            request = request.header(RANGE, format!("bytes={}-{last}", self.at));
            match &self.validator {
                Some(Validator(value)) => request = request.header(IF_RANGE, value),
                None if self.digest_known => {}
                None => {
                    let why = "it cannot be resumed: the server sends no ETag, and no SHA-256 was given";
                    return Err(Failed::ForGood(self.broken(why.to_owned())));
                }
            }
        }
        let response = match timeout(patience, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(err)) if err.is_builder() || err.is_redirect() => {
                return Err(Failed::ForGood(WriteError::BadUrl {
                    url: self.url.to_string(),
                    what: reach::in_words(&err),
                }));
            }
            Ok(Err(err)) => {
                return Err(match reach::no_tls(&err) {
                    Some(why) => Failed::ForGood(self.untrusted(&err, why)),
                    None => Failed::ForNow(reach::in_words(&err)),
                });
            }
            Err(_) => {
                return Err(Failed::ForNow(format!(
                    "no answer for {} s",
                    patience.as_secs_f32()
                )));
            }
        };
        self.judge(&response)?;
        Ok(response)
    }

    fn judge(&mut self, response: &Response) -> Result<(), Failed> {
        let url = self.url.to_string();
        let status = response.status();
        match status {
            StatusCode::OK if self.at == 0 => self.begin(response),
            StatusCode::OK => self.begin_again(response),
            StatusCode::PARTIAL_CONTENT if self.at > 0 => self.go_on(response),
            StatusCode::RANGE_NOT_SATISFIABLE if self.at > 0 => {
                Err(Failed::ForGood(self.changed("it is shorter now".to_owned())))
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Failed::ForGood(WriteError::ImageNotFound {
                url,
                status: status.to_string(),
            })),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Err(Failed::ForNow(format!("the server answers {status}")))
            }
            status if status.is_server_error() => Err(Failed::ForNow(format!("the server answers {status}"))),
            status => Err(Failed::ForGood(WriteError::ImageRefused {
                url,
                status: status.to_string(),
            })),
        }
    }

    fn begin(&mut self, response: &Response) -> Result<(), Failed> {
        let headers = response.headers();
        let is_chunked = self.is_chunked(response)?;
        self.codings = self.codings_of(response)?.unwrap_or_default();
        self.content_type = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| value.trim().to_ascii_lowercase());
        // Chunks count, not the length beside them: RFC 9112 section 6.3.
        self.total = content_length(headers).filter(|_| !is_chunked);
        self.validator = validator(headers);
        let delimited = response.version() >= Version::HTTP_2 || is_chunked;
        if self.total.is_none() && !delimited && !self.digest_known {
            let why = "the server tells neither the length nor the end of it, and no SHA-256 was given";
            return Err(Failed::ForGood(WriteError::BadUrl {
                url: self.url.to_string(),
                what: why.to_owned(),
            }));
        }
        Ok(())
    }

    /// The server sends all of it: because it does not know ranges, or because the content is another one.
    fn begin_again(&mut self, response: &Response) -> Result<(), Failed> {
        let now = validator(response.headers());
        let is_chunked = self.is_chunked(response)?;
        let total = content_length(response.headers()).filter(|_| !is_chunked);
        let codings = self.codings_of(response)?.unwrap_or_default();
        if now != self.validator {
            return Err(Failed::ForGood(self.changed(difference(&self.validator, &now))));
        }
        if self.until.is_some() {
            let what = "parts of a qcow2 file are read before the rest, and this server gives no parts (ranges). \
                        Serve it with another one, or make a raw image of it and pack that with zstd";
            return Err(self.unusable(what.to_owned()));
        }
        if total != self.total {
            return Err(Failed::ForGood(self.changed(other_length(self.total, total))));
        }
        self.has_same(&codings)?;
        self.skip = self.at;
        self.resumes += 1;
        Ok(())
    }

    fn go_on(&mut self, response: &Response) -> Result<(), Failed> {
        let headers = response.headers();
        let range = headers
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok())
            .and_then(content_range);
        let Some((start, total)) = range else {
            return Err(Failed::ForNow(
                "the server sends a range but does not say which".to_owned(),
            ));
        };
        if start != self.at {
            return Err(Failed::ForNow(format!(
                "the server sends from byte {start}, asked for {}",
                self.at
            )));
        }
        let now = validator(headers);
        if now.is_some() && now != self.validator {
            return Err(Failed::ForGood(self.changed(difference(&self.validator, &now))));
        }
        if total.is_some() && self.total.is_some() && total != self.total {
            return Err(Failed::ForGood(self.changed(other_length(self.total, total))));
        }
        self.is_chunked(response)?;
        // A range may come without the headers that the whole came with: RFC 9110 section 15.3.7.
        if let Some(codings) = self.codings_of(response)? {
            self.has_same(&codings)?;
        }
        self.skip = 0;
        if self.until.is_some() {
            return Ok(());
        }
        self.resumes += 1;
        tracing::info!(url = %self.url, at = self.at, "transfer resumed");
        Ok(())
    }

    fn codings_of(&self, response: &Response) -> Result<Option<Vec<Coding>>, Failed> {
        coding::of(response.headers()).map_err(|what| self.unusable(what))
    }

    fn is_chunked(&self, response: &Response) -> Result<bool, Failed> {
        coding::is_chunked(response.headers()).map_err(|what| self.unusable(what))
    }

    fn unusable(&self, what: String) -> Failed {
        Failed::ForGood(WriteError::BadUrl {
            url: self.url.to_string(),
            what,
        })
    }

    /// Bytes of two codings are never put together.
    fn has_same(&self, codings: &[Coding]) -> Result<(), Failed> {
        if self.codings == codings {
            return Ok(());
        }
        let what = format!(
            "its Content-Encoding was {}, is {}",
            coding::names(&self.codings),
            coding::names(codings)
        );
        Err(Failed::ForGood(self.changed(what)))
    }

    /// Waits before the next try, or gives up.
    async fn pause(&mut self, why: String) -> Result<(), WriteError> {
        self.retry.tries += 1;
        let idle = self.retry.last_byte.elapsed();
        if idle >= self.give_up_after {
            return Err(self.broken(why));
        }
        tracing::warn!(url = %self.url, at = self.at, tries = self.retry.tries, "transfer broke: {why}");
        let pause = jittered(self.retry.pause).min(self.give_up_after - idle);
        self.retry.pause = (self.retry.pause * 2).min(LONGEST_PAUSE);
        sleep(pause).await;
        Ok(())
    }

    fn untrusted(&self, err: &reqwest::Error, why: NoTls) -> WriteError {
        // After a redirect it is another server's.
        let url = err.url().unwrap_or(&self.url);
        let host = url.host_str().unwrap_or_default();
        WriteError::Untrusted {
            host: match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            },
            what: why.what,
            unknown_issuer: why.unknown_issuer,
        }
    }

    fn changed(&self, what: String) -> WriteError {
        WriteError::ImageChanged {
            url: self.url.to_string(),
            at: self.at,
            what,
        }
    }

    fn broken(&self, last: String) -> WriteError {
        WriteError::TransferBroken {
            url: self.url.to_string(),
            at: self.at,
            total: self.total,
            given_up_after: self.retry.last_byte.elapsed(),
            tries: self.retry.tries,
            last,
        }
    }
}

impl Retry {
    fn new() -> Retry {
        Retry {
            tries: 0,
            pause: FIRST_PAUSE,
            last_byte: Instant::now(),
        }
    }
}

pub(super) fn validator(headers: &HeaderMap) -> Option<Validator> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    // A weak tag does not vouch for bytes: RFC 9110 section 13.1.5.
    text(ETAG)
        .filter(|tag| !tag.starts_with("W/"))
        .or_else(|| text(LAST_MODIFIED))
        .map(Validator)
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(reqwest::header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// `bytes 5-9/10` and `bytes 5-9/*`: the start and the total.
pub(super) fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

fn difference(was: &Option<Validator>, is: &Option<Validator>) -> String {
    let text = |validator: &Option<Validator>| validator.as_ref().map_or("none", |v| v.0.as_str()).to_owned();
    format!("its ETag was {}, is {}", text(was), text(is))
}

fn other_length(was: Option<u64>, is: Option<u64>) -> String {
    let text = |length: Option<u64>| length.map_or("not told".to_owned(), |length| format!("{length} B"));
    format!("its length was {}, is {}", text(was), text(is))
}

/// Between half of it and all of it, so that a rack of machines does not come back in step.
fn jittered(pause: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish();
    let half = pause / 2;
    half + half * u32::try_from(random % 1000).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant as Clock;

    use super::*;

    /// Reads a request to its end; its Range.
    fn request(stream: &TcpStream) -> Option<String> {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.take_while(|line| !line.is_empty()).find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("range: ")
                .map(str::to_owned)
        })
    }

    /// Waits so long for another connection.
    fn another(listener: &TcpListener, within: Duration) -> Option<TcpStream> {
        listener.set_nonblocking(true).unwrap();
        let deadline = Clock::now() + within;
        let found = loop {
            match listener.accept() {
                Ok((stream, _)) => break Some(stream),
                Err(_) if Clock::now() < deadline => std::thread::yield_now(),
                Err(_) => break None,
            }
        };
        listener.set_nonblocking(false).unwrap();
        if let Some(stream) = &found {
            stream.set_nonblocking(false).unwrap();
        }
        found
    }

    async fn all(listener: &TcpListener, stall: Duration) -> Result<Vec<u8>, WriteError> {
        let url = format!("http://{}/image", listener.local_addr().unwrap());
        let mut http = Http::new(
            Url::parse(&url).unwrap(),
            &Reach::default(),
            Duration::from_secs(20),
            true,
            Downgrade::Refused,
        )
        .unwrap();
        http.stall = stall;
        let mut content = Vec::new();
        while let Some(bytes) = http.next().await? {
            content.extend_from_slice(&bytes);
        }
        Ok(content)
    }

    const STALL: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn a_server_that_takes_long_to_begin_is_asked_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.try_clone().unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            request(&stream);
            let mut asked = 1;
            // Its headers are late, and then its first byte.
            for part in ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "hello"] {
                asked += usize::from(another(&server, LATE).is_some());
                stream.write_all(part.as_bytes()).unwrap();
            }
            asked
        });
        assert_eq!(all(&listener, STALL).await.unwrap(), b"hello");
        assert_eq!(served.join().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_body_that_stands_still_is_asked_for_from_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.try_clone().unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            request(&stream);
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\nhe";
            stream.write_all(head.as_bytes()).unwrap();
            let mut second = another(&server, Duration::from_secs(20)).unwrap();
            let range = request(&second);
            let rest = "HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes 2-4/5\r\nETag: \"a\"\r\n\r\nllo";
            second.write_all(rest.as_bytes()).unwrap();
            range
        });
        assert_eq!(all(&listener, STALL).await.unwrap(), b"hello");
        assert_eq!(served.join().unwrap().as_deref(), Some("bytes=2-"));
    }

    #[test]
    fn a_content_range_is_read_with_and_without_a_total() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes */10", "bytes x-9/10", "items 5-9/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_weak_tag_is_no_validator() {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, "W/\"a\"".parse().unwrap());
        assert_eq!(validator(&headers), None);
        headers.insert(LAST_MODIFIED, "Sat, 21 Nov 2026 06:00:00 GMT".parse().unwrap());
        assert_eq!(
            validator(&headers),
            Some(Validator("Sat, 21 Nov 2026 06:00:00 GMT".to_owned()))
        );
        headers.insert(ETAG, "\"b\"".parse().unwrap());
        assert_eq!(validator(&headers), Some(Validator("\"b\"".to_owned())));
    }
}
