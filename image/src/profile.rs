//! Profiles: which kernel and which drivers a boot image carries. What is in one is a list, in `profiles/NAME.profile`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::firmware::Firmware;
use crate::modules::{ModuleTree, module_name};
use crate::tools;

/// What kind of machine a boot image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Virtual machines: Debian's cloud kernel, virtio and NVMe, the common filesystems.
    #[default]
    Lab,
    /// Physical servers: Debian's kernel with its Ethernet, storage, RAID, Fibre Channel and filesystem drivers.
    Server,
}

/// Profiles that an image has together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profiles {
    /// Whose kernel and drivers.
    pub machines: Profile,
    /// containerd with what it runs, beside them.
    pub containerd: bool,
}

impl From<Profile> for Profiles {
    fn from(machines: Profile) -> Self {
        Self {
            machines,
            containerd: false,
        }
    }
}

impl Profiles {
    /// Those of these names. `containerd` comes beside one of the others, [`Profile::Lab`] where none is named.
    ///
    /// # Errors
    /// In words: a name that none has, or two of which each has a kernel.
    pub fn named<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, ProfilesError> {
        let (mut machines, mut containerd) = (None, false);
        for name in names {
            let name = name.as_ref();
            if name == CONTAINERD {
                containerd = true;
                continue;
            }
            let profile: Profile = name.parse()?;
            if let Some(first) = machines.replace(profile)
                && first != profile
            {
                return Err(ProfilesError::TwoKernels {
                    one: first,
                    other: profile,
                });
            }
        }
        Ok(Self {
            machines: machines.unwrap_or_default(),
            containerd,
        })
    }

    /// What the agent and the base may have, packed. An agent with the client of containerd may have more.
    pub(crate) fn budgets(self) -> Vec<(&'static str, u64)> {
        let mut budgets = self.machines.contents().budgets;
        let more: u64 = tools::Wanted::of_lists(self.containerd)
            .iter()
            .map(|list| list.client_bytes)
            .sum();
        for (name, bytes) in &mut budgets {
            *bytes += if *name == AGENT { more } else { 0 };
        }
        budgets
    }
}

impl fmt::Display for Profiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.containerd {
            false => write!(formatter, "{}", self.machines),
            true => write!(formatter, "{}-{CONTAINERD}", self.machines),
        }
    }
}

/// Why profiles do not make an image.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    /// Each has a kernel.
    #[error("an image has one kernel: name {one} or {other}, not both")]
    TwoKernels { one: Profile, other: Profile },
    /// None has this name.
    #[error("{0}, containerd")]
    Unknown(#[from] UnknownProfile),
}

const CONTAINERD: &str = "containerd";
/// The family of the agent itself.
pub(crate) const AGENT: &str = "agent";

/// What the list of a profile says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The Debian package of the kernel, or one that depends on it.
    pub(crate) kernel_package: &'static str,
    /// What firmware is taken unless another is asked for.
    pub(crate) firmware: Firmware,
    /// What the agent and the drivers of the base may have, packed.
    pub(crate) budgets: Vec<(&'static str, u64)>,
    pub(crate) families: Vec<Family>,
}

/// How modules reach a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In the initramfs of every machine.
    Base,
    /// One by one, by the agent, over HTTP.
    Fetched,
    /// In an archive of the family's own, for machines that boot from one of its cards.
    Overlay,
}

/// Modules that are taken for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) delivery: Delivery,
    /// What it may have, packed; `None` in the base, which has one for all of it.
    pub(crate) budget_bytes: Option<u64>,
    pub(crate) reason: &'static str,
    /// Cards that the base or an overlay is for although none of its modules names them: `vendor:device`.
    pub(crate) cards: Vec<&'static str>,
    /// Modules without which the image is of no use.
    pub(crate) required: Vec<&'static str>,
    /// Names, with `*` for anything, and folders, ending with `/`.
    pub(crate) taken: Vec<&'static str>,
    /// What is left out again.
    pub(crate) left_out: Vec<&'static str>,
}

