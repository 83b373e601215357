//! Connections that lead to servers of one authority and no other, whatever their address is.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin as Boxed;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::{HeaderMap, HeaderValue, Uri};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::Service;

use crate::token::{Pin, Secret, Token};

/// The name that every server's certificate is for: what tells servers apart is their authority.
pub const SERVER_NAME: &str = "server.farrier.internal";
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);
/// Of a channel that was told no other time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Of a protocol that is agreed on in the handshake. Source: RFC 9113 section 3.2.
const HTTP_2: &[u8] = b"h2";

/// Connects to servers of one authority: for [`tonic::transport::Endpoint::connect_with_connector`], with `http` addresses.
#[derive(Clone)]
pub struct Pinned {
    connector: TlsConnector,
    answers_within: Duration,
}

impl Pinned {
    /// A server that took the connection has to answer in the handshake within that time.
    pub fn new(pin: Pin, answers_within: Duration) -> Self {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Verifier {
            pin,
            provider: provider.clone(),
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            answers_within,
        }
    }
}

impl Service<Uri> for Pinned {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Boxed<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let pinned = self.clone();
        Box::pin(async move { pinned.connect(&uri).await })
    }
}

impl Pinned {
    async fn connect(&self, uri: &Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or_default();
        let tcp = tokio::time::timeout(CONNECTS_WITHIN, TcpStream::connect((host, port))).await;
        let tcp = tcp.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it takes no connection"))??;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let tls = tokio::time::timeout(self.answers_within, self.connector.connect(name, tcp)).await;
        let tls = tls.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, NotTheServer::Silent))?;
        Ok(TokioIo::new(tls.map_err(said)?))
    }
}

/// What a handshake that failed says of the server, where it says that.
fn said(error: io::Error) -> io::Error {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let not = match tls {
        Some(rustls::Error::Other(other)) => other.0.downcast_ref::<NotTheServer>().cloned(),
        Some(rustls::Error::InvalidMessage(_)) => Some(NotTheServer::NoTls),
        _ => None,
    };
    not.map_or(error, io::Error::other)
}

/// Why what answers is not a server that the token is for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTheServer {
    #[error(
        "it is a server of the authority {found}, and the token is for those of {wanted}: check the address, and whether \
         the server was set up anew"
    )]
    Other { found: Pin, wanted: Pin },
    #[error("it shows no authority: another service answers there")]
    NoAuthority,
    #[error("it speaks no TLS: a server's port for people is 42115, unless it was told another")]
    NoTls,
    /// It took the connection, and nothing came.
    #[error("it took the connection, and nothing came")]
    Silent,
}

