//! A process that has no file descriptor left. Alone in its file: the limit is the process's.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connections::{Bounds, Incoming};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use tokio::net::{TcpListener, TcpSocket};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn cpu_used() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().unsigned_abs())
            + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    seconds(usage.user_time()) + seconds(usage.system_time())
}

#[tokio::test]
async fn a_listener_without_descriptors_pauses_says_so_once_and_goes_on() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let within = Duration::from_secs(20);
    let bounds = Bounds {
        per_peer: 10,
        per_loopback: 10,
        in_all: 10,
        speaks_within: within,
        reads_within: within,
    };
    let mut incoming = Incoming::new("a listener", listener, bounds);
    let client = TcpSocket::new_v4().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let mut taken: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    let _client = client.connect(address).await.unwrap();
    let before = cpu_used();
    let waited = tokio::time::timeout(Duration::from_secs(1), incoming.accept()).await;
    let used = cpu_used() - before;
    assert!(waited.is_err(), "there is no descriptor for it");
    assert!(
        used < Duration::from_millis(300),
        "{used:?} of CPU in 1 s of waiting"
    );
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    for words in ["listener=\"a listener\"", "Too many open files", "LimitNOFILE="] {
        assert!(said.contains(words), "{words}: {said}");
    }
    taken.truncate(taken.len() - 4);
    let accepted = tokio::time::timeout(within, incoming.accept()).await;
    assert!(accepted.is_ok(), "it goes on by itself");
}
