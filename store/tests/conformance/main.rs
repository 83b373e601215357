//! One suite for every engine.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod model;
mod snapshots;
mod suite;
mod watching;

use store::{MemoryStore, RedbStore};

macro_rules! suite_for {
    ($engine:ident, $open:expr, $($suite:ident::$test:ident)*) => {
        mod $engine {
            $(
                #[test]
                fn $test() {
                    let (_keep, store) = $open;
                    let store = std::sync::Arc::new(store);
                    crate::$suite::$test(&store);
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
    ($($suite:ident::$test:ident)*) => {
        suite_for!(memory, crate::memory_store(), $($suite::$test)*);
        suite_for!(redb, crate::redb_store(), $($suite::$test)*);
    };
}

suite_for_all! {
    suite::gives_back_what_was_put
    suite::revisions_count_commits
    suite::preconditions_hold_or_nothing_happens
    suite::a_precondition_sees_the_state_before_the_commit
    suite::a_commit_puts_and_deletes
    suite::what_etcd_refuses_is_refused
    suite::ranges_are_half_open_ordered_and_limited
    suite::an_empty_range_is_empty
    suite::ranges_are_deleted
    suite::limits_are_enforced
    suite::what_is_appended_stands_in_the_order_of_commits
    suite::a_commit_does_not_write_in_a_log_that_it_appends_to
    suite::a_group_is_answered_one_by_one
    suite::threads_that_compete_lose_nothing
    suite::keys_and_values_may_be_any_bytes
    watching::a_watch_gives_every_change_once_in_order
    watching::a_key_that_is_deleted_and_then_put_is_put
    watching::a_watch_from_a_revision_gives_what_happened_since
    watching::a_watch_waits_for_what_comes
    watching::a_watch_sees_its_range_only
    watching::refused_commits_and_deletes_of_nothing_are_no_changes
    watching::what_is_no_longer_kept_is_compacted
    watching::changes_that_nobody_watched_are_not_kept
    watching::watching_then_reading_misses_nothing
    snapshots::a_snapshot_sees_nothing_of_later_commits
    snapshots::a_snapshot_is_read_backwards
    snapshots::a_snapshot_sees_what_was_answered_before
    snapshots::several_snapshots_are_each_as_of_their_revision
    snapshots::a_snapshot_never_sees_half_of_a_commit
    snapshots::a_snapshot_outlives_much_that_comes_after_it
    snapshots::an_expired_snapshot_is_begun_again
}

fn memory_store() -> ((), MemoryStore) {
    ((), MemoryStore::new())
}

fn redb_store() -> (tempfile::TempDir, RedbStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path().join("farrier.redb")).unwrap();
    (directory, store)
}
