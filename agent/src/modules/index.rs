//! The tables that depmod writes. Pure.
//!
//! Source: depmod.d(5), modules.dep(5); the alias patterns are those of fnmatch(3).

use std::collections::HashMap;

/// Far above any distribution's (Debian: 4,000 modules, 25,000 aliases).
const MAX_MODULES: usize = 50_000;
const MAX_ALIASES: usize = 500_000;

/// Module files by name, what they need, and which devices they serve.
#[derive(Debug, Default)]
pub struct Index {
    modules: HashMap<String, Module>,
    aliases: Vec<(String, String)>,
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
        let mut aliases = Vec::new();
        for line in alias.lines().take(MAX_ALIASES) {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module), None) =
                (words.next(), words.next(), words.next(), words.next())
            {
                aliases.push((pattern.to_owned(), normal(module)));
            }
        }
        Index { modules, aliases }
    }

    /// Whether there is a file for this module name; what is built in has none.
    pub fn has(&self, name: &str) -> bool {
        self.modules.contains_key(&normal(name))
    }

    /// Names of the modules whose alias patterns match, in the table's order, each once.
    pub fn for_modalias(&self, modalias: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (pattern, name) in &self.aliases {
            if !names.contains(name) && matches(pattern.as_bytes(), modalias.as_bytes()) {
                names.push(name.clone());
            }
        }
        names
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

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// fnmatch(3) without flags, for `*`, `?` and `[...]`; linear memory, no recursion, at most n·m steps.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => in_set(&pattern[p..], text[t]),
            Some(c) => (*c == text[t]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (p, t) = (p + length, t + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Length of the `[...]` at the start of `pattern` when it holds `byte`.
fn in_set(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = 1 + pattern.get(1..)?.iter().position(|c| *c == b']')?;
    let set = pattern.get(1..end)?;
    let mut at = 0;
    while let Some(first) = set.get(at) {
        match (set.get(at + 1), set.get(at + 2)) {
            (Some(b'-'), Some(last)) => {
                if (*first..=*last).contains(&byte) {
                    return Some(end + 1);
                }
                at += 3;
            }
            _ if *first == byte => return Some(end + 1),
            _ => at += 1,
        }
    }
    None
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

    #[test]
    fn patterns_are_those_of_fnmatch() {
        for (pattern, text, want) in [
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("usb:v*p[0-9A-C]?x", "usb:v12pB7x", true),
            ("usb:v*p[0-9A-C]?x", "usb:v12pD7x", false),
            ("[", "[", false),
            ("[]", "a", false),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                want,
                "{pattern} {text}"
            );
        }
    }
}
