//! The container that a machine runs when it has said that it leaves: a reboot or a kexec that is somebody's image.
//!
//! All that can be known before is found out before the report: the image is here, and what it is given is made. What
//! becomes of it after that no server hears as an outcome; its lines are sent as long as there is somebody to take them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::container::Ready;
use super::{Done, Feed, GRACE, Halt};

/// How the machine leaves, in its report.
pub(super) const LAST: &str = "container";

/// So long its last lines have to reach the server.
const FOR_ITS_LINES: Duration = Duration::from_secs(1);

/// The one that waits for its turn, if any.
#[derive(Clone, Default)]
pub struct Last(Arc<Mutex<Option<Waiting>>>);

/// An action that waits for the server to know that the machine leaves.
pub struct Waiting {
    ready: Ready,
    feed: Feed,
}

impl Last {
    pub(super) fn put(&self, ready: Ready, feed: &Feed) {
        let feed = feed.clone();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Waiting { ready, feed });
    }

    pub fn take(&self) -> Option<Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Waiting {
    /// Waits as long as its template wants, runs it, and says how it ended when the machine is still there.
    pub async fn run(self) -> String {
        let Waiting { ready, feed } = self;
        let action = ready.action().clone();
        let wait = action.last.unwrap_or_default().wait_s;
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let halt = Halt::default();
        let running = ready.run(&feed, &halt);
        tokio::pin!(running);
        let ended = match action.timeout_s {
            0 => running.await,
            seconds => match tokio::time::timeout(Duration::from_secs(seconds), &mut running).await {
                Ok(ended) => ended,
                Err(_) => {
                    halt.ask(GRACE, &format!("it took longer than its timeout of {seconds} s"));
                    running.await
                }
            },
        };
        let how = match ended {
            Ok(Done::Succeeded { .. }) => "succeeded".to_owned(),
            Ok(Done::Leaving(how)) => how.to_owned(),
            Err(failure) => format!("failed: {}: {}", failure.reason, failure.message),
        };
        let said = format!(
            "the last action {} {how}, and the machine is still here: it reboots",
            action.action
        );
        let said = feed.secrets().hidden(&said).into_owned();
        feed.line(said.clone()).await;
        tokio::time::sleep(FOR_ITS_LINES).await;
        said
    }
}
