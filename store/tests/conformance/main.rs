//! One suite for every engine.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod model;
mod suite;

use store::{MemoryStore, RedbStore};

macro_rules! suite_for {
    ($engine:ident, $open:expr, $($test:ident)*) => {
        mod $engine {
            $(
                #[test]
                fn $test() {
                    let (_keep, store) = $open;
                    crate::suite::$test(&store);
                }
            )*

            #[test]
            fn behaves_as_the_model() {
                crate::model::check(|| $open);
            }
        }
    };
}

macro_rules! suite_for_all {
    ($($test:ident)*) => {
        suite_for!(memory, crate::memory_store(), $($test)*);
        suite_for!(redb, crate::redb_store(), $($test)*);
    };
}

suite_for_all! {
    gives_back_what_was_put
    revisions_count_commits
    preconditions_hold_or_nothing_happens
    a_precondition_sees_the_state_before_the_commit
    operations_happen_in_order
    ranges_are_half_open_ordered_and_limited
    an_empty_range_is_empty
    ranges_are_deleted
    limits_are_enforced
    a_group_is_answered_one_by_one
    threads_that_compete_lose_nothing
    keys_and_values_may_be_any_bytes
}

fn memory_store() -> ((), MemoryStore) {
    ((), MemoryStore::new())
}

fn redb_store() -> (tempfile::TempDir, RedbStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path().join("farrier.redb")).unwrap();
    (directory, store)
}
