//! What a terminal has room for: rows that matter before others, and lines cut to its width.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use indicatif::{HumanDuration, ProgressState, ProgressStyle};

/// How a line is coloured (ECMA-48 SGR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Something failed.
    Red,
    /// Something waits for somebody.
    Yellow,
}

impl Colour {
    pub(crate) fn sgr(self) -> &'static str {
        match self {
            Colour::Red => "\x1b[31m",
            Colour::Yellow => "\x1b[33m",
        }
    }

    /// That of a row in this state.
    pub(crate) fn of(state: &str) -> Option<Self> {
        match state {
            "FAILED" | "TIMEOUT" => Some(Colour::Red),
            "WAITING" | "PAUSED" | "PAUSING" => Some(Colour::Yellow),
            _ => None,
        }
    }
}

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// A line that is no wider than so many columns; a cut one ends in `…`.
pub(crate) fn cut(line: &str, columns: usize) -> Cow<'_, str> {
    if line.chars().map(width).sum::<usize>() <= columns {
        return Cow::Borrowed(line);
    }
    let mut left = columns.saturating_sub(1);
    let fits = |letter: &char| {
        let has_room = width(*letter) <= left;
        left = left.saturating_sub(width(*letter));
        has_room
    };
    let mut text: String = line.chars().take_while(fits).collect();
    text.truncate(text.trim_end().len());
    text.push('…');
    Cow::Owned(text)
}

/// A line as several that are no wider than so many columns, broken between words where that goes.
pub(crate) fn wrapped(line: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let (mut lines, mut row, mut used) = (Vec::new(), String::new(), 0);
    for word in line.split_inclusive(' ') {
        // The space behind the last word of a line takes no room.
        let needs: usize = word.trim_end().chars().map(width).sum();
        if used > 0 && used + needs > columns {
            lines.push(std::mem::take(&mut row));
            used = 0;
        }
        for letter in word.chars() {
            if used + width(letter) > columns && letter != ' ' {
                lines.push(std::mem::take(&mut row));
                used = 0;
            }
            row.push(letter);
            used += width(letter);
        }
    }
    lines.push(row);
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// Columns that a letter takes: two for those that are wide.
///
/// Source: UAX #11, by blocks; a few narrow letters in them count as wide.
fn width(letter: char) -> usize {
    match u32::from(letter) {
        0x0300..=0x036f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe4f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Of a bar for bytes: how many of how many, the rate, and the time that is left.
pub(crate) fn transfer_bar() -> ProgressStyle {
    let style =
        ProgressStyle::with_template("{msg}  [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}{time_left}");
    style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key(
            "time_left",
            |state: &ProgressState, shown: &mut dyn fmt::Write| {
                // Before the first byte nobody knows.
                if state.per_sec() >= 1.0 {
                    let _ = write!(shown, ", {:#} left", HumanDuration(state.eta()));
                }
            },
        )
        .progress_chars("=> ")
}

/// Of rows with a state in one column, those for which there is room, in their order: first what went wrong, then what is under way
/// or waits, what is to come, what is done. And what is said of the others.
pub(crate) fn fitting(
    mut rows: Vec<Vec<String>>,
    state: usize,
    room: usize,
) -> (Vec<Vec<String>>, Option<String>) {
    if rows.len() <= room {
        return (rows, None);
    }
    let state_of = |row: &Vec<String>| row.get(state).cloned().unwrap_or_default();
    // A line says what is left out.
    let room = room.saturating_sub(1);
    let mut by_rank: Vec<usize> = (0..rows.len()).collect();
    by_rank.sort_by_key(|at| rows.get(*at).map(|row| rank(&state_of(row))));
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_shown = vec![false; rows.len()];
    for (nth, at) in by_rank.into_iter().enumerate() {
        match (nth < room, is_shown.get_mut(at)) {
            (true, Some(is_shown)) => *is_shown = true,
            _ => {
                *left_out
                    .entry(rows.get(at).map(state_of).unwrap_or_default())
                    .or_default() += 1
            }
        }
    }
    let count: usize = left_out.values().sum();
    let each: Vec<String> = left_out
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let mut shown = is_shown.into_iter();
    rows.retain(|_| shown.next().unwrap_or_default());
    (rows, Some(format!("… {count} more: {}", each.join(", "))))
}

fn rank(state: &str) -> u8 {
    match state {
        "FAILED" | "TIMEOUT" => 0,
        "RUNNING" | "WAITING" | "DELAYED" | "PAUSED" | "PAUSING" | "ENDING" | "CANCELLING" => 1,
        "IDLE" | "PENDING" => 2,
        "CANCELLED" => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_the_width() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("a word", 3), "a…");
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("", 0), "");
        assert_eq!(cut("ab", 1), "…");
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("one two", 3), ["one", "two"]);
        assert_eq!(wrapped("a verylongword", 6), ["a", "verylo", "ngword"]);
        assert_eq!(wrapped("漢字漢字", 5), ["漢字", "漢字"]);
        assert_eq!(wrapped("  set in", 80), ["  set in"]);
        assert_eq!(wrapped("", 80), [""]);
    }

    #[test]
    fn what_went_wrong_is_shown_before_what_is_done() {
        let row = |name: &str, state: &str| vec![name.to_owned(), state.to_owned()];
        let rows = vec![
            row("a", "SUCCESS"),
            row("b", "IDLE"),
            row("c", "FAILED"),
            row("d", "SUCCESS"),
            row("e", "RUNNING"),
        ];
        let names = |room| {
            let (rows, more) = fitting(rows.clone(), 1, room);
            let names: String = rows.iter().map(|row| row[0].as_str()).collect();
            (names, more.unwrap_or_default())
        };
        assert_eq!(names(5), ("abcde".to_owned(), String::new()));
        assert_eq!(names(4), ("bce".to_owned(), "… 2 more: 2 SUCCESS".to_owned()));
        assert_eq!(
            names(2),
            (
                "c".to_owned(),
                "… 4 more: 1 IDLE, 1 RUNNING, 2 SUCCESS".to_owned()
            )
        );
        assert_eq!(names(0).0, "");
    }
}
