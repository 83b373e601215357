//! SIGTERM and SIGINT while something is built: the folders that it works in go, and the process with them.

use std::ffi::c_int;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Where the handler says which signal came.
static TO: AtomicI32 = AtomicI32::new(-1);

/// A signal came.
static ENDS: AtomicBool = AtomicBool::new(false);

/// From now on both signals end this process, with the usual status, after `tidy`.
pub(crate) fn tidied_by(tidy: fn()) {
    let Ok((from, to)) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC) else {
        // They end it as they always do.
        return;
    };
    TO.store(to.into_raw_fd(), Ordering::SeqCst);
    std::thread::spawn(move || wait(&from, tidy));
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: the handler loads and stores atomics and calls write, both async-signal-safe.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Returns, unless a signal came: then this process ends with that, and not with what the work, whose folders have gone, makes of it.
pub(crate) fn give_way() {
    while ENDS.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

fn wait(from: &OwnedFd, tidy: fn()) {
    let mut signal = [0];
    while nix::unistd::read(from, &mut signal) != Ok(1) {}
    tidy();
    std::process::exit(128 + i32::from(signal[0]));
}

extern "C" fn note(signal: c_int) {
    ENDS.store(true, Ordering::SeqCst);
    let to: RawFd = TO.load(Ordering::SeqCst);
    let signal = [u8::try_from(signal).unwrap_or(0)];
    // SAFETY: the descriptor is open as long as the process is; write is async-signal-safe.
    let to = unsafe { BorrowedFd::borrow_raw(to) };
    let _ = nix::unistd::write(to, &signal);
}
