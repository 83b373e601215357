//! Several cards as one link, with the card that booted as its first member.
//!
//! That one is first so that the machine is reached through it where LACP has no partner: then the kernel sends through one
//! aggregator, which stays the one that it began with. Source: Linux drivers/net/bonding/bond_3ad.c,
//! `ad_agg_selection_logic`, the policy "stable"; Documentation/networking/bonding.rst.

use std::path::Path;
use std::time::Duration;

use mac::mac_text;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::link::{Link, LinkError};
use super::nic::{self, Nic};
use crate::cmdline::bond::{Bond, Member, Mode};
use crate::console::{say, stage};
use crate::needed::spawn_needed;
use crate::notices::say_and_tell;

/// How often members are looked for, and at.
const LOOK: Duration = Duration::from_millis(500);
/// A partner answers within a second or two, once its own timers let it.
const LACP_PATIENCE: Duration = Duration::from_secs(10);
const NET: &str = "/sys/class/net";

/// A card's place in a bond, as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    pub bond: String,
    pub mode: String,
    pub in_use: bool,
    /// Empty: none answers, or the mode has none.
    pub partner_mac: String,
}

/// The place of a card, of a folder like `/sys/class/net`; `None`: it is in no bond.
///
/// Source: Linux drivers/net/bonding/{bond_sysfs,bond_sysfs_slave}.c.
pub fn port_of(folder: &Path, card: &str) -> Option<Port> {
    let of_card = |name: &str| line(&folder.join(card).join(name));
    let state = of_card("bonding_slave/state");
    if state.is_empty() {
        return None;
    }
    let master = std::fs::read_link(folder.join(card).join("master")).ok()?;
    let bond = master.file_name()?.to_str()?.to_owned();
    let of_bond = |name: &str| line(&folder.join(&bond).join("bonding").join(name));
    let mode = of_bond("mode").split(' ').next().unwrap_or_default().to_owned();
    let is_lacp = mode == Mode::Lacp.name();
    let aggregator = of_card("bonding_slave/ad_aggregator_id");
    let is_chosen = !is_lacp || (!aggregator.is_empty() && aggregator == of_bond("ad_aggregator"));
    let partner_mac = Some(of_bond("ad_partner_mac")).filter(|mac| is_lacp && mac != NO_PARTNER);
    Some(Port {
        in_use: state == "active" && of_card("bonding_slave/mii_status") == "up" && is_chosen,
        mode,
        partner_mac: partner_mac.unwrap_or_default(),
        bond,
    })
}

const NO_PARTNER: &str = "00:00:00:00:00:00";

/// How a link is called for people: a bond with its mode and its members. Of a VLAN on a bond, too.
pub(super) fn described(link: &str) -> String {
    described_in(Path::new(NET), link)
}

fn described_in(folder: &Path, link: &str) -> String {
    let base = match folder.join(link).join("bonding").exists() {
        true => link,
        false => link.rsplit_once('.').map_or(link, |(base, _)| base),
    };
    let of_bond = |name: &str| line(&folder.join(base).join("bonding").join(name));
    let members = of_bond("slaves");
    match of_bond("mode").split(' ').next() {
        Some(mode) if !mode.is_empty() => format!("{link} ({mode}: {})", members.replace(' ', ", ")),
        _ => link.to_owned(),
    }
}

