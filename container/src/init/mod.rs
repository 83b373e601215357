//! The process that carries a plan out: the action's keeper.
//!
//! It is started anew for each action, has one thread, and reads the [`Plan`] from standard input. It forks the action's
//! first process ([`first`]), which takes namespaces, builds its root and becomes the program. The keeper stays outside of
//! all of them: it passes the request to end on as the signal that the image asks for, kills everything when it is told to
//! ([`FORCE`]) or when whoever started it is gone, and leaves how the action ended in a file.

mod first;
mod kernel;
mod privileges;
mod root;

use std::io::{self, PipeReader, Read};
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid};

use crate::plan::Plan;
use crate::status::{self, Ended};

/// The signal that asks a keeper for the action's end: the image's own stop signal is passed on.
pub const ASK: Signal = Signal::SIGTERM;
/// The signal that makes a keeper kill all that the action started, and then end.
pub const FORCE: Signal = Signal::SIGQUIT;

/// Nobody describes an action with more than this.
const MAX_PLAN_BYTES: u64 = 8 << 20;
/// What the first process may say of its failure.
const MAX_FAILURE_BYTES: u64 = 16 << 10;
/// As shells: it could not be started.
pub(crate) const NOT_RUN: i32 = 126;
/// As shells: there is no such program.
pub(crate) const NOT_FOUND: i32 = 127;

/// Runs the action that standard input describes. Ends with 0 whenever the plan's status file tells how it ended.
pub fn serve() -> ExitCode {
    // Whoever started it must not leave an action behind that nobody watches.
    let _ = prctl::set_pdeathsig(FORCE);
    let kept = read_plan().and_then(|plan| {
        let ended = keep(&plan)?;
        status::write(&plan.status, &ended)
    });
    match kept {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("farrier: the action's keeper failed: {e}");
            ExitCode::FAILURE
        }
    }
}

fn read_plan() -> io::Result<Plan> {
    let mut text = Vec::new();
    io::stdin().take(MAX_PLAN_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Runs it to its end, and ends all that it left.
fn keep(plan: &Plan) -> io::Result<Ended> {
    let signals = signals();
    // Blocked, and taken one by one below: none comes while this process is somewhere else.
    signals.thread_block()?;
    // What loses its parent is this process's, until it has been ended.
    prctl::set_child_subreaper(true)?;
    let (failure, told) = io::pipe()?;
    if !plan.host_processes {
        // For children: this process stays where it is.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID)
            .map_err(|e| named("taking a PID namespace", e))?;
    }
    // SAFETY: this process has one thread, so the child may run any code.
    let child = match unsafe { kernel::fork_into(plan.group.as_deref()) }? {
        ForkResult::Child => {
            drop(failure);
            first::become_action(plan, told);
        }
        ForkResult::Parent { child } => child,
    };
    drop(told);
    let mut failure = Some(failure);
    let ended = loop {
        match signals.wait()? {
            FORCE => {
                let _ = kill(child, Signal::SIGKILL);
            }
            ASK => kernel::send(child, plan.stop_signal),
            _ => {
                if let Some(status) = buried(child)? {
                    break end_of(status, failure.take());
                }
            }
        }
    };
    end_the_rest(plan.group.as_deref())?;
    Ok(ended)
}

fn signals() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [ASK, FORCE, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals
}

/// Buries who is dead; how the first process ended, when it has.
fn buried(first: Pid) -> io::Result<Option<WaitStatus>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) if status.pid() == Some(first) => return Ok(Some(status)),
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(named("waiting for the action", e)),
        }
    }
}

/// What it left of words is why it did not become the program: the pipe is closed when it does.
fn end_of(status: WaitStatus, failure: Option<PipeReader>) -> Ended {
    let mut words = String::new();
    if let Some(failure) = failure {
        let _ = failure.take(MAX_FAILURE_BYTES).read_to_string(&mut words);
    }
    match status {
        WaitStatus::Exited(_, code) if !words.is_empty() => Ended::NotStarted { code, message: words },
        WaitStatus::Exited(_, code) => Ended::Exited { code },
        WaitStatus::Signaled(_, signal, _) => Ended::Killed {
            signal: signal as i32,
        },
        // Of a process that is traced, which this one is not.
        _ => Ended::Exited { code: NOT_RUN },
    }
}

/// Kills and buries until nothing is left. In a PID namespace of its own all went with the first process; with the machine's
/// processes (`pid: host`) what lost its parent is a child of this process by now, or is when its own parent is killed.
fn end_the_rest(group: Option<&Path>) -> io::Result<()> {
    loop {
        // At once where the kernel can: nothing outruns it.
        if let Some(group) = group {
            let _ = std::fs::write(group.join("cgroup.kill"), "1");
        }
        for child in children()? {
            let _ = kill(child, Signal::SIGKILL);
        }
        match waitpid(None, None) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(named("waiting for what the action left", e)),
        }
    }
}

/// Of this process.
fn children() -> io::Result<Vec<Pid>> {
    let own = getpid().as_raw().to_string();
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The second field is a name in parentheses, which may hold anything; the fourth is the parent.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent == Some(own.as_str()) {
            children.push(Pid::from_raw(pid));
        }
    }
    Ok(children)
}

pub(crate) fn named(what: &str, errno: Errno) -> io::Error {
    io::Error::new(
        io::Error::from(errno).kind(),
        format!("{what} failed: {}", errno.desc()),
    )
}
