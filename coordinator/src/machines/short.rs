//! The short form: one flat map a machine.
//!
//! ```yaml
//! machine: node1
//! mac: 52:54:00:77:00:0b
//! address: 10.77.0.11/24
//! gateway: 10.77.0.1
//! disks: [/dev/vda]
//! ```

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use yaml::{Fields, Findings, Kind, Known, Node, Place, Unknown};

use super::bond;
use super::document::{Draft, netmask_of};
use super::names::is_name;
use super::typed::{addresses, host_name, lease_time_s, mac, vlan};
use super::values::{check_lease, host_name_problem};
use super::{Interface, Lease, Machine, Policy, mac_text};
use crate::namespaces::DEFAULT;

const FIELDS: &[&str] = &[
    "machine",
    "namespace",
    "mac",
    "macs",
    "address",
    "gateway",
    "dns",
    "ntp",
    "hostname",
    "domain",
    "lease_time",
    "vlan",
    "bond",
    "disks",
    "labels",
    "netboot",
    "kernel_params",
    "consoles",
    "metadata",
    "user_data",
    "agent_id",
];

/// As Tinkerbell's `allowPXE: false`: it boots its disk, whatever workflows it has.
const NEVER: &str = "never";

pub(super) fn read<'a>(node: &'a Node, findings: &'a Findings) -> Option<Draft> {
    let fields = Fields::of(
        Some(node),
        Known::new("a machine", FIELDS, Unknown::Problem),
        findings,
    );
    let name = fields.text("machine").filter(|name| !name.is_empty());
    if name.is_none() && fields.get("machine").is_none_or(|node| node.text().is_some()) {
        let message = "the machine has no name: write `machine: NAME`";
        findings.problem(node.at, Kind::Missing, message);
    }
    let nodes: Vec<&Node> = ["mac", "macs"]
        .into_iter()
        .flat_map(|name| fields.items(name))
        .collect();
    if nodes.is_empty() {
        findings.problem(
            node.at,
            Kind::Missing,
            "the machine has no MAC: write `mac: 52:54:00:77:00:0b`",
        );
    }
    let macs: Vec<_> = nodes.into_iter().filter_map(|node| mac(node, findings)).collect();
    let (lease, address_at) = match lease(&fields, findings) {
        Some((lease, place)) => (Some(lease), Some(place)),
        None => (None, None),
    };
    let vlan_id = vlan(&fields, "vlan", findings);
    let interface = |(mac, _): &(_, Place)| Interface {
        mac: *mac,
        lease: lease.clone(),
        vlan_id,
        may_netboot: fields.text("netboot") != Some(NEVER),
        script: None,
    };
    let bond = bond::read(&fields, &macs, findings);
    let agent_id = fields.placed("agent_id");
    let mut machine = Machine {
        name: name.unwrap_or_default().to_owned(),
        namespace: DEFAULT.to_owned(),
        interfaces: macs.iter().map(interface).collect(),
        disks: fields.texts("disks"),
        labels: fields.pairs("labels").into_iter().collect(),
        agent_id: agent_id.as_ref().map(|(id, _)| id.clone()),
        policy: policy(&fields, findings),
        kernel_params: fields.texts("kernel_params").into_iter().chain(bond).collect(),
        consoles: fields.texts("consoles"),
        hardware: Value::Null,
        document: node.json(),
        created_at: 0,
        updated_at: 0,
    };
    machine.hardware = hardware(&machine, &fields);
    Some(Draft {
        file: 0,
        place: node.at,
        macs: macs.into_iter().collect(),
        addresses: machine.addresses().into_iter().zip(address_at).collect(),
        agent_id,
        namespace: fields.placed("namespace"),
        machine,
    })
}

