//! The disk bench runs, and its table has a figure for each side. How large they are, is not tested.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

#[test]
fn bench_disk_has_a_time_and_a_rate_for_every_packing_and_both_sides() {
    // Not optimised, because this is no measurement: `cargo test` has built it that way already.
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args([
            "bench", "disk", "--mib", "20", "--rounds", "1", "--debug", "--yes",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("image: 20 MiB"), "{said}");
    for packing in ["raw", "zstd", "gzip", "xz", "bzip2", "qcow2"] {
        let row = said
            .lines()
            .skip_while(|line| !line.starts_with("packing "))
            .find_map(|line| line.strip_prefix(packing))
            .unwrap_or_else(|| panic!("no row {packing:?} in\n{said}"));
        let figures: Vec<f64> = row.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!(
            figures.len() == 5 && figures.iter().all(|&figure| figure > 0.0),
            "{packing}: {figures:?} in\n{said}"
        );
    }
    let read_back = said.lines().find(|line| line.starts_with("read back: adds "));
    let ratio = read_back.and_then(|line| line.rsplit(' ').next());
    assert!(
        ratio.is_some_and(|ratio| ratio.parse::<f64>().unwrap() >= 0.0),
        "{said}"
    );
}
