//! The TFTP service on loopback, against an independent client (`tftpd`) and hand-made packets.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use boots::Running;
use tempfile::TempDir;
use tftpd::{Client, ClientConfig};
use world::{MAC, Stop, World, machine, start};

const MACHINE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

struct Lab {
    world: Arc<World>,
    running: Running,
    _boot: TempDir,
    loader: Vec<u8>,
    _stop: Stop,
}

impl Lab {
    async fn new(size: usize) -> Self {
        let boot = tempfile::tempdir().unwrap();
        let loader: Vec<u8> = (0..size).map(|i| (i / 3 % 253) as u8).collect();
        std::fs::write(boot.path().join("snponly.efi"), &loader).unwrap();
        std::fs::write(boot.path().join("secret.txt"), "secret").unwrap();
        let world = World::with(machine(MACHINE));
        let (running, stop) = start(&world, boot.path(), None).await;
        Self {
            world,
            running,
            _boot: boot,
            loader,
            _stop: stop,
        }
    }

    fn at(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.running.tftp.port()))
    }
}

/// A client with hand-made packets, from the machine's address.
struct Hand {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Hand {
    fn new(from: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self {
            socket,
            buffer: vec![0; 70_000],
        }
    }

    fn send(&self, to: SocketAddr, packet: &[u8]) {
        self.socket.send_to(packet, to).unwrap();
    }

    fn receive(&mut self) -> (Vec<u8>, SocketAddr) {
        let (len, from) = self.socket.recv_from(&mut self.buffer).unwrap();
        (self.buffer[..len].to_vec(), from)
    }

    fn is_silent(&mut self, for_ms: u64) -> bool {
        self.socket
            .set_read_timeout(Some(Duration::from_millis(for_ms)))
            .unwrap();
        let silent = self.socket.recv_from(&mut self.buffer).is_err();
        self.socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        silent
    }

