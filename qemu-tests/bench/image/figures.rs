//! The table of the bench: what was measured of each profile's image, beside what was asked and what others need. Pure.

use std::time::Duration;

use image::Manifest;

use super::Boots;
use crate::lab::table::Table;

/// What is known of one image.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) profile: String,
    pub(super) sizes: Sizes,
    /// How long it takes to pack a changed agent.
    pub(super) repack: Duration,
    pub(super) boots: Boots,
}

/// Packed bytes of the parts of an image that machines fetch before their first action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    kernel: u64,
    agent: u64,
    base: u64,
    uefi_loader: u64,
    bios_loader: u64,
    /// By family, the smallest first.
    overlays: Vec<(String, u64)>,
}

impl Sizes {
    pub(super) fn of(manifest: &Manifest) -> Sizes {
        let file = |name: &str| {
            let found = manifest.files.iter().find(|file| file.name == name);
            found.map_or(0, |file| file.bytes)
        };
        let family = |name: &str| {
            let found = manifest.families.iter().find(|family| family.name == name);
            found.map_or(0, |family| family.bytes)
        };
        let overlays = manifest.families.iter().filter(|one| one.delivery == "overlay");
        let mut overlays: Vec<(String, u64)> = overlays.map(|one| (one.name.clone(), one.bytes)).collect();
        overlays.sort_by_key(|(_, bytes)| *bytes);
        Sizes {
            kernel: file("vmlinuz"),
            agent: family("agent"),
            base: family("base"),
            uefi_loader: file("snponly.efi"),
            bios_loader: file("undionly.kpxe"),
            overlays,
        }
    }

    /// What every machine fetches.
    fn every(&self) -> u64 {
        self.kernel + self.agent + self.base
    }

    /// What a machine fetches whose card needs this overlay; `None` for an image that has no such.
    fn with(&self, overlay: &str) -> Option<u64> {
        let (_, bytes) = self.overlays.iter().find(|(name, _)| name == overlay)?;
        Some(self.every() + bytes)
    }

