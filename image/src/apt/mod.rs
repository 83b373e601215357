//! Packages of a Debian suite, fetched through an apt root of our own.
//!
//! The root has its own sources, state and key, so the release of the host, what is installed there and whether
//! we are root do not matter; only the host's ways to reach the network (its `Acquire` settings) are kept.
//! What was fetched stays in a cache, by file name and SHA-256, and is used again without a network.

mod cache;
mod mirror;
mod root;
mod suite;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use mirror::Mirror;
pub use root::Archive;
pub(crate) use root::host_acquire_settings;
pub use suite::{Suite, UnknownSuite};

use crate::command::CommandError;
use crate::files::FileError;

/// The release whose packages are used unless another suite is named.
pub const RELEASE: &str = "trixie";
/// Names a mirror, as `--mirror` does: one URL, or two with the security archive's as the second.
pub const MIRROR_VARIABLE: &str = "FARRIER_MIRROR";

/// A package that is in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Name, such as `ipxe`.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// The first package it depends on, which is the real one for a meta package.
    pub first_dependency: Option<String>,
    /// All packages that it depends on, before it is installed or after, the first of alternatives; `name=version` where only that version will do.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// The suite that has the file, such as `trixie-security`, which may be another than the one that was asked for.
    #[serde(default)]
    pub suite: String,
    /// Path of the file below the mirror's URL, as the archive's signed index gives it.
    #[serde(default)]
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, as the archive's signed index gives it.
    pub sha256: String,
    /// Where the file is.
    #[serde(skip)]
    pub file: PathBuf,
}

/// Why packages could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// apt could not do its part for another reason than the network.
    #[error("apt could not {action}")]
    Apt {
        action: String,
        #[source]
        source: CommandError,
    },
    /// What was downloaded is not what the index promised.
    #[error("{} has the SHA-256 {actual}, expected {expected}: remove it and try again", file.display())]
    Checksum {
        file: PathBuf,
        expected: String,
        actual: String,
    },
    /// A file of the cache or of the apt root could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key that signs the archive is not on the host.
    #[error("{} is missing: install the Debian package debian-archive-keyring", KEYRING)]
    NoKeyring,
    /// The suite has no such package.
    #[error(
        "Debian {suite} at {mirror} has no package {name}: check the name, or take another suite (--suite)"
    )]
    NoPackage {
        name: String,
        suite: Suite,
        mirror: String,
    },
    /// The mirror has no such suite, or not any more.
    #[error(
        "{mirror} has no Debian {suite}: check the code name (--suite), or name another mirror with --mirror URL or {MIRROR_VARIABLE}"
    )]
    NoSuite {
        suite: Suite,
        mirror: String,
        #[source]
        source: Box<CommandError>,
    },
    /// The suite has the package, but not in this version.
    #[error(
        "Debian {suite} at {mirror} has no {name}, only {there}: take one of these versions, or another suite (--suite)"
    )]
    NoVersion {
        name: String,
        suite: Suite,
        mirror: String,
        there: String,
    },
    /// The mirror did not answer, and the cache does not have everything either.
    #[error(
        "the Debian mirror {mirror} cannot be reached, and {} does not hold all packages that are needed: \
         check the network, or name another mirror with --mirror URL or {MIRROR_VARIABLE}", cache.display()
    )]
    Offline {
        mirror: String,
        cache: PathBuf,
        #[source]
        source: CommandError,
    },
    /// The archive is signed by nobody whom the host knows: its keys are older than the release, or it is no Debian.
    #[error(
        "Debian {suite} at {mirror} is signed with a key that {KEYRING} does not have: upgrade the host's package \
         debian-archive-keyring, or name another mirror with --mirror URL or {MIRROR_VARIABLE}"
    )]
    UnknownKey {
        suite: Suite,
        mirror: String,
        #[source]
        source: Box<CommandError>,
    },
}

pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
