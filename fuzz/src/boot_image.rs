//! Boot images that are asked what they have for a card: the archive, its lists of modules, and the modules.

use image::{Carried, PciId};

pub(crate) fn run(bytes: &[u8]) {
    let Some(carried) = Carried::of_archive(bytes) else {
        return;
    };
    let names: Vec<&String> = carried.modules().map(|driver| &driver.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    let card: PciId = "8086:1572/020000".parse().expect("a PCI id");
    for driver in carried.drivers_of(&card) {
        assert!(driver.path.is_none() || names.contains(&&driver.name));
    }
}
