//! Servers for the tests of the command line: `farrier serve` as a process, and a control plane in the test's own process.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use access::{Authority, PinnedChannel, Token};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::v1::control_service_client::ControlServiceClient;
use server::{Config, ControlPlane, Listeners};
use store::StoreHandle;
use tokio::net::TcpListener;

const WITHIN: Duration = Duration::from_secs(20);

/// A token of no server: for servers that are none.
pub(crate) const NOBODYS: &str = "farrier1-aaaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The tokens of the servers in this process, by their addresses.
static TOKENS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// `farrier serve` on loopback; it is killed when the test ends, however it ends.
pub(crate) struct Serve {
    pub(crate) child: Child,
    pub(crate) data: PathBuf,
    /// Where agents find it.
    pub(crate) grpc: String,
    /// Where people do.
    pub(crate) api: String,
    /// What it has said.
    pub(crate) ready: String,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// The command that starts a server which keeps all in `data`, on ports of the kernel's choice.
pub(crate) fn serve(data: &Path) -> Command {
    serve_on(data, "0", "127.0.0.1:0")
}

fn serve_on(data: &Path, grpc_port: &str, api_listen: &str) -> Command {
    let boot = data.join("boot");
    std::fs::create_dir_all(&boot).unwrap();
    // What the netboot services look for; nothing is booted here.
    for file in [
        "vmlinuz",
        "initramfs.img",
        "snponly.efi",
        "undionly.kpxe",
        "local-boot.efi",
    ] {
        std::fs::write(boot.join(file), file).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command
        .args(["serve", "--interface", "lo", "--address", "127.0.0.1"])
        .args(["--listen", "127.0.0.1", "--no-dhcp", "--no-ra"])
        .args(["--http-port", "0", "--tftp-port", "0"])
        .args(["--grpc-port", grpc_port, "--api-listen", api_listen, "--data-dir"])
        .arg(data)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Serve {
    /// Starts it, and waits until it says that it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::started(serve(data), data)
    }

    pub(crate) fn started(mut command: Command, data: &Path) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut before = String::new();
        let ready = loop {
            let Some(line) = lines.next() else {
                panic!("ended before it was ready: {before}")
            };
            let line = line.unwrap();
            if line.starts_with("farrier: ready ") {
                break line;
            }
            before += &line;
            before.push('\n');
        };
        let said = Arc::new(Mutex::new(before));
        let reader = std::thread::spawn({
            let said = said.clone();
            // Its pipe must not fill up.
            move || {
                for line in lines.map_while(Result::ok) {
                    let mut said = said.lock().unwrap();
                    *said += &line;
                    said.push('\n');
                }
            }
        });
        let word = |name: &str| {
            let mut words = ready.split(' ');
            words.find_map(|word| word.strip_prefix(name)).unwrap().to_owned()
        };
        Self {
            child,
            data: data.to_owned(),
            grpc: word("grpc="),
            api: word("api="),
            ready,
            said,
            reader: Some(reader),
        }
    }

    /// Waits for its end, and starts it on the same ports.
    pub(crate) fn again(mut self) -> Self {
        self.child.wait().unwrap();
        let port = self.grpc.rsplit(':').next().unwrap().to_owned();
        let (data, api) = (self.data.clone(), self.api.clone());
        Self::started(serve_on(&data, &port, &api), &data)
    }

    /// A command that asks it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
        command
            .args(args)
            .env_clear()
            .env("FARRIER_SERVER", &self.api)
            // The token that it made itself lies there.
            .env("FARRIER_DATA_DIR", &self.data)
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What a command prints; it must succeed.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn token(&self) -> Token {
        let text = std::fs::read_to_string(self.data.join("admin.token")).unwrap();
        text.parse().unwrap()
    }

    /// For calls without the command line; on a runtime.
    pub(crate) fn control(&self) -> ControlServiceClient<PinnedChannel> {
        ControlServiceClient::new(access::channel(&self.api, &self.token(), None).unwrap())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Waits until so many have a connection to it (proc(5), /proc/net/tcp: state 01 is ESTABLISHED).
    pub(crate) fn has_clients(&self, count: usize) {
        let port: u16 = self.api.rsplit(':').next().unwrap().parse().unwrap();
        let to = format!(" 0100007F:{port:04X} 01 ");
        let deadline = Instant::now() + WITHIN;
        loop {
            let there = std::fs::read_to_string("/proc/net/tcp")
                .unwrap()
                .matches(&to)
                .count();
            if there >= count {
                return;
            }
            assert!(Instant::now() < deadline, "{there} of {count} are there");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal that ends it, and waits for that.
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(self.pid(), signal).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Its exit code (`None` after a signal that it did not take) and what it said.
    pub(crate) fn signal(mut self, signal: Signal) -> (Option<i32>, String) {
        let code = self.end(signal);
        self.reader.take().unwrap().join().unwrap();
        let said = self.said.lock().unwrap().clone();
        (code, said)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A control plane that is served by this process until it ends.
#[derive(Clone)]
pub(crate) struct InProcess {
    pub(crate) control: ControlPlane,
    /// Where agents find it.
    pub(crate) grpc: SocketAddr,
    /// Where people do.
    pub(crate) api: String,
    /// May do everything.
    pub(crate) token: Token,
}

impl InProcess {
    pub(crate) async fn start(store: StoreHandle, config: Config) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let authority = Authority::open(&dir.path().join("authority.pem")).unwrap();
        let config = Config {
            authority: authority.pin(),
            ..config
        };
        let control = ControlPlane::open(store, config).await.unwrap();
        let token = control.first_token().await.unwrap().unwrap();
        control.keep_first_token(&token).await.unwrap();
        let listeners = Listeners {
            agents: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            people: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            identity: authority.identity().unwrap(),
        };
        let grpc = listeners.agents.local_addr().unwrap();
        let api = listeners.people.local_addr().unwrap().to_string();
        TOKENS.lock().unwrap().insert(api.clone(), token.to_string());
        let serving = control.clone();
        tokio::spawn(async move { serving.serve(listeners, std::future::pending()).await });
        Self {
            control,
            grpc,
            api,
            token,
        }
    }
}

/// A command that asks a server in this process, or at an address that has none; with pipes.
pub(crate) fn command(server: &str, args: &[&str]) -> Command {
    let tokens = TOKENS.lock().unwrap();
    let token = tokens.get(server).map_or(NOBODYS, String::as_str);
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrier"));
    command
        .args(args)
        .env_clear()
        .env("FARRIER_SERVER", server)
        .env("FARRIER_TOKEN", token)
        .env("TZ", "UTC")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn farrier(server: &str, args: &[&str]) -> Output {
    command(server, args).output().unwrap()
}
