//! A list of modules and firmware, with where each lies and its digest: `modules.list.zst` of what is fetched, and one in each overlay.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::pattern::Patterns;
use crate::{TextError, is_digest, is_inside, lines};

/// Modules and firmware by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// By name, with `_` for `-`: where it is, and the names of what it needs first.
    modules: BTreeMap<String, (Entry, Vec<String>)>,
    patterns: Patterns,
    /// By the name that the kernel asks for.
    firmware: BTreeMap<String, Entry>,
    /// By module, the firmware that it may ask for.
    asks: BTreeMap<String, Vec<String>>,
}

/// A file: where it is, and what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below `lib/modules/<version>` or `lib/firmware`, with how it is packed (`.xz`, `.zst`) at its end.
    pub path: String,
    /// Where it begins in the archive; 0 in an overlay, where it is a file of its own.
    pub offset: u64,
    /// Size as it lies there.
    pub bytes: u64,
    /// SHA-256 of it as it lies there.
    pub sha256: String,
}

impl Entry {
    /// The path without how it is packed.
    pub fn plain_path(&self) -> &str {
        let stripped = PACKINGS
            .iter()
            .find_map(|packing| self.path.strip_suffix(packing));
        stripped.unwrap_or(&self.path)
    }
}

impl Catalogue {
    /// Adds a module with the names of what it needs first, the patterns of the devices that it drives, and the firmware that it may
    /// ask for.
    pub fn add_module(&mut self, entry: Entry, needs: &[String], patterns: &[String], asks: &[String]) {
        let name = module_name(&entry.path);
        for pattern in patterns
            .iter()
            .filter(|pattern| !pattern.contains(char::is_whitespace))
        {
            self.patterns.add(pattern, &name);
        }
        if !asks.is_empty() {
            self.asks.insert(name.clone(), asks.to_vec());
        }
        self.modules.insert(name, (entry, needs.to_vec()));
    }

    /// Adds a file of firmware.
    pub fn add_firmware(&mut self, entry: Entry) {
        self.firmware.insert(entry.plain_path().to_owned(), entry);
    }

    /// The module called `name`, and the names of what it needs first.
    pub fn module(&self, name: &str) -> Option<(&Entry, &[String])> {
        let (entry, needs) = self.modules.get(&normal(name))?;
        Some((entry, needs))
    }

    /// The names of the modules that drive a device, or that answer to a name such as `fs-ext4`.
    pub fn for_modalias(&self, modalias: &str) -> Vec<&str> {
        self.patterns.meaning(modalias)
    }

    /// The firmware that a module may ask for.
    pub fn firmware_of(&self, module: &str) -> impl Iterator<Item = &Entry> {
        let names = self.asks.get(&normal(module)).map_or(&[][..], Vec::as_slice);
        names.iter().filter_map(|name| self.firmware.get(name))
    }

    /// The names of all firmware that a module may ask for, whether it is here or not.
    pub fn asked_by(&self, module: &str) -> Vec<String> {
        self.asks.get(&normal(module)).cloned().unwrap_or_default()
    }

    /// Whether firmware of this name is here.
    pub fn has_firmware(&self, name: &str) -> bool {
        self.firmware.contains_key(name)
    }

    /// All patterns, each with the module that it stands for.
    pub fn patterns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.patterns.iter()
    }

    /// All modules by name, sorted.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.modules
            .iter()
            .map(|(name, (entry, _))| (name.as_str(), entry))
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`TextError`] for a line that the build does not write: a path that leads elsewhere, no digest, no number.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut catalogue = Self::default();
        for (line, content) in lines("the list of modules", HEAD, text)? {
            let error = |what: String| TextError {
                text: "the list of modules",
                line,
                what,
            };
            let words: Vec<&str> = content.split(' ').collect();
            match words.as_slice() {
                ["module", path, offset, bytes, sha256, needs @ ..] => {
                    let entry = entry(path, offset, bytes, sha256).map_err(error)?;
                    if !entry.plain_path().ends_with(".ko") {
                        return Err(error(format!("{path:?} is no path of a module")));
                    }
                    let needs = needs.iter().map(|name| normal(name)).collect();
                    catalogue.modules.insert(module_name(path), (entry, needs));
                }
                ["alias", pattern, name] => catalogue.patterns.add(pattern, &normal(name)),
                ["firmware", path, offset, bytes, sha256] => {
                    catalogue.add_firmware(entry(path, offset, bytes, sha256).map_err(error)?);
                }
                ["asks", name, firmware @ ..] => {
                    let firmware = firmware.iter().map(|name| (*name).to_owned()).collect();
                    catalogue.asks.insert(normal(name), firmware);
                }
                _ => return Err(error(format!("{:?} is not known", words.first().unwrap_or(&"")))),
            }
        }
        Ok(catalogue)
    }

    /// The text that [`Catalogue::parse`] reads.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        let of = |entry: &Entry| format!("{} {} {} {}", entry.path, entry.offset, entry.bytes, entry.sha256);
        for (entry, needs) in self.modules.values() {
            // Writing to a String cannot fail.
            let _ = write!(text, "module {}", of(entry));
            needs.iter().for_each(|name| {
                let _ = write!(text, " {name}");
            });
            text.push('\n');
        }
        for (pattern, name) in self.patterns.iter() {
            let _ = writeln!(text, "alias {pattern} {name}");
        }
        for entry in self.firmware.values() {
            let _ = writeln!(text, "firmware {}", of(entry));
        }
        for (name, firmware) in &self.asks {
            let _ = writeln!(text, "asks {name} {}", firmware.join(" "));
        }
        text
    }
}

