//! Servers of https whose certificate is right or wrong, redirects between the two, and proxies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// An authority of the site's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// What a server shows; `change` makes it wrong.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            );
        Arc::new(config.unwrap())
    }
}

/// Something that answers connections on loopback and keeps the first line of each request.
struct Peer {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    fn start(answer: impl Fn(&str, TcpStream) + Send + Sync + 'static) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || {
                    if let Some(first) = request(&mut &stream) {
                        kept.lock().unwrap().push(first.clone());
                        answer(&first, stream);
                    }
                });
            }
        });
        Peer { port, asked }
    }

    /// An https server: `answer` gives what follows the path that was asked for.
    fn https(config: Arc<ServerConfig>, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer, config) = (Arc::clone(&kept), Arc::clone(&answer), Arc::clone(&config));
                std::thread::spawn(move || {
                    // Kept before the handshake: one that fails counts.
                    kept.lock().unwrap().push(String::new());
                    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    if let Some(first) = request(&mut tls) {
                        let _ = tls.write_all(&answer(&first));
                        tls.conn.send_close_notify();
                        let _ = tls.flush();
                    }
                });
            }
        });
        Peer { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The first line of a request, read to its end.
fn request(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.extend(byte);
    }
    BufReader::new(head.as_slice()).lines().next()?.ok()
}

fn ok(content: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"a\"\r\nConnection: close\r\n\r\n",
        content.len()
    )
    .into_bytes();
    answer.extend_from_slice(content);
    answer
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

fn content() -> Vec<u8> {
    let mut content = sample(2 << 20);
    content[510..512].copy_from_slice(&[0x55, 0xaa]);
    content
}

/// The image at any path, and no digest beside it.
fn image(asked: &str) -> Vec<u8> {
    if asked.contains(".sha256") {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    }
    ok(&content())
}

fn trusting(authority: &Authority) -> Reach {
    let mut reach = Reach::default();
    reach.trust.add(&authority.pem()).unwrap();
    reach
}

fn write_from(url: &str, reach: Reach, dir: &tempfile::TempDir) -> WriteRequest {
    let mut request = WriteRequest::new(Url::parse(url).unwrap(), disk(dir, 4 << 20));
    request.reach = reach;
    request
}

#[tokio::test]
async fn an_image_comes_over_https_from_a_site_with_an_authority_of_its_own() {
    let authority = Authority::new();
    let server = Peer::https(authority.server("localhost", |_| {}), image);
    let dir = tempfile::tempdir().unwrap();
    let url = format!("https://localhost:{}/a.raw", server.port);
    let written = write_quietly(&write_from(&url, trusting(&authority), &dir))
        .await
        .unwrap();
    assert_eq!(written.sha256, sha256(&content()));

    // A plain address that leads there.
    let target = url.clone();
    let plain = Peer::start(move |_, mut stream| {
        let _ = stream.write_all(&redirect(&target));
    });
    let url = format!("http://localhost:{}/b.raw", plain.port);
    let mut request = write_from(&url, trusting(&authority), &dir);
    request.sha256 = Some(sha256(&content()));
    assert!(write_quietly(&request).await.unwrap().verified);
}

