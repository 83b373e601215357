//! The benches run, and their tables have a figure for everything they measure. How large it is, is not tested.

use std::process::Command;

use crate::scene::path_from;

#[test]
fn bench_boot_has_a_time_for_every_stage_and_for_the_kernel_alone() {
    let output = Command::new(path_from("FARRIER_BIN"))
        .args(["bench", "boot", "--boots", "1", "--firmware", "bios"])
        .args(["--memory", "512", "--yes"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    let mut sum = 0.0;
    for stage in STAGES {
        let times = times(&said, stage);
        assert_eq!(times.len(), 3, "{stage}: {times:?} in\n{said}");
        // With one boot all three are the same. A fast machine does these two in less than what is printed.
        let passes = matches!(stage, "DHCP" | "first action");
        assert!(
            times.iter().all(|&seconds| seconds == times[0]) && (passes || times[0] > 0.0),
            "{stage}: {times:?} in\n{said}"
        );
        sum += times[0];
    }
    let whole = times(&said, "power on to first action")[0];
    assert!((whole - sum).abs() < 0.01, "the stages are {sum} s in\n{said}");
    let dhcp = said.lines().find(|line| line.starts_with("DHCP")).unwrap();
    assert!(dhcp.ends_with(" B"), "{dhcp}");
    let transfer = said
        .lines()
        .find(|line| line.starts_with("kernel and initramfs"))
        .unwrap();
    assert!(transfer.ends_with(" MB"), "{transfer}");
    let plain = number_after(&said, "The kernel directly, to its init: median ");
    assert!(plain > 0.0 && plain < whole, "{said}");
    let above = number_after(&said, "That is ");
    assert!((whole - plain - above).abs() < 0.1, "{said}");
    assert!(!said.contains("UEFI"), "{said}");
}

#[test]
fn bench_image_has_a_figure_for_everything_that_it_measures() {
    let output = Command::new(path_from("FARRIER_BIN"))
        .args(["bench", "image", "--profile", "lab", "--boots", "1"])
        .args(["--memory", "256", "--yes"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    let figure = |row: &str| number_after(&said, row);
    let parts = ["kernel  ", "agent  ", "drivers of the base"].map(figure);
    assert!(
        parts.iter().all(|&megabytes| megabytes > 0.0),
        "{parts:?} in\n{said}"
    );
    let every = figure("virtio: kernel and initramfs");
    assert!((parts.iter().sum::<f64>() - every).abs() < 0.02, "{said}");
    let with_overlay = figure("emulated-cards: the same and its overlay");
    assert!(with_overlay > every, "{said}");
    // What was sent: the same, the script, the list of drivers, and those of the disk.
    let fetched = figure("after: list and modules, virtio") / 1000.0;
    let sent = figure("all that was sent, BIOS, virtio");
    assert!(
        fetched > 0.0 && sent >= every + fetched - 0.02 && sent < every + fetched + 0.1,
        "{said}"
    );
    for row in [
        "a changed agent is packed",
        "memory of the kernel alone",
        "memory beyond it, before an action",
        "kernel start to first action",
    ] {
        assert!(figure(row) > 0.0, "{row} in\n{said}");
    }
    // Promised; the image is in memory, so that it grows with it.
    let memory = figure("memory beyond it, before an action");
    assert!(memory < 60.0, "{memory} MiB in\n{said}");
}

const STAGES: [&str; 7] = [
    "firmware",
    "DHCP",
    "boot loader",
    "kernel and initramfs transfer",
    "kernel start",
    "agent attached",
    "first action",
];

/// The seconds of a stage's row: median, fastest, slowest.
fn times(table: &str, stage: &str) -> Vec<f64> {
    let mut rows = table.lines().filter_map(|line| line.strip_prefix(stage));
    let row = rows
        .next()
        .unwrap_or_else(|| panic!("no row {stage:?} in\n{table}"));
    let words: Vec<_> = row.split_whitespace().collect();
    let times = words.chunks(2).filter(|pair| pair.get(1) == Some(&"s"));
    times.map(|pair| pair[0].parse().unwrap()).collect()
}

fn number_after(text: &str, words: &str) -> f64 {
    let rest = text
        .split_once(words)
        .unwrap_or_else(|| panic!("no {words:?} in\n{text}"));
    rest.1.split_whitespace().next().unwrap().parse().unwrap()
}
