//! How a server outside is reached: through which proxy, and whom to believe that it is the server it says it is.
//!
//! Image servers and registries are reached in the same way. What is asked of them, and where they may lead, is of who asks.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that is gone without a word is noticed by what the kernel asks of it.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Proxies and certificates for downloads; the default has neither proxies nor certificates beside Mozilla's.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    pub proxies: Proxies,
    pub trust: Trust,
}

/// Which requests go through a proxy, as `HTTP_PROXY` and its like say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    /// `NO_PROXY`: hosts, domains, addresses, networks, `*`, with commas between them.
    except: String,
}

/// Which certificates vouch for a server.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    roots: Roots,
    extra: Vec<CertificateDer<'static>>,
}

/// The authorities that everybody believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's, as they were when this was built: an in-memory system has no others.
    #[default]
    BuiltIn,
    /// Those of the system that this runs on.
    System,
}

impl Proxies {
    /// Names of the variables, each in capitals and in small letters.
    pub const VARIABLES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

    /// Out of variables; of two spellings the one in small letters counts, as with curl(1).
    ///
    /// # Errors
    /// In words: which variable names no HTTP proxy.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Proxies, String> {
        let value = |name: &str| {
            variable(&name.to_lowercase())
                .or_else(|| variable(name))
                .filter(|value| !value.trim().is_empty())
        };
        let proxy = |name: &str| value(name).map(|text| proxy_url(name, &text)).transpose();
        let all = proxy("ALL_PROXY")?;
        let found = Proxies {
            http: proxy("HTTP_PROXY")?.or_else(|| all.clone()),
            https: proxy("HTTPS_PROXY")?.or(all),
            except: value("NO_PROXY").as_deref().map(exceptions).unwrap_or_default(),
        };
        // reqwest takes the star for names only, not for addresses.
        let everything = found.except.split(',').any(|entry| entry == "*");
        Ok(if everything { Proxies::default() } else { found })
    }
}

/// As reqwest reads them: `*.example.com`, which others know, is `.example.com`; an exception for one port is one for
/// the host.
fn exceptions(text: &str) -> String {
    let entry = |entry: &str| {
        let entry = entry.trim();
        let entry = entry
            .strip_prefix('*')
            .filter(|rest| rest.starts_with('.'))
            .unwrap_or(entry);
        match entry.rsplit_once(':') {
            // More colons: an IPv6 address.
            Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => {
                host.to_owned()
            }
            _ => entry.to_owned(),
        }
    };
    text.split(',').map(entry).collect::<Vec<_>>().join(",")
}

/// `proxy.example.com:3128` is of HTTP, as everywhere.
fn proxy_url(name: &str, text: &str) -> Result<Url, String> {
    let text = text.trim();
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("http://{text}"))
    };
    // The text may hold a password: it is not repeated.
    match url {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Err(format!(
            "{name} names a proxy of scheme {}; http and https proxies are known",
            url.scheme()
        )),
        Ok(url) if url.host().is_some() => Ok(url),
        Ok(_) => Err(format!("{name} names no host; write http://HOST:PORT")),
        Err(e) => Err(format!("{name} is no URL: {e}; write http://HOST:PORT")),
    }
}

impl Trust {
    pub fn new(roots: Roots) -> Trust {
        Trust {
            roots,
            extra: Vec::new(),
        }
    }

    /// Believes the authorities in this PEM text, too.
    ///
    /// # Errors
    /// In words: there is no certificate in it, or one that is damaged.
    pub fn add(&mut self, pem: &str) -> Result<(), String> {
        let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| format!("not PEM: {e}"))?;
        if found.is_empty() {
            return Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned());
        }
        let mut store = rustls::RootCertStore::empty();
        for (certificate, number) in found.iter().zip(1..) {
            store
                .add(certificate.clone())
                .map_err(|e| format!("certificate {number} in it is no authority's: {e}"))?;
        }
        self.extra.extend(found);
        Ok(())
    }
}

