//! The client's core against dnsmasq, over a veth pair in a network namespace of the test's own.
//!
//! Both ends are in the one namespace: dnsmasq has the server's end, the test the other, by packet socket. Everything
//! is gone when the test's thread and dnsmasq are.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dhcp::client::{Action, Client, Destination, LeaseInfo};
use dhcp::frame;
use mac::mac_text;
use macaddr::MacAddr6;
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::packets::{ADDRESS, MAC, SERVER};

const SERVER_MAC: MacAddr6 = MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 1);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn gets_and_renews_a_lease_from_dnsmasq() {
    if let Some(missing) = missing() {
        eprintln!("skipped: {missing}");
        return;
    }
    // A thread of its own: the namespace is the thread's.
    std::thread::spawn(talk_to_dnsmasq).join().unwrap();
}

/// What this test needs and does not find; it must not fail on a developer's laptop.
fn missing() -> Option<&'static str> {
    let runs = |program: &str, argument: &str| {
        let mut command = Command::new(program);
        command
            .arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !nix::unistd::geteuid().is_root() {
        Some("must be root for a network namespace")
    } else if !runs("dnsmasq", "--version") {
        Some("dnsmasq is not installed (package dnsmasq-base)")
    } else if !runs("ip", "-V") {
        Some("ip is not installed (package iproute2)")
    } else {
        None
    }
}

fn talk_to_dnsmasq() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip(&format!(
        "link add srv address {} type veth peer name cli address {}",
        mac_text(SERVER_MAC),
        mac_text(MAC)
    ));
    ip("address add 10.77.0.1/24 dev srv");
    ip("link set srv up");
    ip("link set cli up");
    // Stands in for the client's answer to ARP, which its kernel gives once the address is configured.
    ip(&format!("neigh add {ADDRESS} lladdr {} dev srv", mac_text(MAC)));
    let _dnsmasq = Dnsmasq::start();

    let mut wire = Wire::open();
    let lease = wire.run_until_bound();
    assert_eq!(
        (lease.address, lease.prefix, lease.server),
        (ADDRESS, 24, SERVER.address)
    );
    assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 77, 0, 254)));
    assert_eq!(
        lease.dns,
        [Ipv4Addr::new(10, 77, 0, 53), Ipv4Addr::new(10, 77, 0, 54)]
    );
    assert_eq!(lease.ntp, [SERVER.address]);
    assert_eq!(
        (lease.hostname.as_deref(), lease.domain.as_deref()),
        (Some("node-1"), Some("lab.example"))
    );
    assert_eq!(lease.search, ["lab.example", "example"]);
    assert_eq!(
        (lease.mtu, lease.lease),
        (Some(1400), Some(Duration::from_secs(3600)))
    );

    // The core has no clock: an hour passes by saying so.
    for (name, waited) in [
        ("renewing", Duration::from_secs(1801)),
        ("rebinding", Duration::from_secs(3200)),
    ] {
        wire.skew += waited;
        let renewed = wire.run_until_bound();
        assert_eq!(
            (renewed.address, renewed.lease),
            (lease.address, lease.lease),
            "{name}"
        );
    }
    assert!(
        wire.unicasts > 0 && wire.broadcasts > 2,
        "{} and {}",
        wire.unicasts,
        wire.broadcasts
    );
}

/// dnsmasq, as long as this lives.
struct Dnsmasq(Child);

impl Dnsmasq {
    fn start() -> Dnsmasq {
        let options = "--keep-in-foreground --conf-file=/dev/null --port=0 --interface=srv --bind-interfaces --no-ping \
             --user=root --pid-file= --leasefile-ro --no-resolv --no-hosts --domain=lab.example \
             --dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,1h --dhcp-option=3,10.77.0.254 \
             --dhcp-option=6,10.77.0.53,10.77.0.54 --dhcp-option=42,10.77.0.1 --dhcp-option=26,1400 \
             --dhcp-option=option:domain-search,lab.example,example";
        // Ends with its thread even if this test is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "dnsmasq"])
            .args(options.split_whitespace())
            .arg(format!("--dhcp-host={},{ADDRESS},node-1", mac_text(MAC)))
            .stderr(Stdio::null())
            .spawn();
        Dnsmasq(child.unwrap())
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The client with its packet socket: what the agent does, in small.
struct Wire {
    socket: Socket,
    interface: i32,
    client: Client,
    address: Ipv4Addr,
    /// How far the client's clock is ahead.
    skew: Duration,
    unicasts: u32,
    broadcasts: u32,
}

impl Wire {
    fn open() -> Wire {
        let interface = nix::net::if_::if_nametoindex("cli").unwrap() as i32;
        let protocol = Protocol::from(i32::from((libc::ETH_P_IP as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).unwrap();
        socket.bind(&link_address(interface, MAC)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Wire {
            socket,
            interface,
            client: Client::new(MAC, 42, Instant::now()),
            address: Ipv4Addr::UNSPECIFIED,
            skew: Duration::ZERO,
            unicasts: 0,
            broadcasts: 0,
        }
    }

    fn run_until_bound(&mut self) -> LeaseInfo {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            let now = Instant::now() + self.skew;
            let mut actions = self.client.on_timeout(now);
            match (&self.socket).read(&mut buffer) {
                Ok(len) => {
                    if let Some(datagram) = frame::parse(&buffer[..len], dhcp::CLIENT_PORT) {
                        actions.extend(self.client.on_packet(now, datagram.payload));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("cannot receive: {error}"),
            }
            for action in actions {
                match action {
                    Action::Send { bytes, destination } => self.send(&bytes, destination),
                    Action::Bound(lease) => {
                        self.address = lease.address;
                        return *lease;
                    }
                    Action::Lost { why } => panic!("lost: {why}"),
                }
            }
        }
        panic!(
            "no lease after {PATIENCE:?}; sent {} broadcasts, {} unicasts",
            self.broadcasts, self.unicasts
        );
    }

    fn send(&mut self, bytes: &[u8], destination: Destination) {
        let (ip, mac) = match destination {
            Destination::Broadcast => (Ipv4Addr::BROADCAST, MacAddr6::broadcast()),
            Destination::Unicast(ip) => (ip, SERVER_MAC),
        };
        match destination {
            Destination::Broadcast => self.broadcasts += 1,
            Destination::Unicast(_) => self.unicasts += 1,
        }
        let source = SocketAddrV4::new(self.address, dhcp::CLIENT_PORT);
        let packet = frame::build(source, SocketAddrV4::new(ip, dhcp::SERVER_PORT), bytes).unwrap();
        self.socket
            .send_to(&packet, &link_address(self.interface, mac))
            .unwrap();
    }
}

fn link_address(interface: i32, mac: MacAddr6) -> SockAddr {
    let initialise = |storage: *mut socket2::SockAddrStorage, len: *mut libc::socklen_t| {
        let mut address = [0; 8];
        address[..6].copy_from_slice(mac.as_bytes());
        let link = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_IP as u16).to_be(),
            sll_ifindex: interface,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: address,
        };
        // SAFETY: the storage is large enough and aligned for every kind of socket address, and `len` is valid.
        unsafe {
            storage.cast::<libc::sockaddr_ll>().write(link);
            *len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        }
        Ok(())
    };
    // SAFETY: the closure writes a whole address of the family that it names, and its length.
    unsafe { SockAddr::try_init(initialise) }.unwrap().1
}

#[track_caller]
fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
