//! `bond=NAME:MEMBERS:OPTIONS:MTU`: several cards as one link, as dracut writes it.
//!
//! Source: dracut.cmdline(7); the options and their values: Linux Documentation/networking/bonding.rst.

use macaddr::MacAddr6;

use super::parse_mac;

/// IFNAMSIZ is 16 with the final zero.
const MAX_NAME_BYTES: usize = 15;
/// A VLAN on top is called `NAME.4094`.
const MAX_BOND_NAME_BYTES: usize = MAX_NAME_BYTES - ".4094".len();
/// No machine has as many ports on one switch.
const MAX_MEMBERS: usize = 32;
/// How often the kernel looks at the members' carriers, unless it is told; its own default is never.
const DEFAULT_MIIMON_MS: u32 = 100;
/// Longer than this a link that fails is not noticed while somebody waits.
const MAX_MS: u32 = 60_000;

/// A bond that the machine is to have. The card that it booted from is a member, whether it is named or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bond {
    pub name: String,
    pub members: Vec<Member>,
    pub mode: Mode,
    /// How often carriers are looked at.
    pub miimon_ms: u32,
    /// How long a carrier has to be there before its member is used; a multiple of `miimon_ms`.
    pub updelay_ms: u32,
    pub downdelay_ms: u32,
    pub lacp_rate: LacpRate,
    pub xmit_hash_policy: XmitHashPolicy,
    /// Bytes; `None`: what DHCP says, else 1500.
    pub mtu: Option<u32>,
}

/// A card that is to be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    Mac(MacAddr6),
    Name(String),
}

/// How the members share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One works, the others stand by. The switch needs to know nothing of it.
    ActiveBackup,
    /// All work, as the switch agrees to by LACP. Source: IEEE 802.1AX.
    Lacp,
}

impl Mode {
    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Mode::ActiveBackup => "active-backup",
            Mode::Lacp => "802.3ad",
        }
    }
}

/// How often LACP packets are asked for: each 30 s, or each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LacpRate {
    Fast,
    #[default]
    Slow,
}

/// What decides on which member a packet goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XmitHashPolicy {
    #[default]
    Layer2,
    Layer23,
    Layer34,
}

