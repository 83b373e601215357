//! File descriptors: each connection, download and transfer takes one or two.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A stream, a call for data, a download and its file.
const PER_MACHINE: u64 = 4;
/// The store, blobs, listeners, people.
const BESIDE: u64 = 512;

/// Raises the soft limit to the hard one; says what it is now.
///
/// # Errors
/// As getrlimit(2) and setrlimit(2).
pub(super) fn raise() -> Result<u64, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// What there is to say when so many are too few for all machines at once.
pub(super) fn too_few(limit: u64, machines: u64) -> Option<String> {
    let wanted = machines.saturating_mul(PER_MACHINE).saturating_add(BESIDE);
    (limit < wanted).then(|| {
        format!(
            "{limit} file descriptors are too few for {machines} machines at once, which take {wanted}: connections will wait; give \
             the server more (`LimitNOFILE={wanted}` in its unit, or `ulimit -n {wanted}`)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_when_they_are_too_few() {
        assert_eq!(too_few(1_024, 128), None);
        let said = too_few(1_024, 129).expect("too few");
        assert!(
            said.starts_with("1024 file descriptors are too few for 129 machines"),
            "{said}"
        );
        assert!(said.contains("LimitNOFILE=1028"), "{said}");
    }
}
