//! A record's `bond`: the word of the agent's kernel command line that it becomes.
//!
//! Source: dracut.cmdline(7), `bond=NAME:MEMBERS:OPTIONS:MTU`; the agent wants MACs with dashes, as colons separate the fields.

use macaddr::MacAddr6;
use yaml::{Fields, Findings, Kind, Known, Node, Place, Unknown};

use super::typed::mac;
use super::{mac_text, parse_mac};

const FIELDS: &[&str] = &[
    "mode",
    "name",
    "members",
    "mtu",
    "miimon",
    "updelay",
    "downdelay",
    "lacp_rate",
    "xmit_hash_policy",
];
const MODES: [&str; 2] = ["active-backup", "802.3ad"];
/// Beside the mode, in the order in which they are written.
const OPTIONS: [&str; 5] = ["miimon", "updelay", "downdelay", "lacp_rate", "xmit_hash_policy"];
/// Linux IFNAMSIZ, less the final zero and `.4094` of a VLAN on top.
const MAX_NAME_BYTES: usize = 10;
const MAX_CARD_BYTES: usize = 15;

/// `bond=…`, of the cards that the record has unless it names others; `None` where it has no bond, or a wrong one.
pub(super) fn read(fields: &Fields<'_>, macs: &[(MacAddr6, Place)], findings: &Findings) -> Option<String> {
    let node = fields.get("bond")?;
    let problem = |place, message: String| findings.problem(place, Kind::Value, message);
    if let Some(mode) = node.text() {
        // All of it: every card of the record.
        check_mode(mode, node.at, findings);
        return Some(word(
            "bond0",
            &all(macs, node.at, findings),
            &format!("mode={mode}"),
            None,
        ));
    }
    let bond = Fields::of(
        Some(node),
        Known::new("a bond", FIELDS, Unknown::Problem),
        findings,
    );
    let Some((mode, mode_at)) = bond.placed("mode") else {
        findings.problem(
            node.at,
            Kind::Missing,
            "the bond has no mode: write `mode: 802.3ad` or `mode: active-backup`",
        );
        return None;
    };
    check_mode(&mode, mode_at, findings);
    let name = bond.text("name").unwrap_or("bond0");
    if !is_link_name(name, MAX_NAME_BYTES) {
        let message = format!(
            "bad bond name {name:?}: expected one like bond0, of at most {MAX_NAME_BYTES} letters and digits"
        );
        problem(bond.at("name"), message);
    }
    let members = match bond.items("members") {
        [] => all(macs, node.at, findings),
        named => named.iter().filter_map(|node| member(node, findings)).collect(),
    };
    let mtu: Option<u32> = bond.parse("mtu", "mtu", "a number of bytes such as 9000");
    if let Some(mtu) = mtu.filter(|mtu| !(576..=65_535).contains(mtu)) {
        problem(
            bond.at("mtu"),
            format!("bad mtu {mtu}: expected 576 to 65535 bytes"),
        );
    }
    let mut options = format!("mode={mode}");
    for option in OPTIONS {
        let Some(value) = bond.text(option) else { continue };
        match expected(option, value) {
            None => options.push_str(&format!(",{option}={value}")),
            Some(expected) => problem(
                bond.at(option),
                format!("bad {option} {value:?}: expected {expected}"),
            ),
        }
    }
    Some(word(name, &members, &options, mtu))
}

fn word(name: &str, members: &[String], options: &str, mtu: Option<u32>) -> String {
    let mtu = mtu.map_or_else(String::new, |mtu| format!(":{mtu}"));
    format!("bond={name}:{}:{options}{mtu}", members.join(","))
}

fn all(macs: &[(MacAddr6, Place)], at: Place, findings: &Findings) -> Vec<String> {
    if macs.len() == 1 {
        let message = "the bond has one card only: write the MACs of the others into `macs`, or `members`";
        findings.warn(at, Kind::Odd, message);
    }
    macs.iter().map(|(mac, _)| with_dashes(*mac)).collect()
}

fn member(node: &Node, findings: &Findings) -> Option<String> {
    let text = node.text().unwrap_or_default();
    if parse_mac(text).is_some() {
        return mac(node, findings).map(|(mac, _)| with_dashes(mac));
    }
    if is_link_name(text, MAX_CARD_BYTES) {
        return Some(text.to_owned());
    }
    let message = format!(
        "bad member {}: expected a MAC such as 52:54:00:77:00:0b, or the kernel's name of a card such as eth1",
        node.describe()
    );
    findings.problem(node.at, Kind::Value, message);
    None
}