/// The modules of one kernel that a profile names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) required: Vec<String>,
    pub(crate) optional: Vec<String>,
    /// Entries of the list that this kernel has nothing for.
    pub(crate) unknown: Vec<&'static str>,
    /// By family, in the order of the list, the names of both kinds.
    pub(crate) families: Vec<(Family, Vec<String>)>,
}

impl Profile {
    /// The Debian package whose first dependency is the kernel of this profile.
    pub fn kernel_package(self) -> &'static str {
        self.contents().kernel_package
    }

    pub(crate) fn contents(self) -> Contents {
        parse(self.list()).expect("a test reads every profile")
    }

    /// The text of the list.
    pub(crate) fn list(self) -> &'static str {
        match self {
            Profile::Lab => include_str!("../profiles/lab.profile"),
            Profile::Server => include_str!("../profiles/server.profile"),
        }
    }
}

impl Contents {
    /// Finds what the list names among the modules of a kernel. A folder gives a family what no family before it has named.
    pub(crate) fn wanted(&self, tree: &ModuleTree) -> Wanted {
        let mut wanted = Wanted::default();
        let mut named = BTreeSet::new();
        for family in &self.families {
            let mut of_family: Vec<String> = family.required.iter().map(|name| module_name(name)).collect();
            wanted
                .required
                .extend(family.required.iter().map(|name| (*name).to_string()));
            for entry in &family.taken {
                let found = tree.iter().filter(|(name, path)| matches(entry, name, path));
                let found: Vec<(&str, &str)> = found.collect();
                if found.is_empty() && !tree.is_builtin(entry) {
                    wanted.unknown.push(entry);
                }
                let left_out =
                    |name: &str, path: &str| family.left_out.iter().any(|entry| matches(entry, name, path));
                let is_taken = |name: &str| entry.ends_with('/') && named.contains(name);
                let kept = found
                    .into_iter()
                    .filter(|(name, path)| !left_out(name, path) && !is_taken(name));
                let kept: Vec<String> = kept.map(|(name, _)| name.to_string()).collect();
                wanted.optional.extend(kept.iter().cloned());
                of_family.extend(kept);
            }
            named.extend(of_family.iter().cloned());
            wanted.families.push((family.clone(), of_family));
        }
        wanted
    }
}

/// Returns whether an entry of the list means the module; `name` is the kernel's, with `_` for `-`.
fn matches(entry: &str, name: &str, path: &str) -> bool {
    if entry.ends_with('/') {
        return path.starts_with(entry);
    }
    let entry = module_name(entry);
    let mut parts = entry.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
        last = Some(part);
    }
    // After a final `*` anything may follow; otherwise the name has to end as the entry does.
    match last {
        None => rest.is_empty(),
        Some(part) => part.is_empty() || name.ends_with(part),
    }
}

/// Reads a list; `lab.profile` says how one is written.
fn parse(text: &'static str) -> Result<Contents, String> {
    let (mut kernel, mut firmware, mut families) = (None, Firmware::None, Vec::<Family>::new());
    let mut budgets = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = |what: &str| format!("line {}: {what}: {line:?}", index + 1);
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        if !line.starts_with(' ') {
            match (words.next(), words.next(), line.split_once(": ")) {
                (Some("kernel"), Some(name), None) => kernel = Some(name),
                (Some("firmware"), Some(name), None) => {
                    firmware = name.parse().map_err(|_| at("no such firmware"))?;
                }
                (Some("budget"), Some(name), None) => {
                    let (_, kilobytes) = line.split_once(name).unwrap_or_default();
                    budgets.push((name, bytes_of(kilobytes).ok_or_else(|| at("no size in kB"))?));
                }
                (_, _, Some((head, reason))) => families.push(family(head, reason).map_err(at)?),
                _ => return Err(at("neither a setting nor `family: reason`")),
            }
            continue;
        }
        let family = families.last_mut().ok_or_else(|| at("no family before it"))?;
        match line.split_whitespace().next() {
            Some("required") => family.required.extend(words.skip(1)),
            Some("for") => family.cards.extend(words.skip(1)),
            Some("not") => family.left_out.extend(words.skip(1)),
            _ => family.taken.extend(words),
        }
    }
    Ok(Contents {
        kernel_package: kernel.ok_or("no kernel")?,
        firmware,
        budgets,
        families,
    })
}

