//! DHCP and router advertisements on a pair of virtual interfaces in a network namespace of the test's own.
//!
//! The namespace goes with the thread that made it. The machine's end is a packet socket: frames as firmware sends them.
#![allow(clippy::unwrap_used)]

mod wire;
mod world;

use std::net::Ipv4Addr;
use std::sync::Arc;

use boots::bootfile;
use boots::inventory::NextBoot;
use boots::{Boots, BootsConfig};
use dhcp::options::code;
use dhcp::{MessageType, Packet};
use macaddr::MacAddr6;
use tokio_util::sync::CancellationToken;
use wire::Wire;
use world::{MAC, STRANGER, World, disk, machine};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const MACHINE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);

#[test]
fn a_bios_with_an_ipxe_rom_gets_its_script_and_its_address() {
    in_a_lab(|lab| {
        let offer = lab.ask(&ipxe(MessageType::Discover, 0), MessageType::Offer);
        assert_eq!((offer.yiaddr, offer.siaddr), (MACHINE, SERVER));
        let script = format!(
            "http://10.77.0.1:{}/ipxe/script/52:54:00:77:00:0b/auto.ipxe",
            lab.http_port
        );
        assert_eq!(offer.boot_file().as_deref(), Some(script.as_str()));
        assert_eq!(
            offer.get(code::IPXE),
            Some(&[176, 1, 1][..]),
            "not to wait for ProxyDHCP"
        );
        let ack = lab.ask(&requesting(ipxe(MessageType::Request, 0)), MessageType::Ack);
        assert_eq!((ack.yiaddr, ack.server_id()), (MACHINE, Some(SERVER)));
        assert_eq!(ack.u32(code::LEASE_TIME), Some(3600));

        let entry = lab
            .world
            .wait_for(&["Dhcp 52:54:00:77:00:0b DISCOVER", "Answered"]);
        for words in [
            "OFFER 10.77.0.11",
            "iPXE on BIOS",
            &script,
            "boots the agent: workflow 0192 is PENDING",
        ] {
            assert!(entry.contains(words), "{entry}");
        }
        lab.world.wait_for(&["REQUEST | ACK 10.77.0.11", "Answered"]);
        let boots: Vec<_> = lab
            .world
            .raw_entries()
            .into_iter()
            .map(|entry| entry.boot)
            .collect();
        assert!(
            boots[0].is_some() && boots.iter().all(|boot| *boot == boots[0]),
            "one boot: {boots:?}"
        );
    });
}

#[test]
fn uefi_gets_ipxe_for_the_agent_and_grub_for_its_disk() {
    in_a_lab(|lab| {
        let offer = lab.ask(&uefi(MessageType::Discover), MessageType::Offer);
        assert_eq!(offer.boot_file().as_deref(), Some(bootfile::UEFI_IPXE));
        assert_eq!(offer.siaddr, SERVER);
        assert_eq!(offer.vendor_class().as_deref(), Some("PXEClient"));

        let mut known = machine(MACHINE);
        known.next = disk();
        lab.world.put(known.clone());
        let offer = lab.ask(&uefi(MessageType::Discover), MessageType::Offer);
        assert_eq!(offer.boot_file().as_deref(), Some(bootfile::UEFI_LOCAL_BOOT));
        lab.world
            .wait_for(&["DISCOVER", "boots its own disk: its last workflow succeeded"]);

        known.next = NextBoot::Nothing {
            reason: "policy".into(),
        };
        lab.world.put(known.clone());
        let offer = lab.ask(&uefi(MessageType::Discover), MessageType::Offer);
        assert_eq!((offer.yiaddr, offer.boot_file()), (MACHINE, None));
        lab.world.wait_for(&["nothing to boot: is to be left alone"]);

        let lease = known.lease.as_mut().unwrap();
        lease.boot_file_name = Some("their.efi".into());
        lease.tftp_server_name = Some("10.77.0.99".into());
        lab.world.put(known);
        let offer = lab.ask(&uefi(MessageType::Discover), MessageType::Offer);
        assert_eq!(offer.boot_file().as_deref(), Some("their.efi"));
        assert_eq!(offer.siaddr, Ipv4Addr::new(10, 77, 0, 99));
        lab.world.wait_for(&["the operator has set the boot file"]);
    });
}

