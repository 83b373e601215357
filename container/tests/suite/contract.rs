//! What an action sees and how it ends. As root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use container::{Ended, Network};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::world::{MACHINE, World};
use crate::runtime::DIFFERENCES;

#[test]
fn an_action_is_process_1_of_a_machine_with_its_name_and_its_servers() {
    let printed = World::new()
        .run("echo $$ $HOME $PATH; hostname; cat /etc/hostname /etc/resolv.conf /proc/cmdline; grep server /etc/hosts; pwd; echo oops >&2")
        .good();
    let cmdline = if DIFFERENCES.shows_cmdline {
        "quiet token=***\n"
    } else {
        ""
    };
    let want = format!(
        "1 /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n{MACHINE}\n{MACHINE}\nnameserver 192.0.2.1\n\
         {cmdline}192.0.2.2\tserver\n/\noops\n"
    );
    assert_eq!(printed, want);
}

#[test]
fn how_it_ends_is_told() {
    let mut world = World::new();
    assert_eq!(world.run("exit 7").code(), 7);
    // As shells say it of a child; process 1 itself is told as it is.
    assert_eq!(world.run("sh -c 'kill -9 $$'; exit $?").code(), 137);
    world.request.host_processes = true;
    assert_eq!(world.run("kill -9 $$").code(), 137);
}

#[test]
fn what_cannot_be_started_says_why() {
    let mut world = World::new();
    let layer = world.layer(&[
        ("plain", "hello"),
        ("script", "#!/bin/none\n"),
        ("data", "\x01\x02\x03\x04"),
    ]);
    for name in ["script", "data"] {
        fs::set_permissions(layer.join(name), fs::Permissions::from_mode(0o755)).expect("mode");
    }
    let mut refused = |program: &str| {
        world.image.entrypoint = vec![program.to_owned()];
        world.run("x").not_started()
    };
    let (code, said) = refused("nothing");
    assert!(
        code == 127 && said.contains("nothing was not found in the image, in none of PATH="),
        "{said}"
    );
    let (code, said) = refused("/none/at/all");
    assert!(
        code == 127 && said.contains("/none/at/all was not found"),
        "{said}"
    );
    let (code, said) = refused("/plain");
    assert!(
        code == 126 && said.contains("a file that its user may execute"),
        "{said}"
    );
    if !DIFFERENCES.tells_bad_programs {
        return;
    }
    let (code, said) = refused("/script");
    assert!(code == 127 && said.contains("interpreter"), "{said}");
    let (code, said) = refused("/data");
    assert!(code == 126 && said.contains("another processor"), "{said}");
}

#[test]
fn the_user_is_who_the_image_says() {
    let mut world = World::new();
    let mut ids = |user: &str| {
        world.image.user = user.to_owned();
        world
            .run("echo $(id -u) $(id -G) $HOME $(awk '/CapEff/ {print $2}' /proc/self/status)")
            .good()
    };
    assert_eq!(ids("web"), "33 34 4 /srv 0000000000000000\n");
    assert_eq!(ids("4711:4712"), "4711 4712 / 0000000000000000\n");
    // All that this machine gives root.
    let own = fs::read_to_string("/proc/self/status").expect("status");
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .expect("CapEff");
    assert_eq!(ids(""), format!("0 0 4 /root {own}\n"));
    world.image.user = "nobody".to_owned();
    let (code, said) = world.run("true").not_started();
    assert!(
        code == 126 && said.contains("/etc/passwd has no user \"nobody\""),
        "{said}"
    );
}

#[test]
fn layers_lie_upon_each_other_and_are_never_written_to() {
    let mut world = World::new();
    let lower = world.layer(&[("d/gone", "1"), ("d/kept", "1"), ("e/hidden", "1")]);
    let upper = world.layer(&[("d/kept", "2"), ("e/own", "2")]);
    mknod(
        &upper.join("d/gone"),
        SFlag::S_IFCHR,
        Mode::empty(),
        makedev(0, 0),
    )
    .expect("whiteout");
    rustix::fs::setxattr(
        upper.join("e"),
        "trusted.overlay.opaque",
        b"y",
        rustix::fs::XattrFlags::empty(),
    )
    .expect("opaque");
    let printed = world
        .run("cat /d/kept; ls /d /e; echo 3 > /d/kept; rm -r /e; touch /new; mkdir /bin/x; ls /e")
        .ended;
    assert_eq!(printed, Some(Ended::Exited { code: 1 }));
    let printed = world.run("cat /d/kept; ls /d /e").good();
    assert_eq!(printed, "2/d:\nkept\n\n/e:\nown\n");
    assert_eq!(fs::read_to_string(lower.join("d/kept")).expect("lower"), "1");
    assert_eq!(fs::read_to_string(upper.join("d/kept")).expect("upper"), "2");
}

