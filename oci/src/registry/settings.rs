//! Where registries are, and how they are reached: mirrors, TLS, logins.

use std::collections::BTreeMap;
use std::fmt;

use reach::{Reach, Trust};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::reference::{DEFAULT_REGISTRY, host_of};

/// A mirror that is not said as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no mirror of a registry: write REGISTRY=https://HOST or REGISTRY=http://HOST:PORT")]
pub struct NotAMirror {
    given: String,
}

/// What is known of registries; the default knows none in particular.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// Proxies and authorities for all of them.
    pub reach: Reach,
    /// Asked before all others for what any registry has, and without a proxy; not for what this machine itself has.
    pub first: Option<Endpoint>,
    /// By the name that references have: `docker.io`, `registry.example.com:5000`.
    pub by_name: BTreeMap<String, Registry>,
}

/// One registry.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Asked first, in this order; the registry itself is asked when none of them gives it.
    pub mirrors: Vec<Endpoint>,
    /// The registry itself, where its name alone does not say how it is reached.
    pub own: Option<Endpoint>,
}

/// A server that speaks the distribution API.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `HOST` or `HOST:PORT`.
    pub host: String,
    pub transport: Transport,
    /// Who vouches for it, if not whom [`Registries::reach`] believes.
    pub trust: Option<Trust>,
    pub login: Option<Login>,
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP, which anybody on the way can read and change.
    Plain,
    Tls,
}

/// A name and a password. Has no `Debug` that shows it, and is overwritten when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Zeroizing<String>,
}

/// Logins that cannot be read. The text itself is a secret, and not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLogins {
    #[error("the logins are no config.json of Docker's: {0}")]
    Json(String),
    #[error("the login for {registry} is no base64 of USER:PASSWORD")]
    Auth { registry: String },
    #[error(
        "the login for {registry} is an identity token, which only Docker itself can use: give a user and a password or an access token"
    )]
    IdentityToken { registry: String },
    #[error("the logins have {bytes} B; {LOGINS_LIMIT_BYTES} B are read at most")]
    TooLong { bytes: usize },
}

/// A `config.json` has some entries of some hundred bytes.
pub const LOGINS_LIMIT_BYTES: usize = 256 << 10;
/// Where Docker Hub speaks the API.
const HUB_HOST: &str = "registry-1.docker.io";
/// What Docker writes for it into `config.json`.
const HUB_NAMES: [&str; 3] = ["index.docker.io", "docker.io", HUB_HOST];

impl Endpoint {
    /// An endpoint that nothing else is known of: TLS, but for this machine itself, as Docker does it.
    pub fn of(host: &str) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            transport: match is_this_machine(host) {
                true => Transport::Plain,
                false => Transport::Tls,
            },
            trust: None,
            login: None,
        }
    }

    /// What its URLs begin with.
    pub(crate) fn base(&self) -> String {
        let scheme = match self.transport {
            Transport::Plain => "http",
            Transport::Tls => "https",
        };
        format!("{scheme}://{}", self.host)
    }
}

impl Registries {
    /// Who is asked for what a registry of this name has, in order; the registry itself is the last.
    pub(crate) fn endpoints(&self, name: &str) -> Vec<Asked> {
        let known = self.by_name.get(name);
        let mirrors = known.map(|known| known.mirrors.clone()).unwrap_or_default();
        let own = known
            .and_then(|known| known.own.clone())
            .unwrap_or_else(|| match name {
                DEFAULT_REGISTRY => Endpoint::of(HUB_HOST),
                name => Endpoint::of(name),
            });
        let first = self.first.clone().filter(|_| !is_this_machine(name));
        let first = first.map(|endpoint| Asked {
            endpoint,
            mirror_of: Some(name.to_owned()),
            is_first: true,
        });
        let mirrors = mirrors.into_iter().map(|endpoint| Asked {
            endpoint,
            mirror_of: Some(name.to_owned()),
            is_first: false,
        });
        let own = Asked {
            endpoint: own,
            mirror_of: None,
            is_first: false,
        };
        first.into_iter().chain(mirrors).chain([own]).collect()
    }

    /// Has the registry of this name be asked at a URL, `http://10.0.0.5:5000`, and not where its name leads.
    ///
    /// # Errors
    /// [`NotAMirror`].
    pub fn be_at(&mut self, name: &str, url: &str) -> Result<(), NotAMirror> {
        let endpoint = endpoint_of(url).ok_or_else(|| NotAMirror {
            given: format!("{name}={url}").chars().take(200).collect(),
        })?;
        self.by_name.entry(name.to_owned()).or_default().own = Some(endpoint);
        Ok(())
    }

    /// Has a server be asked first, by its URL: `http://10.0.0.1:7080`.
    ///
    /// # Errors
    /// [`NotAMirror`].
    pub fn ask_first(&mut self, url: &str) -> Result<(), NotAMirror> {
        let endpoint = endpoint_of(url).ok_or_else(|| NotAMirror {
            given: url.chars().take(200).collect(),
        })?;
        self.first = Some(endpoint);
        Ok(())
    }

