//! Registries: how they are asked, and for how long.

mod challenge;
mod client;
mod error;
mod patience;
mod progress;
mod settings;
mod source;
mod transfer;

pub use challenge::Challenge;
pub use error::PullError;
pub use patience::Patience;
pub use progress::{Progress, Seen};
pub use settings::{
    BadLogins, Endpoint, LOGINS_LIMIT_BYTES, Login, NotAMirror, Registries, Registry, Transport,
};
pub use source::Source;

pub(crate) use client::Client;
pub(crate) use settings::Asked;
pub(crate) use source::{manifest, same};
pub(crate) use transfer::fetch;
pub use transfer::{Ended, Sink};
