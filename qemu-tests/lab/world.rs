//! Everything that one run needs, started: the network, the server, its API and a key to log in with.

use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::lab::api::Api;
use crate::lab::documents;
use crate::lab::machine::{Blueprint, Machine};
use crate::lab::network::Network;
use crate::lab::run_dir::RunDir;
use crate::lab::server::{Server, ServerPaths};
use crate::lab::ssh::SshKey;

/// What was built on the host before the namespaces were entered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Built {
    /// The `farrier` binary that serves.
    pub farrier: PathBuf,
    /// The boot image directory.
    pub boot_dir: PathBuf,
    /// Served below /images/.
    pub images_dir: PathBuf,
}

/// A running server on a network of its own.
#[derive(Debug)]
pub struct World {
    /// Sockets, logs and keys.
    pub run_dir: RunDir,
    /// The wire.
    pub network: Network,
    /// `farrier serve`.
    pub server: Server,
    /// Its API.
    pub api: Api,
    /// Put on installed machines.
    pub key: SshKey,
}

impl World {
    /// Makes the network and starts the server. Only inside the lab's namespaces.
    ///
    /// # Errors
    /// What could not be made or started.
    pub fn start(built: &Built) -> anyhow::Result<World> {
        World::start_in(RunDir::mount()?, built)
    }

    /// As [`World::start`], in a directory that the caller has put something into.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn start_in(run_dir: RunDir, built: &Built) -> anyhow::Result<World> {
        let network = Network::create()?;
        let key = SshKey::generate(run_dir.path())?;
        let server = Server::start(ServerPaths {
            farrier: built.farrier.clone(),
            boot_dir: built.boot_dir.clone(),
            images_dir: built.images_dir.clone(),
            data_dir: run_dir.sub("data")?,
            log: run_dir.path().join("serve.log"),
        })
        .context("starting the server in the lab")?;
        let api = Api::new(Server::API, &server.token()?)?;
        Ok(World {
            run_dir,
            network,
            server,
            api,
            key,
        })
    }

    /// Builds a machine that the server does not know: a stranger.
    ///
    /// # Errors
    /// As [`Blueprint::build`].
    pub fn stranger(&self, blueprint: Blueprint) -> anyhow::Result<Machine> {
        blueprint.build(&self.run_dir, Some(&self.network))
    }

    /// Builds a machine and makes it known to the server by its name, MAC and address.
    ///
    /// # Errors
    /// As [`Blueprint::build`], and what the server refused.
    pub fn machine(&self, blueprint: Blueprint) -> anyhow::Result<Machine> {
        let machine = self.stranger(blueprint)?;
        let yaml = documents::hardware(
            machine.name(),
            machine.mac(),
            machine.address(),
            &machine.disk_device(),
        );
        self.api
            .apply_machines(&yaml, "lab")
            .with_context(|| format!("making machine {} known to the server", machine.name()))?;
        Ok(machine)
    }
}
