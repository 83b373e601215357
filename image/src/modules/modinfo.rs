//! What a kernel module says about itself, in its ELF section `.modinfo`: NUL-separated `key=value` strings.
//!
//! Source: Linux `include/linux/moduleparam.h` (`MODULE_INFO`), `scripts/mod/modpost.c`.

use std::collections::BTreeMap;

use crate::elf::{self, ElfError};
use crate::modules::module_name;

/// The parts of a module's metadata that say when and with what it is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modinfo {
    /// Patterns of device names (modalias) and other names the module answers to.
    pub aliases: Vec<String>,
    /// Names of the modules whose symbols it uses.
    pub depends: Vec<String>,
    /// Names of the firmware files that it may ask for, below `/lib/firmware`.
    pub firmware: Vec<String>,
    /// Names that should be loaded before it, without being needed (`softdep=pre:`).
    pub soft_before: Vec<String>,
}

/// Reads the metadata of a module; one without the section has none.
///
/// # Errors
/// [`ElfError`] if the module is not an ELF file that can be read.
pub fn of_module(module: &[u8]) -> Result<Modinfo, ElfError> {
    Ok(parse(elf::section(module, ".modinfo")?.unwrap_or_default()))
}

/// Reads `modules.builtin.modinfo`, NUL-separated `module.key=value`: the PCI patterns by module.
///
/// Source: Linux `Documentation/kbuild/kbuild.rst`, "modules.builtin.modinfo".
pub(super) fn builtin_pci_aliases(text: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let entries = text.split(|byte| *byte == 0).filter_map(|entry| {
        let (module, rest) = std::str::from_utf8(entry).ok()?.split_once('.')?;
        Some((module, rest.strip_prefix("alias=")?))
    });
    for (module, alias) in entries.filter(|(_, alias)| alias.starts_with("pci:")) {
        aliases
            .entry(module_name(module))
            .or_default()
            .push(alias.to_string());
    }
    aliases
}

fn parse(section: &[u8]) -> Modinfo {
    let mut info = Modinfo::default();
    for entry in section.split(|byte| *byte == 0) {
        // Descriptions may be in any encoding; what is read here is ASCII.
        let Some((key, value)) = std::str::from_utf8(entry)
            .ok()
            .and_then(|entry| entry.split_once('='))
        else {
            continue;
        };
        match key {
            "alias" => info.aliases.push(value.to_string()),
            "depends" => {
                let names = value.split(',').map(module_name);
                info.depends.extend(names.filter(|name| !name.is_empty()));
            }
            "firmware" => info.firmware.push(value.to_string()),
            "softdep" => info.soft_before.extend(before(value).map(str::to_string)),
            _ => {}
        }
    }
    info
}

/// The names after `pre:` and up to `post:`.
fn before(softdep: &str) -> impl Iterator<Item = &str> {
    let words = softdep
        .split_whitespace()
        .skip_while(|word| *word != "pre:")
        .skip(1);
    words.take_while(|word| *word != "post:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_loading_needs() {
        let info = parse(
            b"license=GPL\0alias=pci:v00001AF4d*\0alias=fs-xfs\0depends=libcrc32c,nls-base\0\0\xff=odd\0novalue\0\
              softdep=pre: crypto-crc32c crc32c post: late\0firmware=ql2500_fw.bin\0",
        );
        assert_eq!(info.aliases, ["pci:v00001AF4d*", "fs-xfs"]);
        assert_eq!(info.depends, ["libcrc32c", "nls_base"]);
        assert_eq!(info.firmware, ["ql2500_fw.bin"]);
        assert_eq!(info.soft_before, ["crypto-crc32c", "crc32c"]);
    }

    #[test]
    fn built_in_modules_have_their_pci_ids() {
        let text =
            b"virtio_pci.license=GPL\0virtio_pci.alias=pci:v00001AF4d*\0virtio-rng.alias=virtio:d4\0odd\0";
        let aliases = builtin_pci_aliases(text);
        assert_eq!(
            aliases.into_iter().collect::<Vec<_>>(),
            [("virtio_pci".to_owned(), vec!["pci:v00001AF4d*".to_owned()])]
        );
    }

    #[test]
    fn empty_depends_is_no_dependency() {
        assert_eq!(parse(b"depends=\0"), Modinfo::default());
        // Nor is a directory, which has no module's name.
        assert_eq!(parse(b"depends=virtio/,.ko\0"), Modinfo::default());
    }
}
