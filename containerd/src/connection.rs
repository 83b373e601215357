//! The connection with containerd: its socket, the namespace that everything is in, and how long an answer may take.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::api;
use crate::error::{Error, Kind, kind};

/// The namespace of containerd's in which everything is that an agent makes; `ctr -n farrier` shows it.
pub const NAMESPACE: &str = "farrier";
/// The label of whatever an agent made: its value is whose it is.
pub const OWNER: &str = "farrier/owner";

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// What takes longer is no answer. Waiting for a task's end and unpacking a layer have no bound here.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// Metadata's names are containerd's: `namespaces.GRPCHeader`, `leases.GRPCHeader`.
const NAMESPACE_HEADER: &str = "containerd-namespace";
const LEASE_HEADER: &str = "containerd-lease";

/// A containerd, over its socket; clones are the same. It is asked when it is needed, and may be restarted at any time.
#[derive(Clone)]
pub struct Containerd {
    address: PathBuf,
    owner: Arc<str>,
    channel: Channel,
    stamp: Stamp,
    /// Its namespace is there, and what an owner of the same name left is not.
    pub(crate) prepared: Arc<OnceCell<()>>,
}

/// Without letters that would have to be escaped. Pure.
fn plain(owner: &str) -> String {
    let is_plain =
        |letter: &char| letter.is_ascii_graphic() && !matches!(letter, '"' | '\\') || *letter == ' ';
    owner
        .chars()
        .map(|letter| if is_plain(&letter) { letter } else { '_' })
        .take(256)
        .collect()
}

/// What each request carries.
#[derive(Clone)]
pub(crate) struct Stamp {
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(NAMESPACE_HEADER, self.namespace.clone());
        if let Some(lease) = &self.lease {
            metadata.insert(LEASE_HEADER, lease.clone());
        }
        Ok(request)
    }
}

pub(crate) type Wire = InterceptedService<Channel, Stamp>;

impl Containerd {
    /// The containerd with this socket. Nothing is asked yet; must be called on a tokio runtime. Whoever comes later with the
    /// same `owner` clears what this one leaves.
    ///
    /// # Errors
    /// The path of the socket is none.
    pub fn at(address: &Path, owner: &str) -> Result<Containerd, Error> {
        let unusable = |last: String| Error::Away {
            address: address.to_owned(),
            last,
        };
        let endpoint = Endpoint::from_shared(format!("unix://{}", address.display()))
            .map_err(|e| unusable(format!("its path is none: {e}")))?;
        Ok(Containerd {
            address: address.to_owned(),
            // In labels and in filters, whose quotes are not Rust's.
            owner: plain(owner).into(),
            channel: endpoint.connect_timeout(CONNECT_WITHIN).connect_lazy(),
            stamp: Stamp {
                namespace: MetadataValue::from_static(NAMESPACE),
                lease: None,
            },
            prepared: Arc::new(OnceCell::new()),
        })
    }

    /// Which version answers.
    ///
    /// # Errors
    /// [`Error::Away`]: none does.
    pub async fn version(&self) -> Result<String, Error> {
        let mut client = api::version::version_client::VersionClient::new(self.wire());
        let answer = self.call("its version", client.version(())).await?;
        Ok(answer.version)
    }

    /// Its namespace is there; what somebody of this name left before is gone. Done once, and again when it failed.
    ///
    /// # Errors
    /// [`Error`]: it is away, or refuses.
    pub async fn prepare(&self) -> Result<(), Error> {
        let prepared = self.prepared.get_or_try_init(|| async {
            let mut client = api::namespaces::namespaces_client::NamespacesClient::new(self.wire());
            let request = api::namespaces::CreateNamespaceRequest {
                namespace: Some(api::namespaces::Namespace {
                    name: NAMESPACE.to_owned(),
                    labels: Default::default(),
                }),
            };
            let made = self
                .answer("making its namespace", client.create(request))
                .await?;
            self.unless("making its namespace", made, Kind::AlreadyThere)?;
            self.clear_left().await
        });
        prepared.await.copied()
    }

    /// As messages name it.
    pub fn address(&self) -> &Path {
        &self.address
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// What is made through it is held by this lease.
    pub(crate) fn with_lease(&self, lease: &str) -> Containerd {
        let mut leased = self.clone();
        leased.stamp.lease = lease.parse().ok();
        leased
    }

    pub(crate) fn wire(&self) -> Wire {
        InterceptedService::new(self.channel.clone(), self.stamp.clone())
    }

    /// An answer within the time that one may take.
    pub(crate) async fn answer<T>(
        &self,
        what: &str,
        asked: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Result<T, Status>, Error> {
        match timeout(ANSWER_WITHIN, asked).await {
            Ok(answer) => Ok(answer.map(Response::into_inner)),
            Err(_) => Err(Error::Silent {
                what: what.to_owned(),
                waited: ANSWER_WITHIN,
            }),
        }
    }

    /// The same, where every refusal is an error.
    pub(crate) async fn call<T>(
        &self,
        what: &str,
        asked: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        let answer = self.answer(what, asked).await?;
        answer.map_err(|status| self.refused(what, &status))
    }

    /// What came; `None` for a refusal of this kind.
    pub(crate) fn unless<T>(
        &self,
        what: &str,
        answer: Result<T, Status>,
        expected: Kind,
    ) -> Result<Option<T>, Error> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if kind(&status) == expected => Ok(None),
            Err(status) => Err(self.refused(what, &status)),
        }
    }

    pub(crate) fn refused(&self, what: &str, status: &Status) -> Error {
        Error::of(&self.address, what, status)
    }
}