#[test]
fn a_machine_without_an_address_is_told_nothing_and_the_operator_is_told_why() {
    in_a_lab(|lab| {
        let mut known = machine(MACHINE);
        known.lease = None;
        lab.world.put(known.clone());
        lab.wire.broadcast(&uefi(MessageType::Discover));
        lab.world
            .wait_for(&["DISCOVER", "no address for this interface: give it one", "Failed"]);

        known.lease = machine(MACHINE).lease;
        lab.world.put(known);
        let offer = lab.ask(&uefi(MessageType::Discover), MessageType::Offer);
        assert_eq!(offer.yiaddr, MACHINE);
    });
}

#[test]
fn a_bios_gets_ipxe_by_broadcast_where_it_asks_for_that() {
    in_a_lab(|lab| {
        let mut discover = pxe(MessageType::Discover, 0);
        discover.broadcast = true;
        lab.wire.broadcast(&discover);
        let (offer, frame) = lab.wire.reply(discover.xid);
        assert_eq!(offer.boot_file().as_deref(), Some(bootfile::BIOS_IPXE));
        assert_eq!(frame.to, [0xff; 6], "broadcast as asked");
        lab.wire.broadcast(&pxe(MessageType::Discover, 0));
        let (_, frame) = lab.wire.reply(pxe(MessageType::Discover, 0).xid);
        assert_eq!(frame.to, MAC.into_array(), "else to its MAC, without ARP");
    });
}

#[test]
fn strangers_hear_nothing_and_are_noted() {
    in_a_lab(|lab| {
        let mut stranger = ipxe(MessageType::Discover, 0);
        stranger.chaddr = STRANGER;
        stranger.xid = 0x5555;
        lab.wire.broadcast(&stranger);
        lab.world.wait_for(&[
            "Dhcp 52:54:00:99:00:01 DISCOVER",
            "a stranger, iPXE asks",
            "Ignored",
        ]);
        // The machine's answer comes after whatever the stranger would have got.
        lab.wire.broadcast(&ipxe(MessageType::Discover, 0));
        assert_eq!(lab.wire.next_reply().0.chaddr, MAC);
    });
}

#[test]
fn a_wrong_address_is_refused_and_a_foreign_offer_is_noted() {
    in_a_lab(|lab| {
        let mut request = pxe(MessageType::Request, 0);
        request.set_address(code::REQUESTED_ADDRESS, Ipv4Addr::new(10, 77, 0, 99));
        let nak = lab.ask(&request, MessageType::Nak);
        assert_eq!(nak.yiaddr, Ipv4Addr::UNSPECIFIED);
        lab.world.wait_for(&["REQUEST | NAK", "Refused"]);
        let mut request = pxe(MessageType::Request, 0);
        request.set_address(code::SERVER_ID, Ipv4Addr::new(10, 77, 0, 5));
        lab.wire.broadcast(&request);
        lab.world.wait_for(&["REQUEST |", "10.77.0.5", "Ignored"]);
        let mut renewing = Packet::request(MessageType::Request, MAC, 77);
        renewing.ciaddr = MACHINE;
        lab.wire.unicast(&renewing, MACHINE, SERVER);
        let (ack, _) = lab.wire.reply(77);
        assert_eq!(ack.message_type(), Some(MessageType::Ack));
    });
}

