//! A network of an action's own: a namespace with one address, a pair of links to it, and translation of that address.
//!
//! Nothing of it needs to be taken away by somebody who is alive: the pair ends with the namespace, which this process holds
//! open, and the translation with the socket that owns it ([`translation`]). Forwarding, which is the machine's own setting,
//! is set back as it was; after a SIGKILL it stays on.

mod translation;

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::link::{Link, LinkError};
use translation::Translation;

/// Its one card, as in a container of Docker's.
const CARD: &str = "eth0";
/// Four addresses each: the first of them that no route of the machine knows is taken.
const NETWORKS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(172, 31, 255, 252),
    Ipv4Addr::new(10, 255, 255, 252),
    Ipv4Addr::new(192, 168, 255, 252),
    Ipv4Addr::new(100, 127, 255, 252),
];
const PREFIX: u8 = 30;
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const ROUTES: &str = "/proc/thread-self/net/route";
/// The kernel takes a namespace's links away a moment after the last process has left it.
const LINK_GOES_WITHIN: Duration = Duration::from_secs(5);

/// Why an action has no network of its own.
#[derive(Debug, thiserror::Error)]
pub enum IsolatedError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{what}: {cause}")]
    Kernel {
        what: String,
        #[source]
        cause: io::Error,
    },
    #[error("the machine has routes for all of the networks that an action's own may have: {0}")]
    NoneLeft(String),
}

impl IsolatedError {
    fn of(what: &str) -> impl FnOnce(io::Error) -> IsolatedError {
        let what = what.to_owned();
        move |cause| IsolatedError::Kernel { what, cause }
    }
}

/// It is there as long as this is.
#[derive(Debug)]
pub struct Isolated {
    namespace: File,
    /// The machine's end of the pair.
    link: String,
    translation: Option<Translation>,
    _forwarding: Forwarding,
}

impl Isolated {
    /// Makes one; `name` is that of nobody else, and its first bytes name the link.
    ///
    /// # Errors
    /// [`IsolatedError`]: what the kernel refused. Nothing of it is left then.
    pub async fn make(name: &str) -> Result<Isolated, IsolatedError> {
        let routes = fs::read_to_string(ROUTES).map_err(IsolatedError::of("reading the machine's routes"))?;
        let network = free_network(&routes).ok_or_else(|| {
            let all: Vec<String> = NETWORKS
                .iter()
                .map(|network| format!("{network}/{PREFIX}"))
                .collect();
            IsolatedError::NoneLeft(all.join(", "))
        })?;
        let (machines, own) = ends(network);
        // At most 15 bytes (IFNAMSIZ).
        let link: String = format!("fr-{name}").chars().take(15).collect();
        let namespace = namespace(&link, own, machines).await?;
        let here = Link::open(&link).await?;
        here.set_address(machines, PREFIX).await?;
        here.up().await?;
        let translation = Translation::of(own).map_err(IsolatedError::of(
            "translating the address of the action's own network (the kernel needs nf_tables with masquerade)",
        ))?;
        let forwarding = Forwarding::on().map_err(IsolatedError::of("switching on forwarding"))?;
        Ok(Isolated {
            namespace,
            link,
            translation: Some(translation),
            _forwarding: forwarding,
        })
    }

    /// What a process opens to join it, as long as this process lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.namespace.as_raw_fd()
        ))
    }

    /// Takes it away, and waits until it is gone.
    pub async fn end(mut self) {
        drop(self.translation.take());
        let link = self.link.clone();
        drop(self);
        let gone = async {
            while Link::open(&link).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(LINK_GOES_WITHIN, gone).await;
    }
}

/// A namespace with the card, its address and a route to everywhere; the other end of the pair is in the caller's.
async fn namespace(link: &str, own: Ipv4Addr, gateway: Ipv4Addr) -> Result<File, IsolatedError> {
    let machines =
        File::open("/proc/thread-self/ns/net").map_err(IsolatedError::of("opening the machine's network"))?;
    let link = link.to_owned();
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread that ends: one of the runtime's would be in that namespace for good.
    let made = std::thread::Builder::new().spawn(move || {
        let _ = tell.send(furnish(&machines, &link, own, gateway));
    });
    made.map_err(IsolatedError::of("starting a thread"))?;
    let broken = || IsolatedError::Kernel {
        what: "making a network".to_owned(),
        cause: io::Error::other("the thread that makes it ended"),
    };
    told.await.map_err(|_| broken())?
}

