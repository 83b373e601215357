//! Tinkerbell's `Hardware`, `tinkerbell.org/v1alpha1`: what netboot needs is parsed, all of it is kept.
//!
//! Source: `api/v1alpha1/tinkerbell/hardware.go` of github.com/tinkerbell/tinkerbell. Upstream ignores unknown
//! fields; here each is a warning.

use std::net::Ipv4Addr;

use macaddr::MacAddr6;

use yaml::{Fields, Findings, Kind, Known, Node, Place, Unknown};

use super::document::{Draft, netmask_of};
use super::typed::{self, addresses, host_name, lease_time_s, vlan};
use super::values::check_lease;
use super::{Interface, Lease, Machine, Policy, Route, Script};
use crate::namespaces::DEFAULT;

const HARDWARE: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
const SPEC: &[&str] = &[
    "agentID",
    "auto",
    "bmcRef",
    "references",
    "tinkVersion",
    "disks",
    "resources",
    "userData",
    "vendorData",
    "interfaces",
    "metadata",
];
const INTERFACE: &[&str] = &["disableDhcp", "isoboot", "netboot", "dhcp"];
const NETBOOT: &[&str] = &["allowPXE", "allowWorkflow", "ipxe", "osie", "pxelinux", "rpi"];
const IPXE: &[&str] = &["url", "contents", "binary"];
const OSIE: &[&str] = &["baseURL", "kernel", "initrd", "kernelParams"];
const DHCP: &[&str] = &[
    "mac",
    "hostname",
    "domain_name",
    "lease_time",
    "name_servers",
    "time_servers",
    "arch",
    "uefi",
    "iface_name",
    "ip",
    "vlan_id",
    "classless_static_routes",
    "tftp_server_name",
    "boot_file_name",
];
const IP: &[&str] = &["address", "netmask", "gateway", "family"];
const ROUTE: &[&str] = &["destination_descriptor", "router"];

pub(super) fn read<'a>(node: &'a Node, findings: &'a Findings) -> Option<Draft> {
    let fields = |node, whose, names| {
        let known = Known::new(whose, names, Unknown::Warning);
        Fields::of(node, known, findings)
    };
    let top = fields(Some(node), "Hardware", HARDWARE);
    // Kubernetes puts many more fields into metadata; none of them concerns us.
    let any = Known::new("metadata", &[], Unknown::Fine);
    let meta = Fields::of(top.get("metadata"), any, findings);
    let name = meta.text("name").filter(|name| !name.is_empty());
    if name.is_none() {
        findings.problem(
            node.at,
            Kind::Missing,
            "the Hardware has no name: write `metadata: {name: NAME}`",
        );
    }
    let spec = fields(top.get("spec"), "spec", SPEC);
    let mut draft = Draft {
        file: 0,
        place: node.at,
        macs: Vec::new(),
        addresses: Vec::new(),
        machine: empty(node),
        agent_id: None,
        namespace: meta.placed("namespace").filter(|(name, _)| !name.is_empty()),
    };
    let mut kernel_params = Vec::new();
    for item in spec.list("interfaces") {
        let interface = fields(Some(item), "an interface", INTERFACE);
        let netboot = fields(interface.get("netboot"), "netboot", NETBOOT);
        let osie = fields(netboot.get("osie"), "osie", OSIE);
        kernel_params.extend(osie.texts("kernelParams"));
        let ipxe = fields(netboot.get("ipxe"), "ipxe", IPXE);
        let dhcp = fields(interface.get("dhcp"), "dhcp", DHCP);
        let Some((mac, mac_at)) = mac(&dhcp, item, findings) else {
            continue;
        };
        let lease = lease(&dhcp, &fields(dhcp.get("ip"), "ip", IP), findings);
        draft.macs.push((mac, mac_at));
        draft
            .addresses
            .extend(lease.iter().map(|(lease, place)| (lease.address, *place)));
        let dhcp_off = interface.flag("disableDhcp") == Some(true);
        draft.machine.interfaces.push(Interface {
            mac,
            lease: lease.map(|(lease, _)| lease).filter(|_| !dhcp_off),
            vlan_id: vlan(&dhcp, "vlan_id", findings),
            may_netboot: netboot.flag("allowPXE").unwrap_or(true),
            script: script(&ipxe),
        });
    }
    if draft.macs.is_empty() && spec.list("interfaces").is_empty() {
        findings.problem(
            node.at,
            Kind::Missing,
            "the Hardware has no interface: write `spec: {interfaces: [{dhcp: {mac: …}}]}`",
        );
    }
    let disk = |item: &'a Node| fields(Some(item), "a disk", &["device"]).owned("device");
    draft.machine.name = name.unwrap_or_default().to_owned();
    draft.machine.disks = spec.list("disks").iter().filter_map(disk).collect();
    draft.machine.labels = meta.pairs("labels").into_iter().collect();
    draft.agent_id = spec.placed("agentID");
    draft.machine.agent_id = draft.agent_id.as_ref().map(|(id, _)| id.clone());
    draft.machine.kernel_params = kernel_params;
    Some(draft)
}

