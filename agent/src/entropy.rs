//! Numbers for jitter, DHCP transaction ids and names of temporary files.
//!
//! Never waits: a machine without RDRAND or a hardware generator may take minutes until the kernel's generator is
//! ready, and getrandom(2) blocks until then (seen under QEMU's TCG: no address for half a minute). Not for secrets.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Differs from call to call and from boot to boot.
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