    /// Reads a file without options; returns it or the ERROR packet.
    fn read(&mut self, to: SocketAddr, name: &str) -> Result<Vec<u8>, (u8, String)> {
        self.send(to, &[b"\0\x01", name.as_bytes(), b"\0octet\0"].concat());
        let mut content = Vec::new();
        loop {
            let (packet, from) = self.receive();
            if packet[1] == 5 {
                return Err((
                    packet[3],
                    String::from_utf8_lossy(&packet[4..packet.len() - 1]).into_owned(),
                ));
            }
            content.extend(&packet[4..]);
            self.send(from, &[0, 4, packet[2], packet[3]]);
            if packet.len() < 516 {
                return Ok(content);
            }
        }
    }
}

fn independent_client(port: u16, into: &Path, options: &[&str]) -> Result<bool, String> {
    let port = port.to_string();
    let into = into.to_str().unwrap();
    let fixed = ["-i", "127.0.0.1", "-p", &port, "-rd", into, "-q"];
    let arguments = fixed
        .iter()
        .chain(options)
        .chain(&["snponly.efi"])
        .map(|word| (*word).to_owned());
    let config = ClientConfig::new(arguments).map_err(|error| error.to_string())?;
    let mut client = Client::new(&config).map_err(|error| error.to_string())?;
    client.run().map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_client_gets_the_file_with_any_options() {
    let lab = Lab::new(1_000_000).await;
    let port = lab.running.tftp.port();
    for options in [
        &["-b", "512"][..],
        &["-b", "1024", "-w", "1"],
        &["-b", "1468", "-w", "8"],
        &["-b", "1428", "-w", "64"],
        &["-b", "65464", "-w", "16"],
        &["-b", "1468", "-w", "65535"],
        &["-b", "8", "-w", "32"],
    ] {
        let into = tempfile::tempdir().unwrap();
        let at = into.path().to_owned();
        let done = tokio::task::spawn_blocking(move || independent_client(port, &at, options))
            .await
            .unwrap();
        assert_eq!(done, Ok(true), "{options:?}");
        assert!(
            std::fs::read(into.path().join("snponly.efi")).unwrap() == lab.loader,
            "{options:?}"
        );
    }
    lab.world
        .heard(&[
            "RRQ snponly.efi",
            "sent, 1468 B blocks, window 64",
            "1000000 B",
            "Answered",
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_the_file_where_it_is_installed() {
    let lab = Lab::new(300_000).await;
    let into = tempfile::tempdir().unwrap();
    let file = into.path().join("loader");
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--tftp-blksize", "1400", "--output"])
        .arg(&file);
    curl.arg(format!("tftp://{}/52:54:00:77:00:0b/snponly.efi", lab.at()));
    // A curl without TFTP, or none, is no peer.
    let Ok(output) = tokio::task::spawn_blocking(move || curl.output()).await.unwrap() else {
        return;
    };
    if output.status.code() == Some(1) {
        return;
    }
    assert!(output.status.success(), "{output:?}");
    assert!(std::fs::read(file).unwrap() == lab.loader);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_boot_loaders_are_served() {
    let lab = Lab::new(700).await;
    let (at, loader) = (lab.at(), lab.loader.clone());
    tokio::task::spawn_blocking(move || {
        let mut hand = Hand::new(MACHINE);
        assert_eq!(hand.read(at, "a/b/snponly.efi"), Ok(loader));
        for name in ["secret.txt", "/etc/passwd", "vmlinuz", "undionly.kpxe", "x"] {
            assert_eq!(hand.read(at, name), Err((1, "file not found".into())), "{name}");
        }
        for name in [
            "../snponly.efi",
            "../../etc/passwd",
            "a/../snponly.efi",
            "..\\snponly.efi",
        ] {
            assert_eq!(
                hand.read(at, name),
                Err((2, "a name must not contain `..`".into())),
                "{name}"
            );
        }
        hand.send(at, b"\0\x02snponly.efi\0octet\0");
        assert_eq!(hand.receive().0[..4], [0, 5, 0, 2]);
    })
    .await
    .unwrap();
    lab.world
        .heard(&[
            "RRQ /etc/passwd",
            "no such file; there are undionly.kpxe",
            "Failed",
        ])
        .await;
    lab.world
        .heard(&["WRQ snponly.efi", "for reading only", "Refused"])
        .await;
    lab.world
        .heard(&["undionly.kpxe of the boot image directory", "farrier image build"])
        .await;
}

/// iPXE asks for it before it waits for two seconds whether somebody presses Ctrl-B.
#[tokio::test(flavor = "multi_thread")]
async fn ipxe_is_told_to_boot_at_once() {
    let lab = Lab::new(700).await;
    let at = lab.at();
    tokio::task::spawn_blocking(move || {
        let mut hand = Hand::new(MACHINE);
        for name in ["autoexec.ipxe", "/x/autoexec.ipxe"] {
            assert_eq!(hand.read(at, name), Ok(b"#!ipxe\nautoboot\n".to_vec()), "{name}");
        }
    })
    .await
    .unwrap();
    lab.world
        .heard(&["RRQ autoexec.ipxe", "does not wait for Ctrl-B", "Answered"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firmware_that_pads_or_reads_too_much_gets_its_loader() {
    let lab = Lab::new(1_300).await;
    let (at, loader) = (lab.at(), lab.loader.clone());
    tokio::task::spawn_blocking(move || {
        let padded = |packet: &[u8]| [packet, &vec![0; 512 - packet.len()]].concat();
        for name in [
            &b"snponly.efi"[..],
            b"snponly.efi\xff",
            b"snponly.efia\x11",
            b"//SNPONLY.EFI",
        ] {
            let mut hand = Hand::new(MACHINE);
            let request = [b"\0\x01", name, b"\0octet\0tsize\0\x30\0blksize\0\x31024\0"].concat();
            hand.send(at, &padded(&request));
            let (oack, from) = hand.receive();
            assert_eq!(
                oack,
                b"\0\x06tsize\0\x31300\0blksize\0\x31024\0",
                "{}",
                name.escape_ascii()
            );
            hand.send(from, &padded(&[0, 4, 0, 0]));
            let mut content = Vec::<u8>::new();
            for block in [1, 2] {
                let (packet, from) = hand.receive();
                assert_eq!(packet[..4], [0, 3, 0, block]);
                content.extend(&packet[4..]);
                hand.send(from, &padded(&[0, 4, 0, block]));
            }
            assert_eq!(content, loader);
        }
        let mut hand = Hand::new(MACHINE);
        hand.send(at, b"\0\x01\0octet\0");
        assert_eq!(hand.receive().0[..4], [0, 5, 0, 4], "not silence");
    })
    .await
    .unwrap();
    lab.world.heard(&["1300 B", "1024 B blocks", "Answered"]).await;
    lab.world
        .heard(&["malformed packet", "request names no file", "Refused"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_are_for_their_machine_only() {
    let lab = Lab::new(700).await;
    let at = lab.at();
    tokio::task::spawn_blocking(move || {
        let name = format!("{MAC}/auto.ipxe");
        let script = String::from_utf8(Hand::new(MACHINE).read(at, &name).unwrap()).unwrap();
        assert!(
            script.starts_with("#!ipxe\n") && script.contains("farrier.token="),
            "{script}"
        );
        let refused = Hand::new(Ipv4Addr::new(127, 0, 0, 9)).read(at, &name);
        assert_eq!(refused, Err((2, "this script is not for you".into())));
    })
    .await
    .unwrap();
    lab.world
        .heard(&[
            "asked for node1's script from 127.0.0.9, whose address is 127.0.0.11",
            "Refused",
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_starts_no_second_transfer() {
    let lab = Lab::new(5_000).await;
    let at = lab.at();
    tokio::task::spawn_blocking(move || {
        let mut hand = Hand::new(MACHINE);
        let request = b"\0\x01snponly.efi\0octet\0tsize\0\x30\0timeout\0\x31\x30\x30\0";
        hand.send(at, request);
        hand.send(at, request);
        hand.send(at, request);
        let (oack, from) = hand.receive();
        assert_eq!(oack, b"\0\x06tsize\0\x35000\0timeout\0\x31\x30\x30\0");
        assert!(hand.is_silent(300), "one transfer, and its timeout is 100 s");
        // Another request from the same port replaces it.
        hand.send(
            at,
            b"\0\x01snponly.efi\0octet\0blksize\0\x31000\0timeout\0\x31\x30\x30\0",
        );
        let (oack, anew) = hand.receive();
        assert_eq!(oack, b"\0\x06blksize\0\x31000\0timeout\0\x31\x30\x30\0");
        assert_ne!(from, anew);
        hand.send(anew, b"\0\x05\0\x00never mind\0");
    })
    .await
    .unwrap();
    lab.world
        .heard(&["RRQ snponly.efi tsize=0", "the same request again", "Ignored"])
        .await;
    lab.world
        .heard(&["stopped after 0 of 5000 bytes: the client asked anew"])
        .await;
    lab.world
        .heard(&[
            "stopped after 0 of 5000 bytes: the client says: error 0 never mind",
            "Failed",
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_requests_cost_nothing_and_stop_nothing() {
    let lab = Lab::new(8 << 20).await;
    let (at, loader) = (lab.at(), lab.loader.clone());
    let before_kb = memory_kb();
    tokio::task::spawn_blocking(move || {
        let mut greedy: Vec<Hand> = (0..4).map(|_| Hand::new(MACHINE)).collect();
        for hand in &mut greedy {
            hand.send(
                at,
                b"\0\x01snponly.efi\0octet\0blksize\0\x36\x35464\0windowsize\0\x36\x35\x35\x33\x35\0",
            );
            let (oack, from) = hand.receive();
            assert_eq!(oack, b"\0\x06blksize\0\x31468\0windowsize\0\x36\x34\0");
            hand.send(from, &[0, 4, 0, 0]);
            assert_eq!(hand.receive().0.len(), 1472);
        }
        let hand = Hand::new(MACHINE);
        for garbage in [
            &b""[..],
            b"\0",
            b"\0\x01",
            b"\0\x01\0\0\0",
            b"\xff\xff\xff",
            &[0; 1400],
            &[0xff; 1400],
            b"\0\x04\0\0",
            b"\0\x03\0\x01data",
        ] {
            hand.send(at, garbage);
        }
        hand.send(at, &[&b"\0\x01"[..], &b"a/".repeat(600), b"\0octet\0"].concat());
        assert_eq!(
            Hand::new(MACHINE)
                .read(at, "snponly.efi")
                .map(|content| content == loader),
            Ok(true)
        );
    })
    .await
    .unwrap();
    let grown_kb = memory_kb().saturating_sub(before_kb);
    assert!(grown_kb < 64_000, "grew by {grown_kb} kB");
    lab.world
        .heard(&["malformed packet", "opcode 65535 is not one of TFTP's", "Ignored"])
        .await;
    lab.world.heard(&["DATA | belongs to no transfer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_transfers_and_others_are_served() {
    let lab = Lab::new(1 << 20).await;
    let (at, loader) = (lab.at(), lab.loader.clone());
    let (held, third_party) = tokio::task::spawn_blocking(move || {
        let mut held = Vec::new();
        for _ in 0..16 {
            let mut hand = Hand::new(MACHINE);
            hand.send(at, b"\0\x01snponly.efi\0octet\0");
            // The first block, which is not acknowledged.
            assert_eq!(hand.receive().0.len(), 516);
            held.push(hand);
        }
        let mut beyond = Hand::new(MACHINE);
        beyond.send(at, b"\0\x01snponly.efi\0octet\0");
        assert!(beyond.is_silent(500), "a 17th transfer of one address");
        let other = Hand::new(Ipv4Addr::new(127, 0, 0, 12)).read(at, "snponly.efi");
        (held, other.map(|content| content == loader))
    })
    .await
    .unwrap();
    assert_eq!(third_party, Ok(true));
    lab.world
        .heard(&[
            "RRQ snponly.efi",
            "too many transfers of this address at once",
            "Ignored",
        ])
        .await;
    drop(held);
}

fn memory_kb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
