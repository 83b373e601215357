//! Plain text tables, durations and sizes, as the lab prints them.

use std::time::Duration;

/// Rows under a header; numbers are aligned to the right by the caller's choice of columns.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table. The first column is aligned to the left, the others to the right.
    pub fn new(header: &[&str]) -> Table {
        Table {
            header: header.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                all()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        for (number, row) in all().enumerate() {
            let cells = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, &width))| match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                });
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(f, "{}", line.trim_end())?;
            if number == 0 {
                let rules = widths.iter().map(|&width| "-".repeat(width)).collect::<Vec<_>>();
                writeln!(f, "{}", rules.join("  "))?;
            }
        }
        Ok(())
    }
}

/// "1.8 s", "2 min 5 s".
pub fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        whole @ 100.. => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// "122.4 MB"; nothing for nothing.
pub fn bytes(count: u64) -> String {
    match count {
        0 => String::new(),
        1..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{}.{} kB", count / 1_000, count % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} MB", count / 1_000_000, count % 1_000_000 / 100_000),
        _ => format!(
            "{}.{} GB",
            count / 1_000_000_000,
            count % 1_000_000_000 / 100_000_000
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["stage", "duration", "bytes"]);
        table.row(vec![
            "firmware".into(),
            seconds(Duration::from_millis(1840)),
            bytes(0),
        ]);
        table.row(vec![
            "kernel and initramfs".into(),
            seconds(Duration::from_secs(125)),
            bytes(14_800_000),
        ]);
        let want = "\
stage                  duration    bytes
--------------------  ---------  -------
firmware                  1.8 s
kernel and initramfs  2 min 5 s  14.8 MB
";
        assert_eq!(table.to_string(), want);
    }

    #[test]
    fn sizes_are_decimal() {
        assert_eq!(
            [bytes(999), bytes(1_500), bytes(122_449_999), bytes(3_221_225_472)].join(" "),
            "999 B 1.5 kB 122.4 MB 3.2 GB"
        );
    }
}
