//! What was loaded or committed last, with the revision of its key: bounded, what was not used for long goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) struct Cache<V> {
    entries: Mutex<Entries<V>>,
    most: usize,
}

struct Entries<V> {
    by_key: HashMap<String, (u64, V)>,
    /// By when they were used, counted.
    by_use: BTreeMap<u64, String>,
    uses: u64,
    /// Counts what was put and removed, for keys of one hash: a value that was loaded meanwhile may be out of date.
    changes: Vec<u64>,
}

const SHARDS: usize = 256;

impl<V: Clone> Cache<V> {
    pub(super) fn new(most: usize) -> Self {
        let entries = Entries {
            by_key: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            changes: vec![0; SHARDS],
        };
        Self {
            entries: Mutex::new(entries),
            most,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<V> {
        let mut entries = self.lock();
        let Entries {
            by_key, by_use, uses, ..
        } = &mut *entries;
        let (used, value) = by_key.get_mut(key)?;
        // One that is far from being the oldest stays where it is.
        if *uses - *used >= self.most as u64 / 8 {
            *uses += 1;
            if let Some(key) = by_use.remove(used) {
                by_use.insert(*uses, key);
            }
            *used = *uses;
        }
        Some(value.clone())
    }

    /// Before a value is loaded: for [`Cache::put_loaded`].
    pub(super) fn changes(&self, key: &str) -> u64 {
        *self.lock().changes_of(key)
    }

    /// Puts what was loaded, unless the key was put or removed meanwhile.
    pub(super) fn put_loaded(&self, key: &str, value: V, changes: u64) {
        if *self.lock().changes_of(key) == changes {
            self.put(key, value);
        }
    }

    pub(super) fn put(&self, key: &str, value: V) {
        let mut entries = self.lock();
        entries.remove(key);
        entries.uses += 1;
        let uses = entries.uses;
        entries.by_key.insert(key.to_owned(), (uses, value));
        entries.by_use.insert(uses, key.to_owned());
        while entries.by_key.len() > self.most
            && let Some((_, oldest)) = entries.by_use.pop_first()
        {
            entries.by_key.remove(&oldest);
        }
    }

    pub(super) fn remove(&self, key: &str) {
        self.lock().remove(key);
    }

    /// Removes a value, unless another one has come meanwhile.
    pub(super) fn remove_if(&self, key: &str, is_it: impl FnOnce(&V) -> bool) {
        let mut entries = self.lock();
        if entries.by_key.get(key).is_none_or(|(_, there)| is_it(there)) {
            entries.remove(key);
        }
    }

    /// Puts a value, unless the one that is there is at least as new.
    pub(super) fn put_newer(&self, key: &str, value: V, is_older: impl FnOnce(&V) -> bool) {
        let mut entries = self.lock();
        match entries.by_key.get_mut(key) {
            Some((_, there)) => {
                if is_older(there) {
                    *there = value;
                    *entries.changes_of(key) += 1;
                }
            }
            None => {
                drop(entries);
                self.put(key, value);
            }
        }
    }

    /// Changes an entry that is there; false when there is none.
    pub(super) fn update(&self, key: &str, change: impl FnOnce(&mut V)) -> bool {
        let mut entries = self.lock();
        *entries.changes_of(key) += 1;
        match entries.by_key.get_mut(key) {
            Some((_, value)) => {
                change(value);
                true
            }
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries<V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Entries<V> {
    fn changes_of(&mut self, key: &str) -> &mut u64 {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let shard = usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or(0);
        self.changes.get_mut(shard).expect("an index below the length")
    }

    fn remove(&mut self, key: &str) {
        *self.changes_of(key) += 1;
        if let Some((used, _)) = self.by_key.remove(key) {
            self.by_use.remove(&used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_was_used_longest_ago() {
        let cache = Cache::new(2);
        cache.put("a", 1);
        cache.put("b", 2);
        assert_eq!(cache.get("a"), Some(1));
        cache.put("c", 3);
        assert_eq!(
            (cache.get("a"), cache.get("b"), cache.get("c")),
            (Some(1), None, Some(3))
        );
        cache.put("a", 4);
        cache.remove("c");
        cache.put("d", 5);
        assert_eq!(
            (cache.get("a"), cache.get("c"), cache.get("d")),
            (Some(4), None, Some(5))
        );
    }

    #[test]
    fn what_was_loaded_before_a_change_is_not_kept() {
        let cache = Cache::new(2);
        let changes = cache.changes("a");
        cache.put("a", 2);
        cache.remove("a");
        cache.put_loaded("a", 1, changes);
        assert_eq!(cache.get("a"), None);
        cache.put_loaded("a", 3, cache.changes("a"));
        assert_eq!(cache.get("a"), Some(3));
    }
}
