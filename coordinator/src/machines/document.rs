//! A file of machines: which form each document has, and what the documents must not say together.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;
use std::net::Ipv4Addr;

use macaddr::MacAddr6;
use yaml::{Findings, Kind, Place};

use super::file::{Strictness, drafts};
use super::names::{NAME_RULE, is_name};
use super::{Machine, mac_text, parse_mac};

/// Network interfaces of a machine: it is written, and deleted, in one commit with all that leads to it.
const MAX_INTERFACES: usize = 48;

/// A machine, and where in the file it and what must be unique about it stand.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) place: Place,
    pub(super) machine: Machine,
    pub(super) macs: Vec<(MacAddr6, Place)>,
    pub(super) addresses: Vec<(Ipv4Addr, Place)>,
    pub(super) agent_id: Option<(String, Place)>,
    /// As the record names it.
    pub(super) namespace: Option<(String, Place)>,
}

/// What else owns a MAC, an address or an agent id, by the store: in words, as a machine out of reach is not named.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) macs: HashMap<MacAddr6, String>,
    pub(super) addresses: HashMap<Ipv4Addr, String>,
    pub(super) agent_ids: HashMap<String, String>,
    /// Names of machines that stand as agent ids in the file.
    pub(super) names: HashSet<String>,
    /// By the agent id that stands as a machine's name in the file.
    pub(super) agents_named: HashMap<String, String>,
}

/// An address of this server on the network that machines are on, and the length of that network's prefix.
pub type Served = (Ipv4Addr, u8);

/// The machines of a file, before the store was asked.
///
/// # Errors
/// All problems of the file, in its order.
pub(super) fn read(text: &str, served: &[Served], strictness: Strictness, findings: &Findings) -> Vec<Draft> {
    let drafts = drafts(text, strictness, findings);
    for draft in drafts.iter().filter(|draft| draft.macs.len() > MAX_INTERFACES) {
        let message = format!(
            "machine {:?} has {} network interfaces, {MAX_INTERFACES} are the most: leave out those that never netboot",
            draft.machine.name,
            draft.macs.len()
        );
        findings.problem(draft.place, Kind::TooMuch, message);
    }
    let names = drafts.iter().filter(|draft| !draft.machine.name.is_empty());
    for draft in names.clone() {
        check_name(draft, findings);
    }
    for (address, place) in drafts.iter().flat_map(|draft| &draft.addresses) {
        check_served(*address, *place, served, findings);
    }
    once(
        names.map(|draft| (draft, &draft.machine.name, draft.place)),
        "machine",
        findings,
    );
    let macs = drafts.iter().flat_map(|draft| {
        draft
            .macs
            .iter()
            .map(move |(mac, at)| (draft, mac_text(*mac), *at))
    });
    once(macs, "MAC", findings);
    let addresses = drafts.iter().flat_map(|draft| {
        draft
            .addresses
            .iter()
            .map(move |(address, at)| (draft, address, *at))
    });
    once(addresses, "address", findings);
    let agent_ids = drafts.iter().filter_map(|draft| {
        let (id, at) = draft.agent_id.as_ref()?;
        check_agent_id(draft, id, *at, findings);
        Some((draft, id, *at))
    });
    once(agent_ids, "agent id", findings);
    for draft in &drafts {
        let same = |other: &&Draft| {
            let other = &other.machine;
            draft.agent_id.as_ref().is_some_and(|(id, _)| *id == other.name)
                && other.name != draft.machine.name
        };
        if let (Some(other), Some((id, at))) = (drafts.iter().find(same), &draft.agent_id) {
            let line = other.place.line;
            findings.problem(
                *at,
                Kind::Conflict,
                format!("agent id {id:?} is the name of another machine, in line {line}: {ANOTHER_ID}"),
            );
        }
    }
    drafts
}

/// A name stands where a MAC or an agent id may stand, and in keys of the store between slashes.
fn check_name(draft: &Draft, findings: &Findings) {
    let name = &draft.machine.name;
    let own = |mac| draft.macs.iter().any(|(own, _)| *own == mac);
    match parse_mac(name) {
        Some(mac) if own(mac) => {}
        Some(_) => findings.problem(
            draft.place,
            Kind::Value,
            format!("bad machine name {name:?}: it is a MAC, and none of this machine's own; write a name"),
        ),
        None if is_name(name) => check_own_address("machine name", name, draft, draft.place, findings),
        None => findings.problem(
            draft.place,
            Kind::Value,
            format!(
                "bad machine name {name:?}: expected {NAME_RULE} (a machine that has this name from before can be shown and \
                 deleted)"
            ),
        ),
    }
}