/// A file of sysfs: its first line, or nothing.
fn line(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// A bond with the card that booted.
pub(super) struct Bonded {
    link: Link,
    card: String,
    bond: Bond,
    is_complete: oneshot::Sender<()>,
    completed: oneshot::Receiver<()>,
}

/// The bond's other members come by themselves from here on.
pub(super) struct Complete(oneshot::Receiver<()>);

/// Makes the bond with the card that booted. Where the kernel refuses, the card stands alone, which is said.
pub(super) async fn begin(card: &Link, bond: &Bond) -> Option<Bonded> {
    match made(card, bond).await {
        Ok(link) => {
            let (is_complete, completed) = oneshot::channel();
            Some(Bonded {
                link,
                card: card.name.clone(),
                bond: bond.clone(),
                is_complete,
                completed,
            })
        }
        Err(e) => {
            say_and_tell(&format!(
                "{} is not made, and {} stands alone: {e}; see that the boot image has the module bonding (--profile server)",
                bond.name, card.name
            ));
            None
        }
    }
}

async fn made(card: &Link, bond: &Bond) -> Result<Link, LinkError> {
    let is_member = port_of(Path::new(NET), &card.name).is_some_and(|port| port.bond == bond.name);
    if is_member {
        // Of a worker before this one.
        return card.other(&bond.name).await;
    }
    let link = card.bond(bond).await?;
    if let Some(mtu) = bond.mtu
        && let Err(e) = link.set_mtu(mtu).await
    {
        say_and_tell(&format!("{e}; going on without"));
    }
    card.down().await?;
    card.join(&link).await?;
    link.up().await?;
    Ok(link)
}

impl Bonded {
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Adds the other members, now or when they come, and tells how the bond does, for as long as the worker runs.
    pub(super) fn complete(self) -> Complete {
        let Bonded {
            link,
            card,
            bond,
            is_complete,
            completed,
        } = self;
        let keeper = Keeper {
            link,
            card,
            bond,
            refused: Vec::new(),
            said: String::new(),
            began: Instant::now(),
            is_complete: Some(is_complete),
        };
        spawn_needed(keeper.run());
        Complete(completed)
    }
}

impl Complete {
    /// Waits until it is known how the bond does: with LACP until its partner answers, or does not.
    pub(super) async fn settled(self) {
        let _ = self.0.await;
    }
}

struct Keeper {
    link: Link,
    /// That booted.
    card: String,
    bond: Bond,
    /// Cards that the kernel would not take, so that it is said once.
    refused: Vec<String>,
    said: String,
    began: Instant,
    is_complete: Option<oneshot::Sender<()>>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            for nic in missing(&self.bond, &nic::list(), |name| {
                port_of(Path::new(NET), name).is_some()
            }) {
                self.add(&nic).await;
            }
            self.look();
            sleep(LOOK).await;
        }
    }

    async fn add(&mut self, nic: &Nic) {
        if self.refused.contains(&nic.name) {
            return;
        }
        let added = async {
            let card = self.link.other(&nic.name).await?;
            card.down().await?;
            card.join(&self.link).await
        };
        if let Err(e) = added.await {
            self.refused.push(nic.name.clone());
            say_and_tell(&format!("{}: {e}; going on without {}", self.bond.name, nic.name));
        }
    }

    /// Says how it does when that has changed.
    fn look(&mut self) {
        let ports = nic::list().into_iter().filter_map(|nic| {
            let port = port_of(Path::new(NET), &nic.name).filter(|port| port.bond == self.bond.name)?;
            Some((nic.name, port))
        });
        let ports: Vec<(String, Port)> = ports.collect();
        let has_partner = ports.iter().any(|(_, port)| !port.partner_mac.is_empty());
        let is_late = self.began.elapsed() >= LACP_PATIENCE;
        let is_settled = self.bond.mode != Mode::Lacp || has_partner || is_late;
        if !is_settled {
            return;
        }
        let state = in_words(&self.bond, &self.card, &ports);
        if state != self.said {
            if self.bond.mode == Mode::Lacp && !has_partner {
                say_and_tell(&state);
            } else {
                say(&state);
            }
            self.said = state;
        }
        if let Some(is_complete) = self.is_complete.take() {
            let names: Vec<&str> = ports.iter().map(|(name, _)| name.as_str()).collect();
            let partner = ports.iter().map(|(_, port)| port.partner_mac.as_str()).next();
            stage(
                "bond",
                &[
                    ("name", &self.bond.name),
                    ("mode", self.bond.mode.name()),
                    ("members", &names.join(",")),
                    ("partner", partner.unwrap_or_default()),
                ],
            );
            let _ = is_complete.send(());
        }
    }
}

/// Cards that are named as members and are in no bond yet.
fn missing(bond: &Bond, nics: &[Nic], is_in_bond: impl Fn(&str) -> bool) -> Vec<Nic> {
    let is_named = |nic: &&Nic| {
        bond.members.iter().any(|member| match member {
            Member::Mac(mac) => *mac == nic.mac,
            Member::Name(name) => *name == nic.name,
        })
    };
    let named = nics.iter().filter(is_named);
    named.filter(|nic| !is_in_bond(&nic.name)).cloned().collect()
}

