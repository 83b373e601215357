//! What boots asks of whoever knows the machines. Boots itself keeps no record of any machine.

use std::net::Ipv4Addr;
use std::sync::Arc;

pub use dhcp::server::Lease;
use macaddr::MacAddr6;

/// Who a machine is, as far as netboot is concerned, and what it boots next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The operator's name for it.
    pub name: String,
    /// The interface that asked.
    pub mac: MacAddr6,
    /// What its interface is told by DHCP; `None`: it is not to have an address from here.
    pub lease: Option<Lease>,
    /// What it boots now.
    pub next: NextBoot,
    /// More words for the agent's kernel command line.
    pub kernel_params: Vec<String>,
    /// VLAN of the boot interface (802.1Q id), where it is not the untagged one.
    pub vlan_id: Option<u16>,
    /// Kernel console arguments; empty: the server's default.
    pub consoles: Vec<String>,
}

/// What a machine boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextBoot {
    /// The in-memory agent; `reason` is for the timeline ("workflow 0192… is PENDING").
    Agent { reason: String },
    /// Its own disk, told explicitly.
    LocalDisk { reason: String },
    /// An address, and no boot file of ours.
    Nothing { reason: String },
    /// The operator's own iPXE script.
    Script { script: Script },
}

/// An operator's iPXE script (Tinkerbell's `netboot.ipxe`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// Chain-loaded.
    Url(String),
    /// Served as it is.
    Contents(String),
}

/// Why the inventory gave no answer. Boots stays silent and says so on the timeline.
#[derive(Clone, Debug, thiserror::Error)]
#[error("inventory: {0}")]
pub struct InventoryError(pub String);

/// Asked for every packet and request; must answer within milliseconds.
#[async_trait::async_trait]
pub trait Inventory: Send + Sync + 'static {
    /// The machine with this MAC; `None` for a stranger.
    async fn machine(&self, mac: MacAddr6) -> Result<Option<Machine>, InventoryError>;

    /// Every reserved address and whose it is. Asked once, at the start: what a machine that booted before then
    /// fetches is on its own timeline.
    async fn reservations(&self) -> Result<Vec<(MacAddr6, Ipv4Addr)>, InventoryError>;

    /// Whether whoever knows the machines can do what a boot asks of it; the words are `/readyz`'s.
    async fn ready(&self) -> Result<(), InventoryError> {
        Ok(())
    }

    /// The token that this boot's agent proves itself with. The same boot id gets the same token,
    /// also after a restart of the server.
    async fn boot_token(&self, mac: MacAddr6, boot: &BootId) -> Result<String, InventoryError>;
}

/// One boot of one machine: begins with its firmware's first DISCOVER.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BootId(pub Arc<str>);
