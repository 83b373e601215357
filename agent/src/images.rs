//! Images that registries have: pulled, kept within a bound of memory, and given to actions.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oci::cache::Cache;
use oci::registry::{Progress, Registries};
use oci::{Keep, Pull, Reference};
use tokio::time::{MissedTickBehavior, interval};

use crate::actions::{Feed, Halt, Held, Images, NoImage, Runtime};

/// How often it is told how far a pull is.
const TICK: Duration = Duration::from_secs(1);
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
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let limit_bytes = memory_bytes(&meminfo) / 100 * SHARE_PERCENT;
        let cache = Cache::open(folder, limit_bytes).map_err(|e| chain(&e))?;
        Ok(Pulled {
            cache,
            registries,
            pull: Pull::default(),
        })
    }
}

#[tonic::async_trait]
impl Images for Pulled {
    async fn image(&self, reference: &str, feed: &Feed, _: &Halt) -> Result<Held, NoImage> {
        let image = pulled(&self.pull, &self.cache, &self.registries, reference, feed).await?;
        feed.line(format!("farrier: image {reference} is {}", image.digest))
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

/// Pulls an image, and tells how far it is.
///
/// # Errors
/// In words, with a reason for programs.
pub(crate) async fn pulled<K: Keep>(
    pull: &Pull,
    keeper: &K,
    registries: &Registries,
    reference: &str,
    feed: &Feed,
) -> Result<K::Image, NoImage> {
    let reference: Reference = reference.parse().map_err(|e| NoImage {
        reason: "BadImage".to_owned(),
        message: chain(&e),
    })?;
    let progress = Progress::default();
    let pulled = pull.run(keeper, &reference, registries, &progress);
    tokio::pin!(pulled);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told_bytes = 0;
    let image = loop {
        tokio::select! {
            image = &mut pulled => break image,
            _ = tick.tick() => {
                let seen = progress.seen();
                if seen.total_bytes > 0 {
                    let rate = seen.bytes.saturating_sub(told_bytes) / TICK.as_secs();
                    feed.progress(seen.bytes, seen.total_bytes, rate, "pull");
                }
                told_bytes = seen.bytes;
            }
        }
    };
    image.map_err(|e| NoImage {
        reason: e.reason().to_owned(),
        message: chain(&e),
    })
}

/// `MemTotal` of /proc/meminfo; 0 where it does not say.
fn memory_bytes(meminfo: &str) -> u64 {
    let found = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = found.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

/// The words of an error and of its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let cause = std::io::Error::other("the disk is on fire");
        let error = oci::cache::CacheError::Io {
            what: "making",
            path: "/x".into(),
            source: cause,
        };
        let text = chain(&error);
        assert_eq!(text.matches("the disk is on fire").count(), 1, "{text}");
        assert!(text.contains("/x"), "{text}");
    }

    #[test]
    fn the_bound_is_a_share_of_the_memory() {
        assert_eq!(
            memory_bytes("MemTotal:         512 kB\nMemFree: 1 kB\n"),
            512 << 10
        );
        assert_eq!(memory_bytes(""), 0);
    }
}
