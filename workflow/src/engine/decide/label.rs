//! Changes of labels.

use std::collections::BTreeSet;

use super::super::command::Refusal;
use super::super::event::EventKind;
use super::draft::Draft;
use crate::labels::{self, Labels};

impl Draft<'_> {
    /// What it comes to has to be within the bounds. What changes nothing is no event.
    pub(super) fn label(&mut self, set: &Labels, remove: &BTreeSet<String>, by: &str) -> Result<(), Refusal> {
        let before = &*self.workflow.head.labels;
        let mut set = set.clone();
        set.retain(|key, value| before.get(key) != Some(value));
        let removed: Vec<String> = before
            .keys()
            .filter(|key| remove.contains(*key))
            .cloned()
            .collect();
        let mut after = before.clone();
        after.extend(set.clone());
        removed.iter().for_each(|key| drop(after.remove(key)));
        labels::check(&after)?;
        set.retain(|key, _| after.contains_key(key));
        if !set.is_empty() || !removed.is_empty() {
            let by = by.to_owned();
            self.push(EventKind::Labelled { set, removed, by });
        }
        Ok(())
    }
}
