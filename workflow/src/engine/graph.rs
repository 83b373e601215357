//! Which task needs which, transitively.

use std::collections::BTreeSet;

use crate::language::Definition;

/// All that a task needs, and what that needs.
pub(super) fn ancestors(definition: &Definition, task: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut open = vec![task];
    while let Some(task) = open.pop() {
        for &need in needs(definition, task) {
            if seen.insert(need) {
                open.push(need);
            }
        }
    }
    seen
}

/// These tasks and all that need one of them, however indirectly.
pub(super) fn with_dependents(definition: &Definition, tasks: BTreeSet<usize>) -> BTreeSet<usize> {
    let mut all = tasks;
    loop {
        let before = all.len();
        for task in 0..definition.tasks.len() {
            if needs(definition, task).iter().any(|need| all.contains(need)) {
                all.insert(task);
            }
        }
        if all.len() == before {
            return all;
        }
    }
}

/// What a `goto` from `from` to `target` runs again: the target and what needs it, up to and including `from`.
pub(super) fn between(definition: &Definition, target: usize, from: usize) -> Vec<usize> {
    let above = ancestors(definition, from);
    with_dependents(definition, BTreeSet::from([target]))
        .into_iter()
        .filter(|task| *task == target || *task == from || above.contains(task))
        .collect()
}

/// The task itself and those behind it, as far as they are in a loop with it: what they came to in the round before is all that
/// it can know of them.
pub(super) fn later_in_loops(definition: &Definition, task: usize) -> BTreeSet<usize> {
    let mut looped = BTreeSet::new();
    for (from, of) in definition.tasks.iter().enumerate() {
        let back = of.goto.as_ref().map(|goto| between(definition, goto.task, from));
        looped.extend(back.filter(|all| all.contains(&task)).into_iter().flatten());
    }
    if looped.is_empty() {
        return looped;
    }
    let behind = with_dependents(definition, BTreeSet::from([task]));
    looped.intersection(&behind).copied().collect()
}

pub(super) fn needs(definition: &Definition, task: usize) -> &[usize] {
    definition.tasks.get(task).map_or(&[], |task| &task.needs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Task;

    #[test]
    fn follows_needs_both_ways() {
        let task = |needs: &[usize]| Task {
            needs: needs.to_vec(),
            ..Task::default()
        };
        // 0 → 1 → 3 → 4, and 2 beside 1.
        let definition = Definition {
            tasks: vec![task(&[]), task(&[0]), task(&[0]), task(&[1]), task(&[3])],
            ..Definition::default()
        };
        assert_eq!(ancestors(&definition, 3), BTreeSet::from([0, 1]));
        assert_eq!(
            with_dependents(&definition, BTreeSet::from([1])),
            BTreeSet::from([1, 3, 4])
        );
        assert_eq!(between(&definition, 0, 3), [0, 1, 3]);
        assert_eq!(between(&definition, 3, 3), [3]);
    }
}
