//! A file of machines: which form each document has, and what the documents must not say together.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;
use std::net::Ipv4Addr;

use macaddr::MacAddr6;
use yaml::{Finding, Findings, Kind, Place};

use super::file::{File, Stored, drafts};
use super::names::{NAME_RULE, is_name};
use super::{Machine, mac_text, parse_mac};

/// Network interfaces of a machine: it is written, and deleted, in one commit with all that leads to it.
const MAX_INTERFACES: usize = 48;

/// A machine, and where in the file it and what must be unique about it stand.
#[derive(Debug)]
pub(super) struct Draft {
    /// Which of the files has it, from 0.
    pub(super) file: usize,
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

/// What was found in files that belong together, each at its place.
#[derive(Debug)]
pub(super) struct Found {
    files: Vec<(String, Findings)>,
}

impl Found {
    pub(super) fn of(&self, draft: &Draft) -> &Findings {
        // INVARIANT: a draft is of one of the files that this was made for.
        &self.files[draft.file].1
    }

    /// The line of a draft, as one of `other` sees it.
    fn line(&self, draft: &Draft, other: &Draft) -> String {
        let line = draft.place.line;
        self.in_file(line, draft.file, other.file)
    }

    fn in_file(&self, line: u32, file: usize, other: usize) -> String {
        match self.files.get(file) {
            Some((source, _)) if file != other => format!("{source}, line {line}"),
            _ => format!("line {line}"),
        }
    }

    /// Problems and warnings, a line each, file by file.
    pub(super) fn into_lines(self) -> (Vec<String>, Vec<String>) {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for (source, findings) in self.files {
            let lines = |found: Vec<Finding>| {
                found
                    .into_iter()
                    .map(|one| one.in_file(&source))
                    .collect::<Vec<_>>()
            };
            let (wrong, odd) = findings.into_sorted();
            problems.extend(lines(wrong));
            warnings.extend(lines(odd));
        }
        (problems, warnings)
    }

    /// Of the first file.
    pub(super) fn into_first(self) -> Vec<Finding> {
        let first = self.files.into_iter().next();
        first.map_or_else(Vec::new, |(_, findings)| findings.into_sorted().0)
    }
}

/// The machines of files, before the store was asked for more than records as they are `stored`.
///
/// All problems of the files are in what was found.
pub(super) fn read(files: &[File], served: &[Served], stored: Stored<'_>) -> (Vec<Draft>, Found) {
    let mut all = Vec::new();
    let mut found = Found { files: Vec::new() };
    let mut passed_over = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let findings = Findings::default();
        let read = drafts(file, stored, &findings);
        all.extend(read.drafts.into_iter().map(|draft| Draft {
            file: number,
            ..draft
        }));
        // One that has other objects may stand beside files of machines.
        if read.records == 0 && read.foreign.is_empty() && !findings.has_problems() {
            findings.problem(START, Kind::Missing, "the file holds no machine");
        }
        passed_over.extend(read.foreign);
        let source = match file.source.as_str() {
            "" => "machines".to_owned(),
            source => source.to_owned(),
        };
        found.files.push((source, findings));
    }
    let has_problems = found.files.iter().any(|(_, findings)| findings.has_problems());
    if let (true, false, Some((_, findings))) = (all.is_empty(), has_problems, found.files.first()) {
        let whose = match files.len() {
            1 => "the file holds",
            _ => "the files hold",
        };
        let message = format!("{whose} no machine, only {}", passed_over.join(", "));
        findings.problem(START, Kind::Missing, message);
    }
    check(&all, served, &found);
    (all, found)
}

/// What the drafts must not say, each by itself and together.
fn check(drafts: &[Draft], served: &[Served], found: &Found) {
    for draft in drafts.iter().filter(|draft| draft.macs.len() > MAX_INTERFACES) {
        let message = format!(
            "machine {:?} has {} network interfaces, {MAX_INTERFACES} are the most: leave out those that never netboot",
            draft.machine.name,
            draft.macs.len()
        );
        found.of(draft).problem(draft.place, Kind::TooMuch, message);
    }
    let names = drafts.iter().filter(|draft| !draft.machine.name.is_empty());
    for draft in names.clone() {
        check_name(draft, found.of(draft));
    }
    for draft in drafts {
        for (address, place) in &draft.addresses {
            check_served(*address, *place, served, found.of(draft));
        }
    }
    once(
        names.map(|draft| (draft, &draft.machine.name, draft.place)),
        "machine",
        found,
    );
    let macs = drafts.iter().flat_map(|draft| {
        draft
            .macs
            .iter()
            .map(move |(mac, at)| (draft, mac_text(*mac), *at))
    });
    once(macs, "MAC", found);
    let addresses = drafts.iter().flat_map(|draft| {
        draft
            .addresses
            .iter()
            .map(move |(address, at)| (draft, address, *at))
    });
    once(addresses, "address", found);
    let agent_ids = drafts.iter().filter_map(|draft| {
        let (id, at) = draft.agent_id.as_ref()?;
        check_agent_id(draft, id, *at, found.of(draft));
        Some((draft, id, *at))
    });
    once(agent_ids, "agent id", found);
    for draft in drafts {
        let same = |other: &&Draft| {
            let other = &other.machine;
            draft.agent_id.as_ref().is_some_and(|(id, _)| *id == other.name)
                && other.name != draft.machine.name
        };
        if let (Some(other), Some((id, at))) = (drafts.iter().find(same), &draft.agent_id) {
            let line = found.line(other, draft);
            found.of(draft).problem(
                *at,
                Kind::Conflict,
                format!("agent id {id:?} is the name of another machine, in {line}: {ANOTHER_ID}"),
            );
        }
    }
}

/// A whole file is meant.
const START: Place = Place { line: 1, column: 1 };

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
pub(super) fn check_taken(drafts: &[Draft], taken: &Taken, found: &Found) {
    for draft in drafts {
        let findings = found.of(draft);
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
    found: &Found,
) {
    let mut first: HashMap<K, (String, Place, usize)> = HashMap::new();
    for (draft, value, place) in claims {
        if let Some((owner, at, file)) = first.get(&value) {
            let whose = if *owner == draft.machine.name || owner.is_empty() {
                String::new()
            } else {
                format!(" for machine {owner:?}")
            };
            let line = found.in_file(at.line, *file, draft.file);
            found.of(draft).problem(
                place,
                Kind::Twice,
                format!("{what} {value} is given twice: first in {line}{whose}"),
            );
        } else {
            first.insert(value, (draft.machine.name.clone(), place, draft.file));
        }
    }
}

const ANOTHER_ID: &str = "a worker of that name would mean both; use another one";
