//! `farrier-agent chroot-exec`: the single-threaded process that runs commands of an action, in another root or in the agent's own.
//!
//! Rust code is never forked from the worker, which has threads; this process has one. It reads a [`Spec`] from
//! standard input, takes mount and PID namespaces of its own, and forks: first the namespace's PID 1, which mounts,
//! changes root, runs the commands and reaps; then each command. When the first command chain ends, the kernel
//! ends everything that was started in the namespace, so that nothing keeps the filesystem busy.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, UnlinkatFlags, chdir, chroot, execve, fork, unlinkat};
use serde::{Deserialize, Serialize};

use super::{image_root, read_only};

/// Nobody describes a command with more than this.
const MAX_SPEC_BYTES: u64 = 4 << 20;
/// As shells: it could not be started.
const NOT_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run where.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Spec {
    /// The action's, in front of what is said in its name.
    pub(super) action: String,
    pub(super) world: World,
    pub(super) commands: Vec<Vec<String>>,
    pub(super) environment: BTreeMap<String, String>,
    /// The machine's processes are seen, and may stay (`pid: host`).
    pub(super) host_processes: bool,
    /// Seen as /proc/cmdline, in place of the real one with its token.
    pub(super) cmdline: Option<String>,
    /// Seen as /etc/resolv.conf.
    pub(super) resolv_conf: Option<String>,
    pub(super) shown: Vec<Shown>,
}

/// What the command sees.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum World {
    /// That of the agent, with a filesystem that the worker has mounted there.
    Beside(PathBuf),
    /// A filesystem that the worker has mounted there, as its root.
    Inside(PathBuf),
    /// That of the agent.
    Own,
    /// That of the agent, and it can change nothing of it.
    ReadOnly,
}

/// A folder of the worker's that the command sees somewhere.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Shown {
    pub(super) from: PathBuf,
    /// Absolute, in the command's root; `None`: where it is.
    pub(super) at: Option<PathBuf>,
    pub(super) read_only: bool,
}

/// Runs what standard input describes; the exit code is the commands'.
pub fn serve() -> ExitCode {
    // The worker's death must not leave a command behind that nobody watches.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let said = |by: &str, e: io::Error| {
        eprintln!("{by}: {e}");
        ExitCode::from(NOT_RUN as u8)
    };
    let spec = match read_spec() {
        Ok(spec) => spec,
        Err(e) => return said("chroot-exec", e),
    };
    match run(&spec) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(e) => said(&spec.action, e),
    }
}

fn read_spec() -> io::Result<Spec> {
    let mut text = Vec::new();
    io::stdin().take(MAX_SPEC_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn run(spec: &Spec) -> io::Result<i32> {
    // Asking to end is for the commands: these processes stay to tell how they ended.
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) }?;
    let mut flags = CloneFlags::CLONE_NEWNS;
    if !spec.host_processes {
        flags |= CloneFlags::CLONE_NEWPID;
    }
    unshare(flags).map_err(|e| named("taking namespaces", e))?;
    // SAFETY: this process has one thread, so the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => wait_for(child),
        ForkResult::Child => {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            let code = match set_up(spec).and_then(|()| run_commands(spec)) {
                Ok(code) => code,
                Err(e) => {
                    eprintln!("{}: {e}", spec.action);
                    NOT_RUN
                }
            };
            std::process::exit(code)
        }
    }
}

fn set_up(spec: &Spec) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| named("making mounts private", e))?;
    for shown in spec.shown.iter().filter(|shown| shown.read_only) {
        // Read-only is the mount, not the folder; a bind mount of it is as it is.
        bind(&shown.from, &shown.from, MsFlags::empty())?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &shown.from, none, flags, none).map_err(|e| named("making /workflow read-only", e))?;
    }
    let cmdline = spec.cmdline.as_deref().map(ShownText::make).transpose()?;
    if spec.world == World::ReadOnly {
        let mounting = read_only::Mounting::begin(&spec.shown)?;
        mount_proc(spec, cmdline)?;
        return mounting.finish();
    }
    if let World::Inside(root) = &spec.world {
        image_root::furnish(root, &spec.shown, spec.resolv_conf.as_deref())?;
        // From here on a link leads where the command's own would.
        chroot(root).map_err(|e| named("changing root", e))?;
        chdir("/").map_err(|e| named("changing folder", e))?;
        // The image's /proc is what decides: a fresh one shows the namespace's own processes.
        mount_proc(spec, cmdline)?;
    } else {
        if let World::Beside(mounted) = &spec.world {
            // Where upstream mounts it.
            std::fs::create_dir_all("/mountAction")?;
            bind(mounted, Path::new("/mountAction"), MsFlags::empty())?;
        }
        for (from, at) in spec.shown.iter().filter_map(Shown::elsewhere) {
            std::fs::create_dir_all(at)?;
            bind(from, at, MsFlags::empty())?;
        }
        mount_proc(spec, cmdline)?;
    }
    Ok(())
}

