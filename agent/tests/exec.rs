//! The built-in action `exec`, and looks at a machine, by the real agent: what a command can do to the machine, and what it cannot.

mod fake;
mod image;
mod world;

use fake::action;
use proto::v1::report::Outcome;
use proto::v1::{self, agent_message, server_message};
use world::{World, failed, succeeded};

/// A script for `exec`, with these variables beside it.
async fn exec(world: &mut World, attempt_id: &str, script: &str, more: &[(&str, &str)]) -> Outcome {
    let variables = [
        &[("DEFAULT_INTERPRETER", "/bin/sh -c"), ("CMD_LINE", script)],
        more,
    ]
    .concat();
    world.run("exec", attempt_id, &variables).await
}

/// Writes to a file what it has.
fn as_it_is(path: &str) -> String {
    format!("is=$(cat {path}) && echo \"$is\" > {path}")
}

#[tokio::test]
async fn a_command_reads_the_machine_and_changes_nothing_of_it() {
    let mut world = World::new().await;
    let disk = world.disk("disk", 8);
    std::fs::write(world.folder.path().join("mark"), b"kept\n").expect("a mark");
    let device = disk.device.as_str();
    // Root can do each of these, as the next test shows for the disk.
    let folder = world.folder.path().display().to_string();
    let tries = [
        ("disk", format!("echo broken > {device}")),
        (
            "disk by dd",
            format!("dd if=/dev/zero of={device} count=1 conv=notrunc"),
        ),
        ("chmod", format!("chmod 0600 {device}")),
        ("block size", format!("blockdev --flushbufs {device}")),
        ("a node", "mknod /tmp/d b 7 0".to_owned()),
        ("a mount", format!("mount -t tmpfs tmpfs {folder}")),
        ("a remount", "mount -o remount,rw,bind /".to_owned()),
        (
            "another namespace",
            "unshare -Urm mount -o remount,rw,bind /".to_owned(),
        ),
        ("a file", format!("echo broken > {folder}/mark")),
        ("a file of the root", "touch /".to_owned()),
        (
            "sysfs",
            as_it_is(&format!("/sys/block/{}/queue/read_ahead_kb", &device[5..])),
        ),
        ("the kernel", "echo h > /proc/sysrq-trigger".to_owned()),
        ("a parameter", as_it_is("/proc/sys/kernel/panic_on_oops")),
        ("an interface", "ip link set lo up".to_owned()),
        ("devices for writing", "ls /dev/loop-control".to_owned()),
        (
            "sockets",
            "test -n \"$(ls -A /run | grep -v farrier)\"".to_owned(),
        ),
        (
            "the log of the kernel",
            "dmesg --console-level \"$(cut -f1 /proc/sys/kernel/printk)\"".to_owned(),
        ),
    ];
    // Those that would change the machine that this runs on leave it as it is where they can.
    let mut script = format!("dd if={device} bs=512 count=1 of=/tmp/first status=none || exit 90\n");
    script.push_str("test -s /tmp/first || exit 91\ntest \"$(id -u)\" = 0 || exit 92\n");
    script.push_str("test -e /sys/block && test -r /proc/meminfo && test -c /dev/null || exit 93\n");
    for (what, attempt) in &tries {
        script.push_str(&format!(
            "if ({attempt}) > /tmp/said 2>&1; then echo 'it can: {what}'; fi\n"
        ));
    }
    script.push_str("echo '{\"looked\": true}' > \"$FARRIER_OUTPUT\" || exit 94\necho note > \"$FARRIER_WORKFLOW_DIR/note\" || exit 95\necho done\n");
    let outcome = exec(&mut world, "w/1", &script, &[]).await;
    assert_eq!(
        world.stream.lines.iter().find(|line| line.contains("it can")),
        None,
        "{:?}",
        world.stream.lines
    );
    let Outcome::Succeeded(done) = outcome.clone() else {
        panic!("{outcome:?} {:?}", world.stream.lines)
    };
    assert_eq!(done.message, "done");
    let changes = done.data_changes.expect("a file");
    assert_eq!(changes.put.len(), 1, "{changes:?}");
    assert_eq!(succeeded(outcome).1["looked"], true);
    let bytes = std::fs::read(&disk.device).expect("the disk");
    assert!(bytes.iter().all(|byte| *byte == 0), "the disk was written");
    let mark = std::fs::read(world.folder.path().join("mark")).expect("the mark");
    assert_eq!(mark, b"kept\n");
    assert!(std::path::Path::new("/dev/loop-control").exists(), "of the host");

    // What it cannot is a failure like any other, and no disk was touched.
    let outcome = exec(&mut world, "w/2", &format!("echo x > {device}"), &[]).await;
    failed(outcome, "ExitCode", &["exited with code", "ermission denied"]);
    let outcome = world
        .run("exec", "w/3", &[("CMD_LINE", "no-such-program -x")])
        .await;
    failed(outcome, "ExitCode", &["exec: no-such-program was not found in"]);
    let outcome = world.run("exec", "w/4", &[]).await;
    failed(outcome, "MissingVariable", &["CMD_LINE"]);
}

#[tokio::test]
async fn a_command_that_may_write_writes_and_the_server_is_told() {
    let mut world = World::new().await;
    let disk = world.disk("disk", 8);
    let script = format!("printf hello > {} && echo done", disk.device);
    let outcome = exec(&mut world, "w/1", &script, &[("WRITE", "true")]).await;
    let Outcome::Succeeded(done) = outcome else {
        panic!("{outcome:?} {:?}", world.stream.lines)
    };
    assert_eq!(done.message, "done");
    let bytes = std::fs::read(&disk.device).expect("the disk");
    assert!(bytes.starts_with(b"hello"));
    let outcome = exec(&mut world, "w/2", "exit 3", &[("WRITE", "1")]).await;
    let Outcome::Failed(failed) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((failed.exit_code, failed.disks_untouched), (3, false));
}

#[tokio::test]
async fn the_kernels_log_and_the_screen_are_told_while_an_action_runs() {
    let mut world = World::new().await;
    let running = action(
        "w/1",
        "exec",
        &[
            ("DEFAULT_INTERPRETER", "/bin/sh -c"),
            ("CMD_LINE", "echo begun; exec sleep 600"),
        ],
    );
    world.stream.run(&running).await;
    world.stream.line("begun").await;
    let mark = format!("farrier-test: {}", std::process::id());
    // Without its end the kernel waits for the rest of the line.
    std::fs::write("/dev/kmsg", format!("{mark}\n")).expect("the kernel's log");
    for (id, sight, want) in [
        (7, v1::Sight::Screen, "action 1/1 w/1"),
        (8, v1::Sight::KernelLog, mark.as_str()),
    ] {
        let look = v1::Look {
            id,
            sight: sight.into(),
        };
        world.stream.send(server_message::Kind::Look(look)).await;
        let seen = loop {
            if let agent_message::Kind::Seen(seen) = world.stream.next().await {
                break seen;
            }
        };
        assert_eq!((seen.id, seen.problem.as_str()), (id, ""));
        assert!(seen.text.contains(want), "{}", seen.text);
    }
    world.stream.stop("w/1").await;
    let ended = world.stream.report().await.outcome;
    assert!(matches!(ended, Some(Outcome::Stopped(_))), "{ended:?}");
}