/// `NAME`, `NAME overlay, N kB` or `NAME fetched, N kB`.
fn family(head: &'static str, reason: &'static str) -> Result<Family, &'static str> {
    let (name, rest) = head.split_once(' ').unwrap_or((head, ""));
    let (delivery, budget) = rest.split_once(", ").unwrap_or((rest, ""));
    let (delivery, budget_bytes) = match (delivery, bytes_of(budget)) {
        ("", None) => (Delivery::Base, None),
        ("fetched", Some(bytes)) => (Delivery::Fetched, Some(bytes)),
        ("overlay", Some(_)) if !drivers::is_name(name) => return Err("no name for an overlay"),
        ("overlay", Some(bytes)) => (Delivery::Overlay, Some(bytes)),
        _ => return Err("neither `family`, `family overlay, N kB` nor `family fetched, N kB`"),
    };
    Ok(Family {
        name,
        delivery,
        budget_bytes,
        reason,
        cards: Vec::new(),
        required: Vec::new(),
        taken: Vec::new(),
        left_out: Vec::new(),
    })
}

/// `N kB`, in bytes.
pub(crate) fn bytes_of(text: &str) -> Option<u64> {
    let kilobytes: u64 = text.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1000)
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Profile::Lab => "lab",
            Profile::Server => "server",
        })
    }
}

