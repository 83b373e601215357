//! Takes away what is too old, or too much, of the order of all events.

use std::sync::Weak;
use std::time::Duration;

use coordinator::Error;
use coordinator::order::trim::{Counted, Kept, trim};

use crate::clock;
use crate::control::{ControlPlane, Inner};
use crate::tasks::caught;

/// How often it is looked for.
const LOOK: Duration = Duration::from_secs(60);

/// Holds the control plane weakly: it must be able to go away.
pub(crate) async fn run(control: Weak<Inner>, kept: Kept, stopped: impl Future<Output = ()>) {
    let look = Duration::from_millis(kept.for_ms / 10).clamp(Duration::from_millis(50), LOOK);
    let mut counted = Counted::default();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(look) => {}
        }
        let Some(inner) = control.upgrade() else { return };
        let control = ControlPlane { inner };
        let trimmed = async {
            if let Err(error) = control.trim_events(&mut counted, kept).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "old events cannot be taken out of their order now");
            }
        };
        // It may be broken off anywhere.
        tokio::select! {
            _ = caught("taking old events out of their order", trimmed) => {}
            () = &mut stopped => return,
        }
    }
}

impl ControlPlane {
    /// Says how many rows are gone.
    pub(crate) async fn trim_events(&self, counted: &mut Counted, kept: Kept) -> Result<u64, Error> {
        let mut more = true;
        while more {
            let before = counted.clone();
            (*counted, more) = self
                .inner
                .db
                .with(move |view| {
                    let mut counted = before.clone();
                    let more = counted.count(view)?;
                    Ok((counted, more))
                })
                .await?;
        }
        let mut gone = 0;
        loop {
            let (known, now) = (counted.clone(), clock::now());
            let batch = self.inner.db.with(move |view| trim(view, &known, now, kept));
            let Some((batch, rows)) = batch.await? else {
                return Ok(gone);
            };
            self.inner.db.commit(batch).await?;
            counted.gone(rows);
            gone += rows;
        }
    }
}
