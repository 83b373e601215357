//! The suite by the runtime `namespaces`, and what its keeper alone has to keep. As root.

#[path = "keeper/mod.rs"]
mod runtime;
mod suite;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use suite::world::{World, probe, processes_with, until};

#[test]
fn on_an_initramfs_the_root_is_exchanged_as_well() {
    let mut world = World::new();
    world.below = Some(probe().to_owned());
    fs::write(world.path("workflow/given"), "").expect("file");
    let printed = world
        .run("ls / /workflow; awk '{print $5, $9}' /proc/self/mountinfo | head -1; hostname; ls /proc/1/root | grep -c farrier; true")
        .good();
    let want = "/:\nbin\ndev\netc\nproc\nsys\ntmp\nworkflow\n\n/workflow:\ngiven\n/ overlay\nmachine-1\n0\n";
    assert_eq!(printed, want);
    world.request.confined = true;
    let printed = world
        .run("mount | grep -c farrier; touch /x && mknod /z c 1 5; head -c 1 /z || echo kept")
        .output;
    assert!(
        printed.starts_with("0\n") && printed.ends_with("kept\n"),
        "{printed}"
    );
}

#[test]
fn when_whoever_watches_is_gone_it_ends() {
    let marker = format!("{}.5", 100_000 + std::process::id());
    let mut world = World::new();
    let ready = world.path("workflow/ready");
    let running = world.start(&format!(
        "trap '' TERM; (setsid sleep {marker} &); touch /workflow/ready; sleep {marker}; sleep {marker}"
    ));
    until("the action", || ready.exists());
    // What the kernel sends the keeper then.
    running.signal(Signal::SIGQUIT);
    running.end();
    assert_eq!(processes_with(&marker), Vec::<String>::new());
}

#[test]
fn the_agents_binary_by_its_name_in_proc() {
    let binary = env!("CARGO_BIN_EXE_container-init");
    let before = fs::read(binary).expect("binary");
    for confined in [true, false] {
        let mut world = World::new();
        world.request.confined = confined;
        world.image.entrypoint = vec!["/proc/self/exe".to_owned()];
        let (code, said) = world.run("x").not_started();
        assert!(code == 126 && said.contains("the agent's own binary"), "{said}");
        // By way of a script's interpreter the binary is started, and finds no plan on its standard input.
        let layer = world.layer(&[("script", "#!/proc/self/exe\n")]);
        fs::set_permissions(layer.join("script"), fs::Permissions::from_mode(0o755)).expect("mode");
        world.image.entrypoint = vec!["/script".to_owned()];
        assert_ne!(world.run("x").ended, Some(container::Ended::Exited { code: 0 }));
    }
    assert_eq!(fs::read(binary).expect("binary"), before);
}
