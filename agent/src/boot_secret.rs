//! Which boot this is, as only the agent knows it.
//!
//! The server binds a boot token to the boot id of the first agent that shows it. Both the token (on the kernel command
//! line, so in dmesg) and the kernel's own boot id can be read by whatever runs on the machine; this id cannot, and makes
//! the token worthless once it is bound. PID 1 keeps it in a file without a name, which each worker gets as its standard
//! input; the first worker makes it up, when the kernel's generator is ready.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;

const BYTES: usize = 16;

/// PID 1's end: an empty place for the secret.
pub(crate) fn place() -> io::Result<OwnedFd> {
    Ok(memfd_create(c"boot", MFdFlags::MFD_CLOEXEC)?)
}

/// The worker's end: 32 hexadecimal digits, the same for each worker of a boot. Blocks until there is randomness, for a
/// second or so at worst. What it read from is closed afterwards.
///
/// # Errors
/// Standard input is not the place that PID 1 has made.
pub(crate) fn from_stdin() -> io::Result<String> {
    // SAFETY: descriptor 0 is open for as long as this is used; `ManuallyDrop` leaves it to `forget_stdin`.
    let place = ManuallyDrop::new(unsafe { File::from_raw_fd(0) });
    let secret = secret_in(&place);
    forget_stdin();
    secret
}

fn secret_in(place: &File) -> io::Result<String> {
    let size = fstat(place)?.st_size;
    let mut bytes = [0_u8; BYTES];
    if size == BYTES as i64 {
        place.read_exact_at(&mut bytes, 0)?;
    } else {
        random(&mut bytes)?;
        place.write_all_at(&bytes, 0)?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Nothing that the worker starts later finds it as its own standard input.
fn forget_stdin() {
    if let Ok(null) = File::open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
    }
}

/// Bytes drawn by chance. Blocks until there is randomness.
///
/// # Errors
/// The kernel gives none.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the buffer is valid for its length.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(got) {
        Ok(len) if len == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::other("the kernel gave too few random bytes")),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_one_boot_share_it_and_boots_do_not() {
        let (one, other) = (
            File::from(place().expect("place")),
            File::from(place().expect("place")),
        );
        let secret = secret_in(&one).expect("secret");
        assert_eq!(secret.len(), 2 * BYTES);
        assert_eq!(secret_in(&one).expect("secret"), secret);
        assert_ne!(secret_in(&other).expect("secret"), secret);
        let file = tempfile::tempfile().expect("file");
        file.write_all_at(b"console", 0).expect("written");
        assert_ne!(secret_in(&file).expect("secret"), secret);
    }
}
