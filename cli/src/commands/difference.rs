//! How two texts differ, as diff(1) says it with -u.

use std::io::Write;
use std::time::Duration;

use similar::TextDiff;

use crate::failure::Failure;
use crate::terminal::Out;

/// Lines around what differs.
const CONTEXT: usize = 3;
/// After this time a difference that is not the smallest will do.
const WITHIN: Duration = Duration::from_secs(2);

/// A unified diff; empty when the texts are the same. `names` are those of the two sides.
pub(crate) fn unified(before: &str, after: &str, (old, new): (&str, &str)) -> String {
    let diff = TextDiff::configure().timeout(WITHIN).diff_lines(before, after);
    let mut unified = diff.unified_diff();
    unified.context_radius(CONTEXT).header(old, new).to_string()
}

/// Prints one, a line each.
pub(crate) fn print(out: &mut Out, diff: &str) -> Result<(), Failure> {
    for line in diff.lines() {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_stands_among_its_neighbours() {
        let names = ("stored", "given");
        assert_eq!(unified("a\nb\n", "a\nb\n", names), "");
        assert_eq!(
            unified("a: 1\nb: 2\n", "a: 1\nb: 3\n", names),
            "--- stored\n+++ given\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n"
        );
        assert_eq!(
            unified("", "a\n", names),
            "--- stored\n+++ given\n@@ -0,0 +1 @@\n+a\n"
        );
    }
}