#[test]
fn an_image_of_many_layers_with_odd_names_is_mounted() {
    let mut world = World::new();
    for number in 0..100 {
        let layer = world.layer(&[("n", &number.to_string()), (&format!("f{number}"), "")]);
        let odd = world.path(&format!("a:b,c {}{number}", "x".repeat(60)));
        fs::rename(&layer, &odd).expect("renamed");
        *world.image.layers.last_mut().expect("layer") = odd;
    }
    assert_eq!(world.run("cat /n; ls / | grep -c ^f").good(), "99100\n");
}

#[test]
fn an_image_without_a_layer_has_no_program() {
    if !DIFFERENCES.takes_no_layers {
        return;
    }
    let mut world = World::new();
    world.image.layers.clear();
    assert_eq!(world.run("true").not_started().0, 127);
}

#[test]
fn the_working_folder_is_made_and_is_in_the_image() {
    let mut world = World::new();
    world.image.working_dir = "/srv/new/folder".to_owned();
    assert_eq!(world.run("pwd").good(), "/srv/new/folder\n");
    // CVE-2024-21626: a descriptor of the runtime's that leads out of the root.
    for fd in 0..12 {
        world.image.working_dir = format!("/proc/self/fd/{fd}");
        let ran = world.run("pwd; ls ../../../../../../../..");
        if !matches!(ran.ended, Some(Ended::NotStarted { .. })) {
            assert!(
                !ran.output.contains("lost+found") && !ran.output.contains("boot"),
                "{}",
                ran.output
            );
        }
    }
}

#[test]
fn nothing_of_whoever_started_it_is_open() {
    let mut world = World::new();
    world.image.entrypoint = vec!["/bin/ls".to_owned(), "-l".to_owned()];
    let printed = world.run("/proc/self/fd").good();
    let open: Vec<String> = printed
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .map(|(left, to)| {
            let number = left.rsplit(' ').next().expect("number");
            format!("{number} {}", to.split(':').next().expect("kind"))
        })
        .collect();
    assert_eq!(open, ["0 /dev/null", "1 pipe", "2 pipe"]);
}

#[test]
fn volumes_are_shown_made_and_kept_from_writing() {
    let mut world = World::new();
    fs::write(world.path("file"), "text\n").expect("file");
    let at = |name: &str| world.path(name).display().to_string();
    world.request.volumes = vec![
        format!("{}:/made", at("new/folder")),
        format!("{}:/kept:ro", at("workflow")),
        format!("{}:/etc/one", at("file")),
    ];
    let script = "cat /etc/one; echo more >> /etc/one; echo x > /made/x; touch /kept/y && exit 3; echo data > /workflow/z; mount -o remount,rw /workflow; cat /kept/z";
    assert_eq!(
        world
            .run(script)
            .good()
            .lines()
            .filter(|line| !line.starts_with("touch"))
            .collect::<Vec<_>>(),
        ["text", "data"]
    );
    assert_eq!(
        fs::read_to_string(world.path("new/folder/x")).expect("made"),
        "x\n"
    );
    assert_eq!(
        fs::read_to_string(world.path("file")).expect("file"),
        "text\nmore\n"
    );
    assert_eq!(
        fs::read_to_string(world.path("workflow/z")).expect("data"),
        "data\n"
    );
}

#[test]
fn a_privileged_action_has_the_machines_devices_and_may_mount() {
    let printed = World::new()
        .run("test -c /dev/kmsg && test -c /dev/ptmx && mkdir /m && mount -t tmpfs none /m && touch /m/x && ls /m; mount | grep -c ' /dev/pts '; awk '/Seccomp:/ {print $2}' /proc/self/status")
        .good();
    assert_eq!(printed, "x\n1\n0\n");
}