impl Bond {
    /// Reads the value of `bond=`. Gives also what of its options is not used, in words.
    ///
    /// # Errors
    /// What is wrong, in words, and what would be right.
    pub fn parse(text: &str) -> Result<(Bond, Vec<String>), String> {
        let mut fields = text.split(':');
        let name = fields.next().unwrap_or_default();
        let (members, options) = (
            fields.next().unwrap_or_default(),
            fields.next().unwrap_or_default(),
        );
        let (mtu, rest) = (fields.next().unwrap_or_default(), fields.next());
        if rest.is_some() {
            return Err(
                "it has more than four fields: write NAME:MEMBERS:OPTIONS:MTU, and MACs with dashes"
                    .to_owned(),
            );
        }
        if !is_link_name(name) || name.len() > MAX_BOND_NAME_BYTES {
            return Err(format!(
                "{name:?} is no name for a bond: write one like bond0, of at most {MAX_BOND_NAME_BYTES} letters and digits"
            ));
        }
        let members = members.split(',').filter(|member| !member.is_empty());
        let members: Vec<Member> = members.map(member).collect::<Result<_, String>>()?;
        if members.len() > MAX_MEMBERS {
            return Err(format!(
                "it has {} members, {MAX_MEMBERS} are the most",
                members.len()
            ));
        }
        let mtu = match mtu {
            "" => None,
            text => Some(
                number(text, 576, 65_535)
                    .ok_or_else(|| format!("MTU {text:?} is not a number from 576 to 65535"))?,
            ),
        };
        let mut bond = Bond {
            name: name.to_owned(),
            members,
            mode: mode(options)?,
            miimon_ms: DEFAULT_MIIMON_MS,
            updelay_ms: 0,
            downdelay_ms: 0,
            lacp_rate: LacpRate::default(),
            xmit_hash_policy: XmitHashPolicy::default(),
            mtu,
        };
        let mut unused = Vec::new();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            if let Err(why) = bond.set(option) {
                unused.push(format!("option {option} is not used: {why}"));
            }
        }
        // The kernel refuses other delays.
        bond.updelay_ms -= bond.updelay_ms % bond.miimon_ms;
        bond.downdelay_ms -= bond.downdelay_ms % bond.miimon_ms;
        Ok((bond, unused))
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let delay = |least| {
            number(value, least, MAX_MS)
                .ok_or_else(|| format!("{key} is a number of milliseconds from {least} to {MAX_MS}"))
        };
        match key {
            "mode" => {}
            "miimon" => self.miimon_ms = delay(1)?,
            "updelay" => self.updelay_ms = delay(0)?,
            "downdelay" => self.downdelay_ms = delay(0)?,
            "lacp_rate" => {
                self.lacp_rate = match value {
                    "slow" | "0" => LacpRate::Slow,
                    "fast" | "1" => LacpRate::Fast,
                    _ => return Err("lacp_rate is slow or fast".to_owned()),
                }
            }
            "xmit_hash_policy" => {
                self.xmit_hash_policy = match value {
                    "layer2" | "0" => XmitHashPolicy::Layer2,
                    "layer3+4" | "1" => XmitHashPolicy::Layer34,
                    "layer2+3" | "2" => XmitHashPolicy::Layer23,
                    _ => return Err("xmit_hash_policy is layer2, layer2+3 or layer3+4".to_owned()),
                }
            }
            _ => {
                return Err(
                    "known are mode, miimon, updelay, downdelay, lacp_rate and xmit_hash_policy".to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// The last mode that is named, as for every other option.
fn mode(options: &str) -> Result<Mode, String> {
    let mut named = options
        .split(',')
        .filter_map(|option| option.strip_prefix("mode="));
    match named.next_back() {
        Some("active-backup" | "1") => Ok(Mode::ActiveBackup),
        Some("802.3ad" | "4") => Ok(Mode::Lacp),
        Some(other) => Err(format!(
            "mode {other} is not known: write mode=active-backup or mode=802.3ad"
        )),
        None => Err("it has no mode: write mode=active-backup or mode=802.3ad".to_owned()),
    }
}

fn member(text: &str) -> Result<Member, String> {
    match parse_mac(text) {
        Some(mac) => Ok(Member::Mac(mac)),
        None if is_link_name(text) => Ok(Member::Name(text.to_owned())),
        None => Err(format!(
            "member {text:?} is neither a MAC with dashes, such as 52-54-00-77-00-0b, nor the name of a card"
        )),
    }
}

/// What the kernel and a file name take, without what means something here.
fn is_link_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

fn number(text: &str, least: u32, most: u32) -> Option<u32> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of dracut.cmdline(7), but for its mode, and one with everything.
    #[test]
    fn it_is_read_as_dracut_writes_it() {
        let (bond, unused) = Bond::parse("bond0:eth0,eth1:mode=active-backup").expect("bond");
        assert!(unused.is_empty());
        assert_eq!(
            bond.members,
            [Member::Name("eth0".into()), Member::Name("eth1".into())]
        );
        assert_eq!(
            (bond.name.as_str(), bond.mode, bond.miimon_ms),
            ("bond0", Mode::ActiveBackup, 100)
        );
        let all = "uplink:52-54-00-77-00-0b,eth1:mode=4,miimon=50,updelay=220,downdelay=100,lacp_rate=1,xmit_hash_policy=layer3+4:9000";
        let (bond, unused) = Bond::parse(all).expect("bond");
        let want = Bond {
            name: "uplink".into(),
            members: vec![
                Member::Mac(MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b)),
                Member::Name("eth1".into()),
            ],
            mode: Mode::Lacp,
            miimon_ms: 50,
            // Rounded down to a multiple of miimon, as bonding.rst says that the kernel does.
            updelay_ms: 200,
            downdelay_ms: 100,
            lacp_rate: LacpRate::Fast,
            xmit_hash_policy: XmitHashPolicy::Layer34,
            mtu: Some(9000),
        };
        assert_eq!((bond, unused), (want, vec![]));
        // The card that booted is a member in any case.
        let (alone, _) = Bond::parse("bond0::mode=802.3ad").expect("bond");
        assert!(alone.members.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (text, want) in [
            ("", "is no name for a bond"),
            ("../x:eth0:mode=1", "\"../x\" is no name for a bond"),
            ("a-long-bond:eth0:mode=1", "at most 10 letters"),
            ("bond0", "it has no mode: write mode=active-backup"),
            ("bond0:eth0,eth1:mode=balance-rr", "mode balance-rr is not known"),
            ("bond0:52:54:00:77:00:0b:mode=1", "MACs with dashes"),
            ("bond0:eth0,e/1:mode=1", "member \"e/1\" is neither"),
            ("bond0::mode=1:17", "MTU \"17\" is not a number from 576"),
        ] {
            let said = Bond::parse(text).expect_err(text);
            assert!(said.contains(want), "{text}: {said}");
        }
        let (bond, unused) =
            Bond::parse("bond0:eth1:mode=1,miimon=0,arp_interval=100,lacp_rate=often").expect("bond");
        assert_eq!((bond.miimon_ms, unused.len()), (100, 3), "{unused:?}");
        assert!(
            unused[1].starts_with("option arp_interval=100 is not used: known are mode, miimon"),
            "{unused:?}"
        );
    }
}
