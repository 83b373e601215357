//! Actions that do not want to end, or to leave nothing behind. As root.

use std::fs;

use container::Group;
use container::group::Limits;

use super::world::{World, mounts, processes_with, until};
use crate::runtime::DIFFERENCES;

/// A number that no other process of this machine sleeps for.
fn marker(number: u32) -> String {
    format!("{}.{number}", 100_000 + std::process::id())
}

#[track_caller]
fn assert_none_left(marker: &str) {
    assert_eq!(processes_with(marker), Vec::<String>::new());
}

#[test]
fn it_is_stopped_with_the_signal_that_its_image_names() {
    let mut world = World::new();
    world.image.stop_signal = Some("SIGUSR1".to_owned());
    let ready = world.path("workflow/ready");
    let running =
        world.start("trap 'echo asked; exit 5' USR1; touch /workflow/ready; while :; do sleep 0.01; done");
    until("the trap", || ready.exists());
    running.ask();
    let ran = running.end();
    assert_eq!((ran.output.as_str(), ran.code()), ("asked\n", 5));
}

#[test]
fn one_that_does_not_hear_is_killed_with_all_that_it_started() {
    for host_processes in [false, true] {
        let marker = marker(1);
        let mut world = World::new();
        world.request.host_processes = host_processes;
        let ready = world.path("workflow/ready");
        let running = world.start(&format!(
            "trap '' TERM QUIT INT HUP; (setsid sleep {marker} &); (setsid sh -c 'trap \"\" TERM; sleep {marker}' >/dev/null 2>&1 </dev/null &); touch /workflow/ready; while :; do sleep 0.01; done"
        ));
        until("the traps", || ready.exists());
        running.ask();
        running.force();
        assert_eq!(running.end().code(), 137);
        assert_none_left(&marker);
    }
}

#[test]
fn what_it_forked_twice_ends_with_it_though_it_closed_its_output() {
    for (number, host_processes) in [(2, false), (3, true)] {
        let marker = marker(number);
        let mut world = World::new();
        world.request.host_processes = host_processes;
        let script = format!(
            "(setsid sh -c 'sleep {marker} & sleep {marker}' >/dev/null 2>&1 </dev/null &); (setsid sleep {marker} &); sleep 0.05; echo done"
        );
        assert_eq!(world.run(&script).good(), "done\n");
        assert_none_left(&marker);
        // Without a group it is the keeper alone that finds them.
        world.has_group = false;
        assert_eq!(world.run(&script).good(), "done\n");
        assert_none_left(&marker);
    }
}

#[test]
fn one_that_kills_its_parent_leaves_nothing() {
    let marker = marker(4);
    let mut world = World::new();
    // In a namespace of its own there is no parent to kill.
    assert_eq!(
        world
            .run("echo $PPID; kill -9 $PPID; echo here")
            .output
            .lines()
            .next(),
        Some("0")
    );
    world.request.host_processes = true;
    let ran = world.run(&format!(
        "(setsid sleep {marker} >/dev/null 2>&1 &); kill -9 $PPID; sleep {marker}"
    ));
    assert_eq!(ran.ended, None);
    assert_none_left(&marker);
}

#[test]
fn one_that_fills_its_root_fills_that_alone() {
    if !DIFFERENCES.bounds_root {
        return;
    }
    let mut world = World::new();
    let ran = world.run("dd if=/dev/zero of=/full bs=1M count=64 2>&1; ls -l /full | awk '{print ($5 <= 16777216)}'; rm /full; echo room > /again && cat /again");
    let printed = ran.good();
    assert!(
        printed.contains("No space left on device") && printed.ends_with("1\nroom\n"),
        "{printed}"
    );
    // Empty files, too.
    let printed = world.run("i=0; while true 2>/dev/null > /tmp/$i; do i=$((i+1)); [ $i -gt 20000 ] && exit 9; done; echo bounded").good();
    assert_eq!(printed, "bounded\n");
}

