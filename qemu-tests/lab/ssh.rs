//! Logging in to an installed machine with the `ssh` client and a key of the lab's own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::lab::process::output;
use crate::lab::wait::{Look, WaitError, wait_until};

/// A key pair made for one run of the lab.
#[derive(Clone, Debug)]
pub struct SshKey {
    private: PathBuf,
    public: String,
}

impl SshKey {
    /// Makes an Ed25519 key in `directory`.
    ///
    /// # Errors
    /// When `ssh-keygen` is missing or fails.
    pub fn generate(directory: &Path) -> anyhow::Result<SshKey> {
        let private = directory.join("ssh-key");
        let path = private.display().to_string();
        output(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-C", "farrier-lab", "-f", &path],
        )?;
        let public = std::fs::read_to_string(private.with_extension("pub"))
            .context("reading the public key that ssh-keygen made")?;
        Ok(SshKey {
            private,
            public: public.trim().to_owned(),
        })
    }

    /// The line for authorized_keys.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The private key's file.
    pub fn private(&self) -> &Path {
        &self.private
    }

    /// The command that a person would type.
    pub fn command(&self, address: Ipv4Addr) -> String {
        format!(
            "ssh -i {} {} root@{address}",
            self.private.display(),
            NO_KNOWN_HOSTS.join(" ")
        )
    }

    /// Runs `command` on the machine as root and gives its stdout. Does not retry.
    ///
    /// # Errors
    /// With what `ssh` said.
    pub fn run(&self, address: Ipv4Addr, command: &str) -> anyhow::Result<String> {
        let output = Command::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=5",
                "-i",
            ])
            .arg(&self.private)
            .args(NO_KNOWN_HOSTS)
            .arg(format!("root@{address}"))
            .arg(command)
            .output()
            .context("running ssh (Debian package openssh-client)")?;
        anyhow::ensure!(
            output.status.success(),
            "ssh root@{address} {command:?} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Tries [`SshKey::run`] until it succeeds.
    ///
    /// # Errors
    /// After `deadline`, with what `ssh` last said.
    pub fn wait_for(
        &self,
        address: Ipv4Addr,
        command: &str,
        deadline: Duration,
    ) -> Result<String, WaitError> {
        wait_until(&format!("ssh root@{address}"), deadline, || {
            match self.run(address, command) {
                Ok(said) => Look::Done(said),
                Err(error) => Look::not_yet(format!("{error:#}")),
            }
        })
    }
}

/// The machine is new and its host key unknown; it is only reachable inside the lab.
const NO_KNOWN_HOSTS: [&str; 6] = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_and_its_command_can_be_typed() {
        let directory = tempfile::tempdir().unwrap();
        let key = SshKey::generate(directory.path()).unwrap();
        assert!(key.public().starts_with("ssh-ed25519 "), "{}", key.public());
        assert!(
            key.command(Ipv4Addr::new(10, 77, 0, 11))
                .ends_with("root@10.77.0.11")
        );
    }
}
