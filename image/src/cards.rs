//! The cards that an image of the server profile must serve: `profiles/cards.list`, held against the modules that were chosen.

use crate::division::Division;
use crate::firmware::{Firmware, Found};
use crate::modules::Selection;
use drivers::PciId;

/// A card of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) id: PciId,
    /// The first kernel (major, minor) of which it is asked.
    pub(crate) since: Option<(u32, u32)>,
    /// The first drives it, the others are its other parts.
    pub(crate) modules: Vec<&'static str>,
    /// Names of which one has to be there; empty if it works without.
    pub(crate) firmware: Vec<&'static str>,
    pub(crate) name: &'static str,
}

/// A card of the list that the image would not serve.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CardError {
    /// The kernel's module does not claim the card.
    #[error(
        "card {id} ({name}) needs the module {module}, and that of kernel {kernel} does not know it: take a newer kernel \
         (--suite, --kernel-package), or strike the card from cards.list"
    )]
    NotClaimed {
        id: PciId,
        name: &'static str,
        module: &'static str,
        kernel: String,
    },
    /// The module is neither chosen nor built in.
    #[error(
        "card {id} ({name}) needs the module {module}, which is not in the image: kernel {kernel} does not have it, or no family of \
         the profile takes it; take another kernel (--suite, --kernel-package), or --profile lab for virtual machines"
    )]
    NoModule {
        id: PciId,
        name: &'static str,
        module: &'static str,
        kernel: String,
    },
    /// The boot server would send no driver to a machine that boots from the card.
    #[error(
        "card {id} ({name}) is driven by {module}, which is in no overlay that the card leads to: say `for {id}` in the profile's list, \
         below the family of the module"
    )]
    NoOverlay {
        id: PciId,
        name: &'static str,
        module: &'static str,
    },
    /// The firmware is in no package.
    #[error(
        "card {id} ({name}) needs {module} with the firmware {firmware}, which no firmware package of the suite has: take another \
         --suite, or --firmware free to go without"
    )]
    NoFirmware {
        id: PciId,
        name: &'static str,
        module: &'static str,
        firmware: String,
    },
}

/// Cards of the list that an image does without, for a reason that does not end the build.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Without {
    /// They may need firmware, and none was asked for.
    pub(crate) firmware: Vec<PciId>,
    /// The kernel is older than their driver.
    pub(crate) driver: Vec<PciId>,
}

/// Checks that every card has its modules and, with non-free firmware, its firmware.
///
/// # Errors
/// [`CardError`] for the first card that is not served.
pub(crate) fn check(
    cards: &[Card],
    kernel: &str,
    modules: &Selection<'_>,
    firmware: Firmware,
    found: &Found,
) -> Result<Without, CardError> {
    let mut without = Without::default();
    for card in cards {
        let (id, name) = (card.id, card.name);
        if card.since > version_of(kernel) && version_of(kernel).is_some() {
            without.driver.push(id);
            continue;
        }
        for module in &card.modules {
            if modules.module(module).is_none() && !modules.tree().is_builtin(module) {
                let kernel = kernel.to_string();
                return Err(CardError::NoModule {
                    id,
                    name,
                    module,
                    kernel,
                });
            }
        }
        let Some(driver) = card.modules.first() else {
            continue;
        };
        // A kernel that does not list what its built-in drivers answer to is believed.
        let aliases = match modules.module(driver) {
            Some(module) => module.info.aliases.as_slice(),
            None => modules.tree().builtin_aliases(driver),
        };
        let unlisted = modules.module(driver).is_none() && aliases.is_empty();
        if !unlisted && !aliases.iter().any(|alias| id.is_meant_by(alias)) {
            let kernel = kernel.to_string();
            return Err(CardError::NotClaimed {
                id,
                name,
                module: driver,
                kernel,
            });
        }
        let there = |file: &&str| found.files.contains_key(*file);
        if card.firmware.is_empty() || card.firmware.iter().any(there) {
            continue;
        }
        if firmware == Firmware::NonFree {
            let firmware = card.firmware.join(" or ");
            return Err(CardError::NoFirmware {
                id,
                name,
                module: driver,
                firmware,
            });
        }
        without.firmware.push(id);
    }
    Ok(without)
}

/// Checks that a machine which boots from a network card of the list is sent its driver.
///
/// # Errors
/// [`CardError::NoOverlay`] for the first card that leads to nothing, or to overlays without its modules.
pub(crate) fn check_overlays(cards: &[Card], kernel: &str, division: &Division<'_>) -> Result<(), CardError> {
    if division.overlays.is_empty() {
        return Ok(());
    }
    for card in cards {
        if card.since > version_of(kernel) && version_of(kernel).is_some() {
            continue;
        }
        let sent = match division.table.of(&card.id) {
            drivers::Card::In(overlays) => overlays,
            drivers::Card::InBase | drivers::Card::Unknown => Vec::new(),
        };
        for module in &card.modules {
            let places = division.place_of(module);
            // Disks are fetched, and so is what is not for the card that boots.
            let is_sent = places.iter().any(|place| {
                [drivers::BASE, "fetched"].contains(place) || sent.iter().any(|overlay| overlay == place)
            });
            let is_builtin = || division.base.tree().is_builtin(module);
            if !is_sent && !is_builtin() {
                return Err(CardError::NoOverlay {
                    id: card.id,
                    name: card.name,
                    module,
                });
            }
        }
    }
    Ok(())
}

/// Major and minor of a release such as `6.12.118+deb13-amd64`.
fn version_of(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(|one: char| !one.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The list that is in the program.
pub(crate) fn list() -> Vec<Card> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| parse(line).expect("a test reads every line"))
        .collect()
}

