//! The DHCP shell against a server in another network namespace, at the other end of a cable.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use dhcp::options::code;
use dhcp::{MessageType, Op, Packet, codec};
use macaddr::MacAddr6;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Protocol, Socket, Type};

use super::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 20);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 21);

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("ip");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Network, host name and /etc of this thread's own, with a cable from `near` to `far`, which is the server's.
fn take_namespaces() -> Nic {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .expect("namespaces");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
    mount(Some("tmpfs"), "/etc", Some("tmpfs"), MsFlags::empty(), none).expect("/etc");
    // The cards of this network, and not of the one that /sys was mounted in.
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).expect("/sys");
    let mac = MacAddr6::new(0x02, 0, 0, 0, 0, 0x14);
    ip(&format!("link add far type veth peer name near address {mac}"));
    ip("link set near up");
    Nic {
        name: "near".to_owned(),
        mac,
        driver: String::new(),
        carrier: true,
    }
}

struct Server {
    socket: UdpSocket,
}

impl Server {
    /// In this thread's network, which `far` has been moved to.
    fn bind() -> Server {
        ip("addr add 10.99.0.1/24 dev far");
        ip("link set far up");
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("socket");
        socket.bind_device(Some(b"far")).expect("device");
        socket.set_broadcast(true).expect("broadcast");
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("timeout");
        let any = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, dhcp::SERVER_PORT);
        socket.bind(&any.into()).expect("port 67");
        Server {
            socket: socket.into(),
        }
    }

    /// The next message of this kind, and who sent it.
    fn expect(&self, kind: MessageType) -> (Packet, Ipv4Addr) {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).expect("a message in time");
            let packet = codec::decode(&buffer[..length]).expect("DHCP");
            let std::net::IpAddr::V4(from) = from.ip() else {
                panic!("{from} is not IPv4")
            };
            if packet.message_type() == Some(kind) {
                return (packet, from);
            }
        }
    }

    fn answer(&self, asked: &Packet, kind: MessageType, address: Ipv4Addr) {
        let mut reply = Packet::request(kind, asked.chaddr, asked.xid);
        reply.op = Op::Reply;
        reply.yiaddr = address;
        reply
            .set_address(code::SERVER_ID, SERVER)
            .set(code::SUBNET_MASK, [255, 255, 255, 0])
            .set_u32(code::LEASE_TIME, 60)
            .set_u32(code::RENEWAL_TIME, 1)
            .set_u32(code::REBINDING_TIME, 50)
            .set(code::INTERFACE_MTU, 1400_u16.to_be_bytes())
            // The kernel takes no route by a multicast address, and has to be given the others.
            .set(
                code::CLASSLESS_ROUTES,
                [vec![8, 172, 224, 0, 0, 1], vec![0, 10, 99, 0, 254]].concat(),
            );
        let to = if asked.ciaddr.is_unspecified() {
            Ipv4Addr::BROADCAST
        } else {
            asked.ciaddr
        };
        let bytes = codec::encode(&reply).expect("a reply");
        self.socket
            .send_to(&bytes, (to, dhcp::CLIENT_PORT))
            .expect("sent");
    }
}

/// Polls, in this thread's namespace, until `ip` with these arguments shows what is wanted.
async fn shows(arguments: &str, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let shown = ip(arguments);
        if wanted(&shown) {
            return;
        }
        assert!(Instant::now() < deadline, "{shown}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Until the card has this address and not that one.
async fn has(address: Ipv4Addr, not: Ipv4Addr) {
    let (address, not) = (address.to_string(), not.to_string());
    shows("-4 addr show dev near", |shown| {
        shown.contains(&address) && !shown.contains(&not)
    })
    .await;
}

#[test]
fn a_lease_is_taken_renewed_from_its_address_and_changed_whatever_options_come_with_it() {
    let test = std::thread::spawn(|| {
        let nic = take_namespaces();
        let (tell, number) = std::sync::mpsc::channel();
        let (moved, wait) = std::sync::mpsc::channel();
        let (answered, all_answered) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let serving = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("namespace");
            tell.send(nix::unistd::gettid()).expect("told");
            wait.recv().expect("moved");
            let server = Server::bind();
            let (discover, _) = server.expect(MessageType::Discover);
            server.answer(&discover, MessageType::Offer, FIRST);
            let (request, _) = server.expect(MessageType::Request);
            server.answer(&request, MessageType::Ack, FIRST);
            // Renewed: the first time with the same address, then with another.
            for (held, given) in [(FIRST, FIRST), (FIRST, SECOND), (SECOND, SECOND)] {
                let (renewal, from) = server.expect(MessageType::Request);
                assert_eq!((renewal.ciaddr, from), (held, held));
                server.answer(&renewal, MessageType::Ack, given);
            }
            // The cable is out and in again, faster than anybody looks: RFC 2131 section 4.3.2, INIT-REBOOT.
            ip("link set far down");
            ip("link set far up");
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                let (request, _) = server.expect(MessageType::Request);
                server.answer(&request, MessageType::Ack, SECOND);
                assert!(
                    Instant::now() < deadline,
                    "the last is a renewal still: {request:?}"
                );
                if let Some(wanted) = request.requested_address() {
                    assert_eq!((wanted, request.ciaddr), (SECOND, Ipv4Addr::UNSPECIFIED));
                    assert_eq!(request.server_id(), None);
                    break;
                }
            }
            answered.send(()).expect("told");
            // The cable goes with this thread's network: not before the near end was looked at.
            ended.recv().expect("told");
        });
        ip(&format!(
            "link set far netns {}",
            number.recv().expect("a thread")
        ));
        moved.send(()).expect("told");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let link = Link::open(&nic.name).await.expect("link");
            tokio::time::timeout(Duration::from_secs(30), lease(link, &nic))
                .await
                .expect("an address in time")
                .expect("a lease");
            has(FIRST, SECOND).await;
            assert!(ip("link show dev near").contains("mtu 1400"));
            assert!(ip("-4 route show default").contains("via 10.99.0.254 dev near"));
            has(SECOND, FIRST).await;
            while all_answered.try_recv().is_err() {
                assert!(!serving.is_finished(), "the server ended early");
                sleep(Duration::from_millis(20)).await;
            }
            // Gone with the cable, and back once the answer has arrived here.
            let default_route = |shown: &str| shown.contains("via 10.99.0.254 dev near");
            shows("-4 route show default", default_route).await;
        });
        end.send(()).expect("the server waits");
        serving.join().expect("the server's part");
        assert!(Path::new("/etc/resolv.conf").exists());
    });
    test.join().expect("the test's thread");
}