impl Shown {
    pub(super) fn elsewhere(&self) -> Option<(&Path, &Path)> {
        Some((&self.from, self.at.as_deref()?))
    }
}

/// A file with a text that is mounted from when its folder cannot be seen any more.
struct ShownText {
    file: File,
    folder: File,
    name: PathBuf,
}

impl ShownText {
    fn make(text: &str) -> io::Result<ShownText> {
        let path = image_root::temporary(text)?;
        Ok(ShownText {
            file: File::open(&path)?,
            folder: File::open(path.parent().unwrap_or(Path::new("/")))?,
            name: path.file_name().map(PathBuf::from).unwrap_or_default(),
        })
    }

    /// The kernel mounts only files that have a name; afterwards the mount keeps the content.
    fn show(self, over: &Path) -> io::Result<()> {
        let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let bound = bind(Path::new(&from), over, MsFlags::empty());
        let _ = unlinkat(&self.folder, &self.name, UnlinkatFlags::NoRemoveDir);
        bound
    }
}

fn mount_proc(spec: &Spec, cmdline: Option<ShownText>) -> io::Result<()> {
    if !spec.host_processes {
        let none: Option<&str> = None;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
        mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(|e| named("mounting /proc", e))?;
    }
    match cmdline {
        Some(text) => text.show(Path::new("/proc/cmdline")),
        None => Ok(()),
    }
}

pub(super) fn bind(from: &Path, to: &Path, flags: MsFlags) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(Some(from), to, none, MsFlags::MS_BIND | flags, none)
        .map_err(|e| named(&format!("showing {} at {}", from.display(), to.display()), e))
}

/// One after the other, until one fails.
fn run_commands(spec: &Spec) -> io::Result<i32> {
    let mut environment: BTreeMap<&str, &str> =
        BTreeMap::from([("HOME", "/root"), ("PATH", PATH), ("TERM", "dumb")]);
    environment.extend(spec.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let environment: Vec<CString> = environment
        .iter()
        .filter_map(|(key, value)| CString::new(format!("{key}={value}")).ok())
        .collect();
    let path = spec.environment.get("PATH").map_or(PATH, String::as_str);
    for command in &spec.commands {
        // SAFETY: this process has one thread, so the child may run any code.
        let code = match unsafe { fork() }? {
            ForkResult::Parent { child } => wait_for(child)?,
            ForkResult::Child => {
                std::process::exit(become_command(&spec.action, command, path, &environment))
            }
        };
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

/// Returns only when no such program could be started; then the code to exit with.
fn become_command(action: &str, command: &[String], path: &str, environment: &[CString]) -> i32 {
    // SAFETY: the default handlers are the kernel's.
    unsafe {
        let _ = signal(Signal::SIGTERM, SigHandler::SigDfl);
        let _ = signal(Signal::SIGPIPE, SigHandler::SigDfl);
    }
    let _ = SigSet::all().thread_unblock();
    let words: Option<Vec<CString>> = command
        .iter()
        .map(|word| CString::new(word.as_str()).ok())
        .collect();
    let (Some(words), Some(program)) = (words, command.first()) else {
        eprintln!("{action}: a word of the command holds a zero byte");
        return NOT_RUN;
    };
    let mut refused = None;
    for candidate in candidates(program, path) {
        match execve(&candidate, &words, environment) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e) => refused = Some(e),
            Ok(never) => match never {},
        }
    }
    match refused {
        Some(e) => eprintln!("{action}: {program} could not be run: {}", e.desc()),
        None => eprintln!(
            "{action}: {program} was not found in {}",
            if program.contains('/') { "this root" } else { path }
        ),
    }
    if refused.is_some() { NOT_RUN } else { NOT_FOUND }
}

fn candidates(program: &str, path: &str) -> Vec<CString> {
    if program.contains('/') {
        return CString::new(program).into_iter().collect();
    }
    let folders = path.split(':').filter(|folder| !folder.is_empty());
    folders
        .filter_map(|folder| CString::new(format!("{folder}/{program}")).ok())
        .collect()
}

/// Waits for one child and buries whatever else dies meanwhile; 128 + signal, as shells say it.
fn wait_for(child: Pid) -> io::Result<i32> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return Ok(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(named("waiting for the command", e)),
        }
    }
}

pub(super) fn named(what: &str, errno: Errno) -> io::Error {
    io::Error::new(
        io::Error::from(errno).kind(),
        format!("{what} failed: {}", errno.desc()),
    )
}
