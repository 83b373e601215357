//! Which driver overlays a machine is sent beside the initramfs: by the network card that its iPXE says it booted from.

use std::io::{self, Read};
use std::path::Path;

use drivers::{Card, OVERLAYS_FILE, Overlays, PciId};

use crate::files;

/// What the request for a script says of the card: iPXE's setting `busid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// The boot image's overlays are not known to whoever asks: it is told to ask again, with its card.
    Anew,
    /// This card; empty where iPXE has no such setting.
    With(&'a str),
}

/// What a machine boots with beside kernel and initramfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drivers {
    /// The script asks again, and says on which card.
    AskAgain,
    /// The boot image has no overlays.
    InBase,
    /// Sent: these overlays; none where the base has the driver.
    Sent { overlays: Vec<String>, card: String },
    /// No overlay drives the card, and neither does the base.
    Unknown { card: String },
    /// Where the card is not known to be on PCI every overlay is sent.
    All { overlays: Vec<String>, said: String },
}

impl Drivers {
    /// The overlays that are sent.
    pub fn overlays(&self) -> &[String] {
        match self {
            Self::All { overlays, .. } | Self::Sent { overlays, .. } => overlays,
            Self::AskAgain | Self::InBase | Self::Unknown { .. } => &[],
        }
    }

    /// With one more overlay, where the boot image has it among `known` and it is not sent anyhow.
    pub(crate) fn with(mut self, overlay: &str, known: &[String]) -> Self {
        if let Self::Sent { overlays, .. } = &mut self
            && known.iter().any(|name| name == overlay)
            && !overlays.iter().any(|name| name == overlay)
        {
            overlays.push(overlay.to_owned());
        }
        self
    }

    /// What people should know of it.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::AskAgain | Self::InBase | Self::Sent { .. } => None,
            Self::All { said, .. } if said.is_empty() => Some(
                "iPXE does not say which network card it booted from: all driver overlays are sent"
                    .to_owned(),
            ),
            Self::All { said, .. } => Some(format!(
                "the network card that it booted from is on no PCI bus (iPXE says {said:?}): all driver overlays are sent"
            )),
            Self::Unknown { card } => Some(format!(
                "no driver of the boot image names the network card {card} that it booted from: the agent will not find it; build the \
                 boot image with a newer kernel (--suite, --kernel-package), or with one of your own (--kernel, --modules)"
            )),
        }
    }

    /// What is said where the script is asked for.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::AskAgain => "; it is to say which network card it boots from".to_owned(),
            Self::InBase => String::new(),
            Self::Sent { overlays, card } if overlays.is_empty() => {
                format!("; network card {card}, driven by the base")
            }
            Self::Sent { overlays, card } => {
                format!("; network card {card}, driver overlay {}", overlays.join(", "))
            }
            Self::Unknown { card } => format!("; network card {card}, in no driver overlay"),
            Self::All { overlays, .. } => format!("; all {} driver overlays", overlays.len()),
        }
    }
}

/// What a machine is sent.
///
/// # Errors
/// In words, for a list of overlays that is there and cannot be used. Blocks while it is read.
pub(crate) fn for_card(boot_dir: &Path, asked: Asked<'_>) -> Result<Drivers, String> {
    let Some(overlays) = read(boot_dir)? else {
        return Ok(Drivers::InBase);
    };
    let said = match asked {
        Asked::Anew => return Ok(Drivers::AskAgain),
        Asked::With(said) => said,
    };
    let Some(id) = PciId::of_bus_id(said) else {
        let overlays = overlays.names().map(str::to_owned).collect();
        // It is shown, and comes from whoever asks.
        let said = said.chars().take(MOST_SHOWN).collect();
        return Ok(Drivers::All { overlays, said });
    };
    let card = id.to_string();
    Ok(match overlays.of(&id) {
        Card::In(overlays) => Drivers::Sent { overlays, card },
        Card::InBase => Drivers::Sent {
            overlays: Vec::new(),
            card,
        },
        Card::Unknown => Drivers::Unknown { card },
    })
}