fn with_dashes(mac: MacAddr6) -> String {
    mac_text(mac).replace(':', "-")
}

fn check_mode(mode: &str, at: Place, findings: &Findings) {
    if !MODES.contains(&mode) {
        let message = format!("bad mode {mode:?} of a bond: expected 802.3ad (LACP) or active-backup");
        findings.problem(at, Kind::Value, message);
    }
}

/// What would be right, where the value is not.
fn expected(option: &str, value: &str) -> Option<&'static str> {
    let is_ms = |least: u32| value.parse().is_ok_and(|ms: u32| (least..=60_000).contains(&ms));
    match option {
        "miimon" => (!is_ms(1)).then_some("milliseconds from 1 to 60000"),
        "updelay" | "downdelay" => (!is_ms(0)).then_some("milliseconds from 0 to 60000"),
        "lacp_rate" => (!["slow", "fast"].contains(&value)).then_some("slow or fast"),
        _ => (!["layer2", "layer2+3", "layer3+4"].contains(&value)).then_some("layer2, layer2+3 or layer3+4"),
    }
}

/// What the agent takes for the name of a link.
fn is_link_name(text: &str, most: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=most).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::super::file::{File, Stored, drafts};
    use super::*;

    /// The kernel parameters of the one record, and what is said of it.
    fn read(bond: &str) -> (Vec<String>, Vec<String>) {
        let text = format!(
            "machine: n1\nmac: 52:54:00:77:00:0b\nmacs: [52:54:00:77:00:0c]\nkernel_params: quiet\nbond: {bond}\n"
        );
        let findings = Findings::default();
        let file = File {
            text,
            ..File::default()
        };
        let drafts = drafts(&file, Stored::NOTHING, &findings).drafts;
        let (problems, warnings) = findings.into_sorted();
        let said = problems.into_iter().chain(warnings);
        let said = said.map(|finding| finding.in_file("f")).collect();
        let words = drafts.into_iter().flat_map(|draft| draft.machine.kernel_params);
        (words.collect(), said)
    }

    /// dracut.cmdline(7) has the form; the agent's own test reads the same words.
    #[test]
    fn a_bond_becomes_a_word_of_the_kernel_command_line() {
        let cards = "52-54-00-77-00-0b,52-54-00-77-00-0c";
        for (bond, want) in [
            ("802.3ad", format!("bond=bond0:{cards}:mode=802.3ad")),
            ("{mode: active-backup}", format!("bond=bond0:{cards}:mode=active-backup")),
            (
                "{mode: 802.3ad, name: up, members: [eth0, \"52:54:00:77:00:0C\"], lacp_rate: fast, miimon: 50, xmit_hash_policy: layer3+4, mtu: 9000}",
                "bond=up:eth0,52-54-00-77-00-0c:mode=802.3ad,miimon=50,lacp_rate=fast,xmit_hash_policy=layer3+4:9000".to_owned(),
            ),
        ] {
            assert_eq!(read(bond), (vec!["quiet".to_owned(), want], vec![]), "{bond}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_bond_is_said_in_its_place() {
        for (bond, want) in [
            (
                "balance-rr",
                "f:5:7: bad mode \"balance-rr\" of a bond: expected 802.3ad (LACP) or active-backup",
            ),
            ("{name: bond0}", "the bond has no mode: write `mode: 802.3ad`"),
            (
                "{mode: 802.3ad, name: a-long-bond}",
                "bad bond name \"a-long-bond\"",
            ),
            (
                "{mode: 802.3ad, members: [\"a b\"]}",
                "bad member \"a b\": expected a MAC",
            ),
            (
                "{mode: 802.3ad, members: [\"ff:ff:ff:ff:ff:ff\"]}",
                "bad MAC ff:ff:ff:ff:ff:ff",
            ),
            (
                "{mode: 802.3ad, mtu: 80}",
                "bad mtu 80: expected 576 to 65535 bytes",
            ),
            (
                "{mode: 802.3ad, lacp_rate: often}",
                "bad lacp_rate \"often\": expected slow or fast",
            ),
            (
                "{mode: 802.3ad, miimon: 0}",
                "bad miimon \"0\": expected milliseconds from 1",
            ),
            ("{mode: 802.3ad, lacprate: fast}", "did you mean \"lacp_rate\"?"),
        ] {
            let (_, said) = read(bond);
            assert!(said.len() == 1 && said[0].contains(want), "{bond}: {said:?}");
        }
    }
}
