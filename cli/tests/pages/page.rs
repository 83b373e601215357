//! What stands in the code blocks of a page.

use std::fs;
use std::path::Path;

/// The blocks of this kind of a page, in order, without the indentation that a list gives them.
pub(crate) fn blocks(page: &str, kind: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/how-to")
        .join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut blocks, mut open) = (Vec::new(), None::<(bool, usize, String)>);
    for line in text.lines() {
        let bare = line.trim_start();
        match (&mut open, bare.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info == kind, line.len() - bare.len(), String::new())),
            (None, None) => {}
            (Some(_), Some(_)) => {
                let closed = open.take().filter(|(is_meant, ..)| *is_meant);
                blocks.extend(closed.map(|(.., block)| block));
            }
            (Some((_, indent, block)), None) => {
                block.push_str(line.get(*indent..).unwrap_or_default());
                block.push('\n');
            }
        }
    }
    assert!(!blocks.is_empty(), "{page} has no block of {kind}");
    blocks
}

/// The blocks of this kind, as many as the test knows: who changes the page looks at the test.
#[track_caller]
pub(crate) fn all_blocks<const COUNT: usize>(page: &str, kind: &str) -> [String; COUNT] {
    let blocks = blocks(page, kind);
    let count = blocks.len();
    <[String; COUNT]>::try_from(blocks)
        .unwrap_or_else(|_| panic!("{page} has {count} blocks of {kind}, and the test types {COUNT}"))
}
