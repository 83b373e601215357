//! A machine that has just started has no randomness yet; whoever asks the kernel for it waits.

use std::time::Instant;

use dhcp::client::{Action, Client};
use macaddr::MacAddr6;

/// Lets getrandom(2) fail for this thread, in the way that nothing falls back from: seccomp(2), classic BPF.
fn without_randomness() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let word = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        word(LOAD, 0, 0, 0),
        word(IF_EQUAL, 0, 1, libc::SYS_getrandom as u32),
        word(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EIO as u32),
        word(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its filter outlive the call, which copies them; both concern this thread only.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    assert!(done, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_discover_is_sent_without_asking_the_kernel_for_randomness() {
    let asked = std::thread::spawn(|| {
        without_randomness();
        let now = Instant::now();
        Client::new(MacAddr6::new(2, 0, 0, 0, 0, 1), 7, now).on_timeout(now)
    });
    let actions = asked.join().expect("no panic for want of randomness");
    assert!(matches!(actions.as_slice(), [Action::Send { .. }]), "{actions:?}");
}
