//! The machine's network: the NIC that booted, alone or in a bond, by DHCP or as `ipam` says.

pub mod bond;
mod carrier;
pub mod isolated;
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
use carrier::{Carrier, Change};
use link::{Link, LinkError};
use nic::Nic;
use packet::{PacketSocket, RenewalSocket};

/// A card negotiates its speed for a few seconds; a cable that is not there is not waited for longer.
const CARRIER_PATIENCE: Duration = Duration::from_secs(10);
/// Most cards have a link by then, so nobody need read of it.
const SAY_NO_CARRIER: Duration = Duration::from_secs(2);
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
    let bonded = match &parameters.bond {
        Some(bond) => bond::begin(&card, bond).await,
        None => None,
    };
    card.up().await?;
    wait_for_carrier(nic).await;
    let base = match &bonded {
        Some(bonded) => bonded.link().clone(),
        None => card,
    };
    let bonded = bonded.map(bond::Bonded::complete);
    let link = match parameters.vlan_id {
        Some(id) => base.vlan(id).await?,
        None => base,
    };
    link.up().await?;
    match &parameters.ipam {
        Some(ipam) => configure_static(&link, ipam).await?,
        None => lease(link, nic).await?,
    }
    if let Some(bonded) = bonded {
        bonded.settled().await;
    }
    Ok(())
}

/// Of all cards only the one that booted is waited for.
async fn wait_for_carrier(nic: &Nic) {
    let began = Instant::now();
    let mut carrier = Carrier::of(&nic.name);
    let mut is_said = false;
    let waits = format!(
        "a link on {} ({}), the card that it booted from",
        nic.name,
        nic.mac_text()
    );
    while !carrier.is_up() {
        screen::change(|state| state.doing = Doing::WaitsFor(waits.clone()));
        if !is_said && began.elapsed() >= SAY_NO_CARRIER {
            is_said = true;
            say(&format!("waiting for {waits}"));
        }
        if began.elapsed() >= CARRIER_PATIENCE {
            let problem = format!("{} has no carrier: is the cable in?", nic.name);
            say(&problem);
            let cure = "plug it in, and see that the switch has the port on; the machine goes on by itself";
            screen::change(|state| state.trouble = Some(Trouble::new(problem, cure)));
            return;
        }
        sleep(CARRIER_POLL).await;
        let _ = carrier.look();
    }
    if is_said {
        say(&format!("{} has a link", nic.name));
    }
    screen::change(|state| state.doing = Doing::Starting);
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
    let network = format!("{} {address}", bond::described(&link.name));
    screen::change(|state| state.network.clone_from(&network));
    let mut carrier = Carrier::of(&link.name);
    spawn_needed(async move {
        loop {
            show_link(&network, carrier.changed().await);
        }
    });
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
    let carrier = Carrier::of(&link.name);
    spawn_needed(async move {
        Lessee {
            client,
            link,
            socket,
            renewals: None,
            held: None,
            bound: Some(bound),
            carrier,
        }
        .run()
        .await
    });
    screen::change(|state| {
        state.network = format!("{}, no address yet", bond::described(&name));
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
    carrier: Carrier,
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
                change = self.carrier.changed() => {
                    show_link(&self.network(), change);
                    match change {
                        Change::Lost => continue,
                        Change::Back => self.client.on_link_up(std::time::Instant::now()),
                    }
                }
            };
            for action in actions {
                if let Err(e) = self.obey(action).await {
                    say(&format!("{}: {e}", self.link.name));
                }
            }
        }
    }

    /// For the screen.
    fn network(&self) -> String {
        let link = bond::described(&self.link.name);
        match &self.held {
            Some(held) => format!("{link} {}/{}", held.address, held.prefix),
            None => format!("{link}, no address yet"),
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
        let is_first = self.held.is_none();
        self.held = Some(info);
        let network = self.network();
        screen::change(|state| {
            state.network = network;
            // What is wrong later is not the network's.
            if is_first {
                state.trouble = None;
            }
        });
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

/// Tells the person of a link that went away or came back; what runs goes on.
fn show_link(network: &str, change: Change) {
    let name = network.split([' ', ',']).next().unwrap_or_default();
    match change {
        Change::Lost => {
            say(&format!(
                "{name}: the link is gone; the machine goes on when it is back"
            ));
            screen::change(|state| state.network = format!("{network}, NO LINK: is the cable in?"));
        }
        Change::Back => {
            say(&format!("{name}: the link is there again"));
            screen::change(|state| state.network = network.to_owned());
        }
    }
}

#[cfg(test)]
#[path = "lease_in_namespace.rs"]
mod lease_in_namespace;