/// A client that reaches servers so. `tune` says the rest, redirects before all; it is called once or twice.
///
/// # Errors
/// A certificate or a proxy that cannot be used; what `tune` asks for.
pub fn client(reach: &Reach, tune: impl Fn(ClientBuilder) -> ClientBuilder) -> reqwest::Result<Client> {
    // reqwest panics when no provider is installed; an error means that one already is.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if reach.trust.roots == Roots::System
        && let Ok(client) = tune(builder(reach)?)
            .tls_certs_merge(certificates(&reach.trust.extra)?)
            .build()
    {
        return Ok(client);
    }
    // A system without authorities of its own, such as a bare container, is given these, too.
    tune(builder(reach)?)
        .tls_backend_preconfigured(believing_built_in(&reach.trust.extra))
        .build()
}

fn certificates(of: &[CertificateDer<'_>]) -> reqwest::Result<Vec<Certificate>> {
    of.iter().map(|der| Certificate::from_der(der)).collect()
}

/// TLS that believes Mozilla's authorities and these.
fn believing_built_in(extra: &[CertificateDer<'static>]) -> ClientConfig {
    let mut tls = ClientConfig::builder()
        .with_root_certificates(built_in_and(extra))
        .with_no_client_auth();
    // What reqwest says itself when it is asked for HTTP/1.1 alone.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls
}

/// Of Mozilla's authorities there are names and keys only, which is all that a chain is checked by: their certificates would be twice
/// as many bytes in every boot image.
fn built_in_and(extra: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // `Trust::add` has tried each: none is left out.
    roots.add_parsable_certificates(extra.iter().cloned());
    roots
}

fn builder(reach: &Reach) -> reqwest::Result<ClientBuilder> {
    let mut builder = Client::builder()
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE / 2)
        .tcp_keepalive_retries(3);
    let Proxies { http, https, except } = &reach.proxies;
    let except = NoProxy::from_string(except);
    if let Some(url) = http {
        builder = builder.proxy(Proxy::http(url.clone())?.no_proxy(except.clone()));
    }
    if let Some(url) = https {
        builder = builder.proxy(Proxy::https(url.clone())?.no_proxy(except));
    }
    Ok(builder)
}

/// Why TLS with this server will not come to be, however often it is tried.
#[derive(Debug, PartialEq, Eq)]
pub struct NoTls {
    /// In words.
    pub what: String,
    /// The certificate may be right, and its authority is one that was not given here.
    pub unknown_issuer: bool,
}

/// Looks for a reason in an error of a request that asking again does not change.
pub fn no_tls(err: &reqwest::Error) -> Option<NoTls> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(err);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return judged(tls);
        }
        // An I/O error hides what it wraps from `source`.
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// An error with its causes: reqwest's own text says only "error sending request".
pub fn in_words(err: &reqwest::Error) -> String {
    let mut text = err.to_string();
    let mut source = Error::source(err);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn judged(error: &rustls::Error) -> Option<NoTls> {
    use rustls::Error as Tls;
    let mut unknown_issuer = false;
    let what = match error {
        Tls::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                unknown_issuer = true;
                "its certificate is of an issuer that is not known here".to_owned()
            }
            CertificateError::ExpiredContext { time, not_after } => format!(
                "its certificate expired on {}, and the clock here says {}",
                date(*not_after),
                date(*time)
            ),
            CertificateError::NotValidYetContext { time, not_before } => format!(
                "its certificate is not valid before {}, and the clock here says {}",
                date(*not_before),
                date(*time)
            ),
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "its certificate is not for {} but for {}",
                expected.to_str(),
                if presented.is_empty() {
                    "no name".to_owned()
                } else {
                    presented.join(", ")
                }
            ),
            other => format!("its certificate is bad: {other}"),
        },
        Tls::InvalidMessage(_) => "it does not answer with TLS; is this an http port?".to_owned(),
        Tls::PeerIncompatible(why) => format!("it and Farrier have no way to encrypt in common: {why:?}"),
        Tls::NoCertificatesPresented => "it shows no certificate".to_owned(),
        _ => return None,
    };
    Some(NoTls { what, unknown_issuer })
}

