//! What is sent to a webhook, and when: one message after the other, each until it is taken or too old.
//!
//! Pure: `(now, what happened)` gives what to do next. What it keeps is a place in the order of all events, and the message that is under way:
//! a receiver that is dead holds nothing else, and its events wait where they are.

use serde::{Deserialize, Serialize};
use workflow::engine::UnixMillis;

use crate::order::ResumeToken;

/// Between the first try and the second; doubled for each that follows.
const FIRST_PAUSE_MS: u64 = 1_000;
const LONGEST_PAUSE_MS: u64 = 10 * 60_000;
/// The longest that a receiver may ask for.
const LONGEST_ASKED_MS: u64 = 60 * 60_000;
/// An event that is older than this is given up while the receiver takes nothing.
pub const GIVE_UP_MS: u64 = 3 * 24 * 3_600_000;
/// Deliveries that are kept of a webhook, to be listed.
pub const KEPT_DELIVERIES: u64 = 100;

/// How far a webhook is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// All before it is dealt with.
    pub token: ResumeToken,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_way: Option<UnderWay>,
    /// Tries in a row that nothing came of.
    #[serde(default)]
    pub failures: u32,
    /// Nothing is sent before.
    #[serde(default)]
    pub due: UnixMillis,
    /// Number of the next delivery.
    #[serde(default)]
    pub next: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
}

/// A message that has not been taken yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// Behind its event.
    pub token: ResumeToken,
    /// Of the delivery.
    pub number: u64,
    pub delivery: Delivery,
}

/// Nothing is sent any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    pub at: UnixMillis,
    pub why: String,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The same with each try.
    pub id: String,
    /// The message's type.
    pub kind: String,
    pub workflow: String,
    /// The event's number.
    pub event: u64,
    /// Of the event.
    pub at: UnixMillis,
    pub state: DeliveryState,
    pub tries: u32,
    /// Of the last try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<UnixMillis>,
    /// What was answered; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// In words, where it was not taken.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeliveryState {
    Delivered,
    /// It was too old before it was taken.
    GivenUp,
    /// What the order had of it is not kept any more.
    Lost,
    Pending,
}

impl DeliveryState {
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Delivered => "DELIVERED",
            DeliveryState::GivenUp => "GIVEN_UP",
            DeliveryState::Lost => "LOST",
            DeliveryState::Pending => "PENDING",
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look for the next event that is wanted, after this.
    Look(ResumeToken),
    /// Send the message under way.
    Send,
    /// Nothing before this time.
    Wait(UnixMillis),
    /// Nothing ever again.
    Stop,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Status {
        code: u16,
        /// The receiver asks for so much time (`retry-after`).
        after_ms: Option<u64>,
    },
    /// In words.
    None { why: String },
}

/// An event that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub id: String,
    pub kind: String,
    pub workflow: String,
    pub event: u64,
    pub at: UnixMillis,
    /// Behind it.
    pub token: ResumeToken,
}

impl Progress {
    /// Of one that is made now.
    pub fn begin(token: ResumeToken) -> Self {
        Self {
            token,
            under_way: None,
            failures: 0,
            due: 0,
            next: 1,
            stopped: None,
        }
    }

    pub fn next(&self, now: UnixMillis) -> Next {
        match (&self.stopped, &self.under_way) {
            (Some(_), _) => Next::Stop,
            (None, None) => Next::Look(self.token),
            (None, Some(_)) if self.due <= now => Next::Send,
            // A clock that was set back makes nobody wait for longer than it should.
            (None, Some(_)) => Next::Wait(self.due.min(now.saturating_add(LONGEST_ASKED_MS))),
        }
    }

    /// The next event that is wanted; gives the delivery to list.
    pub fn found(&mut self, wanted: Wanted, now: UnixMillis) -> (u64, Delivery) {
        let Wanted {
            id,
            kind,
            workflow,
            event,
            at,
            token,
        } = wanted;
        let number = self.next;
        self.next += 1;
        let delivery = Delivery {
            id,
            kind,
            workflow,
            event,
            at,
            state: DeliveryState::Pending,
            tries: 0,
            tried_at: None,
            status: None,
            message: String::new(),
        };
        self.under_way = Some(UnderWay {
            token,
            number,
            delivery: delivery.clone(),
        });
        // What has become too old while the receiver was away is not tried one by one.
        match self.failures > 0 && is_too_old(at, now) {
            true => self.give_up(),
            false => (number, delivery),
        }
    }

