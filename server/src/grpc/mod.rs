//! The control plane on the wire: a service for agents and one for people, each on a socket of its own, and how errors look
//! there.

mod admitted;
mod answers;
mod control_service;
pub(crate) mod convert;
mod given;
mod images;
mod keyed;
mod listeners;
mod listing;
mod machines;
mod making;
mod progress;
mod webhooks;
mod wire;

use std::time::Duration;

use answers::Answers;
use proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use proto::v1::control_service_server::ControlServiceServer;
use proto::v1::{
    AgentMessage, DataChunk, GetDataRequest, GetPullSettingsRequest, PullSettings, PutDataRequest,
    PutDataResponse,
};
use tokio::net::TcpListener;
use tonic::transport::server::{Router, TcpConnectInfo};
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::agents::Outbound;
use crate::control::ControlPlane;
use crate::limits::Limits;
use access::authority::Identity;
use admitted::Admitted;
use coordinator::Error;
use wire::wires;

/// An agent's reports, log lines and inventory are far below; so is a file of machines.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// A machine that lost power says nothing: this is how we hear it.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(20);
/// A client of people's API has its TLS session by then.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// After the order to stop, for answers that are under way.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// Where a control plane is served.
pub struct Listeners {
    /// On the network that machines netboot on, in the clear: what an agent may do it may by the token of its boot.
    pub agents: TcpListener,
    /// For people, with TLS: what they may do they may by their tokens.
    pub people: TcpListener,
    /// What people see of this server.
    pub identity: Identity,
}

/// Why a control plane that was not told to stop is served no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What it did is done by nobody now; a server that is started again finds in the store what is left to do.
    #[error(
        "its task \"{0}\" broke down, which is a defect of Farrier (the log says where): start the server again"
    )]
    Broken(&'static str),
    #[error("gRPC failed")]
    Transport(#[from] tonic::transport::Error),
}

impl ControlPlane {
    /// What agents ask, and nothing else.
    fn for_agents(&self) -> Router {
        let service = AgentServiceServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        server().add_service(service)
    }

    /// What people ask, and nothing else.
    fn for_people(&self, identity: &Identity) -> Result<Router, tonic::transport::Error> {
        let service = ControlServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        let tls = ServerTlsConfig::new()
            .identity(tonic::transport::Identity::from_pem(
                &identity.chain,
                &identity.key,
            ))
            .timeout(HANDSHAKE_WITHIN);
        Ok(server()
            .tls_config(tls)?
            .add_service(Admitted::new(service, self.clone())))
    }

    /// Serves until `shutdown`, then ends all sessions and background work and returns.
    ///
    /// # Errors
    /// When a listener cannot be served, and when a background task is gone: then the server would stand still in part.
    pub async fn serve(
        &self,
        listeners: Listeners,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let Listeners {
            agents,
            people,
            identity,
        } = listeners;
        let Limits {
            agents: agents_bounds,
            people: people_bounds,
            ..
        } = self.inner.config.limits;
        let agents = self
            .for_agents()
            .serve_with_incoming_shutdown(wires("gRPC for agents", agents, agents_bounds), self.stopped());
        let people = self
            .for_people(&identity)?
            .serve_with_incoming_shutdown(wires("the API for people", people, people_bounds), self.stopped());
        let served = async { tokio::try_join!(agents, people).map(drop) };
        tokio::pin!(served);
        let ended = tokio::select! {
            ended = &mut served => Some(ended.map_err(ServeError::from)),
            task = self.broken() => Some(Err(ServeError::Broken(task))),
            () = shutdown => None,
        };
        self.close().await;
        match ended {
            Some(ended) => ended,
            // A client that never ends its connection does not keep us.
            None => match tokio::time::timeout(STOP_WITHIN, served).await {
                Ok(served) => served.map_err(ServeError::from),
                Err(_) => Ok(()),
            },
        }
    }
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_WITHIN))
}

#[tonic::async_trait]
impl AgentService for ControlPlane {
    type AttachStream = Outbound;

