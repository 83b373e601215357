//! Ctrl-C inside the namespaces, where the lab is the first process and default actions do not apply.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static STATUS: AtomicI32 = AtomicI32::new(130);

/// From now on Ctrl-C and SIGTERM end this process with `status`; the kernel then ends everything in its namespaces.
pub(super) fn end_on_ctrl_c(status: i32) {
    STATUS.store(status, Ordering::Relaxed);
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler loads an atomic and calls _exit, both async-signal-safe.
        // A refusal leaves the default action, under which the lab still ends with its parent.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

extern "C" fn end(_signal: libc::c_int) {
    // SAFETY: _exit is async-signal-safe and has no preconditions.
    unsafe { libc::_exit(STATUS.load(Ordering::Relaxed)) }
}
