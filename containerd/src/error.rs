//! Why containerd did not do what it was asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::{Code, Status};

/// As the kernel says it, in every one of containerd's errors that come of it.
const NO_SPACE: &str = "no space left on device";

/// Why containerd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the socket.
    #[error(
        "containerd at {} is away: {last}; see whether it runs (systemctl status containerd), or name its socket (--containerd-address)",
        .address.display()
    )]
    Away { address: PathBuf, last: String },
    /// Its file system is full.
    #[error(
        "containerd has no room left ({what}): {said}; remove images that nobody needs, or give it more room"
    )]
    Full { what: String, said: String },
    /// It answers that it cannot.
    #[error("containerd refuses {what}: {said}")]
    Refused { what: String, said: String },
    /// It took the question, and gives no answer.
    #[error("containerd does not answer ({what}) for {} s; see its log (journalctl -u containerd)", .waited.as_secs())]
    Silent { what: String, waited: Duration },
}

/// What an answer that is none means to whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AlreadyThere,
    /// The connection broke, or there is none.
    Away,
    /// Somebody else writes the same content.
    Locked,
    NotThere,
    Other,
}

/// What a status means; by its code, and where containerd has none for it, by its words.
pub(crate) fn kind(status: &Status) -> Kind {
    match status.code() {
        Code::AlreadyExists => Kind::AlreadyThere,
        Code::NotFound => Kind::NotThere,
        Code::Unavailable if status.message().contains("locked") => Kind::Locked,
        Code::Unavailable => Kind::Away,
        // What tonic makes of a connection that ends in the middle of an answer.
        Code::Unknown | Code::Cancelled | Code::Internal if std::error::Error::source(status).is_some() => {
            Kind::Away
        }
        _ => Kind::Other,
    }
}

impl Error {
    pub(crate) fn of(address: &Path, what: &str, status: &Status) -> Error {
        let said = in_words(status);
        match kind(status) {
            Kind::Away => Error::Away {
                address: address.to_owned(),
                last: said,
            },
            _ if said.contains(NO_SPACE) => Error::Full {
                what: what.to_owned(),
                said,
            },
            _ => Error::Refused {
                what: what.to_owned(),
                said,
            },
        }
    }
}

/// Its message, and of a connection the cause at the bottom: "tcp connect error" says nothing.
fn in_words(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    let mut last = None;
    while let Some(error) = cause {
        last = Some(error.to_string());
        cause = error.source();
    }
    match last {
        Some(last) if !status.message().contains(&last) => format!("{}: {last}", status.message()),
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_apart_by_its_code_and_its_words() {
        // Messages as containerd 1.6.20 sends them.
        for (code, message, want) in [
            (
                Code::AlreadyExists,
                "content sha256:0a: already exists",
                Kind::AlreadyThere,
            ),
            (
                Code::NotFound,
                "snapshot x does not exist: not found",
                Kind::NotThere,
            ),
            (
                Code::Unavailable,
                "ref layer-x locked for 3s (since …): unavailable",
                Kind::Locked,
            ),
            (Code::Unavailable, "error reading from server: EOF", Kind::Away),
            (Code::Unknown, "failed to create shim task: …", Kind::Other),
        ] {
            assert_eq!(kind(&Status::new(code, message)), want, "{message}");
        }
        let full = Status::unknown("failed to copy: write /var/lib/x: no space left on device: unknown");
        assert!(matches!(
            Error::of(Path::new("/run/c.sock"), "writing a blob", &full),
            Error::Full { .. }
        ));
    }
}
