//! PID 1: mounts, loads drivers, waits for the boot NIC, keeps one worker running, reaps, reboots.
//!
//! Single-threaded and without a runtime: a PID 1 that reaps everything would steal the children of an async
//! runtime. The worker is the same binary run again; it says by its exit code when the machine shall leave.

mod events;
mod mounts;
mod watchdog;

use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::boot_secret;
use crate::cmdline::{BootParameters, Cmdline};
use crate::console::{printable, say, stage};
use crate::last_words::{self, Words};
use crate::modules::Modules;
use crate::net::nic::{self, Nic};
use crate::screen::panel::Panel;
use crate::screen::{self, Doing, Trouble};
use events::Events;
pub(crate) use events::{listen as listen_for_devices, modalias_of};
use watchdog::Watchdog;

/// The worker's exit codes that speak to PID 1; every other end is a crash, and it is started again.
pub const EXIT_REBOOT: u8 = 70;
pub const EXIT_POWEROFF: u8 = 71;
pub const EXIT_KEXEC: u8 = 72;

/// How long PID 1 waits silently for the boot NIC before it says what it is missing.
const NIC_PATIENCE: Duration = Duration::from_secs(10);
const NIC_POLL: Duration = Duration::from_millis(20);
/// Runs as PID 1; never returns but by rebooting.
pub fn run() -> ExitCode {
    let mount_problems = mounts::mount_all();
    crate::console::open_all();
    // The firmware's last words may stand in this line.
    crate::console::blank_line();
    stage("agent-start", &[]);
    let mut panel = Panel::open(&crate::console::active());
    if let Some(panel) = &panel {
        panel.show();
    }
    screen::change(|state| {
        let words = ["sys_vendor", "product_name"].map(|name| dmi(name).unwrap_or_default());
        state.product = printable(words.join(" ").trim());
        state.serial = printable(&dmi("product_serial").unwrap_or_default());
    });
    draw(&mut panel);
    let parameters = BootParameters::from_cmdline(&Cmdline::of_this_boot());
    say(&format!(
        "farrier-agent {} on {} {}",
        env!("CARGO_PKG_VERSION"),
        dmi("sys_vendor").unwrap_or_default(),
        dmi("product_name").unwrap_or_default(),
    ));
    for problem in mount_problems.iter().chain(&parameters.warnings) {
        say(problem);
    }
    serve_kernel_module_requests();

    let mut events = Events::open();
    let mut modules = Modules::of_running_kernel();
    let loaded = modules.load_for_boot(|| nic::find_boot_nic(&parameters).is_some());
    stage("modules", &[("loaded", &loaded.to_string())]);

    let mut watchdog = Watchdog::open();
    let nic = wait_for_nic(&parameters, &mut events, &mut modules, &mut watchdog, &mut panel);
    screen::change(|state| {
        state.mac = nic.mac_text();
        state.trouble = None;
        state.doing = Doing::Starting;
    });
    stage(
        "nic",
        &[
            ("name", &nic.name),
            ("mac", &nic.mac_text()),
            ("driver", &nic.driver),
        ],
    );
    say(&format!(
        "farrier-agent {}: boot NIC {} {} {}",
        env!("CARGO_PKG_VERSION"),
        nic.name,
        nic.mac_text(),
        nic.driver
    ));

    let mut worker = Worker::new();
    worker.start();
    mounts::mount_efivarfs();
    // No device asks for these.
    modules.load("pstore");
    modules.load("efi_pstore");
    mounts::mount_pstore();
    for problem in modules.problems.drain(..) {
        say(&problem);
    }
    loop {
        if let Some(how) = reap(&mut worker) {
            leave(how);
        }
        worker.start_if_due();
        watchdog.feed();
        if worker.pid.is_none() {
            draw(&mut panel);
        }
        if let Some(words) = &worker.words {
            words.keep_short();
        }
        // From here on modules are loaded by the worker.
        let _ = events.wait(Duration::from_millis(500));
    }
}

/// Lets the kernel load what has no device (file systems, character sets, ciphers, protocols) when it needs it.
///
/// It runs this binary instead of /sbin/modprobe; nothing is loaded in advance, which would only cost boot time.
fn serve_kernel_module_requests() {
    if let Ok(own) = std::env::current_exe() {
        let _ = std::fs::write("/proc/sys/kernel/modprobe", own.as_os_str().as_encoded_bytes());
    }
}

fn wait_for_nic(
    parameters: &BootParameters,
    events: &mut Events,
    modules: &mut Modules,
    watchdog: &mut Watchdog,
    panel: &mut Option<Panel>,
) -> Nic {
    let mut complain_at = Instant::now() + NIC_PATIENCE;
    loop {
        if let Some(nic) = nic::find_boot_nic(parameters) {
            return nic;
        }
        for modalias in events.wait(NIC_POLL) {
            modules.load_for(&modalias);
        }
        watchdog.feed();
        draw(panel);
        if Instant::now() >= complain_at {
            complain_at += NIC_PATIENCE;
            modules.load_for_devices();
            let missing = nic::describe_missing(parameters);
            say(&missing);
            screen::change(|state| {
                state.doing = Doing::WaitsFor("the network card that it booted from".to_owned());
                let cure = "look whether the boot image has its driver: farrier image build --profile server";
                state.trouble = Some(Trouble::new(missing, cure));
            });
            for problem in modules.problems.drain(..) {
                say(&problem);
            }
        }
    }
}

