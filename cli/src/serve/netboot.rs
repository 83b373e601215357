//! Boots asks the control plane who a machine is, and tells it what happened. The only place that knows both.

use std::net::Ipv4Addr;

use boots::inventory::{self, BootId, Inventory, InventoryError, NextBoot, Reservation};
use boots::timeline::{Entry, Outcome, Stage, Timeline};
use coordinator::machines::{Interface, Lease, Script};
use coordinator::netboot::Next;
use macaddr::MacAddr6;
use server::ControlPlane;

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
            .map_err(|error| InventoryError(error.to_string()))?;
        let Some(known) = known else { return Ok(None) };
        let Interface {
            lease: Some(lease),
            vlan_id,
            ..
        } = known.interface
        else {
            return Err(InventoryError(format!(
                "machine {:?} has no address for this interface: give it one with `farrier machine apply`",
                known.machine.name
            )));
        };
        Ok(Some(inventory::Machine {
            name: known.machine.name,
            mac,
            lease: reservation(lease),
            next: next(known.next, known.reason),
            kernel_params: known.machine.kernel_params,
            vlan_id,
            consoles: known.machine.consoles,
        }))
    }

    async fn reservations(&self) -> Result<Vec<(MacAddr6, Ipv4Addr)>, InventoryError> {
        self.control
            .reservations()
            .await
            .map_err(|error| InventoryError(error.to_string()))
    }

    async fn boot_token(&self, mac: MacAddr6, boot: &BootId) -> Result<String, InventoryError> {
        self.control
            .boot_token(mac, &boot.0)
            .await
            .map_err(|error| InventoryError(error.to_string()))
    }
}

impl Timeline for Netboot {
    fn record(&self, entry: Entry) {
        self.control.record(server::timeline::Entry {
            at: entry.at,
            mac: entry.mac,
            boot: entry.boot.map(|boot| boot.0.as_ref().to_owned()),
            stage: match entry.stage {
                Stage::Agent => "agent",
                Stage::Dhcp => "dhcp",
                Stage::Http => "http",
                Stage::RouterAdvertisement => "ra",
                Stage::Syslog => "syslog",
                Stage::Tftp => "tftp",
            },
            what: entry.what,
            detail: entry.detail,
            bytes: entry.bytes,
            outcome: match entry.outcome {
                Outcome::Answered => "answered",
                Outcome::Failed => "failed",
                Outcome::Ignored => "ignored",
                Outcome::Note => "note",
                Outcome::Refused => "refused",
            },
        });
    }
}

fn reservation(lease: Lease) -> Reservation {
    let routes = lease
        .routes
        .into_iter()
        .map(|route| (route.destination, route.prefix_len, route.router));
    Reservation {
        address: lease.address,
        netmask: lease.netmask,
        gateway: lease.gateway,
        hostname: lease.hostname,
        domain: lease.domain,
        name_servers: lease.name_servers,
        time_servers: lease.time_servers,
        lease_time: std::time::Duration::from_secs(lease.lease_time_s.into()),
        routes: routes.collect(),
        tftp_server_name: lease.tftp_server_name,
        boot_file_name: lease.boot_file_name,
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