#[tokio::test]
async fn a_certificate_that_is_wrong_ends_it_at_once_and_is_named() {
    let authority = Authority::new();
    let old = authority.server("localhost", |params| params.not_after = date_time_ymd(2001, 2, 3));
    let future = authority.server("localhost", |params| {
        params.not_before = date_time_ymd(2999, 1, 2)
    });
    let other = authority.server("mirror.example.com", |_| {});
    for (config, reach, words) in [
        (
            authority.server("localhost", |_| {}),
            Reach::default(),
            &["issuer that is not known"][..],
        ),
        (
            old,
            trusting(&authority),
            &["expired on 2001-02-03", "clock here says 20"],
        ),
        (
            future,
            trusting(&authority),
            &["not valid before 2999-01-02", "clock here says 20"],
        ),
        (
            other,
            trusting(&authority),
            &["not for localhost but for", "mirror.example.com"],
        ),
    ] {
        let server = Peer::https(config, image);
        let dir = tempfile::tempdir().unwrap();
        let url = format!("https://localhost:{}/a.raw", server.port);
        let err = write_quietly(&write_from(&url, reach, &dir)).await.unwrap_err();
        let text = err.to_string();
        assert_eq!(err.reason(), "UntrustedServer", "{text}");
        assert!(text.contains(&format!("localhost:{}", server.port)), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert_eq!(server.asked().len(), 1, "it is not tried again");
    }
}

#[tokio::test]
async fn a_server_without_tls_behind_https_is_told_at_once() {
    let server = Peer::start(|_, _| {});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let url = format!("https://localhost:{port}/a.raw");
    let err = write_quietly(&write_from(&url, Reach::default(), &dir))
        .await
        .unwrap_err();
    assert!(err.to_string().contains("http port"), "{err}");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_way_from_https_to_http_is_taken_only_for_what_is_verified() {
    let authority = Authority::new();
    let plain = Peer::start(|first, mut stream| {
        let _ = stream.write_all(&image(first));
    });
    let to = format!("http://localhost:{}/a.raw", plain.port);
    let server = Peer::https(authority.server("localhost", |_| {}), move |first| {
        if first.contains(".sha256") {
            image(first)
        } else {
            redirect(&to)
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let url = format!("https://localhost:{}/a.raw", server.port);
    let mut request = write_from(&url, trusting(&authority), &dir);
    let err = write_quietly(&request).await.unwrap_err();
    assert!(err.to_string().contains("from https to http"), "{err}");
    assert!(plain.asked().is_empty());
    request.sha256 = Some(sha256(&content()));
    assert!(write_quietly(&request).await.unwrap().verified);
}

/// A proxy that passes everything on to one port, whatever host was asked for.
fn proxy(to: u16) -> Peer {
    Peer::start(move |first, mut stream| {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else {
            return;
        };
        if first.starts_with("CONNECT ") {
            let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
            let (mut from, mut back) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(Shutdown::Write);
            });
        } else {
            let _ = server.write_all(format!("{first}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        }
        let _ = std::io::copy(&mut server, &mut stream);
        let _ = stream.shutdown(Shutdown::Both);
    })
}

fn through(pairs: &[(&str, String)]) -> Proxies {
    Proxies::of(|name| {
        pairs
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.clone())
    })
    .unwrap()
}

#[tokio::test]
async fn proxies_are_used_for_what_they_are_for() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let plain = Peer::start(|first, mut stream| {
        let _ = stream.write_all(&image(first));
    });
    let secure = Peer::https(authority.server("images.example.com", |_| {}), image);
    let (for_plain, for_secure) = (proxy(plain.port), proxy(secure.port));
    let address = |peer: &Peer| format!("http://127.0.0.1:{}", peer.port);
    // A name that only the proxies can resolve.
    for (url, variables, used) in [
        (
            "http://images.example.com/a.raw",
            vec![
                ("HTTP_PROXY", address(&for_plain)),
                ("HTTPS_PROXY", address(&for_secure)),
            ],
            &for_plain,
        ),
        (
            "https://images.example.com/a.raw",
            vec![
                ("http_proxy", address(&for_plain)),
                ("https_proxy", address(&for_secure)),
            ],
            &for_secure,
        ),
        (
            "https://images.example.com/a.raw",
            vec![("ALL_PROXY", address(&for_secure))],
            &for_secure,
        ),
    ] {
        let before = used.asked().len();
        let mut reach = trusting(&authority);
        reach.proxies = through(&variables);
        let written = write_quietly(&write_from(url, reach, &dir)).await.unwrap();
        assert_eq!(written.sha256, sha256(&content()), "{url}");
        assert!(used.asked().len() > before, "{url}");
    }
    assert!(
        for_secure
            .asked()
            .iter()
            .all(|line| line.starts_with("CONNECT images.example.com:443"))
    );

    // What is excepted goes straight, by host, domain, address and network.
    let port = plain.port;
    for (host, except) in [
        ("localhost", "localhost"),
        ("127.0.0.1", "10.0.0.0/8, 127.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "*"),
        ("127.0.0.1", "example.com,127.0.0.1:8080"),
    ] {
        let before = for_secure.asked().len();
        let reach = Reach {
            proxies: through(&[
                ("HTTP_PROXY", address(&for_secure)),
                ("NO_PROXY", except.to_owned()),
            ]),
            ..Reach::default()
        };
        let url = format!("http://{host}:{port}/a.raw");
        write_quietly(&write_from(&url, reach, &dir)).await.unwrap();
        assert_eq!(for_secure.asked().len(), before, "{host} with NO_PROXY={except}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_when_it_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reach = Reach {
        proxies: through(&[("HTTP_PROXY", format!("http://user:secret@{closed}"))]),
        ..Reach::default()
    };
    let mut request = write_from("http://images.example.com/a.raw", reach, &dir);
    request.give_up_after = Duration::from_millis(300);
    let err = write_quietly(&request).await.unwrap_err().to_string();
    assert!(err.contains("refused") && !err.contains("secret"), "{err}");
}