#[test]
fn an_address_in_use_by_another_host_is_set_aside_and_said() {
    in_a_lab(|lab| {
        lab.ask(&pxe(MessageType::Discover, 0), MessageType::Offer);
        lab.ask(&requesting(pxe(MessageType::Request, 0)), MessageType::Ack);
        let mut decline = Packet::request(MessageType::Decline, MAC, 78);
        decline.set_address(code::SERVER_ID, Ipv4Addr::new(10, 77, 0, 5));
        decline.set_address(code::REQUESTED_ADDRESS, MACHINE);
        lab.wire.broadcast(&decline);
        lab.world
            .wait_for(&["DECLINE | DECLINE without effect", "10.77.0.5", "Ignored"]);
        lab.ask(&pxe(MessageType::Discover, 0), MessageType::Offer);

        decline.set_address(code::SERVER_ID, SERVER);
        lab.wire.broadcast(&decline);
        lab.world.wait_for(&[
            "DECLINE | the machine found 10.77.0.11 in use by another host",
            "Note",
        ]);
        lab.wire.broadcast(&pxe(MessageType::Discover, 0));
        lab.world
            .wait_for(&["DISCOVER | not offered: 10.77.0.11 is set aside", "Ignored"]);
        let nak = lab.ask(&requesting(pxe(MessageType::Request, 0)), MessageType::Nak);
        assert_eq!(nak.server_id(), Some(SERVER));

        // Another address of the record is free.
        let other = Ipv4Addr::new(10, 77, 0, 12);
        lab.world.put(machine(other));
        let offer = lab.ask(&pxe(MessageType::Discover, 0), MessageType::Offer);
        assert_eq!(offer.yiaddr, other);
    });
}

#[test]
fn an_address_is_given_back_by_its_own_machine_only() {
    in_a_lab(|lab| {
        let mut request = requesting(pxe(MessageType::Request, 0));
        request.set(code::CLIENT_ID, b"\x01mine");
        lab.ask(&request, MessageType::Ack);
        let mut release = Packet::request(MessageType::Release, MAC, 79);
        release.ciaddr = MACHINE;
        release.set_address(code::SERVER_ID, SERVER);
        lab.wire.unicast(&release, MACHINE, SERVER);
        lab.world
            .wait_for(&["RELEASE | RELEASE without effect", "client identifier", "Ignored"]);
        release.set(code::CLIENT_ID, b"\x01mine");
        lab.wire.unicast(&release, MACHINE, SERVER);
        lab.world
            .wait_for(&["RELEASE | the machine gave 10.77.0.11 back", "Note"]);
    });
}

#[test]
fn no_packet_stops_the_service() {
    in_a_lab(|lab| {
        let good = dhcp::encode(&ipxe(MessageType::Discover, 0)).unwrap();
        let mut packets: Vec<Vec<u8>> = (0..=good.len())
            .step_by(3)
            .map(|len| good[..len].to_vec())
            .collect();
        for hlen in [0, 7, 16, 17, 255] {
            let mut packet = good.clone();
            packet[2] = hlen;
            packets.push(packet);
        }
        let mut absurd = good[..240].to_vec();
        // Options 94, 80, 93, 97, 52, 43, 175 and 61 with lengths that cannot be, then one that runs out of the packet.
        absurd.extend([
            53, 1, 1, 94, 1, 0, 80, 2, 1, 1, 93, 1, 0, 97, 1, 9, 52, 1, 3, 43, 2, 6, 200,
        ]);
        absurd.extend([175, 1, 19, 61, 1, 0, 12, 200, 1]);
        packets.push(absurd);
        packets.push(vec![0xff; 1472]);
        packets.push([&good[..240], &[255u8; 1000][..]].concat());
        packets.push([&good[..240], &[0u8; 1200][..]].concat());
        for packet in packets {
            lab.wire.broadcast_bytes(&packet);
        }
        // A defect in handling one machine's packet is that packet's end only.
        let defect = MacAddr6::new(2, 0, 0, 0, 0, 9);
        *lab.world.panics_at.lock().unwrap() = Some(defect);
        lab.wire
            .broadcast(&Packet::request(MessageType::Discover, defect, 9));
        lab.world.wait_for(&[
            "02:00:00:00:00:09 packet",
            "panicked, which is a defect",
            "Failed",
        ]);
        let mut last = ipxe(MessageType::Discover, 0);
        last.xid = 0xfeed;
        lab.wire.broadcast(&last);
        assert_eq!(lab.wire.reply(0xfeed).0.message_type(), Some(MessageType::Offer));
        lab.world.wait_for(&["malformed packet", "Ignored"]);
    });
}

