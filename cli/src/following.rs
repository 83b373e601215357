//! Commands that go on when the server comes back: what is waited for or followed outlives a restart of it.
//!
//! Every such command asks through a [`Following`]. What it lost it asks for again, from where it was, until its own time
//! limit is over, or the server has shown no sign of life for [`GONE_AFTER`] where it has none. As agents do.

use std::future::Future;
use std::time::{Duration, Instant};

use proto::v1::control_service_client::ControlServiceClient;
use tonic::{Response, Status, Streaming};

use crate::client::{Client, Timely};
use crate::failure::Failure;
use crate::terminal::say;

/// Without a sign of life.
const GONE_AFTER: Duration = Duration::from_secs(20);
/// A try that is met with silence, neither taken nor refused, is the last one: that the connection was lost may have
/// been silence already, noticed after the rest of [`GONE_AFTER`].
const SILENT_FOR: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(200);

pub(crate) type Control = ControlServiceClient<Timely>;

/// Asks, and asks again.
pub(crate) struct Following<'a> {
    client: &'a Client,
    /// The command's own time limit.
    until: Option<Instant>,
    /// Since the server went away.
    gone: Option<Gone>,
}

/// A server that is away.
struct Gone {
    /// When it is given up.
    until: Instant,
    /// What was noticed first, which says more than that nobody takes a connection since.
    failure: Failure,
}

/// A stream that can be opened from where it was broken off.
pub(crate) trait Source {
    type Item;
    /// From the first item that was not taken.
    fn open(&self, control: Control)
    -> impl Future<Output = Result<Response<Streaming<Self::Item>>, Status>>;
    /// Notes that it came; false: it had come before the connection was lost.
    fn take(&mut self, item: &Self::Item) -> bool;
    /// It was to be followed; else it is asked for once.
    fn is_followed(&self) -> bool;
    /// It may be opened at any time again.
    fn reopened(&mut self) {}
}

impl<'a> Following<'a> {
    /// `within` is the command's own time limit.
    pub(crate) fn new(client: &'a Client, within: Option<Duration>) -> Self {
        Self {
            client,
            // A time that no clock reaches is none.
            until: within.and_then(|within| Instant::now().checked_add(within)),
            gone: None,
        }
    }

    /// The command's own time limit.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// One answer.
    pub(crate) async fn ask<T, F>(&mut self, ask: impl Fn(Control) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        loop {
            match self.in_time(ask(self.client.control.clone())).await {
                Ok(answer) => {
                    self.gone = None;
                    return Ok(answer.into_inner());
                }
                Err(status) => self.again_after(&status).await?,
            }
        }
    }

    /// One answer that may take as long as it takes. When the server was away, `probe` tells that it is back.
    pub(crate) async fn ask_long<T, F, P, Q>(
        &mut self,
        ask: impl Fn(Control) -> F,
        probe: impl Fn(Control) -> Q,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
        Q: Future<Output = Result<Response<P>, Status>>,
    {
        loop {
            match ask(self.client.control.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => {
                    self.again_after(&status).await?;
                    self.ask(&probe).await?;
                }
            }
        }
    }

    /// The items of `source`, each once.
    pub(crate) fn stream<S: Source>(self, source: S) -> Items<'a, S> {
        Items {
            following: self,
            source,
            stream: None,
        }
    }

    /// While the server is away, one try takes no longer than there is time.
    async fn in_time<T>(&mut self, asked: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let Some(gone) = &mut self.gone else {
            return asked.await;
        };
        let until = gone.until.min(Instant::now() + SILENT_FOR);
        match tokio::time::timeout_at(until.into(), asked).await {
            Ok(answer) => answer,
            Err(_) => {
                if self.until.is_none() {
                    gone.until = until;
                }
                Err(Status::unavailable("it does not answer"))
            }
        }
    }

    /// Waits a moment where asking again is of use.
    async fn again_after(&mut self, status: &Status) -> Result<(), Failure> {
        let failure = self.client.failure(status);
        match &failure {
            Failure::Broken { .. } => {}
            Failure::NotNow { .. } => {}
            _ => return Err(failure),
        }
        let now = Instant::now();
        if self.gone.is_none() {
            let how = match &failure {
                Failure::NotNow { .. } => "cannot do this now",
                _ => "is gone",
            };
            say(format_args!(
                "farrier: the server at {} {how}: {}; asking again",
                self.client.server,
                failure.why()
            ));
        }
        let gone = self.gone.get_or_insert(Gone {
            until: self.until.unwrap_or(now + GONE_AFTER),
            failure,
        });
        if now + AGAIN_AFTER >= gone.until {
            let failure = std::mem::replace(&mut gone.failure, Failure::Failed(String::new()));
            return Err(failure);
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        Ok(())
    }
}

/// A stream that is followed.
pub(crate) struct Items<'a, S: Source> {
    following: Following<'a>,
    source: S,
    stream: Option<Streaming<S::Item>>,
}

impl<S: Source> Items<'_, S> {
    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// The next one; `None` at the stream's own end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<S::Item>, Failure> {
        loop {
            let next = match &mut self.stream {
                Some(stream) => stream.message().await,
                None => {
                    let asked = self.source.open(self.following.client.control.clone());
                    match self.following.in_time(asked).await {
                        Ok(answer) => {
                            self.stream = Some(answer.into_inner());
                            self.following.gone = None;
                            continue;
                        }
                        Err(status) => Err(status),
                    }
                }
            };
            match next {
                Ok(Some(item)) if !self.source.take(&item) => {}
                Ok(item) => return Ok(item),
                Err(status) => {
                    self.stream = None;
                    if !self.source.is_followed() {
                        return Err(self.following.client.failure(&status));
                    }
                    self.source.reopened();
                    self.following.again_after(&status).await?;
                }
            }
        }
    }
}
