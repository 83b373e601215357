//! Registries: how they are asked, and for how long.

mod challenge;
mod client;
mod error;
mod patience;
mod progress;
mod settings;
mod transfer;

pub use challenge::Challenge;
pub use error::PullError;
pub use patience::Patience;
pub use progress::{Progress, Seen};
pub use settings::{
    BadLogins, Endpoint, LOGINS_LIMIT_BYTES, Login, NotAMirror, Registries, Registry, Transport,
};

pub(crate) use client::{Client, Failed, Request};
pub(crate) use patience::Tries;
pub(crate) use settings::Asked;
pub use transfer::{Ended, Sink};
pub(crate) use transfer::{again, fetch};