/// The name is not that of a profile.
#[derive(Debug, thiserror::Error)]
#[error("there is no image profile {0:?}: the profiles are: lab, server")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        match name {
            "lab" => Ok(Profile::Lab),
            "server" => Ok(Profile::Server),
            other => Err(UnknownProfile(other.to_string())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::modules::tests::tree_with;

    /// A list of a test's own.
    pub(crate) fn read(text: &'static str) -> Contents {
        parse(text).unwrap()
    }

    #[test]
    fn every_profile_is_read_and_gives_a_reason_per_family() {
        for profile in [Profile::Lab, Profile::Server] {
            assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
            let contents = profile.contents();
            assert!(contents.families.iter().any(|family| !family.required.is_empty()));
            for family in contents.families {
                assert!(family.reason.len() > 10, "{}: {:?}", family.name, family.reason);
                assert!(
                    !family.taken.is_empty() || !family.required.is_empty(),
                    "{}",
                    family.name
                );
            }
        }
        for profile in [Profile::Lab, Profile::Server] {
            let budgets: Vec<&str> = profile.contents().budgets.iter().map(|(name, _)| *name).collect();
            assert_eq!(budgets, ["agent", "base"], "{profile}");
        }
        assert_eq!(Profile::Lab.contents().firmware, Firmware::None);
        assert_eq!(Profile::Server.contents().firmware, Firmware::Free);
    }

    #[test]
    fn containerd_comes_beside_a_profile_with_a_kernel() {
        let named = |names: &[&str]| Profiles::named(names).map(|profiles| profiles.to_string());
        assert_eq!(named(&["containerd"]).unwrap(), "lab-containerd");
        assert_eq!(named(&["containerd", "server"]).unwrap(), "server-containerd");
        assert_eq!(named(&["server", "server"]).unwrap(), "server");
        assert_eq!(named(&[]).unwrap(), "lab");
        let refused = |names: &[&str]| named(names).unwrap_err().to_string();
        assert_eq!(
            refused(&["lab", "containerd", "server"]),
            "an image has one kernel: name lab or server, not both"
        );
        assert_eq!(
            refused(&["docker"]),
            "there is no image profile \"docker\": the profiles are: lab, server, containerd"
        );
    }

    #[test]
    fn an_agent_with_the_client_of_containerd_may_have_more() {
        let budgets = |containerd| {
            Profiles {
                machines: Profile::Server,
                containerd,
            }
            .budgets()
        };
        assert_eq!(budgets(false), [("agent", 3_600_000), ("base", 150_000)]);
        assert_eq!(budgets(true), [("agent", 3_950_000), ("base", 150_000)]);
    }

    #[test]
    fn a_list_that_is_wrong_is_named_by_its_line() {
        for (text, want) in [
            ("kernel k\n  nvme\n", "line 2: no family before it"),
            ("kernel k\nnvme\n", "line 2: neither a setting nor"),
            ("kernel k\nfirmware some\n", "line 2: no such firmware"),
            ("a: reason\n", "no kernel"),
            ("a overlay: reason\n", "line 1: neither `family`, `family overlay"),
            (
                "a overlay, 7 MB: reason\n",
                "line 1: neither `family`, `family overlay",
            ),
            ("A_b overlay, 7 kB: reason\n", "line 1: no name for an overlay"),
            ("budget base much\n", "line 1: no size in kB"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn entries_are_names_patterns_and_folders() {
        let directory = tempfile::tempdir().unwrap();
        let modules = [
            ("kernel/drivers/net/ethernet/a/one.ko.xz", "depends= "),
            ("kernel/drivers/net/ethernet/mlxsw/mlxsw-core.ko", "depends= "),
            ("kernel/drivers/net/ethernet_not/two.ko", "depends= "),
            ("kernel/net/nft_nat.ko", "depends= "),
            ("kernel/net/nft.ko", "depends= "),
            ("kernel/net/usb-storage.ko", "depends= "),
        ];
        let tree = tree_with(directory.path(), &modules, "kernel/net/af_packet.ko\n");
        let text = "kernel k\nall: for a test\n  kernel/drivers/net/ethernet/ nft_* usb-storage af_packet none*\n  not mlxsw_*\n  \
                    required nft\n";
        let wanted = parse(text).unwrap().wanted(&tree);
        assert_eq!(wanted.required, ["nft"]);
        assert_eq!(wanted.optional, ["one", "nft_nat", "usb_storage"]);
        assert_eq!(wanted.unknown, ["none*"]);
    }

    #[test]
    fn a_folder_gives_what_no_family_before_it_has_named() {
        let directory = tempfile::tempdir().unwrap();
        let modules = [
            ("kernel/net/one.ko", "depends= "),
            ("kernel/net/two.ko", "depends= "),
            ("kernel/net/three.ko", "depends= "),
        ];
        let tree = tree_with(directory.path(), &modules, "");
        let text = "kernel k\nfirst: for a test\n  one\nsecond overlay, 7 kB: for a test\n  kernel/net/ one\n  for 8086:0001\n  \
                    not three\nrest fetched, 1 kB: for a test\n  kernel/\n";
        let contents = parse(text).unwrap();
        let wanted = contents.wanted(&tree);
        let names: Vec<_> = wanted
            .families
            .iter()
            .map(|(family, names)| (family.delivery, family.budget_bytes, names.join(" ")))
            .collect();
        let want = [
            (Delivery::Base, None, "one"),
            (Delivery::Overlay, Some(7000), "two one"),
            (Delivery::Fetched, Some(1000), "three"),
        ];
        assert_eq!(
            names,
            want.map(|(delivery, budget, names)| (delivery, budget, names.to_owned()))
        );
        assert_eq!(wanted.families[1].0.cards, ["8086:0001"]);
    }

    #[test]
    fn stars_stand_for_anything() {
        let cases = [
            ("a*", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "acd", false),
            ("abc", "abcd", false),
            ("*b*", "abc", true),
            ("crct10dif-*", "crct10dif_pclmul", true),
        ];
        for (entry, name, want) in cases {
            assert_eq!(matches(entry, name, "kernel/x.ko"), want, "{entry} {name}");
        }
    }
}
