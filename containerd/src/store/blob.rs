//! Blobs into containerd's content store: what is there of one already is kept, the rest comes from the registry.

use std::time::Duration;

use bytes::Bytes;
use oci::manifest::Descriptor;
use oci::registry::{Ended, Sink};
use oci::{Digest, Origin};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Failed;
use crate::api::content::{AbortRequest, WriteAction, WriteContentRequest, WriteContentResponse};
use crate::connection::Containerd;
use crate::error::{Error, Kind, kind};

/// Between looks at a blob that somebody else is writing.
const LOCKED_PAUSE: Duration = Duration::from_millis(100);

impl Containerd {
    /// Brings a layer's blob; it may be here.
    pub(super) async fn blob(&self, blob: &Descriptor, source: &Origin<'_>) -> Result<(), Failed> {
        let mut may_begin_anew = true;
        loop {
            let mut writer = match Writer::open(self, &blob.digest, blob.size_bytes).await? {
                Opened::Writer(writer) => writer,
                Opened::IsThere => {
                    source.progress.came(blob.size_bytes);
                    return Ok(());
                }
                Opened::Locked => {
                    sleep(LOCKED_PAUSE).await;
                    continue;
                }
            };
            let from = writer.offset;
            source.progress.came(from);
            match source.blob(blob, from, &mut *writer).await? {
                Ended::Whole => {}
                Ended::Unwanted => {
                    let failure = writer.failure();
                    drop(writer);
                    if matches!(failure, Error::Full { .. }) {
                        // What came of it would be in the way of images that fit.
                        self.abort(&blob.digest).await?;
                    }
                    return Err(failure.into());
                }
            }
            match writer.commit().await? {
                Committed::Yes => return Ok(()),
                // What lay there from an earlier pull may be what is wrong with it.
                Committed::OtherBytes(_) if from > 0 && may_begin_anew => {
                    may_begin_anew = false;
                    self.abort(&blob.digest).await?;
                }
                Committed::OtherBytes(actual) => {
                    self.abort(&blob.digest).await?;
                    let what = format!("layer {}", blob.digest);
                    return Err(source.other_bytes(what, blob.digest.clone(), actual).into());
                }
            }
        }
    }

    /// Stores a blob that is held.
    pub(super) async fn small(&self, digest: &Digest, content: &[u8]) -> Result<(), Error> {
        if self.has_content(digest).await? {
            return Ok(());
        }
        loop {
            match Writer::open(self, digest, content.len() as u64).await? {
                Opened::IsThere => return Ok(()),
                Opened::Locked => sleep(LOCKED_PAUSE).await,
                Opened::Writer(mut writer) => {
                    let from = usize::try_from(writer.offset).unwrap_or(usize::MAX);
                    let rest = content.get(from..).unwrap_or_default();
                    if !rest.is_empty() && !writer.take(Bytes::copy_from_slice(rest)).await {
                        return Err(writer.failure());
                    }
                    return match writer.commit().await? {
                        Committed::Yes => Ok(()),
                        Committed::OtherBytes(actual) => {
                            self.abort(digest).await?;
                            Err(Error::Refused {
                                what: format!("writing {digest}"),
                                said: format!("what it has of it gives {actual}"),
                            })
                        }
                    };
                }
            }
        }
    }

    async fn abort(&self, digest: &Digest) -> Result<(), Error> {
        let request = AbortRequest {
            r#ref: reference(digest),
        };
        let what = format!("giving up {digest}");
        let answer = self.answer(&what, self.content().abort(request)).await?;
        self.unless(&what, answer, Kind::NotThere).map(drop)
    }
}

/// The same of every pull: one that broke off is gone on with.
fn reference(digest: &Digest) -> String {
    format!("farrier-{digest}")
}

enum Opened {
    IsThere,
    /// Somebody else writes it.
    Locked,
    Writer(Box<Writer>),
}

enum Committed {
    Yes,
    OtherBytes(Digest),
}

/// A blob that is written. Each message has its answer, which is waited for: so nothing piles up.
struct Writer {
    of: Containerd,
    digest: Digest,
    size_bytes: u64,
    offset: u64,
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    failed: Option<Status>,
}

