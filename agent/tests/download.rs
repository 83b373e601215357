//! The built-in action `download`, by the real agent on a loop device.

mod fake;
mod image;
#[allow(dead_code, reason = "the tests of archive2disk use the rest")]
#[path = "archive2disk/site.rs"]
mod site;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use fake::{Agent, FakeServer, action};
use image::{LoopDisk, run};
use proto::v1::report::Outcome;
use sha2::{Digest, Sha256};
use site::{Answer, Site};

const CONTENT: &[u8] = b"what is to be there\n";

fn digits(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What is there, looked at without the agent.
fn looked_at(disk: &LoopDisk, look: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("folder");
    run(Command::new("mount")
        .args(["-o", "ro", &disk.device])
        .arg(folder.path()));
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(folder.path())));
    run(Command::new("umount").arg(folder.path()));
    if let Err(panic) = looked {
        std::panic::resume_unwind(panic);
    }
}

#[tokio::test]
async fn a_file_has_its_name_when_all_of_it_is_there_and_otherwise_the_old_one_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let mut server = FakeServer::start().await;
    let _agent = Agent::start(&server, folder.path());
    let (mut stream, _) = server.accept().await;
    stream.welcome_of(5).await;
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("etc/folder")).expect("folder");
    fs::write(root.join("etc/file"), "old").expect("file");
    fs::write(root.join("etc/target"), "untouched").expect("file");
    // What a run that died has left.
    fs::write(root.join("etc/.farrier-download"), "half").expect("file");
    symlink("target", root.join("etc/link")).expect("link");
    let disk = LoopDisk::with(&root, &folder.path().join("disk"));

    let site = Site::serve(CONTENT.to_vec());
    let url = site.url("file");
    let (right, wrong) = (digits(CONTENT), digits(b""));
    let of_disk = [("DEST_DISK", &*disk.device), ("FS_TYPE", "ext4"), ("URL", &*url)];
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, &[Answer], Variables, &str, bool); 5] = [
        (
            "digest",
            &[],
            &[("DEST_PATH", "/etc/file"), ("SHA256", &wrong)],
            "WrongDigest",
            false,
        ),
        (
            "gone",
            &[Answer::Status(404)],
            &[("DEST_PATH", "/etc/file"), ("SHA256", &right)],
            "FileNotFound",
            true,
        ),
        (
            "folder",
            &[],
            &[("DEST_PATH", "/etc/folder"), ("SHA256", &right)],
            "WriteFailed",
            false,
        ),
        ("up", &[], &[("DEST_PATH", "/etc/../x")], "BadVariable", true),
        (
            "nowhere",
            &[],
            &[("DEST_PATH", "/etc/file/x"), ("SHA256", &right)],
            "WriteFailed",
            false,
        ),
    ];
    for (name, answers, more, reason, untouched) in cases {
        site.answers(answers);
        let variables = [&of_disk[..], more].concat();
        let outcome = stream
            .end_of(&action(&format!("w/{name}"), "download", &variables))
            .await;
        let Outcome::Failed(failed) = outcome else {
            panic!("{name}: {outcome:?}")
        };
        assert_eq!(
            (failed.reason.as_str(), failed.disks_untouched),
            (reason, untouched),
            "{name}: {}",
            failed.message
        );
    }
    looked_at(&disk, |at| {
        assert_eq!(fs::read_to_string(at.join("etc/file")).expect("file"), "old");
        assert!(!at.join("etc/.farrier-download").exists());
    });

    let (mode, owner) = (
        ("MODE", "4755"),
        [("UID", "7"), ("GID", "8"), ("DIRMODE", "0700")],
    );
    for (path, more) in [
        ("/etc/file", vec![]),
        ("/etc/link", vec![mode]),
        ("/new/er/file", owner.to_vec()),
    ] {
        // Of two answers the first breaks.
        site.answers(&[Answer::CutAfter(7)]);
        let variables = [&of_disk[..], &[("DEST_PATH", path), ("SHA256", &right)], &more].concat();
        let outcome = stream
            .end_of(&action(&format!("w{path}"), "download", &variables))
            .await;
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{path}: {outcome:?}");
    }
    looked_at(&disk, |at| {
        let of = |path: &str| {
            let stat = fs::symlink_metadata(at.join(path)).expect(path);
            (stat.mode(), stat.uid(), stat.gid())
        };
        for path in ["etc/file", "etc/link", "new/er/file"] {
            assert_eq!(fs::read(at.join(path)).expect(path), CONTENT, "{path}");
        }
        assert_eq!(
            fs::read_to_string(at.join("etc/target")).expect("file"),
            "untouched"
        );
        assert_eq!(of("etc/file"), (0o100_644, 0, 0));
        assert_eq!(of("etc/link"), (0o104_755, 0, 0));
        assert_eq!(
            (of("new/er/file"), of("new/er")),
            ((0o100_644, 7, 8), (0o40_700, 7, 8))
        );
    });
}

#[tokio::test]
async fn a_file_of_the_workflows_data_is_handed_over() {
    let folder = tempfile::tempdir().expect("folder");
    let mut server = FakeServer::start().await;
    let _agent = Agent::start(&server, folder.path());
    let (mut stream, _) = server.accept().await;
    stream.welcome_of(5).await;
    let site = Site::serve(CONTENT.to_vec());
    let url = site.url("file");
    let variables = [("URL", &*url), ("DEST_PATH", "/workflow/a/file")];
    let outcome = stream.end_of(&action("w/1", "download", &variables)).await;
    let Outcome::Succeeded(done) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(done.bytes, CONTENT.len() as u64);
    assert_eq!(done.data_changes.expect("changes").put[0].path, "a/file");
    let outcome = stream
        .end_of(&action(
            "w/2",
            "download",
            &[("URL", &url), ("DEST_PATH", "/etc/x")],
        ))
        .await;
    assert!(
        matches!(&outcome, Outcome::Failed(failed) if failed.message.contains("DEST_DISK")),
        "{outcome:?}"
    );
}
