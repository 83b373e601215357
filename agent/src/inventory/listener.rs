//! Hears what switches say on every card, and knows for how long it holds.
//!
//! One AF_PACKET socket that gets frames of LLDP only. Cards that are switched off hear nothing. Source: packet(7).

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{LinkAddr, recvfrom};
use proto::v1::LldpNeighbour;
use socket2::{Domain, Protocol, Socket, Type};

use super::lldp;

const ETHERNET_TYPE: u16 = 0x88cc;
/// Whom switches speak to: the nearest bridge. Source: IEEE 802.1AB-2016, table 7-1.
const GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];
/// An Ethernet frame's payload.
const MAX_FRAME: usize = 1518;
/// Frames that are read in one go; the rest is there the next time.
const MAX_AT_ONCE: usize = 64;

/// What is known of each card's other end, by the card's name. Pure.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    known: BTreeMap<String, (LldpNeighbour, Instant)>,
}

impl Neighbours {
    /// A frame came to a card.
    pub(super) fn heard(&mut self, now: Instant, card: &str, frame: &[u8]) {
        let Some((neighbour, seconds)) = lldp::parse(frame) else {
            return;
        };
        if seconds == 0 {
            self.known.remove(card);
            return;
        }
        let until = now + Duration::from_secs(u64::from(seconds));
        self.known.insert(card.to_owned(), (neighbour, until));
    }

    /// Those that still hold.
    pub(super) fn now(&mut self, now: Instant) -> BTreeMap<String, LldpNeighbour> {
        self.known.retain(|_, (_, until)| *until > now);
        let known = self.known.iter();
        known
            .map(|(card, (neighbour, _))| (card.clone(), neighbour.clone()))
            .collect()
    }
}

pub(super) struct Listener {
    socket: Socket,
    joined: HashSet<u32>,
}

impl Listener {
    /// Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open() -> io::Result<Listener> {
        let protocol = Protocol::from(i32::from(ETHERNET_TYPE.to_be()));
        let kind = Type::DGRAM.nonblocking().cloexec();
        Ok(Listener {
            socket: Socket::new(Domain::PACKET, kind, Some(protocol))?,
            joined: HashSet::new(),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has these cards let through what is said to the nearest bridge; a card that is gone left by itself.
    pub(super) fn join(&mut self, cards: &BTreeMap<u32, String>) {
        self.joined.retain(|index| cards.contains_key(index));
        for &index in cards.keys() {
            if !self.joined.contains(&index) && join(&self.socket, index).is_ok() {
                self.joined.insert(index);
            }
        }
    }

    /// Takes what has come.
    pub(super) fn take(&self, now: Instant, cards: &BTreeMap<u32, String>, neighbours: &mut Neighbours) {
        let mut frame = [0_u8; MAX_FRAME];
        for _ in 0..MAX_AT_ONCE {
            let Ok((len, from)) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) else {
                return;
            };
            let card = from.and_then(|from| u32::try_from(from.ifindex()).ok());
            if let Some(card) = card.and_then(|index| cards.get(&index)) {
                neighbours.heard(now, card, frame.get(..len).unwrap_or_default());
            }
        }
    }
}

fn join(socket: &Socket, index: u32) -> io::Result<()> {
    let mut address = [0; 8];
    for (to, from) in address.iter_mut().zip(GROUP) {
        *to = from;
    }
    let membership = libc::packet_mreq {
        mr_ifindex: index as i32,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: GROUP.len() as u16,
        mr_address: address,
    };
    // SAFETY: the pointer is to a packet_mreq, whose length is given, and the kernel only reads it.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const membership).cast(),
            size_of::<libc::packet_mreq>() as u32,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{MsgFlags, SockaddrLike, sendto};

    use super::super::lldp::tests::frame;
    use super::*;

    #[test]
    fn a_neighbour_holds_as_long_as_it_said_and_may_say_goodbye() {
        let (mut neighbours, now) = (Neighbours::default(), Instant::now());
        neighbours.heard(now, "eth0", &frame(120));
        neighbours.heard(now, "eth1", b"rubbish");
        assert_eq!(neighbours.now(now + Duration::from_secs(119)).len(), 1);
        assert!(neighbours.now(now + Duration::from_secs(120)).is_empty());
        neighbours.heard(now, "eth0", &frame(120));
        neighbours.heard(now, "eth0", &frame(0));
        assert!(neighbours.now(now).is_empty());
    }

    fn ip(arguments: &str) {
        let done = Command::new("ip")
            .args(arguments.split(' '))
            .output()
            .expect("ip");
        assert!(done.status.success(), "ip {arguments}: {done:?}");
    }

    fn index(name: &str) -> u32 {
        nix::net::if_::if_nametoindex(name).expect("an interface")
    }

    #[test]
    fn what_comes_to_the_nearest_bridge_is_heard_on_the_card_that_it_came_to() {
        let test = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own");
            ip("link add near type veth peer name far");
            ip("link set near up");
            ip("link set far up");
            let cards = BTreeMap::from([(index("near"), "near".to_owned())]);
            let mut listener = Listener::open().expect("socket");
            listener.join(&cards);
            assert_eq!(listener.joined.len(), 1);
            let sender = Socket::new(Domain::PACKET, Type::RAW, None).expect("socket");
            let header = [&GROUP[..], &[2, 0, 0, 0, 0, 1], &ETHERNET_TYPE.to_be_bytes()].concat();
            let to = libc::sockaddr_ll {
                sll_family: libc::AF_PACKET as u16,
                sll_protocol: 0,
                sll_ifindex: index("far") as i32,
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 6,
                sll_addr: [1, 0x80, 0xc2, 0, 0, 0x0e, 0, 0],
            };
            // SAFETY: it is a sockaddr_ll of that length.
            let to = unsafe { LinkAddr::from_raw((&raw const to).cast(), Some(size_of_val(&to) as u32)) };
            let frame = [header, frame(120)].concat();
            sendto(
                sender.as_raw_fd(),
                &frame,
                &to.expect("an address"),
                MsgFlags::empty(),
            )
            .expect("sent");
            let mut ready = [nix::poll::PollFd::new(
                listener.fd(),
                nix::poll::PollFlags::POLLIN,
            )];
            let patience = nix::poll::PollTimeout::from(30_000_u16);
            assert_eq!(nix::poll::poll(&mut ready, patience), Ok(1), "nothing was heard");
            let (mut neighbours, now) = (Neighbours::default(), Instant::now());
            listener.take(now, &cards, &mut neighbours);
            let heard = neighbours.now(now);
            assert_eq!(heard["near"].port_id, "Ethernet12");
        });
        test.join().expect("the test's thread");
    }
}