#[derive(Debug)]
struct Verifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let other = |error: NotTheServer| rustls::Error::Other(rustls::OtherError(Arc::new(error)));
        let Some(authority) = chain.iter().find(|one| Pin::of(one) == self.pin) else {
            return Err(other(match chain.last() {
                Some(shown) => NotTheServer::Other {
                    found: Pin::of(shown),
                    wanted: self.pin,
                },
                None => NotTheServer::NoAuthority,
            }));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        // No server has more between itself and its authority.
        verifier.verify_server_cert(server, &[], name, &[], now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Shows a token's secret with each request. Source: RFC 6750 section 2.1.
#[derive(Clone)]
pub struct Bearer(HeaderValue);

const AUTHORIZATION: &str = "authorization";
const SCHEME: &str = "Bearer ";

impl Bearer {
    /// For [`Pinned`] connections only: it is shown to whoever is asked.
    pub fn new(secret: &Secret) -> Self {
        let mut value = HeaderValue::from_str(&format!("{SCHEME}{}", secret.text()))
            .expect("base32 is text that headers may have");
        value.set_sensitive(true);
        Self(value)
    }

    /// Puts it into a request's headers.
    pub fn show(&self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.0.clone());
    }

    /// The secret that a request shows; `None`: it shows none, or what is none.
    pub fn shown(headers: &HeaderMap) -> Option<Secret> {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        value.strip_prefix(SCHEME)?.trim().parse().ok()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bearer(***)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = self.0.to_str().unwrap_or_default();
        let value = value
            .parse()
            .map_err(|_| Status::internal("the secret is no text that a header may have"))?;
        request.metadata_mut().insert(AUTHORIZATION, value);
        Ok(request)
    }
}

/// A connection to a server of a token's authority that shows the token with each request, and connects again by itself.
pub type PinnedChannel = InterceptedService<Channel, Bearer>;

/// To the server at `address`, `HOST:PORT`; connects when it is first used. An answer has to begin `within` that time.
///
/// # Errors
/// When the address is none. Must be called on a tokio runtime.
pub fn channel(
    address: &str,
    token: &Token,
    within: Option<Duration>,
) -> Result<PinnedChannel, tonic::transport::Error> {
    let mut endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    if let Some(within) = within {
        endpoint = endpoint.timeout(within);
    }
    let channel =
        endpoint.connect_with_connector_lazy(Pinned::new(token.pin, within.unwrap_or(ANSWERS_WITHIN)));
    Ok(InterceptedService::new(channel, Bearer::new(&token.secret)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::Authority;

    async fn serve(chain: &str, key: &str) -> Uri {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .map(Result::unwrap)
            .collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let _ = acceptor.accept(tcp).await;
            }
        });
        format!("http://{address}").parse().unwrap()
    }

    fn authority(dir: &Path, name: &str) -> Authority {
        Authority::open(&dir.join(name)).unwrap()
    }

    async fn outcome(pin: Pin, uri: Uri) -> Result<(), String> {
        let mut pinned = Pinned::new(pin, Duration::from_secs(10));
        pinned
            .call(uri)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_server_is_known_by_its_authority_and_others_are_not() {
        let dir = tempfile::TempDir::new().unwrap();
        let (ours, other) = (authority(dir.path(), "ours"), authority(dir.path(), "other"));
        let identity = ours.identity().unwrap();
        let uri = serve(&identity.chain, &identity.key).await;
        outcome(ours.pin(), uri.clone()).await.unwrap();
        // After a restart it has another certificate of the same authority.
        let later = ours.identity().unwrap();
        outcome(ours.pin(), serve(&later.chain, &later.key).await)
            .await
            .unwrap();
        let why = outcome(other.pin(), uri).await.unwrap_err();
        assert!(
            why.contains(&ours.pin().to_string()) && why.contains(&other.pin().to_string()),
            "{why}"
        );
    }

    #[tokio::test]
    async fn who_only_shows_the_authority_is_not_believed() {
        let dir = tempfile::TempDir::new().unwrap();
        let (ours, other) = (authority(dir.path(), "ours"), authority(dir.path(), "other"));
        let theirs = other.identity().unwrap();
        let (leaf, _) = theirs.chain.split_at(theirs.chain.find("-----END").unwrap());
        let ours_shown = ours.identity().unwrap().chain;
        let authority = &ours_shown[ours_shown.rfind("-----BEGIN").unwrap()..];
        let chain = format!("{leaf}-----END CERTIFICATE-----\n{authority}");
        let why = outcome(ours.pin(), serve(&chain, &theirs.key).await)
            .await
            .unwrap_err();
        assert!(why.contains("invalid peer certificate"), "{why}");
    }

    #[tokio::test]
    async fn one_that_says_nothing_is_given_up() {
        let dir = tempfile::TempDir::new().unwrap();
        let pin = authority(dir.path(), "ours").pin();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}", silent.local_addr().unwrap())
            .parse()
            .unwrap();
        let mut pinned = Pinned::new(pin, Duration::from_secs(1));
        let why = pinned.call(uri).await.err().unwrap().to_string();
        assert_eq!(why, "it took the connection, and nothing came");
    }

    #[test]
    fn a_request_shows_the_secret_and_the_server_reads_it() {
        let secret = Secret::new([3; crate::SECRET_BYTES]);
        let mut headers = HeaderMap::new();
        assert!(Bearer::shown(&headers).is_none());
        Bearer::new(&secret).show(&mut headers);
        assert!(Bearer::shown(&headers) == Some(secret));
        assert!(!format!("{headers:?}").contains("Bearer"), "{headers:?}");
        headers.insert("authorization", HeaderValue::from_static("Basic aGk6aG8="));
        assert!(Bearer::shown(&headers).is_none());
    }
}
