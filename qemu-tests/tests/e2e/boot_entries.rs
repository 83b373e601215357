//! A UEFI machine is given a boot entry, once, and it is taken away. The firmware's next boot is not looked at: told by QEMU what to boot
//! from (`bootindex`), OVMF forgets the entries that are none of QEMU's.

use std::time::Duration;

use proto::v1::Workflow;
use qemu_tests::lab::firmware::Firmware;
use qemu_tests::lab::machine::{Blueprint, Machine};

use crate::scene::{Scene, has, lines, scene};

const MIB: u64 = 1 << 20;
const WITHIN: Duration = Duration::from_secs(300);

#[test]
fn a_boot_entry_is_made_once_and_taken_away() {
    scene(|scene| {
        let blueprint = Blueprint::numbered(1)
            .memory_mib(768)
            .firmware(Firmware::Uefi)
            .disk(64 * MIB);
        let mut machine = scene.world.machine(blueprint).unwrap();
        scene.stays_in_memory(&machine, "");
        machine.power_on().unwrap();

        let make = "label: farrier test, loader: /EFI/test/test.efi, dest_disk: /dev/vda, order: last, next: farrier test";
        let first = lines(scene, &run(scene, &machine, make));
        has(
            &first,
            &["the firmware has entry", "\"farrier test\" HD(1,GPT,", "BootNext"],
        );
        // What others say of it.
        has(
            &first,
            &["farrier test\tHD(1,GPT,", "\\EFI\\test\\test.efi", "BootNext: "],
        );

        // Once more: all is there.
        let second = lines(scene, &run(scene, &machine, make));
        has(&second, &["as it is to be already: nothing was written"]);
        let missing = run_to(
            scene,
            &machine,
            "label: farrier test, loader: /EFI/none.efi, dest_disk: /dev/vda",
            "FAILED",
        );
        let said = format!("{missing:?}");
        assert!(said.contains("has no file /EFI/none.efi"), "{said}");

        let third = lines(scene, &run(scene, &machine, "remove: [farrier test]"));
        has(&third, &["boot entries now, 1 of them gone"]);
        let gone = |line: &String| line.contains("farrier test");
        assert!(!third.iter().any(gone), "{third:#?}");
    });
}

#[test]
fn a_machine_with_a_bios_is_told_that_it_has_no_entries() {
    scene(|scene| {
        let mut machine = scene.machine(1, 8 * MIB);
        machine.power_on().unwrap();
        let workflow = scene.workflow(
            &machine,
            &["      - {name: list, image: bootentry, timeout: 60}\n".to_owned()],
        );
        let failure = scene.failure_of(&workflow);
        assert!(failure.starts_with("NotUefi "), "{failure}");
    });
}

fn run(scene: &Scene, machine: &Machine, input: &str) -> Workflow {
    run_to(scene, machine, input, "SUCCESS")
}

fn run_to(scene: &Scene, machine: &Machine, input: &str, state: &str) -> Workflow {
    let mac = machine.mac();
    let text = format!(
        r#"
version: "1"
name: entries
tasks:
  - name: disk
    worker: "{mac}"
    actions:
      - name: partition
        image: partition
        timeout: 60
        input: {{dest_disk: /dev/vda, partitions: [{{size: rest, type: efi}}]}}
      - {{name: mkfs, image: mkfs, timeout: 120, input: {{dest_disk: /dev/vda1, fs_type: vfat, uuid: 7C3A-91E0}}}}
      - name: loader
        image: writefile
        timeout: 60
        input: {{dest_disk: /dev/vda1, fs_type: vfat, dest_path: /EFI/test/test.efi, contents: no program, uid: 0, gid: 0, mode: "0644", dirmode: "0755"}}
  - name: menu
    worker: "{mac}"
    actions:
      - {{name: entry, image: bootentry, timeout: 60, input: {{{input}}}}}
      - {{name: look, image: exec, timeout: 120, input: {{cmd_line: efibootmgr -v}}}}
"#
    );
    let workflow = scene.world.api.run_template(&text).unwrap();
    let done = scene.world.api.wait_for_workflow(&workflow.id, state, WITHIN);
    done.unwrap_or_else(|error| panic!("{error:#}: {:#?}", lines(scene, &workflow)))
}
