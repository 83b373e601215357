//! A pull: of an image that an action names, with what the server says of its registry, and with progress.

use std::time::Duration;

use oci::registry::{Progress, Registries};
use oci::{Keep, Pull, Reference};
use proto::v1;
use tokio::time::{MissedTickBehavior, interval};

use crate::actions::{Feed, Halt, NoImage};
use crate::data::DataServer;
use crate::pull_settings::{chain, hidden, told};
use crate::wiping::apart;

/// How often it is told how far a pull is.
const TICK: Duration = Duration::from_secs(1);

/// Whose image is pulled, and who may say more of its registry.
pub(crate) struct Asked<'a> {
    pub(crate) action: &'a v1::RunAction,
    pub(crate) server: &'a DataServer,
    pub(crate) feed: &'a Feed,
    pub(crate) halt: &'a Halt,
}

/// Pulls an image, and tells how far it is. Ends early when the action is to be stopped.
///
/// With settings of the server, which may have a login, it runs [apart], and nothing of them is left in memory when it returns.
///
/// # Errors
/// In words, with a reason for programs.
pub(crate) async fn pulled<K: Keep + Clone + Send + 'static>(
    pull: &Pull,
    keeper: &K,
    registries: &Registries,
    asked: &Asked<'_>,
) -> Result<K::Image, NoImage>
where
    K::Image: 'static,
{
    let reference: Reference = asked.action.image.parse().map_err(|e| NoImage {
        reason: "BadImage".to_owned(),
        message: chain(&e),
    })?;
    let (pull, keeper, registries) = (pull.clone(), keeper.clone(), registries.clone());
    let (feed, halt) = (asked.feed.clone(), asked.halt.token());
    let settings = asked
        .action
        .has_pull_settings
        .then(|| (asked.server.clone(), asked.action.attempt_id.clone()));
    let is_apart = settings.is_some();
    let work = async move {
        let work = async {
            match settings {
                None => run(&pull, &keeper, &registries, &reference, &feed).await,
                Some((server, attempt_id)) => {
                    let settings = server.pull_settings(&attempt_id).await.map_err(|e| NoImage {
                        reason: e.reason.to_owned(),
                        message: e.message,
                    })?;
                    with(settings, &pull, &keeper, registries, &reference, &feed).await
                }
            }
        };
        tokio::select! {
            biased;
            () = halt.cancelled() => Err(NoImage::stopped()),
            done = work => done,
        }
    };
    match is_apart {
        false => work.await,
        true => apart(work).await.unwrap_or_else(|e| {
            Err(NoImage {
                reason: "AgentFault".to_owned(),
                message: format!("pulling image {} failed: {e}", asked.action.image),
            })
        }),
    }
}

/// With what the server says of the registry of this image.
async fn with<K: Keep>(
    settings: v1::PullSettings,
    pull: &Pull,
    keeper: &K,
    registries: Registries,
    reference: &Reference,
    feed: &Feed,
) -> Result<K::Image, NoImage> {
    let hidden = hidden(&settings);
    let mut registries = registries;
    told(&mut registries, reference.registry(), settings).map_err(|message| NoImage {
        reason: "BadPullSettings".to_owned(),
        message,
    })?;
    let image = run(pull, keeper, &registries, reference, feed).await;
    // What a registry says may have in it what it was told.
    image.map_err(|why| NoImage {
        message: hidden.hidden(&why.message).into_owned(),
        ..why
    })
}

async fn run<K: Keep>(
    pull: &Pull,
    keeper: &K,
    registries: &Registries,
    reference: &Reference,
    feed: &Feed,
) -> Result<K::Image, NoImage> {
    let progress = Progress::default();
    let pulled = pull.run(keeper, reference, registries, &progress);
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
