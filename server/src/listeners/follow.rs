//! A stream of events that goes on where a token says, until who follows has enough of it.

use std::time::Duration;

use coordinator::Error;
use coordinator::machines;
use coordinator::namespaces::Reach;
use coordinator::order::{self, ResumeToken};
use coordinator::people::Caller;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::read::{Found, Reader};
use super::wanted::{Wanted, check_kinds};
use crate::clock;
use crate::control::ControlPlane;
use crate::within::Within;

/// Rows of the order that are read in one go.
const PAGE: usize = 200;
/// What happens within it is read together.
const TOGETHER: Duration = Duration::from_millis(20);

/// What somebody asks to be told.
pub(crate) struct Follow {
    pub(crate) since: Since,
    /// Else it ends with what is there.
    pub(crate) goes_on: bool,
    pub(crate) wanted: Wanted,
    pub(crate) within: Within,
}

/// From where on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Now,
    Oldest,
    Token(ResumeToken),
}

/// What somebody is told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Event(Box<Found>),
    /// That there is nothing new for it up to here.
    Nothing(ResumeToken),
}

impl std::str::FromStr for Since {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "" | "now" => Ok(Since::Now),
            "oldest" => Ok(Since::Oldest),
            token => {
                let token = token
                    .parse()
                    .map_err(|error: order::BadToken| Error::Invalid(error.to_string()));
                Ok(Since::Token(token?))
            }
        }
    }
}

impl ControlPlane {
    /// Begins to follow: what is wrong with what was asked is said before there is a stream.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`] for a machine or namespace, [`Error::OutOfRange`] for a token.
    pub(crate) async fn begin_following(&self, asked: Follow) -> Result<Following, Error> {
        check_kinds(&asked.wanted.kinds)?;
        if !asked.wanted.workflow.is_empty() {
            self.workflow(asked.within.reach(), &asked.wanted.workflow)
                .await?;
        }
        let Follow {
            since,
            goes_on,
            wanted,
            within,
        } = asked;
        let begin = self.inner.db.with(move |view| {
            let mut wanted = wanted.clone();
            wanted.reach = within.list(view)?;
            if !wanted.machine.is_empty() {
                wanted.machine = machines::find(view, within.reach(), &wanted.machine)?.value.name;
            }
            let token = match since {
                Since::Now => order::newest(view)?,
                Since::Oldest => order::oldest(view)?,
                Since::Token(token) => order::page(view, &token, 0).map(|_| token)?,
            };
            Ok((wanted, token))
        });
        let (wanted, token) = begin.await?;
        Ok(Following {
            wanted,
            token,
            goes_on,
        })
    }

    /// Sends what is wanted, each once, in the order in which it was committed.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] when who follows was overtaken by what is not kept, [`Error::TooMuch`] when it takes nothing or follows too
    /// often, [`Error::Unknown`] when its token is gone.
    pub(crate) async fn follow(
        &self,
        following: Following,
        caller: Caller,
        to: mpsc::Sender<Told>,
    ) -> Result<(), Error> {
        let limits = &self.inner.config.limits;
        let place = self
            .inner
            .followers
            .take(caller.name.clone(), limits.followers_per_token);
        let _place = place.map_err(|full| {
            let cure = "follow once with all that is wanted, or end others";
            Error::TooMuch(format!("too many streams of events: {full}; {cure}"))
        })?;
        let Following {
            wanted,
            mut token,
            goes_on,
        } = following;
        let to = Sender {
            to,
            within: limits.follower_takes_within,
        };
        let mut reader = Reader::new(self.clone());
        let mut changes = self.inner.changes.subscribe();
        if !to.send(Told::Nothing(token)).await? {
            return Ok(());
        }
        let mut said = (token, Instant::now());
        loop {
            let page = self
                .inner
                .db
                .with(move |view| order::page(view, &token, PAGE))
                .await?;
            for found in reader.wanted(&wanted, page.events).await? {
                let after = found.place.token;
                if !to.send(Told::Event(Box::new(found))).await? {
                    return Ok(());
                }
                said = (after, Instant::now());
            }
            token = page.token;
            let is_over = page.is_last && !goes_on;
            if (is_over && said.0 != token) || said.1.elapsed() >= limits.follower_heartbeat {
                self.is_still(&caller).await?;
                if !to.send(Told::Nothing(token)).await? {
                    return Ok(());
                }
                said = (token, Instant::now());
            }
            if is_over {
                return Ok(());
            }
            if !page.is_last {
                continue;
            }
            tokio::select! {
                // One that is told of too many to keep up looks, too.
                _ = changes.recv() => tokio::time::sleep(TOGETHER).await,
                () = tokio::time::sleep_until(said.1 + limits.follower_heartbeat) => {}
                () = to.to.closed() => return Ok(()),
                () = self.stopped() => return Err(Error::Stopping),
            }
            // Before it is read: what comes later is seen in the next round.
            changes = changes.resubscribe();
        }
    }

    /// A stream may outlive the token that it was asked for with.
    async fn is_still(&self, caller: &Caller) -> Result<(), Error> {
        let gone = || {
            Error::Unknown(format!(
                "the token of {} is no longer what it was when it began to follow: ask an admin, then log in with `farrier login`",
                caller.name
            ))
        };
        let token = match self.token(&caller.name).await {
            Err(Error::NotFound(_)) => return Err(gone()),
            token => token?,
        };
        let is_over = token.expires_at.is_some_and(|at| at <= clock::wall());
        match is_over || Reach::of_token(&token.namespaces) != caller.reach {
            true => Err(gone()),
            false => Ok(()),
        }
    }
}

/// One that has begun.
pub(crate) struct Following {
    wanted: Wanted,
    token: ResumeToken,
    goes_on: bool,
}

struct Sender {
    to: mpsc::Sender<Told>,
    within: Duration,
}

impl Sender {
    /// Waits until it is taken, but not for ever; false: nobody is there any more.
    async fn send(&self, told: Told) -> Result<bool, Error> {
        match tokio::time::timeout(self.within, self.to.send(told)).await {
            Ok(sent) => Ok(sent.is_ok()),
            Err(_) => Err(Error::TooMuch(format!(
                "nothing of the events was taken for {} s: follow again, with the token of the last one that was taken",
                self.within.as_secs()
            ))),
        }
    }
}
