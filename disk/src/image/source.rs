//! Where the bytes of an image come from.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use url::Url;

use super::byte_source::{ByteSource, NotFetched};
use super::coding::Coding;
use super::formats;
use super::http::{Fetch, Http};
use super::redirects::Downgrade;
use super::{WriteError, WriteRequest, digest};

/// How much of a file is read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// A digest file is a few lines.
const DIGEST_FILE_BYTES: usize = 64 << 10;

/// A stream of bytes that survives what can be survived.
pub(super) enum Source {
    File {
        file: File,
        url: String,
        at: u64,
        total: u64,
    },
    Given {
        from: Box<dyn ByteSource>,
        url: String,
        at: u64,
    },
    Http(Box<Http>),
}

impl Source {
    /// `digest_known`: the content will be compared with a digest, so that parts fetched at different times may be
    /// put together even if the server does not vouch for their belonging together.
    pub(super) async fn open(request: &WriteRequest, digest_known: bool) -> Result<Source, WriteError> {
        let url = &request.url;
        match url.scheme() {
            "file" => {
                let (file, total) = open_file(url).await?;
                Ok(Source::File {
                    file,
                    url: url.to_string(),
                    at: 0,
                    total,
                })
            }
            "http" | "https" => Ok(Source::Http(Box::new(Http::new(
                url.clone(),
                &request.reach,
                request.give_up_after,
                digest_known,
                if digest_known {
                    Downgrade::Allowed
                } else {
                    Downgrade::Refused
                },
            )?))),
            other => {
                let what = format!("scheme {other} is none of http, https and file");
                Err(WriteError::BadUrl {
                    url: url.to_string(),
                    what,
                })
            }
        }
    }

    /// One that the caller fetches.
    pub(super) fn given(from: Box<dyn ByteSource>, url: String) -> Source {
        Source::Given { from, url, at: 0 }
    }

    /// The next bytes; `None` at the end, which is where the length that was announced says.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, WriteError> {
        match self {
            Source::File { file, url, at, total } => {
                let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
                let broken = |what: String| WriteError::BadUrl {
                    url: url.clone(),
                    what,
                };
                match file
                    .read_buf(&mut chunk)
                    .await
                    .map_err(|err| broken(err.to_string()))?
                {
                    0 if *at < *total => Err(broken(format!("the file ends at byte {at} of {total}"))),
                    0 => Ok(None),
                    len => {
                        *at += len as u64;
                        Ok(Some(chunk.freeze()))
                    }
                }
            }
            Source::Given { from, url, at } => {
                let next = from.next().await.map_err(|why| not_fetched(url, why))?;
                *at += next.as_ref().map_or(0, Bytes::len) as u64;
                Ok(next)
            }
            Source::Http(http) => http.next().await,
        }
    }

    /// A part of it, which does not begin at its first byte; after the first [`Source::next`].
    ///
    /// # Errors
    /// As of a write; a server that gives no parts.
    pub(super) async fn part(&self, range: Range<u64>) -> Result<Vec<u8>, WriteError> {
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut part = Vec::new();
        match self {
            Source::File { file, url, .. } => {
                let read = async {
                    let file = file.try_clone().await?.into_std().await;
                    tokio::task::spawn_blocking(move || {
                        let mut part = vec![0; len];
                        file.read_exact_at(&mut part, range.start).map(|()| part)
                    })
                    .await?
                };
                part = read.await.map_err(|err: io::Error| WriteError::BadUrl {
                    url: url.clone(),
                    what: err.to_string(),
                })?;
            }
            Source::Given { from, url, .. } => {
                part = from.part(range).await.map_err(|why| not_fetched(url, why))?;
            }
            Source::Http(http) => {
                let mut http = http.part(range);
                while part.len() < len
                    && let Some(bytes) = http.next().await?
                {
                    part.extend_from_slice(&bytes);
                }
            }
        }
        Ok(part)
    }

    /// The first bytes, `len` at least where there are as many.
    pub(super) async fn first(&mut self, len: usize) -> Result<Option<Bytes>, WriteError> {
        let Some(first) = self.next().await? else {
            return Ok(None);
        };
        if first.len() >= len {
            return Ok(Some(first));
        }
        let mut collected = BytesMut::from(&*first);
        while collected.len() < len
            && let Some(more) = self.next().await?
        {
            collected.extend_from_slice(&more);
        }
        Ok(Some(collected.freeze()))
    }

    /// Goes on at byte `at`; after the first [`Source::next`]. False where that cannot be.
    pub(super) async fn go_to(&mut self, to: u64) -> Result<bool, WriteError> {
        match self {
            Source::File { file, url, at, .. } => {
                let sought = file.seek(io::SeekFrom::Start(to)).await;
                sought.map_err(|err| WriteError::BadUrl {
                    url: url.clone(),
                    what: err.to_string(),
                })?;
                *at = to;
            }
            Source::Given { from, at, .. } => {
                if !from.go_to(to) {
                    return Ok(false);
                }
                *at = to;
            }
            Source::Http(http) => http.go_to(to),
        }
        Ok(true)
    }

    /// What tells these bytes from others under the same name; `None` where nothing vouches for that.
    pub(super) fn vouched(&self) -> Option<&str> {
        match self {
            Source::File { .. } | Source::Given { .. } => None,
            Source::Http(http) => http.has_strong_tag().then(|| http.validator()),
        }
    }

    /// Where [`Source::next`] is: how many bytes it has given, where it was not told to go elsewhere.
    pub(super) fn at(&self) -> u64 {
        match self {
            Source::File { at, .. } | Source::Given { at, .. } => *at,
            Source::Http(http) => http.at(),
        }
    }

    /// How the bytes are coded, in the order in which that was done; known after the first [`Source::next`].
    pub(super) fn codings(&self) -> Vec<Coding> {
        match self {
            Source::File { .. } | Source::Given { .. } => Vec::new(),
            Source::Http(http) => http.codings().to_vec(),
        }
    }

    /// What the server calls it, if it is not what an image is called.
    pub(super) fn is_called_text(&self) -> Option<&str> {
        match self {
            Source::File { .. } | Source::Given { .. } => None,
            Source::Http(http) => http.content_type().filter(|name| name.starts_with("text/")),
        }
    }

    /// How many there are; known after the first [`Source::next`], if ever.
    pub(super) fn total(&self) -> Option<u64> {
        match self {
            Source::File { total, .. } => Some(*total),
            Source::Given { from, .. } => Some(from.total_bytes()),
            Source::Http(http) => http.total(),
        }
    }

    pub(super) fn resumes(&self) -> u32 {
        match self {
            Source::File { .. } => 0,
            Source::Given { from, .. } => from.resumes(),
            Source::Http(http) => http.resumes(),
        }
    }
}

