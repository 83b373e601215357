//! Strangers, impostors and malformed packets.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::{AgentMessage, BootOutcome, BootStage, Hello, agent_message};
use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::network::Network;
use qemu_tests::lab::server::Server;
use qemu_tests::lab::wait::{Look, wait_until};
use tonic::Code;

use crate::scene::{Scene, scene, write_image};

#[test]
fn an_unknown_machine_gets_no_answer_and_is_on_the_timeline() {
    scene(|scene| {
        let blueprint = Blueprint::new("stranger")
            .nic("52:54:00:99:99:01")
            .memory_mib(256);
        let mut machine = scene.world.stranger(blueprint).unwrap();
        machine.power_on().unwrap();
        wait_until(
            "the stranger's second DISCOVER on the timeline",
            Duration::from_secs(120),
            || {
                let entries = scene.world.api.boot_log("").unwrap();
                let asked = entries
                    .iter()
                    .filter(|entry| entry.mac == machine.mac() && entry.what.contains("DISCOVER"));
                match asked
                    .filter(|entry| entry.outcome() == BootOutcome::Ignored)
                    .count()
                {
                    2.. => Look::Done(()),
                    count => Look::not_yet(format!("{count} of {} entries", entries.len())),
                }
            },
        )
        .unwrap();
        let frames = std::fs::read(machine.directory().join("net0.pcap")).unwrap();
        assert!(
            udp_from_port(&frames, 68),
            "the capture has the machine's own DISCOVER"
        );
        assert!(!udp_from_port(&frames, 67), "a stranger was answered");
    });
}

#[test]
fn nobody_else_gets_a_machines_script_or_attaches_with_its_mac() {
    scene(|scene| {
        let mut machine = scene.machine(1, 64 << 20);
        // Something to wait for, so that the machine boots the agent.
        let workflow = scene.workflow(
            &machine,
            &[write_image(&scene.url("missing.zst"), "/dev/vda", &[])],
        );
        machine.power_on().unwrap();
        scene.failure_of(&workflow);

        let path = format!("/ipxe/script/{}/auto.ipxe", machine.mac());
        let answer = get(&path);
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(
            !answer.contains("farrier.token"),
            "the answer to another address holds the token: {answer}"
        );

        for token in ["", "0123456789abcdef0123456789abcdef"] {
            let status = attach(machine.mac(), token);
            assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        }
        let refusals = scene.world.api.boot_log(machine.mac()).unwrap();
        assert!(
            refusals
                .iter()
                .any(|entry| entry.stage() == BootStage::Agent && entry.outcome() == BootOutcome::Refused)
        );
        assert!(
            scene.world.api.machine(machine.name()).unwrap().attached,
            "the true agent was thrown out"
        );
    });
}

