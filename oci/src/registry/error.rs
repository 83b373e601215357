//! Why an image could not be pulled.

use std::time::Duration;

use crate::digest::Digest;
use crate::image::{BadConfig, Platform};
use crate::layer::LayerError;
use crate::manifest::BadManifest;

/// Why an image could not be pulled. Each kind has one cause, and one cure.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No answer came, or none that is one, for as long as it was tried.
    #[error(
        "registry {registry} is away: {last} ({tries} tries in {} s); see whether it runs and whether this machine reaches it",
        .waited.as_secs()
    )]
    Away {
        registry: String,
        last: String,
        tries: u32,
        waited: Duration,
    },
    /// What is there is no image, or one that is not understood.
    #[error("what registry {registry} has as {image} is no image: {why}")]
    BadManifest {
        registry: String,
        image: String,
        why: BadManifest,
    },
    #[error("{image} cannot be used: {why}")]
    BadConfig { image: String, why: BadConfig },
    /// The bytes that came are not those that were named.
    #[error("registry {registry} sends other bytes than {expected} as {what}: their digest is {actual}")]
    WrongDigest {
        registry: String,
        what: String,
        expected: Digest,
        actual: Digest,
    },
    /// The folder that keeps images cannot be used.
    #[error("the folder of images {path} cannot be used: {what}")]
    Folder { path: String, what: String },
    /// Nothing can be done by asking again.
    #[error("layer {layer} of {image} is refused")]
    Layer {
        image: String,
        layer: Digest,
        #[source]
        why: Box<LayerError>,
    },
    /// No credentials, where some are wanted; or credentials that may not see it.
    #[error(
        "registry {registry} shows {image} to nobody without a login: give the registry's credentials, or see whether the name is right"
    )]
    LoginWanted { registry: String, image: String },
    /// The manifest names so many layers, and the configuration so many others.
    #[error("{image} cannot be used: its manifest has {manifest} layers, its configuration {config}")]
    LayersDiffer {
        image: String,
        manifest: usize,
        config: usize,
    },
    /// The registry has it, for other machines.
    #[error("{image} is there, but not for {wanted}; it is for {}", list(.there))]
    NoSuchPlatform {
        image: String,
        wanted: Platform,
        there: Vec<String>,
    },
    /// The registry answers that it has no such thing.
    #[error("registry {registry} has no {image}: see whether the name and the tag are right")]
    NoSuchTag {
        registry: String,
        image: String,
        /// What it says itself, with a colon before it.
        said: String,
    },
    /// The registry answers something that is not foreseen.
    #[error("registry {registry} refuses {what}: it answers {status}{said}")]
    Refused {
        registry: String,
        what: String,
        status: String,
        /// What it says itself, with a colon before it.
        said: String,
    },
    /// What keeps the image cannot be used.
    #[error("the image store {store} cannot be used: {what}")]
    Store { store: String, what: String },
    /// What keeps the image has no room left.
    #[error(
        "{image} does not fit into the image store {store}: {what}; remove images that nobody needs, or give it more room"
    )]
    StoreFull {
        image: String,
        store: String,
        what: String,
    },
    /// It would take too long.
    #[error("{image} did not come within {} s: {bytes} B of {total_bytes} B are here; give it more time", .limit.as_secs())]
    TooLate {
        image: String,
        limit: Duration,
        bytes: u64,
        total_bytes: u64,
    },
    /// What it needs does not fit beside what is in use.
    #[error(
        "{image} does not fit: {need}; images may take {limit_bytes} B in all, and {in_use_bytes} B are in use"
    )]
    TooLarge {
        image: String,
        need: String,
        limit_bytes: u64,
        in_use_bytes: u64,
    },
    /// TLS with the server does not come to be.
    #[error("registry {registry} is not trusted: {what}")]
    Untrusted { registry: String, what: String },
    /// A URL that the registry gave, or settings that were given, lead nowhere.
    #[error("registry {registry} cannot be asked: {what}")]
    Unusable { registry: String, what: String },
    /// There were credentials, and they are not taken.
    #[error(
        "registry {registry} does not take the credentials for {image} (user {user:?}): {said}; give others"
    )]
    WrongCredentials {
        registry: String,
        image: String,
        user: String,
        said: String,
    },
}

impl PullError {
    /// One word for what went wrong; stable, for programs to compare.
    pub fn reason(&self) -> &'static str {
        match self {
            PullError::Away { .. } => "RegistryAway",
            PullError::BadConfig { .. } | PullError::LayersDiffer { .. } => "BadImage",
            PullError::BadManifest { .. } => "BadManifest",
            PullError::Folder { .. } | PullError::Store { .. } => "ImageFolder",
            PullError::Layer { .. } => "BadLayer",
            PullError::LoginWanted { .. } => "LoginWanted",
            PullError::NoSuchPlatform { .. } => "NoSuchPlatform",
            PullError::NoSuchTag { .. } => "NoSuchImage",
            PullError::Refused { .. } => "RegistryRefused",
            PullError::StoreFull { .. } | PullError::TooLarge { .. } => "ImageTooLarge",
            PullError::TooLate { .. } => "PullTooLate",
            PullError::Unusable { .. } => "RegistryUnusable",
            PullError::Untrusted { .. } => "UntrustedServer",
            PullError::WrongCredentials { .. } => "WrongCredentials",
            PullError::WrongDigest { .. } => "WrongDigest",
        }
    }
}

fn list(there: &[String]) -> String {
    match there {
        [] => "no platform".to_owned(),
        there => there.join(", "),
    }
}