fn lease(fields: &Fields<'_>, findings: &Findings) -> Option<(Lease, Place)> {
    let gateway = fields.parse("gateway", "gateway", "an IPv4 address such as 10.77.0.1");
    let name_servers = addresses(fields, "dns", "DNS server", findings);
    let time_servers = addresses(fields, "ntp", "NTP server", findings);
    let lease_time_s = lease_time_s(fields, findings);
    let (hostname, domain) = (
        host_name(fields, "hostname", findings),
        host_name(fields, "domain", findings),
    );
    let node = fields.get("address")?;
    let parsed = node.text().and_then(|text| {
        let (address, len) = text.split_once('/')?;
        Some((address.parse().ok()?, netmask_of(len.parse().ok()?)?))
    });
    let Some((address, netmask)) = parsed else {
        let message = format!(
            "bad address {}: expected address/length such as 10.77.0.11/24",
            node.describe()
        );
        findings.problem(node.at, Kind::Value, message);
        return None;
    };
    let lease = Lease {
        address,
        netmask,
        gateway,
        hostname: hostname.or_else(|| name_as_host_name(fields, findings)),
        domain,
        name_servers,
        time_servers,
        lease_time_s,
        routes: Vec::new(),
        tftp_server_name: None,
        boot_file_name: None,
    };
    check_lease(&lease, node.at, fields.place("gateway"), findings);
    Some((lease, node.at))
}

/// A machine that was told no name takes the record's, if a host can be called so.
fn name_as_host_name(fields: &Fields<'_>, findings: &Findings) -> Option<String> {
    let (name, place) = fields.placed("machine").filter(|(name, _)| is_name(name))?;
    match host_name_problem(&name) {
        None => Some(name),
        Some(why) => {
            let message =
                format!("{name:?} is no host name ({why}), so DHCP gives none: write `hostname: NAME`");
            findings.warn(place, Kind::Odd, message);
            None
        }
    }
}

fn policy(fields: &Fields<'_>, findings: &Findings) -> Policy {
    match fields.text("netboot") {
        None | Some("local" | NEVER) => Policy::Local,
        Some("agent") => Policy::Agent,
        Some("ignore") => Policy::Ignore,
        Some(other) => {
            findings.problem(
                fields.at("netboot"),
                Kind::Value,
                format!("bad netboot {other:?}: expected agent, local, ignore or never"),
            );
            Policy::Local
        }
    }
}

/// The record in Tinkerbell's shape, so that a template need not know which form it was written in.
fn hardware(machine: &Machine, fields: &Fields<'_>) -> Value {
    let addresses = |list: &[Ipv4Addr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let interfaces = machine.interfaces.iter().map(|interface| {
        let mut dhcp = Map::new();
        dhcp.insert("mac".into(), mac_text(interface.mac).into());
        if let Some(lease) = &interface.lease {
            let mut ip = json!({"address": lease.address, "netmask": lease.netmask, "family": 4});
            if let (Some(gateway), Some(ip)) = (lease.gateway, ip.as_object_mut()) {
                ip.insert("gateway".into(), gateway.to_string().into());
            }
            dhcp.insert("ip".into(), ip);
            dhcp.insert("hostname".into(), lease.hostname.clone().into());
            dhcp.insert("lease_time".into(), lease.lease_time_s.into());
            dhcp.insert("name_servers".into(), addresses(&lease.name_servers).into());
            dhcp.insert("time_servers".into(), addresses(&lease.time_servers).into());
            if let Some(domain) = &lease.domain {
                dhcp.insert("domain_name".into(), domain.clone().into());
            }
        }
        json!({"dhcp": dhcp, "netboot": {"allowPXE": interface.may_netboot, "allowWorkflow": true}})
    });
    let disks = machine.disks.iter().map(|device| json!({"device": device}));
    let given = |name: &str| fields.get(name).map_or(Value::Null, Node::json);
    json!({
        "apiVersion": "tinkerbell.org/v1alpha1",
        "kind": "Hardware",
        "metadata": {"name": machine.name, "labels": machine.labels},
        "spec": {
            "agentID": machine.agent_id,
            "disks": disks.collect::<Vec<_>>(),
            "interfaces": interfaces.collect::<Vec<_>>(),
            "metadata": given("metadata"),
            "userData": given("user_data"),
        },
    })
}