fn in_words(bond: &Bond, card: &str, ports: &[(String, Port)]) -> String {
    let names = |which: &dyn Fn(&Port) -> bool| {
        let names = ports
            .iter()
            .filter(|(_, port)| which(port))
            .map(|(name, _)| name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let (used, idle) = (names(&|port| port.in_use), names(&|port| !port.in_use));
    let used = if used.is_empty() { "none" } else { &used };
    let idle = match idle.as_str() {
        "" => String::new(),
        idle => format!(", not in use: {idle}"),
    };
    let name = &bond.name;
    let mode = bond.mode.name();
    let partner = ports
        .iter()
        .map(|(_, port)| &port.partner_mac)
        .find(|mac| !mac.is_empty());
    match (bond.mode, partner) {
        (Mode::ActiveBackup, _) => format!("{name}: {mode}, in use: {used}{idle}"),
        (Mode::Lacp, Some(partner)) => format!("{name}: {mode} with {partner}, in use: {used}{idle}"),
        (Mode::Lacp, None) => format!(
            "{name}: {mode} has no partner, and the machine works through {card} alone: put the ports of {} into one LACP channel of the \
             switch, in mode active or passive",
            members_in_words(bond, card)
        ),
    }
}

fn members_in_words(bond: &Bond, card: &str) -> String {
    let name = |member: &Member| match member {
        Member::Mac(mac) => mac_text(*mac),
        Member::Name(name) => name.clone(),
    };
    let mut names: Vec<String> = bond.members.iter().map(name).collect();
    if names.is_empty() {
        names.push(card.to_owned());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(path, format!("{content}\n")).expect("written");
    }

    /// As Linux 6.12 shows a bond of two cards, of which the second one's cable is out.
    fn folder(partner: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path();
        put(root, "bond0/bonding/mode", "802.3ad 4");
        put(root, "bond0/bonding/slaves", "eth0 eth1");
        put(root, "bond0/bonding/ad_aggregator", "1");
        put(root, "bond0/bonding/ad_partner_mac", partner);
        put(root, "eth2/address", "52:54:00:77:00:0d");
        put(root, "bond0.100/address", "52:54:00:77:00:0b");
        for (card, mii, aggregator) in [("eth0", "up", "1"), ("eth1", "down", "2")] {
            put(root, &format!("{card}/bonding_slave/state"), "active");
            put(root, &format!("{card}/bonding_slave/mii_status"), mii);
            put(
                root,
                &format!("{card}/bonding_slave/ad_aggregator_id"),
                aggregator,
            );
            symlink("../bond0", root.join(card).join("master")).expect("link");
        }
        folder
    }

    #[test]
    fn a_cards_place_in_a_bond_is_what_sysfs_says() {
        let folder = folder("52:54:00:88:00:01");
        let port = |in_use| Port {
            bond: "bond0".into(),
            mode: "802.3ad".into(),
            in_use,
            partner_mac: "52:54:00:88:00:01".into(),
        };
        assert_eq!(port_of(folder.path(), "eth0"), Some(port(true)));
        assert_eq!(port_of(folder.path(), "eth1"), Some(port(false)));
        assert_eq!(port_of(folder.path(), "eth2"), None);
        for (link, want) in [
            ("bond0", "bond0 (802.3ad: eth0, eth1)"),
            ("bond0.100", "bond0.100 (802.3ad: eth0, eth1)"),
            ("eth2", "eth2"),
            ("eth2.7", "eth2.7"),
        ] {
            assert_eq!(described_in(folder.path(), link), want);
        }
    }

    #[test]
    fn a_bond_says_who_works_and_what_to_do_without_a_partner() {
        let (bond, _) = Bond::parse("bond0:eth0,52-54-00-77-00-0c:mode=802.3ad").expect("bond");
        let words = |partner: &str| {
            let folder = folder(partner);
            let port = |card: &str| (card.to_owned(), port_of(folder.path(), card).expect("port"));
            in_words(&bond, "eth0", &[port("eth0"), port("eth1")])
        };
        assert_eq!(
            words("52:54:00:88:00:01"),
            "bond0: 802.3ad with 52:54:00:88:00:01, in use: eth0, not in use: eth1"
        );
        assert_eq!(
            words(NO_PARTNER),
            "bond0: 802.3ad has no partner, and the machine works through eth0 alone: put the ports of eth0, 52:54:00:77:00:0c into \
             one LACP channel of the switch, in mode active or passive"
        );
    }

    #[test]
    fn members_are_found_by_mac_or_name_and_those_that_come_later_are_still_missing() {
        let (bond, _) = Bond::parse("bond0:52-54-00-77-00-0c,eth2,eth9:mode=1").expect("bond");
        let nic = |name: &str, last| Nic {
            name: name.into(),
            mac: macaddr::MacAddr6::new(0x52, 0x54, 0, 0x77, 0, last),
            driver: String::new(),
            carrier: true,
        };
        let nics = [nic("eth0", 0x0b), nic("eth1", 0x0c), nic("eth2", 0x0d)];
        let names = |found: Vec<Nic>| found.into_iter().map(|nic| nic.name).collect::<Vec<_>>();
        assert_eq!(names(missing(&bond, &nics, |_| false)), ["eth1", "eth2"]);
        assert_eq!(names(missing(&bond, &nics, |name| name == "eth1")), ["eth2"]);
    }
}