    async fn attach(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Outbound>, Status> {
        let peer = request
            .extensions()
            .get::<TcpConnectInfo>()
            .and_then(TcpConnectInfo::remote_addr);
        Ok(Response::new(
            self.attach_agent(request.into_inner(), peer).await?,
        ))
    }

    type GetDataStream = Answers<DataChunk>;

    async fn get_data(
        &self,
        request: Request<GetDataRequest>,
    ) -> Result<Response<Self::GetDataStream>, Status> {
        let chunks = self.data_for_agent(request.into_inner()).await?;
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn put_data(
        &self,
        request: Request<Streaming<PutDataRequest>>,
    ) -> Result<Response<PutDataResponse>, Status> {
        Ok(Response::new(self.data_from_agent(request.into_inner()).await?))
    }

    async fn get_pull_settings(
        &self,
        request: Request<GetPullSettingsRequest>,
    ) -> Result<Response<PullSettings>, Status> {
        let settings = self.pull_settings_for_agent(request.into_inner()).await?;
        Ok(Response::new(settings))
    }
}

/// How an error looks on the wire: with what caused it. What is the server's own trouble is in its log, too.
pub(crate) fn status(error: Error) -> Status {
    let code = match &error {
        Error::Blob(store::blobs::BlobError::Full { .. }) => Code::Unavailable,
        Error::Blob(store::blobs::BlobError::Damaged { .. }) => Code::DataLoss,
        Error::Blob(_) => Code::Internal,
        Error::Denied(_) => Code::PermissionDenied,
        Error::Archived(_) | Error::Changed(_) => Code::Aborted,
        Error::Exists(_) => Code::AlreadyExists,
        Error::Invalid(_) => Code::InvalidArgument,
        Error::NotFound(_) => Code::NotFound,
        Error::OutOfRange(_) => Code::OutOfRange,
        Error::TooMuch(_) => Code::ResourceExhausted,
        Error::Refused(_) => Code::FailedPrecondition,
        Error::Damaged { .. } => Code::DataLoss,
        Error::Store(store::StoreError::Conflict { .. }) => Code::Aborted,
        Error::Store(store::StoreError::Corrupt { .. } | store::StoreError::Damaged { .. }) => Code::DataLoss,
        Error::Store(store::StoreError::TooLarge { .. }) => Code::ResourceExhausted,
        Error::Store(store::StoreError::SnapshotExpired) => Code::Unavailable,
        Error::Store(_) => Code::Internal,
        Error::BrokeDown => Code::Internal,
        Error::Stopping => Code::Unavailable,
        Error::Unknown(_) => Code::Unauthenticated,
    };
    let is_trouble = matches!(code, Code::Internal | Code::DataLoss | Code::Unavailable);
    if is_trouble && !matches!(error, Error::Stopping) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            ?code,
            "an answer is an error of the server"
        );
    }
    Status::new(code, redaction::redacted(&with_causes(&error)))
}

/// An error and its causes, each once.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use store::StoreError;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("the log").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is answered, and what the log has of it.
    fn answered(error: Error) -> (Status, String) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        let status = tracing::subscriber::with_default(subscriber, || status(error));
        let log = String::from_utf8(log.0.lock().expect("the log").clone()).expect("text");
        (status, log)
    }

    #[test]
    fn trouble_of_the_servers_own_is_in_its_log_with_what_caused_it_and_a_callers_mistake_is_not() {
        let backend = Error::from(StoreError::Backend {
            message: "a write failed".into(),
            source: Some(Arc::new(io::Error::other("the disk is unplugged"))),
        });
        let (status, log) = answered(backend);
        assert_eq!(status.code(), Code::Internal);
        let causes = "a write failed: the disk is unplugged";
        assert!(status.message().contains(causes), "{}", status.message());
        assert!(
            log.contains("ERROR") && log.contains("a write failed") && log.contains("the disk is unplugged"),
            "{log:?}"
        );
        for (error, code) in [
            (Error::BrokeDown, Code::Internal),
            (Error::Store(StoreError::SnapshotExpired), Code::Unavailable),
        ] {
            let words = error.to_string();
            let (status, log) = answered(error);
            assert_eq!(status.code(), code);
            assert!(log.contains(&words), "{log:?} is not about {words:?}");
        }
        for error in [
            Error::NotFound("no workflow".into()),
            Error::Invalid("bad".into()),
            // It was told to, and says so elsewhere.
            Error::Stopping,
        ] {
            let (_, log) = answered(error);
            assert_eq!(log, "");
        }
    }
}