/// `2026-11-28 15:04 UTC`. Source: the civil calendar by Howard Hinnant, "chrono-compatible low-level date algorithms".
fn date(time: UnixTime) -> String {
    let seconds = time.as_secs();
    let days = seconds / 86400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let minutes = seconds / 60 % 1440;
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02} UTC",
        minutes / 60,
        minutes % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_868_799, "2000-02-29 23:59 UTC"),
            (1_795_879_657, "2026-11-28 15:27 UTC"),
        ] {
            assert_eq!(
                date(UnixTime::since_unix_epoch(Duration::from_secs(seconds))),
                text
            );
        }
    }

    fn proxies(pairs: &[(&str, &str)]) -> Result<Proxies, String> {
        Proxies::of(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn proxies_are_read_as_other_programs_read_them() {
        let url = |text: &str| Some(Url::parse(text).unwrap());
        let found = proxies(&[
            ("HTTP_PROXY", "proxy:3128"),
            ("https_proxy", "https://user:secret@proxy/"),
            ("NO_PROXY", "10.0.0.0/8,example.com"),
        ])
        .unwrap();
        assert_eq!(found.http, url("http://proxy:3128"));
        assert_eq!(found.https, url("https://user:secret@proxy/"));
        assert_eq!(found.except, "10.0.0.0/8,example.com");
        let all = proxies(&[
            ("ALL_PROXY", "http://a"),
            ("HTTP_PROXY", ""),
            ("https_proxy", "http://b"),
        ])
        .unwrap();
        assert_eq!((all.http, all.https), (url("http://a"), url("http://b")));
        let both = proxies(&[("HTTP_PROXY", "http://large"), ("http_proxy", "http://small")]).unwrap();
        assert_eq!(both.http, url("http://small"));
        assert_eq!(proxies(&[]).unwrap(), Proxies::default());
        assert_eq!(
            exceptions("*.a.com, b:8080 ,fd00::1,10.0.0.0/8"),
            ".a.com,b,fd00::1,10.0.0.0/8"
        );
    }

    #[test]
    fn what_is_no_proxy_is_named_without_its_password() {
        let refused = proxies(&[("HTTPS_PROXY", "socks5://user:secret@proxy:1080")]).unwrap_err();
        assert!(
            refused.contains("HTTPS_PROXY") && refused.contains("socks5"),
            "{refused}"
        );
        assert!(!refused.contains("secret"), "{refused}");
        assert!(proxies(&[("HTTP_PROXY", "http://")]).is_err());
    }

    #[test]
    fn built_in_are_mozillas_authorities_and_those_that_were_added() {
        let roots = built_in_and(&[]);
        // The common name of Let's Encrypt's first root (RFC 5280 section 4.1.2.6), which has been in Mozilla's list since 2016.
        let is_known = |name: &[u8]| {
            let mut subjects = roots.subjects().into_iter();
            subjects.any(|subject| subject.as_ref().windows(name.len()).any(|part| part == name))
        };
        assert!(is_known(b"ISRG Root X1"));
        assert!(!is_known(b"Farrier's own"));
        let mut trust = Trust::default();
        trust.add(AUTHORITY).unwrap();
        assert_eq!(built_in_and(&trust.extra).len(), roots.len() + 1);
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        let mut trust = Trust::default();
        for (pem, word) in [
            ("", "no certificate"),
            ("hello", "no certificate"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "certificate 1",
            ),
        ] {
            let refused = trust.add(pem).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
        assert!(trust.extra.is_empty());
    }

    /// Of nobody: its key was never kept.
    const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBpTCCAUygAwIBAgIUFaNtev1/Reow7o2k4549bQYn0XswCgYIKoZIzj0EAwIw
ITEfMB0GA1UEAwwWQW4gYXV0aG9yaXR5IG9mIGEgdGVzdDAgFw0yNjExMjkxNzU0
NThaGA8yMTI2MTEwNTE3NTQ1OFowITEfMB0GA1UEAwwWQW4gYXV0aG9yaXR5IG9m
IGEgdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCWn9fPw6chGaGh4z4mc
94nZUbxc/RtJ3nqEnDyMYWZyMBSSMwgJZMubOPYb9nPT05TAnzYn07x4CskdkdrE
ghqjYDBeMB0GA1UdDgQWBBQTpBsuKseya7FHSYXi9qMzgPf2wjAfBgNVHSMEGDAW
gBQTpBsuKseya7FHSYXi9qMzgPf2wjAPBgNVHRMBAf8EBTADAQH/MAsGA1UdDwQE
AwICBDAKBggqhkjOPQQDAgNHADBEAiA+66QF+F8GgOXbRFyia9FtuPa86Kayuk2U
webww8YFdAIgQ1kL7RJTBnOjsZ2W48K9QtzhQvIes09zjK9xSciUKlA=
-----END CERTIFICATE-----
";
}
