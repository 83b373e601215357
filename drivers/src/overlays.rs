//! `overlays.list`: which driver overlays a boot image has, and which of them a network card needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::pci::PciId;
use crate::{TextError, lines};

/// The overlays of a boot image, and the cards that need them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlays {
    names: BTreeSet<String>,
    /// By vendor and device (`None`: every device of the vendor), the overlays. Empty: the base has the driver.
    cards: BTreeMap<(u16, Option<u16>), BTreeSet<String>>,
}

/// What an image has for a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Card {
    /// The base drives it.
    InBase,
    /// These overlays do, sorted.
    In(Vec<String>),
    /// Nothing does.
    Unknown,
}

impl Overlays {
    /// Adds an overlay.
    ///
    /// # Errors
    /// In words, for a name that is none.
    pub fn add(&mut self, name: &str) -> Result<(), String> {
        if !is_name(name) {
            return Err(format!(
                "{name:?} is no name of an overlay: use letters, digits and dashes"
            ));
        }
        self.names.insert(name.to_owned());
        Ok(())
    }

    /// Says that an overlay ([`BASE`]: the base) drives a card; without `device`, every card of the vendor.
    pub fn drives(&mut self, name: &str, vendor: u16, device: Option<u16>) {
        let needs = self.cards.entry((vendor, device)).or_default();
        if name != BASE {
            needs.insert(name.to_owned());
        }
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`TextError`] for a line that the build does not write.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut overlays = Self::default();
        for (line, words) in lines(FILE, HEAD, text)? {
            let error = |what: String| TextError {
                text: FILE,
                line,
                what,
            };
            let mut words = words.split(' ');
            match words.next() {
                Some("overlay") => overlays.add(words.next().unwrap_or_default()).map_err(error)?,
                Some("card") => {
                    let id = words.next().unwrap_or_default();
                    let id = parse_id(id)
                        .ok_or_else(|| error(format!("{id:?} is neither vendor:device nor vendor:*")))?;
                    let needs: BTreeSet<String> = words.map(str::to_owned).collect();
                    if let Some(unknown) = needs.iter().find(|name| !overlays.names.contains(*name)) {
                        return Err(error(format!("{unknown:?} is no overlay that it has named")));
                    }
                    overlays.cards.insert(id, needs);
                }
                other => return Err(error(format!("{other:?} is not known"))),
            }
        }
        Ok(overlays)
    }

    /// The text that [`Overlays::parse`] reads.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for name in &self.names {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "overlay {name}");
        }
        for ((vendor, device), needs) in &self.cards {
            let device = device.map_or_else(|| "*".to_owned(), |device| format!("{device:04x}"));
            let _ = write!(text, "card {vendor:04x}:{device}");
            needs.iter().for_each(|name| {
                let _ = write!(text, " {name}");
            });
            text.push('\n');
        }
        text
    }

    /// The names of all overlays, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// What there is for a card; the device goes before its vendor.
    pub fn of(&self, card: &PciId) -> Card {
        let device = self.cards.get(&(card.vendor, Some(card.device)));
        match device.or_else(|| self.cards.get(&(card.vendor, None))) {
            None => Card::Unknown,
            Some(needs) if needs.is_empty() => Card::InBase,
            Some(needs) => Card::In(needs.iter().cloned().collect()),
        }
    }
}

/// The file of an overlay in the boot image directory.
pub fn archive_of(name: &str) -> String {
    format!("drivers-{name}.img")
}

/// Whether a text may name an overlay: it stands in file names and on kernel command lines.
pub fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && text != BASE
}

fn parse_id(text: &str) -> Option<(u16, Option<u16>)> {
    match text.strip_suffix(":*") {
        Some(vendor) => Some((format!("{vendor}:0000").parse::<PciId>().ok()?.vendor, None)),
        None => {
            let id: PciId = text.parse().ok()?;
            id.class.is_none().then_some((id.vendor, Some(id.device)))
        }
    }
}

/// Its name in the boot image directory.
pub const FILE: &str = "overlays.list";
/// What stands for the base where an overlay is named.
pub const BASE: &str = "base";
const HEAD: &str = "farrier overlays 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Overlays {
        let mut overlays = Overlays::default();
        overlays.add("intel-1g").unwrap();
        overlays.add("hypervisors").unwrap();
        overlays.drives("intel-1g", 0x8086, Some(0x10d3));
        overlays.drives("hypervisors", 0x8086, Some(0x10d3));
        overlays.drives(BASE, 0x1af4, None);
        overlays.drives("hypervisors", 0x1af4, Some(0x1001));
        overlays
    }

    #[test]
    fn what_is_written_is_read() {
        let text = sample().to_text();
        assert_eq!(
            text,
            "farrier overlays 1\noverlay hypervisors\noverlay intel-1g\ncard 1af4:*\ncard 1af4:1001 hypervisors\n\
             card 8086:10d3 hypervisors intel-1g\n"
        );
        assert_eq!(Overlays::parse(&text).unwrap(), sample());
    }

    #[test]
    fn a_card_is_in_the_base_in_overlays_or_unknown() {
        let overlays = sample();
        let of = |id: &str| overlays.of(&id.parse().unwrap());
        assert_eq!(
            of("8086:10d3"),
            Card::In(vec!["hypervisors".into(), "intel-1g".into()])
        );
        assert_eq!(of("1af4:1000"), Card::InBase);
        // The device goes before its vendor.
        assert_eq!(of("1af4:1001"), Card::In(vec!["hypervisors".into()]));
        assert_eq!(of("8086:10d4"), Card::Unknown);
    }

    #[test]
    fn what_the_build_does_not_write_is_named_by_its_line() {
        for (text, want) in [
            ("", "line 1 of overlays.list: it does not begin with"),
            (
                "farrier overlays 2\n",
                "line 1 of overlays.list: it does not begin with",
            ),
            (
                "farrier overlays 1\noverlay ../x\n",
                "line 2 of overlays.list: \"../x\" is no name",
            ),
            (
                "farrier overlays 1\noverlay base\n",
                "line 2 of overlays.list: \"base\" is no name",
            ),
            (
                "farrier overlays 1\noverlay a\ncard 8086 a\n",
                "line 3 of overlays.list: \"8086\" is neither",
            ),
            (
                "farrier overlays 1\ncard 8086:10d3 a\n",
                "line 2 of overlays.list: \"a\" is no overlay",
            ),
            (
                "farrier overlays 1\n\n",
                "line 2 of overlays.list: Some(\"\") is not known",
            ),
        ] {
            let error = Overlays::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
