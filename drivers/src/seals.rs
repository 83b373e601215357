//! `seals`: which lists of modules, and which archives of programs, belong to a boot image. It lies in the base, beside its modules: what
//! the base does not seal is not used.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::overlays::is_name;
use crate::{CATALOGUE_FILE, CONTAINERD_FILE, TOOLS_FILE, TextError, is_digest, lines};

/// What a list or an archive has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Size.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: String,
}

/// The seals of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seals {
    /// Of the list of what is fetched ([`CATALOGUE_FILE`], as it is served); `None`: nothing is.
    pub fetched: Option<Seal>,
    /// Of the list that lies in each overlay, by the overlay's name.
    pub overlays: BTreeMap<String, Seal>,
    /// The programs that actions may ask for; `None`: the image has none.
    pub tools: Option<Tools>,
    /// containerd with what it runs; `None`: the image has none.
    pub containerd: Option<Tools>,
}

/// An archive of programs ([`TOOLS_FILE`], [`CONTAINERD_FILE`]), as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Of the archive.
    pub seal: Seal,
    /// What its files have when it is unpacked.
    pub unpacked_bytes: u64,
    /// The names of the programs, sorted.
    pub programs: Vec<String>,
}

impl Seals {
    /// Reads the text.
    ///
    /// # Errors
    /// [`TextError`] for a line that the build does not write.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut seals = Self::default();
        for (line, words) in lines(FILE, HEAD, text)? {
            let error = |what: String| TextError {
                text: FILE,
                line,
                what,
            };
            let words: Vec<&str> = words.split(' ').collect();
            let [kind, name, bytes, sha256, rest @ ..] = words.as_slice() else {
                return Err(error(format!("it has {} words, not four", words.len())));
            };
            let size = |bytes: &str| {
                let size = bytes.parse::<u64>();
                size.map_err(|_| error(format!("{bytes:?} is no size")))
            };
            let bytes = size(bytes)?;
            if !is_digest(sha256) {
                return Err(error(format!("{sha256:?} is no SHA-256")));
            }
            let sha256 = (*sha256).to_owned();
            let seal = Seal { bytes, sha256 };
            match (*kind, rest) {
                ("fetched", []) if *name == CATALOGUE_FILE => seals.fetched = Some(seal),
                ("overlay", []) if is_name(name) => {
                    seals.overlays.insert((*name).to_owned(), seal);
                }
                ("tools", [unpacked, programs @ ..]) if [TOOLS_FILE, CONTAINERD_FILE].contains(name) => {
                    if let Some(program) = programs.iter().find(|program| !is_program(program)) {
                        return Err(error(format!("{program:?} is no name of a program")));
                    }
                    let sealed = Some(Tools {
                        seal,
                        unpacked_bytes: size(unpacked)?,
                        programs: programs.iter().map(|&program| program.to_owned()).collect(),
                    });
                    match *name {
                        TOOLS_FILE => seals.tools = sealed,
                        _ => seals.containerd = sealed,
                    }
                }
                ("fetched" | "overlay", [_, ..]) => {
                    return Err(error(format!("it has {} words, not four", words.len())));
                }
                _ => return Err(error(format!("{kind:?} {name:?} is not known"))),
            }
        }
        Ok(seals)
    }

    /// The text that [`Seals::parse`] reads.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        let fetched = self.fetched.iter().map(|seal| ("fetched", CATALOGUE_FILE, seal));
        let overlays = self
            .overlays
            .iter()
            .map(|(name, seal)| ("overlay", name.as_str(), seal));
        for (kind, name, Seal { bytes, sha256 }) in fetched.chain(overlays) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{kind} {name} {bytes} {sha256}");
        }
        let archives = [(TOOLS_FILE, &self.tools), (CONTAINERD_FILE, &self.containerd)];
        for (name, tools) in archives
            .into_iter()
            .filter_map(|(name, tools)| Some((name, tools.as_ref()?)))
        {
            let Seal { bytes, sha256 } = &tools.seal;
            let unpacked = tools.unpacked_bytes;
            let _ = write!(text, "tools {name} {bytes} {sha256} {unpacked}");
            for program in &tools.programs {
                let _ = write!(text, " {program}");
            }
            text.push('\n');
        }
        text
    }
}

/// Whether a program may be called so: what a shell needs no quotes for.
fn is_program(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    !matches!(name, "" | "." | "..") && name.bytes().all(is_plain)
}

/// Its name below `lib/modules/<version>`.
pub const FILE: &str = "seals";
const HEAD: &str = "farrier seals 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let seal = |digit: &str| Seal {
            bytes: 7,
            sha256: digit.repeat(64),
        };
        let seals = Seals {
            fetched: Some(seal("a")),
            overlays: [("intel-1g".to_owned(), seal("0"))].into(),
            tools: Some(Tools {
                seal: seal("1"),
                unpacked_bytes: 12,
                programs: vec!["mdadm".to_owned(), "mkfs.xfs".to_owned()],
            }),
            containerd: Some(Tools {
                seal: seal("2"),
                unpacked_bytes: 13,
                programs: vec!["containerd".to_owned()],
            }),
        };
        let text = seals.to_text();
        assert!(
            text.starts_with("farrier seals 1\nfetched modules.list.zst 7 aaaa"),
            "{text}"
        );
        assert_eq!(Seals::parse(&text).unwrap(), seals);
        assert_eq!(
            Seals::parse(&Seals::default().to_text()).unwrap(),
            Seals::default()
        );
    }

    #[test]
    fn what_the_build_does_not_write_is_named_by_its_line() {
        let digest = "0".repeat(64);
        for (line, want) in [
            ("overlay a 7".to_owned(), "it has 3 words"),
            (format!("overlay a 7 {digest} 8"), "it has 5 words"),
            (
                format!("tools tools.img 7 {digest} many a"),
                "\"many\" is no size",
            ),
            (
                format!("tools tools.img 7 {digest} 8 ../sh"),
                "\"../sh\" is no name of a program",
            ),
            (format!("tools other.img 7 {digest} 8 a"), "is not known"),
            (format!("overlay a seven {digest}"), "\"seven\" is no size"),
            ("overlay a 7 00".to_owned(), "\"00\" is no SHA-256"),
            (
                format!("overlay ../a 7 {digest}"),
                "\"overlay\" \"../a\" is not known",
            ),
            (
                format!("fetched other 7 {digest}"),
                "\"fetched\" \"other\" is not known",
            ),
        ] {
            let error = Seals::parse(&format!("farrier seals 1\n{line}\n")).unwrap_err();
            assert_eq!((error.line, error.text), (2, "seals"));
            assert!(error.what.contains(want), "{error}");
        }
    }
}
