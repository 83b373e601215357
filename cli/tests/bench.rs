//! `farrier bench workflows` and `lists`, small: every row is there, and was measured.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn bench_workflows_has_a_figure_for_everything_that_it_measures() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_farrier"))
        .args([
            "bench",
            "workflows",
            "--agents",
            "4",
            "--workflows",
            "2",
            "--actions",
            "2",
        ])
        // Idle agents are looked at for half a minute.
        .args(["--idle", "0", "--finished", "8", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    for row in [
        "reports, decide and commit alone",
        "workflows made",
        "reports, as fast as they go",
        "of that, the server",
        "report to acknowledgement at ",
        "report to next action, unloaded",
        "worked off and archived",
        "reports, as fast as they go, after 8 that ended",
        "report to next action, unloaded, after 8 that ended",
    ] {
        let found = table.lines().find(|line| line.starts_with(row));
        let figure = found.and_then(|line| line.get(row.len()..)).unwrap_or_default();
        assert!(
            figure.chars().any(|digit| ('1'..='9').contains(&digit)),
            "no figure for {row:?} in\n{table}"
        );
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "the data are removed"
    );
}

#[test]
fn bench_lists_times_every_command_with_all_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_farrier"))
        .args(["bench", "lists", "--rows", "7", "--runs", "1", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    for command in [
        "farrier machine list",
        "farrier machine list -o json",
        "farrier workflow list --limit 0",
        "farrier workflow list",
    ] {
        let cells: Vec<&str> = table
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .find(|cells: &Vec<&str>| cells.first() == Some(&command))
            .unwrap_or_default();
        assert_eq!(cells.get(1), Some(&"7"), "{command} in\n{table}");
        assert!(
            cells
                .get(2)
                .is_some_and(|time| time.ends_with(" s") && *time != "0.000 s"),
            "{table}"
        );
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "the data are removed"
    );
}
