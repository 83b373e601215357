//! How a running action is asked to end: with a reason, and the moment when it is made to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Between SIGTERM and SIGKILL where nobody says how long.
pub const GRACE: Duration = Duration::from_secs(10);

/// One per attempt; clones are the same.
#[derive(Clone, Debug)]
pub struct Halt {
    token: CancellationToken,
    asked: Arc<watch::Sender<Option<Asked>>>,
}

#[derive(Clone, Debug)]
struct Asked {
    kill_at: Instant,
    reason: String,
}

impl Default for Halt {
    fn default() -> Halt {
        Halt {
            token: CancellationToken::new(),
            asked: Arc::new(watch::channel(None).0),
        }
    }
}

impl Halt {
    /// Asks for the end. The first reason stays; the grace that is over first counts.
    pub fn ask(&self, grace: Duration, reason: &str) {
        let kill_at = Instant::now() + grace;
        self.asked.send_modify(|asked| match asked {
            Some(asked) => asked.kill_at = asked.kill_at.min(kill_at),
            None => {
                *asked = Some(Asked {
                    kill_at,
                    reason: reason.to_owned(),
                });
            }
        });
        self.token.cancel();
    }

    /// Returns when the end is asked for.
    pub(super) async fn asked(&self) {
        self.token.cancelled().await;
    }

    pub(super) fn is_asked(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Empty before it is asked for.
    pub(super) fn reason(&self) -> String {
        let asked = self.asked.borrow();
        asked
            .as_ref()
            .map(|asked| asked.reason.clone())
            .unwrap_or_default()
    }

    /// Returns when the grace is over; never before the end is asked for.
    pub(super) async fn grace_over(&self) {
        let mut asked = self.asked.subscribe();
        loop {
            let kill_at = asked.borrow_and_update().as_ref().map(|asked| asked.kill_at);
            let over = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => return,
                // The sender is ours: it does not go while this waits.
                _ = asked.changed() => {}
            }
        }
    }

    /// For what knows no reasons and ends at its next safe point.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_grace_that_is_over_first_counts_and_the_first_reason_stays() {
        let halt = Halt::default();
        assert!(!halt.is_asked());
        halt.ask(Duration::from_secs(3600), "cancelled");
        assert!(halt.is_asked());
        let waiting = tokio::spawn({
            let halt = halt.clone();
            async move { halt.grace_over().await }
        });
        tokio::task::yield_now().await;
        halt.ask(Duration::ZERO, "at once");
        halt.ask(Duration::from_secs(3600), "later");
        let ended = tokio::time::timeout(Duration::from_secs(60), waiting);
        ended.await.expect("not after an hour").expect("ends");
        assert_eq!(halt.reason(), "cancelled");
    }
}