fn not_fetched(url: &str, why: NotFetched) -> WriteError {
    WriteError::NotFetched {
        url: url.to_owned(),
        reason: why.reason,
        message: why.message,
    }
}

/// What is found at `<url>.sha256`.
pub(super) enum Sibling {
    Digest(String),
    Missing,
    /// Something is there that is no digest file, in words: servers answer anything with a page of theirs.
    SomethingElse(String),
}

/// Looks for a digest at `<url>.sha256`.
///
/// # Errors
/// A digest file that is damaged, or is for other files; a server that does not answer.
pub(super) async fn sibling_digest(request: &WriteRequest) -> Result<Sibling, WriteError> {
    let mut url = request.url.clone();
    url.set_path(&format!("{}.sha256", url.path()));
    let content = match url.scheme() {
        "file" => match open_file(&url).await {
            Ok((file, _)) => {
                let mut content = Vec::new();
                file.take(DIGEST_FILE_BYTES as u64 + 1)
                    .read_to_end(&mut content)
                    .await
                    .map_err(|err| WriteError::BadUrl {
                        url: url.to_string(),
                        what: err.to_string(),
                    })?;
                content
            }
            Err(WriteError::ImageNotFound { .. }) => return Ok(Sibling::Missing),
            Err(err) => return Err(err),
        },
        "http" | "https" => {
            let http = Http::new(
                url.clone(),
                &request.reach,
                request.give_up_after,
                true,
                Downgrade::Refused,
            )?;
            match http.fetch_small(DIGEST_FILE_BYTES).await? {
                Fetch::Content(content) => content,
                Fetch::NotFound => return Ok(Sibling::Missing),
                Fetch::Unusable(what) => return Ok(Sibling::SomethingElse(what)),
            }
        }
        // `Source::open` refuses it with words.
        _ => return Ok(Sibling::Missing),
    };
    if content.len() > DIGEST_FILE_BYTES {
        return Ok(Sibling::SomethingElse(format!(
            "it is longer than {DIGEST_FILE_BYTES} B"
        )));
    }
    if formats::is_web_page(&content) {
        return Ok(Sibling::SomethingElse("it is a web page".to_owned()));
    }
    let file_name = request
        .url
        .path_segments()
        .and_then(|mut parts| parts.next_back())
        .unwrap_or_default();
    digest::parse_file(&String::from_utf8_lossy(&content), file_name, url.as_str()).map(Sibling::Digest)
}

async fn open_file(url: &Url) -> Result<(File, u64), WriteError> {
    let bad = |what: String| WriteError::BadUrl {
        url: url.to_string(),
        what,
    };
    let path = url
        .to_file_path()
        .map_err(|()| bad("it names no local file".to_owned()))?;
    let not_found = || WriteError::ImageNotFound {
        url: url.to_string(),
        status: "no such file".to_owned(),
    };
    let file = File::open(&path).await.map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => not_found(),
        _ => bad(err.to_string()),
    })?;
    let meta = file.metadata().await.map_err(|err| bad(err.to_string()))?;
    if !meta.is_file() {
        return Err(bad("it is not a regular file".to_owned()));
    }
    Ok((file, meta.len()))
}
