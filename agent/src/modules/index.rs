//! The tables that depmod writes. Pure.
//!
//! Source: depmod.d(5), modules.dep(5).

use std::collections::HashMap;

use drivers::Patterns;

/// Far above any distribution's (Debian: 4,000 modules, 25,000 aliases).
const MAX_MODULES: usize = 50_000;
const MAX_ALIASES: usize = 500_000;

/// Module files by name, what they need, and which devices they serve.
#[derive(Debug, Default)]
pub struct Index {
    modules: HashMap<String, Module>,
    aliases: Patterns,
}

#[derive(Debug)]
struct Module {
    file: String,
    /// As in modules.dep: all of them, to be loaded from the last to the first.
    needs: Vec<String>,
}

impl Index {
    /// `dep` and `alias` are the texts of modules.dep and modules.alias; lines that make no sense are skipped.
    pub fn parse(dep: &str, alias: &str) -> Index {
        let mut modules = HashMap::new();
        for line in dep.lines().take(MAX_MODULES) {
            let Some((file, needs)) = line.split_once(':') else {
                continue;
            };
            // A path that leaves the folder of modules is not ours to load.
            let inside = |f: &str| !f.starts_with('/') && !f.split('/').any(|part| part == "..");
            let needs: Vec<String> = needs.split_whitespace().map(str::to_owned).collect();
            if inside(file) && needs.iter().all(|n| inside(n)) {
                modules.insert(
                    name_of(file),
                    Module {
                        file: file.to_owned(),
                        needs,
                    },
                );
            }
        }
        let mut aliases = Patterns::default();
        for line in alias.lines().take(MAX_ALIASES) {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module), None) =
                (words.next(), words.next(), words.next(), words.next())
            {
                aliases.add(pattern, &normal(module));
            }
        }
        Index { modules, aliases }
    }

    /// Whether there is a file for this module name; what is built in has none.
    pub fn has(&self, name: &str) -> bool {
        self.modules.contains_key(&normal(name))
    }

    /// Names of the modules whose alias patterns match, in the table's order, each once.
    pub fn for_modalias(&self, modalias: &str) -> Vec<&str> {
        self.aliases.meaning(modalias)
    }

    /// Files to load, in order, the module itself last; empty when it is unknown or built in.
    pub fn load_order(&self, name: &str) -> Vec<String> {
        let Some(module) = self.modules.get(&normal(name)) else {
            return Vec::new();
        };
        module.needs.iter().rev().chain([&module.file]).cloned().collect()
    }
}

/// `kernel/drivers/net/virtio-net.ko.zst` → `virtio_net`.
fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normal(base.split_once(".ko").map_or(base, |(name, _)| name))
}

pub(super) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/drivers/net/virtio_net.ko.zst: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko\n\
        kernel/drivers/virtio/virtio_ring.ko:\n\
        kernel/fs/nls/nls-cp437.ko.xz:\n\
        /etc/shadow:\n\
        kernel/x.ko: ../../etc/passwd\n\
        rubbish\n";
    const ALIAS: &str = "# Aliases\n\
        alias virtio:d00000001v* virtio_net\n\
        alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
        alias fs-ext4 ext4\n\
        alias x y z\nalias\n";

    #[test]
    fn dependencies_come_first_from_the_last_to_the_first() {
        let index = Index::parse(DEP, ALIAS);
        assert_eq!(
            index.load_order("virtio-net"),
            [
                "kernel/drivers/virtio/virtio_ring.ko",
                "kernel/drivers/virtio/virtio.ko",
                "kernel/drivers/net/virtio_net.ko.zst"
            ]
        );
        assert_eq!(index.load_order("nls_cp437"), ["kernel/fs/nls/nls-cp437.ko.xz"]);
        assert!(index.load_order("built_in").is_empty());
    }

    #[test]
    fn paths_outside_the_folder_are_not_loaded() {
        let index = Index::parse(DEP, ALIAS);
        assert!(!index.has("shadow") && !index.has("x"));
    }

    #[test]
    fn a_device_finds_its_modules() {
        let index = Index::parse(DEP, ALIAS);
        assert_eq!(index.for_modalias("virtio:d00000001v00001AF4"), ["virtio_net"]);
        let pci = "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00";
        assert_eq!(index.for_modalias(pci), ["virtio_pci"]);
        assert_eq!(index.for_modalias("fs-ext4"), ["ext4"]);
        assert!(index.for_modalias("usb:v1D6Bp0002").is_empty());
    }
}
