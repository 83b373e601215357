//! Boots asks the control plane who a machine is, and tells it what happened. The only place that knows both.

use std::net::Ipv4Addr;

use boots::inventory::{self, BootId, Inventory, InventoryError, NextBoot};
use boots::timeline::{Entry, Outcome, Stage, Timeline};
use coordinator::machines::{Lease, Script};
use coordinator::netboot::Next;
use macaddr::MacAddr6;
use server::{ControlPlane, timeline};

use crate::failure::chain;

/// The control plane, as boots sees it.
pub(super) struct Netboot {
    control: ControlPlane,
}

impl Netboot {
    pub(super) fn new(control: ControlPlane) -> Self {
        Self { control }
    }
}

#[async_trait::async_trait]
impl Inventory for Netboot {
    async fn machine(&self, mac: MacAddr6) -> Result<Option<inventory::Machine>, InventoryError> {
        let known = self
            .control
            .netboot(mac)
            .await
            .map_err(|error| InventoryError(chain(&error)))?;
        let Some(known) = known else { return Ok(None) };
        Ok(Some(inventory::Machine {
            name: known.machine.name,
            mac,
            lease: known.interface.lease.map(lease),
            next: next(known.next, known.reason),
            kernel_params: known.machine.kernel_params,
            vlan_id: known.interface.vlan_id,
            consoles: known.machine.consoles,
        }))
    }

    async fn reservations(&self) -> Result<Vec<(MacAddr6, Ipv4Addr)>, InventoryError> {
        self.control
            .reservations()
            .await
            .map_err(|error| InventoryError(chain(&error)))
    }

    async fn ready(&self) -> Result<(), InventoryError> {
        self.control.ready().map_err(InventoryError)
    }

    async fn boot_token(&self, mac: MacAddr6, boot: &BootId) -> Result<String, InventoryError> {
        self.control
            .boot_token(mac, &boot.0)
            .await
            .map_err(|error| InventoryError(chain(&error)))
    }
}

impl Timeline for Netboot {
    fn record(&self, entry: Entry) {
        self.control.record(timeline::Entry {
            at: entry.at,
            mac: entry.mac,
            boot: entry.boot.map(|boot| boot.0.as_ref().to_owned()),
            stage: match entry.stage {
                Stage::Dhcp => timeline::Stage::Dhcp,
                Stage::Http => timeline::Stage::Http,
                Stage::RouterAdvertisement => timeline::Stage::Ra,
                Stage::Tftp => timeline::Stage::Tftp,
            },
            what: entry.what,
            detail: entry.detail,
            bytes: entry.bytes,
            outcome: match entry.outcome {
                Outcome::Answered => timeline::Outcome::Answered,
                Outcome::Failed => timeline::Outcome::Failed,
                Outcome::Ignored => timeline::Outcome::Ignored,
                Outcome::Note => timeline::Outcome::Note,
                Outcome::Refused => timeline::Outcome::Refused,
            },
        });
    }
}

/// What DHCP says, of what the record says.
fn lease(record: Lease) -> inventory::Lease {
    let routes = record
        .routes
        .into_iter()
        .map(|route| (route.destination, route.prefix_len, route.router));
    inventory::Lease {
        address: record.address,
        netmask: record.netmask,
        gateway: record.gateway,
        hostname: record.hostname,
        domain: record.domain,
        name_servers: record.name_servers,
        time_servers: record.time_servers,
        lease_time: std::time::Duration::from_secs(record.lease_time_s.into()),
        routes: routes.collect(),
        tftp_server_name: record.tftp_server_name,
        boot_file_name: record.boot_file_name,
    }
}

fn next(next: Next, reason: String) -> NextBoot {
    match next {
        Next::Agent => NextBoot::Agent { reason },
        Next::LocalDisk => NextBoot::LocalDisk { reason },
        Next::Nothing => NextBoot::Nothing { reason },
        Next::Script(Script::Url(url)) => NextBoot::Script {
            script: inventory::Script::Url(url),
        },
        Next::Script(Script::Contents(text)) => NextBoot::Script {
            script: inventory::Script::Contents(text),
        },
    }
}
