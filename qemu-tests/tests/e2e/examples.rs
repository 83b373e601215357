//! The templates of `examples/`, as they are, with the devices that their headers name: one machine is installed by
//! `debian.yaml`, hands a secret to another by `two-machines-handover.yaml`, and is wiped by `wipe.yaml`.
//! `rack-bring-up.yaml` is run over a rack of agents by the control plane's own tests.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use ::image::Profile;
use ::image::apt::Suite;
use proto::v1::Workflow;
use qemu_tests::lab::api;
use qemu_tests::lab::machine::{Blueprint, Machine};
use qemu_tests::lab::wait::{Look, wait_until};

use crate::scene::{Scene, path_from, scene};

const WITHIN: Duration = Duration::from_secs(300);
/// The image that `wipe.yaml` names is for 64 GiB. This one is for as much as the tests' disks, and more than Debian takes.
const ZEROS: u64 = 1 << 30;
const DISK: u64 = 3 << 30;

#[test]
fn the_examples_install_a_machine_hand_its_secret_on_and_wipe_it() {
    scene(|scene| {
        let debian = path_from("FARRIER_LAB_DIR")
            .join("images")
            .join(::image::debian_disk::file_name(&Suite::default(), Profile::Lab));
        scene.serve_file(&debian, "debian-13.raw.zst");
        fs::write(scene.images.join("zeros-64g.raw.zst"), zeros()).unwrap();
        let [mut first, mut second] = [1, 2].map(|number| {
            let blueprint = Blueprint::numbered(number).memory_mib(768).disk(DISK);
            scene.world.machine(blueprint).unwrap()
        });
        assert_eq!(
            (first.mac(), second.mac()),
            ("52:54:00:77:00:0b", "52:54:00:77:00:0c")
        );

        let installed = run(scene, "debian", &[&first]);
        first.power_on().unwrap();
        // The other one has it already.
        let mut image = zstd::Decoder::new(fs::File::open(&debian).unwrap()).unwrap();
        second.disk(0).fill(&mut image).unwrap();
        ends_well(scene, &installed);
        first.wait_for_serial("m1 login:", WITHIN).unwrap();

        let handed_over = run(scene, "two-machines-handover", &[&first, &second]);
        first.reset().unwrap();
        second.power_on().unwrap();
        let done = ends_well(scene, &handed_over);
        // 32 digits and the end of the line.
        assert_eq!(done.outputs_json, r#"{"bytes":33}"#);
        let secret = scene.world.api.data(&done.id).unwrap().remove("secret").unwrap();
        assert_eq!(secret.len(), 33);
        assert!(
            has(&mut second, &secret),
            "the second machine has not kept the secret"
        );

        let wiped = run(scene, "wipe", &[&first]);
        is_asked(scene, &wiped);
        assert!(first.disk(0).looks_bootable().unwrap(), "nobody has said yes");
        scene.world.api.approve(&wiped.id, "sure").unwrap();
        ends_well(scene, &wiped);
        first.wait_until_off(WITHIN).unwrap();
        assert!(!first.disk(0).looks_bootable().unwrap());
        for (at, bytes) in [(0, ZEROS), (DISK - (1 << 20), 1 << 20)] {
            assert!(
                is_zero(&mut first, at, bytes),
                "something is left in {bytes} B from {at} on"
            );
        }
        assert!(second.disk(0).looks_bootable().unwrap(), "the wrong disk");
    });
}

/// As the header of an example says: the template is stored, and a workflow is made for these machines.
fn run(scene: &Scene, name: &str, machines: &[&Machine]) -> Workflow {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/{name}.yaml"));
    let text = fs::read_to_string(file).unwrap();
    let devices: Vec<(String, &str)> = (1..)
        .zip(machines)
        .map(|(number, machine)| (format!("device_{number}"), machine.mac()))
        .collect();
    for (name, mac) in &devices {
        let word = format!("-r {name}={mac}");
        assert!(text.contains(&word), "the header does not say {word:?}");
    }
    let devices: Vec<(&str, &str)> = devices.iter().map(|(name, mac)| (name.as_str(), *mac)).collect();
    scene.world.api.put_template(&text).unwrap();
    scene.world.api.create_workflow(name, &devices).unwrap()
}

/// Waits for its SUCCESS; everything has run once.
fn ends_well(scene: &Scene, workflow: &Workflow) -> Workflow {
    let done = scene
        .world
        .api
        .wait_for_workflow(&workflow.id, "SUCCESS", WITHIN)
        .unwrap();
    let actions = done.tasks.iter().flat_map(|task| &task.actions);
    for action in actions {
        assert_eq!(
            action.attempts,
            1,
            "{} ran again: {}",
            action.name,
            api::describe(&done)
        );
    }
    done
}

fn is_asked(scene: &Scene, workflow: &Workflow) {
    wait_until("somebody to be asked", WITHIN, || {
        let now = scene.world.api.workflow(&workflow.id).unwrap();
        let executions = now.tasks.iter().flat_map(|task| &task.executions);
        match executions
            .filter(|execution| execution.waiting == "approval")
            .count()
        {
            1 => Look::Done(()),
            _ => Look::not_yet(api::describe(&now)),
        }
    })
    .unwrap();
}

fn zeros() -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(ZEROS), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

const PIECE: u64 = 4 << 20;

fn is_zero(machine: &mut Machine, from: u64, bytes: u64) -> bool {
    (from..from + bytes).step_by(PIECE as usize).all(|at| {
        let length = PIECE.min(from + bytes - at) as usize;
        machine.disk(0).read(at, length).unwrap() == vec![0; length]
    })
}

/// Whether these bytes are on the disk: the beginning of a block of a file.
fn has(machine: &mut Machine, content: &[u8]) -> bool {
    const BLOCK: usize = 512;
    (0..DISK).step_by(PIECE as usize).any(|at| {
        let piece = machine.disk(0).read(at, PIECE as usize).unwrap();
        piece.chunks(BLOCK).any(|block| block.starts_with(content))
    })
}
