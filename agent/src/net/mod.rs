//! The machine's network: the NIC that booted, and only that one, by DHCP or as `ipam` says.

pub mod link;
pub mod nic;
mod packet;
mod resolver;

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use dhcp::client::{Action, Client, Destination, LeaseInfo};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cmdline::{BootParameters, Ipam};
use crate::console::{say, stage};
use crate::needed::spawn_needed;
use crate::screen::{self, Doing, Trouble};
use link::{Link, LinkError};
use nic::Nic;
use packet::{PacketSocket, RenewalSocket};

/// A card negotiates its speed for a few seconds; a cable that is not there is not waited for longer.
const CARRIER_PATIENCE: Duration = Duration::from_secs(10);
const CARRIER_POLL: Duration = Duration::from_millis(20);
/// Without an address for this long, the console says so; asking goes on.
const SAY_WAITING: Duration = Duration::from_secs(15);

/// Why the machine has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("no DHCP socket on {nic}: {source}")]
    Socket { nic: String, source: io::Error },
    #[error("the DHCP client on {nic} ended")]
    ClientEnded { nic: String },
}

/// Brings up the boot NIC and waits until it has an address; renewals go on in a task of their own.
///
/// # Errors
/// [`NetError`]; an answer that does not come is no error, it is waited for.
pub async fn bring_up(nic: &Nic, parameters: &BootParameters) -> Result<(), NetError> {
    Link::open("lo").await?.up().await?;
    let card = Link::open(&nic.name).await?;
    card.up().await?;
    wait_for_carrier(&card.name).await;
    let link = match parameters.vlan_id {
        Some(id) => card.vlan(id).await?,
        None => card,
    };
    link.up().await?;
    match &parameters.ipam {
        Some(ipam) => configure_static(&link, ipam).await,
        None => lease(link, nic).await,
    }
}

async fn wait_for_carrier(name: &str) {
    let path = format!("/sys/class/net/{name}/carrier");
    let deadline = Instant::now() + CARRIER_PATIENCE;
    while std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == "0") {
        if Instant::now() >= deadline {
            let problem = format!("{name} has no carrier: is the cable in?");
            say(&problem);
            let cure = "plug it in, and see that the switch has the port on; the machine goes on by itself";
            screen::change(|state| state.trouble = Some(Trouble::new(problem, cure)));
            return;
        }
        sleep(CARRIER_POLL).await;
    }
}

async fn configure_static(link: &Link, ipam: &Ipam) -> Result<(), NetError> {
    link.set_address(ipam.address, ipam.prefix).await?;
    if let Some(gateway) = ipam.gateway {
        link.set_route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway)).await?;
    }
    let servers: Vec<String> = ipam.dns.iter().map(ToString::to_string).collect();
    resolver::write(
        Path::new("/etc"),
        &servers,
        &ipam.search,
        ipam.hostname.as_deref(),
        ipam.address,
    );
    let address = format!("{}/{}", ipam.address, ipam.prefix);
    stage("dhcp", &[("address", &address), ("by", "ipam")]);
    Ok(())
}

async fn lease(link: Link, nic: &Nic) -> Result<(), NetError> {
    let socket = PacketSocket::open(link.index).map_err(|source| NetError::Socket {
        nic: link.name.clone(),
        source,
    })?;
    let (bound, mut waiting) = oneshot::channel();
    let name = link.name.clone();
    let seed = crate::entropy::number();
    let client = Client::new(nic.mac, seed, std::time::Instant::now());
    spawn_needed(async move {
        Lessee {
            client,
            link,
            socket,
            renewals: None,
            held: None,
            bound: Some(bound),
        }
        .run()
        .await
    });
    screen::change(|state| {
        state.network = format!("{name}, no address yet");
        state.doing = Doing::WaitsFor("an address by DHCP".to_owned());
    });
    loop {
        tokio::select! {
            done = &mut waiting => return done.map_err(|_| NetError::ClientEnded { nic: name }),
            () = sleep(SAY_WAITING) => {
                let problem = format!("{name}: no DHCP answer yet; still asking");
                say(&problem);
                let cure = format!(
                    "see on the server: farrier machine boot-log {}; does its record have an address, and does a VLAN or firewall \
                     lie between?",
                    nic.mac_text()
                );
                screen::change(|state| state.trouble = Some(Trouble::new(problem, cure)));
            }
        }
    }
}

