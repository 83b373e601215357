//! The HTTP service on loopback, against reqwest.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::symlink;
use std::sync::{Arc, Once};

use boots::Running;
use boots::inventory::NextBoot;
use reqwest::{Client, Method, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use world::{MAC, STRANGER, Stop, World, disk, machine, start};

const MACHINE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

struct Lab {
    world: Arc<World>,
    running: Running,
    boot: TempDir,
    images: TempDir,
    image: Vec<u8>,
    _stop: Stop,
}

impl Lab {
    async fn new() -> Self {
        let boot = tempfile::tempdir().unwrap();
        for name in [
            "vmlinuz",
            "initramfs.img",
            "snponly.efi",
            "undionly.kpxe",
            "local-boot.efi",
        ] {
            std::fs::write(boot.path().join(name), format!("content of {name}")).unwrap();
        }
        let images = tempfile::tempdir().unwrap();
        let image: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::create_dir(images.path().join("debian")).unwrap();
        std::fs::write(images.path().join("debian/disk.img"), &image).unwrap();
        std::fs::write(images.path().join("empty"), "").unwrap();
        let world = World::with(machine(MACHINE));
        let (running, stop) = start(&world, boot.path(), Some(images.path())).await;
        Self {
            world,
            running,
            boot,
            images,
            image,
            _stop: stop,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.running.http.port())
    }

    async fn get(&self, from: Ipv4Addr, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        self.request(Method::GET, from, path, headers).await
    }

    async fn request(
        &self,
        method: Method,
        from: Ipv4Addr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::Response {
        let mut request = client(from).request(method, self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

fn client(from: Ipv4Addr) -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder()
        .local_address(IpAddr::V4(from))
        .no_proxy()
        .build()
        .unwrap()
}

fn header(response: &reqwest::Response, name: &str) -> String {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_files_whole_and_in_parts() {
    let lab = Lab::new().await;
    let path = "/images/debian/disk.img";
    let whole = lab.get(MACHINE, path, &[]).await;
    assert_eq!(whole.status(), StatusCode::OK);
    assert_eq!(header(&whole, "content-length"), "3000000");
    assert_eq!(header(&whole, "accept-ranges"), "bytes");
    let etag = header(&whole, "etag");
    assert_eq!(etag.len(), 66, "a quoted SHA-256: {etag}");
    assert_eq!(whole.bytes().await.unwrap(), lab.image);

    let part = lab
        .get(MACHINE, path, &[("range", "bytes=1000000-"), ("if-range", &etag)])
        .await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(&part, "content-range"), "bytes 1000000-2999999/3000000");
    assert_eq!(header(&part, "content-length"), "2000000");
    assert_eq!(part.bytes().await.unwrap(), lab.image[1_000_000..]);

    let changed = lab
        .get(
            MACHINE,
            path,
            &[("range", "bytes=5-9"), ("if-range", "\"other\"")],
        )
        .await;
    assert_eq!(changed.status(), StatusCode::OK);

    let beyond = lab.get(MACHINE, path, &[("range", "bytes=3000000-")]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&beyond, "content-range"), "bytes */3000000");

    let same = lab.get(MACHINE, path, &[("if-none-match", &etag)]).await;
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);

    let head = lab
        .request(Method::HEAD, MACHINE, path, &[("range", "bytes=0-1")])
        .await;
    assert_eq!(
        (head.status(), header(&head, "content-length")),
        (StatusCode::OK, "3000000".into())
    );
    assert_eq!(header(&head, "etag"), etag);

    let empty = lab.get(MACHINE, "/images/empty", &[]).await;
    assert_eq!(
        (empty.status(), header(&empty, "content-length")),
        (StatusCode::OK, "0".into())
    );

    let post = lab.request(Method::POST, MACHINE, path, &[]).await;
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    lab.world
        .heard(&["GET /images/debian/disk.img | 200 | 3000000 B | Answered"])
        .await;
    lab.world
        .heard(&["206 bytes 1000000-2999999/3000000 | 2000000 B"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_etag_is_the_same_after_a_restart() {
    let lab = Lab::new().await;
    let etag = header(&lab.get(MACHINE, "/images/debian/disk.img", &[]).await, "etag");
    let (again, _stop) = start(&lab.world, lab.boot.path(), Some(lab.images.path())).await;
    let url = format!("http://127.0.0.1:{}/images/debian/disk.img", again.http.port());
    let response = client(MACHINE).get(url).send().await.unwrap();
    assert_eq!(header(&response, "etag"), etag);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_up_before_the_server_is_no_stranger() {
    let lab = Lab::new().await;
    lab.get(MACHINE, "/images/empty", &[]).await;
    let mac = mac::mac_text(MAC);
    let heard = lab.world.heard(&["GET /images/empty | 200"]).await;
    assert!(heard.contains(&mac), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_the_boot_directory_and_loaders() {
    let lab = Lab::new().await;
    for path in [
        "/boot/vmlinuz",
        "/boot/initramfs.img",
        "/ipxe/binary/snponly.efi",
        "/ipxe/binary/52:54:00:77:00:0b/local-boot.efi",
    ] {
        let response = lab.get(MACHINE, path, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(response.text().await.unwrap(), format!("content of {name}"));
    }
    for path in ["/ipxe/binary/snponly.efi%FF", "/ipxe/binary/snponly.efia%11"] {
        let response = lab.get(MACHINE, path, &[]).await;
        assert_eq!(response.text().await.unwrap(), "content of snponly.efi", "{path}");
    }
    let script = lab.get(MACHINE, "/ipxe/binary/autoexec.ipxe", &[]).await;
    assert_eq!(script.text().await.unwrap(), "#!ipxe\nautoboot\n");
    assert_eq!(
        lab.get(MACHINE, "/ipxe/binary/vmlinuz", &[]).await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(lab.get(MACHINE, "/readyz", &[]).await.status(), StatusCode::OK);
    std::fs::remove_file(lab.boot.path().join("vmlinuz")).unwrap();
    let unready = lab.get(MACHINE, "/readyz", &[]).await;
    assert_eq!(unready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(unready.text().await.unwrap().contains("no vmlinuz"));
    std::fs::write(lab.boot.path().join("vmlinuz"), "again").unwrap();
    *lab.world.unready.lock().unwrap() = Some("no room in the store".into());
    let unready = lab.get(MACHINE, "/readyz", &[]).await;
    assert_eq!(unready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(unready.text().await.unwrap(), "no room in the store\n");
    *lab.world.unready.lock().unwrap() = None;
    assert_eq!(lab.get(MACHINE, "/readyz", &[]).await.status(), StatusCode::OK);
    assert_eq!(lab.get(MACHINE, "/healthz", &[]).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_directories_is_served() {
    let lab = Lab::new().await;
    symlink("/etc/passwd", lab.images.path().join("link")).unwrap();
    symlink("debian/disk.img", lab.images.path().join("inside")).unwrap();
    assert_eq!(
        lab.get(MACHINE, "/images/inside", &[]).await.status(),
        StatusCode::OK
    );
    // A raw connection: reqwest would tidy these paths up.
    for path in [
        "/images/link",
        "/images/../../etc/passwd",
        "/images/%2e%2e/%2e%2e/etc/passwd",
        "/images/..%2f..%2fetc%2fpasswd",
        "/images//etc/passwd",
        "/images/%2fetc%2fpasswd",
        "/images/debian",
        "/images/debian/",
        "/images/a%00b",
        "/boot/../../../etc/passwd",
        "/boot/%2e%2e/passwd",
        "/ipxe/binary/../../etc/passwd",
        "/etc/passwd",
    ] {
        let mut stream = tokio::net::TcpStream::connect(lab.running.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_says_its_card_and_is_sent_what_drives_it() {
    let lab = Lab::new().await;
    let path = format!("/ipxe/script/{}/auto.ipxe", mac::mac_text(MAC));
    let list =
        "farrier overlays 1\noverlay intel-1g\noverlay realtek\ncard 1af4:*\ncard 8086:10d3 intel-1g\n";
    std::fs::write(lab.boot.path().join("overlays.list"), list).unwrap();
    let script = async |query: &str| {
        let answer = lab.get(MACHINE, &format!("{path}{query}"), &[]).await;
        assert_eq!(answer.status(), StatusCode::OK, "{query}");
        answer.text().await.unwrap()
    };
    let first = script("").await;
    assert!(
        first.contains("auto.ipxe?card=${netX/busid} ||") && !first.contains("vmlinuz"),
        "{first}"
    );
    for (query, archives) in [
        ("?card=01:80:86:10:d3", 2),
        ("?card=01%3A80%3A86%3A10%3Ad3", 2),
        ("?card=01:1a:f4:10:00", 1),
        ("?card=01:12:34:56:78", 1),
        ("?card=", 3),
    ] {
        let script = script(query).await;
        assert_eq!(
            script.matches("initrd --name ").count(),
            archives,
            "{query}: {script}"
        );
        assert_eq!(
            script.contains("drivers-intel-1g.img"),
            archives > 1,
            "{query}: {script}"
        );
    }
    // A machine with a bond gets what makes it, too.
    let with_bond = boots::inventory::Machine {
        kernel_params: vec!["quiet bond=bond0::mode=802.3ad".into()],
        ..machine(MACHINE)
    };
    std::fs::write(
        lab.boot.path().join("overlays.list"),
        list.replace("overlay realtek\n", "overlay realtek\noverlay bonding\n"),
    )
    .unwrap();
    lab.world.put(with_bond);
    for (query, want) in [
        (
            "?card=01:80:86:10:d3",
            &["drivers-intel-1g.img", "drivers-bonding.img"][..],
        ),
        ("?card=01:1a:f4:10:00", &["drivers-bonding.img"]),
    ] {
        let script = script(query).await;
        let fetched = script.matches("initrd --name drivers-").count();
        assert!(
            fetched == want.len() && want.iter().all(|name| script.contains(name)),
            "{query}: {script}"
        );
    }
    lab.world
        .heard(&[
            "drivers | no driver of the boot image names the network card 1234:5678",
            "Note",
        ])
        .await;
    lab.world
        .heard(&["network card 8086:10d3, driver overlay intel-1g", "Answered"])
        .await;
    std::fs::write(lab.boot.path().join("overlays.list"), "rubbish").unwrap();
    let answer = lab.get(MACHINE, &path, &[]).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    lab.world
        .heard(&["500: overlays.list of the boot image in", "line 1", "Failed"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_for_its_machine_only() {
    let lab = Lab::new().await;
    let path = format!("/ipxe/script/{}/auto.ipxe", mac::mac_text(MAC));
    let first = lab.get(MACHINE, &path, &[]).await;
    assert_eq!(first.status(), StatusCode::OK);
    assert!(!header(&first, "content-length").is_empty());
    let script = first.text().await.unwrap();
    assert!(
        script.starts_with("#!ipxe\n") && script.contains("farrier.token=token-of-"),
        "{script}"
    );
    let port = lab.running.http.port();
    assert!(
        script.contains(&format!("farrier.http=http://127.0.0.1:{port} ")),
        "{script}"
    );
    let again = lab.get(MACHINE, &path, &[]).await.text().await.unwrap();
    assert_eq!(again, script, "a retry gets the same token");
    lab.world
        .heard(&["boot | its boot was not seen to begin", "Note"])
        .await;

    let other = lab.get(Ipv4Addr::new(127, 0, 0, 9), &path, &[]).await;
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    assert!(!other.text().await.unwrap().contains("token"));
    lab.world
        .heard(&[
            "403: asked for node1's script from 127.0.0.9, whose address is 127.0.0.11",
            "Refused",
        ])
        .await;

    let stranger = format!("/ipxe/script/{STRANGER}/auto.ipxe");
    assert_eq!(
        lab.get(MACHINE, &stranger, &[]).await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        lab.get(MACHINE, "/ipxe/script/x/auto.ipxe", &[]).await.status(),
        StatusCode::BAD_REQUEST
    );

    let mut known = machine(MACHINE);
    known.next = disk();
    lab.world.put(known.clone());
    let script = lab.get(MACHINE, &path, &[]).await.text().await.unwrap();
    assert!(
        script.contains("sanboot --no-describe --drive 0x80") && !script.contains("token"),
        "{script}"
    );
    known.next = NextBoot::Nothing {
        reason: "policy".into(),
    };
    lab.world.put(known.clone());
    assert_eq!(lab.get(MACHINE, &path, &[]).await.status(), StatusCode::NOT_FOUND);
    known.next = world::agent();
    let lease = known.lease.take();
    lab.world.put(known.clone());
    let without = lab.get(MACHINE, &path, &[]).await;
    assert_eq!(without.status(), StatusCode::SERVICE_UNAVAILABLE);
    lab.world
        .heard(&[
            "503: machine \"node1\" has no address for this interface: give it one",
            "Failed",
        ])
        .await;
    known.lease = lease;
    known.kernel_params = vec!["a\nshell".into()];
    lab.world.put(known);
    assert_eq!(
        lab.get(MACHINE, &path, &[]).await.status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
    lab.world
        .heard(&["kernel parameter \"a\\nshell\" contains a line break", "Failed"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_is_told_with_its_bytes() {
    let lab = Lab::new().await;
    let big = vec![7; 64 << 20];
    std::fs::write(lab.images.path().join("big"), &big).unwrap();
    let mut stream = tokio::net::TcpStream::connect(lab.running.http).await.unwrap();
    stream
        .write_all(b"GET /images/big HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut some = [0; 100_000];
    stream.read_exact(&mut some).await.unwrap();
    drop(stream);
    lab.world
        .heard(&["GET /images/big", "stopped after", "of 67108864 bytes", "Failed"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_and_the_services_stop() {
    let boot = tempfile::tempdir().unwrap();
    let world = World::with(machine(MACHINE));
    let mut config = boots::BootsConfig::new("lo", Ipv4Addr::LOCALHOST, boot.path());
    (config.http_port, config.tftp_port, config.dhcp, config.ra) = (0, 0, boots::DhcpMode::Off, false);
    let stop = tokio_util::sync::CancellationToken::new();
    let running = boots::Boots::start(config, world.clone(), world.clone(), stop.clone())
        .await
        .unwrap();
    let url = format!("http://127.0.0.1:{}", running.http.port());
    let nothing = client(MACHINE)
        .get(format!("{url}/nothing"))
        .send()
        .await
        .unwrap();
    assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
    world.heard(&["GET /nothing | 404: no such path"]).await;
    stop.cancel();
    running.done.await.unwrap();
    assert!(client(MACHINE).get(url).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_the_start_is_said() {
    let boot = tempfile::tempdir().unwrap();
    let world = World::with(machine(MACHINE));
    let config = || {
        let mut config = boots::BootsConfig::new("lo", Ipv4Addr::LOCALHOST, boot.path());
        (config.http_port, config.tftp_port, config.dhcp, config.ra) = (0, 0, boots::DhcpMode::Off, false);
        config
    };
    let fails = async |config| {
        let stop = tokio_util::sync::CancellationToken::new();
        boots::Boots::start(config, world.clone(), world.clone(), stop)
            .await
            .unwrap_err()
            .to_string()
    };
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = fails(boots::BootsConfig {
        http_port: port,
        ..config()
    })
    .await;
    assert!(
        error.starts_with(&format!("http port {port} is in use on 0.0.0.0:{port}: stop")),
        "{error}"
    );
    let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = fails(boots::BootsConfig {
        tftp_port: port,
        ..config()
    })
    .await;
    assert!(
        error.starts_with(&format!("tftp port {port} is in use")),
        "{error}"
    );
    let error = fails(boots::BootsConfig {
        interface: "no0".into(),
        dhcp: boots::DhcpMode::Reservations { port: 0 },
        ..config()
    })
    .await;
    assert!(error.starts_with("interface no0 does not exist"), "{error}");
    let error = fails(boots::BootsConfig {
        boot_dir: "/proc/version".into(),
        ..config()
    })
    .await;
    assert!(
        error.starts_with("boot image directory /proc/version cannot be read"),
        "{error}"
    );
    let error = fails(boots::BootsConfig {
        address: Ipv4Addr::new(10, 9, 9, 9),
        dhcp: boots::DhcpMode::Reservations { port: 0 },
        ..config()
    })
    .await;
    assert!(
        error.starts_with("interface lo does not have the address 10.9.9.9, it has 127.0.0.1/8"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_are_made_later_are_served_and_missed_in_words_until_then() {
    let place = tempfile::tempdir().unwrap();
    let (boot, images) = (place.path().join("boot"), place.path().join("images"));
    let world = World::with(machine(MACHINE));
    let (running, _stop) = start(&world, &boot, Some(&images)).await;
    let [boot_note, images_note] = running.notes.as_slice() else {
        panic!("{:?}", running.notes)
    };
    for words in [
        "does not exist",
        "vmlinuz, initramfs.img",
        "`farrier image build --boot-dir ",
    ] {
        assert!(boot_note.contains(words), "{boot_note}");
    }
    assert!(images_note.contains("mkdir"), "{images_note}");

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| {
        let url = format!("http://{}{path}", running.http);
        let response = client.get(url).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    };
    assert_eq!(get("/images/debian.raw").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get("/boot/vmlinuz").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    world
        .heard(&["GET /boot/vmlinuz", "farrier image build", "Failed"])
        .await;

    for directory in [&boot, &images] {
        std::fs::create_dir(directory).unwrap();
    }
    std::fs::write(boot.join("vmlinuz"), "kernel").unwrap();
    std::fs::write(boot.join("initramfs.img"), "initramfs").unwrap();
    std::fs::write(images.join("debian.raw"), "image").unwrap();
    assert_eq!(get("/images/debian.raw").await, (StatusCode::OK, "image".into()));
    assert_eq!(get("/boot/vmlinuz").await, (StatusCode::OK, "kernel".into()));
    assert_eq!(get("/readyz").await.0, StatusCode::OK);

    // Another directory under the same name, and its files.
    std::fs::rename(&images, place.path().join("old")).unwrap();
    std::fs::create_dir(&images).unwrap();
    std::fs::write(images.join("debian.raw"), "other").unwrap();
    assert_eq!(get("/images/debian.raw").await, (StatusCode::OK, "other".into()));
}
