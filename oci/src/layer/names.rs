//! What the path of an entry means: a name in a folder of the image, or something that is removed.
//!
//! Source: OCI image specification 1.1, layer.md, sections "Whiteouts" and "Opaque Whiteout".

use super::error::Refusal;

/// What an entry is about. Folders are the names of the way to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// Something that only aufs, where this form is from, has use for.
    Nothing,
    /// What lower layers have in this folder is not seen.
    Opaque {
        folder: Vec<&'a [u8]>,
    },
    Plain {
        folder: Vec<&'a [u8]>,
        name: &'a [u8],
    },
    Root,
    /// What lower layers have by this name is not seen.
    Whiteout {
        folder: Vec<&'a [u8]>,
        name: &'a [u8],
    },
}

const WHITEOUT: &[u8] = b".wh.";
/// Aufs's own; the opaque one is the only one with a meaning here.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// PATH_MAX without its zero.
pub(super) const PATH_LIMIT_BYTES: usize = 4095;
/// NAME_MAX.
const NAME_LIMIT_BYTES: usize = 255;

/// What an entry with this path is about.
///
/// # Errors
/// A path that leads elsewhere, or that no file has.
pub(super) fn meaning(path: &[u8]) -> Result<Meaning<'_>, Refusal> {
    let mut folder = parts(path)?;
    let Some(name) = folder.pop() else {
        return Ok(Meaning::Root);
    };
    if folder.iter().any(|name| name.starts_with(AUFS)) {
        return Ok(Meaning::Nothing);
    }
    if folder.iter().any(|name| name.starts_with(WHITEOUT)) {
        return Err(Refusal::ReservedName);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Plain { folder, name }),
        Some(_) if name == OPAQUE => Ok(Meaning::Opaque { folder }),
        Some(_) if name.starts_with(AUFS) => Ok(Meaning::Nothing),
        Some(b"" | b"." | b"..") => Err(Refusal::ReservedName),
        Some(name) => Ok(Meaning::Whiteout { folder, name }),
    }
}

/// What an entry of an archive that is no layer is about: no name in it has a meaning of its own.
///
/// # Errors
/// As [`meaning`].
pub(super) fn plain(path: &[u8]) -> Result<Meaning<'_>, Refusal> {
    let mut folder = parts(path)?;
    Ok(match folder.pop() {
        None => Meaning::Root,
        Some(name) => Meaning::Plain { folder, name },
    })
}

/// The names in a path, from the image's root.
///
/// # Errors
/// As [`meaning`].
pub(super) fn parts(path: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    if path.len() > PATH_LIMIT_BYTES {
        return Err(Refusal::LongPath(PATH_LIMIT_BYTES));
    }
    if path.contains(&0) {
        return Err(Refusal::ZeroByte);
    }
    let parts: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .collect();
    // Builders call the root itself "/": that is nowhere else.
    if path.starts_with(b"/") && !parts.is_empty() {
        return Err(Refusal::AbsolutePath);
    }
    if parts.contains(&&b".."[..]) {
        return Err(Refusal::ParentInPath);
    }
    if parts.iter().any(|part| part.len() > NAME_LIMIT_BYTES) {
        return Err(Refusal::LongName(NAME_LIMIT_BYTES));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain<'a>(folder: &[&'a str], name: &'a str) -> Result<Meaning<'a>, Refusal> {
        let folder = folder.iter().map(|part| part.as_bytes()).collect();
        let name = name.as_bytes();
        Ok(Meaning::Plain { folder, name })
    }

    #[test]
    fn paths_are_names_from_the_root_however_they_are_written() {
        for path in ["a/b", "./a/b", "a//b/", "./a/./b/."] {
            assert_eq!(meaning(path.as_bytes()), plain(&["a"], "b"), "{path}");
        }
        for path in ["", ".", "./", "/", "//", "././"] {
            assert_eq!(meaning(path.as_bytes()), Ok(Meaning::Root), "{path}");
        }
        assert_eq!(meaning(b"..a/b.."), plain(&["..a"], "b.."));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for (path, why) in [
            (&b"/etc/passwd"[..], Refusal::AbsolutePath),
            (b"//etc", Refusal::AbsolutePath),
            (b"..", Refusal::ParentInPath),
            (b"a/../../b", Refusal::ParentInPath),
            (b"a/..", Refusal::ParentInPath),
            (b"a\0b", Refusal::ZeroByte),
            (&[b'x'; 256], Refusal::LongName(255)),
            (&b"x/".repeat(2048), Refusal::LongPath(4095)),
        ] {
            assert_eq!(meaning(path), Err(why), "{}", path.escape_ascii());
        }
    }

    #[test]
    fn whiteouts_are_told_from_names_and_from_what_is_aufss_own() {
        let whiteout = |folder: Vec<&'static [u8]>, name| Ok(Meaning::Whiteout { folder, name });
        assert_eq!(meaning(b".wh.a"), whiteout(vec![], b"a"));
        assert_eq!(meaning(b"a/b/.wh...c"), whiteout(vec![b"a", b"b"], b"..c"));
        assert_eq!(
            meaning(b"a/.wh..wh..opq"),
            Ok(Meaning::Opaque { folder: vec![b"a"] })
        );
        assert_eq!(meaning(b".wh..wh..opq"), Ok(Meaning::Opaque { folder: vec![] }));
        for path in [
            &b".wh..wh.aufs"[..],
            b".wh..wh.plnk/12.34",
            b".wh..wh.orph",
            b"a/.wh..wh..tmp",
        ] {
            assert_eq!(meaning(path), Ok(Meaning::Nothing), "{}", path.escape_ascii());
        }
        for path in [&b".wh."[..], b"a/.wh..", b".wh...", b".wh.a/b"] {
            assert_eq!(
                meaning(path),
                Err(Refusal::ReservedName),
                "{}",
                path.escape_ascii()
            );
        }
        assert_eq!(meaning(b"a.wh.b"), plain(&[], "a.wh.b"));
    }

    #[test]
    fn no_name_is_a_whiteout_in_what_is_no_layer() {
        for path in [".wh.a", ".wh..wh..opq", ".wh."] {
            assert_eq!(super::plain(path.as_bytes()), plain(&[], path), "{path}");
        }
        assert_eq!(super::plain(b".wh.a/b"), plain(&[".wh.a"], "b"));
        assert_eq!(super::plain(b"./"), Ok(Meaning::Root));
        assert_eq!(super::plain(b"a/../b"), Err(Refusal::ParentInPath));
    }
}
