//! What downloads that nobody reads cost. Alone in its file: the memory is the process's.
#![allow(clippy::unwrap_used)]

mod world;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use world::{World, machine, start};

const READERS: usize = 400;
const IMAGE_BYTES: u64 = 64 << 20;

fn ask(from: u8, to: SocketAddr, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: farrier\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    stream
}

/// Of the whole process, without what the kernel holds for its sockets.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_read_nothing_cost_little_and_others_are_served() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).unwrap();
    let (boot, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = std::fs::File::create(images.path().join("disk.img")).unwrap();
    image.set_len(IMAGE_BYTES).unwrap();
    std::fs::write(images.path().join("small"), "small").unwrap();
    let world = World::with(machine(Ipv4Addr::new(127, 0, 0, 11)));
    let (running, _stop) = start(&world, boot.path(), Some(images.path())).await;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, running.http.port()));
    // The digest is computed once, and the first one waits for it.
    let whole = move || {
        let mut stream = ask(9, to, "/images/disk.img");
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    };
    assert!(tokio::task::spawn_blocking(whole).await.unwrap() > IMAGE_BYTES);
    let before = memory_bytes();
    let readers = tokio::task::spawn_blocking(move || {
        let readers = (0..READERS).map(|number| {
            let stream = ask(2 + u8::try_from(number % 4).unwrap(), to, "/images/disk.img");
            // It has begun when it is answered.
            assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
            stream
        });
        readers.collect::<Vec<_>>()
    });
    let readers = readers.await.unwrap();
    let mut most = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        most = most.max(memory_bytes().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{READERS} readers: {} KiB", most / 1024);
    assert!(
        most < 80 << 20,
        "{} MiB for {READERS} readers that read nothing",
        most >> 20
    );
    let small = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        ask(7, to, "/images/small").read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(small.await.unwrap().ends_with("\r\n\r\nsmall"));
    drop(readers);
}
