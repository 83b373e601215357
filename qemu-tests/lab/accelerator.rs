//! KVM, where it really runs a guest; else TCG.
//!
//! That /dev/kvm exists proves nothing: nested or restricted hypervisors offer the node and then fail to set
//! a register, or hang. So SeaBIOS is booted under it, and has to speak within five seconds.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use crate::lab::process::Guarded;

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's virtualisation.
    Kvm,
    /// QEMU's translator: works everywhere, some ten times slower.
    Tcg,
}

impl Accelerator {
    /// The probe's answer, the same for the whole life of this process.
    pub fn probe() -> Accelerator {
        static PROBED: OnceLock<Accelerator> = OnceLock::new();
        *PROBED.get_or_init(
            || match std::path::Path::new("/dev/kvm").exists() && kvm_runs_a_guest() {
                true => Accelerator::Kvm,
                false => Accelerator::Tcg,
            },
        )
    }

    /// QEMU's `-accel` and `-cpu` arguments.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Translating AVX and the like costs more than it saves: `-cpu max` boots Debian a fifth slower.
            Accelerator::Tcg => ["-accel", "tcg", "-cpu", "qemu64"],
        }
    }
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "KVM",
            // Translating AVX and the like costs more than it saves: `-cpu max` boots Debian a fifth slower.
            Accelerator::Tcg => "TCG (/dev/kvm is missing or does not run a guest)",
        })
    }
}

fn kvm_runs_a_guest() -> bool {
    speaks(Accelerator::Kvm, Duration::from_secs(5))
}

/// Whether SeaBIOS writes its banner to the debug console within `limit`.
fn speaks(accelerator: Accelerator, limit: Duration) -> bool {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(accelerator.arguments())
        .args([
            "-machine",
            "q35",
            "-m",
            "64",
            "-display",
            "none",
            "-nodefaults",
            "-no-user-config",
        ])
        .args([
            "-chardev",
            "stdio,id=debug",
            "-device",
            "isa-debugcon,iobase=0x402,chardev=debug",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let Some(mut console) = child.stdout.take() else {
        return false;
    };
    let guard = Guarded::from(child);
    let (sender, heard) = mpsc::channel();
    let listener = thread::spawn(move || {
        let mut text = Vec::new();
        let mut chunk = [0; 256];
        while let Ok(length @ 1..) = console.read(&mut chunk) {
            text.extend(chunk.iter().take(length));
            if is_banner(&text) {
                // The receiver is gone when the time was up.
                let _ = sender.send(());
                return;
            }
        }
    });
    let spoke = heard.recv_timeout(limit).is_ok();
    drop(guard);
    let _ = listener.join();
    spoke
}

fn is_banner(text: &[u8]) -> bool {
    text.windows(BANNER.len()).any(|window| window == BANNER)
}

const BANNER: &[u8] = b"SeaBIOS (version";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcg_always_speaks() {
        assert!(speaks(Accelerator::Tcg, Duration::from_secs(60)));
    }

    #[test]
    fn only_the_banner_counts() {
        assert!(is_banner(b"\r\nSeaBIOS (version 1.16.2-debian-1.16.2-1)\n"));
        assert!(!is_banner(b"qemu: failed to set MSR 0x10a"));
        assert!(!is_banner(b"SeaBI"));
    }
}
