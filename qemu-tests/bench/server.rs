//! The server of a bench: a real one, on loopback, with its store on disk.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::lab::process::Guarded;
use crate::lab::wait::{Look, wait_until};

/// A `farrier serve` on loopback, with ports of its own. Gone when dropped, with all it stored.
pub(super) struct BenchServer {
    process: Guarded,
    pub(super) grpc: String,
    pub(super) api: String,
    dir: tempfile::TempDir,
}

impl BenchServer {
    pub(super) fn start(dir: &std::path::Path) -> anyhow::Result<BenchServer> {
        let dir = tempfile::Builder::new()
            .prefix("farrier-bench-")
            .tempdir_in(dir)?;
        let [grpc, api, http, tftp] = free_ports()?;
        let log = dir.path().join("serve.log");
        let file = std::fs::File::create(&log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([
                "serve",
                "--interface",
                "lo",
                "--address",
                "127.0.0.1",
                "--listen",
                "127.0.0.1",
            ])
            // What has ended is archived while the rest goes on, and not all at once in the next run.
            .args(["--no-dhcp", "--no-ra", "--archive-after", "1s"])
            .args(["--grpc-port", &grpc.to_string(), "--http-port", &http.to_string()])
            .args(["--api-listen", &format!("127.0.0.1:{api}")])
            .args(["--tftp-port", &tftp.to_string(), "--data-dir"])
            .arg(dir.path().join("data"))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let boot = dir.path().join("data/boot");
        std::fs::create_dir_all(&boot)?;
        // What the netboot services look for; nothing is booted here.
        for file in [
            "vmlinuz",
            "initramfs.img",
            "snponly.efi",
            "undionly.kpxe",
            "local-boot.efi",
        ] {
            std::fs::write(boot.join(file), file)?;
        }
        let mut process = Guarded::start(&mut command)?;
        wait_until("farrier serve to be ready", Duration::from_secs(30), || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            match process.ended() {
                _ if said.contains("farrier: ready ") => Look::Done(()),
                Some(status) => Look::never(format!("it ended with {status}: {said}")),
                None => Look::not_yet(said),
            }
        })?;
        Ok(BenchServer {
            process,
            grpc: format!("127.0.0.1:{grpc}"),
            api: format!("127.0.0.1:{api}"),
            dir,
        })
    }

    pub(super) fn token(&self) -> anyhow::Result<access::Token> {
        crate::lab::server::first_token(&self.dir.path().join("data"))
    }

    /// Workflows that are archived: a blob each.
    pub(super) fn archived(&self) -> anyhow::Result<u64> {
        let mut count = 0;
        for shard in std::fs::read_dir(self.dir.path().join("data/blobs/sha256"))? {
            let names = std::fs::read_dir(shard?.path())?;
            // One that is being written has more behind its name.
            count += names
                .filter(|name| name.as_ref().is_ok_and(|name| name.file_name().len() == 64))
                .count() as u64;
        }
        Ok(count)
    }

    /// Resident memory in bytes, and CPU time used so far.
    pub(super) fn usage(&self) -> anyhow::Result<(u64, Duration)> {
        let proc = format!("/proc/{}", self.process.pid());
        let status = std::fs::read_to_string(format!("{proc}/status"))?;
        let resident = status
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmRSS:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse::<u64>()
                    .ok()
            })
            .context("no VmRSS")?;
        let stat = std::fs::read_to_string(format!("{proc}/stat"))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap_or(0))
            .sum();
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?
            .unwrap_or(100)
            .max(1);
        Ok((
            resident * 1024,
            Duration::from_secs_f64(ticks as f64 / per_second as f64),
        ))
    }
}

/// Ports that nobody listens on now.
fn free_ports() -> anyhow::Result<[u16; 4]> {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 4];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener
            .as_ref()
            .map_err(|error| anyhow::anyhow!("no free port: {error}"))?
            .local_addr()?
            .port();
    }
    Ok(ports)
}
