//! The drivers of what this machine has, beyond those that it needs to reach its server: loaded when the worker is attached, and kept as
//! hardware comes. What this boot's archives have not is fetched.
//!
//! One task of the worker's. PID 1 has loaded what the boot NIC needs; from then on modules are this task's, and those that the kernel asks
//! for by name ([`serve_kernel_request`]).

use std::collections::HashSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cmdline::{BootParameters, Cmdline};
use crate::console::{say, stage};
use crate::memory::Memory;
use crate::modules::fetched::{Places, Store};
use crate::modules::{Modules, modaliases};
use crate::needed::spawn_needed;
use crate::runtime::on_runtime;
use crate::supervisor::{listen_for_devices, modalias_of};

/// Where nothing tells of new devices they are looked for.
const POLL: Duration = Duration::from_secs(2);
/// A loaded driver may bring devices that ask for others: a bus, its controller, what hangs on it.
const MOST_ROUNDS: usize = 16;
/// A list that could not be had is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Whether drivers are being looked for; actions that need a disk wait until they are not.
static BUSY: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// The hardware of a netbooted machine.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// `farrier.http`: where modules are fetched from.
    http: Option<String>,
}

impl Hardware {
    /// Of a machine whose boot server is there.
    pub(crate) fn served_by(http: Option<String>) -> Hardware {
        Hardware { http }
    }

    /// Begins to load what the devices ask for, and goes on as long as the worker runs.
    pub(crate) fn begin(self) {
        BUSY.send_replace(true);
        spawn_needed(async move { Drivers::new(self.http).await.keep().await });
    }
}

/// Waits until whatever devices there are have their drivers. At once where nobody looks for any.
pub(crate) async fn is_settled() {
    let mut busy = BUSY.subscribe();
    // The sender is never dropped.
    let _ = busy.wait_for(|busy| !*busy).await;
}

struct Drivers {
    http: Option<String>,
    here: Modules,
    store: Option<Store>,
    /// Modaliases that were looked up, here and in the store.
    seen: HashSet<String>,
    fetched: Vec<String>,
}

impl Drivers {
    async fn new(http: Option<String>) -> Drivers {
        let here = tokio::task::spawn_blocking(Modules::of_running_kernel).await;
        let mut here = here.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
        // PID 1 has said them.
        here.problems.clear();
        Drivers {
            http,
            here,
            store: None,
            seen: HashSet::new(),
            fetched: Vec::new(),
        }
    }

    async fn keep(mut self) {
        // Before the first look: whatever comes meanwhile is told.
        let events = listen_for_devices().ok().and_then(registered);
        self.open_store().await;
        self.look().await;
        let (loaded, fetched) = (self.here.loaded().to_string(), self.fetched.len().to_string());
        // All that the machine needs before an action is in its memory by now.
        let memory = Memory::now();
        let (total, available) = (memory.total_kib.to_string(), memory.available_kib.to_string());
        let fields = [
            ("loaded", loaded.as_str()),
            ("fetched", &fetched),
            ("total_kib", &total),
            ("available_kib", &available),
        ];
        stage("drivers", &fields);
        BUSY.send_replace(false);
        loop {
            self.wait(events.as_ref()).await;
        }
    }

    async fn open_store(&mut self) {
        let Some(seal) = self.here.fetched().cloned() else {
            return;
        };
        let Some(http) = self.http.clone() else {
            say("the kernel command line has no farrier.http=URL: no driver is fetched");
            return;
        };
        match Store::open(&http, &seal, Places::default()).await {
            Ok(store) => {
                self.store = Some(store);
                self.seen.clear();
            }
            Err(problem) => say(&format!("no driver is fetched: {problem}")),
        }
    }

    /// Loads for every device, again until none is new.
    async fn look(&mut self) {
        let before = self.fetched.len();
        for _round in 0..MOST_ROUNDS {
            let found = tokio::task::spawn_blocking(modaliases).await.unwrap_or_default();
            let new: Vec<String> = found.into_iter().filter(|one| !self.seen.contains(one)).collect();
            if new.is_empty() {
                break;
            }
            for modalias in new {
                self.load_for(modalias).await;
            }
        }
        self.say_fetched(before);
    }

    async fn load_for(&mut self, modalias: String) {
        if !self.seen.insert(modalias.clone()) {
            return;
        }
        self.here.load_for_blocking(&modalias).await;
        let Some(store) = &self.store else { return };
        let with_it = companion_of(&modalias).map(str::to_owned);
        for name in store.for_modalias(&modalias).into_iter().chain(with_it) {
            match store.load(&name, &mut self.here).await {
                Ok(names) => self.fetched.extend(names),
                Err(problem) => say(&problem),
            }
        }
        self.say_problems();
    }