#[test]
fn mounts_of_its_own_go_with_it() {
    let before = mounts();
    let mut world = World::new();
    fs::write(world.path("workflow/seen"), "").expect("file");
    world.run("mount -t tmpfs none /workflow && touch /workflow/lost; mount -t tmpfs none /dev; mount -o remount,ro /; mount --make-rshared /; mkdir -p /tmp/m; mount -t tmpfs none /tmp/m; true");
    assert_eq!(mounts(), before);
    let left: Vec<_> = fs::read_dir(world.path("workflow"))
        .expect("workflow")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left, ["seen"]);
    fs::write(world.path("workflow/more"), "").expect("still writable");
    // And the next one has a root as good as the first.
    assert_eq!(world.run("touch /x && ls /workflow").good(), "more\nseen\n");
}

#[test]
fn a_gigabyte_of_output_is_passed_on() {
    let ran = World::new().run("dd if=/dev/zero bs=1M count=1024 2>/dev/null");
    assert_eq!((ran.code(), ran.output_bytes), (0, 1 << 30));
}

#[test]
fn groups_that_it_made_in_its_own_go_with_it() {
    if !DIFFERENCES.has_own_hierarchy {
        return;
    }
    let marker = marker(6);
    let mut world = World::new();
    let printed = world
        .run(&format!(
            "mkdir -p /sys/fs/cgroup/a/b/c && sh -c 'echo 0 > /sys/fs/cgroup/a/b/c/cgroup.procs; exec sleep {marker}' & sleep 0.1; cat /proc/1/cgroup | grep ^0"
        ))
        .good();
    assert_eq!(printed, "0::/\n");
    assert_none_left(&marker);
    let path = world.place.group.clone().expect("group");
    assert!(!path.exists());
}

/// A world with these limits; `None` where this machine has no controllers for them: then that is said in words. Guests and
/// netbooted machines have them.
fn limited(limits: Limits) -> Option<World> {
    let name = format!(
        "test-limits-{}-{}",
        std::process::id(),
        limits.memory_bytes + limits.pids
    );
    match Group::make(&name, &limits) {
        Ok(group) => {
            assert!(group.is_some());
            let mut world = World::new();
            world.limits = limits;
            Some(world)
        }
        Err(e) => {
            let said = e.to_string();
            assert!(
                said.contains("cannot limit ") || said.contains("no cgroups of version 2"),
                "{said}"
            );
            None
        }
    }
}

#[test]
fn a_fork_bomb_is_bounded() {
    let limits = Limits {
        pids: 16,
        ..Limits::default()
    };
    let Some(mut world) = limited(limits) else {
        return;
    };
    let ran = world.run("bomb() { bomb | bomb & }; bomb; sleep 0.2; ls /sys/fs/cgroup > /dev/null; cat /sys/fs/cgroup/pids.events");
    assert_eq!(ran.out_of_pids, Some(true), "{}", ran.output);
}

#[test]
fn one_that_takes_all_memory_is_ended_and_told() {
    let limits = Limits {
        memory_bytes: 32 << 20,
        ..Limits::default()
    };
    let Some(mut world) = limited(limits) else {
        return;
    };
    // In its own process, and in files that lie in memory.
    for hog in [
        "head -c 209715200 /dev/zero | tail -c 157286400 | wc -c",
        "head -c 104857600 /dev/zero > /x",
    ] {
        world.place.writable_bytes = 512 << 20;
        let ran = world.run(&format!("(sleep 100 &); {hog}"));
        assert_eq!(ran.code(), 137, "{hog}: {}", ran.output);
        assert_eq!(ran.out_of_memory, Some(true));
    }
    let ran = world.run("head -c 4194304 /dev/zero | tail -c 4194304 | wc -c");
    assert_eq!(
        (ran.out_of_memory, ran.good().as_str()),
        (Some(false), "4194304\n")
    );
}