#[test]
fn the_network_is_the_machines_or_none() {
    let mut world = World::new();
    let own = fs::read_link("/proc/self/ns/net")
        .expect("namespace")
        .display()
        .to_string();
    assert_eq!(world.run("readlink /proc/self/ns/net").good().trim(), own);
    world.request.network = Network::None;
    let printed = world.run("readlink /proc/self/ns/net; ip -o link | cut -d' ' -f2,3; ping -c1 127.0.0.1 >/dev/null && echo answered").good();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0] != own && lines.last() == Some(&"answered"), "{printed}");
    assert!(lines[1].starts_with("lo: <LOOPBACK,UP"), "{printed}");
}

#[test]
fn processes_are_its_own_or_the_machines() {
    let mut world = World::new();
    let own = std::process::id();
    // Not by `ls /proc`: it says so of each process that ends while it looks.
    let is_there = format!("test -d /proc/{own} && echo 1 || echo 0");
    assert_eq!(world.run(&is_there).good(), "0\n");
    world.request.host_processes = true;
    assert_eq!(
        world.run(&format!("{is_there}; cat /proc/cmdline")).good(),
        if DIFFERENCES.shows_cmdline {
            "1\nquiet token=***\n"
        } else {
            "1\n"
        }
    );
}

#[test]
fn an_image_whose_folders_are_links_hurts_nobody() {
    let mut world = World::new();
    let outside = world.path("outside");
    fs::create_dir(&outside).expect("outside");
    let layer = world.layer(&[]);
    for link in ["proc", "sys", "dev", "workflow"] {
        symlink(&outside, layer.join(link)).expect(link);
    }
    symlink("../../../../etc/passwd", layer.join("made")).expect("link");
    let (_, said) = world.run("true").not_started();
    assert!(said.contains(DIFFERENCES.refuses_links_to), "{said}");
    // Where the links lead to something it is the image's own.
    let own = outside.strip_prefix("/").expect("absolute").display().to_string();
    let target = world.layer(&[(&format!("{own}/x"), "")]);
    assert!(target.join(&own).is_dir());
    world.run("true");
    assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0);
    assert!(fs::metadata("/proc/self").is_ok());
}

#[test]
fn a_link_in_place_of_resolv_conf_is_replaced() {
    let mut world = World::new();
    fs::write(world.path("victim"), "mine").expect("victim");
    let layer = world.layer(&[("etc/", "")]);
    symlink(
        "../run/systemd/resolve/stub-resolv.conf",
        layer.join("etc/resolv.conf"),
    )
    .expect("link");
    symlink(world.path("victim"), layer.join("etc/hosts")).expect("link");
    assert_eq!(
        world.run("cat /etc/resolv.conf; echo broken > /etc/hosts").good(),
        "nameserver 192.0.2.1\n"
    );
    assert_eq!(fs::read_to_string(world.path("victim")).expect("victim"), "mine");
}

#[test]
fn account_files_that_are_none_are_refused() {
    let mut world = World::new();
    let layer = world.layer(&[("etc/", "")]);
    nix::unistd::mkfifo(&layer.join("etc/passwd"), Mode::S_IRUSR).expect("fifo");
    let (_, said) = world.run("true").not_started();
    assert!(said.contains("/etc/passwd of the image is no file"), "{said}");
}

#[test]
fn a_user_that_is_not_root_is_given_the_workflows_data() {
    let mut world = World::new();
    world.image.user = "web".to_owned();
    fs::create_dir(world.path("workflow/d")).expect("folder");
    fs::write(world.path("workflow/d/file"), "old").expect("file");
    fs::write(world.path("victim"), "").expect("victim");
    symlink(world.path("victim"), world.path("workflow/link")).expect("link");
    world
        .run("echo new > /workflow/d/file && rm /workflow/link && touch /workflow/own")
        .good();
    assert_eq!(
        fs::read_to_string(world.path("workflow/d/file")).expect("file"),
        "new\n"
    );
    let owner = |name: &str| fs::metadata(world.path(name)).expect(name).uid();
    assert_eq!((owner("victim"), owner("workflow/own")), (0, 33));
    // One that is given nothing to change keeps its owner.
    world.place.shown[0].read_only = true;
    fs::write(world.path("workflow/roots"), "").expect("file");
    assert_eq!(
        world.run("touch /workflow/x 2>/dev/null || echo kept").good(),
        "kept\n"
    );
    assert_eq!(fs::metadata(world.path("workflow/roots")).expect("file").uid(), 0);
}
