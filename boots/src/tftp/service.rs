//! The TFTP listener: takes requests, bounds what they cost, starts transfers.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use macaddr::MacAddr6;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::name::{Wanted, wanted};
use super::packet::{self, ErrorCode, Packet, ParseError, Request};
use super::sender::{self, Ended, Report, Source};
use super::terms::Terms;
use super::transfer::End;
use crate::bootfile;
use crate::context::{Context, Told};
use crate::files::{self, Opened};
use crate::overlays::Asked;
use crate::scripts;
use crate::timeline::Stage;
use crate::udp::{Received, UdpSocket};

/// Transfers that one address may have at a time: firmware has one, a relay's NAT some.
const MAX_PER_CLIENT: usize = 16;
/// Transfers at a time. Each costs a socket, and a window of at most 94 kB while it is sent.
const MAX_TRANSFERS: usize = 4096;
/// A request repeated within this time of the client's last sign of life is a duplicate; later it is a new try.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(3);

/// Serves until `shutdown` is cancelled.
pub(crate) async fn serve(
    socket: UdpSocket,
    boot_dir: PathBuf,
    context: Arc<Context>,
    shutdown: CancellationToken,
) {
    let service = Arc::new(Service {
        boot_dir,
        context,
        active: Mutex::default(),
        shutdown,
    });
    let transfers = TaskTracker::new();
    let mut buffer = [0; 1500];
    loop {
        let received = tokio::select! {
            () = service.shutdown.cancelled() => break,
            received = socket.recv(&mut buffer) => received,
        };
        match received {
            Ok(received) => {
                let datagram = buffer.get(..received.len_bytes).unwrap_or_default();
                let taken = AssertUnwindSafe(|| service.clone().take(received, datagram, &transfers));
                if catch_unwind(taken).is_err() {
                    let told =
                        Told::failed("not answered: handling it panicked, which is a defect of Farrier");
                    service.context.record(Stage::Tftp, None, "packet", told);
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "tftp: receiving failed");
                // Not to spin should the error stay.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    transfers.close();
    transfers.wait().await;
}

struct Service {
    boot_dir: PathBuf,
    context: Arc<Context>,
    active: Mutex<HashMap<SocketAddrV4, Active>>,
    shutdown: CancellationToken,
}

struct Active {
    request: u64,
    heard: Instant,
    stop: CancellationToken,
}

/// What admission says to a request.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Admitted,
    Duplicate,
    Full(&'static str),
}

impl Service {
    /// Takes one datagram; whatever is wrong with it concerns its sender only.
    fn take(self: Arc<Self>, received: Received, datagram: &[u8], transfers: &TaskTracker) {
        let client = received.from;
        let mac = self.context.owner(IpAddr::V4(*client.ip()));
        let request = match packet::parse(datagram) {
            Ok(Packet::Read(request)) => request,
            Ok(Packet::Write(request)) => {
                let told = Told::refused("this server is for reading only");
                self.context
                    .record(Stage::Tftp, mac, format!("WRQ {}", shown(&request.file)), told);
                let refusal = sender::refuse(
                    received.local,
                    client,
                    ErrorCode::AccessViolation,
                    "this server is for reading only",
                );
                transfers.spawn(refusal);
                return;
            }
            Ok(other) => {
                let told = Told::ignored(format!("belongs to no transfer, from {client}"));
                return self.context.record(Stage::Tftp, mac, name_of(&other), told);
            }
            // Whoever asks and hears nothing asks on for minutes.
            Err(error @ ParseError::NoFile) => {
                let told = Told::refused(format!("{error}, from {client}"));
                self.context.record(Stage::Tftp, mac, "malformed packet", told);
                let code = ErrorCode::IllegalOperation;
                transfers.spawn(sender::refuse(
                    received.local,
                    client,
                    code,
                    "the request names no file",
                ));
                return;
            }
            Err(error) => {
                let told = Told::ignored(format!("{error}, from {client}"));
                return self.context.record(Stage::Tftp, mac, "malformed packet", told);
            }
        };
        let stop = self.shutdown.child_token();
        match self.admit(client, datagram, &stop) {
            Admission::Admitted => {
                transfers.spawn(async move {
                    let _leave = Leave {
                        service: &self,
                        client,
                        stop: &stop,
                    };
                    self.answer(received, &request, mac, &stop).await;
                });
            }
            Admission::Duplicate => {
                let told = Told::ignored("the same request again; its transfer is under way");
                self.context.record(Stage::Tftp, mac, describe(&request), told);
            }
            // Silence: the client asks again by itself, an ERROR would end its boot.
            Admission::Full(why) => {
                self.context
                    .record(Stage::Tftp, mac, describe(&request), Told::ignored(why));
            }
        }
    }

    fn admit(&self, client: SocketAddrV4, datagram: &[u8], stop: &CancellationToken) -> Admission {
        let mut hasher = DefaultHasher::new();
        datagram.hash(&mut hasher);
        let request = hasher.finish();
        let mut active = self.active();
        if let Some(known) = active.get(&client) {
            if known.request == request && known.heard.elapsed() < DUPLICATE_WINDOW {
                return Admission::Duplicate;
            }
            // Some ROMs use one port for everything: the client has given up what it asked for before.
            known.stop.cancel();
        } else if active.len() >= MAX_TRANSFERS {
            return Admission::Full("too many transfers at once; it will ask again");
        } else if active.keys().filter(|other| other.ip() == client.ip()).count() >= MAX_PER_CLIENT {
            return Admission::Full("too many transfers of this address at once; it will ask again");
        }
        active.insert(
            client,
            Active {
                request,
                heard: Instant::now(),
                stop: stop.clone(),
            },
        );
        Admission::Admitted
    }

    async fn answer(
        &self,
        received: Received,
        request: &Request,
        mac: Option<MacAddr6>,
        stop: &CancellationToken,
    ) {
        let client = received.from;
        let what = describe(request);
        let found = if request.mode == "mail" {
            Err(Refusal::new(
                ErrorCode::NotDefined,
                "mode mail is not served; ask for octet",
            ))
        } else {
            self.find(&request.file, *client.ip()).await
        };
        let (source, why, of) = match found {
            Ok(found) => found,
            Err(Refusal {
                code,
                message,
                detail,
            }) => {
                sender::refuse(received.local, client, code, message).await;
                let told = match code {
                    ErrorCode::AccessViolation => Told::refused(detail),
                    _ => Told::failed(detail),
                };
                return self.context.record(Stage::Tftp, mac, what, told);
            }
        };
        let mac = of.or(mac);
        let socket = match sender::open_port(received.local, client).await {
            Ok(socket) => socket,
            Err(error) => {
                let told = Told::failed(format!("no port for the transfer: {error}"));
                return self.context.record(Stage::Tftp, mac, what, told);
            }
        };
        let terms = Terms::negotiate(request, source.size_bytes());
        let heard = || {
            if let Some(known) = self.active().get_mut(&client)
                && !stop.is_cancelled()
            {
                known.heard = Instant::now();
            }
        };
        let report = sender::send(&socket, &source, terms.clone(), stop, heard).await;
        let told = tell(&report, &source, &terms, &why, &request.mode);
        self.context.record(Stage::Tftp, mac, what, told);
    }

    /// The content behind a name, what to say about it, and whose it is.
    async fn find(&self, file: &str, from: Ipv4Addr) -> Result<(Source, String, Option<MacAddr6>), Refusal> {
        match wanted(file) {
            Wanted::Loader(name) => {
                let root = self.boot_dir.clone();
                let opened = tokio::task::spawn_blocking(move || files::open_below(&root, name)).await;
                let Opened { file, fingerprint } =
                    opened.map_err(io::Error::other).flatten().map_err(|error| {
                        let directory = self.boot_dir.display();
                        let detail = format!(
                            "{name} of the boot image directory {directory} cannot be read: {error}; `farrier image build \
                             --boot-dir {directory}` makes it"
                        );
                        Refusal {
                            detail,
                            ..Refusal::new(ErrorCode::FileNotFound, "file not found")
                        }
                    })?;
                let size_bytes = fingerprint.size_bytes;
                Ok((
                    Source::File {
                        file: Arc::new(file),
                        size_bytes,
                    },
                    String::new(),
                    None,
                ))
            }
            Wanted::Script(mac) => match self
                .context
                .script(mac, IpAddr::V4(from), Stage::Tftp, Asked::Anew)
                .await
            {
                Ok(made) => Ok((Source::Bytes(made.text.into_bytes().into()), made.why, Some(mac))),
                Err(refusal) => Err(Refusal {
                    detail: refusal.to_string(),
                    ..Refusal::new(ErrorCode::AccessViolation, "this script is not for you")
                }),
            },
            Wanted::AutoExec => Ok((
                Source::Bytes(scripts::AUTOEXEC.as_bytes().into()),
                scripts::AUTOEXEC_WHY.to_owned(),
                None,
            )),
            Wanted::Unknown => Err(Refusal {
                detail: format!("no such file; there are {}", bootfile::LOADERS.join(", ")),
                ..Refusal::new(ErrorCode::FileNotFound, "file not found")
            }),
            Wanted::Climbing => Err(Refusal::new(
                ErrorCode::AccessViolation,
                "a name must not contain `..`",
            )),
        }
    }

    fn active(&self) -> MutexGuard<'_, HashMap<SocketAddrV4, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room when a transfer's task ends, however it ends.
struct Leave<'a> {
    service: &'a Service,
    client: SocketAddrV4,
    stop: &'a CancellationToken,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut active = self.service.active();
        // A cancelled transfer's place has been taken by the client's next request.
        if !self.stop.is_cancelled() {
            active.remove(&self.client);
        }
    }
}

struct Refusal {
    code: ErrorCode,
    message: &'static str,
    detail: String,
}

impl Refusal {
    fn new(code: ErrorCode, message: &'static str) -> Self {
        Self {
            code,
            message,
            detail: message.to_owned(),
        }
    }
}

fn tell(report: &Report, source: &Source, terms: &Terms, why: &str, mode: &str) -> Told {
    let size = source.size_bytes();
    let sent = report.acknowledged_bytes;
    let broke_off = |reason: &str| Told::failed(format!("stopped after {sent} of {size} bytes: {reason}"));
    let told = match &report.ended {
        Ended::Protocol(End::Complete) => {
            let mut detail = format!("sent, {} B blocks, window {}", terms.block_bytes, terms.window);
            if !why.is_empty() {
                detail = format!("{detail}; {why}");
            }
            if mode != "octet" {
                detail = format!("{detail}; odd: mode {}, taken for octet", shown(mode));
            }
            Told::answered(detail)
        }
        Ended::Protocol(End::SizeOnly) => Told::answered(format!("told the size, {size} bytes")),
        Ended::Protocol(End::Aborted { code, message }) => {
            broke_off(&format!("the client says: error {code} {message}"))
        }
        Ended::Protocol(End::Silent) => broke_off("the client went silent"),
        Ended::Protocol(End::TooSlow) => broke_off("too slow"),
        Ended::ClientGone => broke_off("the client closed its port"),
        Ended::Unreadable(error) => broke_off(&format!("the file cannot be read: {error}")),
        Ended::Superseded => broke_off("the client asked anew, or the server stops"),
    };
    told.bytes(sent)
}

fn describe(request: &Request) -> String {
    let mut text = format!("RRQ {}", shown(&request.file));
    for (name, value) in request.options.iter().take(6) {
        text = format!("{text} {}={}", shown(name), shown(value));
    }
    text
}

/// A client's words, fit for a log line.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(120)
        .collect()
}

fn name_of(packet: &Packet) -> &'static str {
    match packet {
        Packet::Ack(_) => "ACK",
        Packet::Data => "DATA",
        Packet::Error { .. } => "ERROR",
        Packet::Oack => "OACK",
        Packet::Read(_) => "RRQ",
        Packet::Write(_) => "WRQ",
    }
}
