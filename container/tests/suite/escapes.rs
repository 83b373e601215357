//! Known ways out of a container, each by its name, tried by a confined action. As root.
//!
//! Where it does no harm the same is tried by a privileged action first: it has to work there, or the test would show nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::world::{World, probe};
use crate::runtime::DIFFERENCES;

/// Docker's fourteen.
const CAPABILITIES: &str = "00000000a80425fb";

/// With the probe in the image, set-user-id.
fn with_probe(mut world: World) -> World {
    let file = world.layer(&[]).join("probe");
    fs::copy(probe(), &file).expect("probe");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).expect("mode");
    world
}

/// The script prints `out` when it got what it should not.
#[track_caller]
fn check_closed(script: &str) {
    let ran = World::confined().run(&format!("{script}; true"));
    let printed = ran.good();
    assert!(!printed.contains("out\n"), "{printed}");
}

/// The same, and it works where nothing is confined.
#[track_caller]
fn check_only_privileged(script: &str) {
    let printed = World::new().run(&format!("{script}; true")).good();
    assert!(printed.contains("out\n"), "the test shows nothing: {printed}");
    check_closed(script);
}

#[test]
fn device_nodes_that_it_makes_are_none() {
    // Where it may write at all. The kernel's log is no device of a container; a disk has other numbers, and is opened or not
    // for the same reason.
    let attempt = |place: &str| {
        let node = format!("{place}/own-kmsg");
        format!("mknod {node} c 1 11; (exec 3<{node}) && echo out; rm -f {node}")
    };
    for place in ["/tmp", "/dev"] {
        check_only_privileged(&attempt(place));
    }
    for place in ["/dev/shm", "/workflow", "/etc"] {
        check_closed(&attempt(place));
    }
    let mut world = World::confined();
    world.request.volumes = vec![format!("{}:/v", world.path("v").display())];
    assert!(
        !world
            .run("mknod /v/z c 1 11; (exec 3</v/z) && echo out; true")
            .good()
            .contains("out\n")
    );
}

#[test]
fn devices_of_the_machine_are_not_there() {
    let printed = World::confined().run("ls /dev; ls /dev/pts").good();
    let want = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ptmx";
    let printed = printed
        .split_whitespace()
        .filter(|name| *name != DIFFERENCES.more_devices);
    assert_eq!(printed.collect::<Vec<_>>().join(" "), want);
    let printed = World::confined().run("head -c 1 /dev/zero | wc -c; echo x > /dev/null && head -c 4 /dev/urandom | wc -c; (exec 3<>/dev/ptmx) && echo terminal").good();
    assert_eq!(printed, "1\n4\nterminal\n");
}

#[test]
fn core_pattern() {
    check_closed("echo '|/tmp/x' > /proc/sys/kernel/core_pattern && echo out");
    check_closed("echo /tmp/x > /proc/sys/kernel/modprobe && echo out");
}

#[test]
fn sysrq_trigger() {
    check_closed("echo h > /proc/sysrq-trigger && echo out");
}

#[test]
fn uevent_helper_and_all_of_sys() {
    check_closed(
        "for file in /sys/kernel/uevent_helper /sys/kernel/mm/ksm/run /sys/power/state; do test -e $file && echo 0 > $file && echo out; done",
    );
    assert_eq!(
        World::confined()
            .run("grep -c ' /sys sysfs ro,' /proc/mounts")
            .good(),
        "1\n"
    );
}

#[test]
fn release_agent_of_a_cgroup_that_it_mounts() {
    check_closed(
        "for what in memory pids rdma; do mount -t cgroup -o $what none /tmp && echo out; done; mount -t cgroup2 none /tmp && echo out",
    );
    if DIFFERENCES.has_own_hierarchy {
        check_only_privileged("mkdir /sys/fs/cgroup/own && echo out");
    }
}

#[test]
fn mounting_anew_what_is_covered() {
    check_only_privileged("mount -t tmpfs none /tmp && echo out");
    check_closed("umount /proc/kcore && echo out; umount /proc/sys && echo out; umount -l /proc && echo out");
    check_closed("mount -o remount,rw /proc/sys && echo out; mount -o remount,bind,rw /sys && echo out");
    check_closed("mount -t proc none /tmp && echo out; mount --bind /proc /tmp && echo out");
    check_closed("mount -o remount,dev / && echo out");
}

