//! `STOP_USERS`: what uses the disk of an action is stopped before the action writes to it.

use disk::probe::System;
use disk::stop_users;

use super::environment::Environment;
use super::target::{self, blocking};
use super::{Failure, Feed, Halt};

/// Of actions that overwrite disks.
pub(super) const VARIABLE: &str = "STOP_USERS";

/// Stops what uses the disks that the variables name, and tells each step.
///
/// # Errors
/// `DiskBusy`: something goes on using one; `NoSuchDisk`.
pub(super) async fn stop(env: &Environment<'_>, feed: &Feed, halt: &Halt) -> Result<(), Failure> {
    let one = env.optional("DEST_DISK").map(|hint| vec![hint.to_owned()]);
    let several = env
        .optional("DEVICES")
        .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    for hint in one.into_iter().chain(several).flatten() {
        if halt.is_asked() {
            return Err(Failure::stopped());
        }
        let device = target::resolve(&hint).await?;
        let stopped = blocking(move || {
            let (system, mut stopped) = (System::default(), Vec::new());
            let outcome = stop_users::plan(&system, &device).and_then(|steps| {
                stop_users::carry_out(&system, &steps, |step| stopped.push(step.to_string()))
            });
            Ok((stopped, outcome))
        });
        let (stopped, outcome) = stopped.await?;
        for step in stopped {
            feed.line(step).await;
        }
        outcome.map_err(|e| Failure::new("DiskBusy", e.to_string()))?;
    }
    Ok(())
}
