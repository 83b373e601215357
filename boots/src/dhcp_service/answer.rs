//! What one DHCP packet is answered, and what the timeline hears of it.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use dhcp::MessageType;
use dhcp::server::{self, Action, Answer, Holder, Request};
use macaddr::MacAddr6;

use super::DhcpService;
use crate::bootfile::{BootFile, Decision, Platform, Program, boot_file};
use crate::context::{Context, Told, why, without_address};
use crate::inventory::{Lease, Machine};
use crate::leases::{Acknowledged, SET_ASIDE};
use crate::timeline::Stage;

/// Handles one packet from a client.
pub(super) async fn handle(service: &DhcpService, context: &Context, packet: dhcp::Packet) {
    let from = packet.giaddr;
    let request = server::classify(&packet);
    let mac = request.mac;
    let mut what = request
        .message
        .map_or("BOOTP".to_owned(), |message| message.to_string());
    if !from.is_unspecified() {
        what = format!("{what} by relay {from}");
    }
    let machine = match context.inventory.machine(mac).await {
        Ok(Some(machine)) => machine,
        Ok(None) => {
            let told = Told::ignored(format!(
                "a stranger, {} asks: no machine has this MAC",
                request.stage
            ));
            return context.record_in(None, Stage::Dhcp, Some(mac), what, told);
        }
        Err(error) => {
            let told = Told::failed(format!("not answered: {error}"));
            return context.record_in(None, Stage::Dhcp, Some(mac), what, told);
        }
    };
    let Some(lease) = machine.lease.clone() else {
        let told = Told::failed(format!("not answered: {}", without_address(&machine.name)));
        return context.record_in(None, Stage::Dhcp, Some(mac), what, told);
    };

    let now = SystemTime::now();
    let program = Program::of(&request);
    let boot = match request.message {
        Some(MessageType::Discover) => context.sessions().on_discover(now, mac, program, packet.xid),
        _ => context.sessions().on_activity(now, mac),
    };
    let file = boot_file(Platform::of(&request), program, Decision::of(&machine.next));
    let answer = Answer {
        withheld: withheld(context, now, mac, lease.address),
        boot_file: told_to_boot(context, mac, file),
        holder: holder(context, mac),
        lease,
    };
    let told = match server::reply(&request, &answer, &service.facts) {
        Action::Declined { address } => {
            context.leases().decline(now, mac, address);
            tracing::warn!(machine = machine.name, %address, "another host uses this machine's address");
            Told::note(format!(
                "the machine found {address} in use by another host; it is set aside for {} min: find that host \
                 (`arping {address}`), or give the machine another address",
                SET_ASIDE.as_secs() / 60
            ))
        }
        Action::Released { address } => {
            context.leases().forget(mac);
            Told::note(format!("the machine gave {address} back"))
        }
        Action::Silent { why } => Told::ignored(why),
        Action::Send {
            bytes,
            packet: reply,
            destination,
            summary,
        } => {
            let kind = reply.message_type();
            if kind == Some(MessageType::Ack) && request.message == Some(MessageType::Request) {
                // Before it is sent: the script request that follows must find it.
                let acknowledged = Acknowledged {
                    address: reply.yiaddr,
                    at: now,
                    boot: boot.clone(),
                    client_id: request.packet.client_id().map(<[u8]>::to_vec),
                };
                context.leases().acknowledge(mac, acknowledged);
            }
            let summary = explain(summary, &request, &machine, &answer.lease, file);
            match service.send(&bytes, destination).await {
                Err(error) => Told::failed(format!("{summary}; it could not be sent: {error}")),
                Ok(()) if kind == Some(MessageType::Nak) => Told::refused(summary),
                Ok(()) => Told::answered(summary).bytes(bytes.len() as u64),
            }
        }
    };
    context.record_in(boot, Stage::Dhcp, Some(mac), what, told);
}

/// Who was last given an address for this machine.
fn holder(context: &Context, mac: MacAddr6) -> Option<Holder> {
    context.leases().of(mac).map(|lease| Holder {
        address: lease.address,
        client_id: lease.client_id.clone(),
    })
}

/// Why a machine's address is not given out now.
fn withheld(context: &Context, now: SystemTime, mac: MacAddr6, address: Ipv4Addr) -> Option<String> {
    let left = context.leases().set_aside(now, mac, address)?;
    Some(format!(
        "{address} is set aside for {} s more: the machine found it in use by another host",
        left.as_secs().max(1)
    ))
}

/// Adds why the machine is told to boot this, or nothing.
fn explain(summary: String, request: &Request, machine: &Machine, lease: &Lease, file: BootFile) -> String {
    let by_operator = lease.boot_file_name.is_some() || lease.tftp_server_name.is_some();
    if request.firmware.is_none() {
        return summary;
    }
    if by_operator {
        return format!("{summary}; the operator has set the boot file");
    }
    match file {
        BootFile::None(reason) => format!("{summary}; nothing to boot: {reason}; {}", why(&machine.next)),
        _ => format!("{summary}; {}", why(&machine.next)),
    }
}

fn told_to_boot(context: &Context, mac: MacAddr6, file: BootFile) -> Option<String> {
    match file {
        BootFile::Http(loader) => Some(context.server.loader_url(loader)),
        BootFile::None(_) => None,
        BootFile::Script => Some(context.server.script_url(mac)),
        BootFile::Tftp(loader) => Some(loader.to_owned()),
    }
}