fn empty(node: &Node) -> Machine {
    let document = node.json();
    Machine {
        name: String::new(),
        namespace: DEFAULT.to_owned(),
        interfaces: Vec::new(),
        disks: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        agent_id: None,
        policy: Policy::default(),
        kernel_params: Vec::new(),
        consoles: Vec::new(),
        hardware: document.clone(),
        document,
        created_at: 0,
        updated_at: 0,
    }
}

fn mac(dhcp: &Fields<'_>, interface: &Node, findings: &Findings) -> Option<(MacAddr6, Place)> {
    if dhcp.get("mac").is_none() {
        findings.problem(
            interface.at,
            Kind::Missing,
            "the interface has no MAC: write `dhcp: {mac: 52:54:00:77:00:0b}`",
        );
    }
    typed::mac(dhcp.get("mac")?, findings)
}

fn lease<'a>(dhcp: &Fields<'a>, ip: &Fields<'a>, findings: &'a Findings) -> Option<(Lease, Place)> {
    let node = ip.get("address")?;
    if ip.text("family") == Some("6") {
        findings.warn(
            node.at,
            Kind::NoEffect,
            "an IPv6 reservation has no effect: only IPv4 addresses are handed out",
        );
        return None;
    }
    let address = ip.parse("address", "address", "an IPv4 address such as 10.77.0.11");
    let netmask = ip.parse::<Ipv4Addr>("netmask", "netmask", "an IPv4 netmask such as 255.255.255.0");
    if let (Some(netmask), Some(node)) = (netmask, ip.get("netmask"))
        && netmask_of(netmask.to_bits().leading_ones()) != Some(netmask)
    {
        findings.problem(
            node.at,
            Kind::Value,
            format!("bad netmask \"{netmask}\": its ones must come first, as in 255.255.255.0"),
        );
    }
    if ip.get("netmask").is_none() {
        findings.problem(
            node.at,
            Kind::Missing,
            "the address has no netmask: write `netmask: 255.255.255.0`",
        );
    }
    let lease = Lease {
        gateway: ip.parse("gateway", "gateway", "an IPv4 address such as 10.77.0.1"),
        hostname: host_name(dhcp, "hostname", findings),
        domain: host_name(dhcp, "domain_name", findings),
        name_servers: addresses(dhcp, "name_servers", "name server", findings),
        time_servers: addresses(dhcp, "time_servers", "time server", findings),
        // Upstream sends 0 when it is left out, which no client takes for "forever".
        lease_time_s: lease_time_s(dhcp, findings),
        routes: routes(dhcp, findings),
        tftp_server_name: dhcp.owned("tftp_server_name"),
        boot_file_name: dhcp.owned("boot_file_name"),
        address: address?,
        netmask: netmask?,
    };
    check_lease(&lease, node.at, ip.place("gateway"), findings);
    Some((lease, node.at))
}

fn routes<'a>(dhcp: &Fields<'a>, findings: &'a Findings) -> Vec<Route> {
    let route = |item: &'a Node| {
        let known = Known::new("a static route", ROUTE, Unknown::Warning);
        let fields = Fields::of(Some(item), known, findings);
        let router = fields.parse("router", "router", "an IPv4 address such as 10.77.0.1")?;
        let text = fields.text("destination_descriptor")?;
        let parsed = text.split_once('/').and_then(|(address, len)| {
            let prefix_len = len.parse().ok().filter(|len| *len <= 32)?;
            Some(Route {
                destination: address.parse().ok()?,
                prefix_len,
                router,
            })
        });
        if parsed.is_none() {
            findings.problem(
                item.at,
                Kind::Value,
                format!("bad destination {text:?}: expected a network such as 10.0.0.0/8"),
            );
        }
        parsed
    };
    dhcp.list("classless_static_routes")
        .iter()
        .filter_map(route)
        .collect()
}

fn script(ipxe: &Fields<'_>) -> Option<Script> {
    let given = |name| ipxe.owned(name).filter(|text| !text.is_empty());
    given("url")
        .map(Script::Url)
        .or_else(|| given("contents").map(Script::Contents))
}
