//! What the server says of itself: its version, its clock, and the folders that it lives from.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use proto::v1;

use crate::clock::{self, timestamp};
use crate::control::ControlPlane;

/// A folder of this host that the server lives from.
#[derive(Clone, Debug)]
pub struct Folder {
    /// One word, such as `data`.
    pub name: &'static str,
    pub path: PathBuf,
    /// Says in words what it holds, or what is wrong with it. May block.
    pub look: fn(&Path) -> Result<String, String>,
}

impl Folder {
    fn told(&self) -> v1::ServerFolder {
        let (mut holds, problem) = match (self.look)(&self.path) {
            Ok(holds) => (holds, String::new()),
            Err(problem) => (String::new(), problem),
        };
        // statvfs(3): blocks are counted in fragments.
        let (free_bytes, total_bytes) = match statvfs(&self.path) {
            Ok(of) => {
                let bytes = |blocks: u64| blocks.saturating_mul(of.fragment_size());
                (bytes(of.blocks_available()), bytes(of.blocks()))
            }
            // What is not there is a problem that `look` tells.
            Err(_) if !problem.is_empty() => (0, 0),
            Err(error) => {
                holds = format!("{holds} (its filesystem cannot be asked: {error})");
                (0, 0)
            }
        };
        v1::ServerFolder {
            name: self.name.to_owned(),
            path: self.path.display().to_string(),
            holds,
            problem,
            free_bytes,
            total_bytes,
        }
    }
}

impl ControlPlane {
    /// What it says of itself; of folders only to who may know where things lie on its host.
    pub(crate) async fn itself(&self, has_folders: bool) -> v1::ServerInfo {
        let mut unready = self.ready().err().unwrap_or_default();
        let mut folders = Vec::new();
        if has_folders {
            let all = self.inner.config.folders.clone();
            let looked = tokio::task::spawn_blocking(move || all.iter().map(Folder::told).collect());
            match looked.await {
                Ok(told) => folders = told,
                Err(error) => unready = format!("looking at its folders broke off: {error}"),
            }
        }
        v1::ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(timestamp(clock::started())),
            now: Some(timestamp(clock::wall())),
            unready,
            folders,
        }
    }
}
