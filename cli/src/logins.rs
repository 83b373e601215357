//! Which servers somebody is logged in to: a file of their own, and where a token is looked for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use access::{Token, private_file};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Of a server that was not told another port.
pub(crate) const PORT: u16 = 42115;
/// A server on this host.
const HERE: &str = "127.0.0.1:42115";
/// Holds the text of a token.
const VARIABLE: &str = "FARRIER_TOKEN";
/// Where `farrier serve` keeps everything, unless it was told otherwise.
const DATA_DIR: &str = "/var/lib/farrier";
/// In a server's data directory: what tokens name it by.
pub(crate) const AUTHORITY: &str = "authority.pem";
/// In a server's data directory: the token that it made itself.
pub(crate) const FIRST_TOKEN: &str = "admin.token";

/// The file's content.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logins {
    /// Asked when no server is named: the one logged in to last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// Texts of tokens, by `HOST:PORT`.
    #[serde(default)]
    pub(crate) tokens: BTreeMap<String, String>,
}

impl Logins {
    /// Reads the file; empty when there is none.
    pub(crate) fn read() -> Result<Self, Failure> {
        let Some(path) = path() else {
            return Ok(Self::default());
        };
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                Failure::Failed(format!(
                    "{}: {}; mend it, or delete it and log in again",
                    path.display(),
                    error.to_string().trim_end()
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::Failed(format!(
                "cannot read {}: {error}",
                path.display()
            ))),
        }
    }

    /// Writes the file anew, for its owner alone; gives its name.
    pub(crate) fn write(&self) -> Result<PathBuf, Failure> {
        let path = path().ok_or_else(|| {
            Failure::Failed("there is no place for the login: set HOME or XDG_CONFIG_HOME".into())
        })?;
        let text = toml::to_string(self)
            .map_err(|error| Failure::Failed(format!("the login cannot be written: {error}")))?;
        let written = replace(&path, &text);
        written.map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
        Ok(path)
    }
}

pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    private_file::replace(path, text)
}

fn path() -> Option<PathBuf> {
    beside("logins.toml")
}

/// A file of this name in the same directory; `None`: there is no place for it.
pub(crate) fn beside(name: &str) -> Option<PathBuf> {
    let directory = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let config = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")))?;
    Some(config.join("farrier").join(name))
}

/// The server that is asked: the one that is named, the one logged in to last, or the one on this host.
pub(crate) fn server(named: Option<&str>) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(with_port(named));
    }
    Ok(Logins::read()?.current.unwrap_or_else(|| HERE.to_owned()))
}

/// The token to show that server, by `HOST:PORT`: of the environment, of the login, or, on the server's own host, the one that
/// the server made itself, for those who may read it.
pub(crate) fn token(server: &str) -> Result<Token, Failure> {
    let bad =
        |whence: &str, error: access::BadToken| Failure::Usage(format!("the token of {whence}: {error}"));
    if let Some(text) = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()) {
        return text.parse().map_err(|error| bad(VARIABLE, error));
    }
    if let Some(text) = Logins::read()?.tokens.get(server) {
        return text
            .parse()
            .map_err(|error| bad(&format!("the login to {server}"), error));
    }
    let mut tried = String::new();
    if is_here(server) {
        let directory = std::env::var_os("FARRIER_DATA_DIR").unwrap_or_else(|| DATA_DIR.into());
        let path = Path::new(&directory).join(FIRST_TOKEN);
        match fs::read_to_string(&path) {
            Ok(text) => {
                return text
                    .parse()
                    .map_err(|error| bad(&path.display().to_string(), error));
            }
            Err(error) => tried = format!(" ({}: {error})", path.display()),
        }
    }
    Err(Failure::Denied(format!(
        "no token for the server at {server}{tried}\nlog in with `farrier login {server}`, or put a token into {VARIABLE}; the first \
         one is in {FIRST_TOKEN} in the server's data directory"
    )))
}

/// Whether a server is on this host.
fn is_here(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The usual port where none is named.
pub(crate) fn with_port(server: &str) -> String {
    let after_host = server.rsplit_once(']').map_or(server, |(_, rest)| rest);
    if server.is_empty() || after_host.contains(':') {
        server.to_owned()
    } else {
        format!("{server}:{PORT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_port_has_the_usual_one() {
        for (given, want) in [
            ("10.77.0.1", "10.77.0.1:42115"),
            ("10.77.0.1:1", "10.77.0.1:1"),
            ("[::1]", "[::1]:42115"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(with_port(given), want);
        }
    }

    #[test]
    fn only_the_host_itself_is_here() {
        for (server, here) in [
            ("127.0.0.1:42115", true),
            ("localhost:1", true),
            ("[::1]:42115", true),
            ("10.77.0.1:42115", false),
            ("localhost.example:42115", false),
        ] {
            assert_eq!(is_here(server), here, "{server}");
        }
    }
}
