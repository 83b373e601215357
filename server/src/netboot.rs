//! What whoever serves netboot asks of the control plane.

use coordinator::Error;
use coordinator::machines::mac_text;
use coordinator::netboot::{self, Netboot, Next};
use macaddr::MacAddr6;

use crate::control::ControlPlane;

impl ControlPlane {
    /// Who has this MAC, and what it boots; `None` for a stranger.
    pub async fn netboot(&self, mac: MacAddr6) -> Result<Option<Netboot>, Error> {
        self.inner.db.with(move |view| netboot::of(view, mac)).await
    }

    /// What the machine with this MAC boots next, and why.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a stranger.
    pub async fn boots_next(&self, mac: MacAddr6) -> Result<(Next, String), Error> {
        let netboot = self.netboot(mac).await?;
        let netboot =
            netboot.ok_or_else(|| Error::NotFound(format!("no machine has MAC {}", mac_text(mac))))?;
        Ok((netboot.next, netboot.reason))
    }
}