fn entry(path: &str, offset: &str, bytes: &str, sha256: &str) -> Result<Entry, String> {
    if !is_inside(path) {
        return Err(format!("{path:?} leads elsewhere"));
    }
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("{text:?} is no number of bytes"))
    };
    let (offset, bytes) = (number(offset)?, number(bytes)?);
    if offset.checked_add(bytes).is_none() {
        return Err(format!("{bytes} B from {offset} on are in no file"));
    }
    if !is_digest(sha256) {
        return Err(format!("{sha256:?} is no SHA-256"));
    }
    let (path, sha256) = (path.to_owned(), sha256.to_owned());
    Ok(Entry {
        path,
        offset,
        bytes,
        sha256,
    })
}

/// The name that the kernel knows a module by: no directory, no suffix, `_` for `-`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split_once(".ko").map_or(file, |(name, _)| name))
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The list of what is fetched, in the boot image directory.
pub const FILE: &str = "modules.list.zst";
const HEAD: &str = "farrier modules 1";
const PACKINGS: [&str; 3] = [".gz", ".xz", ".zst"];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Catalogue {
        let entry = |path: &str, offset| Entry {
            path: path.to_owned(),
            offset,
            bytes: 4,
            sha256: "a".repeat(64),
        };
        let mut catalogue = Catalogue::default();
        catalogue.add_module(
            entry("kernel/net/bnx2.ko.xz", 512),
            &["libfoo".to_owned()],
            &["pci:v000014E4d00001639*".to_owned(), "two words".to_owned()],
            &["bnx2/mips.fw".to_owned(), "bnx2/absent.fw".to_owned()],
        );
        catalogue.add_module(entry("kernel/fs/nls-cp437.ko", 0), &[], &[], &[]);
        catalogue.add_firmware(entry("bnx2/mips.fw.zst", 1024));
        catalogue
    }

    #[test]
    fn what_is_written_is_read() {
        let text = sample().to_text();
        assert_eq!(Catalogue::parse(&text).unwrap(), sample());
        assert_eq!(text.lines().count(), 6, "{text}");
    }

    #[test]
    fn a_device_leads_to_a_module_what_it_needs_and_its_firmware() {
        let catalogue = sample();
        assert_eq!(catalogue.for_modalias("pci:v000014E4d00001639sv1"), ["bnx2"]);
        let (bnx2, needs) = catalogue.module("bnx2").unwrap();
        assert_eq!(
            (bnx2.offset, bnx2.plain_path(), needs),
            (512, "kernel/net/bnx2.ko", &["libfoo".to_owned()][..])
        );
        let firmware: Vec<&str> = catalogue.firmware_of("bnx2").map(Entry::plain_path).collect();
        assert_eq!(firmware, ["bnx2/mips.fw"], "what is not there is not asked for");
        assert!(catalogue.module("nls_cp437").is_some() && catalogue.module("nls-cp437").is_some());
        assert_eq!(catalogue.firmware_of("nls_cp437").count(), 0);
    }

    #[test]
    fn what_the_build_does_not_write_is_named_by_its_line() {
        let digest = "0".repeat(64);
        for (line, want) in [
            (
                format!("module ../a.ko 0 1 {digest}"),
                "\"../a.ko\" leads elsewhere",
            ),
            (format!("module /a.ko 0 1 {digest}"), "\"/a.ko\" leads elsewhere"),
            (
                format!("module a.txt 0 1 {digest}"),
                "\"a.txt\" is no path of a module",
            ),
            (format!("module a.ko -1 1 {digest}"), "\"-1\" is no number"),
            (format!("module a.ko {} 1 {digest}", u64::MAX), "are in no file"),
            ("module a.ko 0 1 xyz".to_owned(), "\"xyz\" is no SHA-256"),
            ("alias a".to_owned(), "\"alias\" is not known"),
            (String::new(), "\"\" is not known"),
        ] {
            let error = Catalogue::parse(&format!("farrier modules 1\n{line}\n")).unwrap_err();
            assert_eq!(error.line, 2);
            assert!(error.what.contains(want), "{error}");
        }
        assert!(Catalogue::parse("").is_err());
    }
}
