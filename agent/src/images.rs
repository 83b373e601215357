//! Images that registries have: pulled, kept within a bound of memory, and given to actions.

use std::path::Path;
use std::sync::Arc;

use oci::Pull;
use oci::cache::Cache;
use oci::registry::Registries;
use proto::v1;

use crate::actions::{Feed, Halt, Held, Images, NoImage, Runtime};
use crate::data::DataServer;
use crate::pull::{Asked, pulled};
use crate::pull_settings::chain;

/// Of the machine's memory, for layers: what actions write lies there too, and the agent runs in it.
const SHARE_PERCENT: u64 = 40;

/// The images of a boot.
pub(crate) struct Pulled {
    cache: Arc<Cache>,
    registries: Registries,
    pull: Pull,
}

impl Pulled {
    /// Opens the folder for them. They are kept as long as it is.
    ///
    /// # Errors
    /// In words: the folder cannot be made, or another agent has it.
    pub(crate) fn open(folder: &Path, registries: Registries) -> Result<Pulled, String> {
        let cache = Cache::open(folder, share_bytes()).map_err(|e| chain(&e))?;
        Ok(Pulled {
            cache,
            registries,
            pull: Pull::default(),
        })
    }
}

#[tonic::async_trait]
impl Images for Pulled {
    fn store(&self) -> Option<v1::ImageStore> {
        let held = self.cache.held();
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Some(v1::ImageStore {
            images: count(held.images),
            layers: count(held.layers),
            held_bytes: held.bytes,
            limit_bytes: held.limit_bytes,
        })
    }

    async fn image(
        &self,
        action: &v1::RunAction,
        server: &DataServer,
        feed: &Feed,
        halt: &Halt,
    ) -> Result<Held, NoImage> {
        let asked = Asked {
            action,
            server,
            feed,
            halt,
        };
        let image = pulled(&self.pull, &self.cache, &self.registries, &asked).await?;
        feed.line(format!("farrier: image {} is {}", action.image, image.digest))
            .await;
        let config = image.config.clone();
        Ok(Held {
            image: container::Image {
                layers: image.layers.clone(),
                entrypoint: config.entrypoint,
                cmd: config.cmd,
                env: config.env,
                user: config.user,
                working_dir: config.working_dir,
                stop_signal: config.stop_signal,
            },
            by: Runtime::Namespaces {
                keeps: Box::new(image),
            },
        })
    }
}

/// What images may have of this machine's memory.
pub(crate) fn share_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    memory_bytes(&meminfo) / 100 * SHARE_PERCENT
}

/// `MemTotal` of /proc/meminfo; 0 where it does not say.
fn memory_bytes(meminfo: &str) -> u64 {
    let found = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = found.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_a_share_of_the_memory() {
        assert_eq!(
            memory_bytes("MemTotal:         512 kB\nMemFree: 1 kB\n"),
            512 << 10
        );
        assert_eq!(memory_bytes(""), 0);
    }
}
