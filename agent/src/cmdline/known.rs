//! Parameters that other agents read, and what becomes of each here: none is passed over in silence.
//!
//! docs/reference/boot.md has them in a table, which a test holds against this. Source: what HookOS and CaptainOS read.

use disk::image::Proxies;
use mac::mac_text;
use macaddr::MacAddr6;

use super::{Cmdline, parse_bool, parse_mac};

/// Parameters of the agent that mean nothing without a value, and what it would be.
const WITH_VALUE: [(&str, &str); 19] = [
    ("BOOTIF", "01-MAC"),
    ("HTTPS_PROXY", "URL"),
    ("HTTP_PROXY", "URL"),
    ("NO_PROXY", "HOST,HOST"),
    ("bond", "NAME:MEMBERS:OPTIONS:MTU"),
    ("docker_registry", "HOST"),
    ("farrier.containerd-address", "SOCKET"),
    ("farrier.http", "URL"),
    ("farrier.runtime", "containerd"),
    ("farrier.token", "TOKEN"),
    ("grpc_authority", "HOST:PORT"),
    ("hw_addr", "MAC"),
    ("insecure_registries", "HOST,HOST"),
    ("interface", "NAME"),
    ("ipam", "nine fields, separated by colons"),
    ("registry_password", "PASSWORD"),
    ("registry_username", "NAME"),
    ("vlan_id", "a number from 1 to 4094"),
    ("worker_id", "MAC"),
];

/// What is there and has no effect: the parameter with its value, why, and what to do.
pub(super) fn not_used(cmdline: &Cmdline, mac: Option<MacAddr6>) -> Vec<String> {
    let words = cmdline.words.iter();
    let mut said: Vec<String> = words
        .filter_map(|(key, value)| alone(key, value.as_deref()))
        .collect();
    said.extend(beside(cmdline, mac));
    said
}

/// Without a look at other parameters.
fn alone(key: &str, value: Option<&str>) -> Option<String> {
    let with_value = WITH_VALUE.iter().find(|(name, _)| *name == key);
    if let (None, Some((_, wanted))) = (value, with_value) {
        return Some(format!(
            "{key} on the kernel command line has no value and no effect: write {key}={wanted}, or take it out"
        ));
    }
    let why = match key {
        // As upstream's scripts write what is not set.
        _ if value == Some("") => return None,
        "tinkerbell_tls" | "tinkerbell_insecure_tls" if !value.is_none_or(parse_bool) => return None,
        "tinkerbell_tls" | "tinkerbell_insecure_tls" | "grpc_cert_url" => {
            "agents speak no TLS with the server; take it out, and keep the netboot network to machines"
        }
        "tink_worker_image" => "the agent is in the boot image; take it out",
        "syslog_host" | "syslog_port" => {
            "logs of actions go to the server; take it out, and read them with `farrier workflow logs`"
        }
        "facility" => "nothing here reads it; take it out, and write consoles into the record's `consoles`",
        "modules" => {
            "drivers are loaded as devices ask for them; take it out, and build the boot image with --profile server where one lacks"
        }
        "grpc_authority" if !value.is_some_and(is_authority) => {
            "it is not HOST:PORT; write one such as 10.0.0.1:42113"
        }
        "farrier.containerd-address" | "farrier.http" | "farrier.runtime" | "farrier.token" => return None,
        _ if key.starts_with("farrier.") => "it is not known; see what is in docs/reference/boot.md",
        _ => return None,
    };
    Some(match value {
        Some(value) => without_effect(key, value, why),
        None => format!("{key} on the kernel command line has no effect: {why}"),
    })
}

/// What depends on what else is there.
fn beside(cmdline: &Cmdline, mac: Option<MacAddr6>) -> Vec<String> {
    let mut said = Vec::new();
    let value = |key: &str| cmdline.value(key);
    if let Some(worker_id) = value("worker_id") {
        match (parse_mac(worker_id), mac) {
            (None, _) => {
                let why = format!(
                    "the server knows a machine by the MAC of its card; write `agent_id: {worker_id}` into its record"
                );
                said.push(without_effect("worker_id", worker_id, &why));
            }
            (Some(worker), Some(mac)) if worker != mac => {
                let why = format!(
                    "the card is {}, which is named too; write the same MAC, or none",
                    mac_text(mac)
                );
                said.push(without_effect("worker_id", worker_id, &why));
            }
            _ => {}
        }
    }
    if let (Some(interface), Some(mac)) = (value("interface"), mac) {
        let why = format!(
            "the card is {}, which is named too; take one of them out",
            mac_text(mac)
        );
        said.push(without_effect("interface", interface, &why));
    }
    let (registry, user) = (value("docker_registry"), value("registry_username"));
    let login = "a login needs docker_registry=HOST, registry_username=NAME and registry_password=PASSWORD";
    for (key, other) in [("docker_registry", user), ("registry_username", registry)] {
        if let (Some(given), None) = (value(key), other) {
            said.push(without_effect(key, given, login));
        }
    }
    if value("registry_password").is_some() && registry.and(user).is_none() {
        said.push(without_effect("registry_password", "(not shown)", login));
    }
    let proxies = Proxies::of(|name| value(name).map(str::to_owned));
    if let Err(why) = proxies {
        said.push(format!(
            "a proxy on the kernel command line cannot be used, and downloads fail: {why}"
        ));
    }
    said
}

/// `host:port`; the host in brackets where it has colons.
pub(super) fn is_authority(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = !host.is_empty() && (bare.is_some() || !host.contains(':'));
    is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn without_effect(key: &str, value: &str, why: &str) -> String {
    format!("{key}={value} on the kernel command line has no effect: {why}")
}