    /// Adds a mirror behind those that there are, as people write it: `docker.io=http://10.0.0.1:5000`.
    ///
    /// # Errors
    /// [`NotAMirror`].
    pub fn add_mirror(&mut self, text: &str) -> Result<(), NotAMirror> {
        let refused = || NotAMirror {
            given: text.chars().take(200).collect(),
        };
        let (name, url) = text.split_once('=').ok_or_else(refused)?;
        let endpoint = endpoint_of(url).ok_or_else(refused)?;
        let name = host_of(name).ok_or_else(refused)?;
        self.by_name.entry(name).or_default().mirrors.push(endpoint);
        Ok(())
    }

    /// Lets the registry of this name be asked with this login.
    pub fn log_in(&mut self, name: &str, login: Login) {
        let asked = self.endpoints(name);
        let registry = self.by_name.entry(name.to_owned()).or_default();
        let own = asked.into_iter().next_back().map(|asked| asked.endpoint);
        registry.own = own.map(|own| Endpoint {
            login: Some(login),
            ..own
        });
    }
}

/// An endpoint, and for whom it stands.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) endpoint: Endpoint,
    /// The name of the registry, if it is another's.
    pub(crate) mirror_of: Option<String>,
    /// Whether it is [`Registries::first`].
    pub(crate) is_first: bool,
}

/// Of a URL without a path. Its host is what a reference's registry is.
fn endpoint_of(url: &str) -> Option<Endpoint> {
    let (transport, host) = match url.split_once("://")? {
        ("http", host) => (Transport::Plain, host),
        ("https", host) => (Transport::Tls, host),
        _ => return None,
    };
    let host = host_of(host.strip_suffix('/').unwrap_or(host))?;
    Some(Endpoint {
        transport,
        ..Endpoint::of(&host)
    })
}

impl Login {
    /// Reads logins in the form of Docker's `config.json`: by the name that references have.
    ///
    /// # Errors
    /// [`BadLogins`], which tells nothing of what is secret.
    pub fn all(config_json: &str) -> Result<BTreeMap<String, Login>, BadLogins> {
        if config_json.len() > LOGINS_LIMIT_BYTES {
            return Err(BadLogins::TooLong {
                bytes: config_json.len(),
            });
        }
        let file: File = serde_json::from_str(config_json).map_err(|error| {
            // Its own text may repeat what it found.
            BadLogins::Json(format!("line {}, column {}", error.line(), error.column()))
        })?;
        let mut logins = BTreeMap::new();
        for (key, entry) in file.auths {
            let registry = registry_of(&key);
            if entry.identitytoken.is_some_and(|token| !token.is_empty()) {
                return Err(BadLogins::IdentityToken { registry });
            }
            let login = match (
                entry.auth.filter(|auth| !auth.is_empty()),
                entry.username,
                entry.password,
            ) {
                (Some(auth), _, _) => decoded(&auth).ok_or_else(|| BadLogins::Auth {
                    registry: registry.clone(),
                })?,
                (None, Some(user), Some(password)) => Login {
                    user,
                    password: password.into(),
                },
                // A helper of Docker's keeps it: it is not here.
                _ => continue,
            };
            logins.insert(registry, login);
        }
        Ok(logins)
    }
}

impl Login {
    /// What stands behind `Basic ` in a header. Source: RFC 7617, section 2.
    pub fn basic(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(format!("{}:{}", self.user, self.password.as_str()));
        data_encoding::BASE64.encode(pair.as_bytes()).into()
    }

    /// A text without the password, as it is and as it is sent.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        let secrets = [self.password.as_str(), &self.basic()].map(str::to_owned);
        let mut text = text.to_owned();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret.as_str(), "***");
        }
        text
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?}, …)", self.user)
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Keys of `config.json` are names, URLs and what Docker Hub was called at different times.
fn registry_of(key: &str) -> String {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match HUB_NAMES.contains(&host.as_str()) {
        true => DEFAULT_REGISTRY.to_owned(),
        false => host,
    }
}

fn decoded(auth: &str) -> Option<Login> {
    let bytes = Zeroizing::new(data_encoding::BASE64.decode(auth.trim().as_bytes()).ok()?);
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some(Login {
        user: user.to_owned(),
        // Docker pads passwords with zeros at times.
        password: password.trim_matches('\0').to_owned().into(),
    })
}

