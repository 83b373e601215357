//! Machines: hardware records from YAML, their checks, and their place in the store.
//!
//! Two forms are read: Tinkerbell's `Hardware` (v1alpha1) and a short one of our own ([`document`]). Both give a
//! [`Machine`], and keep the document as it was given.

mod bond;
mod document;
mod file;
mod inventory;
pub mod names;
mod registry;
mod secrets;
mod short;
mod tinkerbell;
mod typed;
mod values;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use macaddr::MacAddr6;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use workflow::engine::UnixMillis;

use crate::namespaces::default_namespace;

pub use document::Served;
pub use file::{File, Shown, Strictness};
pub use inventory::{Inventory, inventory_key};
pub use mac::{mac_text, parse_mac};
pub use registry::{
    Applied, Change, ChangeKind, Terms, all, apply, apply_all, check, deletion, find, first_open,
    kind_of_word, meant, named, names_in, namespace_of, namespace_unless, with_address, with_mac,
    with_worker,
};

/// A hardware record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The operator's name for it; unique, in whatever namespace it is.
    pub name: String,
    /// Whose workflows may run on it.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// In the order of the document; the first is the machine's identity in messages.
    pub interfaces: Vec<Interface>,
    /// Device names that templates use, `/dev/vda`.
    pub disks: Vec<String>,
    /// For selection by people and, later, by workflows.
    pub labels: BTreeMap<String, String>,
    /// What workflows may call it instead of a MAC (Tinkerbell's `spec.agentID`); unique.
    pub agent_id: Option<String>,
    /// What it boots while it never had a workflow.
    pub policy: Policy,
    /// More words for the agent's kernel command line.
    pub kernel_params: Vec<String>,
    /// Kernel console arguments; empty: the server's default.
    pub consoles: Vec<String>,
    /// `.hardware` of templates: always of Tinkerbell's shape.
    pub hardware: Value,
    /// The document as it was applied.
    pub document: Value,
    /// When it was first applied.
    pub created_at: UnixMillis,
    /// When it was last applied.
    pub updated_at: UnixMillis,
}

/// A network interface that may netboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Lower case with colons in the store.
    #[serde(with = "text")]
    pub mac: MacAddr6,
    /// What DHCP tells it; without one it gets no address.
    pub lease: Option<Lease>,
    /// 802.1Q id, where the boot network is tagged.
    pub vlan_id: Option<u16>,
    /// Tinkerbell's `netboot.allowPXE`.
    pub may_netboot: bool,
    /// The operator's own iPXE script instead of Farrier's.
    pub script: Option<Script>,
}

/// A fixed address and the DHCP options that go with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the options")]
pub struct Lease {
    pub address: Ipv4Addr,
    pub netmask: Ipv4Addr,
    pub gateway: Option<Ipv4Addr>,
    pub hostname: Option<String>,
    pub domain: Option<String>,
    pub name_servers: Vec<Ipv4Addr>,
    pub time_servers: Vec<Ipv4Addr>,
    pub lease_time_s: u32,
    pub routes: Vec<Route>,
    pub tftp_server_name: Option<String>,
    pub boot_file_name: Option<String>,
}

/// A classless static route (RFC 3442).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Route {
    pub destination: Ipv4Addr,
    pub prefix_len: u8,
    pub router: Ipv4Addr,
}

/// An operator's iPXE script (Tinkerbell's `netboot.ipxe`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// Served as it is.
    Contents(String),
    /// Chain-loaded.
    Url(String),
}

/// What a machine boots while it never had a workflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The in-memory agent, which waits for work.
    Agent,
    /// An address and nothing to boot.
    Ignore,
    /// Its own disk.
    #[default]
    Local,
}

/// Seconds of a lease whose document names none: one day.
pub const DEFAULT_LEASE_S: u32 = 86_400;

impl Machine {
    /// The MAC that it goes by in messages. Records without one are refused.
    pub fn mac(&self) -> MacAddr6 {
        self.interfaces
            .first()
            .map_or(MacAddr6::nil(), |interface| interface.mac)
    }

    /// The interface with this MAC.
    pub fn interface(&self, mac: MacAddr6) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.mac == mac)
    }

    /// Whether an agent netbooted from this interface has a boot token: Farrier's own script carries one. An agent on
    /// a machine that boots by itself, or by what the operator has put in its place, may have none to show.
    pub fn gets_token(&self, mac: MacAddr6) -> bool {
        let operators = |lease: &Lease| lease.boot_file_name.is_some() || lease.tftp_server_name.is_some();
        self.interface(mac).is_some_and(|interface| {
            interface.may_netboot
                && interface.script.is_none()
                && !interface.lease.as_ref().is_some_and(operators)
        })
    }

    /// Everything that a task's `worker` may call it.
    pub fn workers(&self) -> Vec<String> {
        let macs = self.interfaces.iter().map(|interface| mac_text(interface.mac));
        // Upstream's agent id often is the MAC.
        let agent_id = self.agent_id.clone().filter(|id| parse_mac(id).is_none());
        macs.chain(agent_id).collect()
    }

    /// Under what the index of its workflows may have it: its name, and what it was called before it had a record.
    pub fn index_names(&self) -> Vec<String> {
        let own = |worker: String| names::orphan(&self.namespace, &worker);
        let mut names = vec![self.name.clone()];
        names.extend(self.words().into_iter().map(own));
        names
    }

    /// Everything that a worker may be that an expression gives: [`Machine::workers`], and its addresses.
    pub fn words(&self) -> Vec<String> {
        let addresses = self.addresses();
        let addresses = addresses.iter().map(ToString::to_string);
        self.workers().into_iter().chain(addresses).collect()
    }

    /// Addresses, each once.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        let mut all: Vec<_> = self
            .interfaces
            .iter()
            .filter_map(|interface| Some(interface.lease.as_ref()?.address))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A MAC in the store is text.
mod text {
    use macaddr::MacAddr6;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(mac: &MacAddr6, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::mac_text(*mac))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<MacAddr6, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}
