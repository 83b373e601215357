//! Why the last agent died is told when the next one attaches: its worker was killed, or its kernel panicked.

use std::fs;
use std::time::Duration;

use qemu_tests::lab::firmware::Firmware;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::wait::{Look, wait_until};
use serde_json::json;

use crate::containers::{REGISTRY, push_image, registry};
use crate::scene::{Scene, scene};

const WITHIN: Duration = Duration::from_secs(300);
/// The worker is the machine's own first program, run once more (agent/src/supervisor/mod.rs). Twice, as the handler that Rust has for SIGSEGV
/// takes the first for a fault that comes again.
const KILL_THE_WORKER: &str = "for p in /proc/[0-9]*; do case $(cat $p/cmdline) in /initworker*) n=${p#/proc/}; kill -SIGNAL $n; sleep 1; kill -SIGNAL $n;; esac; done; sleep 60";
/// A kernel that gets an interrupt which it does not know the reason of panics, and starts over a second later
/// (Documentation/admin-guide/kernel-parameters.txt: `unknown_nmi_panic`, `panic`).
const PANICS: &str = "unknown_nmi_panic, panic=1";

/// The kernel's own end is kept in the firmware's table of error records (ERST, ACPI 6.5 section 18.5).
pub(crate) fn a_worker_that_was_killed_and_a_kernel_that_panicked_are_told_of() {
    scene(|scene| {
        let folder = scene.world.run_dir.sub("registry").unwrap();
        let _registry = registry(&folder);
        push_image(&folder);
        let records = scene.world.run_dir.path().join("erst");
        fs::write(&records, vec![0; 64 << 10]).unwrap();
        let memory = format!(
            "memory-backend-file,id=erst,size=64K,share=on,mem-path={}",
            records.display()
        );
        let more = ["-object", &memory, "-device", "acpi-erst,memdev=erst"];
        let blueprint = Blueprint::numbered(1).memory_mib(512).qemu(&more);
        let mut machine = scene.world.machine(blueprint).unwrap();
        let more = format!("kernel_params: [{PANICS}, insecure_registries={REGISTRY}]\n");
        scene.stays_in_memory(&machine, &more);
        machine.power_on().unwrap();
        for signal in ["SEGV", "KILL"] {
            let kill = KILL_THE_WORKER.replace("SIGNAL", signal);
            let action = format!(
                "      - name: kill\n        image: {REGISTRY}/tools/box:v1\n        timeout: 120\n        pid: host\n        command: [\"/bin/sh\", \"-c\", \"{kill}\"]\n"
            );
            let workflow = scene.workflow(&machine, &[action]);
            let failure = scene.failure_of(&workflow);
            assert!(failure.contains("the agent's worker died"), "{failure}");
            is_told(
                scene,
                &machine,
                &[&format!("the worker was killed by SIG{signal}")],
            );
        }
        panics(scene, &mut machine);
    });
}

/// The same in the firmware's variables, which every UEFI machine has (Documentation/ABI/testing/pstore).
pub(crate) fn a_kernel_that_panicked_on_uefi_is_told_of() {
    scene(|scene| {
        let blueprint = Blueprint::numbered(1).memory_mib(768).firmware(Firmware::Uefi);
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.stays_in_memory(&machine, &format!("kernel_params: [{PANICS}]\n"));
        machine.power_on().unwrap();
        panics(scene, &mut machine);
    });
}

/// Has the kernel panic; the next one tells of it, once.
fn panics(scene: &Scene, machine: &mut Machine) {
    wait_until("an agent", WITHIN, || {
        match scene.world.api.machine(machine.name()).unwrap() {
            now if now.attached => Look::Done(()),
            _ => Look::not_yet(machine.serial().last_lines(1).join("")),
        }
    })
    .unwrap();
    let before = scene.world.api.machine(machine.name()).unwrap().epoch;
    machine.qmp().unwrap().execute("inject-nmi", json!({})).unwrap();
    is_told(
        scene,
        machine,
        &[
            "the kernel died in an earlier boot",
            "Kernel panic - not syncing: NMI",
        ],
    );
    let now = scene.world.api.machine(machine.name()).unwrap();
    assert!(now.epoch > before, "{before}, {}", now.epoch);
    // It was taken away: a machine that starts again for another reason has nothing to tell.
    let told = told(scene, machine);
    machine.reset().unwrap();
    wait_until("another agent", WITHIN, || {
        match scene.world.api.machine(machine.name()).unwrap() {
            later if later.attached && later.epoch > now.epoch => Look::Done(()),
            _ => Look::not_yet(machine.serial().last_lines(1).join("")),
        }
    })
    .unwrap();
    assert_eq!(self::told(scene, machine), told);
}

/// In the boot log, and where the machine is shown.
fn is_told(scene: &Scene, machine: &Machine, words: &[&str]) {
    let death = wait_until("a death", WITHIN, || {
        let now = scene.world.api.machine(machine.name()).unwrap();
        match words.iter().all(|words| now.last_death.contains(words)) {
            true => Look::Done(now.last_death),
            false => Look::not_yet(format!(
                "{:?}, {:?}",
                now.last_death,
                machine.serial().last_lines(2)
            )),
        }
    })
    .unwrap();
    assert_eq!(told(scene, machine).last(), Some(&death));
}

/// Every death in the boot log.
fn told(scene: &Scene, machine: &Machine) -> Vec<String> {
    let log = scene.world.api.boot_log(machine.name()).unwrap();
    let deaths = log.into_iter().filter(|entry| entry.what == "DIED");
    deaths.map(|entry| entry.detail).collect()
}