#[test]
fn what_is_masked_is_empty() {
    let printed = World::confined()
        .run("for file in kcore keys timer_list interrupts sched_debug latency_stats; do test -e /proc/$file && cat /proc/$file | wc -c; done; ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v : | grep . && echo out")
        .output;
    assert!(
        printed.lines().all(|line| line == "0") && printed.lines().count() >= 3,
        "{printed}"
    );
    check_closed(
        "chmod 777 /sys/firmware && echo out; touch /sys/firmware/x && echo out; echo x > /proc/keys; test -s /proc/keys && echo out",
    );
}

#[test]
fn chroot_within_a_chroot() {
    let mut world = with_probe(World::confined());
    let printed = world.run("/probe chroot").good();
    assert!(printed.starts_with("chroot 0 0\n"), "{printed}");
    assert!(
        printed.contains("\nprobe\n") && printed.contains("\nworkflow\n"),
        "it is the container's root: {printed}"
    );
    assert!(
        !printed.contains("\nlost+found\n") && !printed.contains("\nboot\n"),
        "{printed}"
    );
}

#[test]
fn system_calls_that_docker_refuses() {
    let mut world = with_probe(World::confined());
    let printed = world
        .run("/probe calls; /probe vsock; /probe clone-newuser")
        .good();
    assert_eq!(printed.lines().count(), 40);
    for line in printed.lines() {
        // Libraries take "no such call" for an answer, and use clone.
        let want = if line.starts_with("clone3 ") { "38" } else { "1" };
        assert_eq!(line.split(' ').nth(1), Some(want), "{line}");
    }
    // Privileged, the same calls get as far as their arguments.
    world.request.confined = false;
    let printed = world.run("/probe calls").good();
    let refused = printed
        .lines()
        .filter(|line| line.ends_with(" 1") || line.ends_with(" 38"))
        .count();
    assert!(refused < 12, "{printed}");
}

#[test]
fn user_namespaces() {
    check_only_privileged("unshare -U true && echo out");
    check_closed(
        "unshare -r true && echo out; unshare -m true && echo out; nsenter -t 1 -m true && echo out",
    );
}

#[test]
fn capabilities_are_dockers_and_no_program_gets_more() {
    let mut world = with_probe(World::confined());
    let script = "awk '/CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp:/ {printf \"%s \", $2}' /proc/self/status";
    assert_eq!(
        world.run(script).good(),
        format!("{CAPABILITIES} {CAPABILITIES} {CAPABILITIES} 1 2 ")
    );
    world.image.user = "web".to_owned();
    assert_eq!(
        world.run(script).good(),
        format!("{0} {0} {CAPABILITIES} 1 2 ", "0".repeat(16))
    );
    assert_eq!(world.run("/probe euid").good(), "euid 33\n");
    world.request.confined = false;
    assert_eq!(
        world.run("/probe euid").good(),
        "euid 0\n",
        "set-user-id works where nothing is confined"
    );
}

#[test]
fn processes_of_the_machine_when_they_are_seen() {
    let mut world = World::confined();
    world.request.host_processes = true;
    let keeper_exists = "test -d /proc/$PPID && echo seen";
    let printed = world
        .run(&format!(
            "{keeper_exists}; for of in 1 $PPID; do ls /proc/$of/root/ && echo out; readlink /proc/$of/exe && echo out; head -c 1 /proc/$of/mem && echo out; readlink /proc/$of/fd/0 && echo out; head -c 1 /proc/$of/fd/0 && echo out; cat /proc/$of/environ && echo out; done 2>/dev/null; true"
        ))
        .good();
    assert_eq!(printed, "seen\n");
    let printed = World::confined()
        .run("echo $(ls /proc 2>/dev/null | grep -E '^[0-9]+$')")
        .good();
    assert!(
        printed.starts_with("1 ")
            && printed
                .split_whitespace()
                .all(|pid| pid.parse::<u32>().is_ok_and(|pid| pid < 20)),
        "{printed}"
    );
}

#[test]
fn the_machines_own_limits_and_names() {
    check_closed("hostname other && echo out; dmesg -c >/dev/null && echo out; swapoff -a && echo out");
    check_closed(
        "echo 1 > /proc/sys/vm/drop_caches && echo out; ip link set lo down && echo out; ip link add d0 type dummy && echo out",
    );
}