impl Writer {
    async fn open(of: &Containerd, digest: &Digest, size_bytes: u64) -> Result<Opened, Error> {
        let what = format!("writing {digest}");
        let (requests, sent) = mpsc::channel(1);
        let first = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: reference(digest),
            total: i64::try_from(size_bytes).unwrap_or(i64::MAX),
            expected: digest.to_string(),
            ..WriteContentRequest::default()
        };
        // There is room for one, and the receiver is here.
        let _ = requests.try_send(first);
        let opened = async {
            let mut answers = of.content().write(ReceiverStream::new(sent)).await?.into_inner();
            let answer = answers.message().await?;
            Ok(tonic::Response::new((answer, answers)))
        };
        match of.answer(&what, opened).await? {
            Ok((answer, answers)) => {
                let offset = answer.map_or(0, |answer| u64::try_from(answer.offset).unwrap_or(0));
                Ok(Opened::Writer(Box::new(Writer {
                    of: of.clone(),
                    digest: digest.clone(),
                    size_bytes,
                    offset: offset.min(size_bytes),
                    requests,
                    answers,
                    failed: None,
                })))
            }
            Err(status) => match kind(&status) {
                Kind::AlreadyThere => Ok(Opened::IsThere),
                Kind::Locked => Ok(Opened::Locked),
                _ => Err(of.refused(&what, &status)),
            },
        }
    }

    fn what(&self) -> String {
        format!("writing {}", self.digest)
    }

    async fn send(&mut self, request: WriteContentRequest) -> Result<(), Status> {
        // Where it hears no more, its answer says why.
        let _ = self.requests.send(request).await;
        match self.answers.message().await? {
            Some(_) => Ok(()),
            None => Err(Status::unavailable("it ended the transfer")),
        }
    }

    async fn commit(mut self) -> Result<Committed, Error> {
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: reference(&self.digest),
            total: i64::try_from(self.size_bytes).unwrap_or(i64::MAX),
            expected: self.digest.to_string(),
            offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            ..WriteContentRequest::default()
        };
        match self.send(request).await {
            Ok(()) => Ok(Committed::Yes),
            Err(status) if kind(&status) == Kind::AlreadyThere => Ok(Committed::Yes),
            Err(status) => match other_digest(status.message()) {
                Some(actual) => Ok(Committed::OtherBytes(actual)),
                None => Err(self.of.refused(&self.what(), &status)),
            },
        }
    }

    /// Why it takes no more.
    fn failure(&self) -> Error {
        match &self.failed {
            Some(status) => self.of.refused(&self.what(), status),
            None => self
                .of
                .refused(&self.what(), &Status::unavailable("it takes no more")),
        }
    }
}

impl Sink for Writer {
    async fn take(&mut self, bytes: Bytes) -> bool {
        let length = bytes.len() as u64;
        let request = WriteContentRequest {
            action: WriteAction::Write.into(),
            r#ref: reference(&self.digest),
            total: i64::try_from(self.size_bytes).unwrap_or(i64::MAX),
            expected: self.digest.to_string(),
            offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            data: bytes.into(),
            ..WriteContentRequest::default()
        };
        match self.send(request).await {
            Ok(()) => {
                self.offset += length;
                true
            }
            Err(status) => {
                self.failed = Some(status);
                false
            }
        }
    }
}

/// The digest that containerd found in place of the one that was said.
///
/// Its words are `unexpected commit digest sha256:…, expected sha256:…` (plugins/content/local/writer.go).
fn other_digest(said: &str) -> Option<Digest> {
    let (_, found) = said.split_once("unexpected commit digest ")?;
    found.split([',', ' ']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_other_bytes_is_read_from_containerds_words() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        // As containerd 1.6.20 says it.
        let said = format!(
            "failed commit on ref \"farrier-x\": unexpected commit digest sha256:{a}, expected sha256:{b}: failed precondition"
        );
        assert_eq!(
            other_digest(&said).map(|digest| digest.to_string()),
            Some(format!("sha256:{a}"))
        );
        assert_eq!(
            other_digest("failed commit on ref: unexpected commit size 3, expected 4"),
            None
        );
    }
}
