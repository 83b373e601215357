//! Which programs of the host each build runs, and the Debian (and Ubuntu) packages that have them.

/// A file that must be on the host, and the package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFile {
    /// Name of a program, or the absolute path of a file.
    pub file: &'static str,
    /// Package that has it.
    pub package: &'static str,
}

/// What [`crate::build`] needs.
pub const BOOT_IMAGE: &[HostFile] = &[
    host("apt-get", "apt"),
    host("gpgv", "gpgv"),
    host(crate::apt::KEYRING, "debian-archive-keyring"),
];

/// What [`crate::debian_disk::build`] needs besides [`BOOT_IMAGE`].
pub const DEBIAN_DISK: &[HostFile] = &[
    host("mmdebstrap", "mmdebstrap"),
    host("mke2fs", "e2fsprogs"),
    host("mkfs.vfat", "dosfstools"),
    host("mmd", "mtools"),
    host("mcopy", "mtools"),
    host("tar", "tar"),
];

/// What [`crate::debian_disk::build`] needs besides these when it is not run by root: user namespaces with a range
/// of user ids.
pub const DEBIAN_DISK_WITHOUT_ROOT: &[HostFile] = &[host("newuidmap", "uidmap")];

impl HostFile {
    /// Returns whether the host has it, in the path or where system programs are.
    pub fn is_there(self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(SYSTEM_PATH.iter().map(Into::into));
        // Joining an absolute path gives that path.
        places.into_iter().any(|place| place.join(self.file).is_file())
    }
}

const fn host(file: &'static str, package: &'static str) -> HostFile {
    HostFile { file, package }
}

const SYSTEM_PATH: [&str; 5] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_files_are_looked_for() {
        assert!(host("sh", "dash").is_there());
        assert!(host("/bin/sh", "dash").is_there());
        assert!(!host("no-such-program-here", "none").is_there());
        assert!(!host("/usr/bin/no-such-program-here", "none").is_there());
    }
}
