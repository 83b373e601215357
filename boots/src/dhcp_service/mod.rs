//! The DHCP shell: sockets around the pure core in the `dhcp` crate.
//!
//! Answers machines of the inventory; strangers get silence and an entry on the timeline. One task receives, a few work:
//! packets of one MAC are handled in order, each behind `catch_unwind`, so that none can stop the service.

mod answer;
mod direct;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use dhcp::Packet;
use dhcp::server::{Destination, ServerFacts};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::direct::DirectSocket;
use crate::config::{BootsConfig, StartError};
use crate::context::{Context, Told};
use crate::interface;
use crate::timeline::Stage;
use crate::udp::UdpSocket;

/// Everything bound.
pub(crate) struct DhcpService {
    udp: UdpSocket,
    direct: DirectSocket,
    facts: ServerFacts,
    port: u16,
}

impl DhcpService {
    /// Binds `port` on the configured interface.
    pub(crate) fn bind(config: &BootsConfig, port: u16) -> Result<Self, StartError> {
        let name = &config.interface;
        interface::index(name).map_err(|source| StartError::interface("dhcp", name, source))?;
        let addresses =
            interface::ipv4(name).map_err(|source| StartError::interface("dhcp", name, source))?;
        let Some(&(address, prefix)) = addresses.iter().find(|(address, _)| *address == config.address)
        else {
            return Err(StartError::AddressNotOnInterface {
                interface: name.clone(),
                address: config.address,
                has: addresses
                    .iter()
                    .map(|(address, prefix)| format!("{address}/{prefix}"))
                    .collect(),
            });
        };
        let udp = UdpSocket::bind("dhcp", SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port), Some(name))?;
        Ok(Self {
            udp,
            direct: DirectSocket::open(name)?,
            facts: ServerFacts { address, prefix },
            port,
        })
    }

    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Serves until `shutdown` is cancelled.
    pub(crate) async fn serve(self, context: Arc<Context>, shutdown: CancellationToken) {
        let service = Arc::new(self);
        let mut workers = JoinSet::new();
        let queues: Vec<mpsc::Sender<Packet>> = (0..WORKERS)
            .map(|_| {
                let (queue, packets) = mpsc::channel(QUEUE);
                workers.spawn(service.clone().work(context.clone(), packets));
                queue
            })
            .collect();
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => break,
                received = service.udp.recv(&mut buffer) => received,
            };
            match received {
                Ok(received) => {
                    let bytes = buffer.get(..received.len_bytes).unwrap_or_default();
                    take(&context, &queues, bytes, received.from);
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "dhcp: receiving failed");
                    // Not to spin while the interface is away.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(queues);
        while workers.join_next().await.is_some() {}
    }

    async fn work(self: Arc<Self>, context: Arc<Context>, mut packets: mpsc::Receiver<Packet>) {
        while let Some(packet) = packets.recv().await {
            let mac = packet.chaddr;
            let handled = tokio::time::timeout(PATIENCE, answer::handle(&self, &context, packet));
            let why = match AssertUnwindSafe(handled).catch_unwind().await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => format!("not answered: the inventory took longer than {PATIENCE:?}"),
                Err(_) => "not answered: handling it panicked, which is a defect of Farrier".to_owned(),
            };
            context.record(Stage::Dhcp, Some(mac), "packet", Told::failed(why));
        }
    }

    /// Sends a reply where RFC 2131 section 4.1 wants it.
    async fn send(&self, bytes: &[u8], destination: Destination) -> std::io::Result<()> {
        let to = destination.socket_address();
        if let Destination::Direct { mac, .. } = destination {
            let from = SocketAddrV4::new(self.facts.address, self.port);
            if self.direct.send(bytes, from, to, mac).is_ok() {
                return Ok(());
            }
            // An interface without Ethernet addresses: the client hears a broadcast too.
            let to = Destination::Broadcast.socket_address();
            return self.udp.send(bytes, self.facts.address, to).await;
        }
        self.udp.send(bytes, self.facts.address, to).await
    }
}