/// `localhost` and the addresses of loopback.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(registries: &Registries, name: &str) -> Vec<String> {
        let asked = registries.endpoints(name);
        asked.iter().map(|asked| asked.endpoint.base()).collect()
    }

    #[test]
    fn mirrors_are_asked_before_the_registry_itself() {
        let mut registries = Registries::default();
        assert_eq!(hosts(&registries, "docker.io"), ["https://registry-1.docker.io"]);
        assert_eq!(hosts(&registries, "quay.io"), ["https://quay.io"]);
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert_eq!(hosts(&registries, local), [format!("http://{local}")]);
        }
        assert_eq!(
            hosts(&registries, "127.0.0.1.example.com"),
            ["https://127.0.0.1.example.com"]
        );
        let mirror = Endpoint {
            transport: Transport::Plain,
            ..Endpoint::of("mirror:5000")
        };
        let registry = Registry {
            mirrors: vec![mirror],
            own: None,
        };
        registries.by_name.insert("docker.io".to_owned(), registry);
        assert_eq!(
            hosts(&registries, "docker.io"),
            ["http://mirror:5000", "https://registry-1.docker.io"]
        );
        assert_eq!(hosts(&registries, "quay.io"), ["https://quay.io"]);
        let login = Login {
            user: "u".to_owned(),
            password: "secret".to_owned().into(),
        };
        registries.log_in("docker.io", login.clone());
        let asked = registries.endpoints("docker.io");
        // A login for a registry is not one for its mirrors.
        assert_eq!(asked[0].endpoint.login, None);
        assert_eq!(asked[1].endpoint.login, Some(login));
        assert!(!format!("{registries:?}").contains("secret"));
    }

    #[test]
    fn one_server_may_be_asked_first_for_all_but_what_this_machine_has() {
        let mut registries = Registries::default();
        registries
            .add_mirror("docker.io=http://mirror:5000")
            .expect("a mirror");
        registries.ask_first("http://10.77.0.1:7080/").expect("a server");
        assert_eq!(
            hosts(&registries, "docker.io"),
            [
                "http://10.77.0.1:7080",
                "http://mirror:5000",
                "https://registry-1.docker.io"
            ]
        );
        assert_eq!(
            hosts(&registries, "quay.io"),
            ["http://10.77.0.1:7080", "https://quay.io"]
        );
        assert_eq!(hosts(&registries, "localhost:5000"), ["http://localhost:5000"]);
        let login = Login {
            user: "u".to_owned(),
            password: "secret".to_owned().into(),
        };
        registries.log_in("quay.io", login);
        assert_eq!(registries.endpoints("quay.io")[0].endpoint.login, None);
        for bad in ["10.77.0.1:7080", "http://10.77.0.1:7080/boot", "ftp://a.b", ""] {
            assert!(registries.ask_first(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mirror_is_said_in_one_word_and_what_is_none_is_refused() {
        let mut registries = Registries::default();
        for text in [
            "docker.io=http://10.0.0.1:5000",
            "docker.io=https://Mirror.example.com/",
            "docker.io=http://mirror",
            "[fd00::1]:5000=http://[fd00:0::2]:5000",
        ] {
            registries.add_mirror(text).expect(text);
        }
        assert_eq!(
            hosts(&registries, "docker.io"),
            [
                "http://10.0.0.1:5000",
                "https://mirror.example.com",
                "http://mirror",
                "https://registry-1.docker.io"
            ]
        );
        assert_eq!(hosts(&registries, "[fd00::1]:5000")[0], "http://[fd00::2]:5000");
        for text in [
            "",
            "docker.io",
            "docker.io=10.0.0.1:5000",
            "docker.io=ftp://a.b",
            "=http://a.b",
            "docker.io=http://",
            "docker.io=http://a.b/path",
            "docker.io=http://user:secret@a.b",
            "a/b=http://a.b",
            "docker.io=http://a.b:99999",
            "docker.io=http://a b",
        ] {
            let refused = registries.add_mirror(text).expect_err(text).to_string();
            assert!(refused.contains("REGISTRY=https://HOST"), "{refused}");
        }
    }

    #[test]
    fn logins_are_read_as_docker_writes_them() {
        let json = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
            "Registry.example.com:5000": {"username": "a", "password": "b"},
            "kept.example.com": {}
        }, "credsStore": "desktop", "HttpHeaders": {}}"#;
        let logins = Login::all(json).expect("they are logins");
        let pairs: Vec<_> = logins
            .iter()
            .map(|(name, login)| (name.as_str(), login.user.as_str(), login.password.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("docker.io", "user", "pa:ss"),
                ("registry.example.com:5000", "a", "b")
            ]
        );
        assert_eq!(Login::all("{}"), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_are_no_logins_is_told_without_the_secret() {
        for (json, word) in [
            ("", "line 1"),
            (r#"{"auths": ["secret"]}"#, "line 1"),
            (r#"{"auths": {"a": {"auth": "secret!"}}}"#, "a is no base64"),
            (r#"{"auths": {"a": {"auth": "c2VjcmV0"}}}"#, "a is no base64"),
            (
                r#"{"auths": {"a": {"auth": "", "identitytoken": "secret"}}}"#,
                "identity token",
            ),
        ] {
            let refused = Login::all(json).expect_err(word).to_string();
            assert!(refused.contains(word) && !refused.contains("secret"), "{refused}");
        }
        let long = " ".repeat(LOGINS_LIMIT_BYTES + 1);
        assert!(matches!(Login::all(&long), Err(BadLogins::TooLong { .. })));
    }
}
