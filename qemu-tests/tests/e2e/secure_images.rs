//! Images over https, by a machine whose clock is years off: with an authority of the site's own, and without it. And
//! through the proxy that the machine's record names.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use std::time::Duration;

use qemu_tests::lab::machine::Blueprint;
use qemu_tests::lab::network::Network;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::scene::{scene, write_image};

const PORT: u16 = 8443;
const PROXY_PORT: u16 = 3128;
const WITHIN: Duration = Duration::from_secs(180);

#[test]
fn an_image_comes_over_https_only_from_a_server_that_somebody_vouches_for() {
    scene(|scene| {
        let authority = authority();
        let asked = serve(&authority);
        let proxied = proxy();
        let mut machine = scene
            .world
            .machine(
                Blueprint::numbered(1)
                    .memory_mib(512)
                    .disk(64 << 20)
                    .qemu(&["-rtc", "base=2003-04-05"]),
            )
            .unwrap();
        let record = format!(
            "machine: m1\nmac: {}\naddress: {}/24\ndisks: [/dev/vda]\nkernel_params: [\"HTTP_PROXY=http://{}:{PROXY_PORT}\", \
             \"NO_PROXY=nothing.example.com\", tinkerbell_tls=true]\n",
            machine.mac(),
            machine.address(),
            Network::SERVER,
        );
        scene.world.api.apply_machines(&record, "record").unwrap();
        let url = format!("https://{}:{PORT}/a.raw", Network::SERVER);
        // A text of several lines in a template, and in between a variable that this action does not know.
        let pem: String = authority
            .pem()
            .lines()
            .map(|line| format!("            {line}\n"))
            .collect();
        let trusted = format!(
            "{}          TEXT_LOGGING: \"true\"\n          CA_CERTIFICATES: |\n{pem}",
            write_image(&url, "/dev/vda", &[])
        );
        let through_proxy =
            write_image("http://images.example.com/a.raw", "/dev/vda", &[]).replace("write-image", "proxied");
        let untrusted = write_image(&url, "/dev/vda", &[]).replace("write-image", "untrusted");
        let workflow = scene.workflow(&machine, &[trusted, through_proxy, untrusted]);
        machine.power_on().unwrap();
        let failed = scene
            .world
            .api
            .wait_for_workflow(&workflow.id, "FAILED", WITHIN)
            .unwrap();
        let logs: Vec<String> = scene
            .world
            .api
            .logs(&workflow.id)
            .unwrap()
            .into_iter()
            .map(|line| line.text)
            .collect();
        let actions = &failed.tasks[0].actions;
        let states: Vec<&str> = actions.iter().map(|action| action.state.as_str()).collect();
        assert_eq!(states, ["SUCCESS", "SUCCESS", "FAILED"], "{actions:?} {logs:?}");
        assert_eq!(actions[2].reason, "UntrustedServer");
        let host = format!("{}:{PORT}", Network::SERVER);
        assert!(
            actions[2].message.contains(&host) && actions[2].message.contains("issuer that is not known"),
            "{}",
            actions[2].message
        );
        assert!(
            logs.iter()
                .any(|line| line.contains("without effect") && line.contains("TEXT_LOGGING")),
            "{logs:?}"
        );
        assert!(proxied.load(Ordering::Relaxed) > 0, "the proxy was passed by");
        let told = machine.serial().text();
        assert!(told.contains("clock set from the server"), "{told}");
        assert!(
            told.contains("tinkerbell_tls") && told.contains("no effect"),
            "{told}"
        );
        // Twice for the one that may (the digest beside it, and itself), once for the other.
        assert_eq!(asked.load(Ordering::Relaxed), 3, "it is not tried again");
    });
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A small image at any path but that of its digest; counts connections.
fn serve(authority: &CertifiedIssuer<'static, KeyPair>) -> Arc<AtomicU32> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![Network::SERVER.to_string()]).unwrap();
    // From a year ago on: the machine's own clock would say that it is not valid yet.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2999, 1, 1);
    let certificate = params.signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    accept(PORT, move |stream| {
        let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        answer(&mut tls);
        tls.conn.send_close_notify();
        let _ = tls.flush();
    })
}

/// A proxy that has everything itself; counts connections.
fn proxy() -> Arc<AtomicU32> {
    accept(PROXY_PORT, |mut stream| answer(&mut stream))
}

fn accept(port: u16, serve: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> Arc<AtomicU32> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let (counted, serve) = (Arc::clone(&count), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    count
}

fn answer(stream: &mut (impl Read + Write)) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.extend(byte),
            _ => return,
        }
    }
    let missing = String::from_utf8_lossy(&head).contains(".sha256");
    let mut image = vec![0x5a_u8; 1 << 20];
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (status, body) = if missing {
        ("404 Not Found", &[][..])
    } else {
        ("200 OK", &image[..])
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body))
        .and_then(|()| stream.flush());
}