/// Decodes a packet and queues it with its MAC's worker.
fn take(context: &Context, queues: &[mpsc::Sender<Packet>], bytes: &[u8], from: SocketAddrV4) {
    let decoded = std::panic::catch_unwind(|| dhcp::decode(bytes));
    let packet = match decoded {
        Ok(Ok(packet)) => packet,
        Ok(Err(error)) => {
            let told = Told::ignored(format!("{error}, {} B from {from}", bytes.len()));
            return context.record(Stage::Dhcp, None, "malformed packet", told);
        }
        Err(_) => {
            let told = Told::failed(format!("decoding {} B from {from} panicked", bytes.len()));
            return context.record(Stage::Dhcp, None, "malformed packet", told);
        }
    };
    let mac = packet.chaddr;
    let shard = mac.as_bytes().iter().fold(0usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add((*byte).into())
    });
    if let Some(queue) = queues.get(shard % queues.len().max(1))
        && queue.try_send(packet).is_err()
    {
        let told = Told::ignored("too many packets at once; it will ask again");
        context.record(Stage::Dhcp, Some(mac), "packet", told);
    }
}

const WORKERS: usize = 8;
/// Per worker. A client asks again within seconds; an answer older than that is of no use.
const QUEUE: usize = 512;
/// An Ethernet frame's worth; longer packets are cut and then refused.
const MAX_PACKET_BYTES: usize = 2048;
/// A client asks again after 4 s (RFC 2131 section 4.1).
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use dhcp::MessageType;
    use macaddr::MacAddr6;

    use super::*;
    use crate::inventory::{BootId, Inventory, InventoryError, Machine};
    use crate::scripts::Server;
    use crate::timeline::{Entry, Timeline};

    #[derive(Default)]
    struct Nobody(Mutex<Vec<String>>);

    #[async_trait::async_trait]
    impl Inventory for Nobody {
        async fn machine(&self, _: MacAddr6) -> Result<Option<Machine>, InventoryError> {
            Ok(None)
        }

        async fn reservations(&self) -> Result<Vec<(MacAddr6, Ipv4Addr)>, InventoryError> {
            Ok(Vec::new())
        }

        async fn boot_token(&self, _: MacAddr6, _: &BootId) -> Result<String, InventoryError> {
            Ok(String::new())
        }
    }

    impl Timeline for Nobody {
        fn record(&self, entry: Entry) {
            self.0.lock().expect("not poisoned").push(entry.detail);
        }
    }

    #[test]
    fn packets_that_come_faster_than_they_are_answered_are_told_of() {
        let nobody = Arc::new(Nobody::default());
        let server = Server {
            address: Ipv4Addr::LOCALHOST,
            http_port: 0,
            grpc_port: 0,
            consoles: Vec::new(),
        };
        let context = Context::new(server, Default::default(), nobody.clone(), nobody.clone());
        let (first, mut waiting) = mpsc::channel(QUEUE);
        let (second, mut others) = mpsc::channel(QUEUE);
        let queues = [first, second];
        let packet = |last: u8| {
            let mac = MacAddr6::new(2, 0, 0, 0, 0, last);
            dhcp::encode(&Packet::request(MessageType::Discover, mac, 1)).expect("a packet")
        };
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        for _ in 0..QUEUE + 3 {
            take(&context, &queues, &packet(2), from);
        }
        take(&context, &queues, &packet(3), from);
        let said = nobody.0.lock().expect("not poisoned").clone();
        assert_eq!(said, vec!["too many packets at once; it will ask again"; 3]);
        let count = |queue: &mut mpsc::Receiver<Packet>| std::iter::from_fn(|| queue.try_recv().ok()).count();
        let mut counts = [count(&mut waiting), count(&mut others)];
        counts.sort_unstable();
        assert_eq!(
            counts,
            [1, QUEUE],
            "another machine's packet waits in another queue"
        );
    }
}
