//! Why a command failed, in words, and the exit code that says it to scripts.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use access::NotTheServer;
use tonic::{Code, Status};

/// Exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found, 4 no server, 5 not allowed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The connection was lost when there was one.
    #[error(
        "the server at {server} is gone: {why}\nwhat it was told goes on when it is back; look whether `farrier serve` runs there, and ask again"
    )]
    Broken { server: String, why: String },
    /// Nobody knows who asks, or that one may not.
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Failed(String),
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    #[error(
        "something at {server} took the connection and has not answered for {within:?}\nlook whether that is a \
         well `farrier serve` and its port for people (42115), name another with --server HOST:PORT, or wait longer with \
         --request-timeout TIME"
    )]
    NoAnswer { server: String, within: Duration },
    #[error("what answers at {server} is not asked: {why}")]
    NotTheServer { server: String, why: NotTheServer },
    #[error("{0}")]
    NotFound(String),
    /// It answers, and says itself that it cannot: it has no room, or it ends.
    #[error("the server at {server} cannot do this now: {why}")]
    NotNow { server: String, why: String },
    #[error(
        "no server answers at {server}: {why}\nstart one with `farrier serve`, or name another with --server HOST:PORT"
    )]
    Unreachable { server: String, why: String },
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// What a server's refusal means here.
    pub(crate) fn from_status(server: &str, status: &Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::NotFound => Failure::NotFound(message),
            Code::PermissionDenied | Code::Unauthenticated => Failure::Denied(message),
            Code::Unavailable => Failure::NotNow {
                server: server.to_owned(),
                why: message,
            },
            Code::Unimplemented => Failure::Failed(format!(
                "the server at {server} does not know this command: it is of another version than this program"
            )),
            code if message.is_empty() => {
                Failure::Failed(format!("the server at {server} answered {code:?}"))
            }
            _ => Failure::Failed(message),
        }
    }

    /// What failed about one of several files: named, unless each of its lines names it.
    pub(crate) fn of(self, source: &str) -> Self {
        let named = |message: String| match message.starts_with(source) {
            true => message,
            false => format!("{source}: {message}"),
        };
        match self {
            Failure::Failed(message) => Failure::Failed(named(message)),
            Failure::NotFound(message) => Failure::NotFound(named(message)),
            Failure::Denied(message) => Failure::Denied(named(message)),
            other => other,
        }
    }

    /// The same for a command whose exit code 1 says that things differ: what failed has another.
    pub(crate) fn of_comparison(self) -> Self {
        match self {
            Failure::Failed(message) => Failure::Usage(message),
            other => other,
        }
    }

    /// Of a server that is gone: what was noticed.
    pub(crate) fn why(&self) -> &str {
        match self {
            Failure::Broken { why, .. } | Failure::NotNow { why, .. } | Failure::Unreachable { why, .. } => {
                why
            }
            _ => "",
        }
    }

    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Io(_) if self.is_broken_pipe() => 0,
            Failure::Failed(_) | Failure::Io(_) | Failure::NotNow { .. } => 1,
            Failure::Usage(_) => 2,
            Failure::NotFound(_) => 3,
            Failure::Denied(_) => 5,
            Failure::Broken { .. }
            | Failure::NoAnswer { .. }
            | Failure::NotTheServer { .. }
            | Failure::Unreachable { .. } => 4,
        })
    }
}

/// An error with everything that caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}