/// The names of all overlays of the boot image; none where it has none, or a list that cannot be used.
pub(crate) fn names(boot_dir: &Path) -> Vec<String> {
    let overlays = read(boot_dir).ok().flatten().unwrap_or_default();
    overlays.names().map(str::to_owned).collect()
}

fn read(boot_dir: &Path) -> Result<Option<Overlays>, String> {
    let unusable = |what: String| {
        let directory = boot_dir.display();
        format!(
            "{OVERLAYS_FILE} of the boot image in {directory} cannot be used: {what}; build it again with `farrier image build \
             --boot-dir {directory}`"
        )
    };
    let opened = match files::open_below(boot_dir, OVERLAYS_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| unusable(error.to_string()))?,
    };
    let mut text = String::new();
    let limit = drivers::MOST_BYTES as u64 + 1;
    let read = opened.file.take(limit).read_to_string(&mut text);
    read.map_err(|error| unusable(error.to_string()))?;
    Overlays::parse(&text)
        .map(Some)
        .map_err(|error| unusable(error.to_string()))
}

/// The overlay that machines with a bond get beside that of their card: the bond is made before there is a network to fetch it by.
pub(crate) const BONDING: &str = "bonding";

const MOST_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn boot_dir(list: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(OVERLAYS_FILE), list).unwrap();
        directory
    }

    const LIST: &str =
        "farrier overlays 1\noverlay intel-1g\noverlay realtek\ncard 1af4:*\ncard 8086:10d3 intel-1g\n";

    #[test]
    fn a_card_gets_its_overlay_and_one_that_is_not_told_gets_all() {
        let directory = boot_dir(LIST);
        let sent = |said: &str| for_card(directory.path(), Asked::With(said)).unwrap();
        let intel = sent("01:80:86:10:d3");
        assert_eq!(intel.overlays(), ["intel-1g"]);
        assert_eq!(
            (intel.note(), intel.in_words()),
            (
                None,
                "; network card 8086:10d3, driver overlay intel-1g".to_owned()
            )
        );
        let virtio = sent("01:1a:f4:10:00");
        assert!(
            virtio.overlays().is_empty() && virtio.note().is_none(),
            "{virtio:?}"
        );
        let unknown = sent("01:12:34:56:78");
        let note = unknown.note().unwrap();
        assert!(
            unknown.overlays().is_empty() && note.contains("network card 1234:5678"),
            "{note}"
        );
        for said in ["", "06:00:00:00:01"] {
            let all = sent(said);
            assert_eq!(all.overlays(), ["intel-1g", "realtek"]);
            assert!(all.note().unwrap().contains(said));
        }
        assert_eq!(for_card(directory.path(), Asked::Anew), Ok(Drivers::AskAgain));
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(for_card(empty.path(), Asked::Anew), Ok(Drivers::InBase));
        assert_eq!(names(directory.path()), ["intel-1g", "realtek"]);
    }

    #[test]
    fn an_overlay_is_added_once_and_only_where_the_image_has_it() {
        let directory = boot_dir(LIST);
        let known = names(directory.path());
        let sent = |said: &str| for_card(directory.path(), Asked::With(said)).unwrap();
        assert_eq!(
            sent("01:1a:f4:10:00").with("realtek", &known).overlays(),
            ["realtek"]
        );
        let both = sent("01:80:86:10:d3")
            .with("realtek", &known)
            .with("realtek", &known);
        assert_eq!(both.overlays(), ["intel-1g", "realtek"]);
        assert_eq!(sent("01:1a:f4:10:00").with(BONDING, &known).overlays(), [""; 0]);
        assert_eq!(Drivers::AskAgain.with("realtek", &known), Drivers::AskAgain);
    }

    #[test]
    fn a_list_that_is_damaged_is_told_with_its_cure() {
        let directory = boot_dir("farrier overlays 1\noverlay ../x\n");
        let error = for_card(directory.path(), Asked::Anew).unwrap_err();
        assert!(
            error.contains("line 2 of overlays.list") && error.contains("farrier image build"),
            "{error}"
        );
        assert_eq!(names(directory.path()), [""; 0]);
    }
}