#[test]
fn malformed_dhcp_packets_do_not_stop_the_server() {
    scene(|scene| {
        let socket = UdpSocket::bind((Network::SERVER, 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        let good = discover();
        let mut packets: Vec<Vec<u8>> = (0..good.len())
            .step_by(7)
            .map(|length| good[..length].to_vec())
            .collect();
        for hlen in [0, 1, 15, 17, 255] {
            let mut packet = good.clone();
            packet[2] = hlen;
            packets.push(packet);
        }
        for options in [
            &[53, 255, 1][..],
            &[94, 2, 1, 2, 80, 1, 9, 255],
            &[93, 1, 0, 97, 0, 61, 0, 55, 0, 255],
            &[53, 0, 82, 4, 1, 200, 1, 1, 12, 3, 0xff, 0xfe, 0xfd, 255],
        ] {
            packets.push([&good[..240], options].concat());
        }
        packets.push(vec![0xff; 1472]);
        for packet in &packets {
            for destination in ["255.255.255.255:67", "10.77.0.1:67"] {
                // Broadcast leaves by the bridge, where the server listens.
                socket.send_to(packet, destination).unwrap();
            }
        }
        wait_until(
            "malformed packets on the timeline",
            Duration::from_secs(20),
            || {
                let entries = scene.world.api.boot_log("").unwrap();
                match entries.iter().any(|entry| {
                    entry.stage() == BootStage::Dhcp && entry.detail.contains("with 255 B, only Ethernet")
                }) {
                    true => Look::Done(()),
                    false => Look::not_yet(qemu_tests::lab::artifacts::boot_log_text(&entries)),
                }
            },
        )
        .unwrap();
        still_serves(scene);
    });
}

#[test]
fn absurd_tftp_requests_do_not_stop_the_server() {
    scene(|scene| {
        let request = |words: &[&str]| {
            let mut packet = vec![0, 1];
            for word in words {
                packet.extend(word.bytes().chain([0]));
            }
            packet
        };
        let absurd = [
            "undionly.kpxe",
            "octet",
            "blksize",
            "65464",
            "windowsize",
            "65535",
        ];
        for packet in [
            request(&absurd),
            request(&absurd),
            request(&["../../../../etc/passwd", "octet"]),
            request(&["/etc/passwd", "octet"]),
            request(&[
                "undionly.kpxe",
                "octet",
                "blksize",
                "0",
                "timeout",
                "0",
                "tsize",
                "-1",
            ]),
            request(&["undionly.kpxe"]),
            vec![0, 1],
            vec![0, 9, 1],
            vec![],
        ] {
            let socket = UdpSocket::bind((Network::SERVER, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.send_to(&packet, (Network::SERVER, 69)).unwrap();
            // The same request again, as a machine sends whose first answer was lost.
            socket.send_to(&packet, (Network::SERVER, 69)).unwrap();
            let mut answer = vec![0; 65536];
            let length = socket.recv(&mut answer).unwrap_or(0);
            let text = String::from_utf8_lossy(&answer[..length]);
            assert!(
                !text.contains("root:"),
                "a file outside the boot directory was sent"
            );
        }
        still_serves(scene);
    });
}

/// The server answers TFTP, HTTP and a machine's DHCP.
fn still_serves(scene: &mut Scene) {
    assert!(scene.world.server.is_running(), "the server is gone");
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    let socket = UdpSocket::bind((Network::SERVER, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
        .send_to(b"\0\x01undionly.kpxe\0octet\0", (Network::SERVER, 69))
        .unwrap();
    let mut block = [0; 600];
    assert_eq!(
        socket.recv(&mut block).unwrap(),
        516,
        "the first block of a file over TFTP"
    );

    let mut machine = scene.machine(1, 64 << 20);
    machine.power_on().unwrap();
    wait_until("a DHCP answer to the machine", Duration::from_secs(60), || {
        let entries = scene.world.api.boot_log(machine.mac()).unwrap();
        let mut answered = entries
            .iter()
            .filter(|entry| entry.stage() == BootStage::Dhcp && entry.outcome() == BootOutcome::Answered);
        match answered.any(|entry| entry.what.contains("REQUEST")) {
            true => Look::Done(()),
            false => Look::not_yet(format!("{} entries", entries.len())),
        }
    })
    .unwrap();
}

fn get(path: &str) -> String {
    let mut stream = TcpStream::connect(Server::HTTP).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        Server::HTTP
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Attaches as another agent would, and gives how that was refused.
fn attach(mac: &str, token: &str) -> tonic::Status {
    let hello = Hello {
        mac: mac.to_owned(),
        boot_id: uuid::Uuid::new_v4().to_string(),
        boot_token: token.to_owned(),
        agent_version: "impostor".to_owned(),
        ..Default::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = AgentServiceClient::connect(format!("http://{}", Server::GRPC))
            .await
            .unwrap();
        let message = AgentMessage {
            kind: Some(agent_message::Kind::Hello(hello)),
        };
        // The stream stays open: it must be the server that ends it.
        let messages = tokio_stream::StreamExt::chain(tokio_stream::once(message), tokio_stream::pending());
        match client.attach(messages).await {
            Err(status) => status,
            Ok(response) => response
                .into_inner()
                .message()
                .await
                .expect_err("the impostor was welcomed"),
        }
    })
}

/// A DISCOVER as a PXE client sends it (RFC 2131 figure 1, RFC 4578).
fn discover() -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x77, 0, 0x0b]);
    packet.extend([99, 130, 83, 99, 53, 1, 1, 93, 2, 0, 0, 94, 3, 1, 2, 1]);
    packet.extend([60, 9]);
    packet.extend(b"PXEClient");
    packet.push(255);
    packet
}

/// Whether a capture (pcap, Ethernet) has an IPv4 UDP packet from this port.
fn udp_from_port(pcap: &[u8], port: u16) -> bool {
    let mut rest = pcap.get(24..).unwrap_or_default();
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let Some(frame) = rest.get(16..16 + length) else {
            return false;
        };
        let is_udp = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17);
        if is_udp && frame.get(34..36) == Some(&port.to_be_bytes()) {
            return true;
        }
        rest = &rest[16 + length..];
    }
    false
}