    /// What a machine fetches whose card is on no PCI bus, or not told: all overlays of cards.
    fn with_all(&self) -> u64 {
        let cards = self.overlays.iter().filter(|(name, _)| name != BONDING);
        self.every() + cards.map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// One column for each image, one row for each figure.
pub(super) fn table(images: &[Figures]) -> Table {
    let mut header = vec!["figure"];
    header.extend(images.iter().map(|one| one.profile.as_str()));
    header.push("asked");
    let mut table = Table::new(&header);
    let mut row = |name: &str, asked: &str, cell: &dyn Fn(&Figures) -> Option<String>| {
        let cells = images
            .iter()
            .map(|one| cell(one).unwrap_or_else(|| "-".to_owned()));
        let row = [name.to_owned()]
            .into_iter()
            .chain(cells)
            .chain([asked.to_owned()]);
        table.row(row.collect());
    };
    row("kernel", "", &|one| Some(megabytes(one.sizes.kernel)));
    row("agent", "", &|one| Some(megabytes(one.sizes.agent)));
    row("drivers of the base", "", &|one| Some(megabytes(one.sizes.base)));
    row("virtio: kernel and initramfs", ASKED, &|one| {
        Some(megabytes(one.sizes.every()))
    });
    for name in overlays(images) {
        row(&format!("{name}: the same and its overlay"), ASKED, &|one| {
            one.sizes.with(&name).map(megabytes)
        });
    }
    row("not on PCI: the same and all overlays", "", &|one| {
        Some(megabytes(one.sizes.with_all()))
    });
    row("before: loader of UEFI", "", &|one| {
        Some(megabytes(one.sizes.uefi_loader))
    });
    row("before: loader of BIOS cards without iPXE", "", &|one| {
        Some(megabytes(one.sizes.bios_loader))
    });
    row("after: list and modules, virtio", "", &|one| {
        let fetched = one.boots.wire_files.iter();
        let fetched = fetched.filter(|(name, _)| name.starts_with("modules."));
        Some(kilobytes(fetched.map(|(_, bytes)| bytes).sum()))
    });
    row("all that was sent, BIOS, virtio", "", &|one| {
        Some(megabytes(one.boots.wire_bytes))
    });
    for (name, size) in OTHERS {
        row(name, "", &|_| Some(size.to_owned()));
    }
    row("a changed agent is packed", "< 5 s", &|one| {
        Some(format!("{:.1} s", one.repack.as_secs_f64()))
    });
    row("memory of the kernel alone", "", &|one| {
        Some(mebibytes(one.boots.kernel_kib))
    });
    row("memory beyond it, before an action", "60 MiB", &|one| {
        Some(mebibytes(
            one.boots.waiting_kib.saturating_sub(one.boots.kernel_kib),
        ))
    });
    row("kernel start to first action", "", &|one| {
        Some(format!("{:.2} s", one.boots.kernel_to_action.as_secs_f64()))
    });
    table
}

/// Names of the overlays of all images, those of the smallest first.
fn overlays(images: &[Figures]) -> Vec<String> {
    let mut all: Vec<(String, u64)> = images.iter().flat_map(|one| one.sizes.overlays.clone()).collect();
    all.sort_by_key(|(_, bytes)| *bytes);
    let mut names: Vec<String> = Vec::new();
    for (name, _) in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn kilobytes(bytes: u64) -> String {
    format!("{:.1} kB", bytes as f64 / 1e3)
}

fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// Said below the table.
pub(super) const WHAT_IS_COUNTED: &str = "\
Bytes are packed, as they are sent. Memory is MemTotal less MemAvailable: the kernel alone was started with an init
that exits; before an action the agent is attached, with the drivers of all that the machine has. Times are of this
machine, and of its emulator where there is no KVM.";

/// What was asked of the two profiles.
const ASKED: &str = "lab 15.5, server 17";
/// The overlay that is for no card.
const BONDING: &str = "bonding";
/// What is netbooted elsewhere for the same job, kernel and initramfs, as its makers' releases and issues have it.
const OTHERS: [(&str, &str); 3] = [
    ("HookOS 0.9 to 0.11", "171-179 MB"),
    ("Talos", "116 MB"),
    ("TinyIPA", "98 MB"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(profile: &str, agent: u64, overlays: &[(&str, u64)]) -> Figures {
        Figures {
            profile: profile.to_owned(),
            sizes: Sizes {
                kernel: 12_000_000,
                agent,
                base: 140_000,
                uefi_loader: 250_000,
                bios_loader: 70_000,
                overlays: overlays
                    .iter()
                    .map(|(name, bytes)| ((*name).to_owned(), *bytes))
                    .collect(),
            },
            repack: Duration::from_millis(3210),
            boots: Boots {
                kernel_kib: 60 << 10,
                waiting_kib: 100 << 10,
                wire_bytes: 16_000_000,
                wire_files: [("modules.list.zst".to_owned(), 56_000), ("vmlinuz".to_owned(), 9)].into(),
                kernel_to_action: Duration::from_millis(4560),
            },
        }
    }

    #[test]
    fn every_figure_has_a_row_and_an_image_without_an_overlay_has_none_of_it() {
        let lab = figures(
            "lab",
            3_500_000,
            &[("bonding", 90_000), ("emulated-cards", 50_000)],
        );
        let server = figures("server", 3_510_000, &[("bonding", 90_000), ("realtek", 180_000)]);
        let text = table(&[lab, server]).to_string();
        let rows: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for row in [
            "figure lab server asked",
            "agent 3.50 MB 3.51 MB",
            "virtio: kernel and initramfs 15.64 MB 15.65 MB lab 15.5, server 17",
            "emulated-cards: the same and its overlay 15.69 MB - lab 15.5, server 17",
            "realtek: the same and its overlay - 15.83 MB lab 15.5, server 17",
            "not on PCI: the same and all overlays 15.69 MB 15.83 MB",
            "after: list and modules, virtio 56.0 kB 56.0 kB",
            "HookOS 0.9 to 0.11 171-179 MB 171-179 MB",
            "a changed agent is packed 3.2 s 3.2 s < 5 s",
            "memory beyond it, before an action 40.0 MiB 40.0 MiB 60 MiB",
            "kernel start to first action 4.56 s 4.56 s",
        ] {
            assert!(rows.iter().any(|found| found == row), "{row:?} in\n{text}");
        }
        assert_eq!(
            rows.iter().filter(|row| row.starts_with("bonding")).count(),
            1,
            "{text}"
        );
    }
}