#[test]
fn a_router_solicitation_is_answered_for_machines_only() {
    in_a_lab(|lab| {
        lab.wire.solicit(MAC, "fe80::5054:ff:fe77:b".parse().unwrap());
        let advertisement = lab.wire.advertisement();
        assert_eq!(advertisement.to, MAC.into_array());
        assert_eq!(advertisement.hop_limit, 255);
        assert!(advertisement.from.is_unicast_link_local());
        // Type and code, then after the checksum: no flags, lifetime 0, no options.
        assert_eq!(advertisement.message[..2], [134, 0]);
        assert_eq!(advertisement.message[4..], [0; 12]);
        lab.world.wait_for(&[
            "RouterAdvertisement 52:54:00:77:00:0b",
            "node1 is told",
            "Answered",
        ]);

        lab.wire
            .solicit(STRANGER, "fe80::5054:ff:fe99:1".parse().unwrap());
        lab.world
            .wait_for(&["RouterAdvertisement 52:54:00:99:00:01", "a stranger's", "Ignored"]);
        lab.wire.solicit_without_address();
        lab.world
            .wait_for(&["RouterAdvertisement -", "does not say its MAC", "Ignored"]);
        lab.ask(&ipxe(MessageType::Discover, 0), MessageType::Offer);
        lab.wire.solicit_without_address();
        assert_eq!(
            lab.wire.advertisement().to,
            [0x33, 0x33, 0, 0, 0, 1],
            "to all nodes"
        );
    });
}

struct Lab {
    world: Arc<World>,
    wire: Wire,
    http_port: u16,
}

impl Lab {
    #[track_caller]
    fn ask(&mut self, packet: &Packet, want: MessageType) -> Packet {
        self.wire.broadcast(packet);
        let (reply, _) = self.wire.reply(packet.xid);
        assert_eq!(reply.message_type(), Some(want));
        reply
    }
}

/// Runs `test` beside a server in a fresh network namespace.
#[track_caller]
fn in_a_lab(test: impl FnOnce(&mut Lab) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let wire = Wire::in_a_fresh_namespace(SERVER, MACHINE, MAC);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let boot = tempfile::tempdir().unwrap();
        let loaders = bootfile::LOADERS.into_iter();
        for name in loaders.chain(["vmlinuz", "initramfs.img"]) {
            std::fs::write(boot.path().join(name), name).unwrap();
        }
        let world = World::with(machine(MACHINE));
        let mut config = BootsConfig::new(wire::SERVER_END, SERVER, boot.path());
        config.http_port = 0;
        let stop = CancellationToken::new();
        let starting = Boots::start(config, world.clone(), world.clone(), stop.clone());
        let running = runtime.block_on(starting).unwrap();
        assert_eq!(running.notes, Vec::<String>::new());
        assert_eq!(running.dhcp.map(|at| at.port()), Some(67));
        let mut lab = Lab {
            world,
            wire,
            http_port: running.http.port(),
        };
        test(&mut lab);
        stop.cancel();
        runtime.block_on(running.done).unwrap();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn pxe(kind: MessageType, arch: u16) -> Packet {
    let mut packet = Packet::request(kind, MAC, 0x1000 + u32::from(arch));
    packet
        .set(
            code::VENDOR_CLASS,
            format!("PXEClient:Arch:{arch:05}:UNDI:003016"),
        )
        .set(code::CLIENT_ARCHITECTURE, arch.to_be_bytes())
        .set(code::NETWORK_INTERFACE, [1, 3, 16])
        .set(code::MACHINE_UUID, [0; 17])
        .set(code::PARAMETER_LIST, [1, 3, 43, 54, 60, 66, 67]);
    packet
}

fn uefi(kind: MessageType) -> Packet {
    pxe(kind, 7)
}

fn ipxe(kind: MessageType, arch: u16) -> Packet {
    let mut packet = pxe(kind, arch);
    packet
        .set(code::USER_CLASS, "iPXE")
        .set(code::IPXE, [19, 1, 1, 33, 1, 1, 36, 1, 0]);
    packet
}

fn requesting(mut packet: Packet) -> Packet {
    packet
        .set_address(code::REQUESTED_ADDRESS, MACHINE)
        .set_address(code::SERVER_ID, SERVER);
    packet
}