fn parse(line: &'static str) -> Option<Card> {
    let mut words = line.splitn(4, ' ');
    let id = words.next()?;
    let (id, since) = match id.split_once('@') {
        Some((id, since)) => (id, Some(version_of(since)?)),
        None => (id, None),
    };
    let id = id.parse().ok()?;
    let modules = words.next()?.split('+').collect();
    let firmware = match words.next()? {
        "-" => Vec::new(),
        names => names.split('|').collect(),
    };
    Some(Card {
        id,
        since,
        modules,
        firmware,
        name: words.next()?,
    })
}

pub(crate) const LIST: &str = include_str!("../profiles/cards.list");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::tree_with;

    const MODULES: &[(&str, &str)] = &[
        (
            "kernel/net/i40e.ko.xz",
            "depends=libie alias=pci:v00008086d00001572sv*sd*bc*sc*i* ",
        ),
        ("kernel/net/libie.ko.xz", "depends= "),
        (
            "kernel/net/bnx2.ko",
            "depends= firmware=bnx2/mips.fw alias=pci:v000014E4d00001639sv*sd*bc*sc*i* ",
        ),
    ];

    fn checked(
        line: &'static str,
        chosen: &[&str],
        firmware: Firmware,
        files: &[&str],
    ) -> Result<Without, String> {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree_with(directory.path(), MODULES, "kernel/drivers/virtio/virtio_pci.ko\n");
        let selection = tree.select(chosen, &[]).unwrap();
        let mut found = Found::default();
        for name in files {
            found.files.insert((*name).to_owned(), vec![1]);
        }
        check(&[parse(line).unwrap()], "6.12", &selection, firmware, &found)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_list_is_read_and_long_enough() {
        let cards = list();
        assert!(cards.len() >= 60, "{}", cards.len());
        let mut ids: Vec<String> = cards.iter().map(|card| card.id.to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), cards.len(), "an id is there twice");
    }

    #[test]
    fn a_card_has_its_module_and_firmware() {
        let x710 = "8086:1572 i40e - X710";
        let nothing = Ok(Without::default());
        assert_eq!(checked(x710, &["i40e"], Firmware::None, &[]), nothing);
        assert_eq!(
            checked("1af4:1000 virtio_pci - virtio", &[], Firmware::None, &[]),
            nothing
        );
        let bnx2 = "14e4:1639 bnx2 bnx2/other.fw|bnx2/mips.fw BCM5709";
        assert_eq!(
            checked(bnx2, &["bnx2"], Firmware::NonFree, &["bnx2/mips.fw"]),
            nothing
        );
        // Without being asked for, it is only said.
        let without = checked(bnx2, &["bnx2"], Firmware::Free, &[]).unwrap();
        assert_eq!(without.firmware, ["14e4:1639".parse().unwrap()]);
    }

    /// The kernel of these tests is 6.12.
    #[test]
    fn a_card_is_not_asked_of_a_kernel_before_its_driver() {
        let without = checked("1dd8:1002@6.13 ionic - Pensando", &[], Firmware::None, &[]).unwrap();
        assert_eq!(without.driver, ["1dd8:1002".parse().unwrap()]);
        let error = checked("1dd8:1002@6.12 ionic - Pensando", &[], Firmware::None, &[]).unwrap_err();
        assert!(error.contains("needs the module ionic"), "{error}");
        let kernels = ["6.1.0-56-amd64", "6.12.118+deb13-amd64", "7.3-rc1", "custom"];
        assert_eq!(
            kernels.map(version_of),
            [Some((6, 1)), Some((6, 12)), Some((7, 3)), None]
        );
    }

    #[test]
    fn a_network_card_leads_to_the_overlay_that_has_its_driver() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree_with(directory.path(), MODULES, "");
        let list = "kernel k\nfirst: for a test\n  libie\nintel overlay, 9 kB: for a test\n  i40e\nothers overlay, 9 kB: for a test\n  bnx2\n";
        let wanted = crate::profile::tests::read(list).wanted(&tree);
        let chosen = tree.select(&wanted.required, &wanted.optional).unwrap();
        let division = Division::of(&chosen, &wanted);
        let checked = |line: &'static str| {
            check_overlays(&[parse(line).unwrap()], "6.12", &division).map_err(|error| error.to_string())
        };
        assert_eq!(checked("8086:1572 i40e+libie - X710"), Ok(()));
        assert_eq!(checked("14e4:1639 bnx2 - BCM5709"), Ok(()));
        assert_eq!(checked("8086:9999@6.13 i40e - later"), Ok(()));
        let error = checked("8086:9999 i40e - X999").unwrap_err();
        assert!(
            error.contains("card 8086:9999 (X999) is driven by i40e")
                && error.contains("say `for 8086:9999`"),
            "{error}"
        );
        // Another card's overlay is none of its own.
        assert!(checked("14e4:1639 i40e - BCM5709").is_err());
    }

    #[test]
    fn a_card_that_is_not_served_ends_the_build_with_its_id_module_and_cure() {
        for (line, chosen, want) in [
            (
                "8086:1572 i40e - X710",
                &[][..],
                "which is not in the image: kernel 6.12",
            ),
            (
                "8086:1572 i40e+i40e_part - X710",
                &["i40e"],
                "needs the module i40e_part",
            ),
            (
                "8086:9999 i40e - X999",
                &["i40e"],
                "does not know it: take a newer kernel",
            ),
            (
                "14e4:1639 bnx2 bnx2/mips.fw BCM5709",
                &["bnx2"],
                "the firmware bnx2/mips.fw, which no firmware package",
            ),
        ] {
            let error = checked(line, chosen, Firmware::NonFree, &[]).unwrap_err();
            assert!(error.contains(want) && error.contains(&line[..9]), "{error}");
            assert!(error.contains("--suite"), "{error}");
        }
    }
}
