//! A simulation that cannot fail proves nothing: each part that does not keep its promise is found out.

use simulation::{Breakage, Settings, run};

/// Seeds in which a broken part has to show.
const SEEDS: u64 = 40;

/// What is said when the part is broken, in the first seed in which it shows.
fn shows(breakage: Breakage) -> String {
    let broken = |seed| {
        let settings = Settings {
            breakage: Some(breakage),
            ..Settings::new(seed)
        };
        run(settings).err()
    };
    match (1..=SEEDS).find_map(broken) {
        Some(failure) => failure.what,
        None => panic!("{breakage:?} does not show in {SEEDS} seeds"),
    }
}

#[track_caller]
fn check(breakage: Breakage, said: &[&str]) {
    let what = shows(breakage);
    assert!(
        said.iter().any(|said| what.contains(said)),
        "{breakage:?} shows as: {what}"
    );
}

#[test]
fn an_agent_that_forgets_its_journal_is_found_out() {
    check(
        Breakage::AgentForgetsJournal,
        &["after it ran on", "which runs", "in no event", "liveness"],
    );
}

#[test]
fn an_acknowledgement_before_the_commit_is_found_out() {
    check(
        Breakage::AnswersBeforeCommit,
        &["is acknowledged and in no event"],
    );
}

#[test]
fn an_archive_that_is_lost_is_found_out() {
    check(Breakage::ArchiveIsNotSynced, &["of an archive is lost"]);
}

#[test]
fn a_boot_that_keeps_its_id_is_found_out() {
    check(
        Breakage::BootKeepsItsId,
        &["after it ran on", "liveness", "in no event", "has not said"],
    );
}

#[test]
fn a_server_that_ignores_conflicts_is_found_out() {
    check(
        Breakage::IgnoresConflicts,
        &[
            "replayed as",
            "comes after event",
            "are not those that were committed",
            "liveness",
        ],
    );
}

#[test]
fn a_disk_that_answers_before_it_has_synced_is_found_out() {
    check(Breakage::LazyDisk, &["lost"]);
}

#[test]
fn a_stream_that_loses_messages_is_found_out() {
    check(Breakage::LossyStreams, &["liveness", "in no event"]);
}

#[test]
fn a_machine_that_moves_to_another_namespace_unasked_is_found_out() {
    check(Breakage::MachinesMoveUnasked, &["which is of namespace"]);
}

#[test]
fn an_order_that_is_written_after_its_events_is_found_out() {
    check(
        Breakage::OrderIsWrittenLater,
        &["and what came next is", "has seen"],
    );
}

#[test]
fn a_server_that_forgets_keys_is_found_out() {
    check(
        Breakage::ServerForgetsKeys,
        &[
            "took effect twice",
            "is answered otherwise when it is asked again",
        ],
    );
}

#[test]
fn a_server_that_forgets_what_is_left_is_found_out() {
    check(Breakage::ServerForgetsWhatIsLeft, &["liveness"]);
}

#[test]
fn a_secret_that_is_kept_is_found_out() {
    check(Breakage::SecretsAreKept, &["has the value of a secret"]);
}
