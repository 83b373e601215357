//! In which order modules go into the kernel. Pure.

use drivers::Catalogue;

/// The names of the modules to load, what is needed first, `name` itself last; each once.
///
/// What `is_here` says is in the base brings what it needs itself. What neither it nor a list has is built in.
pub(super) fn order(name: &str, is_here: &dyn Fn(&str) -> bool, lists: &[&Catalogue]) -> Vec<String> {
    let needs_of = |name: &str| -> Option<&[String]> {
        if is_here(name) {
            return Some(&[]);
        }
        Some(lists.iter().find_map(|list| list.module(name))?.1)
    };
    let mut ordered: Vec<String> = Vec::new();
    let mut met = vec![name.to_owned()];
    // A module and how many of its needs were looked at. A circle ends where it began.
    let mut open = vec![(name.to_owned(), 0_usize)];
    while let Some((current, looked_at)) = open.last_mut() {
        match needs_of(current).map(|needs| needs.get(*looked_at)) {
            Some(Some(need)) => {
                *looked_at += 1;
                if !met.contains(need) {
                    met.push(need.clone());
                    open.push((need.clone(), 0));
                }
            }
            Some(None) => {
                ordered.push(current.clone());
                open.pop();
            }
            None => {
                open.pop();
            }
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(modules: &[(&str, &str)]) -> Catalogue {
        let line = |(name, needs): &(&str, &str)| {
            let needs = if needs.is_empty() {
                String::new()
            } else {
                format!(" {needs}")
            };
            format!("module kernel/{name}.ko 0 1 {}{needs}\n", "0".repeat(64))
        };
        let lines: Vec<String> = modules.iter().map(line).collect();
        Catalogue::parse(&format!("farrier modules 1\n{}", lines.concat())).expect("list")
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let one = list(&[("sd_mod", "scsi_mod crc"), ("megaraid_sas", "scsi_mod")]);
        let other = list(&[("scsi_mod", "scsi_common builtin"), ("scsi_common", "")]);
        let lists = [&one, &other];
        let is_here = |name: &str| name == "crc";
        assert_eq!(
            order("sd_mod", &is_here, &lists),
            ["scsi_common", "scsi_mod", "crc", "sd_mod"]
        );
        assert_eq!(order("crc", &is_here, &lists), ["crc"]);
        assert_eq!(order("builtin", &is_here, &lists), [""; 0]);
    }

    #[test]
    fn a_circle_ends() {
        let circle = list(&[("a", "b"), ("b", "c"), ("c", "a a b")]);
        assert_eq!(order("a", &|_| false, &[&circle]), ["c", "b", "a"]);
    }

    #[test]
    fn a_long_chain_is_no_deep_recursion() {
        let names: Vec<(String, String)> = (0..3000)
            .map(|n| (format!("m{n}"), format!("m{}", n + 1)))
            .collect();
        let modules: Vec<(&str, &str)> = names
            .iter()
            .map(|(name, need)| (name.as_str(), need.as_str()))
            .collect();
        let chain = list(&modules);
        assert_eq!(order("m0", &|_| false, &[&chain]).len(), 3000);
    }
}