fn furnish(machines: &File, link: &str, own: Ipv4Addr, gateway: Ipv4Addr) -> Result<File, IsolatedError> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|e| IsolatedError::of("taking a network namespace")(e.into()))?;
    let namespace =
        File::open("/proc/thread-self/ns/net").map_err(IsolatedError::of("opening the new network"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(IsolatedError::of("starting a runtime"))?;
    runtime.block_on(async {
        let loopback = Link::open("lo").await?;
        loopback.up().await?;
        let card = loopback.pair(CARD, link, machines.as_fd()).await?;
        card.set_address(own, PREFIX).await?;
        card.up().await?;
        card.set_route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway)).await?;
        Ok(namespace)
    })
}

/// The machine's address in it, and the action's.
fn ends(network: Ipv4Addr) -> (Ipv4Addr, Ipv4Addr) {
    let number = u32::from(network);
    (Ipv4Addr::from(number | 1), Ipv4Addr::from(number | 2))
}

/// The first network that no route of /proc/net/route is about, but for those that are about half of all addresses or more.
///
/// Source: net/ipv4/fib_trie.c, `fib_route_seq_show`: numbers in hexadecimal, as they lie in memory.
fn free_network(routes: &str) -> Option<Ipv4Addr> {
    let known: Vec<(u32, u32)> = routes.lines().skip(1).filter_map(destination).collect();
    let mask = u32::MAX << (32 - u32::from(PREFIX));
    NETWORKS.into_iter().find(|network| {
        let network = u32::from(*network);
        known
            .iter()
            .filter(|(_, of)| of.leading_ones() > 1)
            .all(|(destination, of)| (destination ^ network) & (of & mask) != 0)
    })
}

fn destination(route: &str) -> Option<(u32, u32)> {
    let mut fields = route.split_whitespace();
    let destination = fields.nth(1)?;
    let mask = fields.nth(5)?;
    let number = |text| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    Some((number(destination)?, number(mask)?))
}

/// Whether the machine forwards between its links; set back when it is dropped.
#[derive(Debug)]
struct Forwarding {
    was_off: bool,
}

impl Forwarding {
    fn on() -> io::Result<Forwarding> {
        let was_off = fs::read_to_string(FORWARDING)?.trim() == "0";
        if was_off {
            fs::write(FORWARDING, "1")?;
        }
        Ok(Forwarding { was_off })
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        if self.was_off {
            let _ = fs::write(FORWARDING, "0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn route(destination: &str, mask: &str) -> String {
        format!("eth0\t{destination}\t0100000A\t0003\t0\t0\t0\t{mask}\t0\t0\t0\n")
    }

    #[test]
    fn the_first_network_that_no_route_is_about_is_taken() {
        // As the kernel prints them: the default route, 10.77.0.0/24.
        let usual = HEAD.to_owned() + &route("00000000", "00000000") + &route("00004D0A", "00FFFFFF");
        assert_eq!(free_network(&usual), Some(NETWORKS[0]));
        // 172.16.0.0/12, then 172.31.255.253 alone.
        for (destination, mask) in [("000010AC", "0000F0FF"), ("FDFF1FAC", "FFFFFFFF")] {
            let routes = usual.clone() + &route(destination, mask);
            assert_eq!(free_network(&routes), Some(NETWORKS[1]), "{routes}");
        }
        // A VPN's two halves of all addresses are as good as a default route.
        let halves = usual.clone() + &route("00000000", "00000080") + &route("00000080", "00000080");
        assert_eq!(free_network(&halves), Some(NETWORKS[0]));
        let all = usual
            + &route("000000AC", "000000FC")
            + &route("0000000A", "000000FF")
            + &route("0000A8C0", "0000FFFF")
            + &route("00004064", "0000C0FF");
        assert_eq!(free_network(&all), None);
    }

    #[test]
    fn both_ends_are_of_the_network() {
        let (machines, own) = ends(NETWORKS[0]);
        assert_eq!(
            (machines.to_string(), own.to_string()),
            ("172.31.255.253".to_owned(), "172.31.255.254".to_owned())
        );
    }
}