    /// Nothing up to here is wanted.
    pub fn passed(&mut self, token: ResumeToken) {
        self.token = token;
    }

    /// What came of sending the message under way; `chance` is any number. Gives the delivery to list; none: nothing was under way.
    pub fn answered(&mut self, answer: Answer, now: UnixMillis, chance: u64) -> Option<(u64, Delivery)> {
        let under_way = self.under_way.as_mut()?;
        let delivery = &mut under_way.delivery;
        delivery.tries = delivery.tries.saturating_add(1);
        delivery.tried_at = Some(now);
        let mut asked_ms = 0;
        let mut is_gone = false;
        match answer {
            Answer::Status {
                code: code @ 200..=299,
                ..
            } => {
                delivery.state = DeliveryState::Delivered;
                delivery.status = Some(code);
                delivery.message.clear();
                (self.failures, self.due) = (0, 0);
                return self.done();
            }
            Answer::Status { code, after_ms } => {
                is_gone = code == 410;
                asked_ms = after_ms.unwrap_or_default().min(LONGEST_ASKED_MS);
                delivery.status = Some(code);
                delivery.message = match code {
                    300..=399 => format!(
                        "it answered {code}: redirects are not followed, give the address that it leads to"
                    ),
                    _ => format!("it answered {code}"),
                };
            }
            Answer::None { why } => {
                delivery.status = None;
                delivery.message = why;
            }
        }
        if is_gone {
            let why = "it answered 410 Gone: it wants nothing any more".to_owned();
            self.stopped = Some(Stopped { at: now, why });
            return Some((under_way.number, delivery.clone()));
        }
        let is_too_old = is_too_old(delivery.at, now);
        let listed = (under_way.number, delivery.clone());
        self.failures = self.failures.saturating_add(1);
        self.due = now.saturating_add(pause_ms(self.failures, chance).max(asked_ms));
        Some(if is_too_old { self.give_up() } else { listed })
    }

    /// What came after the token is not kept any more: it goes on from `oldest`.
    pub fn lost(&mut self, oldest: ResumeToken, now: UnixMillis) -> (u64, Delivery) {
        let number = self.next;
        self.next += 1;
        self.token = oldest;
        let delivery = Delivery {
            id: String::new(),
            kind: String::new(),
            workflow: String::new(),
            event: 0,
            at: now,
            state: DeliveryState::Lost,
            tries: 0,
            tried_at: None,
            status: None,
            message: "what came next is not kept any more of the events; it goes on with the oldest that is"
                .to_owned(),
        };
        (number, delivery)
    }

    /// The message under way cannot be sent any more.
    pub fn dropped(&mut self, why: &str) -> Option<(u64, Delivery)> {
        let under_way = self.under_way.as_mut()?;
        under_way.delivery.state = DeliveryState::GivenUp;
        under_way.delivery.message = why.to_owned();
        self.done()
    }

    fn give_up(&mut self) -> (u64, Delivery) {
        if let Some(under_way) = &mut self.under_way {
            under_way.delivery.state = DeliveryState::GivenUp;
        }
        self.done().expect("it is under way")
    }

    fn done(&mut self) -> Option<(u64, Delivery)> {
        let UnderWay {
            token,
            number,
            delivery,
        } = self.under_way.take()?;
        self.token = token;
        Some((number, delivery))
    }
}

fn is_too_old(at: UnixMillis, now: UnixMillis) -> bool {
    at.saturating_add(GIVE_UP_MS) < now
}

/// Doubled with each failure, and up to a fifth more or less, so that not all come back at the same time.
fn pause_ms(failures: u32, chance: u64) -> u64 {
    let doubled = FIRST_PAUSE_MS.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let pause = doubled.min(LONGEST_PAUSE_MS);
    pause * (800 + chance % 401) / 1_000
}

#[cfg(test)]
mod tests;
