//! The real `farrier serve`, run in the lab's namespace.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;

use crate::lab::network::Network;
use crate::lab::process::Guarded;
use crate::lab::wait::{Look, wait_until};

/// Where the server's binary and its directories are.
#[derive(Clone, Debug)]
pub struct ServerPaths {
    /// The `farrier` binary.
    pub farrier: PathBuf,
    /// What `farrier image build` made.
    pub boot_dir: PathBuf,
    /// Disk images, served below /images/.
    pub images_dir: PathBuf,
    /// Its store; private to the lab.
    pub data_dir: PathBuf,
    /// Its stderr goes here, over all of its lives.
    pub log: PathBuf,
}

/// A running (or killed) server. Killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    paths: ServerPaths,
    /// Beside those that every lab's server has.
    arguments: Vec<String>,
    process: Guarded,
}

impl Server {
    /// Where agents find it.
    pub const GRPC: &'static str = "10.77.0.1:42113";
    /// Where people's API is, for clients in the lab's namespace.
    pub const API: &'static str = "127.0.0.1:42115";
    /// HTTP's authority.
    pub const HTTP: &'static str = "10.77.0.1:7080";

    /// Starts `farrier serve` and waits until every socket is bound.
    ///
    /// # Errors
    /// When it ends or does not become ready within 30 s: with the end of its log.
    pub fn start(paths: ServerPaths) -> anyhow::Result<Server> {
        let mut server = Server {
            process: launch(&paths, &[])?,
            paths,
            arguments: Vec::new(),
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// The token that it has made itself: it may do everything.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn token(&self) -> anyhow::Result<access::Token> {
        first_token(&self.paths.data_dir)
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.paths.log
    }

    /// Its directories.
    pub fn paths(&self) -> &ServerPaths {
        &self.paths
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Kills it with SIGKILL: it has no chance to save anything.
    pub fn kill_9(&mut self) {
        self.process.kill();
    }

    /// Asks it to end with SIGTERM, and waits for that.
    ///
    /// # Errors
    /// When it still runs after 20 s, or is gone already.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process
            .wait("farrier serve", Duration::from_secs(20))
            .map(drop)
    }

    /// Starts it again on the same store, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.process = launch(&self.paths, &self.arguments)?;
        self.wait_until_ready()
    }

    /// As [`Server::restart`], with more arguments from now on.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart_with(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.restart()
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let Server { paths, process, .. } = self;
        let ready = wait_until("farrier serve to be ready", Duration::from_secs(30), || {
            let log = std::fs::read_to_string(&paths.log).unwrap_or_default();
            let this_life = log.rsplit(BANNER).next().unwrap_or_default();
            if this_life.lines().any(|line| line.contains("farrier: ready ")) {
                return Look::Done(());
            }
            let last: Vec<_> = this_life.lines().rev().take(5).collect();
            let last = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
            match process.ended() {
                Some(status) => Look::never(format!("it ended with {status}: {last}")),
                None => Look::not_yet(last),
            }
        });
        Ok(ready?)
    }
}

/// What a server has made in its data directory.
pub(crate) fn first_token(data_dir: &Path) -> anyhow::Result<access::Token> {
    let path = data_dir.join("admin.token");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.parse()?)
}

/// Written to the log before each life of the server.
const BANNER: &str = "--- farrier serve, started by the lab\n";

fn launch(paths: &ServerPaths, more: &[String]) -> anyhow::Result<Guarded> {
    std::fs::create_dir_all(&paths.data_dir)
        .with_context(|| format!("making {}", paths.data_dir.display()))?;
    let mut log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&paths.log)
        .with_context(|| format!("opening {}", paths.log.display()))?;
    std::io::Write::write_all(&mut log, BANNER.as_bytes())?;
    let mut command = Command::new(&paths.farrier);
    command
        .arg("serve")
        .args([
            "--interface",
            Network::BRIDGE,
            "--address",
            &Network::SERVER.to_string(),
        ])
        .arg("--data-dir")
        .arg(&paths.data_dir)
        .arg("--boot-dir")
        .arg(&paths.boot_dir)
        .arg("--images-dir")
        .arg(&paths.images_dir)
        .args(more)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Guarded::start(&mut command)
}
