//! `writefile` and `cexec` by the real agent, on a disk with a small system in it (an ext4 image, a loop device).

mod fake;
mod image;

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use fake::{Agent, FakeServer, action};
use image::{LoopDisk, end_of, install, run};
use proto::v1::report::Outcome;

#[tokio::test]
async fn files_are_written_into_a_disk_and_commands_run_in_it() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("etc")).expect("folder");
    install(&root, &["/bin/sh", "/bin/cat", "/bin/stat"]);
    symlink("/tmp", root.join("escape")).expect("link");
    symlink("../run/nowhere/resolv.conf", root.join("etc/resolv.conf")).expect("link");
    let disk = LoopDisk::with(&root, &folder.path().join("disk.img"));

    let state = folder.path().join("state");
    fs::create_dir(&state).expect("folder");
    let mut server = FakeServer::start().await;
    let _agent = Agent::start(&server, &state);
    let (mut stream, _) = server.accept().await;
    stream.welcome().await;

    let file = |path| {
        [
            ("DEST_DISK", disk.device.as_str()),
            ("FS_TYPE", "ext4"),
            ("DEST_PATH", path),
            ("CONTENTS", "web-1\n"),
            ("UID", "12"),
            ("GID", "34"),
            ("MODE", "0602"),
            ("DIRMODE", "0751"),
        ]
    };
    let written = end_of(
        &mut stream,
        "w/0/0/1",
        "writefile",
        &file("/etc/farrier/hostname"),
    )
    .await;
    assert!(
        matches!(&written, Outcome::Succeeded(s) if s.bytes == 6),
        "{written:?}"
    );
    let escaped = end_of(
        &mut stream,
        "w/0/1/1",
        "writefile",
        &file("/escape/farrier-escaped"),
    )
    .await;
    assert!(
        matches!(&escaped, Outcome::Failed(_) | Outcome::Succeeded(_)),
        "{escaped:?}"
    );
    assert!(!Path::new("/tmp/farrier-escaped").exists());
    let refused = end_of(&mut stream, "w/0/2/1", "writefile", &file("/etc/../../x")).await;
    assert!(
        matches!(&refused, Outcome::Failed(f) if f.reason == "BadVariable"),
        "{refused:?}"
    );

    let command = |text| {
        [
            ("BLOCK_DEVICE", disk.device.as_str()),
            ("FS_TYPE", "ext4"),
            ("CHROOT", "y"),
            ("DEFAULT_INTERPRETER", "/bin/sh -c"),
            ("UPDATE_RESOLV_CONF", "true"),
            ("GREETING", "hello"),
            ("CMD_LINE", text),
        ]
    };
    stream.lines.clear();
    let text = "cat /etc/farrier/hostname; stat -c '%a %u %g' /etc/farrier/hostname /etc/farrier; \
                echo $GREETING $$; [ -c /dev/null ] && [ -d /proc/self ] && [ -d /sys/class ] && echo bound";
    let ran = end_of(&mut stream, "w/0/3/1", "cexec", &command(text)).await;
    assert!(
        matches!(&ran, Outcome::Succeeded(_)),
        "{ran:?} {:?}",
        stream.lines
    );
    let lines: Vec<&str> = stream
        .lines
        .iter()
        .map(|l| l.split_once(' ').expect("number").1)
        .collect();
    // The command is process 2 of its own namespace, under the one that reaps.
    let want = ["web-1", "602 12 34", "751 12 34", "hello 2", "bound"];
    assert_eq!(
        lines.get(lines.len() - want.len()..),
        Some(&want[..]),
        "{lines:?}"
    );

    // In the image too: the data, and a file for outputs; of both nothing stays on the disk.
    let text = "echo handed > /workflow/w-17/over && cat /workflow/over; \
                echo \"{\\\"dir\\\": \\\"$FARRIER_WORKFLOW_DIR\\\"}\" > $FARRIER_OUTPUT";
    let mut run = action("w/0/5/1", "cexec", &command(text));
    run.workflow_id = "w-17".to_owned();
    let gave = stream.end_of(&run).await;
    let Outcome::Succeeded(gave) = gave else {
        panic!("{gave:?}")
    };
    assert_eq!(gave.outputs_json, "{\"dir\": \"/workflow\"}\n");
    let changes = gave.data_changes.expect("changes");
    assert_eq!(
        (
            changes.put.len(),
            changes.put[0].path.as_str(),
            changes.put[0].content.as_slice()
        ),
        (1, "over", &b"handed\n"[..])
    );
    let names = disk.names();
    assert!(names.iter().any(|name| name == "etc"), "{names:?}");
    assert!(
        !names.iter().any(|name| name == "workflow" || name == "run"),
        "{names:?}"
    );

    let missing = end_of(
        &mut stream,
        "w/0/4/1",
        "cexec",
        &[
            ("BLOCK_DEVICE", &disk.device),
            ("FS_TYPE", "ext4"),
            ("CHROOT", "y"),
            ("CMD_LINE", "stat /; no-such-program 'a b'"),
        ],
    )
    .await;
    assert!(
        matches!(&missing, Outcome::Failed(f) if f.exit_code == 127 && f.message.contains("no-such-program")),
        "{missing:?}"
    );
    // Nothing is left mounted.
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&disk.device), "{mounts}");
}

