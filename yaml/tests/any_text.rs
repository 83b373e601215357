//! Any text at all: no panic, no hang, and what is found is at a line that there is.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use yaml::{Limits, Node, What, parse};

const PIECES: &[&str] = &[
    "a: ",
    "b: ",
    "- ",
    "? ",
    ": ",
    "\n",
    "\n  ",
    "\t",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&x ",
    "*x",
    "<<: ",
    "|\n",
    ">-\n",
    "!!str ",
    "!!int ",
    "!t ",
    "! ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "# c\n",
    "~",
    "0x1F",
    "é",
    "\\",
    "\u{0}",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "text",
    "1",
    "@",
    "`",
    "\r",
    "<<: *x\n",
];

fn within(node: &Node, text: &str) {
    match &node.what {
        What::Nothing => {}
        What::Scalar(scalar) => assert!(text.get(scalar.written.clone()).is_some()),
        What::List(items) => items.iter().for_each(|item| within(item, text)),
        What::Map(entries) => entries.iter().for_each(|entry| within(&entry.node, text)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_at_a_line_that_there_is(
        pieces in prop::collection::vec(prop_oneof![
            8 => prop::sample::select(PIECES).prop_map(String::from),
            1 => any::<char>().prop_map(String::from),
        ], 0..40),
    ) {
        let text = pieces.concat();
        // What YAML takes for the end of a line.
        let lines = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
        for document in parse(&text, Limits { nodes: 500, bytes: 5000 }) {
            within(&document.node, &text);
            for found in document.problems {
                prop_assert!(!found.message.is_empty());
                prop_assert!(found.place.line as usize <= lines + 1, "{found:?}");
            }
        }
    }
}
