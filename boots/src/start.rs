//! Binds every socket, then runs the services until they are told to stop.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::{BootsConfig, DhcpMode, StartError};
use crate::context::Context;
use crate::dhcp_service::DhcpService;
use crate::directories;
use crate::http::{self, Site};
use crate::interface;
use crate::inventory::Inventory;
use crate::ra::RouterAdvertiser;
use crate::scripts::Server;
use crate::tftp;
use crate::timeline::Timeline;
use crate::udp::UdpSocket;

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
    /// What works less than asked for, in words for the operator.
    pub notes: Vec<String>,
    /// Ends after the token was cancelled, or a service broke down, and every service stopped.
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
        let mut notes = directories::check(&config)?;
        let wanted = SocketAddr::from((config.listen, config.http_port));
        let bind = |source| StartError::bind("http", wanted, source);
        let listener = TcpListener::bind(wanted).await.map_err(bind)?;
        let http = listener.local_addr().map_err(bind)?;
        let tftp_socket = UdpSocket::bind("tftp", SocketAddrV4::new(config.listen, config.tftp_port), None)?;
        let tftp = local_addr("tftp", tftp_socket.local_addr())?;
        let dhcp_service = match config.dhcp {
            DhcpMode::Off => None,
            DhcpMode::Reservations { port } => Some(DhcpService::bind(&config, port)?),
        };
        let dhcp = dhcp_service
            .as_ref()
            .map(|dhcp| local_addr("dhcp", dhcp.local_addr()))
            .transpose()?;
        let advertiser = if config.ra {
            advertiser(&config.interface, &mut notes)
        } else {
            None
        };

        let server = Server {
            address: config.address,
            http_port: http.port(),
            grpc_port: config.grpc_port,
            consoles: config.consoles.clone(),
        };
        let context = Arc::new(Context::new(server, config.boot_dir.clone(), inventory, timeline));
        if let Err(error) = context.take_reservations().await {
            notes.push(format!(
                "machines that are up already are strangers until they ask for an address: {error}"
            ));
        }
        let site = Site::new(
            context.clone(),
            config.boot_dir.clone(),
            config.images_dir.clone(),
        );
        let router = http::router(site.clone(), config.besides.clone());

        // A service that breaks down takes the others with it: whoever runs them hears of it and starts them again.
        let shutdown = shutdown.child_token();
        let mut services = JoinSet::new();
        services.spawn(http::serve::serve(listener, router, shutdown.clone()));
        let boot_dir = config.boot_dir.clone();
        services.spawn(tftp::service::serve(
            tftp_socket,
            boot_dir,
            context.clone(),
            shutdown.clone(),
        ));
        if let Some(dhcp) = dhcp_service {
            services.spawn(dhcp.serve(context.clone(), shutdown.clone()));
        }
        if let Some(advertiser) = advertiser {
            services.spawn(advertiser.serve(context, shutdown.clone()));
        }
        let warming = shutdown.clone();
        services.spawn(async move {
            warming.run_until_cancelled(site.warm()).await;
        });
        let done = tokio::spawn(until_all_end(services, shutdown));
        for note in &notes {
            tracing::warn!("{note}");
        }
        Ok(Running {
            http,
            tftp,
            dhcp,
            notes,
            done,
        })
    }
}

async fn until_all_end(mut services: JoinSet<()>, shutdown: CancellationToken) {
    while let Some(ended) = services.join_next().await {
        if let Err(error) = ended {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                error,
                "a netboot service broke down, which is a defect of Farrier: the others end, too"
            );
            shutdown.cancel();
        }
    }
}

fn local_addr(service: &'static str, address: io::Result<SocketAddr>) -> Result<SocketAddr, StartError> {
    let unbound = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    address.map_err(|source| StartError::bind(service, unbound, source))
}

/// Machines boot without it, slower: what stands in its way is a note.
fn advertiser(name: &str, notes: &mut Vec<String>) -> Option<RouterAdvertiser> {
    match RouterAdvertiser::bind(name) {
        Ok(advertiser) => {
            if !interface::has_link_local(name) {
                notes.push(format!(
                    "interface {name} has no IPv6 link-local address: router solicitations cannot be answered, \
                     and iPXE waits 16 s for that"
                ));
            }
            Some(advertiser)
        }
        Err(error) => {
            notes.push(format!(
                "router solicitations on {name} are not answered, and iPXE waits 16 s for that: {error}"
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_service_that_breaks_down_is_not_missed_in_silence() {
        let shutdown = CancellationToken::new();
        let mut services = JoinSet::new();
        let others = shutdown.clone();
        services.spawn(async move { others.cancelled().await });
        services.spawn(async { panic!("a defect, made for the test") });
        let done = until_all_end(services, shutdown);
        let ended = tokio::time::timeout(Duration::from_secs(20), done).await;
        assert!(ended.is_ok(), "the others go on as if nothing were");
    }
}
