//! Each write, sync and change of size fails once: with an I/O error, and for want of room.

use nix::errno::Errno;
use store::{Commit, RedbStore, Store, StoreError};

use crate::disk::{Disk, Failure, Happened, Image};
use crate::workload::{GROUPS, Workload, check_sound};

#[test]
fn after_an_error_at_any_write_nothing_is_half_done_and_nothing_is_lost() {
    let workload = Workload::busy();
    let images = images_after_groups(&workload);
    std::thread::scope(|scope| {
        for errno in [Errno::EIO, Errno::ENOSPC] {
            let (workload, images) = (&workload, &images);
            scope.spawn(move || {
                let failed: usize = (0..GROUPS)
                    .map(|group| fail_everywhere(workload, &images[group], group, errno))
                    .sum();
                assert!(failed > 500, "only {failed} calls failed");
            });
        }
    });
}

/// What the disk holds before each group, the store being closed without a word.
fn images_after_groups(workload: &Workload) -> Vec<Image> {
    let mut image = Image::new();
    let mut images = Vec::new();
    for happened in workload.run() {
        happened.apply(&mut image);
        if let Happened::Acknowledged(_) = happened {
            images.push(image.clone());
        }
    }
    images
}

/// Fails each call of opening the store and of writing one group; returns how many.
fn fail_everywhere(workload: &Workload, image: &Image, group: usize, errno: Errno) -> usize {
    let commits: Vec<&Commit> = workload.groups[group].iter().collect();
    let mut failed = 0;
    for call in 0.. {
        let when = format!("group {group}, call {call} fails with {errno}");
        let failure = Failure {
            call,
            errno: errno as i32,
        };
        let disk = Disk::failing(image.clone(), failure);
        let acknowledged = match RedbStore::with_backend(disk.clone()) {
            Err(error) => {
                check_error(&error, errno, &when);
                false
            }
            Ok(store) => {
                let answers = store.commit_group(&commits);
                match &answers[0] {
                    Ok(_) => assert!(answers.iter().all(Result::is_ok), "{when}: {answers:?}"),
                    Err(error) => {
                        assert!(answers.iter().all(Result::is_err), "{when}: {answers:?}");
                        check_error(error, errno, &when);
                        check_closed(&store, commits[0], &when);
                    }
                }
                // Closing writes, too.
                drop(store);
                if call >= disk.calls() {
                    return failed;
                }
                answers[0].is_ok()
            }
        };
        failed += 1;
        let may_be_there: &[usize] = if acknowledged {
            &[group + 1]
        } else {
            &[group, group + 1]
        };
        check_sound(&disk.image(), &when);
        workload.check(disk.image(), may_be_there, &when);
    }
    failed
}

#[track_caller]
fn check_error(error: &StoreError, errno: Errno, when: &str) {
    let right = match errno {
        Errno::ENOSPC => matches!(error, StoreError::Full { .. }),
        _ => matches!(error, StoreError::Backend { .. }),
    };
    assert!(right, "{when}: {error:?}");
    let mut cause = Some(error as &dyn std::error::Error);
    let mut said = String::new();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    assert!(
        said.contains(&format!("(os error {})", errno as i32)),
        "{when}: {said}"
    );
}

/// The disk is well again, but this store stays closed.
#[track_caller]
fn check_closed(store: &RedbStore, commit: &Commit, when: &str) {
    let refused = store.commit(commit).unwrap_err();
    let want = "store: (backend) takes no writes since an earlier one failed: open it again";
    assert_eq!(refused.to_string(), want, "{when}");
    assert_eq!(store.get(b"last").unwrap_err().to_string(), want, "{when}");
}
