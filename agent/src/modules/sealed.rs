//! The driver overlays of this boot: used only where the base says that they belong to it.

use std::path::Path;

use drivers::{Catalogue, Entry, SEALS_FILE, Seal, Seals};

use crate::boot_server::checked;

/// An overlay that came with this boot.
#[derive(Debug)]
pub(super) struct Overlay {
    pub(super) name: String,
    pub(super) list: Catalogue,
}

/// The seals of the boot image, below `/lib/modules/<release>`; none where it is of one piece.
pub(super) fn seals(root: &Path, problems: &mut Vec<String>) -> Seals {
    let Ok(text) = std::fs::read_to_string(root.join(SEALS_FILE)) else {
        return Seals::default();
    };
    Seals::parse(&text).unwrap_or_else(|e| {
        problems.push(format!("no driver overlay is used, and none is fetched: {e}"));
        Seals::default()
    })
}

/// The overlays that are there and are those of the image; what is wrong with others goes to `problems`.
pub(super) fn overlays(root: &Path, seals: &Seals, problems: &mut Vec<String>) -> Vec<Overlay> {
    let mut found = Vec::new();
    for (name, seal) in &seals.overlays {
        let Ok(bytes) = std::fs::read(root.join("overlays").join(format!("{name}.list"))) else {
            continue;
        };
        let list = checked(&bytes, seal).and_then(|()| parsed(&bytes));
        match list {
            Ok(list) => found.push(Overlay {
                name: name.clone(),
                list,
            }),
            Err(what) => problems.push(format!(
                "driver overlay {name} is not used: its list {what}; it was damaged on its way, or is of another boot image: look at \
                 the server's with `farrier image verify`, then start the machine again"
            )),
        }
    }
    found
}

/// The bytes of a file that a list names, if they are what it says.
///
/// # Errors
/// In words.
pub(super) fn read(path: &Path, entry: &Entry) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("cannot be read: {e}"))?;
    let seal = Seal {
        bytes: entry.bytes,
        sha256: entry.sha256.clone(),
    };
    checked(&bytes, &seal)?;
    Ok(bytes)
}

fn parsed(bytes: &[u8]) -> Result<Catalogue, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("is no text: {e}"))?;
    Catalogue::parse(text).map_err(|e| format!("cannot be read: {e}"))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn seal(bytes: &[u8]) -> Seal {
        Seal {
            bytes: bytes.len() as u64,
            sha256: Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        }
    }

    #[test]
    fn an_overlay_is_used_only_as_the_base_seals_it() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::create_dir(root.path().join("overlays")).expect("folder");
        let list = format!("farrier modules 1\nmodule kernel/igb.ko 0 4 {}\n", "a".repeat(64));
        let path = root.path().join("overlays/intel.list");
        let mut seals = Seals::default();
        seals.overlays.insert("intel".to_owned(), seal(list.as_bytes()));
        seals.overlays.insert("absent".to_owned(), seal(b"x"));
        let look = || {
            let mut problems = Vec::new();
            let names: Vec<String> = overlays(root.path(), &seals, &mut problems)
                .into_iter()
                .map(|overlay| overlay.name)
                .collect();
            (names, problems.join("\n"))
        };
        std::fs::write(&path, &list).expect("written");
        assert_eq!(
            look(),
            (vec!["intel".to_owned()], String::new()),
            "one that did not come is no problem"
        );
        std::fs::write(&path, list.replace('a', "b")).expect("written");
        let (names, problems) = look();
        assert!(
            names.is_empty()
                && problems.contains("driver overlay intel is not used: its list has the SHA-256"),
            "{problems}"
        );
        std::fs::write(&path, "short").expect("written");
        assert!(look().1.contains("its list has 5 B, and the boot image says"));
        // Nobody seals what is no list, but whoever does gets no panic.
        seals.overlays.insert("intel".to_owned(), seal(b"\xff"));
        std::fs::write(&path, b"\xff").expect("written");
        let mut problems = Vec::new();
        assert!(overlays(root.path(), &seals, &mut problems).is_empty());
        assert!(problems[0].contains("is no text"), "{problems:?}");
    }

    #[test]
    fn seals_that_cannot_be_read_are_told() {
        let root = tempfile::tempdir().expect("folder");
        let mut problems = Vec::new();
        assert_eq!(seals(root.path(), &mut problems), Seals::default());
        assert!(problems.is_empty(), "an image of one piece has none");
        std::fs::write(root.path().join(SEALS_FILE), "rubbish").expect("written");
        seals(root.path(), &mut problems);
        assert!(problems[0].contains("line 1 of seals"), "{problems:?}");
    }
}
