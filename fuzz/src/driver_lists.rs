//! The lists of drivers of a boot image: what is taken is written as it was, and nothing in them leads out of a folder.

use drivers::{Card, Catalogue, Overlays, PciId, Seals};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    if let Ok(seals) = Seals::parse(text) {
        assert_eq!(Seals::parse(&seals.to_text()).as_ref(), Ok(&seals));
    }
    if let Ok(overlays) = Overlays::parse(text) {
        assert_eq!(Overlays::parse(&overlays.to_text()).as_ref(), Ok(&overlays));
        let names: Vec<&str> = overlays.names().collect();
        assert!(
            names.iter().all(|name| !name.contains(['/', '.', ' '])),
            "{names:?}"
        );
        let card: PciId = "8086:10d3".parse().expect("a PCI id");
        if let Card::In(needs) = overlays.of(&card) {
            assert!(
                needs.iter().all(|name| names.contains(&name.as_str())),
                "{needs:?}"
            );
        }
    }
    if let Ok(catalogue) = Catalogue::parse(text) {
        for (name, entry) in catalogue.modules() {
            assert!(
                !entry.path.starts_with('/') && !entry.path.split('/').any(|part| part == ".."),
                "{entry:?}"
            );
            assert!(entry.offset.checked_add(entry.bytes).is_some(), "{entry:?}");
            assert!(catalogue.firmware_of(name).count() <= catalogue.asked_by(name).len());
        }
        let _ = catalogue.for_modalias("pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00");
    }
    let _ = PciId::of_bus_id(text);
    let _ = PciId::named_by(text);
}
