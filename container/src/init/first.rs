//! The action's first process: takes namespaces, builds its root, gives up what it may not do, and becomes the program.
//!
//! In its PID namespace it is number 1, as in Docker: some images insist on it, and when it ends the kernel ends all that
//! it started, however that hid. It has one thread; whatever fails is told the keeper through a pipe that the start of
//! the program closes.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stdin, execve, setsid};

use super::{NOT_FOUND, NOT_RUN, kernel, named, privileges, root};
use crate::accounts;
use crate::plan::{Network, Plan, What};
use crate::user::User;

/// The kernel takes an action for it before it takes the agent.
const OOM_SCORE: &str = "500";

/// Why it did not become the program.
struct Failure {
    code: i32,
    message: String,
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        Failure {
            code: NOT_RUN,
            message: e.to_string(),
        }
    }
}

/// Becomes the program that the plan names, or tells why not.
pub(super) fn become_action(plan: &Plan, mut told: PipeWriter) -> ! {
    let failure = match start(plan) {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    let message = if failure.message.is_empty() {
        "it could not be started"
    } else {
        &failure.message
    };
    let _ = told.write_all(message.as_bytes());
    std::process::exit(failure.code)
}

fn start(plan: &Plan) -> Result<std::convert::Infallible, Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| named("following the keeper", e))?;
    // The keeper's group is asked to end; what the image is asked with, the keeper decides.
    setsid().map_err(|e| named("beginning a session", e))?;
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    dup2_stdin(File::open("/dev/null")?).map_err(|e| named("closing standard input", e))?;
    take_namespaces(plan)?;
    umask(Mode::from_bits_truncate(0o022));
    root::enter(plan)?;
    let own = std::fs::metadata("/proc/self/exe").ok();
    let user = accounts::find_user(&plan.user)?;
    for mount in &plan.mounts {
        if let What::Given { .. } = mount.what
            && !mount.read_only
            && user.uid != 0
        {
            accounts::give(&mount.at, &user)?;
        }
    }
    enter_folder(&plan.working_dir)?;
    let environment = environment(plan, &user)?;
    kernel::close_on_exec(3)?;
    reset_signals()?;
    privileges::take(&user, plan.confined)?;
    Err(execute(plan, &environment, own.map(|own| (own.dev(), own.ino()))))
}

fn take_namespaces(plan: &Plan) -> io::Result<()> {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    if plan.group.is_some() {
        // It was born in the group, which is the namespace's root.
        flags |= CloneFlags::CLONE_NEWCGROUP;
    }
    match (plan.network, &plan.network_namespace) {
        (Network::Host, _) => {}
        (Network::None, _) => flags |= CloneFlags::CLONE_NEWNET,
        (Network::Given, Some(path)) => join_network(path)?,
        (Network::Given, None) => return Err(io::Error::other("no network was made for it")),
    }
    unshare(flags).map_err(|e| named("taking namespaces", e))?;
    if plan.network == Network::None {
        kernel::loopback_up()?;
    }
    nix::unistd::sethostname(&plan.hostname).map_err(|e| named("naming the host", e))
}

fn join_network(path: &Path) -> io::Result<()> {
    let failed = |e: io::Error| io::Error::new(e.kind(), format!("joining its network failed: {e}"));
    let namespace = File::open(path).map_err(failed)?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|e| failed(e.into()))
}

/// Made where the image does not have it, as Docker does.
fn enter_folder(folder: &Path) -> io::Result<()> {
    let name = folder.display();
    std::fs::create_dir_all(folder)
        .map_err(|e| io::Error::new(e.kind(), format!("making the working folder {name} failed: {e}")))?;
    chdir(folder).map_err(|e| named(&format!("going to the working folder {name}"), e))?;
    // A descriptor that leads out of the root would be one: then the kernel says that it cannot be reached.
    match std::env::current_dir() {
        Ok(at) if at.is_absolute() => Ok(()),
        _ => Err(io::Error::other(format!(
            "the working folder {name} is outside of the image"
        ))),
    }
}

/// The action's variables, with a home.
fn environment(plan: &Plan, user: &User) -> io::Result<Vec<CString>> {
    let has_home = plan.environment.iter().any(|pair| pair.starts_with("HOME="));
    let home = (!has_home).then(|| format!("HOME={}", user.home));
    texts(plan.environment.iter().chain(home.as_ref()))
}

fn texts<'a>(texts: impl Iterator<Item = &'a String>) -> io::Result<Vec<CString>> {
    let texts: Result<Vec<CString>, _> = texts.map(|text| CString::new(text.as_str())).collect();
    texts.map_err(|_| io::Error::other("a text of the action has a zero byte"))
}

/// What Rust and the keeper have set is the program's no more.
fn reset_signals() -> io::Result<()> {
    // SAFETY: the default handlers are the kernel's.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map_err(|e| named("resetting a signal", e))?;
    SigSet::all()
        .thread_unblock()
        .map_err(|e| named("unblocking signals", e))
}

/// Returns only when no such program could be started. `own` is this binary: no image gets hold of it by naming
/// /proc/self/exe (CVE-2019-5736).
fn execute(plan: &Plan, environment: &[CString], own: Option<(u64, u64)>) -> Failure {
    let refused = |code: i32, message: String| Failure { code, message };
    let words = match texts(plan.arguments.iter()) {
        Ok(words) => words,
        Err(e) => return e.into(),
    };
    let Some(program) = plan.arguments.first() else {
        return refused(NOT_RUN, "there is no program to run".to_owned());
    };
    let path = plan
        .environment
        .iter()
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or_default();
    let mut last = None;
    for candidate in candidates(program, path) {
        let at = std::fs::metadata(Path::new(&candidate))
            .ok()
            .map(|found| (found.dev(), found.ino()));
        if at.is_some() && at == own {
            return refused(
                NOT_RUN,
                format!("{candidate} is the agent's own binary, which no image may run"),
            );
        }
        let Ok(file) = CString::new(candidate) else {
            continue;
        };
        match execve(&file, &words, environment) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e) => last = Some(e),
            Ok(never) => match never {},
        }
    }
    match last {
        Some(e) => refused(
            NOT_RUN,
            format!("{program} could not be run: {}{}", e.desc(), hint(e)),
        ),
        None if program.contains('/') => refused(
            NOT_FOUND,
            format!(
                "{program} was not found in the image, or what it is run with is not there (its interpreter or loader)"
            ),
        ),
        None => refused(
            NOT_FOUND,
            format!("{program} was not found in the image, in none of PATH={path}"),
        ),
    }
}

fn hint(e: Errno) -> &'static str {
    match e {
        Errno::ENOEXEC => "; it is for another processor, or a script without #! in its first line",
        Errno::EACCES => "; it has to be a file that its user may execute",
        _ => "",
    }
}

fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let folders = path.split(':').filter(|folder| folder.starts_with('/'));
    folders.map(|folder| format!("{folder}/{program}")).collect()
}
