//! The index files that `depmod` would write for a set of modules.
//!
//! Source: `modules.dep(5)`; kmod's `depmod.c` for the order and for which files there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::modules::Module;

/// The text of `modules.dep`, `modules.alias`, `modules.softdep` and `modules.builtin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexes {
    /// `modules.dep`: per module all it needs, directly or not, such that the last named is loaded first.
    pub dependencies: String,
    /// `modules.alias`: which device names load which module.
    pub aliases: String,
    /// `modules.softdep`: what is better loaded first.
    pub soft_dependencies: String,
    /// `modules.builtin`: the modules that the kernel itself has, as its package lists them.
    pub builtin: String,
    /// `modules.builtin.alias`: which PCI devices the kernel itself drives, written as in `modules.alias`.
    pub builtin_aliases: String,
}

impl Indexes {
    pub(super) fn of(
        modules: &BTreeMap<String, Module>,
        builtin: &BTreeMap<String, String>,
        builtin_aliases: &BTreeMap<String, Vec<String>>,
    ) -> Self {
        let mut by_path: Vec<(&String, &Module)> = modules.iter().collect();
        by_path.sort_by(|(_, one), (_, other)| one.path.cmp(&other.path));
        let mut indexes = Self {
            dependencies: String::new(),
            aliases: String::new(),
            soft_dependencies: String::new(),
            builtin: builtin.values().map(|path| format!("{path}\n")).collect(),
            builtin_aliases: builtin_aliases
                .iter()
                .flat_map(|(name, aliases)| {
                    aliases.iter().map(move |alias| format!("alias {alias} {name}\n"))
                })
                .collect(),
        };
        for (name, module) in by_path {
            indexes.add(name, module, modules);
        }
        indexes
    }

    fn add(&mut self, name: &str, module: &Module, modules: &BTreeMap<String, Module>) {
        let mut first_loaded_first = Vec::new();
        visit(
            module,
            modules,
            &mut BTreeSet::from([name.to_string()]),
            &mut first_loaded_first,
        );
        self.dependencies.push_str(&module.path);
        self.dependencies.push(':');
        for needed in first_loaded_first.iter().rev() {
            self.dependencies.push(' ');
            self.dependencies.push_str(needed);
        }
        self.dependencies.push('\n');
        for alias in &module.info.aliases {
            // Writing to a String cannot fail.
            let _ = writeln!(self.aliases, "alias {alias} {name}");
        }
        if !module.info.soft_before.is_empty() {
            let _ = writeln!(
                self.soft_dependencies,
                "softdep {name} pre: {}",
                module.info.soft_before.join(" ")
            );
        }
    }
}

/// Puts what `module` needs into `order`, everything after what it itself needs. A circle ends where it began.
fn visit<'a>(
    module: &Module,
    modules: &'a BTreeMap<String, Module>,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<&'a str>,
) {
    for name in &module.info.depends {
        // What is not among the modules is built in.
        let Some(needed) = modules.get(name) else {
            continue;
        };
        if seen.insert(name.clone()) {
            visit(needed, modules, seen, order);
            order.push(&needed.path);
        }
    }
}