/// The shell around the DHCP client's core.
struct Lessee {
    client: Client,
    link: Link,
    socket: PacketSocket,
    renewals: Option<RenewalSocket>,
    held: Option<LeaseInfo>,
    bound: Option<oneshot::Sender<()>>,
}

impl Lessee {
    async fn run(mut self) {
        loop {
            let deadline = self.client.next_deadline().map(Instant::from_std);
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let actions = tokio::select! {
                packet = self.socket.receive() => match packet {
                    Ok(bytes) => self.client.on_packet(std::time::Instant::now(), &bytes),
                    Err(e) => {
                        // ENETDOWN: somebody switched the card off. It may come back.
                        say(&format!("{}: DHCP socket: {e}", self.link.name));
                        sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                },
                () = due => self.client.on_timeout(std::time::Instant::now()),
            };
            for action in actions {
                if let Err(e) = self.obey(action).await {
                    say(&format!("{}: {e}", self.link.name));
                }
            }
        }
    }

    async fn obey(&mut self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Send { bytes, destination } => self.send(&bytes, destination)?,
            Action::Lost { why } => {
                say(&format!("{}: the lease is lost: {why}", self.link.name));
                self.renewals = None;
                if let Some(old) = self.held.take() {
                    self.link.remove_address(old.address, old.prefix).await?;
                }
            }
            Action::Bound(info) => self.configure(*info).await?,
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8], destination: Destination) -> io::Result<()> {
        match (destination, &self.renewals) {
            (Destination::Unicast(_), Some(socket)) => socket.send(destination, bytes),
            _ => {
                let source = self
                    .held
                    .as_ref()
                    .map_or(Ipv4Addr::UNSPECIFIED, |held| held.address);
                self.socket.broadcast(source, bytes)
            }
        }
    }

    async fn configure(&mut self, info: LeaseInfo) -> anyhow::Result<()> {
        if let Some(old) = self.held.take_if(|old| old.address != info.address) {
            self.tried(self.link.remove_address(old.address, old.prefix).await);
        }
        if let Some(mtu) = info.mtu {
            self.tried(self.link.set_mtu(u32::from(mtu)).await);
        }
        self.link.set_address(info.address, info.prefix).await?;
        for (destination, prefix, router) in &info.routes {
            let router = Some(*router).filter(|router| !router.is_unspecified());
            self.tried(self.link.set_route(*destination, *prefix, router).await);
        }
        if let Some(gateway) = info.gateway {
            self.tried(self.link.set_route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway)).await);
        }
        let servers: Vec<String> = info.dns.iter().map(ToString::to_string).collect();
        let mut search = info.search.clone();
        search.extend(info.domain.clone().filter(|domain| !info.search.contains(domain)));
        resolver::write(
            Path::new("/etc"),
            &servers,
            &search,
            info.hostname.as_deref(),
            info.address,
        );
        if self.renewals.is_none() {
            self.renewals = RenewalSocket::open(&self.link.name).ok();
        }
        if let Some(bound) = self.bound.take() {
            let address = format!("{}/{}", info.address, info.prefix);
            stage(
                "dhcp",
                &[("address", &address), ("server", &info.server.to_string())],
            );
            let _ = bound.send(());
        }
        screen::change(|state| {
            state.network = format!("{} {}/{}", self.link.name, info.address, info.prefix);
            state.trouble = None;
        });
        self.held = Some(info);
        Ok(())
    }

    /// Says what the kernel refused and goes on: a server may name an MTU that the card cannot, or a route that makes
    /// no sense, and an address alone may do to reach the server.
    fn tried(&self, done: Result<(), LinkError>) {
        if let Err(e) = done {
            say(&format!("{}: {e}; going on without", self.link.name));
        }
    }
}

#[cfg(test)]
#[path = "lease_in_namespace.rs"]
mod lease_in_namespace;