    fn say_problems(&mut self) {
        self.here.problems.drain(..).for_each(|problem| say(&problem));
    }

    fn say_fetched(&self, before: usize) {
        let new = self.fetched.get(before..).unwrap_or_default();
        if !new.is_empty() {
            say(&format!("drivers fetched: {}", new.join(" ")));
        }
    }

    async fn wait(&mut self, events: Option<&AsyncFd<OwnedFd>>) {
        let lacks_store = self.store.is_none() && self.http.is_some() && self.here.fetched().is_some();
        let patience = match (events, lacks_store) {
            (None, _) => POLL,
            (Some(_), true) => ASK_AGAIN,
            (Some(_), false) => Duration::from_secs(3600),
        };
        let told = async {
            match events {
                Some(events) => told_by(events).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            told = told => match told {
                Told::Devices(modaliases) => {
                    let before = self.fetched.len();
                    for modalias in modaliases {
                        self.load_for(modalias).await;
                    }
                    self.say_fetched(before);
                }
                Told::Missed => self.look().await,
            },
            () = sleep(patience) => {
                if lacks_store {
                    self.open_store().await;
                }
                self.look().await;
            }
        }
    }
}

/// A module that a device needs beside its driver and that nothing asks for: the kernel drives a management controller by itself, and
/// shows it to nobody.
///
/// Source: Linux Documentation/driver-api/ipmi.rst; aliases of `ipmi_si` and `ipmi_ssif` (SMBIOS type 38, ACPI, PCI class 0c07).
fn companion_of(modalias: &str) -> Option<&'static str> {
    let is_controller = modalias.starts_with("platform:dmi-ipmi-")
        || modalias.starts_with("acpi:IPI0001:")
        || modalias.starts_with("pci:") && modalias.contains("bc0Csc07");
    is_controller.then_some("ipmi_devintf")
}

fn registered(events: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd has one descriptor all its life, and closes it when the AsyncFd is dropped with it.
    unsafe { AsyncFd::register(events) }.ok()
}

enum Told {
    Devices(Vec<String>),
    /// More came than the socket holds.
    Missed,
}

async fn told_by(events: &AsyncFd<OwnedFd>) -> Told {
    loop {
        let Ok(mut ready) = events.readable().await else {
            sleep(POLL).await;
            return Told::Missed;
        };
        let mut found = Vec::new();
        let mut message = [0_u8; 8192];
        loop {
            match recv(events.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                Ok(length) if length > 0 => {
                    found.extend(modalias_of(message.get(..length).unwrap_or_default()))
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => return Told::Missed,
                _ => break,
            }
        }
        ready.clear_ready();
        if !found.is_empty() {
            return Told::Devices(found);
        }
    }
}

/// Answers `/init -q -- NAME`: the kernel asks for a file system, a cipher or a protocol by name.
///
/// What this boot's archives have is loaded at once; the rest is fetched, once the worker has fetched the list of what there is.
pub(crate) fn serve_kernel_request(name: &str) -> ExitCode {
    let mut here = Modules::of_running_kernel();
    here.problems.clear();
    here.load(name);
    let fetched = here.fetched().cloned().filter(|_| here.loaded() == 0);
    let parameters = BootParameters::from_cmdline(&Cmdline::of_this_boot());
    if let Some((seal, http)) = fetched.zip(parameters.http) {
        return on_runtime(async {
            let Some(store) = Store::kept(&http, &seal, Places::default()) else {
                return ExitCode::FAILURE;
            };
            for module in store.for_modalias(name) {
                if store.load(&module, &mut here).await.is_err() {
                    return ExitCode::FAILURE;
                }
            }
            ExitCode::SUCCESS
        });
    }
    if here.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_management_controller_is_shown_beside_being_driven() {
        let controllers = [
            "platform:dmi-ipmi-si",
            "acpi:IPI0001:",
            "pci:v0000103Cd00003302sv0000103Csd00003304bc0Csc07i01",
        ];
        for modalias in controllers {
            assert_eq!(companion_of(modalias), Some("ipmi_devintf"), "{modalias}");
        }
        // USB controllers have the class 0c03.
        for modalias in ["pci:v00008086d0000A36Dsv0sd0bc0Csc03i30", "platform:pcspkr", ""] {
            assert_eq!(companion_of(modalias), None, "{modalias}");
        }
    }
}