#[tokio::test]
async fn a_disk_is_free_at_once_after_a_command_that_would_not_end() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().join("root");
    install(&root, &["/bin/sh", "/bin/sleep"]);
    let disk = LoopDisk::with(&root, &folder.path().join("disk.img"));
    let mut server = FakeServer::start().await;
    let _agent = Agent::start(&server, folder.path());
    let (mut stream, _) = server.accept().await;
    stream.welcome().await;
    let text = "trap '' TERM; i=0; while [ $i -lt 50 ]; do sleep 600 & i=$((i+1)); done; \
                exec >&- 2>&-; while :; do sleep 600; done";
    let environment = [
        ("BLOCK_DEVICE", disk.device.as_str()),
        ("FS_TYPE", "ext4"),
        ("CHROOT", "y"),
        ("DEFAULT_INTERPRETER", "/bin/sh -c"),
        ("CMD_LINE", text),
    ];
    let mut run = action("w/0/0/1", "cexec", &environment);
    run.timeout_s = 1;
    stream.run(&run).await;
    stream.report().await;
    let end = stream.report().await.outcome.expect("an outcome");
    assert!(matches!(&end, Outcome::TimedOut(_)), "{end:?}");
    // As image2disk opens it: refused while the filesystem is mounted anywhere.
    let opened = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_EXCL)
        .open(&disk.device);
    assert!(opened.is_ok(), "{opened:?}");
}

#[tokio::test]
async fn an_image_is_written_verified_and_a_wrong_one_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let image = folder.path().join("image.raw");
    let target = folder.path().join("disk");
    let mut content = vec![0x5a_u8; 3 << 20];
    // A disk without partitions, with the boot signature that makes it one.
    content[446..510].fill(0);
    content[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&image, &content).expect("image");
    fs::File::create(&target)
        .expect("disk")
        .set_len(8 << 20)
        .expect("size");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("mode");
    let url = format!("file://{}", image.display());
    let mut server = FakeServer::start().await;
    let _agent = Agent::start(&server, folder.path());
    let (mut stream, _) = server.accept().await;
    stream.welcome().await;

    let target_text = target.display().to_string();
    let wrong = "0".repeat(64);
    let environment = [
        ("IMG_URL", url.as_str()),
        ("DEST_DISK", &target_text),
        ("SHA256", &wrong),
    ];
    let refused = end_of(&mut stream, "w/0/0/1", "image2disk", &environment).await;
    assert!(
        matches!(&refused, Outcome::Failed(f) if f.reason == "WrongDigest"),
        "{refused:?}"
    );

    let sum = run(Command::new("sha256sum").arg(&image));
    let sum = format!("sha256:{}", sum.split_whitespace().next().expect("digest"));
    let environment = [
        ("IMG_URL", url.as_str()),
        ("DEST_DISK", &target_text),
        ("CHECKSUM", &sum),
    ];
    let written = end_of(&mut stream, "w/0/1/1", "image2disk", &environment).await;
    assert!(
        matches!(&written, Outcome::Succeeded(s) if s.bytes == 3 << 20),
        "{written:?}"
    );
    assert!(fs::read(&target).expect("disk").starts_with(&content));

    let gone = [("IMG_URL", url.as_str()), ("DEST_DISK", "/dev/no-such-disk")];
    let missing = end_of(&mut stream, "w/0/2/1", "image2disk", &gone).await;
    assert!(
        matches!(&missing, Outcome::Failed(f) if f.reason == "NoSuchDisk" && f.message.contains("there are")),
        "{missing:?}"
    );
}