/// The one worker: its process, and when it is started again.
struct Worker {
    pid: Option<Pid>,
    started: Instant,
    start_at: Option<Instant>,
    backoff: Duration,
    /// What makes this boot itself ([`boot_secret`]); `None` where the kernel would not give the place.
    secret: Option<OwnedFd>,
    /// Its standard error; `None` where the kernel would not give the place.
    words: Option<Words>,
    /// How the one before it died; empty: there was none.
    died: String,
}

impl Worker {
    const FIRST_BACKOFF: Duration = Duration::from_millis(200);
    const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

    fn new() -> Worker {
        Worker {
            pid: None,
            started: Instant::now(),
            start_at: None,
            backoff: Worker::FIRST_BACKOFF,
            secret: boot_secret::place().ok(),
            words: Words::place().ok(),
            died: String::new(),
        }
    }

    fn start(&mut self) {
        self.started = Instant::now();
        self.start_at = None;
        let own = std::env::current_exe().unwrap_or_else(|_| "/init".into());
        let secret = self.secret.as_ref().and_then(|secret| secret.try_clone().ok());
        let words = self.words.as_ref().and_then(|words| words.end().ok());
        match Command::new(own)
            .arg("worker")
            .args(Some(&self.died).filter(|died| !died.is_empty()))
            .stdin(secret.map_or_else(Stdio::null, Stdio::from))
            .stderr(words.map_or_else(Stdio::inherit, Stdio::from))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .spawn()
        {
            Ok(child) => self.pid = i32::try_from(child.id()).ok().map(Pid::from_raw),
            Err(e) => {
                say(&format!("the worker did not start: {e}"));
                self.start_later();
            }
        }
    }

    fn start_if_due(&mut self) {
        if self.start_at.is_some_and(|at| Instant::now() >= at) {
            self.start();
        }
    }

    fn start_later(&mut self) {
        if self.started.elapsed() > Duration::from_secs(60) {
            self.backoff = Worker::FIRST_BACKOFF;
        }
        self.pid = None;
        self.start_at = Some(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(Worker::LONGEST_BACKOFF);
    }
}

/// Collects every dead child; returns how to leave when the worker asked for that.
fn reap(worker: &mut Worker) -> Option<RebootMode> {
    loop {
        let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Err(Errno::EINTR) => continue,
            Err(e) => {
                say(&format!("waiting for children failed: {e}"));
                return None;
            }
            Ok(status) => status,
        };
        if status.pid().is_none() || status.pid() != worker.pid {
            continue;
        }
        let how = match status {
            WaitStatus::Exited(_, code) if code == i32::from(EXIT_REBOOT) => {
                return Some(RebootMode::RB_AUTOBOOT);
            }
            WaitStatus::Exited(_, code) if code == i32::from(EXIT_KEXEC) => {
                return Some(RebootMode::RB_KEXEC);
            }
            WaitStatus::Exited(_, code) if code == i32::from(EXIT_POWEROFF) => {
                return Some(RebootMode::RB_POWER_OFF);
            }
            WaitStatus::Exited(_, code) => format!("exited with code {code}"),
            WaitStatus::Signaled(_, signal, _) => format!("was killed by {signal}"),
            _ => continue,
        };
        worker.start_later();
        let words = worker.words.as_ref().map(Words::take).unwrap_or_default();
        worker.died = last_words::account(&how, &words);
        let problem = format!("{}; it is started again", worker.died);
        say(&problem);
        screen::change(|state| {
            let cure = "nothing, unless it happens again and again: then keep these lines, and tell Farrier's makers";
            state.trouble = Some(Trouble::new(problem, cure));
        });
    }
}

/// PID 1 has the screen while there is no worker to draw.
fn draw(panel: &mut Option<Panel>) {
    if let Some(panel) = panel {
        panel.draw_changes(Duration::ZERO);
    }
}

fn leave(how: RebootMode) -> ! {
    nix::unistd::sync();
    let Err(e) = reboot(how);
    say(&format!("the kernel refused to leave: {e}"));
    if how == RebootMode::RB_KEXEC {
        say("the machine reboots instead");
        let Err(e) = reboot(RebootMode::RB_AUTOBOOT);
        say(&format!("the kernel refused to leave: {e}"));
    }
    // The kernel answers an exit of PID 1 with a panic, and reboots after panic=10.
    panic!("PID 1 could not reboot");
}

fn dmi(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/sys/class/dmi/id/{name}")).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}