/// A word that is an address means the machine that has it: no other is called so.
fn check_own_address(what: &str, word: &str, draft: &Draft, place: Place, findings: &Findings) {
    let Ok(address) = word.parse::<Ipv4Addr>() else {
        return;
    };
    if !draft.addresses.iter().any(|(own, _)| *own == address) {
        let message = format!(
            "bad {what} {word:?}: it is an address, and none of this machine's own: a worker of that name would mean the machine \
             that has it; write another"
        );
        findings.problem(place, Kind::Value, message);
    }
}

fn check_served(address: Ipv4Addr, place: Place, served: &[Served], findings: &Findings) {
    if served.iter().any(|(own, _)| *own == address) {
        let message =
            format!("bad address {address}: it is this server's own; write another one of its network");
        return findings.problem(place, Kind::Conflict, message);
    }
    let is_within = |(own, len): &Served| {
        netmask_of(u32::from(*len))
            .is_some_and(|mask| (own.to_bits() ^ address.to_bits()) & mask.to_bits() == 0)
    };
    if !served.is_empty() && !served.iter().any(is_within) {
        let networks: Vec<String> = served.iter().map(|(own, len)| format!("{own}/{len}")).collect();
        let message = format!(
            "address {address} is outside the network that this server is on ({}): it is of use only behind a DHCP relay",
            networks.join(", ")
        );
        findings.warn(place, Kind::Odd, message);
    }
}

/// An agent id stands where a MAC may stand, and in keys of the store between slashes.
fn check_agent_id(draft: &Draft, id: &str, place: Place, findings: &Findings) {
    if parse_mac(id).is_none() && !is_name(id) {
        let message = format!("bad agent id {id:?}: expected {NAME_RULE}, or one of this machine's MACs");
        findings.problem(place, Kind::Value, message);
    }
    check_own_address("agent id", id, draft, place, findings);
    if let Some(mac) = parse_mac(id)
        && draft.macs.iter().all(|(own, _)| *own != mac)
    {
        let message = format!(
            "bad agent id {id:?}: it is the MAC of another machine; write one of this machine's own, or a name"
        );
        findings.problem(place, Kind::Value, message);
    }
}

/// What the drafts claim and another machine in the store has.
pub(super) fn check_taken(drafts: &[Draft], taken: &Taken, findings: &Findings) {
    for draft in drafts {
        for (mac, place) in &draft.macs {
            if let Some(owner) = taken.macs.get(mac) {
                let mac = mac_text(*mac);
                let message =
                    format!("MAC {mac} belongs to {owner} already: use another, or delete that machine");
                findings.problem(*place, Kind::Conflict, message);
            }
        }
        for (address, place) in &draft.addresses {
            if let Some(owner) = taken.addresses.get(address) {
                let message = format!(
                    "address {address} belongs to {owner} already: use another, or delete that machine"
                );
                findings.problem(*place, Kind::Conflict, message);
            }
        }
        if let Some(owner) = taken.agents_named.get(&draft.machine.name) {
            let name = &draft.machine.name;
            let message = format!(
                "bad machine name {name:?}: it is the agent id of {owner}; use another, or give that machine another \
                 agent id"
            );
            findings.problem(draft.place, Kind::Conflict, message);
        }
        if let Some((id, place)) = &draft.agent_id
            && taken.names.contains(id)
        {
            findings.problem(
                *place,
                Kind::Conflict,
                format!("agent id {id:?} is the name of another machine: {ANOTHER_ID}"),
            );
        }
        if let Some((id, place)) = &draft.agent_id
            && let Some(owner) = taken.agent_ids.get(id)
        {
            let message =
                format!("agent id {id:?} belongs to {owner} already: use another, or delete that machine");
            findings.problem(*place, Kind::Conflict, message);
        }
    }
}

/// The mask of `len` leading ones.
pub(super) fn netmask_of(len: u32) -> Option<Ipv4Addr> {
    let bits = if len == 0 {
        0
    } else {
        u32::MAX.checked_shl(32_u32.checked_sub(len)?)?
    };
    Some(Ipv4Addr::from_bits(bits))
}

fn once<'a, K: Eq + Hash + Display>(
    claims: impl Iterator<Item = (&'a Draft, K, Place)>,
    what: &str,
    findings: &Findings,
) {
    let mut first: HashMap<K, (String, Place)> = HashMap::new();
    for (draft, value, place) in claims {
        if let Some((owner, at)) = first.get(&value) {
            let whose = if *owner == draft.machine.name || owner.is_empty() {
                String::new()
            } else {
                format!(" for machine {owner:?}")
            };
            findings.problem(
                place,
                Kind::Twice,
                format!("{what} {value} is given twice: first in line {}{whose}", at.line),
            );
        } else {
            first.insert(value, (draft.machine.name.clone(), place));
        }
    }
}

const ANOTHER_ID: &str = "a worker of that name would mean both; use another one";
