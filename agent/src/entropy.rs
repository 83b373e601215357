//! Randomness early in a boot, on machines without RDRAND or a hardware generator (QEMU's TCG without virtio-rng).
//!
//! There the kernel's generator is ready only when somebody waits for it in getrandom(2): it then makes entropy from
//! jitter within a second or so. In a static binary the getrandom crate (below dhcproto and ring) does not find that
//! function and polls /dev/random instead, which wakes nobody: seen as a machine that never asked for an address.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes the kernel's generator ready where it is not, beside everything else. Call once.
pub(crate) fn prepare() {
    if !wait_for_generator(libc::GRND_NONBLOCK) {
        std::thread::spawn(|| wait_for_generator(0));
    }
}

fn wait_for_generator(flags: libc::c_uint) -> bool {
    let mut byte = 0_u8;
    // SAFETY: the buffer is valid for the one byte that is asked for.
    unsafe { libc::getrandom((&raw mut byte).cast(), 1, flags) == 1 }
}

/// For jitter, transaction ids and names of temporary files, not for secrets; never waits. Differs from call to call and from boot to boot.
pub(crate) fn number() -> u64 {
    // The standard library seeds its hash maps with GRND_INSECURE, which does not wait.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u128(
        std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_nanos()),
    );
    hasher.finish()
}

/// Sixteen hexadecimal digits.
pub(crate) fn name() -> String {
    format!("{:016x}", number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        assert_ne!(name(), name());
        assert_eq!(name().len(), 16);
    }
}
